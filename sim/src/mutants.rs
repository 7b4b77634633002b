//! Mutants: cores that do without one safety rule. Each must be caught, or nothing shows that the rule is needed.
use crate::{
    Scenario,
    model::{
        explore::{Explored, explore},
        ring::RingModel,
        scenarios, scripts,
        shard::Shard,
    },
    run_without,
};
use chord::rules::Rule;
use std::{fmt::Write as _, path::PathBuf};

/// What catches a mutant.
#[derive(Clone, Copy, Debug)]
pub enum Catcher {
    /// A model of a shard.
    Shard(&'static str),
    /// A model of the ring.
    Ring(&'static str),
    /// A path of its own through a model, too long for a search.
    Path,
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

/// What catches the core without a rule. `Err`: nothing does, and why that may be.
pub fn catcher(rule: Rule) -> Result<Catcher, &'static str> {
    Ok(match rule {
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
        Rule::EpochBinds | Rule::LeaveEmptyHanded => Catcher::Swarm(0),
        Rule::SealIsFinished => Catcher::Swarm(71),
        Rule::SealMajority => Catcher::Swarm(134),
        Rule::TombstoneAge => Catcher::Swarm(49),
        Rule::HighestSealWins | Rule::TransferMajority | Rule::TombstoneEverywhere => Catcher::Path,
        Rule::RectifyDead | Rule::CutLists => Catcher::Ring("ring-3"),
        Rule::OrphanRejoins => {
            return Err("the ring falls in two more easily, and repairs all the same");
        }
        Rule::AdoptJoiner => Catcher::Ring("ring-joins"),
        Rule::Probe | Rule::OnlyMembersCount => Catcher::Ring("ring-leave"),
        Rule::LateReply => Catcher::Ring("ring-late-leave"),
        Rule::RememberFirst => return Err("it takes a crash within a sync and the operator's change of mind"),
        Rule::LeavingTakesNothing | Rule::RetireWhenUnsealed => {
            return Err("it takes a seal that outlives two moves; the word that a newcomer keeps covers most of it");
        }
    })
}

fn of(name: &str, explored: Explored) -> Result<Caught, String> {
    let nothing = || format!("the model {name} finds nothing in {} states", explored.states);
    let (wrong, trace) = explored.violation.ok_or_else(nothing)?;
    Ok(Caught { by: format!("model {name}"), wrong: format!("not: {wrong}"), steps: trace.len() as u64, trace })
}

/// Catches the core without a rule.
///
/// # Errors
/// What was tried in vain.
pub fn catch(rule: Rule) -> Result<Caught, String> {
    match catcher(rule)? {
        Catcher::Shard(name) => of(name, explore(Shard::new(scenarios::shard(name, Some(rule))), STATES_MAX)),
        Catcher::Ring(name) => of(name, explore(RingModel::new(scenarios::ring(name, Some(rule))), STATES_MAX)),
        Catcher::Path => {
            let (name, trace, wrong) = scripts::walk(rule, Some(rule))?;
            let wrong = wrong.ok_or_else(|| format!("nothing is wrong at the end of its path {}", trace.join(" ")))?;
            let (by, wrong) = (format!("a path through {name}"), format!("not: {wrong}"));
            Ok(Caught { by, wrong, steps: trace.len() as u64, trace })
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

/// Where the table is kept.
pub fn docs() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/mutants.md"))
}

/// The table as a page.
pub fn page(all: &[(Rule, Caught)]) -> String {
    let mut page = String::from(HEAD);
    for (rule, caught) in all {
        // Seeds and lengths of the simulator's runs change with every change of the core; a model's trace says something.
        let (by, length) = match caught.trace.is_empty() {
            true => ("swarm".to_owned(), "a run of a seed".to_owned()),
            false => (caught.by.clone(), format!("{} steps", caught.steps)),
        };
        let _ = writeln!(page, "| {rule:?} | {} | {by} | {length} |", rule.protects());
    }
    page.push_str(
        "\n## Survivors\n\nNothing here fails without these; they stay, and deeper searches are welcome:\n\n",
    );
    for rule in Rule::ALL {
        if let Err(why) = catcher(*rule) {
            let _ = writeln!(page, "* **{rule:?}**: {} Not caught: {why}.", rule.protects());
        }
    }
    page.push_str("\n## Traces\n");
    for (rule, caught) in all.iter().filter(|(_, caught)| !caught.trace.is_empty()) {
        let trace = caught.trace.join(", ");
        let _ = writeln!(page, "\n**{rule:?}** ({}, {}): {trace}", caught.by, caught.wrong);
    }
    page
}

const HEAD: &str = "# Mutants

Generated by `cargo run --release -p sim -- mutants --write`; a test compares it. Each safety rule of the core has a
switch that only tests can turn off (`chord::rules`). With a rule off, a model of the shipped core or the simulator's
swarm of seeds must fail. The trace of a model is a shortest one, a path is one that was written for it. Models: `sim/src/model`.

Not rules of the core, and so without a switch:
* *A leaderless read returns no minority's maximum*: the core has no leaderless reads. `stale_ok` reads one copy and
  promises nothing.
* *One ordered session per ballot*: the transport's part of the contract; the simulator breaks sessions, never their order.
* *A replica accepts no data after a seal*: the seal is also a promise, and its leader writes nothing after it. Switched
  off alone it changes nothing; what it is there for is switched by `PromiseBinds`, `SealIsFinished` and `SealMajority`.
* *A candidate is asked before it is adopted*: Zave asks for it; no model that we know of shows its need.

| rule | what it protects | caught by | trace |
|---|---|---|---|
";
