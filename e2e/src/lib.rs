//! Helpers of the tests on a real Kubernetes: rings in namespaces of their own, load with a journal, faults.
//!
//! Everything goes through `kubectl`, `chordctl` and `deploy/dev/cluster`, as a user's hands would.
//! Waits look again and again until something holds, and end with what was seen last.
pub mod load;
pub mod nemesis;
pub mod pod;
pub mod ring;
pub mod tool;

pub use load::{Load, Report};
pub use ring::{Ring, with_ring};
pub use tool::{chordctl, kubectl};

use anyhow::{Result, bail};
use std::{
    thread,
    time::{Duration, Instant},
};

const POLL: Duration = Duration::from_millis(300);

/// Looks until `look` says `Ok(Some(…))`; fails after `limit_s` with what it said last.
///
/// # Errors
/// The last `Err` of `look`, or that it never held.
pub fn await_condition<T>(what: &str, limit_s: u64, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let begun = Instant::now();
    let mut shown = 0;
    loop {
        let seen = look();
        if let Ok(Some(done)) = seen {
            println!("    {what}: {:.1} s", begun.elapsed().as_secs_f64());
            return Ok(done);
        }
        let waited = begun.elapsed().as_secs();
        if waited >= limit_s {
            return match seen {
                Err(error) => Err(error.context(format!("after {limit_s} s still not: {what}"))),
                _ => bail!("after {limit_s} s still not: {what}"),
            };
        }
        if waited >= shown + 30 {
            shown = waited;
            println!("    {what}: waiting for {waited} s");
        }
        thread::sleep(POLL);
    }
}
