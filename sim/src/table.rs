//! What the models and the mutants show, as tables.
use chord::rules::Rule;
use sim::{
    model::{
        explore::{Explored, explore},
        ring::{self, RingModel},
        scenarios,
        shard::{self, Shard},
    },
    mutants,
};
use std::process::ExitCode;

/// Explores every scenario, or the one of a name.
pub fn models(name: Option<&str>, states: usize, without: Option<&str>) -> ExitCode {
    let mut good = true;
    let without = without.and_then(|without| Rule::ALL.iter().copied().find(|rule| format!("{rule:?}") == without));
    println!("{:<22} {:>10} {:>9} {:>5} {:>7}  verdict", "scenario", "states", "unique", "depth", "seconds");
    for scenario in scenarios::SHARD.iter().filter(|scenario| name.is_none_or(|name| scenario.name == name)) {
        let explored = explore(|| Shard::new(shard::Scenario { without, ..scenario.clone() }), states);
        good &= row(scenario.name, &explored);
    }
    for scenario in scenarios::RING.iter().filter(|scenario| name.is_none_or(|name| scenario.name == name)) {
        let explored = explore(|| RingModel::new(ring::Scenario { without, ..scenario.clone() }), states);
        good &= row(scenario.name, &explored);
    }
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn row(name: &str, explored: &Explored) -> bool {
    let Explored { states, unique, depth, whole, violation, never, seconds } = explored;
    let verdict = match (violation, never, whole) {
        (Some((property, _)), _, _) => format!("NOT {property}"),
        (None, Some(what), true) => format!("never: {what}"),
        (None, _, true) => "holds, every state".to_owned(),
        (None, _, false) => format!("holds, to depth {}", depth.saturating_sub(1)),
    };
    println!("{name:<22} {states:>10} {unique:>9} {depth:>5} {seconds:>7.1}  {verdict}");
    if let Some((_, trace)) = violation {
        println!("    {}", trace.join(" "));
    }
    violation.is_none() && !(*whole && never.is_some())
}

/// Catches every mutant, or the one without a rule; with `write`, says so in the docs.
pub fn mutants(rule: Option<&str>, write: bool) -> ExitCode {
    let mut good = true;
    let mut all = Vec::new();
    for rule in Rule::ALL.iter().copied().filter(|known| rule.is_none_or(|name| format!("{known:?}") == name)) {
        let name = format!("{rule:?}");
        match mutants::catch(rule) {
            Ok(caught) => {
                println!("{name:<22} {:<24} {:>6} steps  {}", caught.by, caught.trace.len(), caught.wrong);
                all.push((rule, caught));
            }
            Err(why) => {
                good = false;
                println!("{name:<22} NOT CAUGHT: {why}");
            }
        }
    }
    if good && write {
        let path = mutants::docs();
        if let Err(why) = std::fs::write(&path, mutants::page(&all)) {
            println!("cannot write {}: {why}", path.display());
            good = false;
        }
    }
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
