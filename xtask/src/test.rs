//! `test`: everything, with a summary; and its two longest parts alone.
use crate::{
    chart, check, dashboard, fuzz,
    kubernetes::Kubernetes,
    paths,
    proc::{run, step},
    schemathesis,
    summary::Summary,
    up,
};
use anyhow::{Result, ensure};
use std::fs;

#[derive(clap::Args, Default)]
pub struct E2eOptions {
    /// Only tests with this in their name
    pub filter: Option<String>,
    /// 100,000 keys of 1 KiB while scaling, instead of a number that suits CI
    #[arg(long)]
    pub long: bool,
}

pub fn test() -> Result<()> {
    let mut summary = Summary::default();
    check::lints(&mut summary);
    check::page(&mut summary);
    // Before the tests: the operator's need a real kube-apiserver, the gateway embeds the page.
    summary.stage("Kubernetes is compiled", |_| Kubernetes::cluster(&["build"], 3000).show().map(|()| true));
    summary.stage("the dashboard builds", |_| dashboard::build().map(|()| true));
    summary.stage("chart", |_| chart::chart(false).map(|()| true));
    summary.stage("Rust tests", |count| {
        let all = ["test", "--workspace", "--locked", "--no-fail-fast"];
        check::cargo(&all, 3000).env("CHORD_KUBERNETES_BIN", paths::cluster_bin()).each_line(|line| count.line(line))
    });
    summary.stage("what strangers can send", fuzz::stage);
    api(&mut summary);
    on_kubernetes(&mut summary, &E2eOptions::default(), &[]);
    summary.close()
}

fn api(summary: &mut Summary) {
    summary.stage("schemathesis", |_| schemathesis::test());
}

pub fn schemathesis() -> Result<()> {
    let mut summary = Summary::default();
    api(&mut summary);
    summary.close()
}

pub fn e2e(options: &E2eOptions) -> Result<()> {
    let mut summary = Summary::default();
    on_kubernetes(&mut summary, options, &[]);
    summary.close()
}

/// Tests on the development cluster. One that was up stays up; else it is started, and leaves nothing behind.
fn on_kubernetes(summary: &mut Summary, options: &E2eOptions, environment: &[(&str, &str)]) {
    let mut kubernetes = None;
    let was_up = Kubernetes::find().is_ok_and(|found| found.kubectl(&["get", "--raw", "/readyz"]).succeeds());
    let ready = summary.stage("Kubernetes with the operator", |_| {
        let found = Kubernetes::find()?;
        ensure!(
            matches!(found, Kubernetes::Dev(_)),
            "these tests end nodes: unset KUBECONFIG, they use their own cluster"
        );
        up::install(&found, &up::Options { nodes: 3, image: None })?;
        kubernetes = Some(found);
        Ok(true)
    });
    if let Some(kubernetes) = kubernetes.filter(|_| ready) {
        summary.stage("on Kubernetes", |count| {
            let mut args = vec!["test", "--workspace", "--locked", "--test", "kubernetes", "--"];
            args.extend(["--test-threads=1", "--nocapture"]);
            args.extend(options.filter.as_deref());
            let Kubernetes::Dev(kubeconfig) = &kubernetes else { return Ok(false) };
            let mut cargo = check::cargo(&args, if options.long { 5400 } else { 2400 }).env("KUBECONFIG", kubeconfig);
            for (name, value) in environment {
                cargo = cargo.env(name, value);
            }
            cargo.env("E2E_KEYS", if options.long { "100000" } else { "10000" }).each_line(|line| count.line(line))
        });
        if options.filter.is_none() {
            browser(summary, &kubernetes);
        }
    }
    if !was_up {
        summary.stage("nothing is left behind", |_| Kubernetes::cluster(&["down"], 180).show().map(|()| true));
    }
}

/// The dashboard in a real browser, on a ring of its own.
fn browser(summary: &mut Summary, kubernetes: &Kubernetes) {
    let Some(dir) = dashboard::dir().filter(|dir| dir.join("e2e").is_dir()) else { return };
    summary.stage("in a browser", |count| {
        chromium()?;
        up::demo(kubernetes)?;
        let Kubernetes::Dev(kubeconfig) = kubernetes else { return Ok(false) };
        run("npm", ["run", "e2e"], 900)
            .dir(dir)
            .env("DASHBOARD_URL", up::dashboard_url()?)
            .env("KUBECONFIG", kubeconfig)
            .env("CHORD_BIN", paths::bin())
            .env("NO_COLOR", "1")
            .env("CI", "1")
            .each_line(|line| count.line(line))
    });
}

