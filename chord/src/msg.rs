//! What nodes say to each other.
use crate::{
    id::Id,
    member::{Member, NodeRef},
    shard::{
        config::{Ballot, Config, Seal, ShardId},
        digest::BUCKETS,
        record::{Record, Version},
    },
};
use bytes::Bytes;

/// Most silent nodes that one lookup goes round.
pub const AVOIDED_MAX: usize = 32;

/// A request of the `Ring` service. Each has one answer or an error.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum RingRequest {
    /// Who owns `target`? Forwarded.
    FindSuccessor {
        /// Identifier.
        target: Id,
        /// Forwards so far.
        hops: u32,
        /// Whether to list the contacts.
        trace: bool,
    },
    /// Predecessor pointer.
    GetPredecessor,
    /// Successor list and predecessor in one atomic look.
    GetSuccessorList,
    /// Best next hop toward an identifier.
    ClosestPrecedingFinger {
        /// Identifier.
        target: Id,
        /// Nodes that the asker has found silent, at most [`AVOIDED_MAX`]: not to be named again.
        avoid: Vec<Id>,
        /// The asker takes the node for the owner: has somebody come between?
        as_owner: bool,
    },
    /// The finger table.
    GetFingerTable,
    /// "I might be your predecessor."
    Notify {
        /// The sender, and only the sender.
        from: NodeRef,
    },
    /// Are you there, and a member?
    Ping {
        /// The sender.
        from: NodeRef,
    },
    /// Adopt me.
    Join {
        /// The sender.
        joiner: NodeRef,
    },
    /// A hint that the sender stops being a member.
    Leave {
        /// The sender.
        from: NodeRef,
        /// Its predecessor.
        predecessor: Option<NodeRef>,
        /// Its successors.
        successors: Vec<NodeRef>,
    },
    /// Exchange of membership.
    Gossip {
        /// The sender.
        from: NodeRef,
        /// Hash of the sender's view.
        view_hash: u64,
        /// Entries that changed lately.
        rumors: Vec<Member>,
        /// Hash of the sender's shard map.
        map_hash: u64,
    },
}

/// The answer to a [`RingRequest`], variant by variant.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum RingReply {
    /// To `FindSuccessor`.
    FindSuccessor {
        /// Owner of the target.
        owner: NodeRef,
        /// Lower end of what it owns, as the last hop knows it.
        predecessor: Option<Id>,
        /// Contacts, when asked for.
        path: Vec<Hop>,
    },
    /// To `GetPredecessor`.
    GetPredecessor(Option<NodeRef>),
    /// To `GetSuccessorList`.
    GetSuccessorList(Neighbours),
    /// To `ClosestPrecedingFinger`.
    ClosestPrecedingFinger {
        /// Next hop, or the owner.
        node: NodeRef,
        /// Whether it is the owner.
        is_owner: bool,
        /// Where it came from.
        via: Via,
    },
    /// To `GetFingerTable`: (index, node), sorted by index; indexes without an entry are left out.
    GetFingerTable(Vec<(u32, NodeRef)>),
    /// To `Notify`.
    Notify,
    /// To `Ping`.
    Ping {
        /// The answering node.
        node: NodeRef,
        /// Whether it is a member of the ring.
        member: bool,
    },
    /// To `Join`.
    Join(JoinReply),
    /// To `Leave`.
    Leave,
    /// To `Gossip`.
    Gossip {
        /// The whole view, when the hashes differ.
        members: Vec<Member>,
        /// Whether the shard maps differ.
        map_differs: bool,
    },
    /// The node cannot answer: the sentence says why.
    Refused(String),
}

/// A node's ring pointers.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Neighbours {
    /// The node, with its present incarnation.
    pub node: NodeRef,
    /// Whether it is a member of the ring.
    pub member: bool,
    /// Nearest first.
    pub successors: Vec<NodeRef>,
    /// Predecessor.
    pub predecessor: Option<NodeRef>,
    /// A step of its own is between send and apply: ask again.
    pub busy: bool,
}

