//! An operator that dies at any of its writes.
use crate::space::{Space, spec};
use chord_client::{Get, Put};
use chord_operator::api::status::types;
use std::time::Duration;

/// Whether the ring is as its spec says.
async fn is_done(space: &Space) -> bool {
    let ring = space.ring().await;
    let Some(status) = ring.status else { return false };
    status.replicas == ring.spec.replicas
        && status.conditions.iter().any(|condition| {
            condition.type_ == types::READY
                && condition.status == "True"
                && condition.observed_generation == ring.metadata.generation
        })
}

/// Runs one operator after the other, each of which dies at another of its writes, until the ring is done; gives back
/// how many died.
async fn until_done(space: &Space, first: i64) -> usize {
    let mut died = 0;
    for n in (first..first + 12).cycle().take(120) {
        if is_done(space).await {
            return died;
        }
        if space.operator_until_write(n, Duration::from_secs(20)).await {
            died += 1;
        }
    }
    panic!("not done after {died} deaths: {:?}\n{}", space.ring().await.status, space.kubelet.logs());
}

/// Goal: wherever the operator dies, the next one takes up what it finds: one ring is founded, grows, shrinks, and
/// keeps its key. Method: successive operators die at a write each, later ones a write later.
#[tokio::test(flavor = "multi_thread")]
async fn operator_may_die_at_any_write() {
    let space = Space::new("crashes").await;
    space.apply(spec(3)).await.expect("it is accepted");
    // From the very first write on: a fresh operator applies about ten objects before its first step.
    let died = until_done(&space, 0).await;
    assert!(died >= 8, "only {died} died: the test proves little");
    let id = space.ready().await.status.expect("a status").ring.id;
    let chord = space.chord().await;
    chord.put(Put::new("colour", "green")).await.expect("it is put");
    for replicas in [4, 3] {
        space.scale(replicas).await.expect("it is accepted");
        let died = until_done(&space, 8).await;
        assert!(died >= 2, "only {died} died");
    }
    // One that lives finds nothing to do.
    let _operator = space.operator().await;
    let ring = space.ready().await;
    assert_eq!(ring.status.expect("a status").ring.id, id, "a second ring was founded");
    assert_eq!(space.claim_uids().await.len(), 3);
    let value = chord.get(Get::new("colour")).await.expect("it is read").expect("it is there");
    assert_eq!(value.value.as_ref(), b"green");
}
