//! `load`: writes keys, checks them by reading, and journals what was acknowledged.
use crate::{
    cli::{self, Global, Output},
    connect,
    failure::{Exit, Failure, Result},
    journal::{Content, Fact, Journal, Keys, Known, Verdict},
    print,
};
use chord_client::{Client, Error, Put};
use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressStyle};
use rand::RngExt as _;
use serde_json::{Value, json};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;

/// How often the journal goes to the disk, and the progress to those without a terminal.
const SYNC_INTERVAL: Duration = Duration::from_secs(1);
const REPORT_SYNCS: u32 = 10;
/// Wait after an operation that failed although the client retried it.
pub const FAILED_WAIT: Duration = Duration::from_millis(100);

pub async fn run(global: &Global, args: cli::Load) -> Result {
    let (journal, keys) = Journal::open(&args.journal).map_err(Failure::usage)?;
    let client = connect::client(global).await?;
    let bar = ProgressBar::new(args.duration.map_or(args.keys, |duration| duration.as_secs()));
    let style = ProgressStyle::with_template("{bar:32} {pos}/{len} {msg}").map_err(Failure::usage)?;
    bar.set_style(style);
    let stop = CancellationToken::new();
    let shared = Arc::new(Shared {
        client,
        journal,
        stats: Mutex::new(Stats::new()),
        stop: stop.clone(),
        until: args.duration.map(|duration| Instant::now() + duration),
        args,
        bar,
    });
    let signals = tokio::spawn(stop_on_signal(stop.clone()));
    let keeper = tokio::spawn(keep(shared.clone()));
    let workers: Vec<_> =
        split(&keys, &shared.args).into_iter().map(|own| tokio::spawn(work(shared.clone(), own))).collect();
    for worker in workers {
        worker.await.map_err(Failure::usage)?;
    }
    stop.cancel();
    keeper.await.map_err(Failure::usage)?;
    signals.abort();
    shared.journal.sync().map_err(|error| Failure::usage(format!("cannot write the journal: {error}")))?;
    shared.bar.finish_and_clear();
    let stats = shared.stats();
    stats.print(global.output);
    match (&stats.broken, stats.wrong, stats.writes + stats.reads) {
        (Some(broken), _, _) => Err(Failure::usage(broken)),
        (None, 1.., _) => Err(Failure::negative(format!("{} reads were lost or wrong", stats.wrong))),
        (None, 0, 0) if stats.errors > 0 => Err(Failure::unavailable("no operation succeeded")),
        _ => Ok(()),
    }
}

struct Shared {
    client: Client,
    journal: Journal,
    stats: Mutex<Stats>,
    stop: CancellationToken,
    until: Option<Instant>,
    args: cli::Load,
    bar: ProgressBar,
}

/// A key that one worker owns: nobody else writes it.
struct Own {
    key: String,
    known: Known,
}

/// Deals the keys out to workers.
fn split(keys: &Keys, args: &cli::Load) -> Vec<Vec<Own>> {
    let workers = args.concurrency.min(args.keys);
    let own = |number: u64| {
        let key = format!("{}-{number:08}", args.prefix);
        Own { known: keys.get(&key).cloned().unwrap_or_default(), key }
    };
    (0..workers).map(|worker| (worker..args.keys).step_by(workers as usize).map(own).collect()).collect()
}

async fn stop_on_signal(stop: CancellationToken) {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut int), Ok(mut term)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) else {
        return;
    };
    tokio::select! {
        _ = int.recv() => {}
        _ = term.recv() => {}
    }
    eprintln!("ending: waiting for operations under way");
    stop.cancel();
    tokio::select! {
        _ = int.recv() => {}
        _ = term.recv() => {}
    }
    // The journal has what was acknowledged, and that the rest was sent.
    eprintln!("ended at once; the outcome of operations under way stays open in the journal");
    std::process::exit(i32::from(Exit::OutcomeUnknown as u8));
}

/// Brings the journal to the disk and tells how far things are.
async fn keep(shared: Arc<Shared>) {
    let mut turn = 0u32;
    while tokio::time::timeout(SYNC_INTERVAL, shared.stop.cancelled()).await.is_err() {
        turn += 1;
        if let Err(error) = shared.journal.sync() {
            shared.give_up(&error);
        }
        let stats = shared.stats();
        let message = stats.progress();
        drop(stats);
        if let Some(until) = shared.until {
            shared.bar.set_position(shared.bar.length().unwrap_or(0).saturating_sub(left(until).as_secs()));
        }
        shared.bar.set_message(message.clone());
        if shared.bar.is_hidden() && turn.is_multiple_of(REPORT_SYNCS) {
            eprintln!("{message}");
        }
    }
}

