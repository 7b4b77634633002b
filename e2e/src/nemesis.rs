//! Faults.
use crate::{
    await_condition,
    ring::Ring,
    tool::{cluster, get, kubectl},
};
use anyhow::{Context as _, Result, ensure};

/// Kubernetes node that a pod runs on.
pub fn machine(ring: &Ring, pod: &str) -> Result<String> {
    let pod = ring.get(&["pod", pod])?;
    Ok(pod["spec"]["nodeName"].as_str().context("the pod is not scheduled")?.to_owned())
}

/// `kubectl delete pod --force`: gone from the API at once, whatever its machine does.
pub fn delete_pod(ring: &Ring, pod: &str) -> Result<()> {
    ring.kubectl(&["delete", "pod", pod, "--force", "--grace-period=0"]).map(|_| ())
}

/// `kill -9` of a member's process, on its machine. Returns once Kubernetes has counted the restart.
pub fn kill_process(ring: &Ring, pod: &str) -> Result<()> {
    let object = ring.get(&["pod", pod])?;
    let uid = object["metadata"]["uid"].as_str().context("no uid")?;
    let restarts = object["status"]["containerStatuses"][0]["restartCount"].clone();
    let script = format!(
        "for p in /proc/[0-9]*; do grep -qs 'pod{uid}' $p/cgroup && [ \"$(cat $p/comm)\" = chord-node ] && \
         kill -9 ${{p#/proc/}} && exit 0; done; exit 1"
    );
    cluster(&["inside", &machine(ring, pod)?, "bash", "-c", &script])?;
    await_condition("the process restarts", 60, || {
        let now = ring.get(&["pod", pod])?["status"]["containerStatuses"][0]["restartCount"].clone();
        Ok((now != restarts).then_some(()))
    })
}

/// Ends a whole Kubernetes node as a power cut would.
pub fn kill_machine(machine: &str) -> Result<()> {
    cluster(&["node-kill", number(machine)?]).map(|_| ())
}

/// Brings it back.
pub fn start_machine(machine: &str) -> Result<()> {
    cluster(&["node-start", number(machine)?]).map(|_| ())
}

fn number(machine: &str) -> Result<&str> {
    machine.strip_prefix("node").with_context(|| format!("{machine} is no node of the development cluster"))
}

/// Kills the operator's pods without letting them finish anything.
pub fn kill_operator() -> Result<()> {
    let selector = "app.kubernetes.io/name=chord-operator";
    let pods = get(&["pods", "--namespace", "chord-system", "--selector", selector])?;
    ensure!(pods["items"].as_array().is_some_and(|pods| !pods.is_empty()), "the operator does not run");
    let space = ["--namespace", "chord-system", "--selector", selector];
    kubectl(&[&["delete", "pod"], &space[..], &["--force", "--grace-period=0"]].concat()).map(|_| ())
}
