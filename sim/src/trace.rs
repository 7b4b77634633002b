//! A hash over everything that happened, and how often the rare paths were taken.
use std::collections::BTreeMap;

/// What a run leaves behind.
#[derive(Clone, Debug)]
pub struct Trace {
    hash: u64,
    /// Print every event.
    pub verbose: bool,
    /// How often each rare thing happened.
    pub sometimes: BTreeMap<&'static str, u64>,
}

impl Trace {
    /// Nothing happened yet.
    pub fn new(verbose: bool) -> Trace {
        Trace { hash: 0xcbf2_9ce4_8422_2325, verbose, sometimes: BTreeMap::new() }
    }

    /// Takes numbers into the hash.
    pub fn mix(&mut self, numbers: &[u64]) {
        for number in numbers {
            self.hash = (self.hash ^ number).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23);
        }
    }

    /// Equal for equal runs.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// A rare path was taken.
    pub fn sometimes(&mut self, what: &'static str) {
        *self.sometimes.entry(what).or_insert(0) += 1;
    }

    /// A line for people, made only when somebody reads it.
    pub fn say(&self, now: u64, line: impl FnOnce() -> String) {
        if self.verbose {
            println!("{:>11.3} ms  {}", now as f64 / 1e6, line());
        }
    }
}
