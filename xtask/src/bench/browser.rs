//! The page in Chromium: how soon it is there, and how smooth it is with 1,000 members.
use super::PORTS;
use crate::{dashboard, local, proc::run, test::chromium};
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use std::path::Path;

const SCENES: [(&str, &str); 5] = [
    ("empty", "an empty page"),
    ("still", "1,000 members, nothing changes"),
    ("deltas", "all of them change twice a second"),
    ("hover", "and the pointer moves over them"),
    ("zoom", "and the wheel zooms"),
];

/// Prints the table; the ring runs already.
pub fn bench(release: &Path, data: &Path) -> Result<()> {
    chromium()?;
    dashboard::install()?;
    let dir = dashboard::dir().context("there is no dashboard in this tree")?;
    let _gateway = local::gateway(release, data, PORTS, &["--requests-per-second=1000".into()])?;
    eprintln!("==> measuring the page in Chromium");
    let (mut frames, mut paint) = (Value::Null, Value::Null);
    let bench = run("npm", ["run", "--silent", "bench"], 300).dir(dir).env("NO_COLOR", "1");
    let good = bench.env("DASHBOARD_URL", format!("http://{}/", PORTS.visitors())).each_line(|line| {
        for (name, place) in [("FRAMES ", &mut frames), ("PAINT ", &mut paint)] {
            if let Some(json) = line.trim().strip_prefix(name) {
                *place = serde_json::from_str(json).unwrap_or_default();
            }
        }
    })?;
    ensure!(good && frames.is_object() && paint.is_object(), "the page could not be measured");
    println!();
    println!("The page in Chromium without a graphics card, which paints with the same CPUs that all else runs on");
    println!("{:<36}{:>10}{:>10}{:>10}{:>14}", "ms from frame to frame", "p50", "p95", "p99", "p95 / empty");
    let at = |scene: &str, name: &str| frames[scene][name].as_f64().context("a figure is missing");
    for (scene, name) in SCENES {
        let ratio = at(scene, "p95")? / at("empty", "p95")?;
        let [p50, p95, p99] = [at(scene, "p50")?, at(scene, "p95")?, at(scene, "p99")?];
        println!("{name:<36}{p50:>10.1}{p95:>10.1}{p99:>10.1}{ratio:>14.2}");
    }
    for (name, text) in [("paint", "first paint"), ("ring", "the ring is drawn")] {
        println!("{text}: {} ms, at most {} ms of five loads in new browsers", paint[name][0], paint[name][1]);
    }
    Ok(())
}