pub fn chromium() -> Result<()> {
    if run("sh", ["-c", "command -v chromium"], 10).succeeds() {
        return Ok(());
    }
    step("installing chromium", || {
        run("apt-get", ["update", "--quiet=2"], 300).quiet()?;
        let args = ["install", "--quiet=2", "--yes", "--no-install-recommends", "chromium"];
        run("apt-get", args, 900).env("DEBIAN_FRONTEND", "noninteractive").quiet()
    })
}

#[derive(clap::Args)]
pub struct LiveOptions {
    /// Only this matrix; docs/live.md is written when both have run whole
    #[arg(long, value_enum)]
    pub only: Option<Place>,
    /// Only these of its rows, by name, with commas between
    #[arg(long, default_value = "all", requires = "only")]
    pub rows: String,
}

#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Processes,
    Kubernetes,
}

/// The matrices of operations and faults: of processes on loopback, and on the development cluster.
pub fn prove_live(options: &LiveOptions) -> Result<()> {
    let table = |place| paths::cache().join(format!("live-{place}.md")).display().to_string();
    let (processes, kubernetes) = (table("processes"), table("kubernetes"));
    let mut summary = Summary::default();
    if options.only != Some(Place::Kubernetes) {
        summary.stage("on loopback", |count| {
            let args = ["test", "--workspace", "--locked", "--test", "processes", "--", "--nocapture", "matrix"];
            let cargo = check::cargo(&args, 3600).env("LIVE_ROWS", &options.rows).env("LIVE_TABLE", &processes);
            cargo.each_line(|line| count.line(line))
        });
    }
    if options.only != Some(Place::Processes) {
        let e2e = E2eOptions { filter: Some("every_answer_is_right".into()), long: false };
        on_kubernetes(&mut summary, &e2e, &[("LIVE_ROWS", &options.rows), ("LIVE_TABLE", &kubernetes)]);
    }
    summary.close()?;
    if options.only.is_none() {
        let (kubernetes, processes) = (fs::read_to_string(kubernetes)?, fs::read_to_string(processes)?);
        let text = format!("{LIVE}{ON_KUBERNETES}{kubernetes}{ON_LOOPBACK}{processes}");
        fs::write(paths::root().join("docs/live.md"), text)?;
    }
    Ok(())
}

const LIVE: &str = "\
# Every operation under every fault

Written by `make prove-live`. Rings of three, each with a fault in the middle of its load. The history is of random
operations by eight clients on ten keys, checked for linearizability; the journal has writes of other keys, all read back
in the end. *Unknown* are writes whose client was never told, *errors* what retries did not hide; *longest* is the
slowest operation on one key with its retries: how long the worst hit part of the ring did not serve.

";

const ON_KUBERNETES: &str = "\
## On a real Kubernetes

Pods with persistent volumes and TLS on the cluster of `deploy/dev` (three Kubernetes nodes on one machine). This
machine's kernel has no `netem`: delay is made by stopping the process again and again.

";

const ON_LOOPBACK: &str = "
## Processes on loopback

What pods that share a machine's clock and disk cannot show, and some of what they can: real processes with real data
directories. The members reach each other through a network of the test's own, which holds up, loses or resets what it
carries; the wall clock is moved under the process; the volume is a small one in memory. Times to live may end early or
late by as much as the clocks differ, nothing else may. A full volume's errors are the writes that it refused, without
effect.

";

/// More seeds of the simulator, the models beyond what `test` explores, and crashes and rot of the store at every byte.
pub fn prove(seeds: u64) -> Result<()> {
    let args = ["test", "--release", "--locked", "--package", "sim", "--", "--nocapture"];
    check::cargo(&args, 36_000).env("SEEDS", seeds.to_string()).show()?;
    let args = ["run", "--release", "--locked", "--package", "sim", "--", "model", "--states", "2000000"];
    check::cargo(&args, 36_000).show()?;
    let args = ["test", "--release", "--locked", "--package", "chord-node", "--test", "crash", "--", "--nocapture"];
    let mut crashes = check::cargo(&args, 36_000);
    for (name, value) in CRASHES {
        crashes = crashes.env(name, value);
    }
    crashes.show()
}

/// How much more `prove` asks of a store than its tests do: kills of a writer, cuts and flipped bits of a journal at
/// every byte, flipped bits in each other file.
const CRASHES: [(&str, &str); 4] =
    [("CHORD_KILLS", "2000"), ("CHORD_CUT_STEP", "1"), ("CHORD_FLIP_STEP", "1"), ("CHORD_FLIPS", "60")];
