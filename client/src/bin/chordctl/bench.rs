//! `bench`: closed-loop throughput and latency of gets and puts.
use crate::{
    cli::{self, Global, Output},
    connect,
    failure::{Failure, Result},
    journal::Content,
    print,
};
use bytes::Bytes;
use chord_client::{Client, ClientSettings, Put};
use hdrhistogram::Histogram;
use rand::{RngExt as _, SeedableRng as _, rngs::SmallRng};
use serde_json::json;
use std::time::{Duration, Instant};

/// Writers that fill the ring before it is measured.
const FILLERS: u64 = 32;

/// Longest latency that is told apart.
const LATENCY_US_MAX: u64 = 600_000_000;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Put,
    Get,
}

struct Figure {
    kind: Kind,
    clients: u64,
    operations: u64,
    errors: u64,
    per_second: f64,
    p50_us: u64,
    p99_us: u64,
}

pub async fn run(global: &Global, args: cli::Bench) -> Result {
    let settings = ClientSettings { connections_per_member: args.connections as usize, ..ClientSettings::default() };
    let client = connect::client_with(global, settings).await?;
    let value: Bytes = Content { seed: 1, size: args.value_size }.value().into();
    fill(&client, &value, args.keys).await?;
    let mut figures = Vec::new();
    for clients in &args.clients {
        for kind in [Kind::Get, Kind::Put] {
            figures.push(measure(&client, kind, *clients, &args, &value).await?);
        }
    }
    report(global.output, &args, &figures);
    if figures.iter().all(|figure| figure.operations == 0) {
        return Err(Failure::unavailable("no operation succeeded"));
    }
    Ok(())
}

fn key(number: u64) -> String {
    format!("bench-{number:08}")
}

async fn fill(client: &Client, value: &Bytes, keys: u64) -> Result {
    let fillers = (0..FILLERS.min(keys)).map(|filler| async move {
        for number in (filler..keys).step_by(FILLERS as usize) {
            client.put(Put::new(key(number), value.clone())).await?;
        }
        Ok::<(), Failure>(())
    });
    futures::future::try_join_all(fillers).await.map(|_| ())
}

async fn measure(client: &Client, kind: Kind, clients: u64, args: &cli::Bench, value: &Bytes) -> Result<Figure> {
    let begun = Instant::now();
    let until = begun + Duration::from_secs(args.seconds);
    let workers: Vec<_> =
        (0..clients).map(|_| tokio::spawn(worker(client.clone(), kind, args.keys, value.clone(), until))).collect();
    let mut all = histogram();
    let mut errors = 0;
    for worker in workers {
        let (latencies, failed) = worker.await.map_err(Failure::usage)?;
        all.add(latencies).map_err(Failure::usage)?;
        errors += failed;
    }
    Ok(Figure {
        kind,
        clients,
        operations: all.len(),
        errors,
        per_second: all.len() as f64 / begun.elapsed().as_secs_f64(),
        p50_us: all.value_at_quantile(0.5),
        p99_us: all.value_at_quantile(0.99),
    })
}

async fn worker(client: Client, kind: Kind, keys: u64, value: Bytes, until: Instant) -> (Histogram<u64>, u64) {
    let mut random = SmallRng::seed_from_u64(rand::rng().random());
    let (mut latencies, mut errors) = (histogram(), 0);
    loop {
        let begun = Instant::now();
        if begun >= until {
            return (latencies, errors);
        }
        let key = key(random.random_range(0..keys));
        let good = match kind {
            Kind::Put => client.put(Put::new(key, value.clone())).await.is_ok(),
            Kind::Get => matches!(client.get(key).await, Ok(Some(_))),
        };
        if good {
            latencies.saturating_record(begun.elapsed().as_micros() as u64);
        } else {
            errors += 1;
        }
    }
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_US_MAX, 3).expect("the bounds are in order and 3 digits are allowed")
}

fn report(output: Output, args: &cli::Bench, figures: &[Figure]) {
    let name = |kind| if kind == Kind::Get { "get" } else { "put" };
    if output == Output::Json {
        let figure = |f: &Figure| {
            json!({"operation": name(f.kind), "clients": f.clients, "operations": f.operations, "errors": f.errors,
                   "operations_per_second": f.per_second, "p50_us": f.p50_us, "p99_us": f.p99_us})
        };
        let figures: Vec<_> = figures.iter().map(figure).collect();
        return print::json(
            &json!({"keys": args.keys, "value_bytes": args.value_size, "seconds": args.seconds, "figures": figures}),
        );
    }
    let row = |f: &Figure| {
        let numbers = [f.clients, f.per_second as u64, f.p50_us, f.p99_us, f.errors];
        std::iter::once(name(f.kind).to_owned()).chain(numbers.map(|number| number.to_string())).collect()
    };
    let headings = ["OPERATION", "CLIENTS", "PER SECOND", "P50 US", "P99 US", "ERRORS"];
    print::line(print::table(&headings, &figures.iter().map(row).collect::<Vec<_>>()).trim_end());
}
