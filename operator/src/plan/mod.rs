//! The decision: one step from all that is known. Pure; nothing else in the operator decides.
//!
//! The order is that of the design (operator.md 4): finish what has begun before anything new begins, one change of
//! the ring's members at a time, evidence before anything that cannot be undone.
use crate::{
    api::{ABORT_LEAVE, status::Reason},
    world::{Claim, State, World},
};
use std::time::Duration;

/// A leave without progress for so long needs somebody to look.
const STALLED: Duration = Duration::from_secs(600);

/// What to do next. At most one thing that changes the ring.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// Make the StatefulSet.
    CreateStatefulSet { replicas: i32 },
    /// Make more pods.
    GrowStatefulSet { to: i32 },
    /// Drop the top pod: its member has left, or never joined.
    ShrinkStatefulSet { to: i32 },
    /// Delete the claim of a member that has left.
    PruneClaim { ordinal: i32, uid: String },
    /// Note on a claim that its member has left, where volumes are kept.
    RetireClaim { ordinal: i32, uid: String },
    /// Note on a claim whose data it holds.
    MarkClaim { ordinal: i32, ring_id: String, disk: String },
    /// Choose the ring's identity, before anything is founded with it.
    ChooseRingId,
    /// Take the identity that members report.
    AdoptRingId { ring_id: String },
    /// Found the ring.
    Bootstrap { ring_id: String },
    /// Let an empty member join.
    Join { ordinal: i32, seeds: Vec<String> },
    /// Ask a member to leave.
    Leave { ordinal: i32 },
    /// Take a leave back.
    AbortLeave { ordinal: i32 },
    /// Take the user's wish away: no member leaves, and the next leave is another matter.
    DropAbortLeave,
    /// Declare a member lost whose disk is gone.
    Evict { through: i32, id: String, disk: String },
    /// Nothing can be done now; says why.
    Wait { reason: Reason, message: String },
    /// Everything is as it should be.
    Idle,
}

impl Step {
    /// Whether only the operator's own notes change, of no interest to people.
    pub fn is_bookkeeping(&self) -> bool {
        matches!(self, Step::ChooseRingId | Step::AdoptRingId { .. } | Step::MarkClaim { .. })
    }

    /// In words for people.
    pub fn tell(&self) -> (Reason, String) {
        match self {
            Step::CreateStatefulSet { replicas } => (Reason::ScalingStatefulSet, format!("{replicas} pods are made")),
            Step::GrowStatefulSet { to } => (Reason::ScalingStatefulSet, format!("the pods grow to {to}")),
            Step::ShrinkStatefulSet { to } => {
                (Reason::ScalingStatefulSet, format!("pod {to} goes: no member needs it"))
            }
            Step::PruneClaim { ordinal, .. } => {
                (Reason::PruningStorage, format!("the volume of member {ordinal}, which left, is deleted"))
            }
            Step::RetireClaim { ordinal, .. } => {
                (Reason::PruningStorage, format!("the volume of member {ordinal}, which left, is kept"))
            }
            Step::MarkClaim { ordinal, .. } => {
                (Reason::MemberJoining, format!("the volume of member {ordinal} holds data now"))
            }
            Step::ChooseRingId => (Reason::Bootstrapping, "the ring gets its identity".into()),
            Step::AdoptRingId { ring_id } => (Reason::WaitingForHealthyRing, format!("members are of ring {ring_id}")),
            Step::Bootstrap { .. } => (Reason::Bootstrapping, "member 0 founds the ring".into()),
            Step::Join { ordinal, .. } => (Reason::MemberJoining, format!("member {ordinal} joins")),
            Step::Leave { ordinal } => (Reason::MemberLeaving, format!("member {ordinal} is asked to leave")),
            Step::AbortLeave { ordinal } => (Reason::MemberLeaving, format!("member {ordinal} is asked to stay")),
            Step::DropAbortLeave => {
                (Reason::AsExpected, format!("no member is leaving: the annotation {ABORT_LEAVE} is taken away"))
            }
            Step::Evict { id, .. } => {
                (Reason::MemberLost, format!("the volume of the member at {id} is gone; a new member takes its place"))
            }
            Step::Wait { reason, message } => (*reason, message.clone()),
            Step::Idle => (Reason::AsExpected, "the ring is as the spec says".into()),
        }
    }
}

