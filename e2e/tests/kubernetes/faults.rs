//! Pods, processes and machines are lost under load: nothing acknowledged is, and writes resume in time.
use crate::small;
use anyhow::{Context as _, Result, ensure};
use e2e::{Ring, load::InCluster, nemesis, with_ring};
use std::{
    thread,
    time::{Duration, Instant},
};

/// Writes resume within this time after a member is gone without a word.
const RESUME: Duration = Duration::from_secs(5);
/// And within this one where its port refuses.
const RESUME_REFUSED: Duration = Duration::from_secs(1);
/// Time to write before a fault.
const BEFORE: Duration = Duration::from_secs(5);

/// A machine for the load, and a member that is not there.
pub fn bystander(ring: &Ring) -> Result<(String, String)> {
    let pods = ring.pods()?;
    let machine = nemesis::machine(ring, pods.first().context("no pods")?)?;
    for pod in pods {
        if nemesis::machine(ring, &pod)? != machine {
            return Ok((machine, pod));
        }
    }
    anyhow::bail!("every member is on {machine}: are they spread over machines?")
}

fn under_load(name: &str, fault: impl FnOnce(&Ring, &str) -> Result<()>, limit: Duration) -> Result<()> {
    with_ring(name, small(), |ring| {
        let (machine, victim) = bystander(ring)?;
        let load = InCluster::start(ring, "load", &machine, 45)?;
        thread::sleep(BEFORE); // not a wait for anything: a stretch of undisturbed load
        let begun = Instant::now();
        fault(ring, &victim)?;
        ring.await_ready()?;
        println!("    ready {:.1} s after the fault", begun.elapsed().as_secs_f64());
        let (report, _) = load.finish()?;
        report.assert_unnoticed();
        ensure!(report.slowest_put <= limit, "a write took {:?}, allowed are {limit:?}", report.slowest_put);
        Ok(())
    })
}

#[test]
fn a_pod_deleted_by_force_is_hardly_noticed() -> Result<()> {
    under_load("pod", nemesis::delete_pod, RESUME)
}

#[test]
fn a_killed_process_is_hardly_noticed() -> Result<()> {
    under_load("process", nemesis::kill_process, RESUME_REFUSED)
}

#[test]
fn a_killed_machine_is_hardly_noticed_and_comes_back() -> Result<()> {
    let fault = |ring: &Ring, victim: &str| {
        let machine = nemesis::machine(ring, victim)?;
        nemesis::kill_machine(&machine)?;
        thread::sleep(Duration::from_secs(15)); // how long the power is off
        nemesis::start_machine(&machine)
    };
    under_load("machine", fault, RESUME)
}
