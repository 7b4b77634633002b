//! What strangers can send, as functions of bytes: each must come back, whatever the bytes are. A function says whether
//! anything got past the door: a target that refuses all of its inputs shows nothing.
//!
//! | What is decoded or handled | By | Target |
//! |---|---|---|
//! | messages and answers of peers (`rpc/convert.rs`, both ways), then the core | peers | [`core`] |
//! | every method of `proto/`, health and reflection: framing, roles, deadlines, streams | all callers | [`rpc`] |
//! | answers and error details of members, the shard map (`client`) | members | [`client`] |
//! | HTTP, query strings, ids, Base64 keys, both WebSockets, sandbox commands, answers to lookups | visitors | [`gateway`] |
//! | descriptions and events of members (`gateway/src/model`) | members | [`told`] |
//! | `ChordRing`: spec, status, and the objects built from a spec that is accepted | users of Kubernetes | [`spec`] |
//! | records, metas, the node's meta, journals, `identity.json` (`node/src/store`) | disks | [`store`] |
//! | configuration files, histories (JSON lines), durations, addresses, certificates | files and flags | [`words`] |
//!
//! libFuzzer drives them with coverage (`fuzz/libfuzzer`, `cargo xtask fuzz --libfuzzer`). That needs a nightly compiler
//! and another build; so the tests run the same functions on the committed corpus and on mutations of it. Of what it
//! finds, the corpus keeps what reaches new code, gets past the door and is no longer than 1 KiB (files named by their
//! SHA-1).
mod answers;
mod core;
mod files;
mod mutate;
mod rpc;
mod spec;
mod visitors;

pub use crate::{
    answers::client,
    core::core,
    files::{store, words},
    mutate::Mutator,
    rpc::{METHODS, RING_ID, rpc},
    spec::spec,
    visitors::{told, visitors as gateway},
};

/// A function of bytes; its name is that of its corpus.
pub type Target = (&'static str, fn(&[u8]) -> bool);

/// All of them.
pub const TARGETS: [Target; 8] = [
    ("client", client),
    ("core", core),
    ("gateway", gateway),
    ("rpc", rpc),
    ("spec", spec),
    ("store", store),
    ("told", told),
    ("words", words),
];
