//! What no step may do, checked apart from what planned it.
use crate::{
    plan::Step,
    world::{State, World},
};

/// Refuses a step that would break a promise; says which.
pub fn check(world: &World, step: &Step) -> Result<(), String> {
    match step {
        Step::ShrinkStatefulSet { to } => {
            let replicas = world.replicas.ok_or("there is no StatefulSet to shrink")?;
            if *to != replicas - 1 {
                return Err(format!("a StatefulSet shrinks one by one, not from {replicas} to {to}"));
            }
            let Some(word) = world.word(*to) else {
                let serves = !world.in_state(State::Serving).is_empty();
                return if serves && !world.is_counted_on(*to) {
                    Ok(())
                } else {
                    Err("the top member does not answer".into())
                };
            };
            let mut listed = world.words.values().flatten().flat_map(|other| &other.members);
            let counted = listed.any(|listed| listed.id == word.id && !listed.state.is_gone());
            match word.state {
                State::Empty if word.ring_id.is_empty() && !counted => Ok(()),
                State::Left if word.shards_held == 0 && world.held_before => world.is_whole_without(Some(word)),
                state => Err(format!("the top member is {state:?}")),
            }
        }
        Step::PruneClaim { ordinal, .. } => {
            if world.replicas.is_none_or(|replicas| *ordinal < replicas) || world.pods.contains_key(ordinal) {
                return Err(format!("the claim of member {ordinal} is in use"));
            }
            let disk = world.claims.get(ordinal).and_then(|claim| claim.disk.clone());
            let counted = world
                .words
                .values()
                .flatten()
                .flat_map(|word| &word.members)
                .any(|listed| Some(&listed.disk) == disk.as_ref() && !listed.state.is_gone());
            if counted { Err(format!("members count on the volume of member {ordinal}")) } else { Ok(()) }
        }
        Step::Bootstrap { .. } => {
            let exists = world.claims.values().any(|claim| claim.ring_id.is_some())
                || world.words.values().flatten().any(|word| !word.ring_id.is_empty());
            if exists { Err("a ring exists already".into()) } else { Ok(()) }
        }
        Step::Leave { ordinal } => {
            let busy = world.words.values().flatten().any(|word| matches!(word.state, State::Leaving | State::Joining));
            if busy || world.replicas != Some(ordinal + 1) {
                return Err("one member at a time, from the top".into());
            }
            Ok(())
        }
        Step::GrowStatefulSet { to } => {
            let replicas = world.replicas.unwrap_or(0);
            let poison = world.prune && world.claims.range(replicas..*to).any(|(_, claim)| claim.ring_id.is_some());
            if poison { Err("an old volume would come back as a new member".into()) } else { Ok(()) }
        }
        Step::Evict { disk, .. } => {
            let lives = world.words.values().flatten().any(|word| word.disk == *disk);
            if lives { Err("a member that answers is not lost".into()) } else { Ok(()) }
        }
        Step::CreateStatefulSet { .. }
        | Step::MarkClaim { .. }
        | Step::RetireClaim { .. }
        | Step::ChooseRingId
        | Step::AdoptRingId { .. }
        | Step::Join { .. }
        | Step::AbortLeave { .. }
        | Step::DropAbortLeave
        | Step::Wait { .. }
        | Step::Idle => Ok(()),
    }
}
