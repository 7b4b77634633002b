//! Is there an order of one key's operations that explains every answer? Wing and Gong's search with
//! Lowe's memo, per key (operations on different keys are independent).
//!
//! An operation whose outcome is unknown has no end: it may take effect at any time after its start,
//! or, placed after everything else, never. A value with a time to live may vanish by itself, but not
//! before its earliest end, and is not seen after its latest.
use crate::history::{Facts, Kind, Op, Told, Value};
use std::collections::HashSet;

/// States looked at before the search gives up. No history of the simulator comes near.
const STATES_MAX: usize = 4_000_000;

/// What a key may hold after `op`, if it held `state` before: nothing when the answer does not fit.
fn after(op: &Op, state: Value, facts: &Facts) -> Vec<Value> {
    let (mut stays, mut ends) = (true, false);
    if let Some((earliest, latest)) = facts.ends.get(&state) {
        stays = op.invoke <= *latest;
        ends = op.ret >= *earliest;
    }
    let mut next = Vec::new();
    if stays {
        apply(op, state, facts, &mut next);
    }
    if ends {
        apply(op, 0, facts, &mut next);
    }
    next
}

fn apply(op: &Op, state: Value, facts: &Facts, next: &mut Vec<Value>) {
    match (op.kind, op.told) {
        (Kind::Get, Some(Told::Value(seen))) => {
            next.extend((seen.map_or(0, |(value, _)| value) == state).then_some(state));
        }
        (Kind::Put { value, .. }, Some(Told::Written(_)) | None) => next.push(value),
        (Kind::Delete, Some(Told::Deleted(existed))) => next.extend((existed == (state != 0)).then_some(0)),
        (Kind::Delete, None) => next.push(0),
        (Kind::Cas { expected, value }, told) => {
            let may_match = expected.map_or(state == 0, |revision| facts.may_be(revision, state));
            // A revision that no answer named belongs to a value that nobody was told the revision of.
            let must_match = may_match && expected.is_none_or(|revision| facts.value_of.contains_key(&revision));
            let (applied, refused) = match told {
                Some(Told::Compared { applied: true, .. }) => (true, false),
                Some(Told::Compared { applied: false, revision }) => {
                    (false, revision.map_or(state == 0, |revision| facts.may_be(revision, state)))
                }
                Some(_) => (false, false),
                None => (true, true),
            };
            next.extend((applied && may_match).then_some(value));
            next.extend((refused && !must_match).then_some(state));
        }
        _ => {}
    }
}

/// Where a search is: which operations are done, what the key holds then, and whether the next operation must
/// depend on that.
type Point = (Box<[u64]>, Value, bool);

/// Looks for an order: first without those writes of unknown outcome whose value nobody ever saw, most of which
/// never took effect; then with them.
///
/// # Errors
/// A sentence when there is none (or, never met so far, when the search is too long), with the longest
/// explained prefix.
pub fn check(ops: &[Op], facts: &Facts) -> Result<(), String> {
    let seen: Vec<Op> = ops.iter().filter(|op| !is_unseen(op, facts)).copied().collect();
    search(&seen, facts).or_else(|_| search(ops, facts))
}

/// A write of unknown outcome whose value nobody ever saw.
fn is_unseen(op: &Op, facts: &Facts) -> bool {
    match op.kind {
        Kind::Put { value, .. } | Kind::Cas { value, .. } if value != 0 => op.told.is_none() && !facts.is_seen(value),
        _ => false,
    }
}

/// Of operations with the same number, all of unknown outcome, it does not matter which one takes effect.
fn sort_of(op: &Op, facts: &Facts) -> Option<u8> {
    match op.kind {
        Kind::Delete if op.told.is_none() => Some(0),
        Kind::Put { ttl: None, .. } if is_unseen(op, facts) => Some(1),
        _ => None,
    }
}

fn search(ops: &[Op], facts: &Facts) -> Result<(), String> {
    let mut ops: Vec<Op> = ops.iter().filter(|op| op.told.is_some() || op.kind != Kind::Get).copied().collect();
    ops.sort_by_key(|op| (op.invoke, op.ret));
    let wanted = ops.iter().filter(|op| op.told.is_some()).count();
    let mut seen: HashSet<Point> = HashSet::new();
    let start: Point = (vec![0; ops.len().div_ceil(64)].into(), 0, false);
    let mut stack = vec![(start, 0)];
    let mut best = (0, format!("{:?}", ops.first()));
    while let Some((point, count)) = stack.pop() {
        if count == wanted {
            return Ok(());
        }
        if !seen.insert(point.clone()) {
            continue;
        }
        if seen.len() > STATES_MAX {
            return Err(format!("no order found among {STATES_MAX} states of {} operations", ops.len()));
        }
        let (done, state, must_depend) = point;
        let is_done = |index: usize| done[index / 64] & (1 << (index % 64)) != 0;
        let mut first_end = u64::MAX;
        let mut candidates = Vec::new();
        for (index, op) in ops.iter().enumerate().filter(|(index, _)| !is_done(*index)) {
            if op.invoke > first_end {
                break;
            }
            first_end = first_end.min(op.ret);
            candidates.push((index, op));
        }
        candidates.retain(|(_, op)| op.invoke <= first_end);
        if count > best.0 {
            let open: Vec<&Op> = candidates.iter().map(|(_, op)| *op).take(6).collect();
            best = (count, format!("holding {state}, next of {open:#?}"));
        }
        let mut sorts = [false; 2];
        let mut next = Vec::new();
        for (index, op) in candidates {
            // One of unknown outcome has an effect only if the next operation sees it: else it goes without.
            let blind = matches!(op.kind, Kind::Put { .. }) || (op.kind == Kind::Delete && op.told.is_none());
            if must_depend && blind {
                continue;
            }
            if let Some(sort) = sort_of(op, facts).map(usize::from)
                && std::mem::replace(&mut sorts[sort], true)
            {
                continue;
            }
            for value in after(op, state, facts) {
                if op.told.is_none() && value == state {
                    continue;
                }
                let mut done = done.clone();
                done[index / 64] |= 1 << (index % 64);
                next.push((op, ((done, value, op.told.is_none()), count + usize::from(op.told.is_some()))));
            }
        }
        // A read that fits and changes nothing may go first: whatever follows can follow it as well.
        if let Some(at) =
            next.iter().position(|(op, (point, _))| op.told.is_some() && op.kind == Kind::Get && point.1 == state)
        {
            next.swap(0, at);
            next.truncate(1);
        }
        // The one that ended first is tried first.
        next.sort_by_key(|(op, _)| std::cmp::Reverse(op.ret));
        stack.extend(next.into_iter().map(|(_, point)| point));
    }
    Err(format!("not linearizable: {} of {wanted} answers explained, then {}", best.0, best.1))
}
