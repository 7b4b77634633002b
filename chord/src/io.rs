//! All that crosses the border between the core and its shell.
use crate::{id::Id, member::MemberKey};
use crate::{
    member::NodeRef,
    msg::{Hop, RingReply, RingRequest, ShardMsg},
    shard::record::{OpId, Version},
    store::Seq,
    time::Nanos,
};
use bytes::Bytes;

/// Chosen by the shell for a question from outside; comes back with the answer, exactly once.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Token(pub u64);

/// Chosen by the core for a question to a peer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CallId(pub u64);

/// Something happened.
#[derive(Clone, PartialEq, Hash, Debug)]
pub enum Input {
    /// The time of [`Core::next_deadline`](crate::Core::next_deadline) has come. Early or extra ticks do no harm.
    Tick,
    /// A peer asks over `Ring`.
    Ring {
        /// For the answer.
        token: Token,
        /// The question.
        request: RingRequest,
    },
    /// An [`Output::Call`] has ended.
    CallDone {
        /// Which.
        call: CallId,
        /// Its answer, or how it failed.
        result: Result<RingReply, CallError>,
    },
    /// Messages of a peer's session, in the order they were sent, none twice.
    Shard {
        /// The authenticated sender of the session.
        from: MemberKey,
        /// The messages.
        messages: Vec<ShardMsg>,
    },
    /// No session to this peer: messages sent to it may be lost. Not called for peers never sent to.
    PeerDown {
        /// Which.
        peer: MemberKey,
        /// Its host answers that nobody listens there: no need to wait for a timeout.
        refused: bool,
    },
    /// A client's operation.
    Client {
        /// For the answer.
        token: Token,
        /// What to do.
        operation: Operation,
        /// After this nobody waits for the answer.
        deadline: Nanos,
    },
    /// The client of this operation has gone. Its outcome no longer matters to anybody.
    Abandon(Token),
    /// The operator's or the user's wish.
    Admin {
        /// For the answer.
        token: Token,
        /// What to do.
        request: AdminRequest,
    },
    /// Every batch up to this number is durable.
    Persisted(Seq),
    /// Whether the data volume is so full that writes which grow it must be refused.
    DiskFull(bool),
}

/// Why a call has no answer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum CallError {
    /// Nobody listens at the address, or its name does not resolve.
    Refused,
    /// No answer in time, or the connection broke.
    Unreachable,
    /// An answer that makes no sense, or a refusal of the caller's credentials.
    Rejected,
}

/// Something to do, in order.
#[derive(Clone, PartialEq, Hash, Debug)]
pub enum Output {
    /// Ask a peer over `Ring`; answer by [`Input::CallDone`], also when it fails or `timeout` passes.
    Call {
        /// Names the call.
        call: CallId,
        /// internal host:port.
        addr: String,
        /// The question.
        request: RingRequest,
        /// Time for it.
        timeout: Nanos,
    },
    /// Answer a peer's question.
    Reply {
        /// From [`Input::Ring`].
        token: Token,
        /// The answer.
        reply: RingReply,
    },
    /// Send over the session to a peer, opening one if there is none. May be lost; never reordered within a session.
    Shard {
        /// To whom.
        to: NodeRef,
        /// What.
        message: ShardMsg,
    },
    /// Answer a client.
    Client {
        /// From [`Input::Client`].
        token: Token,
        /// Its outcome.
        outcome: Outcome,
    },
    /// Answer the operator.
    Admin {
        /// From [`Input::Admin`].
        token: Token,
        /// Done, or the sentence that says why not.
        result: Result<(), AdminError>,
    },
    /// For logs, metrics and watchers.
    Event(Event),
}

