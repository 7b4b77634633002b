//! Latency of operations over the last minute, in buckets a fifth of a power of two wide.
use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

const BUCKETS: usize = 160;
const WINDOW: Duration = Duration::from_secs(30);

struct Window {
    since: Option<Instant>,
    now: [u32; BUCKETS],
    before: [u32; BUCKETS],
}

static WINDOW_NOW: Mutex<Window> = Mutex::new(Window { since: None, now: [0; BUCKETS], before: [0; BUCKETS] });

fn with<T>(act: impl FnOnce(&mut Window) -> T) -> T {
    let mut window = WINDOW_NOW.lock().unwrap_or_else(PoisonError::into_inner);
    let age = window.since.map(|since| since.elapsed());
    if age.is_none_or(|age| age >= WINDOW) {
        window.before = if age.is_some_and(|age| age < 2 * WINDOW) { window.now } else { [0; BUCKETS] };
        window.now = [0; BUCKETS];
        window.since = Some(Instant::now());
    }
    act(&mut window)
}

/// Notes one operation.
pub fn record(took: Duration) {
    let micros = took.as_micros().max(1) as f64;
    let bucket = (micros.log2() * 5.0) as usize;
    with(|window| window.now[bucket.min(BUCKETS - 1)] += 1);
}

/// Median and 99th percentile of the last half to whole minute, microseconds; zeros when there was nothing.
pub fn recent() -> (u64, u64) {
    with(|window| {
        let counts: Vec<u64> =
            window.now.iter().zip(&window.before).map(|(a, b)| u64::from(*a) + u64::from(*b)).collect();
        let total: u64 = counts.iter().sum();
        let percentile = |share: f64| {
            let rank = (total as f64 * share).ceil() as u64;
            let mut seen = 0;
            let bucket = counts.iter().position(|count| {
                seen += count;
                seen >= rank
            });
            bucket.map_or(0, |bucket| 2f64.powf((bucket as f64 + 0.5) / 5.0) as u64)
        };
        if total == 0 { (0, 0) } else { (percentile(0.5), percentile(0.99)) }
    })
}
