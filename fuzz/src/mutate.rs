//! Mutations without coverage: enough to find what is near the corpus.
use rand::{Rng as _, RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

/// Longest input.
const BYTES_MAX: usize = 8 << 10;

/// Makes inputs out of others; the same of the same seed.
pub struct Mutator(ChaCha8Rng);

impl Mutator {
    /// From a seed.
    pub fn new(seed: u64) -> Mutator {
        Mutator(ChaCha8Rng::seed_from_u64(seed))
    }

    /// One of `inputs`, changed in some places, or with a part of another.
    pub fn next(&mut self, inputs: &[Vec<u8>]) -> Vec<u8> {
        let rng = &mut self.0;
        let pick =
            |rng: &mut ChaCha8Rng| inputs.get(rng.random_range(0..inputs.len().max(1))).cloned().unwrap_or_default();
        let mut bytes = pick(rng);
        // Mostly few: a text with many changes is refused at the door.
        for _ in 0..1 << rng.random_range(0..3) {
            let at = rng.random_range(0..=bytes.len());
            match rng.random_range(0..6) {
                0 if at < bytes.len() => bytes[at] ^= 1 << rng.random_range(0..8),
                1 if at < bytes.len() => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][rng.random_range(0..5)],
                2 => bytes.truncate(at),
                3 => {
                    let mut fresh = vec![0; rng.random_range(1..16)];
                    rng.fill_bytes(&mut fresh);
                    bytes.splice(at..at, fresh);
                }
                4 => {
                    let other = pick(rng);
                    let from = rng.random_range(0..=other.len());
                    bytes.truncate(at);
                    bytes.extend_from_slice(&other[from..]);
                }
                _ => {
                    let end = rng.random_range(at..=bytes.len());
                    let part = bytes[at..end].to_vec();
                    bytes.splice(at..at, part);
                }
            }
            bytes.truncate(BYTES_MAX);
        }
        bytes
    }
}
