//! Development tasks; the Makefile names the usual ones. `cargo xtask help` lists all.
mod bench;
mod chart;
mod check;
mod dashboard;
mod fuzz;
mod image;
mod kubernetes;
mod local;
mod mutation;
mod paths;
mod proc;
mod schemathesis;
mod summary;
mod test;
mod up;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Builds, runs, tests and measures chord-operator.
#[derive(Parser)]
#[command(name = "cargo xtask", max_term_width = 110)]
enum Task {
    /// Kubernetes, operator and a ring `demo`, ready to use; again: nothing changes
    Up(up::Options),
    /// Removes what `up` made
    Down,
    /// Prints export lines for KUBECONFIG and PATH
    Env,
    /// Prints the URL of the demo's dashboard
    DashboardUrl,
    /// Builds the container image, and chordctl for this machine
    Image,
    /// Format, lints, and tests that need neither Kubernetes nor much time
    Check,
    /// Everything: check, all tests, simulator, a real Kubernetes and a browser
    Test,
    /// Only Schemathesis against a gateway before a ring of processes
    Schemathesis,
    /// Only the tests on a real Kubernetes
    E2e(test::E2eOptions),
    /// The chart: lint, and what it renders against charts/chord-operator/golden
    Chart {
        /// Write the rendered output instead of comparing
        #[arg(long)]
        write: bool,
    },
    /// Measures a ring of three processes and a gateway with many browsers, beside bare servers
    Bench(bench::Options),
    /// More seeds of the simulator than `test` runs
    Prove {
        /// Seeds to run
        #[arg(long, env = "SEEDS", default_value_t = 2000)]
        seeds: u64,
    },
    /// Every kind of operation under every kind of fault, on loopback and on the development cluster; writes docs/live.md
    ProveLive(test::LiveOptions),
    /// Hostile input: the committed corpus, and mutations of it
    Fuzz(fuzz::Options),
    /// Every mutant of cargo-mutants' list over the core, all compiled at once; writes docs/mutation.md
    Mutation(mutation::Options),
    /// Files that are generated from the Rust types; a test compares them
    #[command(subcommand)]
    Gen(Generated),
}

#[derive(Subcommand)]
enum Generated {
    /// The CRD in the chart
    Crd,
}

fn main() -> ExitCode {
    match work(Task::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn work(task: Task) -> anyhow::Result<()> {
    match task {
        Task::Up(options) => up::up(&options),
        Task::Down => up::down(),
        Task::Env => up::env(),
        Task::DashboardUrl => up::dashboard_url().map(|url| println!("{url}")),
        Task::Image => image::build().map(|_| ()),
        Task::Check => check::check(),
        Task::Test => test::test(),
        Task::Schemathesis => test::schemathesis(),
        Task::E2e(options) => test::e2e(&options),
        Task::Chart { write } => chart::chart(write),
        Task::Bench(options) => bench::bench(&options),
        Task::Prove { seeds } => test::prove(seeds),
        Task::ProveLive(options) => test::prove_live(&options),
        Task::Fuzz(options) => fuzz::fuzz(&options),
        Task::Mutation(options) => mutation::mutation(&options),
        Task::Gen(Generated::Crd) => check::generate_crd(),
    }
}
