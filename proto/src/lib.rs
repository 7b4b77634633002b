//! The gRPC contracts of chord-operator, generated from `proto/chord/v1/*.proto`.
//!
//! Ids are 20 bytes, big-endian; ring ids and disk uuids are 16 bytes.

/// Package `chord.v1`.
#[allow(missing_docs, clippy::all)]
pub mod v1 {
    tonic::include_proto!("chord.v1");
}

/// Encoded `FileDescriptorSet` of all services, for server reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// Largest gRPC message accepted, bytes: a value of 1 MiB, its key and room for a frame around it.
pub const MESSAGE_BYTES_MAX: usize = 8 << 20;