fn wait(reason: Reason, message: impl Into<String>) -> Step {
    Step::Wait { reason, message: message.into() }
}

/// Decides.
pub fn plan(world: &World) -> Step {
    if world.paused {
        return wait(Reason::Paused, "spec.desiredState is Paused");
    }
    let Some(replicas) = world.replicas else {
        // Retained volumes come back as members, whatever the spec says now; then they leave in good order.
        let kept = world.claims.iter().filter(|(_, claim)| claim.ring_id.is_some() && !claim.retired);
        let kept = kept.map(|(ordinal, _)| ordinal + 1).max();
        return Step::CreateStatefulSet { replicas: world.desired.max(kept.unwrap_or(0)) };
    };
    prune(world, replicas)
        .or_else(|| identity(world))
        .or_else(|| finish_leave(world, replicas))
        .or_else(|| silence(world))
        .or_else(|| world.abort_leave.then_some(Step::DropAbortLeave))
        .or_else(|| joins(world))
        .or_else(|| scale(world, replicas))
        .or_else(|| starting(world))
        .or_else(|| healing(world))
        .unwrap_or(Step::Idle)
}

/// A pod and a claim above the StatefulSet's replicas belong to a member that has left: gone before its ordinal
/// exists again.
fn prune(world: &World, replicas: i32) -> Option<Step> {
    if let Some((ordinal, _)) = world.pods.range(replicas..).next() {
        return Some(wait(Reason::WaitingForPodDeletion, format!("pod {ordinal} of a member that left is ending")));
    }
    let (ordinal, claim) = world.claims.range(replicas..).find(|(_, claim)| world.prune || !claim.retired)?;
    if !world.prune {
        return Some(Step::RetireClaim { ordinal: *ordinal, uid: claim.uid.clone() });
    }
    if claim.terminating {
        return Some(wait(Reason::PruningStorage, format!("the claim of member {ordinal} is being deleted")));
    }
    // Evidence, not the count: no member may count on the disk that is on it.
    if let Some(disk) = &claim.disk {
        let counted = world
            .words
            .values()
            .flatten()
            .any(|word| word.members.iter().any(|listed| listed.disk == *disk && !listed.state.is_gone()));
        if counted {
            return Some(wait(
                Reason::VerifyingHandoff,
                format!("members still count on the volume of member {ordinal}"),
            ));
        }
        let anybody = world.words.values().flatten().any(|word| word.state == State::Serving);
        if !anybody {
            return Some(wait(Reason::OperatorCannotReachMembers, "no serving member answers; nothing is deleted"));
        }
    }
    Some(Step::PruneClaim { ordinal: *ordinal, uid: claim.uid.clone() })
}

/// The ring's identity, and the marks on the claims.
fn identity(world: &World) -> Option<Step> {
    let reported = world.words.values().flatten().find(|word| !word.ring_id.is_empty());
    if let Some(word) = reported
        && world.ring_id.as_ref() != Some(&word.ring_id)
    {
        return Some(Step::AdoptRingId { ring_id: word.ring_id.clone() });
    }
    if !world.persistent {
        return None;
    }
    let unmarked = world.words.iter().find_map(|(ordinal, word)| {
        let word = word.as_ref().ok().filter(|word| !word.ring_id.is_empty())?;
        let claim = world.claims.get(ordinal)?;
        let marked = claim.ring_id.as_ref() == Some(&word.ring_id) && claim.disk.as_ref() == Some(&word.disk);
        (!marked).then_some((*ordinal, word))
    });
    unmarked.map(|(ordinal, word)| Step::MarkClaim { ordinal, ring_id: word.ring_id.clone(), disk: word.disk.clone() })
}

