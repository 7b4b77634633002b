//! A ring becomes ready and serves; a wrong one is refused.
use crate::small;
use anyhow::{Context as _, Result, ensure};
use e2e::{ring::NAME, tool, with_ring};
use serde_json::{Value, json};

#[test]
fn a_ring_serves_every_operation_through_its_own_tls() -> Result<()> {
    with_ring("serve", small(), |ring| {
        let good = |args: &[&str]| ring.chordctl(args)?.good();
        good(&["put", "colour", "green"])?;
        ensure!(good(&["get", "--raw", "colour"])? == "green");
        let found: Value = serde_json::from_str(&good(&["--output", "json", "get", "colour"])?)?;
        let version = found["version"].as_str().with_context(|| format!("no version in {found}"))?;
        good(&["cas", "colour", "blue", "--expect", version])?;
        let late = ring.chordctl(&["cas", "colour", "red", "--expect", version])?;
        ensure!(late.code == 1, "a stale compare-and-set must not apply: {}{}", late.stdout, late.stderr);
        ensure!(good(&["get", "--raw", "colour"])? == "blue");
        ensure!(good(&["scan"])?.contains("colour"));
        ensure!(good(&["lookup", "colour"])?.contains("ring-node-"));
        let status = good(&["status"])?;
        ensure!((0..3).all(|n| status.contains(&format!("{NAME}-node-{n}"))), "{status}");
        good(&["delete", "colour"])?;
        let absent = ring.chordctl(&["get", "colour"])?;
        ensure!(absent.code == 1, "absent is exit code 1: {}{}", absent.stdout, absent.stderr);
        let plugin = ["chord", "--namespace", &ring.namespace, "--ring", NAME, "status"];
        tool::run("kubectl", &plugin, 60)?.good().context("kubectl chord")?;
        let unknown = tool::chordctl(&ring.namespace, "nobody", &["status"])?;
        ensure!(unknown.code == 2 && unknown.stderr.contains("kubectl get chordrings"), "{}", unknown.stderr);
        Ok(())
    })
}

#[test]
fn the_gateway_shows_the_ring_and_cannot_be_reached_with_a_write() -> Result<()> {
    let spec = json!({"replicas": 3, "storage": {"size": "1Gi"}, "gateway": {"service": {"type": "NodePort"}}});
    with_ring("gateway", spec, |ring| {
        let port = ring.get(&["service", &format!("{NAME}-gateway")])?["spec"]["ports"][0]["nodePort"].clone();
        let node = tool::get(&["node", "node1"])?;
        let url = format!(
            "http://{}:{port}/api/v1/ring",
            node["status"]["addresses"][0]["address"].as_str().unwrap_or_default()
        );
        let curl =
            |args: &[&str]| tool::run("curl", &[&["--silent", "--show-error", "--max-time", "10"], args].concat(), 20);
        let shown: Value = serde_json::from_str(&curl(&["--fail", &url])?.good()?)?;
        let text = shown.to_string();
        ensure!((0..3).all(|n| text.contains(&format!("{NAME}-node-{n}"))), "{text}");
        for method in ["POST", "PUT", "DELETE", "PATCH"] {
            let code =
                curl(&["--output", "/dev/null", "--write-out", "%{http_code}", "--request", method, &url])?.good()?;
            ensure!(code == "405", "{method} gave {code}");
        }
        Ok(())
    })
}

#[test]
fn an_invalid_ring_is_refused_with_its_field_and_rule() -> Result<()> {
    with_ring("refused", small(), |ring| {
        let cases = [
            (json!({"replicas": 2, "ring": {"replicationFactor": 3}}), "replicas"),
            (json!({"replicas": 0}), "replicas"),
            (json!({"replicas": 3, "ring": {"replicationFactor": 9}}), "replicationFactor"),
            (json!({"replicas": 3, "ring": {"stabilizeInterval": "1ms"}}), "stabilizeInterval"),
            (json!({"replicas": 3, "ring": {"placement": "Hashed"}}), "placement"),
            (json!({"replicas": 3, "storage": {"size": "much"}}), "size"),
            (json!({"replicas": 3, "nonsense": true}), "nonsense"),
        ];
        for (spec, field) in cases {
            let done = ring.apply(&spec)?;
            ensure!(done.code != 0 && done.stderr.contains(field), "{spec}: {}{}", done.stdout, done.stderr);
        }
        let scaled = ring.start_scale(2);
        ensure!(
            scaled.is_err_and(|error| format!("{error:#}").contains("replicas")),
            "scale below the replication factor"
        );
        Ok(())
    })
}
