//! Rings and the operator are removed, in either order, and come back.
use crate::small;
use anyhow::{Result, ensure};
use e2e::{
    Load, await_condition, load,
    ring::{NAME, Ring},
    tool::{self, get, kubectl},
    with_ring,
};
use serde_json::json;

fn await_gone(ring: &Ring) -> Result<()> {
    await_condition("everything but volumes is gone", 120, || {
        let left = ring.leftovers()?;
        ensure!(left.is_empty(), "left behind: {left:?}");
        Ok(Some(()))
    })
}

#[test]
fn a_deleted_ring_leaves_only_its_volumes_and_resumes_over_them() -> Result<()> {
    with_ring("delete", small(), |ring| {
        Load::fill(ring, "before", 500)?.assert_unnoticed();
        ring.kubectl(&["delete", "chordring", NAME, "--timeout=60s"])?;
        await_gone(ring)?;
        ensure!(ring.claims()?.len() == 3, "retention.whenDeleted is Retain by default");
        ring.apply(&small())?.good()?;
        ring.await_ready()?;
        load::verify(ring, "before")?;
        let mut spec = small();
        spec["storage"]["retention"] = json!({"whenDeleted": "Delete"});
        ring.apply(&spec)?.good()?;
        ring.await_ready()?;
        ring.kubectl(&["delete", "chordring", NAME, "--timeout=60s"])?;
        await_gone(ring)?;
        await_condition("the volumes are gone", 60, || Ok(ring.claims()?.is_empty().then_some(())))
    })
}

#[test]
fn uninstalling_the_operator_first_is_no_trap() -> Result<()> {
    with_ring("uninstall", small(), |ring| {
        Load::fill(ring, "before", 200)?.assert_unnoticed();
        let release = ["chord-operator", "--namespace", "chord-system"];
        let helm = |args: &[&str]| tool::run("helm", args, 240)?.good();
        let values = ring.dir.join("values.yaml").display().to_string();
        std::fs::write(&values, helm(&[&["get", "values"], &release[..], &["--output", "yaml"]].concat())?)?;
        let chart = concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/chord-operator");
        helm(&[&["uninstall"], &release[..], &["--wait", "--timeout", "2m"]].concat())?;
        let checked = (|| {
            let label = "app.kubernetes.io/instance=chord-operator";
            let kinds = "clusterroles,clusterrolebindings";
            let left = get(&[kinds, "--selector", label])?;
            ensure!(left["items"].as_array().is_some_and(Vec::is_empty), "left behind: {left}");
            kubectl(&["get", "customresourcedefinition", "chordrings.chordring.dev"])?;
            // The ring serves without its operator, and goes without it.
            load::verify(ring, "before")?;
            ring.kubectl(&["delete", "chordring", NAME, "--timeout=60s"])?;
            await_gone(ring)?;
            ensure!(ring.claims()?.len() == 3);
            Ok(())
        })();
        // Other tests need it, whatever was found.
        let install = ["upgrade", "--install", "chord-operator", chart, "--namespace", "chord-system"];
        helm(&[&install[..], &["--values", &values, "--wait", "--timeout", "3m"]].concat())?;
        checked?;
        ring.apply(&small())?.good()?;
        ring.await_ready()?;
        load::verify(ring, "before")
    })
}
