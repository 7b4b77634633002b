//! Members: who they are, and the view of all of them that every node keeps.
//!
//! The view is a join-semilattice: entries only move forward (`MemberState` order, then
//! start), so views merge in any order and repetition to the same result. It is a hint about
//! whom to propose for shards; safety never rests on it.
use crate::id::Id;
use sha2::{Digest as _, Sha256};
use std::{collections::BTreeMap, fmt};

/// Names a data directory for life. A wiped disk is a new member.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Disk(pub u128);

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}…", self.0 >> 96)
    }
}

/// What a shard configuration is made of: an id with the disk behind it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct MemberKey {
    /// Position on the circle.
    pub id: Id,
    /// Data directory.
    pub disk: Disk,
}

/// Identity and addresses of a node.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct NodeRef {
    /// Position and disk.
    pub key: MemberKey,
    /// Counts the starts of the process over this directory, from 1.
    pub incarnation: u64,
    /// Stable name.
    pub name: String,
    /// host:port of Ring, Shard and Admin.
    pub internal_addr: String,
    /// host:port of Kv and RingView.
    pub client_addr: String,
    /// Failure domain, empty when unknown.
    pub zone: String,
}

impl NodeRef {
    /// Position on the circle.
    pub fn id(&self) -> Id {
        self.key.id
    }
    /// Orders the starts of one member. Two at different addresses may have the same number: copies of a directory.
    pub fn start(&self) -> (u64, &str) {
        (self.incarnation, &self.internal_addr)
    }
}

/// Where a member stands in its life; entries of the view only move forward in this order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum MemberState {
    /// A fresh directory that waits for `Join`. Never in a view.
    Empty,
    /// In the ring; moves to it are under way.
    Joining,
    /// Full member.
    Serving,
    /// Asked to leave: drops out of every desired set.
    Leaving,
    /// In no configuration any more. Final.
    Left,
    /// Declared lost. Final.
    Evicted,
}

impl MemberState {
    /// Whether such a member belongs into desired sets.
    pub fn is_eligible(self) -> bool {
        matches!(self, MemberState::Joining | MemberState::Serving)
    }
    /// Whether such a member never comes back.
    pub fn is_final(self) -> bool {
        matches!(self, MemberState::Left | MemberState::Evicted)
    }
}

/// One entry of the view.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Member {
    /// Who.
    pub node: NodeRef,
    /// Rises with every change that the member itself makes to `state`, so that a leave can be aborted.
    pub revision: u64,
    /// In which state.
    pub state: MemberState,
}

impl Member {
    /// Whether this entry replaces the other one of the same member.
    pub fn supersedes(&self, other: &Member) -> bool {
        self.rank() > other.rank()
    }

    fn rank(&self) -> (bool, u64, MemberState, (u64, &str)) {
        (self.state.is_final(), self.revision, self.state, self.node.start())
    }
}

/// All members a node has heard of, by id and disk.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct View {
    members: BTreeMap<MemberKey, Member>,
}

impl View {
    /// Takes an entry in if it is newer than what is known; says whether anything changed.
    pub fn merge(&mut self, member: Member) -> bool {
        match self.members.get(&member.node.key) {
            Some(known) if !member.supersedes(known) => false,
            _ => {
                self.members.insert(member.node.key, member);
                true
            }
        }
    }

    /// The entry of one member.
    pub fn get(&self, key: &MemberKey) -> Option<&Member> {
        self.members.get(key)
    }

    /// All entries, by id.
    pub fn iter(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    /// Number of entries, those of members that have left included.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether nobody is known.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Members that have not left for good, by id.
    pub fn current(&self) -> impl Iterator<Item = &Member> {
        self.iter().filter(|member| !member.state.is_final())
    }

    /// Members that have not left for good and lie strictly between two points, clockwise from `from`.
    pub fn current_between(&self, from: Id, to: Id) -> impl Iterator<Item = &Member> {
        let first = |id: Id| MemberKey { id, disk: Disk(0) };
        let (head, tail) = if from < to {
            (self.members.range(first(from)..first(to)), None)
        } else {
            (self.members.range(first(from)..), Some(self.members.range(..first(to))))
        };
        let around = head.chain(tail.into_iter().flatten()).map(|(_, member)| member);
        around.filter(move |member| member.node.id() != from && !member.state.is_final())
    }

    /// Hash over everything: equal views have equal hashes.
    pub fn hash(&self) -> u64 {
        let mut hasher = Sha256::new();
        for member in self.iter() {
            hasher.update(member.node.key.id.to_bytes());
            hasher.update(member.node.key.disk.0.to_be_bytes());
            hasher.update(member.node.incarnation.to_be_bytes());
            hasher.update((member.node.internal_addr.len() as u64).to_be_bytes());
            hasher.update(&member.node.internal_addr);
            hasher.update(member.revision.to_be_bytes());
            hasher.update([member.state as u8]);
        }
        hasher.finalize().iter().take(8).fold(0, |hash, byte| (hash << 8) | u64::from(*byte))
    }
}
