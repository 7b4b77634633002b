//! What the core asks of a disk.
//!
//! A write is visible to reads at once and durable later: the shell syncs in the background, many
//! writes with one fsync, and says how far it got by [`Input::Persisted`](crate::io::Input::Persisted).
//! The core holds back every answer that reveals a write until that write is durable.
use crate::{
    member::{Member, NodeRef},
    shard::{
        config::{ReplicaMeta, ShardId},
        digest::Digest,
        record::{Record, Version},
    },
};
use bytes::Bytes;

/// Number of a batch, rising by one from 1 after each start.
pub type Seq = u64;

/// What a node keeps about itself.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct NodeMeta {
    /// Identity as of this start.
    pub node: Member,
    /// Identity of the ring; `None` until it joined.
    pub ring_id: Option<u128>,
    /// Number of shards of the ring, fixed at genesis.
    pub shards: u32,
    /// Replicas per shard of the ring, fixed at genesis.
    pub replication_factor: usize,
    /// Highest operator epoch seen.
    pub operator_epoch: u64,
    /// Last known members: whom to rejoin through.
    pub members: Vec<Member>,
}

/// One change of the disk. A batch of them is applied whole or not at all.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Change {
    /// Stores or replaces a record. The store keeps the shard's digest and its index of expiries in step.
    Put {
        /// Shard.
        shard: ShardId,
        /// Key, 1..=1024 bytes.
        key: Bytes,
        /// Record.
        record: Record,
    },
    /// Removes a record (a tombstone that all members hold).
    Drop {
        /// Shard.
        shard: ShardId,
        /// Key.
        key: Bytes,
    },
    /// Removes all records of a shard.
    Clear(ShardId),
    /// Replaces what is kept about a shard.
    Meta(ShardId, ReplicaMeta),
    /// Replaces what the node keeps about itself.
    Node(NodeMeta),
}

/// A record whose time to live may have ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Expiry {
    /// End of life, milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// Shard.
    pub shard: ShardId,
    /// Key.
    pub key: Bytes,
}

/// The records and metadata of one node.
///
/// # Guarantees
/// * Batches become durable in order: after a crash a prefix of them is there, each whole.
/// * Reads see every batch written before, durable or not.
///
/// # Errors
/// None: a store that cannot read or write ends the process before the core could go on with a lie.
pub trait Store {
    /// What the node kept about itself; `None` on a fresh directory.
    fn node(&self) -> Option<NodeMeta>;
    /// What is kept about every shard.
    fn metas(&self) -> Vec<(ShardId, ReplicaMeta)>;
    /// One record.
    fn get(&self, shard: ShardId, key: &[u8]) -> Option<Record>;
    /// Records of a shard in key order, after `after` (exclusive), at most `limit`, and no more once
    /// `bytes_max` bytes of keys and values are collected.
    fn scan(&self, shard: ShardId, after: Option<&[u8]>, limit: usize, bytes_max: usize) -> Vec<(Bytes, Record)>;
    /// Keys and versions of a shard in key order.
    fn versions(&self, shard: ShardId) -> Vec<(Bytes, Version)>;
    /// Digest of a shard, kept in step with its records.
    fn digest(&self, shard: ShardId) -> Digest;
    /// Records with a time to live that ends at or before `until_ms`, earliest first, at most `limit`.
    fn expiring(&self, until_ms: u64, limit: usize) -> Vec<Expiry>;
    /// Applies a batch: visible at once, durable when the shell says so. Returns its number.
    fn write(&mut self, changes: Vec<Change>) -> Seq;
}

impl NodeMeta {
    /// The node itself.
    pub fn me(&self) -> &NodeRef {
        &self.node.node
    }
}
