//! Models: stateright drives the shipped cores through every order of events within a bound.
//!
//! `host` makes a core a value, `register` is the sequential meaning of a key, `shard` explores what nodes say to each
//! other about one shard, `ring` what they say about the ring; `scenarios` lists what is explored, and how far.
pub mod explore;
pub mod host;
pub mod register;
pub mod ring;
pub mod scenarios;
pub mod scripts;
pub mod shard;
