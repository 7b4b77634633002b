//! The chart: lint, values that must be refused, and golden output.
use crate::{paths, proc::run};
use anyhow::{Result, bail};
use std::fs;

const CHART: &str = "charts/chord-operator";
/// Golden file and the values it is rendered with.
const GOLDEN: [(&str, &[&str]); 2] = [
    ("default.yaml", &[]),
    (
        "everything.yaml",
        &[
            "replicas=2",
            "watchNamespaces={team-a,team-b}",
            "crds.keep=false",
            "metrics.serviceMonitor.enabled=true",
            "networkPolicy.enabled=true",
            "networkPolicy.metricsFrom[0].namespaceSelector.matchLabels.name=monitoring",
            "imagePullSecrets[0].name=registry",
            "nodeSelector.disk=ssd",
            "priorityClassName=system-cluster-critical",
            "podLabels.team=storage",
            "serviceAccount.name=chord",
            "image.repository=example.org/chord",
            "image.tag=1.2.3",
        ],
    ),
];
/// Values that the schema must refuse.
const REFUSED: [&str; 5] =
    ["replicas=-1", "replicas=three", "image.pullPolicy=Sometimes", "unknown=1", "watchNamespaces={UPPER}"];

/// Checks the chart; with `write`, makes its present output the golden one.
pub fn chart(write: bool) -> Result<()> {
    run("helm", ["lint", "--strict", "--quiet", "--kube-version", "1.35.0", CHART], 60).quiet()?;
    for (name, values) in GOLDEN {
        let file = paths::root().join(CHART).join("golden").join(name);
        let rendered = template(values).read()? + "\n";
        if write {
            fs::write(&file, rendered)?;
        } else if fs::read_to_string(&file).unwrap_or_default() != rendered {
            bail!("the chart does not render golden/{name}; look at it: cargo xtask chart --write && git diff {CHART}");
        }
    }
    match REFUSED.iter().find(|value| template(&[value]).succeeds()) {
        Some(value) => bail!("the chart accepts --set {value}; values.schema.json should refuse it"),
        None => Ok(()),
    }
}

fn template(values: &[&str]) -> crate::proc::Proc {
    let mut args = vec!["template", "chord-operator", CHART, "--namespace", "chord-system", "--kube-version", "1.35.0"];
    args.extend(values.iter().flat_map(|value| ["--set", value]));
    run("helm", args, 60)
}
