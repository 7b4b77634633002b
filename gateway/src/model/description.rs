//! A member's description, taken apart and checked: what a peer sends is never trusted to have the right shape.
use crate::schema::{Condition, HexId, NodeName, Operation, OperatorStatus};
use chord::{
    id::Id,
    member::{Disk, Member, MemberKey, MemberState, NodeRef},
};
use chord_proto::v1;

/// Longest text taken from a node, bytes; longer ones are cut.
const TEXT_BYTES_MAX: usize = 512;
/// Conditions taken from a node.
const CONDITIONS_MAX: usize = 32;

/// `v1::DescribeResponse` with every id an [`Id`].
#[derive(Clone, PartialEq, Debug)]
pub struct Description {
    pub node: NodeRef,
    pub state: MemberState,
    /// 32 hexadecimal digits; `None`: in no ring yet.
    pub ring_id: Option<String>,
    pub predecessor: Option<Id>,
    pub successors: Vec<Id>,
    /// Each with whether this node reaches it.
    pub members: Vec<(Member, bool)>,
    pub stats: v1::NodeStats,
    pub version: String,
    pub uptime_ms: u64,
    pub shards: u32,
    pub replication_factor: u32,
    /// The operator's last word, with the number of the operator.
    pub operator: Option<(u64, OperatorStatus)>,
}

impl Description {
    /// From the wire.
    ///
    /// # Errors
    /// Names the field that has not the right shape.
    pub fn parse(wire: v1::DescribeResponse) -> Result<Description, String> {
        let ring_id = match wire.ring_id.len() {
            0 => None,
            16 => Some(wire.ring_id.iter().map(|byte| format!("{byte:02x}")).collect()),
            other => return Err(format!("ring_id has {other} bytes, not 16")),
        };
        let members = wire.members.into_iter().map(member).collect::<Result<_, _>>()?;
        let successors = wire.successors.iter().map(|node| id("successors", &node.id)).collect::<Result<_, _>>()?;
        Ok(Description {
            node: node("node", wire.node.unwrap_or_default())?,
            state: state(wire.state)?,
            ring_id,
            predecessor: wire.predecessor.map(|node| id("predecessor", &node.id)).transpose()?,
            successors,
            members,
            stats: wire.stats.unwrap_or_default(),
            version: cut(wire.version),
            uptime_ms: wire.uptime_ms,
            shards: wire.shards,
            replication_factor: wire.replication_factor,
            operator: wire.operator.map(|said| (said.operator_epoch, operator(said))),
        })
    }
}

fn operator(wire: v1::OperatorStatus) -> OperatorStatus {
    let step = |step: v1::OperatorStep| Operation {
        kind: cut(step.kind),
        member: cut(step.member),
        progress: cut(step.progress),
    };
    let condition = |it: v1::OperatorCondition| Condition {
        kind: cut(it.r#type),
        status: cut(it.status),
        reason: cut(it.reason),
        message: cut(it.message),
        since: it.since_ms,
    };
    OperatorStatus {
        at: wire.at_ms,
        wanted: wire.wanted.into(),
        members: wire.members.into(),
        serving: wire.serving.into(),
        operation: wire.operation.map(step),
        conditions: wire.conditions.into_iter().take(CONDITIONS_MAX).map(condition).collect(),
    }
}

fn member(wire: v1::Member) -> Result<(Member, bool), String> {
    let (state, revision) = (state(wire.state)?, wire.revision);
    let node = node("members", wire.node.unwrap_or_default())?;
    Ok((Member { node, revision, state }, wire.reachable))
}

fn node(field: &str, wire: v1::NodeRef) -> Result<NodeRef, String> {
    let disk: [u8; 16] = wire.disk_uuid[..].try_into().map_err(|_| format!("{field}: disk_uuid has not 16 bytes"))?;
    Ok(NodeRef {
        key: MemberKey { id: id(field, &wire.id)?, disk: Disk(u128::from_be_bytes(disk)) },
        incarnation: wire.incarnation,
        name: cut(wire.name),
        internal_addr: cut(wire.internal_addr),
        client_addr: cut(wire.client_addr),
        zone: cut(wire.zone),
    })
}

fn state(wire: i32) -> Result<MemberState, String> {
    match v1::MemberState::try_from(wire) {
        Ok(v1::MemberState::Empty) => Ok(MemberState::Empty),
        Ok(v1::MemberState::Joining) => Ok(MemberState::Joining),
        Ok(v1::MemberState::Serving) => Ok(MemberState::Serving),
        Ok(v1::MemberState::Leaving) => Ok(MemberState::Leaving),
        Ok(v1::MemberState::Left) => Ok(MemberState::Left),
        Ok(v1::MemberState::Evicted) => Ok(MemberState::Evicted),
        Ok(v1::MemberState::Unspecified) | Err(_) => Err(format!("{wire} is not a member's state")),
    }
}

fn id(field: &str, bytes: &[u8]) -> Result<Id, String> {
    Id::from_slice(bytes).ok_or_else(|| format!("{field}: an id has {} bytes, not 20", bytes.len()))
}

/// The id of a node that a member names.
///
/// # Errors
/// When it is none, with `field` in the message.
pub fn id_of(field: &str, bytes: &[u8]) -> Result<HexId, String> {
    id(field, bytes).map(HexId)
}

/// A node that a member names, as far as documents show it.
///
/// # Errors
/// When it has no id, with `field` in the message.
pub fn name_of(field: &str, wire: v1::NodeRef) -> Result<NodeName, String> {
    Ok(NodeName { id: id_of(field, &wire.id)?, name: cut(wire.name) })
}

/// Cuts a text to what one may keep of it.
pub fn cut(mut text: String) -> String {
    if text.len() > TEXT_BYTES_MAX {
        let end = (0..=TEXT_BYTES_MAX).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
    }
    text
}
