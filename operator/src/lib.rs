//! The controller: turns a `ChordRing` into pods that form a ring.
//!
//! Reading order: `api` (what may be asked for), `world` (what is known), `plan` (the decision), `check` (what may
//! never be), `report` (what people see), all pure; then `controller` (one pass), `observe`, `act`, `objects` and
//! `secrets` (the API), `members` (the ring's own word); `build` and `certificates` make what is applied.
mod act;
pub mod api;
pub mod build;
pub mod certificates;
pub mod check;
pub mod controller;
pub mod lease;
pub mod members;
mod objects;
mod observe;
pub mod plan;
pub mod report;
mod secrets;
pub mod world;

use std::time::Duration;

/// A Go-style duration of the spec.
pub fn duration(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let (number, tail) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?);
        let (unit, next) = tail.split_at(tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len()));
        let millis = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return None,
        };
        total = total.checked_add(Duration::from_millis(number.parse::<u64>().ok()?.checked_mul(millis)?))?;
        rest = next;
    }
    (!text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duration_beyond_all_bounds_is_none() {
        assert_eq!(duration("1m30s"), Some(Duration::from_secs(90)));
        // Each part is a number, the sum is more than a duration holds; it came from a spec, and ended the operator.
        assert_eq!(duration(&"18446744073709551615ms".repeat(1100)), None);
    }
}