/// A member that leaves finishes leaving before anything else happens.
fn finish_leave(world: &World, replicas: i32) -> Option<Step> {
    let top = replicas - 1;
    if let Some(ordinal) = world.in_state(State::Left).first().copied() {
        let leaver = world.word(ordinal)?;
        if ordinal != top {
            return Some(wait(Reason::LeaveStalled, format!("member {ordinal} has left but {top} is above it")));
        }
        if leaver.shards_held > 0 || leaver.retiring > 0 {
            return Some(wait(Reason::VerifyingHandoff, format!("member {ordinal} still holds shards")));
        }
        return Some(match world.is_whole_without(Some(leaver)) {
            Err(why) => wait(Reason::VerifyingHandoff, why),
            Ok(()) if !world.held_before => wait(Reason::VerifyingHandoff, "the evidence has to hold twice"),
            Ok(()) => Step::ShrinkStatefulSet { to: ordinal },
        });
    }
    let ordinal = world.in_state(State::Leaving).first().copied()?;
    if world.abort_leave {
        return Some(Step::AbortLeave { ordinal });
    }
    let word = world.word(ordinal)?;
    let way_out = format!("to take it back: kubectl annotate chordring {} {ABORT_LEAVE}=yes", world.ring);
    if !word.leave_blocked.is_empty() {
        return Some(wait(Reason::LeaveStalled, format!("member {ordinal}: {}; {way_out}", word.leave_blocked)));
    }
    let left = word.shards_held + word.retiring;
    if world.leave_quiet >= STALLED {
        let minutes = world.leave_quiet.as_secs() / 60;
        let text = format!("member {ordinal} got rid of no shard for {minutes} minutes, {left} to go; {way_out}");
        return Some(wait(Reason::LeaveStalled, text));
    }
    Some(wait(Reason::WaitingForHandoff, format!("member {ordinal} hands over, {left} shards to go")))
}

/// A member that says nothing may be dead or only out of reach: nothing is changed until it is known. A pod that never
/// was a member holds nobody up.
fn silence(world: &World) -> Option<Step> {
    let silent: Vec<_> = world.silent().into_iter().filter(|(ordinal, _)| world.is_counted_on(*ordinal)).collect();
    let (ordinal, why) = silent.first()?;
    let reason =
        if 2 * silent.len() > world.words.len() { Reason::OperatorCannotReachMembers } else { Reason::MemberLost };
    Some(wait(reason, format!("member {ordinal} does not answer ({why}); it heals by itself when its pod is back")))
}

/// Pods that have not said a word yet.
fn starting(world: &World) -> Option<Step> {
    let silent = world.silent();
    let (ordinal, why) = silent.first()?;
    Some(wait(Reason::MemberStarting, format!("pod {ordinal} is starting ({why})")))
}

/// Nothing is to be done but wait: the ring makes itself whole.
fn healing(world: &World) -> Option<Step> {
    let why = world.is_whole_without(None).err()?;
    Some(wait(Reason::WaitingForHealthyRing, format!("the ring is making itself whole: {why}")))
}

/// Empty members join one by one; each next only when the ring is whole again.
fn joins(world: &World) -> Option<Step> {
    if let Some(ordinal) = world.in_state(State::Joining).first() {
        return Some(wait(Reason::MemberJoining, format!("shards are on their way to member {ordinal}")));
    }
    if let Some(ordinal) = world.in_state(State::Evicted).first() {
        let (pod, text) = (world.name(*ordinal), "was declared lost, and its data is of no use any more");
        let way_out = format!("kubectl delete pvc data-{pod} --wait=false && kubectl delete pod {pod}");
        return Some(wait(Reason::MemberLost, format!("member {ordinal} {text}; to start anew: {way_out}")));
    }
    let empty = world.in_state(State::Empty);
    let serving = world.in_state(State::Serving);
    // Also of a place that is to go: the ring would count on its old member for ever.
    if let Some(step) = lost_volumes(world, &empty, &serving) {
        return Some(step);
    }
    let ordinal = empty.iter().copied().find(|ordinal| *ordinal < world.desired)?;
    if serving.is_empty() {
        return starting(world).or_else(|| Some(bootstrap(world)));
    }
    if let Err(why) = world.is_whole_without(None) {
        return Some(wait(
            Reason::WaitingForHealthyRing,
            format!("member {ordinal} joins once the ring is whole: {why}"),
        ));
    }
    let seeds = serving.iter().filter_map(|ordinal| Some(world.word(*ordinal)?.internal_addr.clone())).collect();
    Some(Step::Join { ordinal, seeds })
}

