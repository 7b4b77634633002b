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

/// Names one operation of one client, so that it can be sent again safely. Of a client's operations on one key only
/// one is on its way at a time: a higher number tells that all below it have ended.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct OpId {
    /// Random, one per client.
    pub client: u128,
    /// Rising per client.
    pub number: u64,
}

/// Clients whose last operation is remembered per key: a retry of one of these is answered, not repeated.
pub const RECENT_OPS_MAX: usize = 16;

/// An operation that made (or would have made) a version of a key.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct RecentOp {
    /// Which.
    pub id: OpId,
    /// Revision of the key it made; `None` for a compare-and-set that was not applied.
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
    /// The last operation on the key of each client, oldest first, at most [`RECENT_OPS_MAX`].
    pub recent: Vec<RecentOp>,
    /// Whether a client has dropped out of `recent`.
    pub recent_overflowed: bool,
}

impl Record {
    /// Whether the key has a value.
    pub fn is_live(&self) -> bool {
        self.value.is_some()
    }
    /// Bytes of the value.
    pub fn value_bytes(&self) -> usize {
        self.value.as_ref().map_or(0, Bytes::len)
    }
}
