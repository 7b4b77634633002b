//! Every kind of operation under every kind of fault, with all answers checked for linearizability.
//!
//! Two pods per row: one writes and verifies a journal of acknowledged writes, the other records a history of puts, gets,
//! deletes, compare-and-sets, scans and times to live on ten contended keys.
use crate::{faults::bystander, small};
use anyhow::{Context as _, Result, ensure};
use e2e::{
    Ring,
    load::{InCluster, Report},
    nemesis::{self, filter, machine, on_process},
    pod::Pod,
    with_ring,
};
use sim::{
    live::{self, Load, Row},
    recorded::SKEW,
};
use std::{thread, time::Duration};

/// Gets the ring and the member to hurt.
type Fault = fn(&Ring, &str) -> Result<()>;

/// In `make test`.
const SHORT: &str = "silence,scale";

const ROWS: [Row<Fault>; 13] = [
    Row { name: "kill", what: "`kill -9` of a process", seconds: 30, fault: nemesis::kill_process },
    Row { name: "pod", what: "pod deleted by force", seconds: 30, fault: nemesis::delete_pod },
    Row {
        name: "freeze",
        what: "process frozen for 8 s (SIGSTOP)",
        seconds: 35,
        fault: |ring, pod| on_process(ring, pod, "kill -STOP $pid; sleep 8; kill -CONT $pid"),
    },
    Row {
        name: "delay",
        what: "process held up 200 ms of every 300 for 12 s",
        seconds: 35,
        fault: |ring, pod| {
            let script = "for i in {1..40}; do kill -STOP $pid; sleep 0.2; kill -CONT $pid; sleep 0.1; done";
            on_process(ring, pod, script)
        },
    },
    Row {
        name: "restart-all",
        what: "`kill -9` of all processes at once",
        seconds: 40,
        fault: |ring, _| {
            let pods = ring.pods()?;
            nemesis::kill_processes(ring, &pods.iter().map(String::as_str).collect::<Vec<_>>())
        },
    },
    Row {
        name: "machine",
        what: "Kubernetes node without power for 15 s",
        seconds: 60,
        fault: |ring, pod| {
            let machine = machine(ring, pod)?;
            nemesis::kill_machine(&machine)?;
            thread::sleep(Duration::from_secs(15));
            nemesis::start_machine(&machine)
        },
    },
    Row {
        name: "silence",
        what: "Kubernetes node off the network for 12 s",
        seconds: 45,
        fault: |ring, pod| nemesis::cut_machine(&machine(ring, pod)?, 12),
    },
    Row {
        name: "deaf",
        what: "member receives nothing for 12 s, but sends",
        seconds: 45,
        fault: |ring, pod| filter(ring, pod, "-d % -j DROP", 12),
    },
    Row {
        name: "mute",
        what: "member sends nothing for 12 s, but receives",
        seconds: 45,
        fault: |ring, pod| filter(ring, pod, "-s % -j DROP", 12),
    },
    Row {
        name: "loss",
        what: "one packet in ten of a Kubernetes node lost for 15 s",
        seconds: 45,
        fault: |ring, pod| filter(ring, pod, "-m statistic --mode random --probability 0.1 -j DROP", 15),
    },
    Row { name: "volume", what: "volume of a member lost for good", seconds: 60, fault: nemesis::lose_volume },
    Row {
        name: "scale",
        what: "3 to 7 to 3 members",
        seconds: 120,
        fault: |ring, _| {
            ring.scale(7)?;
            ring.scale(3)
        },
    },
    Row {
        name: "operator",
        what: "operator down, meanwhile a pod deleted by force",
        seconds: 45,
        fault: |ring, pod| {
            let replicas = nemesis::scale_operator(0)?;
            let hurt = nemesis::delete_pod(ring, pod);
            thread::sleep(Duration::from_secs(15));
            nemesis::scale_operator(replicas)?;
            hurt
        },
    },
];

#[test]
fn every_answer_is_right_under_every_fault() -> Result<()> {
    live::table(&ROWS, SHORT, run)
}

/// The cells of a row; an error if anything acknowledged was lost, or an answer was wrong.
fn run(row: &Row<Fault>) -> Result<String> {
    let mut cells = None;
    with_ring(row.name, small(), |ring| {
        let (machine, victim) = bystander(ring)?;
        let load = InCluster::start(ring, "load", &machine, row.seconds)?;
        let duration = format!("{}s", row.seconds);
        let history = Pod::run(ring, "history", &machine, &["history", "--duration", &duration], &["version"])?;
        thread::sleep(Duration::from_secs(5)); // not a wait for anything: a stretch of undisturbed load
        (row.fault)(ring, &victim)?;
        ring.await_ready()?;
        let (report, read_back) = load.finish()?;
        ensure!(report.wrong == 0 && report.writes > 0, "{report:?}");
        history.ended()?;
        let Report { unknown, errors, slowest_put: slowest, .. } = report;
        let load = Load { unknown, errors, slowest, read_back };
        cells = Some(live::cells(&history.first_logs()?, SKEW, &load)?);
        Ok(())
    })?;
    cells.context("the row has no result")
}
