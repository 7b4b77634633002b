//! Runs of the simulator from the command line.
mod table;

use clap::{Parser, Subcommand};
use sim::{Report, Scenario, recorded, run};
use std::{
    collections::BTreeMap,
    path::PathBuf,
    process::ExitCode,
    sync::atomic::{AtomicU64, Ordering},
};

#[derive(Parser)]
#[command(about = "The deterministic simulator of the chord core")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run one seed again, and print everything that happens.
    Replay {
        /// The seed.
        seed: u64,
        /// Family of runs.
        #[arg(long, value_enum, default_value = "swarm")]
        scenario: Scenario,
        /// Only the verdict.
        #[arg(long)]
        quiet: bool,
    },
    /// Check histories of a real ring that `chordctl history` printed.
    Check {
        /// Files.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Regenerate the figures of the Chord papers into docs/paper.md and docs/paper/.
    Paper(sim::paper::Args),
    /// Run many seeds; print those that fail, and how often the rare paths were taken.
    Seeds {
        /// First seed.
        #[arg(long, default_value_t = 0)]
        from: u64,
        /// Number of seeds.
        #[arg(long, default_value_t = 1000)]
        count: u64,
        /// Family of runs.
        #[arg(long, value_enum, default_value = "swarm")]
        scenario: Scenario,
        /// Threads.
        #[arg(long, default_value_t = 1)]
        threads: u64,
    },
    /// Explore the models of the shipped core; print what was visited.
    Model {
        /// Only this scenario.
        name: Option<String>,
        /// Most transitions of each.
        #[arg(long, default_value_t = 1_000_000)]
        states: usize,
        /// With cores that do without this rule.
        #[arg(long)]
        without: Option<String>,
    },
    /// Turn off each safety rule in turn; print what catches it.
    Mutants {
        /// Only this rule.
        rule: Option<String>,
        /// Write docs/mutants.md.
        #[arg(long, conflicts_with = "rule")]
        write: bool,
    },
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Replay { seed, scenario, quiet } => {
            let report = run(scenario, seed, !quiet);
            println!("{:#?}", report.options);
            verdict(&report);
            if report.failure.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Command::Check { files } => check(&files),
        Command::Paper(args) => sim::paper::main(&args),
        Command::Model { name, states, without } => table::models(name.as_deref(), states, without.as_deref()),
        Command::Mutants { rule, write } => table::mutants(rule.as_deref(), write),
        Command::Seeds { from, count, scenario, threads } => seeds(from, count, scenario, threads),
    }
}

fn check(files: &[PathBuf]) -> ExitCode {
    let mut good = true;
    for file in files {
        let text = std::fs::read_to_string(file).map_err(|error| error.to_string());
        let verdict =
            text.and_then(|text| recorded::parse(&text)).and_then(|history| recorded::check(&history, recorded::SKEW));
        good &= verdict.is_ok();
        println!("{}: {}", file.display(), verdict.map_or_else(|error| error, |()| "linearizable".into()));
    }
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn verdict(report: &Report) {
    let (decided, unknown, failed) = report.operations;
    println!(
        "seed {}: {} events, {decided} operations answered, {unknown} unknown, {failed} without effect, healed in {} ms, trace {:016x}",
        report.options.seed,
        report.steps,
        report.healing / 1_000_000,
        report.hash
    );
    match &report.failure {
        Some(failure) => println!("FAILED: {failure}"),
        None => println!("ok"),
    }
}

fn seeds(from: u64, count: u64, scenario: Scenario, threads: u64) -> ExitCode {
    let next = AtomicU64::new(from);
    let work = || {
        let mut reports = Vec::new();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= from + count {
                return reports;
            }
            let report = run(scenario, seed, false);
            if report.failure.is_some() {
                verdict(&report);
            }
            reports.push(report);
        }
    };
    let reports: Vec<Report> = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(work)).collect();
        handles.into_iter().flat_map(|handle| handle.join().expect("a run must not panic")).collect()
    });
    let mut sometimes: BTreeMap<&str, u64> = BTreeMap::new();
    let (mut decided, mut unknown, mut failed, mut steps, mut healing) = (0, 0, 0, 0, 0);
    for report in &reports {
        for (what, times) in &report.sometimes {
            *sometimes.entry(what).or_insert(0) += times;
        }
        decided += report.operations.0;
        unknown += report.operations.1;
        failed += report.operations.2;
        steps += report.steps;
        healing = healing.max(report.healing);
    }
    let bad: Vec<u64> =
        reports.iter().filter(|report| report.failure.is_some()).map(|report| report.options.seed).collect();
    println!("{} seeds, {} failed: {bad:?}", reports.len(), bad.len());
    println!(
        "{steps} events, {decided} operations answered, {unknown} unknown, {failed} without effect, slowest healing {} ms",
        healing / 1_000_000
    );
    for (what, times) in sometimes {
        println!("{times:>9} {what}");
    }
    if bad.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
