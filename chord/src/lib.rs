//! The Chord protocol and the data plane, sans-IO.
//!
//! [`Core`] is a node without sockets, disk and clocks; its caller's duties stand there. Two state
//! machines work inside: `ring` (the corrected Chord protocol: a hint) and `shard` (sealed shard
//! configurations: the truth about data).
#![deny(missing_docs)]
pub mod core;
mod health;
pub mod id;
pub mod io;
pub mod member;
mod membership;
pub mod msg;
mod outbox;
pub mod ring;
pub mod rules;
pub mod settings;
pub mod shard;
pub mod store;
pub mod time;

pub use core::{Core, Counters, Status};
