//! `history`: random operations on a few contended keys; each with what it asked, was told, and when. One JSON object a
//! line, which a checker of linearizability reads (`cargo run -p sim -- check FILE`).
use crate::{
    cli::{self, Global},
    connect,
    failure::{Failure, Result},
    load::FAILED_WAIT,
    print,
};
use bytes::Bytes;
use chord_client::{Client, CompareAndSet, Delete, Error, Put, Scan, Version};
use rand::RngExt as _;
use serde_json::{Map, Value, json};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

/// Times to live that are tried, milliseconds.
const TTL_MS: std::ops::Range<u64> = 200..4000;

pub async fn run(global: &Global, args: cli::History) -> Result {
    let client = connect::client(global).await?;
    let begun = Instant::now();
    let until = begun + args.duration;
    let pause = Duration::from_secs_f64(args.clients as f64 / args.rate as f64);
    let recorder = Arc::new(Recorder {
        client,
        keys: (0..args.keys).map(|key| Bytes::from(format!("{}-{key}", args.prefix))).collect(),
        begun,
        values: AtomicU32::new(0),
        counts: Mutex::default(),
    });
    let workers: Vec<_> =
        (0..args.clients).map(|client| tokio::spawn(work(recorder.clone(), client, until, pause))).collect();
    for worker in workers {
        worker.await.map_err(Failure::usage)?;
    }
    // What is there in the end: a write that was acknowledged and is not there has no other witness.
    for key in 0..recorder.keys.len() {
        if !recorder.get(args.clients, key).await {
            return Err(Failure::unavailable(format!(
                "{} cannot be read at the end; see the messages above",
                args.prefix
            )));
        }
    }
    let counts = recorder.counts().clone();
    print::line(&json!({ "summary": counts }).to_string());
    match counts.values().map(|count| count.done).sum::<u64>() {
        0 => Err(Failure::unavailable("no operation succeeded")),
        _ => Ok(()),
    }
}

/// Of one kind of operation.
#[derive(Clone, Default, serde::Serialize)]
struct Count {
    done: u64,
    /// May or may not have taken effect.
    unknown: u64,
    /// Failed without effect after all retries.
    errors: u64,
    longest_ms: u64,
}

struct Recorder {
    client: Client,
    keys: Vec<Bytes>,
    begun: Instant,
    /// The last value that was written; each is written once.
    values: AtomicU32,
    counts: Mutex<BTreeMap<&'static str, Count>>,
}

/// What one client of the history knows.
type Seen = BTreeMap<usize, Option<Version>>;

async fn work(recorder: Arc<Recorder>, client: u64, until: Instant, pause: Duration) {
    let mut seen = Seen::new();
    let mut next = Instant::now();
    while Instant::now() < until {
        tokio::time::sleep_until(next.into()).await;
        next = Instant::now().max(next + pause);
        let (key, choice) = (rand::rng().random_range(0..recorder.keys.len()), rand::rng().random_range(0..100u32));
        let ttl_ms = rand::rng().random_range(TTL_MS);
        let done = match choice {
            0..35 => recorder.get(client, key).await,
            35..60 => recorder.put(client, key, None, &mut seen).await,
            60..70 => recorder.put(client, key, Some(ttl_ms), &mut seen).await,
            70..80 => recorder.delete(client, key).await,
            80..98 => recorder.compare_and_set(client, key, &mut seen).await,
            _ => recorder.scan(client).await,
        };
        if !done {
            tokio::time::sleep(FAILED_WAIT).await;
        }
    }
}

/// An operation under way: what of its line is known.
struct Line {
    fields: Map<String, Value>,
    kind: &'static str,
    begun: Instant,
}

impl Recorder {
    fn counts(&self) -> MutexGuard<'_, BTreeMap<&'static str, Count>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ns(&self, at: Instant) -> u64 {
        at.duration_since(self.begun).as_nanos() as u64
    }

    fn begin(&self, client: u64, kind: &'static str) -> Line {
        let begun = Instant::now();
        let mut fields = Map::new();
        fields.insert("client".into(), json!(client));
        fields.insert("operation".into(), json!(kind));
        fields.insert("invoke_ns".into(), json!(self.ns(begun)));
        Line { fields, kind, begun }
    }

