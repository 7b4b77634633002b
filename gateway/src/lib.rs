//! The read-only gateway of a ring: REST, WebSocket and the dashboard.
//!
//! It calls nothing but `RingView`, with a certificate that allows nothing else. Reading order:
//! [`observe`] listens to every member, [`model`] merges what they say, [`hub`] hands each change out once,
//! [`api`], [`ws`], [`sandbox`] and [`assets`] answer visitors behind [`guard`], [`serve`] owns their connections, and
//! [`app`] puts it together.
pub mod api;
pub mod app;
pub mod args;
pub mod assets;
pub mod guard;
pub mod hub;
pub mod limit;
pub mod model;
pub mod observe;
pub mod probes;
pub mod problem;
pub mod query;
pub mod sandbox;
pub mod schema;
pub mod serve;
pub mod stall;
pub mod ws;
