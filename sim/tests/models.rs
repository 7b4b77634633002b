//! The models' quick set, and every mutant.
use chord::rules::Rule;
use sim::{
    model::{explore::explore, scenarios, shard::Shard},
    mutants,
};

/// Transitions of each scenario here; `make prove` explores more.
const QUICK: usize = 60_000;

#[test]
fn shipped_core_keeps_its_promise_in_every_order_of_events() {
    for scenario in scenarios::SHARD {
        let explored = explore(Shard::new(scenario.clone()), QUICK);
        assert!(explored.violation.is_none(), "{}: {:?}", scenario.name, explored.violation);
        assert!(!explored.whole || explored.never.is_none(), "{}: never {:?}", scenario.name, explored.never);
    }
}

#[test]
fn every_mutant_is_caught() {
    let caught = |rule: &&Rule| mutants::catcher(**rule).is_some();
    let missed: Vec<String> = Rule::ALL
        .iter()
        .filter(caught)
        .filter_map(|rule| Some(format!("{rule:?}: {}", mutants::catch(*rule).err()?)))
        .collect();
    assert!(missed.is_empty(), "{missed:#?}");
}
