//! Hundreds of runs, and those that once failed.
use sim::{Report, Scenario, run};
use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

/// Seeds of each family, unless `SEEDS` says otherwise.
const SWARM: u64 = 800;
const ROT: u64 = 60;
const KILL_ONE: u64 = 30;

fn seeds(default: u64) -> u64 {
    match std::env::var("SEEDS") {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("SEEDS must be a number, not {text:?}")),
        Err(_) => default,
    }
}

fn name(scenario: Scenario) -> &'static str {
    match scenario {
        Scenario::Swarm => "swarm",
        Scenario::Rot => "rot",
        Scenario::KillOne => "kill-one",
    }
}

fn check(report: &Report, scenario: Scenario) {
    if let Some(failure) = &report.failure {
        let seed = report.options.seed;
        panic!(
            "seed {seed} failed: {failure}\n{:?}\nreplay it: cargo run --release -p sim -- replay {seed} --scenario {}",
            report.options,
            name(scenario)
        );
    }
}

/// Runs seeds 0..count on all cores; sums up how often each rare path was taken.
fn run_all(scenario: Scenario, count: u64) -> BTreeMap<&'static str, u64> {
    let next = AtomicU64::new(0);
    let work = || {
        let mut sometimes = BTreeMap::new();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= count {
                return sometimes;
            }
            let report = run(scenario, seed, false);
            check(&report, scenario);
            for (what, times) in report.sometimes {
                *sometimes.entry(what).or_insert(0) += times;
            }
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let mut total = BTreeMap::new();
    thread::scope(|scope| {
        let handles: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for handle in handles {
            match handle.join() {
                Ok(sometimes) => {
                    sometimes.into_iter().for_each(|(what, times)| *total.entry(what).or_insert(0) += times)
                }
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
    });
    total
}

#[test]
fn clusters_survive_every_mix_of_faults() {
    let count = seeds(SWARM);
    let sometimes = run_all(Scenario::Swarm, count);
    println!("{sometimes:#?}");
    if count < SWARM {
        return;
    }
    // A run that takes none of these paths shows nothing about them.
    let rare = [
        "all members down",
        "bridge partition",
        "clock jumped",
        "crash lost unsynced batches",
        "crash kept a part of the unsynced batches",
        "disk lost",
        "ex-member retired",
        "expired",
        "join refused",
        "key settled by a new leader",
        "leader deposed during a write",
        "member left",
        "messages lost and doubled",
        "one-way cut",
        "orphan rejoins",
        "partition",
        "process frozen",
        "retry answered",
        "ring-shaped partition",
        "scaled up",
        "seal finished by another leader",
        "shard moved",
        "sync stalled",
        "tombstone dropped",
        "ttl tombstone by new leader",
        "undecided seal lifted",
        "write refused: disk full",
    ];
    let missed: Vec<&str> = rare.into_iter().filter(|what| !sometimes.contains_key(what)).collect();
    assert!(missed.is_empty(), "no run took these paths: {missed:?}");
}

#[test]
fn copies_lost_to_rot_come_back_from_the_majority() {
    let count = seeds(ROT);
    let sometimes = run_all(Scenario::Rot, count);
    println!("{sometimes:#?}");
    assert!(count < ROT || sometimes.contains_key("copy lost to rot"), "no copy was lost");
}

#[test]
fn every_operation_is_decided_when_one_of_three_is_killed() {
    run_all(Scenario::KillOne, seeds(KILL_ONE));
}

#[test]
fn seeds_that_once_failed_do_not_fail_again() {
    for (file, scenario) in [("swarm", Scenario::Swarm), ("kill-one", Scenario::KillOne)] {
        let path = format!("{}/seeds/{file}", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(&path).expect("the list of seeds is part of the sources");
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let seed = line.split_whitespace().next().and_then(|word| word.parse().ok());
            check(
                &run(scenario, seed.unwrap_or_else(|| panic!("{path}: {line:?} does not begin with a seed")), false),
                scenario,
            );
        }
    }
}

#[test]
fn same_seed_same_run() {
    for seed in 0..20 {
        let (one, two) = (run(Scenario::Swarm, seed, false), run(Scenario::Swarm, seed, false));
        assert_eq!((one.hash, one.steps, one.operations), (two.hash, two.steps, two.operations), "seed {seed}");
        assert_ne!(one.hash, run(Scenario::Swarm, seed + 1, false).hash, "another seed is another run");
    }
}
