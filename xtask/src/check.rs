//! `check`: what every commit must pass, without Kubernetes.
use crate::{
    chart, dashboard, paths,
    proc::{Proc, run, step},
    summary::Summary,
};
use anyhow::Result;
use std::fs;

const CRD: &str = "charts/chord-operator/files/crd.yaml";

pub fn cargo(args: &[&str], limit_s: u32) -> Proc {
    run("cargo", args, limit_s).env("CARGO_TARGET_DIR", paths::target()).env("CARGO_TERM_COLOR", "never")
}

pub fn check() -> Result<()> {
    let mut summary = Summary::default();
    lints(&mut summary);
    // The whole workspace, always: with another set of packages, features differ and hundreds of crates are rebuilt.
    let args = ["test", "--workspace", "--locked", "--lib", "--bins"];
    summary.stage("unit tests", |count| cargo(&args, 1800).each_line(|line| count.line(line)));
    if dashboard::dir().is_some_and(|dir| dir.join("node_modules").is_dir()) {
        page(&mut summary);
    }
    if paths::cluster_bin().join("helm").is_file() {
        summary.stage("chart", |_| chart::chart(false).map(|()| true));
    }
    summary.close()
}

/// Format and lints of the Rust code.
pub fn lints(summary: &mut Summary) {
    summary.stage("format", |_| cargo(&["fmt", "--all", "--check"], 120).each_line(|_| ()));
    let clippy = ["clippy", "--workspace", "--all-targets", "--locked", "--quiet", "--", "-D", "warnings"];
    summary.stage("clippy", |_| cargo(&clippy, 2400).each_line(|_| ()));
}

/// Types, lints and unit tests of the dashboard.
pub fn page(summary: &mut Summary) {
    let Some(dir) = dashboard::dir() else { return };
    summary.stage("dashboard", |count| {
        dashboard::install()?;
        let npm = |script| run("npm", ["run", script], 600).dir(&dir).env("NO_COLOR", "1").env("CI", "1");
        let linted = npm("lint").each_line(|_| ())?;
        Ok(npm("test").each_line(|line| count.line(line))? && linted)
    });
}

pub fn generate_crd() -> Result<()> {
    step("generating the CRD", || {
        let text = cargo(&["run", "--quiet", "--package", "chord-operator", "--bin", "crdgen"], 1800).read()?;
        Ok(fs::write(paths::root().join(CRD), text + "\n")?)
    })
}
