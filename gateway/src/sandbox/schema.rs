//! What is said on a sandbox's WebSocket; `dashboard/src/api/sandbox.ts` says the same.
use crate::schema::HexId;
use serde::{Deserialize, Serialize};

/// Longest key and value a visitor may write, bytes.
pub const KEY_BYTES_MAX: usize = 64;
pub const VALUE_BYTES_MAX: usize = 256;
/// Keys one command may write.
pub const FILL_MAX: usize = 50;

/// What a visitor may want. Nodes are meant by their number.
#[derive(Deserialize, Clone, PartialEq, Debug)]
#[serde(tag = "type", rename_all = "camelCase", deny_unknown_fields)]
pub enum Command {
    /// Another world, with so many nodes in a ring that has come to rest.
    Reset { nodes: u32 },
    /// One more node joins.
    Add {},
    /// A node's process ends at once; its disk stays.
    Fail { node: usize },
    /// It starts again over its disk.
    Revive { node: usize },
    /// A node hands over and goes.
    Leave { node: usize },
    /// Writes a key.
    Put { key: String, value: String },
    /// Writes so many keys.
    Fill { keys: usize },
    /// Reads a key.
    Get { key: String },
    /// Asks a node where a key belongs.
    Lookup { node: usize, key: String },
    /// Nothing passes between two groups of nodes any more: those listed, and the others.
    Cut { nodes: Vec<usize> },
    /// Everything passes.
    Heal {},
    /// Simulated seconds for each real one, 0..=8; 0: it stands.
    Speed { factor: f64 },
    /// On to the next thing worth an explanation, and stop there.
    Step {},
}

/// A thing worth an explanation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Saying {
    pub title: &'static str,
    pub text: String,
}

/// One line of what happened.
#[derive(Serialize, Clone, PartialEq, Debug)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// From 1, without gaps.
    pub number: u64,
    /// Simulated milliseconds.
    pub at_ms: u64,
    /// Who says or does it; `null`: the visitor.
    pub node: Option<usize>,
    /// Whom it is said to.
    pub to: Option<usize>,
    pub title: String,
    pub text: String,
}

#[derive(Serialize, Clone, PartialEq, Debug)]
#[serde(rename_all = "camelCase")]
pub struct NodeView {
    pub node: usize,
    pub name: String,
    pub id: HexId,
    /// As in the real ring's documents.
    pub state: &'static str,
    /// Its process runs.
    pub up: bool,
    pub predecessor: Option<usize>,
    /// Nearest first.
    pub successors: Vec<usize>,
    /// Distinct targets.
    pub fingers: Vec<usize>,
    pub keys_leader: u64,
    pub keys_replica: u64,
    pub shards_moving: u32,
    pub keys_sent: u64,
    pub keys_received: u64,
}

/// A message on its way.
#[derive(Serialize, Clone, PartialEq, Debug)]
#[serde(rename_all = "camelCase")]
pub struct Flight {
    pub from: usize,
    pub to: usize,
    /// "join", "stabilize", "notify", "transfer", …
    pub title: &'static str,
    /// Simulated milliseconds, with fractions.
    pub sent_ms: f64,
    pub arrives_ms: f64,
}

/// Everything, as of one moment; `log` holds what is new since the last one.
#[derive(Serialize, Clone, PartialEq, Debug)]
#[serde(tag = "type", rename = "world", rename_all = "camelCase")]
pub struct Frame {
    /// Counts the worlds of this socket: another one begins with `Reset`.
    pub world: u64,
    /// Simulated milliseconds since the world began, with fractions.
    pub now_ms: f64,
    pub speed: f64,
    /// The ring is as it should be: every node that runs points to its true neighbours.
    pub ideal: bool,
    pub replication_factor: usize,
    pub nodes: Vec<NodeView>,
    /// Numbers of the nodes that are cut off from the others.
    pub cut: Vec<usize>,
    pub flights: Vec<Flight>,
    pub log: Vec<Entry>,
    /// Real milliseconds until the sandbox ends.
    pub expires_in_ms: u64,
}