fn left(until: Instant) -> Duration {
    until.saturating_duration_since(Instant::now())
}

async fn work(shared: Arc<Shared>, mut own: Vec<Own>) {
    let started = Instant::now();
    let workers = shared.args.concurrency.min(shared.args.keys);
    let pause = shared.args.rate.map(|rate| Duration::from_secs_f64(workers as f64 / rate as f64));
    // Without a duration each key is written once: those that are acknowledged already are done.
    let mut todo: Vec<usize> = (0..own.len()).filter(|k| own[*k].known.open.is_none()).collect();
    if shared.until.is_none() {
        todo.retain(|k| own[*k].known.acknowledged.is_none());
        shared.bar.inc((own.len() - todo.len()) as u64);
    }
    todo.reverse();
    let mut operations = 0u32;
    while !shared.stop.is_cancelled() && shared.until.is_none_or(|until| Instant::now() < until) {
        if let Some(pause) = pause {
            let next = started + pause * operations;
            tokio::select! {
                () = tokio::time::sleep_until(next.into()) => {}
                () = shared.stop.cancelled() => break,
            }
        }
        operations += 1;
        let (reads, choice) =
            (rand::rng().random::<f64>() < shared.args.read_ratio, rand::rng().random_range(0..own.len()));
        if reads && own[choice].known.acknowledged.is_some() {
            shared.read(&own[choice]).await;
            continue;
        }
        let Some(next) = todo.pop() else {
            if shared.until.is_none() {
                break;
            }
            todo = (0..own.len()).rev().filter(|k| own[*k].known.open.is_none()).collect();
            if todo.is_empty() {
                // Every key has an open outcome: only reads are left.
                shared.read(&own[choice]).await;
            }
            continue;
        };
        shared.write(&mut own[next]).await;
    }
}

impl Shared {
    fn stats(&self) -> MutexGuard<'_, Stats> {
        self.stats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The journal cannot be kept: no more writes.
    fn give_up(&self, error: &std::io::Error) {
        self.stats().broken = Some(format!("cannot write the journal: {error}"));
        self.stop.cancel();
    }

    async fn write(&self, own: &mut Own) {
        let content = Content { seed: rand::rng().random(), size: self.args.value_size };
        let key = own.key.clone();
        if let Err(error) = self.journal.note(&Fact::Sent { key: key.clone(), content }) {
            return self.give_up(&error);
        }
        let begun = Instant::now();
        let done = self.client.put(Put::new(key.clone(), content.value())).await;
        let fact = match &done {
            Ok(version) => {
                own.known.acknowledged = Some((content, *version));
                Some(Fact::Acknowledged { key, seed: content.seed, version: *version })
            }
            // Nobody may write this key again: its open write could then take effect after that one.
            Err(Error::OutcomeUnknown { .. }) => {
                own.known.open = Some(content);
                None
            }
            Err(_) => Some(Fact::NoEffect { key, seed: content.seed }),
        };
        if let Some(Err(error)) = fact.map(|fact| self.journal.note(&fact)) {
            return self.give_up(&error);
        }
        if self.until.is_none() {
            self.bar.inc(1);
        }
        self.stats().count(Kind::Put, begun, done.as_ref().err());
        if let Err(error) = done {
            self.failed(&own.key, &error).await;
        }
    }

    async fn read(&self, own: &Own) {
        let begun = Instant::now();
        let found = match self.client.get(own.key.clone()).await {
            Ok(found) => found,
            Err(error) => {
                self.stats().count(Kind::Get, begun, Some(&error));
                return self.failed(&own.key, &error).await;
            }
        };
        self.stats().count(Kind::Get, begun, None);
        let verdict = own.known.judge(found.as_ref().map(|found| (&found.value[..], found.version)));
        if verdict != Verdict::Right {
            self.stats().wrong += 1;
            let version = found.map_or_else(|| "nothing".into(), |found| format!("version {}", found.version));
            let expected = own.known.acknowledged.map(|(_, version)| version.to_string()).unwrap_or_default();
            self.bar
                .suspend(|| eprintln!("{verdict:?}: {} holds {version}, acknowledged was version {expected}", own.key));
        }
    }