/// What a client may ask.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Operation {
    /// Linearizable read, or any replica's word.
    Get {
        /// Key.
        key: Bytes,
        /// Whether an old value is good enough.
        stale_ok: bool,
    },
    /// Write.
    Put {
        /// Key.
        key: Bytes,
        /// Value.
        value: Bytes,
        /// Time to live, milliseconds, at least 1.
        ttl_ms: Option<u64>,
        /// For retries.
        op: Retryable,
    },
    /// Delete.
    Delete {
        /// Key.
        key: Bytes,
        /// For retries.
        op: Retryable,
    },
    /// Write or delete, if the revision is the expected one.
    CompareAndSet {
        /// Key.
        key: Bytes,
        /// Expected revision; `None`: absent.
        expected: Option<Version>,
        /// New value; `None`: delete.
        value: Option<Bytes>,
        /// Time to live of the new value, milliseconds, at least 1.
        ttl_ms: Option<u64>,
        /// For retries.
        op: Retryable,
    },
    /// One page of a shard, in key order.
    Scan {
        /// Shard.
        shard: crate::shard::config::ShardId,
        /// Exclusive.
        after: Option<Bytes>,
        /// Most records.
        limit: usize,
    },
    /// A traced lookup over the fingers.
    Lookup {
        /// Identifier.
        target: Id,
    },
}

/// Identity of an operation, and whether it was sent before.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Retryable {
    /// Which.
    pub id: OpId,
    /// Not the first attempt: it may already have taken effect.
    pub retry: bool,
    /// Time since the first attempt.
    pub age: Nanos,
}

/// How a client's operation ended.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Outcome {
    /// `Get`: value, revision and remaining time to live (ms), if there is one.
    Value(Option<(Bytes, Version, Option<u64>)>),
    /// `Put`: revision made.
    Written(Version),
    /// `Delete`: whether there was a value.
    Deleted(bool),
    /// `CompareAndSet`: whether it was applied, and the revision now.
    Compared {
        /// Whether the expectation held.
        applied: bool,
        /// Revision of the key now.
        revision: Option<Version>,
    },
    /// `Scan`: live records in key order, and whether the shard has more.
    Page(Vec<(Bytes, Bytes, Version)>, bool),
    /// `Lookup`.
    Path {
        /// Contacts, this node first.
        hops: Vec<Hop>,
        /// Owner.
        owner: NodeRef,
    },
    /// No effect. Another node leads (when known): ask there.
    NotLeader(Option<NodeRef>),
    /// No effect. The shard has no majority now, or is between configurations; ask again.
    Unavailable(&'static str),
    /// No effect. Too much to do; ask again after so long.
    Overloaded(Nanos),
    /// No effect. The disk is full.
    DiskFull,
    /// No effect. The request itself is wrong: says how.
    Invalid(String),
    /// It takes effect once or never.
    Unknown(&'static str),
}

/// What the operator, or a node's own signal handler, may ask.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct AdminRequest {
    /// Transitions of the operator's Lease; `None`: local, not fenced.
    pub operator_epoch: Option<u64>,
    /// Disk the asker means; `None`: this one.
    pub disk: Option<crate::member::Disk>,
    /// What to do.
    pub action: AdminAction,
}

/// Actions of an [`AdminRequest`]. All idempotent.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum AdminAction {
    /// Found a ring.
    Bootstrap {
        /// Its identity.
        ring_id: u128,
    },
    /// Join a ring.
    Join {
        /// internal host:port of members.
        seeds: Vec<String>,
        /// Which ring; `None`: whichever the seeds are in.
        ring_id: Option<u128>,
    },
    /// Hand everything over, then be Left.
    Leave,
    /// Stay after all.
    AbortLeave,
    /// Hand leadership over and take none for so long.
    PrepareRestart {
        /// How long.
        ttl: Nanos,
    },
    /// Declare another member lost.
    Evict {
        /// Which.
        member: MemberKey,
    },
}

/// Why an [`AdminRequest`] was refused.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum AdminError {
    /// An older operator, or another disk or ring, is meant. Says which.
    Fenced(String),
    /// Not in this state. Says why and what to do.
    Precondition(String),
}

/// Something worth telling people.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Event {
    /// Kind, one of a fixed list: see `RingEvent.kind` in view.proto.
    pub kind: &'static str,
    /// Member it is about.
    pub subject: Option<NodeRef>,
    /// Shard it is about.
    pub shard: Option<crate::shard::config::ShardId>,
    /// One plain sentence.
    pub message: String,
}
