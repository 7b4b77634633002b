//! Orders of events that lie too deep for a search: each is one path through a scenario, in words of its actions.
use super::{
    scenarios,
    shard::{Action, Action::*, Shard},
};
use chord::rules::Rule;
use stateright::{Expectation, Model, Property};
use std::fmt::Debug;

/// Path by which a replica that a rule protects would break its word: scenario and actions.
fn path(rule: Rule) -> Option<(&'static str, &'static [Action])> {
    Some(match rule {
        // 0 has sealed in favour of {0,1,4} alone; 1, which leads without it and hears from it later, has {0,1,2} decided
        // by itself and 3; 3 finds both seals.
        Rule::HighestSealWins => (
            "rival-configurations",
            &[
                Deliver(0, 4),
                Deliver(4, 0),
                Suspect(1, 0),
                Deliver(1, 0),
                Deliver(1, 3),
                Deliver(3, 1),
                Deliver(0, 1),
                Tick(1),
                Deliver(1, 2),
                Deliver(2, 1),
                Deliver(1, 3),
                Deliver(3, 1),
                Handover(3),
                Deliver(3, 0),
                Deliver(0, 3),
                Deliver(3, 0),
                Deliver(0, 3),
                Deliver(3, 0),
            ],
        ),
        // A write is on 0 and 2; 0 seals there; 1, which lacks it, finishes the seal with 2.
        Rule::TransferMajority => (
            "rival-sealers",
            &[
                Ask(0),
                Deliver(0, 2),
                Deliver(2, 0),
                Deliver(0, 3),
                Deliver(3, 0),
                Deliver(0, 2),
                Suspect(1, 0),
                Deliver(1, 2),
                Deliver(2, 1),
                Deliver(1, 2),
                Deliver(2, 1),
                Deliver(1, 2),
            ],
        ),
        // 2 misses the delete; 0 and 1 compare twice and drop the tombstone; then 2 leads with its old copy.
        Rule::TombstoneEverywhere => (
            "tombstones",
            &[
                Ask(0),
                Break(0, 2),
                Deliver(0, 1),
                Deliver(1, 0),
                Suspect(0, 2),
                Tick(0),
                Deliver(0, 1),
                Deliver(1, 0),
                Tick(0),
                Deliver(0, 1),
                Deliver(1, 0),
                Deliver(0, 1),
                Handover(2),
                Deliver(2, 1),
                Deliver(1, 2),
                Ask(1),
                Deliver(2, 1),
                Deliver(1, 2),
                Deliver(2, 1),
                Deliver(1, 2),
                Deliver(2, 1),
                Deliver(1, 2),
            ],
        ),
        // 0 has sealed in favour of {1,2,3} alone; 1 leads without it and lets 3 go; 2 finds the seal.
        Rule::RetireWhenUnsealed => (
            "newcomer-leaves",
            &[
                Deliver(0, 3),
                Deliver(3, 0),
                Break(0, 1),
                Break(0, 2),
                Suspect(1, 0),
                Deliver(1, 2),
                Deliver(2, 1),
                Leave(3),
                Tick(3),
                Deliver(3, 1),
                Deliver(1, 3),
                Tick(3),
                Handover(2),
                Deliver(2, 0),
                Deliver(0, 2),
                Deliver(2, 0),
                Deliver(0, 2),
            ],
        ),
        // 1 leads and moves the shard on; 0, which has heard nothing of that, leads the old configuration with 1's word.
        Rule::EpochBinds => (
            "old-leader-writes",
            &[
                Suspect(1, 0),
                Deliver(1, 0),
                Deliver(0, 1),
                Deliver(1, 3),
                Deliver(3, 1),
                Deliver(1, 2),
                Deliver(2, 1),
                Break(1, 0),
                Tick(0),
                Deliver(0, 1),
                Deliver(1, 0),
                Ask(0),
                Deliver(0, 1),
                Deliver(1, 0),
                Deliver(1, 3),
            ],
        ),
        _ => return None,
    })
}

/// Walks a rule's path with cores that have it, or do without. The scenario's name, the steps taken, and what is wrong.
///
/// # Errors
/// When there is no path for the rule.
pub fn walk(rule: Rule, without: Option<Rule>) -> Result<(&'static str, Vec<String>, Option<&'static str>), String> {
    let (name, actions) = path(rule).ok_or("there is no path for this rule")?;
    let (steps, wrong) = follow(&Shard::new(scenarios::shard(name, without)), actions);
    Ok((name, steps, wrong))
}

/// Follows a path until something is wrong.
fn follow<M: Model>(model: &M, actions: &[M::Action]) -> (Vec<String>, Option<&'static str>)
where
    M::Action: Copy + PartialEq + Debug,
{
    let mut state = model.init_states().remove(0);
    let mut steps = Vec::new();
    for action in actions {
        let mut enabled = Vec::new();
        model.actions(&state, &mut enabled);
        // With the rule in force the path may leave what the mutant does: there is nothing to deliver.
        if let Some(next) = enabled.contains(action).then(|| model.next_state(&state, *action)).flatten() {
            state = next;
            steps.push(format!("{action:?}"));
        }
        let broken = |property: &Property<M>| {
            property.expectation == Expectation::Always && !(property.condition)(model, &state)
        };
        if let Some(property) = model.properties().iter().find(|property| broken(property)) {
            return (steps, Some(property.name));
        }
    }
    (steps, None)
}
