//! The simulator's own checker against another one, on thousands of small histories: both must say the same.
use chord::shard::{config::Ballot, record::Version};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use sim::{
    history::{Facts, Kind, Op, Told, Value},
    linearize,
};
use todc_utils::{
    Action::{Call, Response},
    History, Specification, WGLChecker,
};

/// Histories looked at.
const HISTORIES: u32 = 20_000;

/// The revision that a value makes.
fn revision(value: Value) -> Version {
    Version { epoch: 1, ballot: Ballot(16), seq: u64::from(value) }
}

/// One key, as the other checker is told about it. The state is the value; 0 is none.
struct Key;

impl Specification for Key {
    type State = Value;
    type Operation = (Kind, Option<Told>);

    fn init() -> Value {
        0
    }

    fn apply((kind, told): &Self::Operation, state: &Value) -> (bool, Value) {
        let state = *state;
        let now = (state != 0).then(|| revision(state));
        match (*kind, *told) {
            (Kind::Get, Some(Told::Value(seen))) => (seen.map_or(0, |(value, _)| value) == state, state),
            (Kind::Put { value, .. }, Some(Told::Written(_)) | None) => (true, value),
            (Kind::Delete, Some(Told::Deleted(existed))) => (existed == (state != 0), 0),
            (Kind::Delete, None) => (true, 0),
            (Kind::Cas { expected, value }, Some(Told::Compared { applied: true, .. })) => (expected == now, value),
            (Kind::Cas { expected, .. }, Some(Told::Compared { revision, .. })) => {
                (expected != now && revision == now, state)
            }
            (Kind::Cas { expected, value }, None) => (true, if expected == now { value } else { state }),
            (kind, told) => panic!("{kind:?} is not answered by {told:?}"),
        }
    }
}

/// What the other checker says. It wants every operation to end, so that one of unknown outcome ends after all others,
/// or never happened: some choice of these must do.
fn other(ops: &[Op]) -> bool {
    let unknown: Vec<usize> = (0..ops.len()).filter(|index| ops[*index].told.is_none()).collect();
    (0..1u32 << unknown.len()).any(|choice| {
        let left_out =
            |index: &usize| unknown.iter().position(|of| of == index).is_some_and(|bit| choice >> bit & 1 == 0);
        let mut actions = Vec::new();
        for (index, op) in ops.iter().enumerate().filter(|(index, _)| !left_out(index)) {
            actions.push((op.invoke, (index, Call((op.kind, op.told)))));
            actions.push((op.ret, (index, Response((op.kind, op.told)))));
        }
        actions.sort_by_key(|(at, _)| *at);
        actions.is_empty()
            || WGLChecker::<Key>::is_linearizable(History::from_actions(actions.into_iter().map(|(_, a)| a).collect()))
    })
}

/// Operations of some clients on one key, answered as a register would that applies each at some moment: within the
/// operation, or in every other history somewhere near it, and with one answer changed in some.
fn history(rng: &mut ChaCha8Rng) -> Vec<Op> {
    let count = rng.random_range(2..=9);
    let length = rng.random_range(3..=40);
    let slack = if rng.random_bool(0.5) { 0 } else { 8 };
    let mut plan: Vec<(u64, Op)> = (0..count)
        .map(|client| {
            let invoke = 1000 * rng.random_range(0..40) + client as u64;
            let end = invoke + 1000 * rng.random_range(1..=length);
            let at = rng.random_range(invoke.saturating_sub(1000 * slack)..=end + 1000 * slack);
            let value = client as Value + 1;
            let kind = match rng.random_range(0..10) {
                0..=2 => Kind::Get,
                3..=5 => Kind::Put { value, ttl: None },
                6 => Kind::Delete,
                _ => {
                    let expected = rng.random_range(0..=count as Value);
                    let value = if rng.random_bool(0.2) { 0 } else { value };
                    Kind::Cas { expected: (expected != 0).then(|| revision(expected)), value }
                }
            };
            (at, Op { client, kind, invoke, ret: end, told: None })
        })
        .collect();
    plan.sort_by_key(|(at, _)| *at);
    let mut state = 0;
    let mut ops: Vec<Op> = Vec::new();
    for (_, mut op) in plan {
        let now = |state: Value| (state != 0).then(|| revision(state));
        let unknown = op.kind != Kind::Get && rng.random_bool(0.15);
        let before = state;
        let (next, told) = match op.kind {
            Kind::Get => (state, Told::Value((state != 0).then(|| (state, revision(state))))),
            Kind::Put { value, .. } => (value, Told::Written(revision(value))),
            Kind::Delete => (0, Told::Deleted(state != 0)),
            Kind::Cas { expected, value } if expected == now(state) => {
                (value, Told::Compared { applied: true, revision: now(value) })
            }
            Kind::Cas { .. } => (state, Told::Compared { applied: false, revision: now(state) }),
        };
        state = next;
        if unknown {
            op.ret = u64::MAX - op.client as u64;
            if rng.random_bool(0.5) {
                state = before;
            }
        } else {
            op.told = Some(told);
        }
        ops.push(op);
    }
    if rng.random_bool(0.3) {
        let index = rng.random_range(0..ops.len());
        let value = rng.random_range(0..=count as Value);
        let now = (value != 0).then(|| revision(value));
        ops[index].told = match ops[index].told {
            Some(Told::Value(_)) => Some(Told::Value(now.map(|revision| (value, revision)))),
            Some(Told::Deleted(existed)) => Some(Told::Deleted(!existed)),
            Some(Told::Compared { applied: false, .. }) => Some(Told::Compared { applied: false, revision: now }),
            told => told,
        };
    }
    ops
}

/// Whether all revisions that are spoken of are known from answers to be a value's: only then does the simulator's
/// checker know what the other one is told.
fn all_is_told(ops: &[Op], facts: &Facts) -> bool {
    let known = |revision: Option<Version>| revision.is_none_or(|revision| facts.value_of.contains_key(&revision));
    ops.iter().all(|op| match (op.kind, op.told) {
        (Kind::Cas { expected, .. }, Some(Told::Compared { revision, .. })) => known(expected) && known(revision),
        (Kind::Cas { expected, .. }, None) => known(expected),
        _ => true,
    })
}

#[test]
fn both_checkers_say_the_same() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let (mut linearizable, mut broken, mut unknown) = (0, 0, 0);
    while linearizable + broken < HISTORIES {
        let ops = history(&mut rng);
        let facts = Facts::of(&ops, 0).expect("each value has one revision here");
        if !all_is_told(&ops, &facts) {
            continue;
        }
        let mine = linearize::check(&ops, &facts);
        assert_eq!(mine.is_ok(), other(&ops), "{mine:?}\n{ops:#?}");
        unknown += u32::from(ops.iter().any(|op| op.told.is_none()));
        *(if mine.is_ok() { &mut linearizable } else { &mut broken }) += 1;
    }
    println!("{linearizable} linearizable, {broken} not; {unknown} with unknown outcomes");
    assert!(linearizable > HISTORIES / 4 && broken > HISTORIES / 10 && unknown > HISTORIES / 10);
}