/// The same place with another disk: the volume was lost, and with it the member that was there.
fn lost_volumes(world: &World, empty: &[i32], serving: &[i32]) -> Option<Step> {
    let evictions = empty.iter().filter_map(|ordinal| {
        let word = world.word(*ordinal)?;
        serving.iter().filter_map(|other| Some((*other, world.word(*other)?))).find_map(|(through, other)| {
            let mut listed = other.members.iter();
            let listed =
                listed.find(|listed| listed.id == word.id && listed.disk != word.disk && !listed.state.is_gone())?;
            Some((*ordinal, Step::Evict { through, id: listed.id.clone(), disk: listed.disk.clone() }))
        })
    });
    let evictions: Vec<(i32, Step)> = evictions.collect();
    let unavailable: u32 = world.words.values().flatten().map(|word| word.unavailable).sum();
    // So many copies may go without a majority of any shard's going.
    let spare = (world.replication_factor - 1) / 2;
    if !evictions.is_empty() && (evictions.len() > usize::try_from(spare).unwrap_or(0) || unavailable > 0) {
        let lost: Vec<String> = evictions.iter().map(|(ordinal, _)| ordinal.to_string()).collect();
        let text = format!(
            "the volumes of members {} are gone, and keys may have no majority of their copies left; nothing is changed: \
             bring a volume back, or delete the ring and its claims and found it anew",
            lost.join(", ")
        );
        return Some(wait(Reason::PotentialDataLoss, text));
    }
    evictions.into_iter().next().map(|(_, step)| step)
}

/// Founds the ring, exactly once: only through ordinal 0, and only when nothing at all says that it exists.
fn bootstrap(world: &World) -> Step {
    if let Some((ordinal, _)) = world.claims.iter().find(|(_, claim)| claim.ring_id.is_some()) {
        return wait(
            Reason::WaitingForHealthyRing,
            format!(
                "the volume of member {ordinal} holds data of a ring: it has to serve again, no new ring is founded"
            ),
        );
    }
    if world.word(0).is_none_or(|word| word.state != State::Empty) {
        return wait(Reason::WaitingForHealthyRing, "member 0 founds the ring; it is not ready for that");
    }
    match &world.ring_id {
        None => Step::ChooseRingId,
        Some(ring_id) => Step::Bootstrap { ring_id: ring_id.clone() },
    }
}

/// Grows or shrinks toward the spec.
fn scale(world: &World, replicas: i32) -> Option<Step> {
    let desired = world.desired;
    if replicas < desired {
        // An ordinal that comes back starts empty: whatever was on its volume left with the member that was there.
        let old = |(_, claim): &(&i32, &Claim)| claim.terminating || claim.retired || claim.ring_id.is_some();
        if let Some((ordinal, _)) = world.claims.range(replicas..desired).find(old) {
            let claim = format!("data-{}", world.name(*ordinal));
            let text = format!(
                "the kept volume of member {ordinal} is in the way; when nobody needs it: kubectl delete pvc {claim}"
            );
            return Some(wait(Reason::ScaleUpDeferred, text));
        }
        return Some(Step::GrowStatefulSet { to: desired });
    }
    if replicas == desired {
        return None;
    }
    let top = replicas - 1;
    let Some(word) = world.word(top) else {
        // It never was a member, or silence had been noticed before.
        return (!world.in_state(State::Serving).is_empty()).then_some(Step::ShrinkStatefulSet { to: top });
    };
    match word.state {
        State::Empty if word.ring_id.is_empty() => Some(Step::ShrinkStatefulSet { to: top }),
        State::Serving => Some(match world.is_whole_without(None) {
            Err(why) => {
                wait(Reason::WaitingForHealthyRing, format!("member {top} leaves once the ring is whole: {why}"))
            }
            Ok(()) if desired < world.replication_factor => {
                wait(Reason::InvalidSpec, "fewer members than copies of each key")
            }
            Ok(()) => Step::Leave { ordinal: top },
        }),
        State::Empty | State::Joining | State::Leaving | State::Left | State::Evicted => {
            Some(wait(Reason::WaitingForHealthyRing, format!("member {top} is {:?}", word.state)))
        }
    }
}

#[cfg(test)]
mod tests;
