//! Whom the leader of a shard asks, what it waits for, and what clients are told (ring.md 3.2).
//! Mutation found that nothing else noticed (docs/mutation.md).
#[path = "../common/mod.rs"]
mod common;
mod elections;
mod harness;
mod operations;
mod repair;
