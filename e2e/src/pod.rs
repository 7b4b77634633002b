//! `chordctl` in a pod inside the cluster, as an application would run there.
use crate::{
    await_condition,
    ring::{NAME, Ring},
    tool,
};
use anyhow::Result;
use serde_json::{Value, json};

/// A pod that runs one command of chordctl after the other.
pub struct Pod<'a> {
    ring: &'a Ring,
    name: &'a str,
}

impl<'a> Pod<'a> {
    /// Starts it on a Kubernetes node, which must stay up.
    pub fn run(ring: &'a Ring, name: &'a str, machine: &str, first: &[&str], then: &[&str]) -> Result<Pod<'a>> {
        let operator = tool::get(&["deployment", "chord-operator", "--namespace", "chord-system"])?;
        let image = &operator["spec"]["template"]["spec"]["containers"][0]["image"];
        let endpoint = format!("{NAME}.{}.svc:7401", ring.namespace);
        let common = ["--endpoint", &endpoint, "--tls-dir", "/tls", "--timeout", "50s"];
        let container = |name: &str, args: &[&str]| {
            let args = [&common[..], args].concat();
            json!({"name": name, "image": image, "command": ["/chordctl"], "args": args,
                   "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}},
                   "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
                   "volumeMounts": [{"name": "tls", "mountPath": "/tls"}, {"name": "journal", "mountPath": "/journal"}]})
        };
        let security = json!({"runAsNonRoot": true, "runAsUser": 65532, "fsGroup": 65532,
                              "seccompProfile": {"type": "RuntimeDefault"}});
        let volumes = json!([{"name": "tls", "secret": {"secretName": format!("{NAME}-client-tls")}},
                             {"name": "journal", "emptyDir": {}}]);
        let spec = json!({"restartPolicy": "Never", "nodeName": machine, "automountServiceAccountToken": false,
                          "securityContext": security, "volumes": volumes,
                          "initContainers": [container("first", first)], "containers": [container("then", then)]});
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec});
        tool::apply(&ring.namespace, &pod)?.good()?;
        Ok(Pod { ring, name })
    }

    fn status(&self) -> Result<Value> {
        Ok(self.ring.get(&["pod", self.name])?["status"].take())
    }

    /// Whether the first command runs.
    pub fn first_runs(&self) -> Result<Option<()>> {
        Ok(self.status()?.pointer("/initContainerStatuses/0/state/running").map(|_| ()))
    }

    /// Waits until both have ended.
    pub fn ended(&self) -> Result<()> {
        await_condition(&format!("pod {} ends", self.name), 400, || {
            Ok(matches!(self.status()?["phase"].as_str(), Some("Succeeded" | "Failed")).then_some(()))
        })
    }

    /// What the first command wrote.
    pub fn first_logs(&self) -> Result<String> {
        self.ring.kubectl(&["logs", self.name, "--container", "first"])
    }

    /// What the second one wrote.
    pub fn logs(&self) -> Result<String> {
        self.ring.kubectl(&["logs", self.name, "--container", "then"])
    }
}
