//! Growing and shrinking.
use crate::space::{Space, spec};
use chord_client::{Get, Put};
use chord_proto::v1::{DescribeRequest, ring_view_client::RingViewClient};
use kube::{
    ResourceExt as _,
    api::{DeleteParams, ListParams},
};
use serde_json::json;

/// Goal: 3 → 5 → 3 keeps every key, one member moves at a time, and the volumes of leavers go.
#[tokio::test(flavor = "multi_thread")]
async fn grows_and_shrinks_without_losing_a_key() {
    let space = Space::new("scale").await;
    let _operator = space.operator().await;
    space.apply(spec(3)).await.expect("it is accepted");
    space.ready().await;
    let chord = space.chord().await;
    for key in 0..64 {
        chord.put(Put::new(format!("key-{key}"), format!("{key}"))).await.expect("it is put");
    }
    let first = space.claim_uids().await;
    space.scale(5).await.expect("it is accepted");
    space.ready().await;
    assert_eq!(space.claim_uids().await.len(), 5);
    space
        .until("a member hands on what the operator says", async || {
            let member = chord.members().into_iter().find_map(|member| member.node).ok_or("no member")?;
            let channel = chord.channel(&member.client_addr).map_err(|error| error.to_string())?;
            let described = RingViewClient::new(channel).describe(DescribeRequest {}).await;
            let said = described.map_err(|error| error.to_string())?.into_inner().operator.ok_or("nothing")?;
            let ready = said.conditions.iter().any(|it| it.r#type == "Ready" && it.status == "True");
            let whole = ready && (said.wanted, said.members, said.serving) == (5, 5, 5) && said.operation.is_none();
            if whole { Ok(()) } else { Err(format!("{said:?}")) }
        })
        .await;
    space.scale(3).await.expect("it is accepted");
    space
        .until("one member at a time leaves", async || {
            let members = space.ring().await.status.unwrap_or_default().members;
            let moving = members.iter().filter(|one| one.state == "Joining" || one.state == "Leaving").count();
            assert!(moving <= 1, "{members:?}");
            if space.set_replicas().await == 3 { Ok(()) } else { Err("more than three pods".into()) }
        })
        .await;
    space.ready().await;
    assert_eq!(space.claim_uids().await, first, "claims of leavers go, others stay");
    for key in 0..64 {
        let value = chord.get(Get::new(format!("key-{key}"))).await.expect("it is read").expect("it is there");
        assert_eq!(value.value.as_ref(), format!("{key}").as_bytes());
    }
}

/// Goal: a kept volume never comes back as a member; the operator says what to do, and goes on when it is done.
#[tokio::test(flavor = "multi_thread")]
async fn kept_volume_defers_growth_until_it_is_deleted() {
    let space = Space::new("kept").await;
    let _operator = space.operator().await;
    let mut wanted = spec(4);
    wanted["storage"] = json!({ "retention": { "whenScaled": "Retain" } });
    space.apply(wanted).await.expect("it is accepted");
    space.ready().await;
    space.scale(3).await.expect("it is accepted");
    space.ready().await;
    space
        .until("the kept volume is marked", async || {
            let claim = space.claims().get("data-r-node-3").await.map_err(|error| error.to_string())?;
            claim.annotations().get("chordring.dev/retired").map(drop).ok_or_else(|| "no mark".into())
        })
        .await;
    let kept = space.claims().get("data-r-node-3").await.expect("it is kept").uid();
    space.scale(4).await.expect("it is accepted");
    let way_out = space.condition("Progressing", "True", "ScaleUpDeferred").await;
    assert!(way_out.contains("kubectl delete pvc data-r-node-3"), "{way_out}");
    assert_eq!(space.set_replicas().await, 3);
    space.claims().delete("data-r-node-3", &DeleteParams::default()).await.expect("the way out");
    space.ready().await;
    let fresh = space.claims().get("data-r-node-3").await.expect("a new one");
    assert_ne!(fresh.uid(), kept);
    assert!(!fresh.annotations().contains_key("chordring.dev/retired"));
}

/// Goal: whatever happens to the spec on the way, the ring ends as it says last.
#[tokio::test(flavor = "multi_thread")]
async fn spec_that_changes_on_the_way_still_converges() {
    let space = Space::new("changes").await;
    let _operator = space.operator().await;
    space.apply(spec(3)).await.expect("it is accepted");
    let chord = {
        space.ready().await;
        space.chord().await
    };
    chord.put(Put::new("colour", "green")).await.expect("it is put");
    // Odd times on purpose; each is at another point of the operation before.
    let mut seed = std::process::id();
    for replicas in [5, 3, 4, 5, 3, 4] {
        space.scale(replicas).await.expect("it is accepted");
        seed = seed.wrapping_mul(1_103_515_245).wrapping_add(12_345);
        tokio::time::sleep(std::time::Duration::from_millis(u64::from(seed >> 16) % 2_500)).await;
    }
    space.ready().await;
    space
        .until("four claims", async || {
            let claims = space.claims().list(&ListParams::default()).await.map_err(|error| error.to_string())?;
            let live = claims.items.iter().filter(|claim| claim.metadata.deletion_timestamp.is_none()).count();
            if live == 4 { Ok(()) } else { Err(format!("{live} claims")) }
        })
        .await;
    let value = chord.get(Get::new("colour")).await.expect("it is read").expect("it is there");
    assert_eq!(value.value.as_ref(), b"green");
}
