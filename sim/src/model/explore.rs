//! Runs a model to its end, or to a bound, and says which.
use stateright::{Checker as _, Expectation, HasDiscoveries, Model};
use std::{fmt::Debug, hash::Hash, time::Instant};

/// What came of an exploration.
pub struct Explored {
    /// Transitions.
    pub states: usize,
    /// Different states.
    pub unique: usize,
    /// Steps from the beginning to the farthest of them.
    pub depth: usize,
    /// Every state within the scenario's budgets was visited.
    pub whole: bool,
    /// Property that does not hold, and the actions that show it.
    pub violation: Option<(&'static str, Vec<String>)>,
    /// What should happen at some time, but did not.
    pub never: Option<&'static str>,
    /// Wall-clock time.
    pub seconds: f64,
}

/// Explores breadth first, at most `states_max` transitions. The trace of a violation is a shortest one.
pub fn explore<M>(make: impl Fn() -> M, states_max: usize) -> Explored
where
    M: Model + Send + Sync + 'static,
    M::State: Debug + Hash + Send + Sync + Clone + PartialEq + 'static,
    M::Action: Debug + Send + Sync + Clone + PartialEq + 'static,
{
    let mut explored = explore_to(make(), states_max, usize::MAX);
    // The checker looks at its findings from time to time only, and may have gone deeper since the first of them.
    while let Some((_, trace)) = &explored.violation {
        let shorter = explore_to(make(), states_max, trace.len());
        if shorter.violation.is_none() {
            break;
        }
        explored = shorter;
    }
    explored
}

/// Explores on one thread, no farther than to the state at `depth_max`; the first one is at 1.
fn explore_to<M>(model: M, states_max: usize, depth_max: usize) -> Explored
where
    M: Model + Send + Sync + 'static,
    M::State: Debug + Hash + Send + Sync + Clone + PartialEq + 'static,
    M::Action: Debug + Send + Sync + Clone + PartialEq + 'static,
{
    let start = Instant::now();
    let properties = model.properties();
    let checker = model.checker().target_state_count(states_max).finish_when(HasDiscoveries::AnyFailures);
    let checker = checker.target_max_depth(depth_max).spawn_bfs().join();
    let found = checker.discoveries();
    let of = |expectation: Expectation| properties.iter().filter(move |property| property.expectation == expectation);
    let traces = of(Expectation::Always).filter_map(|property| {
        let path = found.get(property.name)?.clone();
        Some((property.name, path.into_actions().iter().map(|action| format!("{action:?}")).collect::<Vec<_>>()))
    });
    let violation = traces.min_by_key(|(_, trace)| trace.len());
    let never = of(Expectation::Sometimes).map(|property| property.name).find(|name| !found.contains_key(name));
    Explored {
        states: checker.state_count(),
        unique: checker.unique_state_count(),
        depth: checker.max_depth().saturating_sub(1),
        whole: violation.is_none() && checker.state_count() < states_max,
        violation,
        never,
        seconds: start.elapsed().as_secs_f64(),
    }
}
