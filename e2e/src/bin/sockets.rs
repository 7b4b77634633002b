//! What many browsers cost: WebSockets held open at a gateway, and a bare server to compare it with.
//! `cargo xtask bench` runs both.
//!
//! `sockets hold ADDRESS PATH COUNT` prints a line of JSON when all have their snapshot, and another for each line that
//! it is sent: how long deltas took since the last line. It ends with its input.
//! `sockets serve ADDRESS BYTES MILLISECONDS` sends frames that look like a gateway's and are made of nothing.
use anyhow::{Context as _, Result, bail, ensure};
use axum::{
    Router,
    extract::ws::{Message as Served, Utf8Bytes, WebSocket, WebSocketUpgrade},
    routing::get,
};
use futures::StreamExt as _;
use rustix::process::{Resource, getrlimit, setrlimit};
use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    net::{TcpListener, TcpSocket},
    sync::{Semaphore, mpsc, watch},
};
use tokio_tungstenite::tungstenite::{Message, protocol::WebSocketConfig};

/// Sockets of one address: with the gateway's own limits on requests, which allow 40 at once.
const EACH: usize = 40;
/// Opened at a time: fewer than the backlog of a listener.
const OPENING: usize = 128;
/// Time for all to have a snapshot.
const OPEN_LIMIT: Duration = Duration::from_secs(180);
/// What one side of a socket reads at a time; the default would cost gigabytes.
const READ_BYTES: usize = 4096;
/// Descriptors besides the sockets.
const OTHERS: u64 = 100;

#[tokio::main]
async fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["hold", address, path, count] => hold(address.parse()?, path, count.parse()?).await,
        ["serve", address, bytes, pause] => {
            serve(address.parse()?, bytes.parse()?, Duration::from_millis(pause.parse()?)).await
        }
        _ => bail!("usage: sockets hold ADDRESS PATH COUNT | sockets serve ADDRESS BYTES MILLISECONDS"),
    }
}

/// What has arrived so far.
#[derive(Default)]
struct Seen {
    /// From before connecting until the snapshot was there, ms.
    snapshots: Vec<u64>,
    /// Snapshots of sockets that had one: they had fallen behind.
    behind: u64,
    /// From when the gateway made a delta until a socket had it, ms.
    deltas: Vec<u64>,
    /// Of all of them.
    bytes: usize,
    /// Of each delta: how many have it, and what it took the last of them.
    spread: BTreeMap<u64, (usize, u64)>,
}

