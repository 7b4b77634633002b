//! Members and volumes that are lost.
use crate::space::{Space, spec};
use chord_client::{Get, Put};
use kube::{
    ResourceExt as _,
    api::{DeleteParams, ListParams},
};
use serde_json::json;

async fn with_key(name: &str, replicas: i32) -> Space {
    let space = Space::new(name).await;
    space.apply(spec(replicas)).await.expect("it is accepted");
    space
}

async fn put(space: &Space) {
    space.chord().await.put(Put::new("colour", "green")).await.expect("it is put");
}

async fn assert_kept(space: &Space) {
    let value = space.chord().await.get(Get::new("colour")).await.expect("it is read").expect("it is there");
    assert_eq!(value.value.as_ref(), b"green");
}

/// Goal: a member that does not answer is waited for, whatever else is asked; when most do not answer, that is said,
/// and nothing is changed. Method: processes held down, growth asked meanwhile; then they come back.
#[tokio::test(flavor = "multi_thread")]
async fn silent_member_is_waited_for_and_nothing_else_changes() {
    let space = with_key("silent", 3).await;
    let _operator = space.operator().await;
    space.ready().await;
    put(&space).await;
    space.kubelet.hold("r-node-1");
    let message = space.condition("Ready", "False", "MemberLost").await;
    assert!(message.contains("member 1"), "{message}");
    space.scale(4).await.expect("it is accepted");
    space.condition("Progressing", "True", "MemberLost").await;
    assert_eq!(space.set_replicas().await, 3, "it grows while a member is lost");
    space.kubelet.hold("r-node-2");
    space.condition("Progressing", "True", "OperatorCannotReachMembers").await;
    assert_eq!(space.set_replicas().await, 3, "it changes what it cannot see");
    space.kubelet.release("r-node-1");
    space.kubelet.release("r-node-2");
    space.ready().await;
    assert_kept(&space).await;
}

/// Goal: a process that is killed comes back by itself, in the middle of a leave too.
#[tokio::test(flavor = "multi_thread")]
async fn killed_leaver_goes_on_leaving() {
    let space = with_key("killed", 4).await;
    let _operator = space.operator().await;
    space.ready().await;
    put(&space).await;
    space.scale(3).await.expect("it is accepted");
    space
        .until("the member leaves", async || {
            let operation = space.ring().await.status.unwrap_or_default().operation;
            operation.filter(|operation| operation.r#type == "Leave").map(drop).ok_or_else(|| "no operation".into())
        })
        .await;
    space.kubelet.kill("r-node-3");
    space.ready().await;
    assert_eq!(space.claim_uids().await.len(), 3);
    assert_kept(&space).await;
}

/// Goal: a member whose volume is gone is replaced by a new one in its place; also member 0, who must not found a
/// second ring, and also when the claim stayed and only what was on it is gone.
#[tokio::test(flavor = "multi_thread")]
async fn lost_volume_is_replaced_by_an_empty_member() {
    let space = with_key("volume", 3).await;
    let _operator = space.operator().await;
    let id = space.ready().await.status.expect("a status").ring.id;
    put(&space).await;

    // The claim is deleted and its pod after it: the StatefulSet makes both anew.
    let before = space.claims().get("data-r-node-2").await.expect("a claim").uid();
    space.claims().delete("data-r-node-2", &DeleteParams::default()).await.expect("it is deleted");
    space
        .api::<k8s_openapi::api::core::v1::Pod>()
        .delete("r-node-2", &DeleteParams::default())
        .await
        .expect("it is deleted");
    space
        .until("a new claim holds data", async || {
            let claim = space.claims().get("data-r-node-2").await.map_err(|error| error.to_string())?;
            let marked = claim.annotations().contains_key("chordring.dev/disk");
            if claim.uid() != before && marked { Ok(()) } else { Err("not yet".into()) }
        })
        .await;
    space.ready().await;
    assert_kept(&space).await;

    // The claim stays; another disk is behind it.
    let claim = space.claims().get("data-r-node-0").await.expect("a claim");
    space.kubelet.lose_disk("r-node-0", &claim.uid().unwrap_or_default());
    space
        .until("the new disk is marked", async || {
            let now = space.claims().get("data-r-node-0").await.map_err(|error| error.to_string())?;
            let mark = |claim: &k8s_openapi::api::core::v1::PersistentVolumeClaim| {
                claim.annotations().get("chordring.dev/disk").cloned()
            };
            if mark(&now) != mark(&claim) { Ok(()) } else { Err("the old mark".into()) }
        })
        .await;
    let ring = space.ready().await;
    assert_eq!(ring.status.expect("a status").ring.id, id, "a second ring was founded");
    assert_kept(&space).await;
}

/// Goal: when a majority of the copies may be gone, nothing is done but to say so.
#[tokio::test(flavor = "multi_thread")]
async fn two_lost_volumes_stop_everything() {
    let space = with_key("losses", 3).await;
    let operator = space.operator().await;
    space.ready().await;
    put(&space).await;
    operator.crash().await;
    for ordinal in [1, 2] {
        let claim = space.claims().get(&format!("data-r-node-{ordinal}")).await.expect("a claim");
        space.kubelet.lose_disk(&format!("r-node-{ordinal}"), &claim.uid().unwrap_or_default());
    }
    let marks = async || {
        let claims = space.claims().list(&ListParams::default()).await.expect("claims").items;
        claims.iter().map(|claim| claim.annotations().get("chordring.dev/disk").cloned()).collect::<Vec<_>>()
    };
    let before = marks().await;
    let _operator = space.operator().await;
    let message = space.condition("Ready", "False", "PotentialDataLoss").await;
    assert!(message.contains("1, 2"), "{message}");
    // Not only at first: some passes later it is the same.
    tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    space.condition("Ready", "False", "PotentialDataLoss").await;
    assert_eq!(marks().await, before, "the operator took up the empty volumes");
    let members = space.ring().await.status.expect("a status").members;
    let states: Vec<&str> = members.iter().map(|one| one.state.as_str()).collect();
    assert_eq!(states, ["Serving", "Empty", "Empty"]);
}

/// Goal: a stale mark that says "has left" is never enough: a member that serves is asked to leave first.
#[tokio::test(flavor = "multi_thread")]
async fn stale_mark_on_a_claim_never_shrinks() {
    let space = with_key("stale", 4).await;
    let operator = space.operator().await;
    space.ready().await;
    put(&space).await;
    operator.crash().await;
    let mark = json!({ "metadata": { "annotations": { "chordring.dev/retired": "true" } } });
    let patch = kube::api::Patch::Merge(&mark);
    space.claims().patch("data-r-node-3", &Default::default(), &patch).await.expect("it is marked");
    space.kubelet.hold("r-node-3");
    space.scale(3).await.expect("it is accepted");
    let _operator = space.operator().await;
    space.condition("Progressing", "True", "MemberLost").await;
    assert_eq!(space.set_replicas().await, 4, "shrunk over a member that said nothing");
    space.kubelet.release("r-node-3");
    space.ready().await;
    assert_eq!(space.claim_uids().await.len(), 3);
    assert_kept(&space).await;
}
