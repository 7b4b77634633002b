//! Real node processes on loopback.
mod directories;
mod input;
mod load;
mod ring;
mod support;
mod tls;
mod torus;
