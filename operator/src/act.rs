//! Carrying a step out.
use crate::{
    api::{ABORT_LEAVE, DISK, RETIRED, RING_ID},
    build::Names,
    controller::Memory,
    members::unhex,
    objects::Apis,
    plan::Step,
    world::World,
};
use chord_proto::v1;
use kube::{
    ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
};
use serde_json::json;

/// Carries one step out; whatever cannot be undone goes with a precondition.
///
/// # Errors
/// When the API or a member refuses; the next pass looks anew.
pub(crate) async fn act(
    names: &Names<'_>,
    apis: &Apis,
    epoch: u64,
    memory: &mut Memory,
    world: &World,
    step: &Step,
) -> anyhow::Result<()> {
    let set_name = format!("{}-node", names.name);
    match step {
        Step::Wait { .. } | Step::Idle => {}
        Step::CreateStatefulSet { replicas } => {
            apis.sets.create(&PostParams::default(), &names.stateful_set(*replicas)).await?;
        }
        Step::GrowStatefulSet { to } | Step::ShrinkStatefulSet { to } => {
            let live = apis.sets.get(&set_name).await?;
            if live.spec.as_ref().and_then(|spec| spec.replicas) != world.replicas {
                anyhow::bail!("the StatefulSet changed since it was looked at");
            }
            // With the resourceVersion, so that it fails if anybody else changes it meanwhile.
            let patch = json!({
                "metadata": { "resourceVersion": live.resource_version() }, "spec": { "replicas": to },
            });
            apis.sets.patch(&set_name, &PatchParams::default(), &Patch::Merge(&patch)).await?;
            memory.evidence = None;
        }
        Step::PruneClaim { ordinal, uid } => {
            let params = DeleteParams {
                preconditions: Some(Preconditions { uid: Some(uid.clone()), resource_version: None }),
                ..DeleteParams::default()
            };
            apis.claims.delete(&names.claim(*ordinal), &params).await?;
        }
        Step::MarkClaim { ordinal, ring_id, disk } => {
            let patch = json!({ "metadata": { "annotations": { RING_ID: ring_id, DISK: disk } } });
            apis.claims.patch(&names.claim(*ordinal), &PatchParams::default(), &Patch::Merge(&patch)).await?;
        }
        Step::RetireClaim { ordinal, uid } => {
            // The uid in it makes sure that it is the claim that was looked at.
            let patch = json!({ "metadata": { "uid": uid, "annotations": { RETIRED: "true" } } });
            apis.claims.patch(&names.claim(*ordinal), &PatchParams::default(), &Patch::Merge(&patch)).await?;
        }
        Step::ChooseRingId => {
            let ring_id = uuid::Uuid::new_v4().simple().to_string();
            // With the resourceVersion: of two operators that choose, one fails.
            let patch = json!({
                "metadata": { "resourceVersion": world.resource_version, "annotations": { RING_ID: ring_id } },
            });
            apis.rings.patch(&names.name, &PatchParams::default(), &Patch::Merge(&patch)).await?;
        }
        Step::AdoptRingId { ring_id } => {
            let patch = json!({ "metadata": { "annotations": { RING_ID: ring_id } } });
            apis.rings.patch(&names.name, &PatchParams::default(), &Patch::Merge(&patch)).await?;
        }
        Step::Bootstrap { ring_id } => {
            let disk = world.word(0).map(|word| word.disk.clone()).unwrap_or_default();
            let request = v1::AdminJoinRequest {
                operator_epoch: epoch,
                disk_uuid: unhex(&disk).into(),
                bootstrap_ring_id: Some(unhex(ring_id).into()),
                ..v1::AdminJoinRequest::default()
            };
            memory.members.join(&names.address(0), request).await?;
        }
        Step::Join { ordinal, seeds } => {
            let disk = world.word(*ordinal).map(|word| word.disk.clone()).unwrap_or_default();
            let request = v1::AdminJoinRequest {
                operator_epoch: epoch,
                disk_uuid: unhex(&disk).into(),
                bootstrap_ring_id: None,
                seeds: seeds.clone(),
                ring_id: unhex(world.ring_id.as_deref().unwrap_or_default()).into(),
            };
            memory.members.join(&names.address(*ordinal), request).await?;
        }
        Step::Leave { ordinal } | Step::AbortLeave { ordinal } => {
            let disk = world.word(*ordinal).map(|word| word.disk.clone()).unwrap_or_default();
            let addr = names.address(*ordinal);
            if matches!(step, Step::Leave { .. }) {
                memory.members.leave(&addr, epoch, &disk).await?;
            } else {
                memory.members.abort_leave(&addr, epoch, &disk).await?;
                drop_abort_leave(apis, names).await?;
            }
        }
        Step::DropAbortLeave => drop_abort_leave(apis, names).await?,
        Step::Evict { through, id, disk } => {
            memory.members.evict(&names.address(*through), epoch, id, disk).await?;
        }
    }
    if !matches!(step, Step::Wait { .. } | Step::Idle) {
        tracing::info!(ring = format!("{}/{}", names.namespace, names.name), ?step, "done");
        metrics::counter!("chord_operator_steps_total").increment(1);
    }
    Ok(())
}

async fn drop_abort_leave(apis: &Apis, names: &Names<'_>) -> anyhow::Result<()> {
    let patch = json!({ "metadata": { "annotations": { ABORT_LEAVE: null } } });
    apis.rings.patch(&names.name, &PatchParams::default(), &Patch::Merge(&patch)).await?;
    Ok(())
}
