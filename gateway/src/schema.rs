//! The JSON documents of the API.
//!
//! Kept in step with `dashboard/src/api/schema.ts`, which says what each field means to a reader;
//! `testdata/*.json` holds an example of each, and `tests/contract.rs` compares.
use chord::id::Id;
use serde::{Deserialize, Serialize, Serializer};
use utoipa::ToSchema;

/// Largest whole number that every JSON reader holds exactly.
pub const COUNT_MAX: u64 = (1 << 53) - 1;

/// A whole number from 0, cut to 2^53 - 1 so that a JavaScript `number` holds it exactly.
#[derive(ToSchema, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
#[schema(value_type = u64, maximum = 9_007_199_254_740_991_u64)]
pub struct Count(pub u64);

impl Serialize for Count {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0.min(COUNT_MAX))
    }
}

impl From<u64> for Count {
    fn from(value: u64) -> Count {
        Count(value)
    }
}
impl From<u32> for Count {
    fn from(value: u32) -> Count {
        Count(value.into())
    }
}
impl From<usize> for Count {
    fn from(value: usize) -> Count {
        Count(value as u64)
    }
}

/// Milliseconds since the Unix epoch.
pub type Millis = u64;

/// A point on the circle of 2^160: 40 lower-case hexadecimal digits.
#[derive(ToSchema, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[schema(value_type = String, pattern = "^[0-9a-f]{40}$")]
pub struct HexId(pub Id);

impl Serialize for HexId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// An id as it may be asked for: 40 hexadecimal digits, upper or lower case.
#[derive(ToSchema)]
#[schema(value_type = String, pattern = "^[0-9a-fA-F]{40}$")]
pub struct AnyId(pub String);

/// Where a member stands in its life.
#[derive(Serialize, ToSchema, Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    Joining,
    Serving,
    Leaving,
    Left,
    Evicted,
    Empty,
    Unknown,
}

/// A node in passing.
#[derive(Serialize, ToSchema, Clone, PartialEq, Eq, Debug)]
pub struct NodeName {
    pub id: HexId,
    pub name: String,
}

/// A member of the ring.
#[derive(Serialize, ToSchema, Clone, PartialEq, Debug)]
#[serde(rename_all = "camelCase")]
pub struct Node {
    pub id: HexId,
    pub name: String,
    pub state: State,
    /// Whether most of the other members reach it: an opinion.
    pub reachable: bool,
    /// Since when the gateway has heard nothing from it; all else is as of then.
    pub stale_since: Option<Millis>,
    /// Counts the starts of its process.
    pub incarnation: Count,
    /// Failure domain, empty when unknown.
    pub zone: String,
    /// host:port for applications, empty when unknown.
    pub client_addr: String,
    pub predecessor: Option<HexId>,
    /// Nearest first.
    pub successors: Vec<HexId>,
    /// Part of the circle it owns, 0..=1.
    pub owned_share: f64,
    /// Null: never heard from.
    pub stats: Option<NodeStats>,
    pub version: Option<String>,
    pub uptime_ms: Option<Count>,
}

/// What a node measures of itself; totals are since the start of its process.
#[derive(Serialize, ToSchema, Clone, PartialEq, Debug)]
#[serde(rename_all = "camelCase")]
pub struct NodeStats {
    pub keys_leader: Count,
    pub keys_replica: Count,
    pub bytes: Count,
    pub shards_leader: Count,
    pub shards_replica: Count,
    pub shards_under_replicated: Count,
    pub shards_moving: Count,
    pub gets: Count,
    pub puts: Count,
    pub deletes: Count,
    pub ops_per_second: f64,
    /// Microseconds over the last minute; null: no operation.
    #[serde(rename = "latencyP50Us")]
    pub latency_p50_us: Option<Count>,
    #[serde(rename = "latencyP99Us")]
    pub latency_p99_us: Option<Count>,
    pub lookups: Count,
    pub lookup_hops_mean: Option<f64>,
    pub stabilize_rounds: Count,
    pub keys_sent: Count,
    pub keys_received: Count,
}

