//! The layout on disk, version 2. Own, versioned and checked; never a serializer's.
//!
//! | keyspace | key | value |
//! |---|---|---|
//! | `records` | shard (u32 BE), key | sealed record |
//! | `metas` | shard (u32 BE) | sealed replica metadata |
//! | `digests` | shard (u32 BE), bucket (u8; 255: counts) | sum (u128 LE), or keys, tombstones, bytes (u64 LE each) |
//! | `expiries` | end (u64 BE), shard (u32 BE), key | empty |
//! | `node` | `meta` | sealed node metadata |
//!
//! Sealed: format (1 byte), CRC-32 (u32 LE) of the kind, the key and the rest, the rest. What is sound but under another
//! key is as damaged as what is not. Integers are little-endian unless they are part of a key; texts and lists are
//! preceded by their length (u32).
//!
//! Format 1 had the same, but its checksums were of the rest only. It is still read; the scrub seals it anew ([`reseal`]).
use bytes::{BufMut, Bytes, BytesMut};
use chord::{
    id::{self, Id},
    member::{Disk, Member, MemberKey, MemberState, NodeRef},
    shard::{
        config::{Ballot, Config, ReplicaMeta, Seal, ShardId},
        record::{OpId, RecentOp, Record, Version},
    },
    store::NodeMeta,
};
use std::ops::Bound;

/// Version of this layout. A directory of a newer one is refused.
pub const FORMAT: u8 = 2;
/// The oldest that is still read.
pub const OLDEST: u8 = 1;

/// Key of the node metadata.
pub const NODE: &[u8] = b"meta";

/// What can be sealed. The numbers are part of the checksums.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A record.
    Record = 1,
    /// Metadata of a replica.
    Meta = 2,
    /// Metadata of the node.
    Node = 3,
}

/// What is on disk cannot be what was written there.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the stored {what} is damaged ({why})")]
pub struct Damaged {
    /// Which kind of thing.
    pub what: &'static str,
    /// How it shows.
    pub why: &'static str,
}

fn checksum(format: u8, kind: Kind, key: &[u8], body: &[u8]) -> [u8; 4] {
    let mut crc = crc32fast::Hasher::new();
    if format > OLDEST {
        crc.update(&[kind as u8]);
        crc.update(key);
    }
    crc.update(body);
    crc.finalize().to_le_bytes()
}

/// Seals what is stored under a key.
pub fn seal(kind: Kind, key: &[u8], body: &[u8]) -> Vec<u8> {
    [&[FORMAT][..], &checksum(FORMAT, kind, key, body), body].concat()
}

fn open<'a>(kind: Kind, key: &[u8], bytes: &'a [u8]) -> Result<Reader<'a>, Damaged> {
    let what = match kind {
        Kind::Record => "record",
        Kind::Meta => "replica metadata",
        Kind::Node => "node metadata",
    };
    let damaged = |why| Damaged { what, why };
    let (head, body) = bytes.split_at_checked(5).ok_or(damaged("too short"))?;
    if !(OLDEST..=FORMAT).contains(&head[0]) {
        return Err(damaged("unknown format"));
    }
    if checksum(head[0], kind, key, body) != head[1..] {
        return Err(damaged("wrong checksum"));
    }
    Ok(Reader { rest: body, what })
}

/// Whether something was sealed by an older version.
pub fn is_old(sealed: &[u8]) -> bool {
    sealed.first().is_some_and(|format| *format < FORMAT)
}

/// Seals anew what an older version sealed; `None` when that is not needed.
///
/// # Errors
/// [`Damaged`].
pub fn reseal(kind: Kind, key: &[u8], sealed: &[u8]) -> Result<Option<Vec<u8>>, Damaged> {
    let body = open(kind, key, sealed)?.rest;
    Ok(is_old(sealed).then(|| seal(kind, key, body)))
}

