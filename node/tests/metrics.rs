//! Memory that the metrics take. A test binary of its own: it looks at the whole process.
use anyhow::{Context as _, ensure};
use std::{fs, time::Duration};

/// Bytes of this process in memory.
fn resident() -> anyhow::Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib << 10)
}

/// Goal: samples do not gather in memory when nobody asks for the metrics. Method: as many as a busy node makes in some
/// hours; one by one they would take over a hundred MiB.
#[tokio::test]
async fn samples_that_nobody_asks_for_do_not_gather() -> anyhow::Result<()> {
    let metrics = chord_node::recorder::install(Duration::from_millis(10))?;
    let before = resident()?;
    for _ in 0..32 {
        for _ in 0..250_000 {
            metrics::histogram!("chord_test_seconds").record(0.003);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let grown = resident()?.saturating_sub(before);
    ensure!(grown < 32 << 20, "{} MiB more", grown >> 20);
    let shown = metrics.render();
    ensure!(shown.contains("chord_test_seconds_count 8000000"), "{shown}");
    Ok(())
}