/// The whole ring in figures.
#[derive(Serialize, ToSchema, Clone, PartialEq, Debug)]
#[serde(rename_all = "camelCase")]
pub struct RingStats {
    pub nodes: Count,
    pub serving: Count,
    pub reachable: Count,
    pub stale: Count,
    pub keys: Count,
    /// Of all replicas.
    pub bytes: Count,
    /// Keys led by the fullest serving node over their mean; null: no keys.
    pub load_max_mean: Option<f64>,
    pub shards_under_replicated: Count,
    pub shards_moving: Count,
    pub gets: Count,
    pub puts: Count,
    pub deletes: Count,
    pub ops_per_second: f64,
    /// Of the slowest node: percentiles of different nodes cannot be added.
    #[serde(rename = "latencyP50UsMax")]
    pub latency_p50_us_max: Option<Count>,
    #[serde(rename = "latencyP99UsMax")]
    pub latency_p99_us_max: Option<Count>,
    pub lookups: Count,
    pub lookup_hops_mean: Option<f64>,
    pub stabilize_rounds: Count,
    pub keys_sent: Count,
    pub keys_received: Count,
    /// Every node is heard from and points to its true neighbours.
    pub converged: bool,
    pub not_converged_because: Option<String>,
}

/// `GET /api/v1/ring`.
#[derive(Serialize, ToSchema, Clone, PartialEq, Debug)]
#[serde(rename_all = "camelCase")]
pub struct Ring {
    /// 32 hexadecimal digits; null before any member was reached.
    pub ring_id: Option<String>,
    pub name: String,
    pub namespace: String,
    /// Number of the last delta this includes.
    pub sequence: Count,
    /// Names the run of the gateway that counts sequences and events.
    pub stream: String,
    pub shards: Count,
    pub replication_factor: Count,
    pub generated_at: Millis,
    pub converged: bool,
    /// Sorted by id.
    pub nodes: Vec<Node>,
    pub stats: RingStats,
    /// Null: no operator has spoken; outside of Kubernetes there is none.
    pub operator: Option<OperatorStatus>,
}

/// What the operator said last, as the members hand it on.
#[derive(Serialize, ToSchema, Clone, PartialEq, Eq, Debug)]
pub struct OperatorStatus {
    /// When it said so, by its own clock.
    pub at: Millis,
    /// Members asked for, members there, members that serve.
    pub wanted: Count,
    pub members: Count,
    pub serving: Count,
    /// Null: nothing is under way.
    pub operation: Option<Operation>,
    pub conditions: Vec<Condition>,
}

/// What the operator does at the moment.
#[derive(Serialize, ToSchema, Clone, PartialEq, Eq, Debug)]
pub struct Operation {
    /// `Join`, `Leave` or `Replace`.
    pub kind: String,
    /// Name of the member it is about.
    pub member: String,
    pub progress: String,
}

/// A condition of the ChordRing.
#[derive(Serialize, ToSchema, Clone, PartialEq, Eq, Debug)]
pub struct Condition {
    #[serde(rename = "type")]
    pub kind: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    pub reason: String,
    pub message: String,
    /// When the status became so.
    pub since: Millis,
}

/// `GET /api/v1/ring/nodes`.
#[derive(Serialize, ToSchema, Clone, PartialEq, Debug)]
pub struct NodeList {
    pub nodes: Vec<Node>,
}

/// `GET /api/v1/ring/nodes/{id}/fingers`.
#[derive(Serialize, ToSchema, Clone, PartialEq, Debug)]
pub struct FingerTable {
    pub node: NodeName,
    pub fingers: Vec<Finger>,
    /// Neighbouring fingers with the same target as one.
    pub folded: Vec<FoldedFinger>,
}