struct Reader<'a> {
    rest: &'a [u8],
    what: &'static str,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Damaged> {
        let (taken, rest) =
            self.rest.split_at_checked(count).ok_or(Damaged { what: self.what, why: "ends too early" })?;
        self.rest = rest;
        Ok(taken)
    }
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Damaged> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }
    fn u8(&mut self) -> Result<u8, Damaged> {
        Ok(self.array::<1>()?[0])
    }
    fn u32(&mut self) -> Result<u32, Damaged> {
        self.array().map(u32::from_le_bytes)
    }
    fn u64(&mut self) -> Result<u64, Damaged> {
        self.array().map(u64::from_le_bytes)
    }
    fn u128(&mut self) -> Result<u128, Damaged> {
        self.array().map(u128::from_le_bytes)
    }
    fn version(&mut self) -> Result<Version, Damaged> {
        Ok(Version { epoch: self.u64()?, ballot: Ballot(self.u64()?), seq: self.u64()? })
    }
    fn text(&mut self) -> Result<String, Damaged> {
        let length = self.u32()? as usize;
        let bytes = self.take(length)?.to_vec();
        String::from_utf8(bytes).map_err(|_| Damaged { what: self.what, why: "text is not UTF-8" })
    }
    fn key(&mut self) -> Result<MemberKey, Damaged> {
        let id = Id::from_bytes(self.array::<{ id::BYTES }>()?);
        Ok(MemberKey { id, disk: Disk(self.u128()?) })
    }
    fn keys(&mut self) -> Result<Vec<MemberKey>, Damaged> {
        (0..self.u8()?).map(|_| self.key()).collect()
    }
    fn config(&mut self) -> Result<Config, Damaged> {
        Ok(Config { epoch: self.u64()?, members: self.keys()? })
    }
    fn seal(&mut self) -> Result<Option<Seal>, Damaged> {
        Ok(match self.u8()? {
            0 => None,
            _ => Some(Seal { ballot: Ballot(self.u64()?), next: self.config()? }),
        })
    }
    fn member(&mut self) -> Result<Member, Damaged> {
        let key = self.key()?;
        let incarnation = self.u64()?;
        let (name, internal_addr, client_addr, zone) = (self.text()?, self.text()?, self.text()?, self.text()?);
        let revision = self.u64()?;
        let state = match self.u8()? {
            1 => MemberState::Empty,
            2 => MemberState::Joining,
            3 => MemberState::Serving,
            4 => MemberState::Leaving,
            5 => MemberState::Left,
            6 => MemberState::Evicted,
            _ => return Err(Damaged { what: self.what, why: "unknown member state" }),
        };
        Ok(Member { node: NodeRef { key, incarnation, name, internal_addr, client_addr, zone }, revision, state })
    }
}

fn put_version(out: &mut BytesMut, version: &Version) {
    out.put_u64_le(version.epoch);
    out.put_u64_le(version.ballot.0);
    out.put_u64_le(version.seq);
}
fn put_text(out: &mut BytesMut, text: &str) {
    out.put_u32_le(text.len() as u32);
    out.put_slice(text.as_bytes());
}
fn put_key(out: &mut BytesMut, key: &MemberKey) {
    out.put_slice(&key.id.to_bytes());
    out.put_u128_le(key.disk.0);
}
fn put_keys(out: &mut BytesMut, keys: &[MemberKey]) {
    out.put_u8(keys.len() as u8);
    keys.iter().for_each(|key| put_key(out, key));
}
fn put_config(out: &mut BytesMut, config: &Config) {
    out.put_u64_le(config.epoch);
    put_keys(out, &config.members);
}
fn put_seal(out: &mut BytesMut, seal: Option<&Seal>) {
    out.put_u8(u8::from(seal.is_some()));
    if let Some(seal) = seal {
        out.put_u64_le(seal.ballot.0);
        put_config(out, &seal.next);
    }
}
fn put_member(out: &mut BytesMut, member: &Member) {
    let node = &member.node;
    put_key(out, &node.key);
    out.put_u64_le(node.incarnation);
    for text in [&node.name, &node.internal_addr, &node.client_addr, &node.zone] {
        put_text(out, text);
    }
    out.put_u64_le(member.revision);
    out.put_u8(match member.state {
        MemberState::Empty => 1,
        MemberState::Joining => 2,
        MemberState::Serving => 3,
        MemberState::Leaving => 4,
        MemberState::Left => 5,
        MemberState::Evicted => 6,
    });
}

/// Flags of a record.
const LIVE: u8 = 1;
const EXPIRES: u8 = 2;
const FORGOTTEN: u8 = 4;
const REVISED: u8 = 8;
/// Flags of a recent operation.
const MADE: u8 = 1;
const MADE_THIS: u8 = 2;
const FOUND: u8 = 4;