    async fn failed(&self, key: &str, error: &Error) {
        self.bar.suspend(|| eprintln!("{key}: {error}"));
        tokio::select! {
            () = tokio::time::sleep(FAILED_WAIT) => {}
            () = self.stop.cancelled() => {}
        }
    }
}

/// Longest latency that is told apart.
const LATENCY_US_MAX: u64 = 600_000_000;

enum Kind {
    Put,
    Get,
}

struct Stats {
    started: Instant,
    writes: u64,
    reads: u64,
    errors: u64,
    unknown: u64,
    wrong: u64,
    last_success: Instant,
    longest_gap: Duration,
    /// Microseconds.
    puts: Histogram<u64>,
    gets: Histogram<u64>,
    broken: Option<String>,
}

impl Stats {
    fn new() -> Stats {
        let now = Instant::now();
        let histogram = || {
            Histogram::new_with_bounds(1, LATENCY_US_MAX, 3).expect("the bounds are in order and 3 digits are allowed")
        };
        Stats {
            started: now,
            writes: 0,
            reads: 0,
            errors: 0,
            unknown: 0,
            wrong: 0,
            last_success: now,
            longest_gap: Duration::ZERO,
            puts: histogram(),
            gets: histogram(),
            broken: None,
        }
    }

    fn count(&mut self, kind: Kind, begun: Instant, error: Option<&Error>) {
        match (kind, error) {
            (_, Some(Error::OutcomeUnknown { .. })) => self.unknown += 1,
            (_, Some(_)) => self.errors += 1,
            (kind, None) => {
                let now = Instant::now();
                self.longest_gap = self.longest_gap.max(now - self.last_success);
                self.last_success = now;
                let (count, histogram) = match kind {
                    Kind::Put => (&mut self.writes, &mut self.puts),
                    Kind::Get => (&mut self.reads, &mut self.gets),
                };
                *count += 1;
                histogram.saturating_record((now - begun).as_micros() as u64);
            }
        }
    }

    fn per_second(&self) -> f64 {
        (self.writes + self.reads) as f64 / self.started.elapsed().as_secs_f64().max(0.001)
    }

    fn progress(&self) -> String {
        let Stats { writes, reads, errors, unknown, wrong, .. } = self;
        format!(
            "{writes} writes, {reads} reads, {:.0}/s, errors {errors}, unknown {unknown}, wrong {wrong}",
            self.per_second()
        )
    }

    fn print(&self, output: Output) {
        let gap = self.longest_gap.max(self.last_success.elapsed());
        let latency = |h: &Histogram<u64>| (h.value_at_quantile(0.5), h.value_at_quantile(0.99), h.max());
        if output == Output::Json {
            let latency = |h: &Histogram<u64>| {
                let (p50, p99, max) = latency(h);
                json!({"count": h.len(), "p50_us": p50, "p99_us": p99, "max_us": max})
            };
            let value: Value = json!({
                "seconds": self.started.elapsed().as_secs_f64(), "writes": self.writes, "reads": self.reads,
                "operations_per_second": self.per_second(), "errors": self.errors, "unknown": self.unknown,
                "wrong": self.wrong, "longest_gap_ms": gap.as_millis() as u64,
                "put": latency(&self.puts), "get": latency(&self.gets),
            });
            return print::json(&value);
        }
        print::line(&format!("{} in {:.1} s", self.progress(), self.started.elapsed().as_secs_f64()));
        for (name, histogram) in [("put", &self.puts), ("get", &self.gets)] {
            let (p50, p99, max) = latency(histogram);
            print::line(&format!("{name}: p50 {p50} us, p99 {p99} us, longest {max} us"));
        }
        print::line(&format!("longest time without a success: {} ms", gap.as_millis()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    fn args(line: &str) -> cli::Load {
        let command = format!("chordctl load --journal j {line}");
        match cli::Cli::parse_from(command.split_whitespace()).command {
            cli::Command::Load(load) => load,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_key_has_exactly_one_owner() {
        for (keys, concurrency) in [(1, 1), (10, 3), (3, 10)] {
            let split = split(&Keys::new(), &args(&format!("--keys {keys} --concurrency {concurrency}")));
            let mut all: Vec<String> = split.into_iter().flatten().map(|own| own.key).collect();
            all.sort();
            assert_eq!(all, (0..keys).map(|k| format!("load-{k:08}")).collect::<Vec<_>>());
        }
    }
}
