//! Additive digests: replicas compare their records by 32 sums instead of by all keys.
use crate::shard::record::Version;
use sha2::{Digest as _, Sha256};

/// Buckets of one shard.
pub const BUCKETS: usize = 32;

/// Sums of H(key, version) per bucket, and how much there is.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Digest {
    /// One sum modulo 2^128 per bucket.
    pub sums: [u128; BUCKETS],
    /// Records with a value.
    pub keys: u64,
    /// Records without one.
    pub tombstones: u64,
    /// Bytes of keys and values.
    pub bytes: u64,
}

impl Default for Digest {
    fn default() -> Digest {
        Digest { sums: [0; BUCKETS], keys: 0, tombstones: 0, bytes: 0 }
    }
}

/// Bucket and summand of one record.
pub fn summand(key: &[u8], version: &Version) -> (usize, u128) {
    let mut hasher = Sha256::new();
    hasher.update(version.epoch.to_be_bytes());
    hasher.update(version.ballot.0.to_be_bytes());
    hasher.update(version.seq.to_be_bytes());
    hasher.update(key);
    let digest = hasher.finalize();
    let mut sum = [0; 16];
    sum.copy_from_slice(&digest[..16]);
    (bucket(key), u128::from_be_bytes(sum))
}

/// Bucket of a key; does not depend on its version.
pub fn bucket(key: &[u8]) -> usize {
    // FNV-1a: the shard already took the top bits of the cryptographic hash.
    let hash =
        key.iter().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3));
    (hash >> 32) as usize % BUCKETS
}

impl Digest {
    /// Sum over all buckets: equal for equal sets of (key, version).
    pub fn root(&self) -> u128 {
        self.sums.iter().fold(0, |root, sum| root.wrapping_add(*sum))
    }
}