/// One contact of a lookup.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Hop {
    /// Who was asked.
    pub node: NodeRef,
    /// Why this one.
    pub via: Via,
    /// Since the lookup began at the first contact, microseconds.
    pub elapsed_us: u64,
}

/// Which table a next hop came from.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Via {
    /// The lookup began here.
    Start,
    /// Finger by its index.
    Finger(u32),
    /// Successor by its place, 0 first.
    Successor(u32),
    /// The owner.
    Owner,
}

/// Outcome of a [`RingRequest::Join`].
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum JoinReply {
    /// Adopted.
    Accepted {
        /// The adopting node.
        predecessor: NodeRef,
        /// The joiner's whole successor list.
        successors: Vec<NodeRef>,
        /// Identity of the ring.
        ring_id: u128,
        /// Number of shards.
        shards: u32,
        /// Replicas per shard.
        replication_factor: usize,
        /// Membership.
        members: Vec<Member>,
    },
    /// Ask that one.
    Redirect(NodeRef),
    /// Ask again after so many milliseconds.
    Busy(u32),
    /// Never; says why.
    Refused(String),
}

/// A message of the `Shard` service, one way.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ShardMsg {
    /// Shard.
    pub shard: ShardId,
    /// Configuration it belongs to.
    pub epoch: u64,
    /// Leadership attempt it belongs to.
    pub ballot: Ballot,
    /// What.
    pub kind: ShardKind,
}

/// Kinds of [`ShardMsg`]; each as in ring.md 3.2, documented field by field in `shard.proto`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[allow(missing_docs)]
pub enum ShardKind {
    Prepare,
    Promise {
        seal: Option<Seal>,
        digest: u128,
    },
    ReadKey {
        key: Bytes,
    },
    KeyState {
        key: Bytes,
        record: Option<Record>,
    },
    Write {
        key: Bytes,
        record: Record,
    },
    WriteAck {
        key: Bytes,
        version: Version,
    },
    Confirm {
        number: u64,
    },
    ConfirmAck {
        number: u64,
    },
    Seal {
        next: Config,
    },
    SealAck {
        digest: u128,
    },
    TransferRequest {
        after: Bytes,
        round: u64,
    },
    TransferChunk {
        records: Vec<(Bytes, Record)>,
        round: u64,
        last: bool,
    },
    Install {
        next: Config,
        attempt: u64,
        records: Vec<(Bytes, Record)>,
        part: u32,
        last: bool,
        digest: u128,
        pre_copy: bool,
        full: bool,
    },
    InstallAck {
        attempt: u64,
        part: u32,
        last: bool,
        pre_copy: bool,
        mismatch: bool,
    },
    DigestRequest {
        buckets: Vec<u32>,
    },
    Digest {
        sums: Option<Box<[u128; BUCKETS]>>,
        keys: Vec<(Bytes, Version)>,
        buckets: Vec<u32>,
    },
    Stable {
        keys: Vec<(Bytes, Version)>,
    },
    Nack {
        promised: Ballot,
        config: Option<Config>,
        sealed: bool,
        lost: bool,
    },
    Retire {
        next: Config,
    },
    MapRequest {
        shards: Vec<ShardId>,
    },
    MapUpdate {
        entries: Vec<MapEntry>,
    },
    Handover,
}

impl ShardKind {
    /// Whether it is said only to those who asked.
    pub fn is_answer(&self) -> bool {
        matches!(
            self,
            ShardKind::Promise { .. }
                | ShardKind::KeyState { .. }
                | ShardKind::WriteAck { .. }
                | ShardKind::ConfirmAck { .. }
                | ShardKind::SealAck { .. }
                | ShardKind::TransferChunk { .. }
                | ShardKind::InstallAck { .. }
                | ShardKind::Digest { .. }
                | ShardKind::Nack { .. }
        )
    }
}

/// What a node knows about who holds a shard.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct MapEntry {
    /// Shard.
    pub shard: ShardId,
    /// Newest known configuration.
    pub config: Config,
    /// Place of the leader in it, when known.
    pub leader: Option<u32>,
}