/// A record: flags, version, revision (unless it is the version), end of life, where operations were forgotten,
/// recent operations, value. `key` is that of the keyspace, see [`record_key`].
pub fn encode_record(key: &[u8], record: &Record) -> Vec<u8> {
    let mut out = BytesMut::with_capacity(96 + record.value_bytes());
    let revised = record.revision != record.version;
    let flag = |on: bool, bit: u8| if on { bit } else { 0 };
    out.put_u8(
        flag(record.is_live(), LIVE)
            | flag(record.expires_at_ms.is_some(), EXPIRES)
            | flag(record.forgotten.is_some(), FORGOTTEN)
            | flag(revised, REVISED),
    );
    put_version(&mut out, &record.version);
    if revised {
        put_version(&mut out, &record.revision);
    }
    if let Some(at) = record.expires_at_ms {
        out.put_u64_le(at);
    }
    if let Some(forgotten) = &record.forgotten {
        put_version(&mut out, forgotten);
    }
    out.put_u8(record.recent.len() as u8);
    for recent in &record.recent {
        let this = recent.made == Some(record.revision);
        out.put_u8(
            flag(recent.made.is_some() && !this, MADE) | flag(this, MADE_THIS) | flag(recent.found.is_some(), FOUND),
        );
        out.put_u128_le(recent.id.client);
        out.put_u64_le(recent.id.number);
        if let Some(made) = recent.made.filter(|_| !this) {
            put_version(&mut out, &made);
        }
        if let Some(found) = &recent.found {
            put_version(&mut out, found);
        }
    }
    out.put_slice(record.value.as_deref().unwrap_or_default());
    seal(Kind::Record, key, &out)
}

/// Reads a record back.
///
/// # Errors
/// [`Damaged`] for anything that [`encode_record`] did not make for this key.
pub fn decode_record(key: &[u8], bytes: &[u8]) -> Result<Record, Damaged> {
    let mut reader = open(Kind::Record, key, bytes)?;
    let flags = reader.u8()?;
    let version = reader.version()?;
    let revision = if flags & REVISED != 0 { reader.version()? } else { version };
    let expires_at_ms = if flags & EXPIRES != 0 { Some(reader.u64()?) } else { None };
    let forgotten = if flags & FORGOTTEN != 0 { Some(reader.version()?) } else { None };
    let mut recent = Vec::new();
    for _ in 0..reader.u8()? {
        let bits = reader.u8()?;
        let id = OpId { client: reader.u128()?, number: reader.u64()? };
        let made = match (bits & MADE_THIS != 0, bits & MADE != 0) {
            (true, _) => Some(revision),
            (false, true) => Some(reader.version()?),
            (false, false) => None,
        };
        let found = if bits & FOUND != 0 { Some(reader.version()?) } else { None };
        recent.push(RecentOp { id, made, found });
    }
    let value = (flags & LIVE != 0).then(|| Bytes::copy_from_slice(reader.rest));
    Ok(Record { version, revision, value, expires_at_ms, recent, forgotten })
}

/// Replica metadata: configuration, previous members, installed, promised, seal, word.
pub fn encode_meta(shard: ShardId, meta: &ReplicaMeta) -> Vec<u8> {
    let mut out = BytesMut::new();
    put_config(&mut out, &meta.config);
    put_keys(&mut out, &meta.previous);
    out.put_u8(u8::from(meta.installed));
    out.put_u64_le(meta.promised.0);
    put_seal(&mut out, meta.seal.as_ref());
    put_seal(&mut out, meta.word.as_ref());
    seal(Kind::Meta, &meta_key(shard), &out)
}

/// Reads replica metadata back.
///
/// # Errors
/// [`Damaged`].
pub fn decode_meta(shard: ShardId, bytes: &[u8]) -> Result<ReplicaMeta, Damaged> {
    let mut reader = open(Kind::Meta, &meta_key(shard), bytes)?;
    let config = reader.config()?;
    let previous = reader.keys()?;
    let installed = reader.u8()? != 0;
    let promised = Ballot(reader.u64()?);
    let seal = reader.seal()?;
    // Before there was a place for it, the word was kept as the seal of a shard that is not held.
    let word = if reader.rest.is_empty() { seal.clone().filter(|_| !installed) } else { reader.seal()? };
    Ok(ReplicaMeta { config, previous, installed, promised, seal, word })
}

/// Node metadata.
pub fn encode_node(meta: &NodeMeta) -> Vec<u8> {
    let mut out = BytesMut::new();
    put_member(&mut out, &meta.node);
    out.put_u8(u8::from(meta.ring_id.is_some()));
    out.put_u128_le(meta.ring_id.unwrap_or_default());
    out.put_u32_le(meta.shards);
    out.put_u32_le(meta.replication_factor as u32);
    out.put_u64_le(meta.operator_epoch);
    out.put_u32_le(meta.members.len() as u32);
    meta.members.iter().for_each(|member| put_member(&mut out, member));
    seal(Kind::Node, NODE, &out)
}

