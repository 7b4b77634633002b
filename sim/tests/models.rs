//! The models' quick set, and every mutant.
use chord::rules::Rule;
use sim::{
    model::{explore::explore, ring::RingModel, scenarios, scripts, shard::Shard},
    mutants,
};

/// Transitions of each scenario here, unless `TRANSITIONS` says otherwise; `make prove` explores more.
const QUICK: usize = 60_000;

fn transitions() -> usize {
    match std::env::var("TRANSITIONS") {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("TRANSITIONS must be a number, not {text:?}")),
        Err(_) => QUICK,
    }
}

#[test]
fn shard_keeps_its_promise_in_every_order_of_events() {
    for scenario in scenarios::SHARD {
        let explored = explore(|| Shard::new(scenario.clone()), transitions());
        assert!(explored.violation.is_none(), "{}: {:?}", scenario.name, explored.violation);
        assert!(!explored.whole || explored.never.is_none(), "{}: never {:?}", scenario.name, explored.never);
    }
}

#[test]
fn ring_repairs_from_every_state() {
    for scenario in scenarios::RING {
        let explored = explore(|| RingModel::new(scenario.clone()), transitions() / 2);
        assert!(explored.violation.is_none(), "{}: {:?}", scenario.name, explored.violation);
    }
}

#[test]
fn every_mutant_is_caught_as_the_docs_say() {
    let (mut all, mut missed) = (Vec::new(), Vec::new());
    for rule in Rule::ALL.iter().copied() {
        match mutants::catch(rule) {
            Ok(caught) => all.push((rule, caught)),
            Err(why) => missed.push(format!("{rule:?}: {why}")),
        }
    }
    assert!(missed.is_empty(), "{missed:#?}");
    let kept = std::fs::read_to_string(mutants::docs()).expect("docs/mutants.md is part of the sources");
    let page = mutants::page(&all);
    assert!(kept == page, "docs/mutants.md is old: cargo run --release -p sim -- mutants --write");
}

#[test]
fn paths_are_harmless_with_every_rule_in_force() {
    for rule in Rule::ALL {
        if let Ok((name, steps, wrong)) = scripts::walk(*rule, None) {
            assert_eq!(wrong, None, "{rule:?} through {name}: {steps:?}");
        }
    }
}
