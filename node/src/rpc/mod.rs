//! The gRPC services: they check, convert and hand to the core.
pub mod admin;
pub mod convert;
pub mod kv;
pub mod peer;
pub mod roles;
pub mod told;
pub mod view;
