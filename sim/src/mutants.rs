//! Mutants: cores that do without one safety rule. Each must be caught, or nothing shows that the rule is needed.
use crate::{
    Scenario,
    model::{explore::explore, scenarios, shard::Shard},
    run_without,
};
use chord::rules::Rule;

/// What catches a mutant.
#[derive(Clone, Copy, Debug)]
pub enum Catcher {
    /// A model of a shard.
    Shard(&'static str),
    /// Seeds of the simulator's swarm, from this one on.
    Swarm(u64),
}

/// How a mutant was caught.
pub struct Caught {
    /// By what.
    pub by: String,
    /// What was wrong, in a few words.
    pub wrong: String,
    /// A shortest trace of a model, or the number of events of a run.
    pub trace: Vec<String>,
    /// Steps of it.
    pub steps: u64,
}

/// Transitions after which a model gives a mutant up.
const STATES_MAX: usize = 1_500_000;
/// Seeds after which the simulator gives a mutant up.
const SEEDS_MAX: u64 = 400;

/// What catches the core without a rule; `None`: nothing does yet.
pub fn catcher(rule: Rule) -> Option<Catcher> {
    Some(match rule {
        Rule::ConfirmReads | Rule::ReadMajorityFirst | Rule::BallotLeadsVersion | Rule::PromiseBinds => {
            Catcher::Shard("two-leaders")
        }
        Rule::AckMajority | Rule::UnknownIsSaid => Catcher::Shard("two-leaders"),
        Rule::RecommitOnFirstTouch => Catcher::Shard("three-leaders"),
        Rule::ScanCommitted => Catcher::Shard("lost-session"),
        Rule::RememberOps => Catcher::Shard("retries"),
        Rule::ExpireByTombstone => Catcher::Shard("expiry"),
        Rule::DiskNamesMember => Catcher::Shard("wiped-disk"),
        Rule::PersistFirst => Catcher::Shard("crash"),
        Rule::EpochBinds | Rule::LeaveEmptyHanded | Rule::CutLists | Rule::Probe => Catcher::Swarm(0),
        Rule::SealIsFinished => Catcher::Swarm(71),
        Rule::SealMajority => Catcher::Swarm(134),
        Rule::TransferMajority => Catcher::Swarm(16),
        Rule::TombstoneAge => Catcher::Swarm(49),
        Rule::RectifyDead => Catcher::Swarm(186),
        _ => return None,
    })
}

/// Catches the core without a rule.
///
/// # Errors
/// What was tried in vain.
pub fn catch(rule: Rule) -> Result<Caught, String> {
    match catcher(rule).ok_or("nothing catches it yet")? {
        Catcher::Shard(name) => {
            let scenario = scenarios::shard(name, Some(rule));
            let explored = explore(Shard::new(scenario), STATES_MAX);
            let (wrong, trace) = explored
                .violation
                .ok_or_else(|| format!("the model {name} finds nothing in {} states", explored.states))?;
            Ok(Caught { by: format!("model {name}"), wrong: wrong.into(), steps: trace.len() as u64, trace })
        }
        Catcher::Swarm(first) => {
            let seeds = (first..first + SEEDS_MAX).chain(0..first);
            for seed in seeds {
                let report = run_without(Some(rule), Scenario::Swarm, seed, false);
                if let Some(failure) = report.failure {
                    let wrong = failure.split(['\n', '{']).next().unwrap_or_default().trim().to_owned();
                    let trace = Vec::new();
                    return Ok(Caught { by: format!("swarm, seed {seed}"), wrong, trace, steps: report.steps });
                }
            }
            Err(format!("no seed in {SEEDS_MAX} fails"))
        }
    }
}
