//! From what is known to the documents: nodes, the ring in figures, and what changed.
use super::{Change, Description, Heard, Votes};
use crate::schema::{Count, HexId, Node, NodeStats, RingStats, State};
use chord::{
    id::Id,
    member::{Member, MemberState},
};
use chord_proto::v1;
use std::cmp::Ordering;

/// Part of the circle from `after` (exclusive) clockwise to `up_to` (inclusive); equal ends are all of it.
pub fn share(after: Id, up_to: Id) -> f64 {
    if after == up_to {
        return 1.0;
    }
    let distance = after.distance_to(up_to).to_bytes();
    distance.iter().rev().fold(0.0, |share, byte| (share + f64::from(*byte)) / 256.0)
}

/// Nodes, by id.
pub(super) fn nodes(known: &[(&Member, &Heard)], votes: &Votes) -> Vec<Node> {
    // Who has an arc: all but those that are not adopted yet.
    let on_circle: Vec<Id> =
        known.iter().filter(|(member, _)| member.state != MemberState::Joining).map(|(it, _)| it.node.id()).collect();
    known
        .iter()
        .map(|(member, heard)| {
            let (id, described) = (member.node.id(), heard.description.as_ref());
            let predecessor = described.and_then(|it| it.predecessor);
            // Of one that was never heard only its place is known, and so the arc that is its by the membership.
            let guessed = || match on_circle.binary_search(&id) {
                Ok(0) => on_circle.last().copied(),
                Ok(place) => on_circle.get(place - 1).copied(),
                Err(_) => None,
            };
            let after = if described.is_some() { predecessor } else { guessed() };
            let reachable = match votes.get(&member.node.key) {
                Some((yes, no)) if yes + no > 0 => yes >= no,
                _ => heard.stale_since.is_none(),
            };
            Node {
                id: HexId(id),
                name: member.node.name.clone(),
                state: state(member.state),
                reachable,
                stale_since: heard.stale_since,
                incarnation: member.node.incarnation.into(),
                zone: member.node.zone.clone(),
                client_addr: member.node.client_addr.clone(),
                predecessor: predecessor.map(HexId),
                successors: described.map(|it| it.successors.iter().copied().map(HexId).collect()).unwrap_or_default(),
                owned_share: after.map_or(0.0, |after| share(after, id)),
                stats: described.map(node_stats),
                version: described.map(|it| it.version.clone()),
                uptime_ms: described.map(|it| it.uptime_ms.into()),
            }
        })
        .collect()
}

fn state(state: MemberState) -> State {
    match state {
        MemberState::Empty => State::Empty,
        MemberState::Joining => State::Joining,
        MemberState::Serving => State::Serving,
        MemberState::Leaving => State::Leaving,
        MemberState::Left => State::Left,
        MemberState::Evicted => State::Evicted,
    }
}

fn positive(value: u64) -> Option<Count> {
    (value > 0).then_some(Count(value))
}

fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// Nodes count everybody a lookup came to, the one it began at included; here it counts how often it was handed on, as
/// the lookups that are shown do, and the paper.
fn hops_mean(contacts: u64, lookups: u64) -> Option<f64> {
    ratio(contacts.saturating_sub(lookups), lookups)
}

fn node_stats(description: &Description) -> NodeStats {
    let raw = &description.stats;
    NodeStats {
        keys_leader: raw.keys_leader.into(),
        keys_replica: raw.keys_replica.into(),
        bytes: raw.bytes.into(),
        shards_leader: raw.shards_leader.into(),
        shards_replica: raw.shards_replica.into(),
        shards_under_replicated: raw.shards_under_replicated.into(),
        shards_moving: raw.shards_moving.into(),
        gets: raw.gets.into(),
        puts: raw.puts.into(),
        deletes: raw.deletes.into(),
        ops_per_second: raw.ops_per_second_milli as f64 / 1000.0,
        latency_p50_us: positive(raw.latency_p50_us),
        latency_p99_us: positive(raw.latency_p99_us),
        lookups: raw.lookups.into(),
        lookup_hops_mean: hops_mean(raw.lookup_hops, raw.lookups),
        stabilize_rounds: raw.stabilize_rounds.into(),
        keys_sent: raw.keys_sent.into(),
        keys_received: raw.keys_received.into(),
    }
}