async fn hold(address: SocketAddr, path: &str, count: usize) -> Result<()> {
    raise_limit(count)?;
    let seen = Arc::new(Mutex::new(Seen::default()));
    let (broken, mut breaks) = mpsc::channel(1);
    let (opening, url) = (Arc::new(Semaphore::new(OPENING)), Arc::new(format!("ws://{address}{path}")));
    let begun = Instant::now();
    for number in 0..count {
        let (seen, opening, url, broken) = (seen.clone(), opening.clone(), url.clone(), broken.clone());
        tokio::spawn(async move {
            let Err(error) = visit(number, address, &url, &opening, &seen).await;
            let _ = broken.try_send(error.context(format!("socket {number}")));
        });
    }
    while with(&seen, |seen| seen.snapshots.len()) < count {
        ensure!(begun.elapsed() < OPEN_LIMIT, "not all are open after {OPEN_LIMIT:?}");
        ensure_whole(&mut breaks)?;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let open_ms = begun.elapsed().as_millis() as u64;
    let snapshot_ms = with(&seen, |seen| percentiles(std::mem::take(&mut seen.snapshots)));
    println!("{}", serde_json::json!({ "sockets": count, "open_ms": open_ms, "snapshot_ms": snapshot_ms }));
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    loop {
        tokio::select! {
            line = lines.next_line() => if line?.is_none() { return Ok(()) },
            Some(error) = breaks.recv() => return Err(error),
        }
        let Seen { deltas, bytes, spread, behind, .. } = with(&seen, std::mem::take);
        // Of the first and the last one some may have come before or after.
        let all: Vec<u64> = spread.into_values().filter(|(have, _)| *have == count).map(|(_, last)| last).collect();
        let (sent, all) = (all.len(), percentiles(all));
        let mean = bytes / deltas.len().max(1);
        let delta_ms = percentiles(deltas);
        println!(
            "{}",
            serde_json::json!({ "deltas": sent, "bytes": mean, "delta_ms": delta_ms, "all_ms": all, "behind": behind })
        );
    }
}

fn ensure_whole(breaks: &mut mpsc::Receiver<anyhow::Error>) -> Result<()> {
    breaks.try_recv().map_or(Ok(()), Err)
}

fn with<T>(seen: &Mutex<Seen>, look: impl FnOnce(&mut Seen) -> T) -> T {
    look(&mut seen.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Median, 99th percentile and maximum.
fn percentiles(mut all: Vec<u64>) -> [u64; 3] {
    all.sort_unstable();
    let at = |share: f64| all.get((all.len() as f64 * share) as usize).copied().unwrap_or(0);
    [at(0.5), at(0.99), all.last().copied().unwrap_or(0)]
}

/// One visitor, for ever.
async fn visit(
    number: usize,
    address: SocketAddr,
    url: &str,
    opening: &Semaphore,
    seen: &Mutex<Seen>,
) -> Result<std::convert::Infallible> {
    let permit = opening.acquire().await?;
    let begun = Instant::now();
    let socket = TcpSocket::new_v4()?;
    let source = Ipv4Addr::from_bits(Ipv4Addr::LOCALHOST.to_bits() + 1 + (number / EACH) as u32);
    socket.bind((source, 0).into())?;
    let stream = socket.connect(address).await.with_context(|| format!("cannot connect from {source}"))?;
    let config = WebSocketConfig::default().read_buffer_size(READ_BYTES);
    let (mut socket, _) = tokio_tungstenite::client_async_with_config(url, stream, Some(config)).await?;
    let mut permit = Some(permit);
    let mut at = None;
    loop {
        let text = match socket.next().await.context("it ended")?? {
            Message::Text(text) => text,
            Message::Ping(_) | Message::Pong(_) => continue,
            other => bail!("not a document: {other:?}"),
        };
        let (is_delta, sequence) = head(&text)?;
        if is_delta {
            ensure!(at == Some(sequence - 1), "delta {sequence} after {at:?}");
            let made = number_after(&text, r#""generatedAt":"#).context("a delta without its time")?;
            let took = now_ms().saturating_sub(made);
            with(seen, |seen| {
                seen.deltas.push(took);
                seen.bytes += text.len();
                let (have, last) = seen.spread.entry(sequence).or_default();
                (*have, *last) = (*have + 1, took.max(*last));
            });
        } else if at.is_some() {
            with(seen, |seen| seen.behind += 1);
        } else {
            with(seen, |seen| seen.snapshots.push(begun.elapsed().as_millis() as u64));
            permit.take();
        }
        at = Some(sequence);
    }
}

/// Whether it is a delta, and its number. Reading all of it would cost more than sending it.
fn head(text: &str) -> Result<(bool, u64)> {
    let sequence = number_after(text, r#""sequence":"#).context("a frame without a number")?;
    match text.split('"').nth(3) {
        Some("delta") => Ok((true, sequence)),
        Some("snapshot") => Ok((false, sequence)),
        _ => bail!("neither snapshot nor delta: {}", text.chars().take(100).collect::<String>()),
    }
}

fn number_after(text: &str, name: &str) -> Option<u64> {
    let (_, rest) = text.split_once(name)?;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// As many descriptors as `sockets` need.
fn raise_limit(sockets: usize) -> Result<()> {
    let (mut limit, needed) = (getrlimit(Resource::Nofile), sockets as u64 + OTHERS);
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    let hard = limit.maximum.unwrap_or(u64::MAX);
    ensure!(
        hard >= needed,
        "{sockets} sockets need {needed} open files, and {hard} are allowed (ulimit -Hn): open fewer"
    );
    limit.current = Some(needed);
    Ok(setrlimit(Resource::Nofile, limit)?)
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}

async fn serve(address: SocketAddr, bytes: usize, pause: Duration) -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    let frame = move |kind: &str, sequence: u64| {
        let filling = "x".repeat(bytes);
        let made = now_ms();
        let text = format!(r#"{{"type":"{kind}","sequence":{sequence},"generatedAt":{made},"filling":"{filling}"}}"#);
        (sequence, Utf8Bytes::from(text))
    };
    let newest = watch::Sender::new(frame("delta", 1));
    let sockets = newest.clone();
    tokio::spawn(async move {
        let mut timer = tokio::time::interval(pause);
        for sequence in 2.. {
            timer.tick().await;
            newest.send_replace(frame("delta", sequence));
        }
    });
    let open = async move |upgrade: WebSocketUpgrade| {
        let newest = sockets.subscribe();
        upgrade.read_buffer_size(READ_BYTES).on_upgrade(async move |socket| {
            // A visitor that goes is no news.
            let _ = push(socket, newest, frame).await;
        })
    };
    let listener = TcpListener::bind(address).await?;
    Ok(axum::serve(listener, Router::new().fallback(get(open))).await?)
}

/// First a snapshot, then every change; one that was too slow for some gets a snapshot again, as at a gateway.
async fn push(
    mut socket: WebSocket,
    mut newest: watch::Receiver<(u64, Utf8Bytes)>,
    frame: impl Fn(&str, u64) -> (u64, Utf8Bytes),
) -> Result<()> {
    let mut at = newest.borrow_and_update().0;
    socket.send(Served::Text(frame("snapshot", at).1)).await?;
    loop {
        newest.changed().await?;
        let (sequence, delta) = newest.borrow_and_update().clone();
        let text = if sequence == at + 1 { delta } else { frame("snapshot", sequence).1 };
        socket.send(Served::Text(text)).await?;
        at = sequence;
    }
}
