//! Members come and go under load.
use crate::small;
use anyhow::{Result, ensure};
use e2e::{Load, await_condition, load, nemesis, ring::NAME, with_ring};

/// Keys inside while the ring is scaled; `cargo xtask e2e --long` sets 100,000.
fn keys() -> u64 {
    std::env::var("E2E_KEYS").ok().and_then(|text| text.parse().ok()).unwrap_or(10_000)
}

#[test]
fn scaling_3_5_7_3_under_load_loses_nothing() -> Result<()> {
    with_ring("scale", small(), |ring| {
        Load::fill(ring, "inside", keys())?.assert_unnoticed();
        let background = Load::start(ring, "meanwhile")?;
        for replicas in [5, 7, 3] {
            ring.scale(replicas)?;
            println!("{}", ring.chordctl(&["status"])?.good()?);
        }
        background.stop(ring)?.assert_unnoticed();
        load::verify(ring, "inside")?;
        load::verify(ring, "meanwhile")?;
        let claims = ring.claims()?;
        ensure!(claims.len() == 3, "leavers' volumes are still there: {claims:?}");
        let events = ring.kubectl(&["events", "--for", &format!("chordring/{NAME}")])?;
        ensure!(!events.contains("No events"), "a scale leaves events");
        Ok(())
    })
}

#[test]
fn an_operator_killed_in_mid_scale_goes_on_where_it_was() -> Result<()> {
    with_ring("operator", small(), |ring| {
        let background = Load::start(ring, "meanwhile")?;
        for replicas in [5, 3] {
            ring.start_scale(replicas)?;
            for _ in 0..2 {
                await_condition("an operation is under way", 120, || {
                    let status = ring.get(&["chordring", NAME])?["status"].clone();
                    Ok((!status["operation"].is_null() || status["replicas"] == replicas).then_some(()))
                })?;
                nemesis::kill_operator()?;
            }
            ring.await_scaled(replicas)?;
        }
        background.stop(ring)?.assert_unnoticed();
        load::verify(ring, "meanwhile")?;
        ensure!(ring.claims()?.len() == 3);
        Ok(())
    })
}