/// The ring in figures; `raw` is what its nodes measured.
pub(super) fn ring_stats(nodes: &[Node], raw: &[v1::NodeStats]) -> RingStats {
    let sum = |of: fn(&v1::NodeStats) -> u64| raw.iter().map(of).fold(0_u64, u64::saturating_add);
    let count = |of: fn(&&Node) -> bool| Count::from(nodes.iter().filter(of).count());
    // What a node measured while it lived says nothing about how fast a dead one works.
    let heard = || nodes.iter().filter(|node| node.stale_since.is_none()).filter_map(|node| node.stats.as_ref());
    let because = not_converged(nodes);
    RingStats {
        nodes: nodes.len().into(),
        serving: count(|node| node.state == State::Serving),
        reachable: count(|node| node.reachable),
        stale: count(|node| node.stale_since.is_some()),
        keys: sum(|it| it.keys_leader).into(),
        bytes: sum(|it| it.bytes).into(),
        load_max_mean: load_max_mean(nodes),
        shards_under_replicated: sum(|it| it.shards_under_replicated.into()).into(),
        shards_moving: sum(|it| it.shards_moving.into()).into(),
        gets: sum(|it| it.gets).into(),
        puts: sum(|it| it.puts).into(),
        deletes: sum(|it| it.deletes).into(),
        ops_per_second: heard().map(|stats| stats.ops_per_second).sum(),
        latency_p50_us_max: heard().filter_map(|stats| stats.latency_p50_us).max(),
        latency_p99_us_max: heard().filter_map(|stats| stats.latency_p99_us).max(),
        lookups: sum(|it| it.lookups).into(),
        lookup_hops_mean: hops_mean(sum(|it| it.lookup_hops), sum(|it| it.lookups)),
        stabilize_rounds: sum(|it| it.stabilize_rounds).into(),
        keys_sent: sum(|it| it.keys_sent).into(),
        keys_received: sum(|it| it.keys_received).into(),
        converged: because.is_none(),
        not_converged_because: because,
    }
}

fn load_max_mean(nodes: &[Node]) -> Option<f64> {
    let serving = nodes.iter().filter(|node| node.state == State::Serving);
    let keys: Vec<u64> = serving.filter_map(|node| node.stats.as_ref()).map(|stats| stats.keys_leader.0).collect();
    let total = keys.iter().copied().fold(0, u64::saturating_add);
    let most = keys.iter().copied().max()?;
    (total > 0).then(|| most as f64 * keys.len() as f64 / total as f64)
}

/// The first thing that keeps the ring from being as it should; `None`: nothing.
fn not_converged(nodes: &[Node]) -> Option<String> {
    if nodes.is_empty() {
        return Some("no member has answered yet".into());
    }
    if let Some(silent) = nodes.iter().find(|node| node.stale_since.is_some()) {
        return Some(format!("nothing is heard from {}", silent.name));
    }
    let before = nodes.iter().cycle().skip(nodes.len() - 1);
    let after = nodes.iter().cycle().skip(1);
    for ((node, before), after) in nodes.iter().zip(before).zip(after) {
        if node.predecessor.is_none() && node.state == State::Joining {
            return Some(format!("{} is still joining", node.name));
        }
        let alone = nodes.len() == 1;
        if node.successors.first() != Some(&after.id) && !(alone && node.successors.is_empty()) {
            return Some(format!("{} does not have {} as its successor yet", node.name, after.name));
        }
        if node.predecessor != Some(before.id) && !(alone && node.predecessor.is_none()) {
            return Some(format!("{} does not have {} as its predecessor yet", node.name, before.name));
        }
    }
    None
}

/// Steps from one list of nodes to another; both sorted by id.
pub(super) fn change(old: &[Node], new: &[Node]) -> Change {
    let (mut old, mut new) = (old.iter().peekable(), new.iter().peekable());
    let mut change = Change::default();
    loop {
        let order = match (old.peek(), new.peek()) {
            (Some(before), Some(now)) => before.id.cmp(&now.id),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => return change,
        };
        let before = if order.is_le() { old.next() } else { None };
        let now = if order.is_ge() { new.next() } else { None };
        match (before, now) {
            (Some(before), None) => change.removed.push(before.id),
            (before, Some(now)) if before != Some(now) => change.nodes.push(now.clone()),
            _ => {}
        }
    }
}
