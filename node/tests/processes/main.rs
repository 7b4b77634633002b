//! Real node processes on loopback.
mod directories;
mod disk;
mod input;
mod load;
mod ring;
mod support;
mod tls;
mod torus;
