//! `chord-node`: sockets, disk and clocks around the sans-IO core.
pub mod store;
