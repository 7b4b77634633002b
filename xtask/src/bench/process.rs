//! What processes use.
use anyhow::{Context as _, Result};
use std::{fs, time::Instant};

/// Ticks of /proc/PID/stat in a second; Linux shows 100 to programs on every common architecture.
const TICKS_PER_SECOND: f64 = 100.0;

/// What processes use, each: means.
#[derive(Clone, Copy)]
pub struct Usage {
    /// Of a core.
    pub cpu_percent: f64,
    pub memory_mib: f64,
}

/// CPU of the processes while `work` runs, and their memory after it.
pub fn usage<T>(pids: &[u32], work: impl FnOnce() -> Result<T>) -> Result<(T, Usage)> {
    let ticks = || pids.iter().map(|pid| ticks(*pid)).sum::<Result<u64>>();
    let (before, begun) = (ticks()?, Instant::now());
    let done = work()?;
    let (seconds, count) = (begun.elapsed().as_secs_f64(), pids.len() as f64);
    let cpu_percent = (ticks()? - before) as f64 / TICKS_PER_SECOND / seconds / count * 100.0;
    let memory_kib = pids.iter().map(|pid| memory_kib(*pid)).sum::<Result<u64>>()?;
    Ok((done, Usage { cpu_percent, memory_mib: memory_kib as f64 / 1024.0 / count }))
}

/// User and system time of a process, fields 14 and 15 of its stat.
fn ticks(pid: u32) -> Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).with_context(|| format!("process {pid} has ended"))?;
    // The name, in brackets, may hold anything; after it comes field 3.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let number = |index: usize| fields.get(index).and_then(|text| text.parse::<u64>().ok());
    number(11).zip(number(12)).map(|(user, system)| user + system).context("unknown form of /proc/PID/stat")
}

fn memory_kib(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).context("no VmRSS in /proc/PID/status")
}
