//! What the operator makes and reports.
use crate::{
    cluster::OPERATOR,
    space::{RING, Space, rules, spec},
};
use chord_operator::api::{ChordRing, status::types};
use futures::StreamExt as _;
use k8s_openapi::{
    api::{
        apps::v1::{Deployment, StatefulSet},
        core::v1::{Pod, Secret, Service, ServiceAccount},
        events::v1::Event,
        networking::v1::NetworkPolicy,
        policy::v1::PodDisruptionBudget,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{Resource, ResourceExt as _, api::ListParams, core::NamespaceResourceScope, runtime::watcher};
use serde::de::DeserializeOwned;
use serde_json::json;
use std::{collections::BTreeSet, fmt::Debug, process::Stdio, time::Duration};

/// What there is of one kind in the namespace.
async fn metas<K>(space: &Space) -> Vec<(String, ObjectMeta)>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + DeserializeOwned + Clone + Debug,
{
    let all = space.api::<K>().list(&ListParams::default()).await.expect("a list").items;
    all.into_iter().map(|object| (K::kind(&()).into_owned(), object.meta().clone())).collect()
}

/// What the operator makes, Roles of the test and what every namespace has aside.
async fn made(space: &Space) -> Vec<(String, ObjectMeta)> {
    let all = [
        metas::<StatefulSet>(space).await,
        metas::<Deployment>(space).await,
        metas::<Service>(space).await,
        metas::<ServiceAccount>(space).await,
        metas::<Secret>(space).await,
        metas::<PodDisruptionBudget>(space).await,
        metas::<NetworkPolicy>(space).await,
    ];
    all.concat()
}

fn names(made: &[(String, ObjectMeta)]) -> BTreeSet<String> {
    made.iter().map(|(kind, meta)| format!("{kind}/{}", meta.name.clone().unwrap_or_default())).collect()
}

/// Goal: the objects of a ring are those of the contract, each is owned by the ring and labelled, and what the spec
/// turns off goes. (That pods are restricted is the namespace's doing, in every test.)
#[tokio::test(flavor = "multi_thread")]
async fn objects_are_those_of_the_contract_and_owned() {
    let space = Space::new("objects").await;
    let _operator = space.operator().await;
    let mut wanted = spec(3);
    wanted["tls"]["mode"] = json!("OperatorManaged");
    wanted["networkPolicy"] = json!({ "enabled": true });
    wanted["storage"] = json!({ "type": "Ephemeral" });
    space.apply(wanted.clone()).await.expect("it is accepted");
    let uid = space.ready().await.uid();
    assert!(space.claim_uids().await.is_empty(), "storage is Ephemeral");
    let everything = made(&space).await;
    let contract = [
        "Deployment/r-gateway",
        "NetworkPolicy/r-node",
        "PodDisruptionBudget/r-node",
        "Secret/r-ca",
        "Secret/r-client-tls",
        "Secret/r-gateway-tls",
        "Secret/r-node-tls",
        "Service/r",
        "Service/r-gateway",
        "Service/r-nodes",
        "ServiceAccount/r-gateway",
        "ServiceAccount/r-node",
        "StatefulSet/r-node",
    ];
    assert_eq!(names(&everything), contract.map(String::from).into());
    for (kind, meta) in everything {
        let owners = meta.owner_references.clone().unwrap_or_default();
        let owned = owners.len() == 1 && Some(&owners[0].uid) == uid.as_ref() && owners[0].controller == Some(true);
        assert!(owned, "{kind} {:?} is owned by {owners:?}", meta.name);
        let label = |key: &str| meta.labels.as_ref().and_then(|labels| labels.get(key)).map(String::as_str);
        assert_eq!(label("app.kubernetes.io/managed-by"), Some("chord-operator"), "{kind} {:?}", meta.name);
        assert_eq!(label("app.kubernetes.io/instance"), Some(RING), "{kind} {:?}", meta.name);
    }

    wanted["networkPolicy"] = json!({ "enabled": false });
    wanted["podDisruptionBudget"] = json!({ "enabled": false });
    wanted["gateway"] = json!({ "enabled": false });
    space.apply(wanted).await.expect("it is accepted");
    space
        .until("what is turned off is gone", async || {
            let there = names(&made(&space).await);
            let off =
                ["Deployment/r-gateway", "Service/r-gateway", "NetworkPolicy/r-node", "PodDisruptionBudget/r-node"];
            let left: Vec<_> = off.into_iter().filter(|name| there.contains(*name)).collect();
            if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
        })
        .await;
    space.ready().await;
}

/// Goal: the very first status holds every condition, and while paused nothing is made; events tell of the founding.
#[tokio::test(flavor = "multi_thread")]
async fn first_status_is_complete_and_a_paused_ring_is_left_alone() {
    let space = Space::new("paused").await;
    let mut wanted = spec(3);
    wanted["desiredState"] = json!("Paused");
    space.apply(wanted.clone()).await.expect("it is accepted");
    let changes = watcher(space.api::<ChordRing>(), watcher::Config::default());
    let _operator = space.operator().await;
    let first = changes.filter_map(async |event| match event {
        Ok(watcher::Event::Apply(ring) | watcher::Event::InitApply(ring)) => ring.status,
        _ => None,
    });
    let first = tokio::time::timeout(Duration::from_secs(60), Box::pin(first).next()).await.expect("in time");
    let conditions = first.expect("a status").conditions;
    let set: BTreeSet<&str> = conditions.iter().map(|condition| condition.type_.as_str()).collect();
    let all = [
        types::ACCEPTED,
        types::AVAILABLE,
        types::PROGRESSING,
        types::DEGRADED,
        types::RING_CONSISTENT,
        types::FULLY_REPLICATED,
        types::CERTIFICATES_READY,
        types::PAUSED,
        types::READY,
    ];
    assert_eq!(set, all.into());
    assert!(
        conditions.iter().all(|condition| !condition.message.is_empty() && condition.observed_generation == Some(1))
    );
    space.condition("Paused", "True", "Paused").await;
    assert_eq!(names(&made(&space).await), BTreeSet::new(), "something was made while paused");

    wanted["desiredState"] = json!("Running");
    space.apply(wanted).await.expect("it is accepted");
    space.ready().await;
    let events = space.api::<Event>().list(&ListParams::default()).await.expect("events").items;
    let reasons: BTreeSet<String> = events.into_iter().filter_map(|event| event.reason).collect();
    for reason in ["Paused", "Bootstrapping", "MemberJoining", "AsExpected"] {
        assert!(reasons.contains(reason), "no event {reason}: {reasons:?}");
    }
}

/// Goal: what only the API server can find wrong, in an object of the ring, shows in the ring's own conditions with its
/// words, and is over once the spec is put right.
#[tokio::test(flavor = "multi_thread")]
async fn object_that_the_api_refuses_shows_as_not_accepted() {
    let space = Space::new("unaccepted").await;
    let _operator = space.operator().await;
    let mut wanted = spec(3);
    wanted["resources"] = json!({ "requests": { "cpu": "2" }, "limits": { "cpu": "1" } });
    space.apply(wanted.clone()).await.expect("it is accepted");
    let message = space.condition("Accepted", "False", "InvalidSpec").await;
    assert!(message.contains("must be less than or equal to cpu limit"), "{message}");
    space.condition("Ready", "False", "InvalidSpec").await;
    wanted["resources"] = json!({ "requests": { "cpu": "1m" } });
    space.apply(wanted).await.expect("it is accepted");
    space.ready().await;
    space.condition("Accepted", "True", "AsExpected").await;
}

/// Goal: one operator looks after the namespaces it is told, with a Role in each and no ClusterRole.
#[tokio::test(flavor = "multi_thread")]
async fn two_namespaces_with_a_role_in_each() {
    let (one, other) = (Space::new("team-a").await, Space::new("team-b").await);
    for space in [&one, &other] {
        let mut wanted = spec(1);
        wanted["ring"]["replicationFactor"] = json!(1);
        space.apply(wanted).await.expect("it is accepted");
    }
    let _operator = one.operator_with(&other).await;
    one.ready().await;
    other.ready().await;
}

/// Goal: the program itself serves probes and metrics, with gauges of each ring, and frees its lease when it ends.
#[tokio::test(flavor = "multi_thread")]
async fn program_serves_metrics_and_frees_its_lease() {
    use k8s_openapi::api::coordination::v1::Lease;
    let space = Space::new("program").await;
    let mut wanted = spec(3);
    wanted["desiredState"] = json!("Paused");
    space.apply(wanted).await.expect("it is accepted");
    let port = crate::cluster::free_port();
    let mut program = tokio::process::Command::new(env!("CARGO_BIN_EXE_chord-operator"))
        .env("KUBECONFIG", space.cluster.kubeconfig_file(OPERATOR))
        .args(["--image=chord:test", "--identity=test", &format!("--http-addr=127.0.0.1:{port}")])
        .args([format!("--namespace={}", space.namespace), format!("--watch-namespaces={}", space.namespace)])
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("it starts");
    let gauge = r#"chord_operator_ring_desired_members{namespace="program",ring="r"} 3"#;
    space
        .until("metrics tell of the ring", async || {
            let text = crate::kubelet::get(port, "/metrics").await.ok_or("no answer")?;
            if text.contains(gauge) { Ok(()) } else { Err(text) }
        })
        .await;
    assert!(
        crate::kubelet::get(port, "/readyz").await.is_some() && crate::kubelet::get(port, "/livez").await.is_some()
    );
    let holder = async || {
        let lease = space.api::<Lease>().get("chord-operator").await.expect("a lease");
        lease.spec.and_then(|spec| spec.holder_identity)
    };
    assert_eq!(holder().await.as_deref(), Some("test"));
    let pid = rustix::process::Pid::from_raw(program.id().expect("it runs").cast_signed()).expect("a pid");
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it runs");
    let ended = tokio::time::timeout(Duration::from_secs(30), program.wait()).await.expect("it ends in time");
    assert!(ended.expect("an exit").success());
    assert_eq!(holder().await.as_deref(), Some(""), "the lease is not free");
}

/// Goal: rights are minimal: no wildcard, nothing on Pods but to look, nothing on Roles at all.
#[test]
fn rules_are_minimal() {
    for rule in rules().as_array().expect("a list") {
        let list = |key: &str| -> Vec<String> { serde_json::from_value(rule[key].clone()).expect("a list") };
        let all = [list("apiGroups"), list("resources"), list("verbs")].concat();
        assert!(all.iter().all(|word| word != "*"), "{rule}");
        assert!(!list("apiGroups").contains(&"rbac.authorization.k8s.io".to_owned()), "{rule}");
        if list("resources").contains(&"pods".to_owned()) {
            assert!(list("verbs").iter().all(|verb| ["get", "list", "watch"].contains(&verb.as_str())), "{rule}");
        }
    }
}

/// Goal: the CRD in the chart is the one of this code, and small enough for a client-side `kubectl apply`.
#[test]
fn committed_crd_is_the_generated_one() {
    let committed = include_str!("../../../charts/chord-operator/files/crd.yaml");
    let generated = chord_operator::api::crd_yaml().expect("YAML");
    assert!(committed == generated, "the CRD in the chart is not the one of this code; run `cargo xtask gen crd`");
    let json = serde_json::to_string(&<ChordRing as kube::CustomResourceExt>::crd()).expect("JSON");
    assert!(json.len() < 150_000, "{} bytes", json.len());
}

/// Goal: a pod of the ring may not use the API.
#[tokio::test(flavor = "multi_thread")]
async fn pods_hold_no_token() {
    let space = Space::new("tokens").await;
    let _operator = space.operator().await;
    let mut wanted = spec(1);
    wanted["ring"]["replicationFactor"] = json!(1);
    space.apply(wanted).await.expect("it is accepted");
    space.ready().await;
    let pods = space.api::<Pod>().list(&ListParams::default()).await.expect("pods").items;
    assert_eq!(pods.len(), 3);
    for pod in pods {
        let volumes = pod.spec.and_then(|spec| spec.volumes).unwrap_or_default();
        assert!(volumes.iter().all(|volume| volume.projected.is_none()), "a token is mounted");
    }
}
