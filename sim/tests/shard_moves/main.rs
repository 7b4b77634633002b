//! A shard on its way from one configuration to the next, message by message (ring.md 3.4): one node of the shipped
//! core, and a test that plays everybody else. Mutation found that nothing else noticed (docs/mutation.md).
mod bystanders;
#[path = "../common/mod.rs"]
mod common;
mod harness;
mod leader;
mod newcomer;
