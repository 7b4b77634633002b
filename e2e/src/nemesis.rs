//! Faults.
use crate::{
    await_condition,
    ring::Ring,
    tool::{cluster, get, kubectl},
};
use anyhow::{Context as _, Result, ensure};
use std::{thread, time::Duration};

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
    kill_processes(ring, &[pod])
}

/// The same of several at once.
pub fn kill_processes(ring: &Ring, pods: &[&str]) -> Result<()> {
    let restarts = |pod: &str| {
        let pod = ring.get(&["pod", pod])?;
        Ok::<_, anyhow::Error>(pod["status"]["containerStatuses"][0]["restartCount"].clone())
    };
    let before = pods.iter().map(|pod| restarts(pod)).collect::<Result<Vec<_>>>()?;
    for pod in pods {
        on_process(ring, pod, "kill -9 $pid")?;
    }
    for (pod, before) in pods.iter().zip(before) {
        await_condition(&format!("{pod} restarts"), 60, || Ok((restarts(pod)? != before).then_some(())))?;
    }
    Ok(())
}

/// Runs a script on a member's machine, with `$pid` of its process.
pub fn on_process(ring: &Ring, pod: &str, script: &str) -> Result<()> {
    let object = ring.get(&["pod", pod])?;
    let uid = object["metadata"]["uid"].as_str().context("no uid")?;
    let script = format!(
        "for p in /proc/[0-9]*; do grep -qs 'pod{uid}' $p/cgroup && [ \"$(cat $p/comm)\" = chord-node ] && \
         pid=${{p#/proc/}} && {{ {script}; exit; }}; done; exit 1"
    );
    cluster(&["inside", &machine(ring, pod)?, "bash", "-c", &script]).map(|_| ())
}

/// Adds a rule to the packet filter of a member's machine, for what its pods send and receive; `%` is the pod's address.
/// Takes it away after `seconds`.
pub fn filter(ring: &Ring, pod: &str, rule: &str, seconds: u64) -> Result<()> {
    let address = ring.get(&["pod", pod])?["status"]["podIP"].as_str().context("the pod has no address")?.to_owned();
    let rule = rule.replace('%', &address);
    let script = format!("iptables -I FORWARD {rule}; sleep {seconds}; iptables -D FORWARD {rule}");
    cluster(&["inside", &machine(ring, pod)?, "bash", "-c", &script]).map(|_| ())
}

/// Takes a Kubernetes node off the network for some seconds: silence, not refusals.
pub fn cut_machine(machine: &str, seconds: u64) -> Result<()> {
    cluster(&["node-cut", number(machine)?])?;
    thread::sleep(Duration::from_secs(seconds));
    cluster(&["node-heal", number(machine)?]).map(|_| ())
}

/// A member's volume is gone for good, and its pod with it.
pub fn lose_volume(ring: &Ring, pod: &str) -> Result<()> {
    let volumes = ring.get(&["pod", pod])?["spec"]["volumes"].take();
    let claims = volumes.as_array().cloned().unwrap_or_default();
    let claim = claims.iter().find_map(|one| one.pointer("/persistentVolumeClaim/claimName")?.as_str());
    ring.kubectl(&["delete", "persistentvolumeclaim", claim.context("it has no volume")?, "--wait=false"])?;
    delete_pod(ring, pod)
}

/// Number of the operator's replicas, which is changed to another.
pub fn scale_operator(replicas: u64) -> Result<u64> {
    let space = ["--namespace", "chord-system"];
    let old = get(&[&["deployment", "chord-operator"], &space[..]].concat())?["spec"]["replicas"].as_u64();
    let wanted = format!("--replicas={replicas}");
    kubectl(&[&["scale", "deployment/chord-operator", &wanted], &space[..]].concat())?;
    old.context("the operator's Deployment has no replicas")
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
