//! Between the wire and the core: field by field, and nothing else. What a peer sends may be anything;
//! what makes no sense becomes an error, never a panic.
use bytes::Bytes;
use chord::{
    id::Id,
    member::{Disk, Member, MemberKey, MemberState, NodeRef},
    msg::{AVOIDED_MAX, Hop, JoinReply, MapEntry, Neighbours, RingReply, RingRequest, ShardKind, ShardMsg, Via},
    shard::{
        config::{Ballot, Config, Seal, ShardId},
        digest::BUCKETS,
        record::{OpId, RecentOp, Record, Version},
    },
};
use chord_proto::v1;

/// A field that is missing or malformed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("field `{0}` is missing or malformed")]
pub struct Malformed(pub &'static str);

type Result<T> = std::result::Result<T, Malformed>;

pub fn id(field: &'static str, bytes: &[u8]) -> Result<Id> {
    Id::from_slice(bytes).ok_or(Malformed(field))
}
pub fn u128_of(field: &'static str, bytes: &[u8]) -> Result<u128> {
    bytes.try_into().map(u128::from_be_bytes).map_err(|_| Malformed(field))
}
pub fn bytes_of(value: u128) -> Bytes {
    Bytes::copy_from_slice(&value.to_be_bytes())
}
pub fn id_bytes(id: Id) -> Bytes {
    Bytes::copy_from_slice(&id.to_bytes())
}

pub fn node(node: v1::NodeRef) -> Result<NodeRef> {
    let disk = Disk(u128_of("disk_uuid", &node.disk_uuid)?);
    Ok(NodeRef {
        key: MemberKey { id: id("id", &node.id)?, disk },
        incarnation: node.incarnation,
        name: node.name,
        internal_addr: node.internal_addr,
        client_addr: node.client_addr,
        zone: node.zone,
    })
}
pub fn required_node(field: &'static str, value: Option<v1::NodeRef>) -> Result<NodeRef> {
    node(value.ok_or(Malformed(field))?)
}
pub fn nodes(values: Vec<v1::NodeRef>) -> Result<Vec<NodeRef>> {
    values.into_iter().map(node).collect()
}
pub fn from_node(node: &NodeRef) -> v1::NodeRef {
    v1::NodeRef {
        id: id_bytes(node.key.id),
        disk_uuid: bytes_of(node.key.disk.0),
        incarnation: node.incarnation,
        name: node.name.clone(),
        internal_addr: node.internal_addr.clone(),
        client_addr: node.client_addr.clone(),
        zone: node.zone.clone(),
    }
}

pub fn from_state(state: MemberState) -> v1::MemberState {
    match state {
        MemberState::Empty => v1::MemberState::Empty,
        MemberState::Joining => v1::MemberState::Joining,
        MemberState::Serving => v1::MemberState::Serving,
        MemberState::Leaving => v1::MemberState::Leaving,
        MemberState::Left => v1::MemberState::Left,
        MemberState::Evicted => v1::MemberState::Evicted,
    }
}
pub fn member(member: v1::Member) -> Result<Member> {
    let state = match v1::MemberState::try_from(member.state).map_err(|_| Malformed("state"))? {
        v1::MemberState::Joining => MemberState::Joining,
        v1::MemberState::Serving => MemberState::Serving,
        v1::MemberState::Leaving => MemberState::Leaving,
        v1::MemberState::Left => MemberState::Left,
        v1::MemberState::Evicted => MemberState::Evicted,
        v1::MemberState::Empty | v1::MemberState::Unspecified => return Err(Malformed("state")),
    };
    Ok(Member { node: required_node("node", member.node)?, revision: member.revision, state })
}
pub fn members(values: Vec<v1::Member>) -> Result<Vec<Member>> {
    values.into_iter().map(member).collect()
}
pub fn from_member(member: &Member, reachable: bool) -> v1::Member {
    v1::Member {
        node: Some(from_node(&member.node)),
        state: from_state(member.state).into(),
        reachable,
        revision: member.revision,
    }
}

pub fn version(version: v1::Version) -> Version {
    Version { epoch: version.epoch, ballot: Ballot(version.ballot), seq: version.seq }
}
pub fn from_version(version: &Version) -> v1::Version {
    v1::Version { epoch: version.epoch, ballot: version.ballot.0, seq: version.seq }
}

// --- Ring -----------------------------------------------------------------------------------------

fn from_via(via: Via) -> String {
    match via {
        Via::Start => "start".into(),
        Via::Finger(index) => format!("finger {index}"),
        Via::Successor(place) => format!("successor {place}"),
        Via::Owner => "owner".into(),
    }
}
fn via(text: &str) -> Result<Via> {
    let number = |prefix: &str| text.strip_prefix(prefix).and_then(|rest| rest.trim().parse().ok());
    match text {
        "start" => Ok(Via::Start),
        "owner" => Ok(Via::Owner),
        _ => (number("finger").map(Via::Finger))
            .or_else(|| number("successor").map(Via::Successor))
            .ok_or(Malformed("via")),
    }
}
pub fn from_hop(hop: &Hop) -> v1::Hop {
    v1::Hop { node: Some(from_node(&hop.node)), via: from_via(hop.via), elapsed_us: hop.elapsed_us }
}
fn hop(hop: v1::Hop) -> Result<Hop> {
    Ok(Hop { node: required_node("node", hop.node)?, via: via(&hop.via)?, elapsed_us: hop.elapsed_us })
}

pub fn from_neighbours(neighbours: Neighbours) -> v1::GetSuccessorListResponse {
    v1::GetSuccessorListResponse {
        node: Some(from_node(&neighbours.node)),
        member: neighbours.member,
        successors: neighbours.successors.iter().map(from_node).collect(),
        predecessor: neighbours.predecessor.as_ref().map(from_node),
        busy: neighbours.busy,
    }
}
pub fn neighbours(reply: v1::GetSuccessorListResponse) -> Result<Neighbours> {
    Ok(Neighbours {
        node: required_node("node", reply.node)?,
        member: reply.member,
        successors: nodes(reply.successors)?,
        predecessor: reply.predecessor.map(node).transpose()?,
        busy: reply.busy,
    })
}

pub fn find_successor(request: v1::FindSuccessorRequest) -> Result<RingRequest> {
    Ok(RingRequest::FindSuccessor { target: id("target", &request.target)?, hops: request.hops, trace: request.trace })
}
pub fn find_successor_reply(reply: v1::FindSuccessorResponse) -> Result<RingReply> {
    let predecessor =
        (!reply.predecessor_id.is_empty()).then(|| id("predecessor_id", &reply.predecessor_id)).transpose()?;
    let path = reply.path.into_iter().map(hop).collect::<Result<_>>()?;
    Ok(RingReply::FindSuccessor { owner: required_node("owner", reply.owner)?, predecessor, path })
}
pub fn closest_request(request: v1::ClosestPrecedingFingerRequest) -> Result<RingRequest> {
    if request.avoid.len() > AVOIDED_MAX {
        return Err(Malformed("avoid"));
    }
    let avoid = request.avoid.iter().map(|bytes| id("avoid", bytes)).collect::<Result<_>>()?;
    Ok(RingRequest::ClosestPrecedingFinger {
        target: id("target", &request.target)?,
        avoid,
        as_owner: request.as_owner,
    })
}
pub fn closest(reply: v1::ClosestPrecedingFingerResponse) -> Result<RingReply> {
    let node = required_node("node", reply.node)?;
    Ok(RingReply::ClosestPrecedingFinger { node, is_owner: reply.is_owner, via: via(&reply.via)? })
}
pub fn from_closest(node: &NodeRef, is_owner: bool, via: Via) -> v1::ClosestPrecedingFingerResponse {
    v1::ClosestPrecedingFingerResponse { node: Some(from_node(node)), is_owner, via: from_via(via) }
}
pub fn finger_table(reply: v1::GetFingerTableResponse) -> Result<RingReply> {
    let finger = |finger: v1::Finger| Ok((finger.index, required_node("node", finger.node)?));
    Ok(RingReply::GetFingerTable(reply.fingers.into_iter().map(finger).collect::<Result<_>>()?))
}
pub fn leave(request: v1::LeaveRequest) -> Result<RingRequest> {
    Ok(RingRequest::Leave {
        from: required_node("from", request.from)?,
        predecessor: request.predecessor.map(node).transpose()?,
        successors: nodes(request.successors)?,
    })
}
pub fn gossip(request: v1::GossipRequest) -> Result<RingRequest> {
    Ok(RingRequest::Gossip {
        from: required_node("from", request.from)?,
        view_hash: request.view_hash,
        rumors: members(request.rumors)?,
        map_hash: request.map_hash,
    })
}
pub fn from_join_reply(reply: JoinReply) -> v1::JoinResponse {
    use v1::join_response::Outcome;
    let outcome = match reply {
        JoinReply::Accepted { predecessor, successors, ring_id, shards, replication_factor, members } => {
            Outcome::Accepted(v1::JoinAccepted {
                predecessor: Some(from_node(&predecessor)),
                successors: successors.iter().map(from_node).collect(),
                ring_id: bytes_of(ring_id),
                shards,
                replication_factor: replication_factor as u32,
                members: members.iter().map(|member| from_member(member, true)).collect(),
            })
        }
        JoinReply::Redirect(node) => Outcome::Redirect(from_node(&node)),
        JoinReply::Busy(millis) => Outcome::BusyMs(millis),
        JoinReply::Refused(why) => Outcome::Refused(why),
    };
    v1::JoinResponse { outcome: Some(outcome) }
}
pub fn join_reply(reply: v1::JoinResponse) -> Result<JoinReply> {
    use v1::join_response::Outcome;
    Ok(match reply.outcome.ok_or(Malformed("outcome"))? {
        Outcome::Accepted(accepted) => JoinReply::Accepted {
            predecessor: required_node("predecessor", accepted.predecessor)?,
            successors: nodes(accepted.successors)?,
            ring_id: u128_of("ring_id", &accepted.ring_id)?,
            shards: Some(accepted.shards).filter(|n| n.is_power_of_two() && *n <= 65_536).ok_or(Malformed("shards"))?,
            replication_factor: Some(accepted.replication_factor as usize)
                .filter(|factor| (1..=chord::settings::REPLICATION_FACTOR_MAX).contains(factor))
                .ok_or(Malformed("replication_factor"))?,
            members: members(accepted.members)?,
        },
        Outcome::Redirect(to) => JoinReply::Redirect(node(to)?),
        Outcome::BusyMs(millis) => JoinReply::Busy(millis),
        Outcome::Refused(why) => JoinReply::Refused(why),
    })
}

// --- Shard ----------------------------------------------------------------------------------------

fn from_key(key: &MemberKey) -> v1::MemberKey {
    v1::MemberKey { id: id_bytes(key.id), disk_uuid: bytes_of(key.disk.0) }
}
pub fn from_config(config: &Config) -> v1::NextConfig {
    v1::NextConfig { epoch: config.epoch, members: config.members.iter().map(from_key).collect() }
}
fn config(config: Option<v1::NextConfig>) -> Result<Config> {
    let config = config.ok_or(Malformed("config"))?;
    if config.members.len() > chord::settings::REPLICATION_FACTOR_MAX {
        return Err(Malformed("config"));
    }
    let key = |key: v1::MemberKey| {
        Ok(MemberKey { id: id("id", &key.id)?, disk: Disk(u128_of("disk_uuid", &key.disk_uuid)?) })
    };
    Ok(Config { epoch: config.epoch, members: config.members.into_iter().map(key).collect::<Result<_>>()? })
}
fn from_record(key: &Bytes, record: &Record) -> v1::Record {
    v1::Record {
        key: key.clone(),
        version: Some(from_version(&record.version)),
        revision: (record.revision != record.version).then(|| from_version(&record.revision)),
        value: record.value.clone(),
        expires_at_ms: record.expires_at_ms.unwrap_or(0),
        recent: record
            .recent
            .iter()
            .map(|recent| v1::RecentOp {
                client: bytes_of(recent.id.client),
                number: recent.id.number,
                made: recent.made.as_ref().map(from_version),
                found: recent.found.as_ref().map(from_version),
            })
            .collect(),
        forgotten: record.forgotten.as_ref().map(from_version),
    }
}
fn record(wire: v1::Record) -> Result<(Bytes, Record)> {
    let made = version(wire.version.ok_or(Malformed("version"))?);
    let recent = wire.recent.into_iter().map(|recent| {
        let id = OpId { client: u128_of("client", &recent.client)?, number: recent.number };
        Ok(RecentOp { id, made: recent.made.map(version), found: recent.found.map(version) })
    });
    let record = Record {
        version: made,
        revision: wire.revision.map_or(made, version),
        value: wire.value,
        expires_at_ms: (wire.expires_at_ms != 0).then_some(wire.expires_at_ms),
        recent: recent.collect::<Result<_>>()?,
        forgotten: wire.forgotten.map(version),
    };
    Ok((wire.key, record))
}
fn from_records(records: &[(Bytes, Record)]) -> Vec<v1::Record> {
    records.iter().map(|(key, record)| from_record(key, record)).collect()
}
fn records(wire: Vec<v1::Record>) -> Result<Vec<(Bytes, Record)>> {
    wire.into_iter().map(record).collect()
}
fn from_versions(keys: &[(Bytes, Version)]) -> Vec<v1::KeyVersion> {
    let one =
        |(key, version): &(Bytes, Version)| v1::KeyVersion { key: key.clone(), version: Some(from_version(version)) };
    keys.iter().map(one).collect()
}
fn versions(wire: Vec<v1::KeyVersion>) -> Result<Vec<(Bytes, Version)>> {
    let one = |entry: v1::KeyVersion| Ok((entry.key, version(entry.version.ok_or(Malformed("version"))?)));
    wire.into_iter().map(one).collect()
}

pub fn from_shard_msg(msg: &ShardMsg) -> v1::ShardMessage {
    use v1::shard_message::Kind;
    let kind = match &msg.kind {
        ShardKind::Prepare => Kind::Prepare(v1::Prepare {}),
        ShardKind::Promise { seal, digest } => Kind::Promise(v1::Promise {
            seal: seal
                .as_ref()
                .map(|seal| v1::SealState { ballot: seal.ballot.0, next: Some(from_config(&seal.next)) }),
            digest: bytes_of(*digest),
        }),
        ShardKind::ReadKey { key } => Kind::ReadKey(v1::ReadKey { key: key.clone() }),
        ShardKind::KeyState { key, record } => Kind::KeyState(v1::KeyState {
            key: key.clone(),
            record: record.as_ref().map(|record| from_record(key, record)),
        }),
        ShardKind::Write { key, record } => Kind::Write(v1::Write { record: Some(from_record(key, record)) }),
        ShardKind::WriteAck { key, version } => {
            Kind::WriteAck(v1::WriteAck { key: key.clone(), version: Some(from_version(version)) })
        }
        ShardKind::Confirm { number } => Kind::Confirm(v1::Confirm { number: *number }),
        ShardKind::ConfirmAck { number } => Kind::ConfirmAck(v1::ConfirmAck { number: *number }),
        ShardKind::Seal { next } => Kind::Seal(v1::Seal { next: Some(from_config(next)) }),
        ShardKind::SealAck { digest } => Kind::SealAck(v1::SealAck { digest: bytes_of(*digest) }),
        ShardKind::TransferRequest { after, round } => {
            Kind::TransferRequest(v1::TransferRequest { after: after.clone(), round: *round })
        }
        ShardKind::TransferChunk { records, round, last } => {
            Kind::TransferChunk(v1::TransferChunk { records: from_records(records), round: *round, last: *last })
        }
        ShardKind::Install { next, attempt, records, part, last, digest, pre_copy, full } => {
            Kind::Install(v1::Install {
                next: Some(from_config(next)),
                records: from_records(records),
                part: *part,
                last: *last,
                digest: bytes_of(*digest),
                pre_copy: *pre_copy,
                full: *full,
                attempt: *attempt,
            })
        }
        ShardKind::InstallAck { attempt, part, last, pre_copy, mismatch } => Kind::InstallAck(v1::InstallAck {
            attempt: *attempt,
            part: *part,
            last: *last,
            pre_copy: *pre_copy,
            mismatch: *mismatch,
        }),
        ShardKind::DigestRequest { buckets } => Kind::DigestRequest(v1::DigestRequest { buckets: buckets.clone() }),
        ShardKind::Digest { sums, keys, buckets } => Kind::Digest(v1::Digest {
            sums: sums.as_ref().map(|sums| sums.iter().flat_map(|sum| sum.to_be_bytes()).collect()).unwrap_or_default(),
            keys: from_versions(keys),
            buckets: buckets.clone(),
        }),
        ShardKind::Stable { keys } => Kind::Stable(v1::Stable { keys: from_versions(keys) }),
        ShardKind::Nack { promised, config, sealed, lost } => {
            let config = config.as_ref().map(from_config);
            Kind::Nack(v1::Nack { promised: promised.0, config, sealed: *sealed, lost: *lost })
        }
        ShardKind::Retire { next } => Kind::Retire(v1::Retire { next: Some(from_config(next)) }),
        ShardKind::MapRequest { shards } => {
            Kind::MapRequest(v1::MapRequest { shards: shards.iter().map(|shard| shard.0).collect() })
        }
        ShardKind::MapUpdate { entries } => Kind::MapUpdate(v1::MapUpdate {
            entries: entries
                .iter()
                .map(|entry| v1::MapEntry {
                    shard: entry.shard.0,
                    config: Some(from_config(&entry.config)),
                    leader: entry.leader,
                })
                .collect(),
        }),
        ShardKind::Handover => Kind::Handover(v1::Handover {}),
    };
    v1::ShardMessage { shard: msg.shard.0, epoch: msg.epoch, ballot: msg.ballot.0, kind: Some(kind) }
}

pub fn shard_msg(wire: v1::ShardMessage) -> Result<ShardMsg> {
    use v1::shard_message::Kind;
    let kind = match wire.kind.ok_or(Malformed("kind"))? {
        Kind::Prepare(_) => ShardKind::Prepare,
        Kind::Promise(promise) => ShardKind::Promise {
            seal: promise
                .seal
                .map(|seal| Ok(Seal { ballot: Ballot(seal.ballot), next: config(seal.next)? }))
                .transpose()?,
            digest: u128_of("digest", &promise.digest)?,
        },
        Kind::ReadKey(read) => ShardKind::ReadKey { key: read.key },
        Kind::KeyState(state) => ShardKind::KeyState {
            key: state.key,
            record: state.record.map(record).transpose()?.map(|(_, record)| record),
        },
        Kind::Write(write) => {
            let (key, record) = record(write.record.ok_or(Malformed("record"))?)?;
            ShardKind::Write { key, record }
        }
        Kind::WriteAck(ack) => {
            ShardKind::WriteAck { key: ack.key, version: version(ack.version.ok_or(Malformed("version"))?) }
        }
        Kind::Confirm(confirm) => ShardKind::Confirm { number: confirm.number },
        Kind::ConfirmAck(ack) => ShardKind::ConfirmAck { number: ack.number },
        Kind::Seal(seal) => ShardKind::Seal { next: config(seal.next)? },
        Kind::SealAck(ack) => ShardKind::SealAck { digest: u128_of("digest", &ack.digest)? },
        Kind::TransferRequest(request) => ShardKind::TransferRequest { after: request.after, round: request.round },
        Kind::TransferChunk(chunk) => {
            ShardKind::TransferChunk { records: records(chunk.records)?, round: chunk.round, last: chunk.last }
        }
        Kind::Install(install) => ShardKind::Install {
            next: config(install.next)?,
            attempt: install.attempt,
            records: records(install.records)?,
            part: install.part,
            last: install.last,
            digest: u128_of("digest", &install.digest)?,
            pre_copy: install.pre_copy,
            full: install.full,
        },
        Kind::InstallAck(ack) => ShardKind::InstallAck {
            attempt: ack.attempt,
            part: ack.part,
            last: ack.last,
            pre_copy: ack.pre_copy,
            mismatch: ack.mismatch,
        },
        Kind::DigestRequest(request) => ShardKind::DigestRequest { buckets: request.buckets },
        Kind::Digest(digest) => {
            let sums = match digest.sums.len() {
                0 => None,
                length if length == 16 * BUCKETS => {
                    let mut sums = [0; BUCKETS];
                    for (sum, bytes) in sums.iter_mut().zip(digest.sums.chunks(16)) {
                        *sum = u128_of("sums", bytes)?;
                    }
                    Some(Box::new(sums))
                }
                _ => return Err(Malformed("sums")),
            };
            ShardKind::Digest { sums, keys: versions(digest.keys)?, buckets: digest.buckets }
        }
        Kind::Stable(stable) => ShardKind::Stable { keys: versions(stable.keys)? },
        Kind::Nack(nack) => ShardKind::Nack {
            promised: Ballot(nack.promised),
            config: nack.config.map(|next| config(Some(next))).transpose()?,
            sealed: nack.sealed,
            lost: nack.lost,
        },
        Kind::Retire(retire) => ShardKind::Retire { next: config(retire.next)? },
        Kind::MapRequest(request) => {
            ShardKind::MapRequest { shards: request.shards.into_iter().map(ShardId).collect() }
        }
        Kind::MapUpdate(update) => ShardKind::MapUpdate {
            entries: update
                .entries
                .into_iter()
                .map(|entry| {
                    Ok(MapEntry { shard: ShardId(entry.shard), config: config(entry.config)?, leader: entry.leader })
                })
                .collect::<Result<_>>()?,
        },
        Kind::Handover(_) => ShardKind::Handover,
    };
    Ok(ShardMsg { shard: ShardId(wire.shard), epoch: wire.epoch, ballot: Ballot(wire.ballot), kind })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use prost::Message as _;

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            if let Ok(frame) = v1::ShardFrame::decode(&bytes[..]) {
                for message in frame.messages {
                    let _ = shard_msg(message);
                }
            }
            if let Ok(reply) = v1::JoinResponse::decode(&bytes[..]) {
                let _ = join_reply(reply);
            }
        }
    }

    #[test]
    fn shard_messages_come_back_as_they_were() {
        let member = |n: u128| MemberKey { id: Id::from(n as u64), disk: Disk(n) };
        let next = Config { epoch: 7, members: vec![member(1), member(2)] };
        let version = |seq| Version { epoch: 3, ballot: Ballot(33), seq };
        let record = Record {
            version: version(9),
            revision: version(4),
            value: Some(Bytes::from_static(b"v")),
            expires_at_ms: Some(12),
            recent: vec![RecentOp { id: OpId { client: 5, number: 6 }, made: Some(version(4)), found: None }],
            forgotten: Some(version(3)),
        };
        let key = Bytes::from_static(b"k");
        let kinds = vec![
            ShardKind::Promise { seal: Some(Seal { ballot: Ballot(17), next: next.clone() }), digest: 99 },
            ShardKind::KeyState { key: key.clone(), record: Some(record.clone()) },
            ShardKind::Write { key: key.clone(), record: record.clone() },
            ShardKind::Install {
                next: next.clone(),
                attempt: 2,
                records: vec![(key.clone(), record)],
                part: 3,
                last: true,
                digest: 1 << 100,
                pre_copy: false,
                full: true,
            },
            ShardKind::Digest { sums: Some(Box::new([7; BUCKETS])), keys: vec![(key, version(1))], buckets: vec![1] },
            ShardKind::Nack { promised: Ballot(5), config: Some(next.clone()), sealed: true, lost: true },
            ShardKind::MapUpdate { entries: vec![MapEntry { shard: ShardId(3), config: next, leader: Some(1) }] },
        ];
        for kind in kinds {
            let msg = ShardMsg { shard: ShardId(5), epoch: 6, ballot: Ballot(18), kind };
            assert_eq!(shard_msg(from_shard_msg(&msg)), Ok(msg));
        }
    }
}