/// Finger `index` points to the first node at or after `start`.
#[derive(Serialize, ToSchema, Clone, PartialEq, Debug)]
pub struct Finger {
    pub index: Count,
    pub start: HexId,
    pub target: Option<NodeName>,
}

/// Fingers `first..=last`, responsible for the circle from `from` up to before `until`.
#[derive(Serialize, ToSchema, Clone, PartialEq, Debug)]
pub struct FoldedFinger {
    pub first: Count,
    pub last: Count,
    pub from: HexId,
    pub until: HexId,
    pub target: Option<NodeName>,
}

/// `GET /api/v1/lookup`.
#[derive(Serialize, ToSchema, Clone, PartialEq, Debug)]
#[serde(rename_all = "camelCase")]
pub struct Lookup {
    /// As asked, when it is text.
    pub key: Option<String>,
    pub target: HexId,
    pub from: NodeName,
    /// As they were really walked.
    pub hops: Vec<Hop>,
    pub elapsed_us: Count,
    pub owner: NodeName,
    pub shard: Count,
    /// The one-hop answer by the cache of `from`.
    pub leader: Option<NodeName>,
    pub replicas: Vec<NodeName>,
}

/// One contact of a lookup.
#[derive(Serialize, ToSchema, Clone, PartialEq, Debug)]
#[serde(rename_all = "camelCase")]
pub struct Hop {
    pub node: NodeName,
    /// Why it was chosen: `start`, `finger 12`, `successor 3`, `owner`.
    pub via: String,
    /// Microseconds from the start of the lookup.
    pub elapsed_us: Count,
    /// Where the target is still sought; at the owner: what it owns.
    pub interval: Interval,
}

/// After `after` (exclusive) clockwise up to `upTo` (inclusive); equal ends are the whole circle.
#[derive(Serialize, ToSchema, Clone, PartialEq, Debug)]
#[serde(rename_all = "camelCase")]
pub struct Interval {
    pub after: HexId,
    pub up_to: HexId,
    /// Part of the circle, 0..=1.
    pub share: f64,
}

/// `GET /api/v1/events`.
#[derive(Serialize, ToSchema, Clone, PartialEq, Debug)]
pub struct EventList {
    pub stream: String,
    /// Number of the oldest event kept; 0: none.
    pub oldest: Count,
    pub newest: Count,
    pub events: Vec<RingEvent>,
}

/// Something that happened in the ring.
#[derive(Serialize, ToSchema, Clone, PartialEq, Eq, Debug)]
pub struct RingEvent {
    pub number: Count,
    pub at: Millis,
    pub kind: String,
    /// Who says it; null: the gateway itself.
    pub reporter: Option<NodeName>,
    pub subject: Option<NodeName>,
    pub shard: Option<Count>,
    pub message: String,
}

/// What the WebSocket sends. Borrowed: a frame is made once from what is published.
#[derive(Serialize, Clone, PartialEq, Debug)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum ServerMessage<'a> {
    Snapshot {
        sequence: Count,
        ring: &'a Ring,
    },
    #[serde(rename_all = "camelCase")]
    Delta {
        sequence: Count,
        generated_at: Millis,
        converged: bool,
        nodes: &'a [Node],
        removed: &'a [HexId],
        stats: &'a RingStats,
        /// Only when it changed.
        #[serde(skip_serializing_if = "Option::is_none")]
        operator: Option<&'a OperatorStatus>,
        events: &'a [RingEvent],
    },
}

/// All a WebSocket client may send.
#[derive(Deserialize, Clone, PartialEq, Eq, Debug)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
pub enum ClientMessage {
    /// Send what came after `sequence`, or a snapshot.
    Resume {
        /// Without it, or of another run: a snapshot.
        stream: Option<String>,
        sequence: u64,
    },
}

/// Every error: RFC 9457.
#[derive(Serialize, ToSchema, Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub title: &'static str,
    pub status: u16,
    /// What is wrong and what to do.
    pub detail: String,
}
