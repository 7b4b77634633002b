//! `chord-node`: sockets, disk and clocks around the sans-IO core. No protocol decision is made here.
//!
//! Reading order: `args`, `app` (build, run, drain), `driver` (the only caller of `Core::step`),
//! `rpc` (services), `peers` (outgoing), `store` (disk).
pub mod app;
pub mod args;
pub mod disk;
pub mod driver;
pub mod http;
pub mod identity;
pub mod latency;
pub mod listen;
pub mod peers;
pub mod recorder;
pub mod rpc;
pub mod store;
