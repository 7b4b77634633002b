//! Real node processes on loopback.
mod directories;
mod input;
mod ring;
mod support;
mod tls;
