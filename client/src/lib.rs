//! The client of a ring: what an application uses to keep keys in it.
//!
//! A [`Client`] knows which member leads which shard, sends each operation straight there, and hides
//! restarts, moves and lost connections behind retries that are safe: every write carries an id, so
//! that it takes effect at most once however often it has to be sent.
//! ```no_run
//! use chord_client::{Client, ClientSettings, Endpoints, Put};
//! # async fn f() -> Result<(), chord_client::Error> {
//! let client = Client::connect(Endpoints::new(["127.0.0.1:7401"]), ClientSettings::default()).await?;
//! let version = client.put(Put::new("colour", "green")).await?;
//! let found = client.get("colour").await?.expect("it was just written");
//! assert_eq!((&found.value[..], found.version), (&b"green"[..], version));
//! # Ok(()) }
//! ```
//! `examples/tour.rs` shows the rest against a ring that `chordctl dev` runs.
//!
//! # What an answer means
//! An acknowledged write is fsynced on a majority of its shard's replicas and is returned by every
//! later linearizable read. Per key, operations are linearizable; there are no transactions over
//! several keys; scans see one shard at a time. See [`Error`] for what each failure says about the write.
#![deny(missing_docs)]
mod batch;
mod call;
mod client;
mod error;
mod inner;
mod map;
pub mod net;
mod ops;
mod pool;
mod retry;
mod settings;

pub use batch::{Done, Operation};
pub use client::Client;
pub use error::Error;
pub use ops::{Attempted, CompareAndSet, Compared, Delete, Entry, Get, Page, Put, Scan, Value, Version};
pub use settings::{ClientSettings, Endpoints};

/// Longest key, bytes; the shortest is one byte.
pub const KEY_BYTES_MAX: usize = chord::settings::KEY_BYTES_MAX;
/// Longest value, bytes; it may be empty.
pub const VALUE_BYTES_MAX: usize = chord::settings::VALUE_BYTES_MAX;
