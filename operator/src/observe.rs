//! Looking: objects and members, both live.
use crate::{
    api::{
        ABORT_LEAVE, ChordRing, DISK, RETIRED, RING_ID,
        spec::{DesiredState, Keep, StorageType},
    },
    build::Names,
    controller::Memory,
    objects::Apis,
    world::{Claim, Pod as SeenPod, State, World},
};
use k8s_openapi::api::core::v1::Pod;
use kube::{ResourceExt as _, api::ListParams};
use std::time::{Duration, Instant};

fn ordinal_of(name: &str, prefix: &str) -> Option<i32> {
    name.strip_prefix(prefix)?.parse().ok()
}

/// Why a pod does not run yet, in Kubernetes' words.
fn waiting(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let unschedulable = status
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == "PodScheduled" && condition.status == "False");
    if let Some(condition) = unschedulable {
        return Some(condition.message.clone().unwrap_or_else(|| "it is not scheduled".into()));
    }
    let waiting =
        status.container_statuses.iter().flatten().find_map(|container| container.state.as_ref()?.waiting.as_ref());
    let waiting = waiting?;
    Some(format!("{}: {}", waiting.reason.as_deref().unwrap_or("waiting"), waiting.message.as_deref().unwrap_or("")))
}

/// Live looks at objects and members.
///
/// # Errors
/// When the API does not answer; a silent member is no error.
pub(crate) async fn observe(
    ring: &ChordRing,
    names: &Names<'_>,
    apis: &Apis,
    memory: &mut Memory,
) -> anyhow::Result<World> {
    let name = &names.name;
    let set = apis.sets.get_opt(&format!("{name}-node")).await?;
    let set = set.filter(|set| set.metadata.deletion_timestamp.is_none());
    let replicas = set.as_ref().map(|set| set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(0));
    let selector = ListParams::default().labels(&names.selector_text("node"));
    let pods = apis.pods.list(&selector).await?;
    let pods = pods.items.into_iter().filter_map(|pod| {
        let ordinal = ordinal_of(&pod.name_any(), &format!("{name}-node-"))?;
        let terminating = pod.metadata.deletion_timestamp.is_some();
        Some((ordinal, SeenPod { uid: pod.uid()?, terminating, waiting: waiting(&pod) }))
    });
    let claims = apis.claims.list(&selector).await?;
    let claims = claims.items.into_iter().filter_map(|claim| {
        let ordinal = ordinal_of(&claim.name_any(), &names.claim_prefix())?;
        let annotation = |key: &str| claim.annotations().get(key).cloned();
        let terminating = claim.metadata.deletion_timestamp.is_some();
        let retired = claim.annotations().contains_key(RETIRED);
        let (ring_id, disk) = (annotation(RING_ID), annotation(DISK));
        Some((ordinal, Claim { uid: claim.uid()?, terminating, retired, ring_id, disk }))
    });
    let words = memory.members.ask(names, 0..replicas.unwrap_or(0)).await;
    let spec = &ring.spec;
    let mut world = World {
        ring: name.clone(),
        resource_version: ring.resource_version().unwrap_or_default(),
        desired: spec.replicas,
        replication_factor: spec.ring.replication_factor,
        paused: spec.desired_state == DesiredState::Paused,
        prune: spec.storage.retention.when_scaled == Keep::Delete && spec.storage.r#type == StorageType::Persistent,
        persistent: spec.storage.r#type == StorageType::Persistent,
        abort_leave: ring.annotations().contains_key(ABORT_LEAVE),
        replicas,
        pods: pods.collect(),
        claims: claims.collect(),
        words,
        ring_id: ring.annotations().get(RING_ID).cloned(),
        leave_quiet: Duration::ZERO,
        held_before: false,
    };
    let leaver = world.in_state(State::Leaving).first().and_then(|ordinal| world.word(*ordinal));
    let leave = leaver.map(|word| (word.disk.clone(), word.shards_held + word.retiring));
    match &memory.leave {
        Some((known, since)) if Some(known) == leave.as_ref() => world.leave_quiet = since.elapsed(),
        _ => memory.leave = leave.map(|leave| (leave, Instant::now())),
    }
    // The evidence counts when it has been the same for two stabilizations.
    let gist: Vec<_> = world
        .words
        .values()
        .map(|word| {
            word.as_ref().map(|word| (&word.disk, word.state, &word.members, &word.successor, word.under_replicated))
        })
        .collect();
    let gist = format!("{gist:?}");
    let stabilize = crate::duration(&spec.ring.stabilize_interval).unwrap_or(Duration::from_secs(3));
    match &memory.evidence {
        Some((known, since)) if *known == gist => world.held_before = since.elapsed() >= 2 * stabilize,
        _ => memory.evidence = Some((gist, Instant::now())),
    }
    Ok(world)
}
