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

/// The matrix of operations and faults on the development cluster. Its table goes to docs/live.md when it is whole.
pub fn prove_live(rows: &str) -> Result<()> {
    let table = paths::cache().join("live.md");
    let mut summary = Summary::default();
    let options = E2eOptions { filter: Some("every_answer_is_right".into()), long: false };
    on_kubernetes(&mut summary, &options, &[("LIVE_ROWS", rows), ("LIVE_TABLE", &table.display().to_string())]);
    summary.close()?;
    if rows == "all" {
        let text = format!("{LIVE}{}", fs::read_to_string(&table)?);
        fs::write(paths::root().join("docs/live.md"), text)?;
    }
    Ok(())
}

const LIVE: &str = "\
# Every operation under every fault, on a real Kubernetes

Written by `make prove-live`: rings of three pods with persistent volumes and TLS on the cluster of `deploy/dev` (three
Kubernetes nodes on one machine), each with a fault in the middle of its load. The history is of random operations by eight
clients on ten keys, checked for linearizability; the journal has writes of other keys, all read back in the end.
*Unknown* are writes whose client was never told, *errors* what retries did not hide; *longest* is the slowest operation
on one key with its retries: how long the worst hit part of the ring did not serve.

This machine's kernel has no `netem`: delay is made by stopping the process again and again. Wall clocks that jump are a
test of their own (`node/tests/clock.rs`), and a full volume too (`node/tests/processes/disk.rs`): pods of one machine
share a clock, and hostPath volumes have no size.

";

/// More seeds of the simulator, and the models beyond what `test` explores.
pub fn prove(seeds: u64) -> Result<()> {
    let args = ["test", "--release", "--locked", "--package", "sim", "--", "--nocapture"];
    check::cargo(&args, 36_000).env("SEEDS", seeds.to_string()).show()?;
    let args = ["run", "--release", "--locked", "--package", "sim", "--", "model", "--states", "2000000"];
    check::cargo(&args, 36_000).show()
}
