//! From nothing to nothing: founding once, idling without writes, deletion, and a ring over kept volumes.
use crate::{
    cluster::OPERATOR,
    space::{RING, Space, spec},
};
use chord_client::{Delete, Get, Put};
use chord_operator::{api::ChordRing, lease::Election};
use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet, StatefulSet},
    core::v1::{PersistentVolumeClaim, Pod, Secret, Service, ServiceAccount},
    policy::v1::PodDisruptionBudget,
};
use kube::{
    Resource, ResourceExt as _,
    api::{DeleteParams, ListParams},
    core::NamespaceResourceScope,
};
use serde::de::DeserializeOwned;
use serde_json::json;
use std::{collections::BTreeMap, fmt::Debug, time::Duration};

/// kind/name of everything of one kind that belongs to the ring, with its resourceVersion.
async fn of_kind<K>(space: &Space, found: &mut BTreeMap<String, String>)
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + DeserializeOwned + Clone + Debug,
{
    let ours = ListParams::default().labels("app.kubernetes.io/instance=r");
    let all = space.api::<K>().list(&ours).await.expect("a list");
    found.extend(all.items.iter().map(|object| {
        (format!("{}/{}", K::kind(&()), object.name_any()), object.resource_version().unwrap_or_default())
    }));
}

/// Everything of the ring.
async fn everything(space: &Space) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    of_kind::<StatefulSet>(space, &mut found).await;
    of_kind::<Deployment>(space, &mut found).await;
    of_kind::<ReplicaSet>(space, &mut found).await;
    of_kind::<Pod>(space, &mut found).await;
    of_kind::<PersistentVolumeClaim>(space, &mut found).await;
    of_kind::<Secret>(space, &mut found).await;
    of_kind::<Service>(space, &mut found).await;
    of_kind::<ServiceAccount>(space, &mut found).await;
    of_kind::<PodDisruptionBudget>(space, &mut found).await;
    found
}

/// Goal: a ring with TLS comes up, idles without a single write, goes without leaving anything but its volumes, and
/// resumes over them with its keys. Method: resourceVersions of everything before and after two idle passes; a key
/// that is put before the deletion and read after the ring is made anew.
#[tokio::test(flavor = "multi_thread")]
async fn ring_with_tls_idles_without_writes_and_resumes_over_kept_volumes() {
    let space = Space::new("resume").await;
    let operator = space.operator().await;
    let mut wanted = spec(3);
    wanted["tls"]["mode"] = json!("OperatorManaged");
    space.apply(wanted.clone()).await.expect("it is accepted");
    let ring = space.ready().await;
    let id = ring.status.expect("a status").ring.id;
    let chord = space.chord().await;
    chord.put(Put::new("colour", "green")).await.expect("it is put");
    chord.put(Put::new("gone", "soon")).await.expect("it is put");
    assert!(chord.delete(Delete::new("gone")).await.expect("it is deleted"));

    // Counts of keys are told at most every half minute, so wait for the last of them.
    let quiet = space.until("the status tells of the key", async || {
        let ring = space.ring().await;
        let keys = ring.status.as_ref().map_or(0, |status| status.ring.keys);
        if keys > 0 { Ok(ring) } else { Err(format!("it tells of {keys} keys")) }
    });
    let quiet = quiet.await;
    let before = everything(&space).await;
    // Two looks at an idle ring, which are a quarter of a minute apart.
    tokio::time::sleep(Duration::from_secs(32)).await;
    assert_eq!(everything(&space).await, before, "somebody writes while nothing happens");
    assert_eq!(space.ring().await.resource_version(), quiet.resource_version(), "the status changes all the time");

    space.delete().await;
    let left = space.until("all but the volumes are gone", async || {
        let left: Vec<String> = everything(&space).await.into_keys().collect();
        if left.iter().all(|name| name.starts_with("PersistentVolumeClaim/")) {
            Ok(left)
        } else {
            Err(format!("{left:?}"))
        }
    });
    assert_eq!(left.await.len(), 3, "retention.whenDeleted is Retain by default");

    // The spec that comes back may be smaller: all three members return first.
    space.apply(wanted).await.expect("it is accepted");
    let again = space.ready().await;
    assert_eq!(again.status.expect("a status").ring.id, id, "another ring was founded over the volumes");
    let value = space.chord().await.get(Get::new("colour")).await.expect("it is read").expect("it is there");
    assert_eq!(value.value.as_ref(), b"green");
    drop(operator);
}

/// Goal: two operators that race for the lease, and even two that both act, found one ring. Method: the first two wait
/// for the lease and only one wins; then the loser is run as well.
#[tokio::test(flavor = "multi_thread")]
async fn two_operators_found_one_ring() {
    let space = Space::new("race").await;
    let client = space.cluster.client(OPERATOR).await;
    let elect = |name: &str| Election::new(client.clone(), &space.namespace, "chord-operator", name.to_owned());
    let (one, other) = (elect("one"), elect("other"));
    let (first, second) = (one.win(), other.win());
    tokio::pin!(first, second);
    let epoch = tokio::select! { epoch = &mut first => epoch, epoch = &mut second => epoch }.expect("one wins");
    assert_eq!(epoch, 1);
    // The other waits while the lease is held; both pretend to lead, as after a pause of the whole process.
    let operators = [space.operator().await, space.operator().await];
    space.apply(spec(3)).await.expect("it is accepted");
    let ring = space.ready().await;
    let ids: Vec<String> =
        space.ring().await.status.expect("a status").members.iter().map(|one| one.ring_id.clone()).collect();
    assert_eq!(ids.len(), 3);
    let id = ring.status.expect("a status").ring.id;
    let marks = space.claims().list(&ListParams::default()).await.expect("claims");
    for claim in marks {
        assert_eq!(claim.annotations().get("chordring.dev/ring-id"), Some(&id), "{}", claim.name_any());
    }
    for operator in operators {
        operator.crash().await;
    }
}

/// Goal: with `whenDeleted: Delete` nothing at all stays, also when the operator is gone and the whole namespace is
/// deleted at once.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_stays_when_volumes_are_not_kept() {
    let space = Space::new("gone").await;
    let operator = space.operator().await;
    let mut wanted = spec(3);
    wanted["storage"] = json!({ "retention": { "whenDeleted": "Delete" } });
    space.apply(wanted).await.expect("it is accepted");
    space.ready().await;
    operator.crash().await;
    space.delete().await;
    space
        .until("nothing is left", async || {
            let left = everything(&space).await;
            if left.is_empty() { Ok(()) } else { Err(format!("{:?}", left.keys())) }
        })
        .await;
    assert!(space.api::<ChordRing>().get_opt(RING).await.expect("an answer").is_none());
}

/// Goal: a namespace with a ring can be deleted while no operator runs.
#[tokio::test(flavor = "multi_thread")]
async fn namespace_goes_without_an_operator() {
    use k8s_openapi::api::core::v1::Namespace;
    let space = Space::new("namespace").await;
    let operator = space.operator().await;
    space.apply(spec(3)).await.expect("it is accepted");
    space.ready().await;
    operator.crash().await;
    let namespaces: kube::Api<Namespace> = kube::Api::all(space.client.clone());
    namespaces.delete(&space.namespace, &DeleteParams::default()).await.expect("it is deleted");
    for _ in 0..600 {
        if namespaces.get_opt(&space.namespace).await.expect("an answer").is_none() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the namespace hangs: {:?}", everything(&space).await);
}
