//! What strangers can send, as functions of bytes: each must come back, whatever the bytes are.
//!
//! libFuzzer drives them with coverage (`fuzz/libfuzzer`, `cargo xtask fuzz`). That needs a nightly compiler and an
//! instrumented build of everything; so the tests run the same functions on the committed corpus and on mutations of it.
mod core;
mod mutate;

pub use crate::core::core;
pub use mutate::Mutator;

use chord::shard::config::ShardId;
use chord_gateway::{query, sandbox::schema::Command, schema::ClientMessage};
use chord_node::store::format::{self, Kind};
use chord_operator::api::{spec::ChordRingSpec, validate};

/// A function of bytes; its name is that of its corpus.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: [Target; 4] = [("core", core), ("gateway", gateway), ("spec", spec), ("store", store)];

/// What is stored: the first byte says which kind, the rest is sealed as if it had been written so, because nothing
/// else gets past the checksum. What can be read is written as it was read.
pub fn store(data: &[u8]) {
    let Some((kind, body)) = data.split_first() else { return };
    let (key, shard) = (b"key", ShardId(7));
    match kind % 3 {
        0 => {
            if let Ok(record) = format::decode_record(key, &format::seal(Kind::Record, key, body)) {
                assert_eq!(format::decode_record(key, &format::encode_record(key, &record)), Ok(record));
            }
        }
        1 => {
            if let Ok(meta) = format::decode_meta(shard, &format::seal(Kind::Meta, &format::meta_key(shard), body)) {
                assert_eq!(format::decode_meta(shard, &format::encode_meta(shard, &meta)), Ok(meta));
            }
        }
        _ => {
            if let Ok(node) = format::decode_node(&format::seal(Kind::Node, format::NODE, body)) {
                assert_eq!(format::decode_node(&format::encode_node(&node)), Ok(node));
            }
        }
    }
    // As it is, a stranger's bytes are no record.
    let _ = format::decode_record(key, data);
}

/// What visitors send: query strings, ids in paths, messages of both WebSockets.
pub fn gateway(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let allowed = ["key", "keyBase64", "id", "sequence", "stream", "limit"];
    if let Ok(query) = query::Query::parse(Some(&text), &allowed) {
        let _ = (query.number("sequence", 0), query.number("limit", 100), query::target(&query));
    }
    let _ = query::id("id", &text);
    let _ = serde_json::from_str::<ClientMessage>(&text);
    let _ = serde_json::from_str::<Command>(&text);
}

/// A `ChordRing` that somebody wrote.
pub fn spec(data: &[u8]) {
    if let Ok(spec) = serde_json::from_slice::<ChordRingSpec>(data) {
        let _ = validate::problems(&spec);
    }
}
