//! Runs against real rings, one per fault, and what each did as a line of the tables in `docs/live.md`.
use crate::recorded;
use anyhow::{Context as _, Error, Result, ensure};
use serde_json::Value;
use std::{env, fmt::Write as _, fs, time::Duration};

/// Head of a table whose lines have a fault and [`cells`].
const HEAD: &str = "\
| fault | put | put with TTL | get | delete | cas | scan | their history | journal | unknown | errors | longest s |
|---|---|---|---|---|---|---|---|---|---|---|---|
";

/// A line of the table before it has run.
pub struct Row<F> {
    /// To choose it by.
    pub name: &'static str,
    /// Its first cell.
    pub what: &'static str,
    /// Seconds of load, the fault included.
    pub seconds: u32,
    /// What befalls the ring.
    pub fault: F,
}

/// Runs the rows that `LIVE_ROWS` names (`all`: every one; without it those of `short`). Prints the table, and writes
/// it to `LIVE_TABLE` if that is set.
///
/// # Errors
/// Names of rows that failed, or that are none.
pub fn table<F>(rows: &[Row<F>], short: &str, run: impl Fn(&Row<F>) -> Result<String>) -> Result<()> {
    let wanted = env::var("LIVE_ROWS").unwrap_or_else(|_| short.into());
    let names: Vec<&str> = wanted.split(',').collect();
    let unknown = names.iter().find(|name| **name != "all" && rows.iter().all(|row| row.name != **name));
    ensure!(unknown.is_none(), "LIVE_ROWS: there is no row `{}`", unknown.copied().unwrap_or_default());
    let (mut table, mut failed) = (HEAD.to_owned(), Vec::new());
    for row in rows.iter().filter(|row| wanted == "all" || names.contains(&row.name)) {
        let cells = run(row).unwrap_or_else(|error| {
            failed.push(row.name);
            println!("{}: {error:#}", row.name);
            format!("FAILED: {}", error.root_cause().to_string().replace('\n', " "))
        });
        println!("{}: {cells}", row.name);
        writeln!(table, "| {} | {cells} |", row.what)?;
    }
    println!("\n{table}");
    if let Some(path) = env::var_os("LIVE_TABLE") {
        fs::write(path, &table)?;
    }
    ensure!(failed.is_empty(), "failed: {failed:?}");
    Ok(())
}

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
    pub fn parse(report: &str, verified: &str) -> Result<Load> {
        let json: Value = serde_json::from_str(report.trim()).with_context(|| report.to_owned())?;
        let number = |pointer| json.pointer(pointer).and_then(Value::as_u64).with_context(|| format!("no {pointer}"));
        let (writes, wrong) = (number("/writes")?, number("/wrong")?);
        ensure!(writes > 0 && wrong == 0, "{writes} writes, {wrong} wrong reads: {report}");
        let read_back = verified.lines().last().unwrap_or_default().to_owned();
        ensure!(read_back.ends_with("lost 0, wrong 0"), "not all that was acknowledged is there: {verified}");
        let slowest = Duration::from_micros(number("/put/max_us")?);
        Ok(Load { unknown: number("/unknown")?, errors: number("/errors")?, slowest, read_back })
    }
}

/// All cells of a line but the first: operations of each kind that were answered, the verdict, what the journal says,
/// writes of unknown outcome, operations that failed, and the slowest one. `skew` bounds how far wall clocks were off.
///
/// # Errors
/// Why the history that `chordctl history` printed is not linearizable, not whole, or shows too little.
pub fn cells(history: &str, skew: Duration, load: &Load) -> Result<String> {
    let checked = recorded::parse(history).and_then(|operations| recorded::check(&operations, skew));
    checked.map_err(Error::msg)?;
    let summary = history.lines().rev().find(|line| line.starts_with("{\"summary\"")).with_context(|| {
        let end: Vec<&str> = history.lines().rev().take(5).collect();
        format!("the history has no end: {end:?}")
    })?;
    let summary: Value = serde_json::from_str(summary)?;
    let count = |kind: &str, field: &str| summary["summary"][kind][field].as_u64().unwrap_or(0);
    let sum = |field: &str| KINDS.iter().map(|kind| count(kind, field)).sum::<u64>();
    let done = KINDS.map(|kind| count(kind, "done"));
    ensure!(!done.contains(&0), "some kind of operation never succeeded: {summary}");
    // A scan asks every shard, which takes seconds without any fault.
    let longest = KINDS.iter().filter(|kind| **kind != "scan").map(|kind| count(kind, "longest_ms")).max();
    let longest = Duration::from_millis(longest.unwrap_or(0)).max(load.slowest).as_secs_f64();
    let (unknown, errors) = (load.unknown + sum("unknown"), load.errors + sum("errors"));
    let done = done.map(|done| done.to_string()).join(" | ");
    Ok(format!("{done} | linearizable | {} | {unknown} | {errors} | {longest:.1}", load.read_back))
}
