//! The finger table: shortcut i is the first node at or after id + 2^i.
use super::{Purpose, Ring, RingEnv, lookup::Goal};
use crate::{
    id::{BITS, Id, between, owns},
    member::{MemberKey, NodeRef},
    msg::Via,
};
use std::{collections::BTreeSet, ops::RangeInclusive};

/// 160 shortcuts. Neighbouring ones mostly name the same node, which is kept once: O(log N) entries.
#[derive(Clone, Hash, Default)]
pub(super) struct Fingers {
    /// Indexes and their node, rising and disjoint; an index without a node is in none.
    runs: Vec<(RangeInclusive<u32>, NodeRef)>,
}

impl Fingers {
    pub fn iter(&self, me: Id) -> impl Iterator<Item = (u32, Id, NodeRef)> {
        let each =
            |(indexes, node): &(RangeInclusive<u32>, NodeRef)| indexes.clone().zip(std::iter::repeat(node.clone()));
        self.runs.iter().flat_map(each).map(move |(index, node)| (index, me.plus_power_of_two(index), node))
    }

    /// Every node once, with its highest index.
    pub fn nodes(&self) -> impl Iterator<Item = (u32, &NodeRef)> {
        self.runs.iter().map(|(indexes, node)| (*indexes.end(), node))
    }

    /// Lets these indexes name `node`, or nobody.
    pub fn set(&mut self, indexes: RangeInclusive<u32>, node: Option<NodeRef>) {
        let (first, last) = indexes.clone().into_inner();
        let covers = |run: &RangeInclusive<u32>| *run.start() <= first && last <= *run.end();
        if self.runs.iter().any(|(run, known)| covers(run) && Some(known) == node.as_ref()) {
            return;
        }
        let (mut below, mut above) = (Vec::with_capacity(self.runs.len() + 2), Vec::new());
        for (run, known) in self.runs.drain(..) {
            if *run.end() > last {
                above.push(((last + 1).max(*run.start())..=*run.end(), known.clone()));
            }
            if *run.start() < first {
                below.push((*run.start()..=*run.end().min(&(first.saturating_sub(1))), known));
            }
        }
        for (run, node) in node.map(|node| (indexes, node)).into_iter().chain(above) {
            match below.last_mut() {
                Some((before, known)) if *known == node && before.end() + 1 == *run.start() => {
                    *before = *before.start()..=*run.end();
                }
                _ => below.push((run, node)),
            }
        }
        below.shrink_to_fit();
        self.runs = below;
    }

    pub fn forget(&mut self, peer: &MemberKey) {
        self.runs.retain(|(_, node)| node.key != *peer);
    }
}

impl Ring {
    /// Repairs the whole table: walks the starts upward, asking only for those that the finger before
    /// does not cover already, so that one round costs O(log N) lookups.
    pub(super) fn fix_fingers(&mut self, env: &mut RingEnv) {
        if self.successors.is_empty() {
            self.fingers.runs.clear();
            return;
        }
        let busy = self.calls.values().any(|purpose| matches!(purpose, Purpose::Walk(walk) if walk.is_for_finger()));
        if !busy {
            self.fix_from(0, env);
        }
    }

    /// Sets the fingers from `index` on as far as the successor list tells; asks for the first that it does not.
    fn fix_from(&mut self, mut index: u32, env: &mut RingEnv) {
        while index < BITS {
            let start = self.me.id().plus_power_of_two(index);
            let Some(owner) = self.known_owner(start) else {
                return self.walk_to(Goal::Finger(index), start, env);
            };
            index = self.cover(index, owner);
        }
    }

    /// Sets all fingers from `index` on whose start lies at or before `owner`; says which is the next.
    fn cover(&mut self, index: u32, owner: NodeRef) -> u32 {
        let me = self.me.id();
        // From here round to this node itself there is nobody: no shortcut helps.
        let none = owner.id() == me;
        let reach = if none { BITS - 1 } else { me.distance_to(owner.id()).ilog2().unwrap_or(0) };
        let last = reach.max(index);
        self.fingers.set(index..=last, (!none).then_some(owner));
        last + 1
    }

    /// The walk for a finger has found its node; the rest of the table follows.
    pub(super) fn on_finger_found(&mut self, index: u32, owner: NodeRef, env: &mut RingEnv) {
        if self.member {
            let next = self.cover(index, owner);
            self.fix_from(next, env);
        }
    }

    /// The owner of an identifier, as far as the own pointers tell for sure.
    pub(super) fn known_owner(&self, target: Id) -> Option<NodeRef> {
        self.live_owner(target, |_| true).cloned()
    }

    /// The same, when what belongs to nodes that are not `usable` belongs to whoever follows them.
    fn live_owner(&self, target: Id, usable: impl Fn(&NodeRef) -> bool) -> Option<&NodeRef> {
        let me = self.me.id();
        let mine = |predecessor: &NodeRef| owns(predecessor.id(), target, me);
        if self.successors.is_empty() || self.predecessor.as_ref().is_some_and(mine) {
            return Some(&self.me);
        }
        let place = self.successors.iter().position(|node| owns(me, target, node.id()))?;
        let (before, after) = self.successors.split_at(place);
        // With the owner gone, the list may miss a joiner that only the node before knows.
        if !after.first().is_some_and(&usable) && before.iter().any(&usable) {
            return None;
        }
        after.iter().find(|node| usable(node))
    }

    /// Where to go next for `target`: the owner if it is known, else the farthest live pointer before it.
    pub(super) fn next_hop(&self, target: Id, suspects: &BTreeSet<MemberKey>, avoid: &[Id]) -> (NodeRef, bool, Via) {
        let me = self.me.id();
        let usable = |node: &NodeRef| !suspects.contains(&node.key) && !avoid.contains(&node.id());
        if let Some(owner) = self.live_owner(target, usable) {
            return (owner.clone(), true, Via::Owner);
        }
        let fingers = self.fingers.nodes().map(|(index, node)| (node, Via::Finger(index)));
        let successors = self.successors.iter().zip(0..).map(|(node, place)| (node, Via::Successor(place)));
        fingers
            .chain(successors)
            .filter(|(node, _)| between(me, node.id(), target) && usable(node))
            .max_by_key(|(node, _)| me.distance_to(node.id()))
            .map(|(node, via)| (node.clone(), false, via))
            .or_else(|| {
                self.successors.iter().find(|node| usable(node)).map(|node| (node.clone(), false, Via::Successor(0)))
            })
            .unwrap_or_else(|| (self.me.clone(), true, Via::Owner))
    }

    /// The owner of `target` in the eyes of a node that is taken for it: its predecessor if that one has come
    /// between, else itself, whatever it thinks of the nodes before it.
    pub(super) fn nearest_owner(
        &self,
        target: Id,
        suspects: &BTreeSet<MemberKey>,
        avoid: &[Id],
    ) -> (NodeRef, bool, Via) {
        let me = self.me.id();
        let usable = |node: &&NodeRef| !suspects.contains(&node.key) && !avoid.contains(&node.id());
        // Its own point is nobody else's: from there round to itself everybody would lie nearer.
        let nearer = |node: &&NodeRef| target != me && (node.id() == target || between(target, node.id(), me));
        let owner = self.predecessor.as_ref().filter(usable).filter(nearer).unwrap_or(&self.me);
        (owner.clone(), true, Via::Owner)
    }
}
