//! The data plane: sealed shard configurations (ring.md 3.2).
pub mod config;
pub mod digest;
pub mod record;
