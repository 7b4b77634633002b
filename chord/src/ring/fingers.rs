//! The finger table: shortcut i is the first node at or after id + 2^i.
use super::{Purpose, Ring, RingEnv};
use crate::{
    id::{BITS, Id, between, owns},
    io::CallError,
    member::{MemberKey, NodeRef},
    msg::{RingReply, RingRequest, Via},
};
use std::collections::{BTreeMap, BTreeSet};

/// 160 shortcuts; neighbouring ones mostly name the same node.
#[derive(Clone, Hash, Default)]
pub(super) struct Fingers {
    table: BTreeMap<u32, NodeRef>,
}

impl Fingers {
    pub fn iter(&self, me: Id) -> impl Iterator<Item = (u32, Id, NodeRef)> {
        self.table.iter().map(move |(index, node)| (*index, me.plus_power_of_two(*index), node.clone()))
    }
    pub fn set(&mut self, index: u32, node: NodeRef) {
        self.table.insert(index, node);
    }
    pub fn forget(&mut self, peer: &MemberKey) {
        self.table.retain(|_, node| node.key != *peer);
    }
}

impl Ring {
    /// Repairs the whole table: walks the starts upward, asking only for those that the finger before
    /// does not cover already, so that one round costs O(log N) lookups.
    pub(super) fn fix_fingers(&mut self, env: &mut RingEnv) {
        if self.successors.is_empty() {
            self.fingers.table.clear();
            return;
        }
        let busy = self.calls.values().any(|purpose| matches!(purpose, Purpose::Finger { .. }));
        if !busy {
            self.fix_from(0, env);
        }
    }

    /// Sets the fingers from `index` on as far as the successor list tells; asks for the first that it does not.
    fn fix_from(&mut self, index: u32, env: &mut RingEnv) {
        let me = self.me.id();
        for index in index..BITS {
            let start = me.plus_power_of_two(index);
            match self.known_owner(start) {
                Some(node) if node.id() == me => {
                    // From here round to this node itself there is nobody: no shortcut helps.
                    self.fingers.table.remove(&index);
                }
                Some(node) => self.fingers.set(index, node),
                None => {
                    let (next, _, _) = self.next_hop(start, env.suspects, &[]);
                    let request = RingRequest::FindSuccessor { target: start, hops: 0, trace: false };
                    let call = env.call(&next.internal_addr, request);
                    self.calls.insert(call, Purpose::Finger { index });
                    return;
                }
            }
        }
    }

    pub(super) fn on_finger_reply(&mut self, index: u32, result: Result<RingReply, CallError>, env: &mut RingEnv) {
        let me = self.me.id();
        let Ok(RingReply::FindSuccessor { owner, .. }) = result else {
            // The rest of the table waits for the next round; a dead hop is forgotten by then.
            return;
        };
        if !self.member {
            return;
        }
        // The owner covers every start up to itself.
        let mut next = index;
        while next < BITS && owns(me.plus_power_of_two(index), me.plus_power_of_two(next), owner.id()) || next == index
        {
            if owner.id() == me {
                self.fingers.table.remove(&next);
            } else {
                self.fingers.set(next, owner.clone());
            }
            next += 1;
        }
        if next < BITS {
            self.fix_from(next, env);
        }
    }

    /// The owner of an identifier, as far as the own pointers tell for sure.
    pub(super) fn known_owner(&self, target: Id) -> Option<NodeRef> {
        let me = self.me.id();
        if self.successors.is_empty() {
            return Some(self.me.clone());
        }
        if let Some(predecessor) = &self.predecessor
            && owns(predecessor.id(), target, me)
        {
            return Some(self.me.clone());
        }
        let mut before = me;
        for node in &self.successors {
            if owns(before, target, node.id()) {
                return Some(node.clone());
            }
            before = node.id();
        }
        None
    }

    /// Where to go next for `target`: the owner if it is known, else the farthest live pointer before it.
    pub(super) fn next_hop(
        &self,
        target: Id,
        suspects: &BTreeSet<MemberKey>,
        avoid: &[MemberKey],
    ) -> (NodeRef, bool, Via) {
        let me = self.me.id();
        let usable = |node: &NodeRef| !suspects.contains(&node.key) && !avoid.contains(&node.key);
        if let Some(owner) = self.known_owner(target).filter(|owner| owner.id() == me || usable(owner)) {
            return (owner, true, Via::Owner);
        }
        let fingers = self.fingers.table.iter().map(|(index, node)| (node, Via::Finger(*index)));
        let successors = self.successors.iter().zip(0..).map(|(node, place)| (node, Via::Successor(place)));
        fingers
            .chain(successors)
            .filter(|(node, _)| usable(node) && between(me, node.id(), target))
            .max_by_key(|(node, _)| me.distance_to(node.id()))
            .map(|(node, via)| (node.clone(), false, via))
            .or_else(|| {
                self.successors.iter().find(|node| usable(node)).map(|node| (node.clone(), false, Via::Successor(0)))
            })
            .unwrap_or_else(|| (self.me.clone(), true, Via::Owner))
    }
}