/// Reads node metadata back.
///
/// # Errors
/// [`Damaged`].
pub fn decode_node(bytes: &[u8]) -> Result<NodeMeta, Damaged> {
    let mut reader = open(Kind::Node, NODE, bytes)?;
    let node = reader.member()?;
    let ring_id = (reader.u8()? != 0).then_some(());
    let id = reader.u128()?;
    let (shards, replication_factor, operator_epoch) = (reader.u32()?, reader.u32()? as usize, reader.u64()?);
    let members = (0..reader.u32()?).map(|_| reader.member()).collect::<Result<_, _>>()?;
    Ok(NodeMeta { node, ring_id: ring_id.map(|()| id), shards, replication_factor, operator_epoch, members })
}

/// Key of a replica's metadata.
pub fn meta_key(shard: ShardId) -> [u8; 4] {
    shard.0.to_be_bytes()
}

/// Key of a record.
pub fn record_key(shard: ShardId, key: &[u8]) -> Vec<u8> {
    [&shard.0.to_be_bytes()[..], key].concat()
}

/// Keys of all records of a shard.
pub fn shard_range(shard: ShardId) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
    let end = shard.0.checked_add(1).map_or(Bound::Unbounded, |next| Bound::Excluded(record_key(ShardId(next), b"")));
    (Bound::Included(record_key(shard, b"")), end)
}

/// Key of an entry of the index of expiries.
pub fn expiry_key(at_ms: u64, shard: ShardId, key: &[u8]) -> Vec<u8> {
    [&at_ms.to_be_bytes()[..], &shard.0.to_be_bytes()[..], key].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn version() -> impl Strategy<Value = Version> {
        (any::<u64>(), any::<u64>(), any::<u64>()).prop_map(|(epoch, ballot, seq)| Version {
            epoch,
            ballot: Ballot(ballot),
            seq,
        })
    }
    fn recent() -> impl Strategy<Value = RecentOp> {
        (any::<u128>(), any::<u64>(), proptest::option::of(version()), proptest::option::of(version()))
            .prop_map(|(client, number, made, found)| RecentOp { id: OpId { client, number }, made, found })
    }
    prop_compose! {
        fn record()(version in version(), revision in proptest::option::of(version()),
            value in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..200)),
            expires_at_ms in proptest::option::of(any::<u64>()), recent in proptest::collection::vec(recent(), 0..8),
            forgotten in proptest::option::of(version())) -> Record {
            let value = value.map(Bytes::from);
            Record { version, revision: revision.unwrap_or(version), value, expires_at_ms, recent, forgotten }
        }
    }

    proptest! {
        #[test]
        fn record_comes_back_as_it_was(record in record()) {
            prop_assert_eq!(decode_record(b"key", &encode_record(b"key", &record)), Ok(record));
        }

        #[test]
        fn record_under_another_key_is_noticed(record in record(), other in proptest::collection::vec(any::<u8>(), 0..9)) {
            let bytes = encode_record(b"key", &record);
            prop_assert_eq!(decode_record(&other, &bytes).is_ok(), other == b"key");
            prop_assert!(reseal(Kind::Meta, b"key", &bytes).is_err());
        }

        #[test]
        fn record_of_format_1_is_read_and_sealed_anew(record in record()) {
            let bytes = encode_record(b"key", &record);
            let old = [&[1][..], &crc32fast::hash(&bytes[5..]).to_le_bytes(), &bytes[5..]].concat();
            prop_assert_eq!(decode_record(b"key", &old), Ok(record));
            prop_assert_eq!(reseal(Kind::Record, b"key", &old), Ok(Some(bytes.clone())));
            prop_assert_eq!(reseal(Kind::Record, b"key", &bytes), Ok(None));
        }

        #[test]
        fn one_flipped_bit_is_noticed(record in record(), position in any::<prop::sample::Index>(), bit in 0..8u8) {
            let mut bytes = encode_record(b"key", &record);
            let at = position.index(bytes.len());
            bytes[at] ^= 1u8 << bit;
            prop_assert!(decode_record(b"key", &bytes).is_err());
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(decode_record(b"key", &bytes).is_err());
            prop_assert!(decode_meta(ShardId(7), &bytes).is_err());
            prop_assert!(decode_node(&bytes).is_err());
        }
    }
}
