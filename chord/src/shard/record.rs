//! Records: the state of one key, with the version that orders it.
use crate::shard::config::Ballot;
use bytes::Bytes;

/// Order of a record in consensus.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Version {
    /// Number of the configuration.
    pub epoch: u64,
    /// Attempt to lead in it.
    pub ballot: Ballot,
    /// Write under that attempt; 0 is a re-commit.
    pub seq: u64,
}

/// Names one operation of one client, so that it can be sent again safely.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct OpId {
    /// Random, one per client.
    pub client: u128,
    /// Rising per client.
    pub number: u64,
}

impl OpId {
    /// Whether this is a later operation of the same client.
    pub fn surpasses(&self, other: &OpId) -> bool {
        self.client == other.client && self.number > other.number
    }
}

/// Operations remembered per key: a retry of one of them is answered, not repeated. When they are more, the oldest
/// goes that is not its client's newest, so that an operation newer than its client's newest is known to be new.
pub const RECENT_OPS_MAX: usize = 8;

/// An operation that made a version of a key, or a retry that found nothing to change.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct RecentOp {
    /// Which.
    pub id: OpId,
    /// Version of the record it made.
    pub made: Option<Version>,
    /// Revision of the key it found; `None` when the key was absent.
    pub found: Option<Version>,
}

/// The state of one key.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Record {
    /// Order in consensus; a re-commit by a new leader raises it.
    pub version: Version,
    /// Version of the write that made the content: what clients see and compare.
    pub revision: Version,
    /// `None`: tombstone.
    pub value: Option<Bytes>,
    /// End of life, milliseconds since the Unix epoch.
    pub expires_at_ms: Option<u64>,
    /// The last operations on the key, oldest first, at most [`RECENT_OPS_MAX`].
    pub recent: Vec<RecentOp>,
    /// Write at which `recent` last had no room for the newest operation of a client. While that is not long ago,
    /// a retry by a client that is not in `recent` cannot be told from an operation that was applied.
    pub forgotten: Option<Version>,
}

impl Record {
    /// Whether the key has a value.
    pub fn is_live(&self) -> bool {
        self.value.is_some()
    }
    /// Whether it has a value whose time to live has ended.
    pub fn has_ended(&self, wall_ms: u64) -> bool {
        self.is_live() && self.expires_at_ms.is_some_and(|expires_at_ms| expires_at_ms <= wall_ms)
    }
    /// Bytes of the value.
    pub fn value_bytes(&self) -> usize {
        self.value.as_ref().map_or(0, Bytes::len)
    }
}
