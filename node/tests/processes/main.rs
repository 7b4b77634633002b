//! Real node processes on loopback.
mod directories;
mod disk;
#[path = "../files/mod.rs"]
mod files;
mod input;
mod load;
mod ring;
mod rot;
mod support;
mod tls;
mod torus;
