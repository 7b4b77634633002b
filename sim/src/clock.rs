//! The clocks of one node: a monotonic one that starts anew with each process, and a wall clock that
//! is off by a bounded amount and jumps within the bound.
use chord::time::{Nanos, Now};

/// Wall clock of a node without any skew at simulated time zero, milliseconds since the Unix epoch.
const WALL_START_MS: u64 = 1_700_000_000_000;
/// One millisecond of simulated time.
pub const MS: u64 = 1_000_000;
/// One second of simulated time.
pub const SECOND: u64 = 1000 * MS;

/// The clocks of one node.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock {
    /// Simulated time at which the monotonic clock read one second.
    started: u64,
    /// How far the wall clock is off, milliseconds.
    pub skew_ms: i64,
}

impl Clock {
    /// The clocks of a machine whose wall clock is off.
    pub fn new(skew_ms: i64) -> Clock {
        Clock { started: 0, skew_ms }
    }

    /// A process starts at `now`: its monotonic clock reads one second, as the shell's does.
    pub fn restart(&mut self, now: u64) {
        self.started = now;
    }

    /// Both clocks at simulated time `now`.
    pub fn read(&self, now: u64) -> Now {
        let wall_ms = (WALL_START_MS + now / MS).saturating_add_signed(self.skew_ms);
        Now { mono: Nanos(now - self.started + SECOND), wall_ms }
    }

    /// The simulated time at which the monotonic clock reads `mono`.
    pub fn when(&self, mono: Nanos) -> u64 {
        mono.0.saturating_add(self.started).saturating_sub(SECOND)
    }
}
