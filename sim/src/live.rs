//! What a run against a real ring did, as a line of the tables in `docs/live.md`.
use crate::recorded;
use serde_json::Value;
use std::time::Duration;

/// Head of a table whose lines have a fault and [`cells`].
pub const HEAD: &str = "\
| fault | put | put with TTL | get | delete | cas | scan | their history | journal | unknown | errors | longest s |
|---|---|---|---|---|---|---|---|---|---|---|---|
";

const KINDS: [&str; 6] = ["put", "put_ttl", "get", "delete", "cas", "scan"];

/// What became of `chordctl load` and its journal.
pub struct Load {
    /// Writes whose outcome stayed unknown.
    pub unknown: u64,
    /// Operations that failed for good, after all retries.
    pub errors: u64,
    /// The slowest write with its retries.
    pub slowest: Duration,
    /// The last line of what `chordctl verify` said: every key that was acknowledged is read.
    pub read_back: String,
}

impl Load {
    /// From what `chordctl load --output json` and `chordctl verify` printed.
    ///
    /// # Errors
    /// That an acknowledged key was lost or is wrong; that nothing was written; what makes no sense.
    pub fn parse(report: &str, verified: &str) -> Result<Load, String> {
        let json: Value = serde_json::from_str(report.trim()).map_err(|error| format!("{error}: {report}"))?;
        let number = |pointer: &str| json.pointer(pointer).and_then(Value::as_u64).ok_or(format!("no {pointer}"));
        let (writes, wrong) = (number("/writes")?, number("/wrong")?);
        if writes == 0 || wrong > 0 {
            return Err(format!("{writes} writes, {wrong} wrong reads: {report}"));
        }
        let read_back = verified.lines().last().unwrap_or_default().to_owned();
        if !read_back.ends_with("lost 0, wrong 0") {
            return Err(format!("not all that was acknowledged is there: {verified}"));
        }
        let slowest = Duration::from_micros(number("/put/max_us")?);
        Ok(Load { unknown: number("/unknown")?, errors: number("/errors")?, slowest, read_back })
    }
}

/// All cells of a line but the first: operations of each kind that were answered, the verdict, what the journal says,
/// writes of unknown outcome, operations that failed, and the slowest one. `skew` bounds how far wall clocks were off.
///
/// # Errors
/// Why the history that `chordctl history` printed is not linearizable, not whole, or shows too little.
pub fn cells(history: &str, skew: Duration, load: &Load) -> Result<String, String> {
    recorded::check(&recorded::parse(history)?, skew)?;
    let summary = history.lines().rev().find(|line| line.starts_with("{\"summary\"")).ok_or_else(|| {
        let end: Vec<&str> = history.lines().rev().take(5).collect();
        format!("the history has no end: {end:?}")
    })?;
    let summary: Value = serde_json::from_str(summary).map_err(|error| error.to_string())?;
    let count = |kind: &str, field: &str| summary["summary"][kind][field].as_u64().unwrap_or(0);
    let sum = |field: &str| KINDS.iter().map(|kind| count(kind, field)).sum::<u64>();
    let done = KINDS.map(|kind| count(kind, "done"));
    if done.contains(&0) {
        return Err(format!("some kind of operation never succeeded: {summary}"));
    }
    // A scan asks every shard, which takes seconds without any fault.
    let longest = KINDS.iter().filter(|kind| **kind != "scan").map(|kind| count(kind, "longest_ms")).max();
    let longest = Duration::from_millis(longest.unwrap_or(0)).max(load.slowest).as_secs_f64();
    let (unknown, errors) = (load.unknown + sum("unknown"), load.errors + sum("errors"));
    let done = done.map(|done| done.to_string()).join(" | ");
    Ok(format!("{done} | linearizable | {} | {unknown} | {errors} | {longest:.1}", load.read_back))
}
