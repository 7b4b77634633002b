//! A ring in a namespace of its own.
use crate::{
    await_condition,
    tool::{self, Done, chordctl, get, kubectl, run},
};
use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    path::PathBuf,
};

/// Longest time until a ring of seven is ready on two cores.
const READY_S: u64 = 240;

/// Handle of a ring under test.
pub struct Ring {
    pub namespace: String,
    /// A directory for journals.
    pub dir: PathBuf,
}

/// The ring's name, the same in every namespace.
pub const NAME: &str = "ring";

/// Makes a namespace that admits only restricted pods and a ring with this `spec` in it, runs `test` once it is
/// ready, and deletes both. On failure prints pods, events and logs first.
///
/// # Errors
/// Those of `test`; that the ring does not become ready.
pub fn with_ring(name: &str, spec: Value, test: impl FnOnce(&Ring) -> Result<()>) -> Result<()> {
    tool::on_the_development_cluster()?;
    println!("\n==> {name}");
    let dir = tempfile::tempdir()?;
    let ring = Ring { namespace: format!("e2e-{name}"), dir: dir.path().to_owned() };
    ring.remove()?;
    kubectl(&["create", "namespace", &ring.namespace])?;
    let restricted = "pod-security.kubernetes.io/enforce=restricted";
    kubectl(&["label", "namespace", &ring.namespace, restricted])?;
    // A failed assertion must dump and clean up too.
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        ring.apply(&spec)?.good()?;
        ring.await_ready()?;
        test(&ring)
    }));
    if !matches!(outcome, Ok(Ok(()))) {
        ring.dump();
    }
    let removed = ring.remove();
    outcome.unwrap_or_else(|panic| resume_unwind(panic)).and(removed)
}

impl Ring {
    /// Applies the ChordRing.
    pub fn apply(&self, spec: &Value) -> Result<Done> {
        let manifest = json!({"apiVersion": "chordring.dev/v1alpha1", "kind": "ChordRing",
                              "metadata": {"name": NAME}, "spec": spec});
        tool::apply(&self.namespace, &manifest)
    }

    /// `kubectl --namespace … args`.
    pub fn kubectl(&self, args: &[&str]) -> Result<String> {
        kubectl(&[&["--namespace", &self.namespace], args].concat())
    }

    /// `kubectl get` as JSON.
    pub fn get(&self, args: &[&str]) -> Result<Value> {
        get(&[&["--namespace", &self.namespace], args].concat())
    }

    /// `chordctl --ring … args`.
    pub fn chordctl(&self, args: &[&str]) -> Result<Done> {
        chordctl(&self.namespace, NAME, args)
    }

    /// Until the operator has seen the present spec and says that the ring is ready.
    pub fn await_ready(&self) -> Result<()> {
        await_condition("the ring is ready", READY_S, || {
            let object = self.get(&["chordring", NAME])?;
            let ready = condition(&object, "Ready").cloned().unwrap_or_default();
            let seen = object["metadata"]["generation"] == ready["observedGeneration"];
            anyhow::ensure!(seen && ready["status"] == "True", "Ready is {ready}");
            Ok(Some(()))
        })
    }

    /// `kubectl scale`, then until the ring has that many members and is ready. Checks on the way that one member at
    /// a time joins or leaves.
    pub fn scale(&self, replicas: u64) -> Result<()> {
        self.start_scale(replicas)?;
        self.await_scaled(replicas)
    }

    pub fn start_scale(&self, replicas: u64) -> Result<()> {
        let wanted = format!("--replicas={replicas}");
        self.kubectl(&["scale", &format!("chordring/{NAME}"), &wanted]).map(|_| ())
    }

    pub fn await_scaled(&self, replicas: u64) -> Result<()> {
        await_condition(&format!("{replicas} members"), 600, || {
            let object = self.get(&["chordring", NAME])?;
            let members = object["status"]["members"].as_array().cloned().unwrap_or_default();
            let moving: Vec<_> =
                members.iter().filter(|one| one["state"] == "Joining" || one["state"] == "Leaving").collect();
            assert!(moving.len() <= 1, "several members move at once: {moving:?}");
            let ready = condition(&object, "Ready").cloned().unwrap_or_default();
            let seen = object["metadata"]["generation"] == ready["observedGeneration"];
            let status = &object["status"];
            let done = seen && ready["status"] == "True" && status["replicas"] == replicas;
            anyhow::ensure!(done, "{} members, operation {}, Ready {ready}", status["replicas"], status["operation"]);
            Ok(Some(()))
        })
    }

    /// Names of the node pods.
    pub fn pods(&self) -> Result<Vec<String>> {
        names(&self.get(&["pods", "--selector", "app.kubernetes.io/component=node"])?)
    }

    /// Names of the members' volume claims.
    pub fn claims(&self) -> Result<Vec<String>> {
        names(&self.get(&["persistentvolumeclaims"])?)
    }

    /// Everything of the ring that is still there, as kind/name; volume claims aside.
    pub fn leftovers(&self) -> Result<Vec<String>> {
        let kinds = "pods,services,endpointslices,statefulsets,deployments,replicasets,poddisruptionbudgets,secrets,\
                     configmaps,serviceaccounts,roles,rolebindings,networkpolicies,chordrings";
        let all = self.get(&[kinds])?;
        let items = all["items"].as_array().cloned().unwrap_or_default();
        // What every namespace has.
        let of_namespace = ["ServiceAccount/default", "ConfigMap/kube-root-ca.crt"];
        let name = |item: &Value| {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            format!("{}/{}", text(&item["kind"]), text(&item["metadata"]["name"]))
        };
        Ok(items.iter().map(name).filter(|name| !of_namespace.contains(&name.as_str())).collect())
    }

    /// Deletes namespace and volumes.
    fn remove(&self) -> Result<()> {
        let wait = ["delete", "namespace", &self.namespace, "--ignore-not-found", "--timeout=120s"];
        kubectl(&wait).context("deleting a ring's namespace must not hang").map(|_| ())
    }

    /// Prints what tells why a test failed.
    fn dump(&self) {
        let space = ["--namespace", &self.namespace];
        let show = |args: &[&str]| {
            println!("---- kubectl {}", args.join(" "));
            match run("kubectl", args, 30) {
                Ok(done) => println!("{}{}", done.stdout, done.stderr),
                Err(error) => println!("{error:#}"),
            }
        };
        show(&[&space[..], &["get", "pods,persistentvolumeclaims", "--output", "wide"]].concat());
        show(&[&space[..], &["get", "chordring", NAME, "--output", "yaml"]].concat());
        show(&[&space[..], &["get", "events", "--sort-by", ".lastTimestamp"]].concat());
        let node = ["logs", "--selector", "app.kubernetes.io/name=chord", "--all-containers", "--prefix", "--tail=40"];
        show(&[&space[..], &node, &["--ignore-errors"]].concat());
        show(&["logs", "--namespace", "chord-system", "deployment/chord-operator", "--tail=120"]);
    }
}

/// A condition of an object.
pub fn condition<'a>(object: &'a Value, name: &str) -> Option<&'a Value> {
    object["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == name)
}

/// Names of a list's items.
pub fn names(list: &Value) -> Result<Vec<String>> {
    let items = list["items"].as_array().context("not a list")?;
    Ok(items.iter().filter_map(|item| item["metadata"]["name"].as_str().map(str::to_owned)).collect())
}
