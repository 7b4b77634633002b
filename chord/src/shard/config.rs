//! Shards and their configurations.
use crate::{id::Id, member::MemberKey};

/// Number of a shard: the top bits of a key's 160-bit hash.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ShardId(pub u32);

impl ShardId {
    /// The shard of a point, among `shards` (a power of two) shards.
    pub fn of(point: Id, shards: u32) -> ShardId {
        let bits = shards.trailing_zeros();
        ShardId(if bits == 0 { 0 } else { (point.top() >> (64 - bits)) as u32 })
    }

    /// The upper end of the shard's interval: its owner on the ring is successor(point).
    pub fn point(self, shards: u32) -> Id {
        let bits = shards.trailing_zeros();
        let mut bytes = [0xff; 20];
        let top = if bits == 0 { u64::MAX } else { (u64::from(self.0) << (64 - bits)) | (u64::MAX >> bits) };
        bytes[..8].copy_from_slice(&top.to_be_bytes());
        Id::from_bytes(bytes)
    }
}

/// Who holds a shard. Decided by consensus, never by the ring alone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Config {
    /// Number of the configuration, from 1.
    pub epoch: u64,
    /// Members in successor order from the shard's point; the first live one leads.
    pub members: Vec<MemberKey>,
}

impl Config {
    /// Smallest number of members that is more than half.
    pub fn majority(&self) -> usize {
        self.members.len() / 2 + 1
    }
    /// The place of a member.
    pub fn index_of(&self, member: &MemberKey) -> Option<usize> {
        self.members.iter().position(|m| m == member)
    }
}

/// Attempt to lead under one configuration: a round and the member's place in the configuration,
/// so that no two members ever use the same.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Ballot(pub u64);

impl Ballot {
    /// Below every ballot that is used.
    pub const ZERO: Ballot = Ballot(0);
    /// The smallest ballot above `self` that belongs to the member at `index`.
    #[must_use]
    pub fn next_for(self, index: usize) -> Ballot {
        Ballot((((self.0 >> 4) + 1) << 4) | index as u64)
    }
    /// Place of its owner in the configuration.
    pub fn index(self) -> usize {
        (self.0 & 15) as usize
    }
}

/// What a replica keeps durably about one shard, beside its records.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ReplicaMeta {
    /// The newest configuration known here.
    pub config: Config,
    /// Members of the configuration before it, for redirects and retirement.
    pub previous: Vec<MemberKey>,
    /// Whether this node holds the records of `config` (it is a member and has installed it). A member that has not has
    /// lost them: its disk did not keep them.
    pub installed: bool,
    /// Highest ballot promised under `config`.
    pub promised: Ballot,
    /// The decision to move on, as far as this replica took part in it.
    pub seal: Option<Seal>,
    /// The configuration that this node took a copy for as a newcomer and that may still come, with the attempt it was
    /// for: a leader may have sealed in its favour.
    pub word: Option<Seal>,
}

/// An epoch is closed for writes, in favour of the next configuration.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Seal {
    /// Attempt that sealed.
    pub ballot: Ballot,
    /// What follows.
    pub next: Config,
}