    fn next_value(&self) -> u32 {
        self.values.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Writes a line with the answer; one without effect has none. Gives whether it was answered.
    fn end<T>(&self, line: Line, result: std::result::Result<T, Error>, answer: impl FnOnce(T) -> Value) -> bool {
        let now = Instant::now();
        let Line { mut fields, kind, begun } = line;
        let mut counts = self.counts();
        let count = counts.entry(kind).or_default();
        count.longest_ms = count.longest_ms.max((now - begun).as_millis() as u64);
        let is_done = result.is_ok();
        match result {
            Ok(told) => {
                count.done += 1;
                fields.insert("return_ns".into(), json!(self.ns(now)));
                fields.insert("answer".into(), answer(told));
            }
            Err(error @ Error::OutcomeUnknown { .. }) => {
                count.unknown += 1;
                eprintln!("{kind}: {error}");
            }
            Err(error) => {
                count.errors += 1;
                eprintln!("{kind}: {error}");
                return false;
            }
        }
        if kind != "scan" {
            print::line(&Value::Object(fields).to_string());
        }
        is_done
    }

    async fn get(&self, client: u64, key: usize) -> bool {
        let mut line = self.begin(client, "get");
        line.fields.insert("key".into(), json!(key));
        let result = self.client.get(self.keys[key].clone()).await;
        self.end(line, result, |found| found_json(found.as_ref().map(|found| (&found.value, found.version))))
    }

    async fn put(&self, client: u64, key: usize, ttl_ms: Option<u64>, seen: &mut Seen) -> bool {
        let (value, mut line) =
            (self.next_value(), self.begin(client, if ttl_ms.is_some() { "put_ttl" } else { "put" }));
        line.fields.insert("key".into(), json!(key));
        line.fields.insert("value".into(), json!(value));
        line.fields.insert("ttl_ms".into(), json!(ttl_ms));
        let put = Put::new(self.keys[key].clone(), value.to_string());
        let put = ttl_ms.map_or(put.clone(), |ms| put.ttl(Duration::from_millis(ms)));
        let result = self.client.put(put).await;
        if let Ok(version) = &result {
            seen.insert(key, Some(*version));
        }
        self.end(line, result, |version| json!({ "version": version.to_string() }))
    }

    async fn delete(&self, client: u64, key: usize) -> bool {
        let mut line = self.begin(client, "delete");
        line.fields.insert("key".into(), json!(key));
        let result = self.client.delete(Delete::new(self.keys[key].clone())).await;
        self.end(line, result, |existed| json!({ "existed": existed }))
    }

    /// Expects what this client saw last: often right, often not. One in four deletes.
    async fn compare_and_set(&self, client: u64, key: usize, seen: &mut Seen) -> bool {
        let expected = seen.get(&key).copied().flatten();
        let value = if rand::rng().random_range(0..4) == 0 { 0 } else { self.next_value() };
        let mut line = self.begin(client, "cas");
        line.fields.insert("key".into(), json!(key));
        line.fields.insert("value".into(), json!(value));
        line.fields.insert("expected".into(), json!(expected.map(|version| version.to_string())));
        let key_bytes = self.keys[key].clone();
        let change = match value {
            0 => CompareAndSet::delete(key_bytes),
            _ => CompareAndSet::new(key_bytes, value.to_string()),
        };
        let change = expected.map_or(change.clone(), |version| change.expect(version));
        let result = self.client.compare_and_set(change).await;
        if let Ok(compared) = &result {
            seen.insert(key, compared.version);
        }
        self.end(line, result, |compared| {
            json!({ "applied": compared.applied, "version": compared.version.map(|version| version.to_string()) })
        })
    }

    /// A scan of everything reads each key once, at some time between its begin and its end.
    async fn scan(&self, client: u64) -> bool {
        let line = self.begin(client, "scan");
        let (invoke, mut scan, mut found) = (self.ns(line.begun), Scan::new().limit(1000), BTreeMap::new());
        let result = loop {
            let page = match self.client.scan(scan.clone()).await {
                Ok(page) => page,
                Err(error) => break Err(error),
            };
            found.extend(page.entries.into_iter().map(|entry| (entry.key, (entry.value, entry.version))));
            match page.next {
                Some(next) => scan = scan.after(next),
                None => break Ok(()),
            }
        };
        let is_done = self.end(line, result, |()| Value::Null);
        if is_done {
            let now = self.ns(Instant::now());
            for (number, key) in self.keys.iter().enumerate() {
                let answer = found_json(found.get(key).map(|(value, version)| (value, *version)));
                let line = json!({"client": client, "operation": "get", "key": number, "invoke_ns": invoke,
                                  "return_ns": now, "answer": answer});
                print::line(&line.to_string());
            }
        }
        is_done
    }
}

/// A value that nobody wrote is 0, which no write ever has: the checker will say so.
fn found_json(found: Option<(&Bytes, Version)>) -> Value {
    found.map_or(json!({ "found": null }), |(value, version)| {
        let number = std::str::from_utf8(value).ok().and_then(|text| text.parse::<u32>().ok()).unwrap_or(0);
        json!({ "found": number, "version": version.to_string() })
    })
}
