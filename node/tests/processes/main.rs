//! Real node processes on loopback.
mod directories;
mod disk;
mod faults;
#[path = "../files/mod.rs"]
mod files;
mod input;
mod load;
mod matrix;
mod ring;
mod rot;
mod support;
mod tls;
mod torus;
