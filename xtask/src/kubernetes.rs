//! The Kubernetes that tasks work on: the one in `deploy/dev`, or another that KUBECONFIG names.
use crate::{
    paths,
    proc::{Proc, run},
};
use anyhow::{Context as _, Result};
use serde_json::Value;
use std::{env, path::PathBuf};

pub enum Kubernetes {
    /// Ours, with the kubeconfig's path.
    Dev(PathBuf),
    /// Another one.
    Other,
}

impl Kubernetes {
    /// Ours, unless KUBECONFIG is set and names another.
    pub fn find() -> Result<Kubernetes> {
        let own = paths::root().join("deploy/dev/cluster");
        let exports = run(own, ["env"], 10).env("PATH", env::var_os("PATH").unwrap_or_default()).read()?;
        let line = exports.lines().find_map(|line| line.strip_prefix("export KUBECONFIG="));
        let dev = PathBuf::from(line.context("deploy/dev/cluster env prints no KUBECONFIG")?);
        Ok(match env::var_os("KUBECONFIG") {
            Some(set) if !set.is_empty() && set != *dev => Kubernetes::Other,
            _ => Kubernetes::Dev(dev),
        })
    }

    /// `deploy/dev/cluster ARGS`.
    pub fn cluster(args: &[&str], limit_s: u32) -> Proc {
        run(paths::root().join("deploy/dev/cluster"), args, limit_s)
    }

    /// A kubectl, helm or chordctl on this Kubernetes.
    pub fn run(&self, program: &str, args: &[&str], limit_s: u32) -> Proc {
        let proc = run(program, args, limit_s);
        match self {
            Kubernetes::Dev(kubeconfig) => proc.env("KUBECONFIG", kubeconfig),
            Kubernetes::Other => proc,
        }
    }

    pub fn kubectl(&self, args: &[&str]) -> Proc {
        self.run("kubectl", args, 60)
    }

    /// An object as JSON; none if there is no such object or kind.
    pub fn get(&self, what: &str) -> Option<Value> {
        let text = self.kubectl(&["get", what, "--output", "json", "--request-timeout", "10s"]).read().ok()?;
        serde_json::from_str(&text).ok()
    }
}
