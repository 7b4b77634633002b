//! The WebSocket, over real connections.
mod common;

use chord_gateway::ws::Timing;
use chord_proto::v1::MemberState;
use common::{Gateway, Socket, close_code, fake::FakeRing, find, gateway, next, ring_and_gateway};
use futures::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};
use tokio_tungstenite::tungstenite::{self, Message};

/// What a page keeps: a snapshot, with deltas put onto it.
struct Page {
    sequence: u64,
    nodes: BTreeMap<String, Value>,
}

impl Page {
    fn of(snapshot: &Value) -> Page {
        assert_eq!(snapshot["type"], "snapshot");
        assert_eq!(snapshot["sequence"], snapshot["ring"]["sequence"]);
        let mut page = Page { sequence: 0, nodes: BTreeMap::new() };
        page.put(&snapshot["ring"]["nodes"]);
        page.sequence = snapshot["sequence"].as_u64().expect("numbered");
        page
    }

    fn put(&mut self, nodes: &Value) {
        for node in nodes.as_array().expect("a list") {
            self.nodes.insert(node["id"].as_str().expect("an id").to_owned(), node.clone());
        }
    }

    /// A delta, which must be the very next.
    fn apply(&mut self, delta: &Value) {
        assert_eq!((delta["type"].as_str(), delta["sequence"].as_u64()), (Some("delta"), Some(self.sequence + 1)));
        self.sequence += 1;
        self.put(&delta["nodes"]);
        for id in delta["removed"].as_array().expect("a list") {
            self.nodes.remove(id.as_str().expect("an id"));
        }
    }
}

async fn send(socket: &mut Socket, message: Value) -> anyhow::Result<()> {
    Ok(socket.send(Message::text(message.to_string())).await?)
}

#[tokio::test]
async fn a_snapshot_with_all_deltas_is_the_ring() -> anyhow::Result<()> {
    let (ring, gateway) = ring_and_gateway(3, &[]).await?;
    let mut socket = gateway.socket("", None).await?;
    let mut page = Page::of(&next(&mut socket).await?);
    let newcomer = ring.join(MemberState::Joining)?;
    ring.set_state("demo-node-2", MemberState::Leaving);
    ring.set_state("demo-node-2", MemberState::Left);
    ring.set_state(&newcomer, MemberState::Serving);
    let is_done = |page: &Page| {
        let serving = page.nodes.values().filter(|node| node["state"] == "Serving" && node["staleSince"].is_null());
        let names: Vec<&str> = serving.filter_map(|node| node["name"].as_str()).collect();
        names.contains(&newcomer.as_str()) && !page.nodes.values().any(|node| node["name"] == "demo-node-2")
    };
    let mut events = Vec::new();
    while !is_done(&page) {
        let delta = next(&mut socket).await?;
        page.apply(&delta);
        events.extend(delta["events"].as_array().cloned().unwrap_or_default());
    }
    assert!(events.iter().any(|event| event["kind"] == "join" && event["subject"]["name"] == newcomer.as_str()));
    let now = gateway.until("as far", |ring| ring["sequence"].as_u64() >= Some(page.sequence)).await?;
    while Some(page.sequence) < now["sequence"].as_u64() {
        page.apply(&next(&mut socket).await?);
    }
    let nodes: Vec<&Value> = page.nodes.values().collect();
    assert_eq!(nodes, now["nodes"].as_array().expect("a list").iter().collect::<Vec<_>>());
    Ok(())
}

#[tokio::test]
async fn who_comes_back_gets_what_it_missed_or_a_snapshot() -> anyhow::Result<()> {
    let (ring, gateway) = ring_and_gateway(2, &[]).await?;
    let mut socket = gateway.socket("", None).await?;
    let snapshot = next(&mut socket).await?;
    let (stream, begun) = (snapshot["ring"]["stream"].clone(), snapshot["sequence"].as_u64().expect("numbered"));
    ring.join(MemberState::Serving)?;
    gateway.until("three", |seen| seen["nodes"].as_array().is_some_and(|nodes| nodes.len() == 3)).await?;

    let query = format!("?stream={}&sequence={begun}", stream.as_str().unwrap_or_default());
    let mut back = gateway.socket(&query, None).await?;
    let mut page = Page::of(&snapshot);
    page.apply(&next(&mut back).await?);

    // Asking again on an open socket: the same delta comes again.
    send(&mut back, json!({ "type": "resume", "stream": stream, "sequence": begun })).await?;
    loop {
        let delta = next(&mut back).await?;
        if delta["sequence"] == begun + 1 {
            break;
        }
    }
    for unknown in [format!("?stream=other&sequence={begun}"), "?sequence=1".into(), query + "999999"] {
        let mut socket = gateway.socket(&unknown, None).await?;
        assert_eq!(next(&mut socket).await?["type"], "snapshot", "{unknown}");
    }
    Ok(())
}

#[tokio::test]
async fn pages_of_other_origins_may_not_listen() -> anyhow::Result<()> {
    let (_ring, gateway) = ring_and_gateway(1, &["--allowed-origins=https://ops.example"]).await?;
    let own = format!("http://{}", gateway.address);
    for allowed in [None, Some(own.as_str()), Some("https://ops.example")] {
        let mut socket = gateway.socket("", allowed).await?;
        assert_eq!(next(&mut socket).await?["type"], "snapshot", "{allowed:?}");
    }
    for refused in ["https://evil.example", "null", "http://127.0.0.1:1"] {
        match gateway.socket("", Some(refused)).await {
            Err(tungstenite::Error::Http(reply)) => assert_eq!(reply.status(), 403, "{refused}"),
            other => panic!("{refused}: {:?}", other.map(|_| "opened")),
        }
    }
    Ok(())
}

#[tokio::test]
async fn sockets_are_bounded_for_each_visitor_and_in_all() -> anyhow::Result<()> {
    let status = |error| match error {
        Err(tungstenite::Error::Http(reply)) => reply.status().as_u16(),
        other => panic!("not refused: {:?}", other.map(|_: Socket| "opened")),
    };
    let (ring, each) = ring_and_gateway(1, &["--sockets-per-visitor=2"]).await?;
    let first = each.socket("", None).await?;
    let _second = each.socket("", None).await?;
    assert_eq!(status(each.socket("", None).await), 429);
    drop(first);
    let begun = Instant::now();
    while each.socket("", None).await.is_err() {
        assert!(begun.elapsed() < common::LONG, "a socket that went is not counted any more");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let all = gateway(&ring.address("demo-node-0"), &["--sockets=1"], Timing::default()).await?;
    let _only = all.socket("", None).await?;
    assert_eq!(status(all.socket("", None).await), 503);
    Ok(())
}

#[tokio::test]
async fn who_sends_what_it_may_not_is_closed() -> anyhow::Result<()> {
    let (_ring, gateway) = ring_and_gateway(1, &[]).await?;
    for message in [
        Message::text("hello"),
        Message::text(r#"{"type":"put","key":"k","value":"v"}"#),
        Message::text(r#"{"type":"resume","sequence":1,"more":true}"#),
        Message::text(r#"{"type":"resume","sequence":-1}"#),
        Message::binary(vec![1, 2, 3]),
    ] {
        let mut socket = gateway.socket("", None).await?;
        socket.send(message.clone()).await?;
        assert_eq!(close_code(&mut socket).await?, 1008, "{message}");
    }
    let mut socket = gateway.socket("", None).await?;
    for _ in 0..20 {
        if send(&mut socket, json!({ "type": "resume", "sequence": 0 })).await.is_err() {
            break;
        }
    }
    assert_eq!(close_code(&mut socket).await?, 1008, "a snapshot costs more than to ask for it");
    let mut socket = gateway.socket("", None).await?;
    let _ = socket.send(Message::text("x".repeat(5000))).await;
    while let Some(Ok(_)) = socket.next().await {}
    Ok(())
}

#[tokio::test]
async fn a_silent_visitor_is_let_go_and_one_that_answers_pings_is_kept() -> anyhow::Result<()> {
    let ring = FakeRing::start(1, Duration::from_millis(50), None)?;
    let [ping, silence, send] = [200, 1500, 2000].map(Duration::from_millis);
    let gateway = gateway(&ring.address("demo-node-0"), &[], Timing { ping, silence, send }).await?;
    let sockets = async |gateway: &Gateway| {
        let metrics = common::request(gateway.probes, "GET", "/metrics", &[]).await?.body;
        let line = metrics.lines().find(|line| line.starts_with("chord_gateway_sockets_closed_total{why=\"Silent\"}"));
        anyhow::Ok(line.and_then(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).unwrap_or(0))
    };
    let before = sockets(&gateway).await?;
    // It is opened and never looked at again: no pong.
    let silent = gateway.socket("", None).await?;
    let mut polite = gateway.socket("", None).await?;
    let begun = Instant::now();
    let keeping = tokio::spawn(async move {
        while begun.elapsed() < Duration::from_secs(4) {
            match tokio::time::timeout(Duration::from_millis(100), polite.next()).await {
                Ok(Some(Ok(_))) | Err(_) => {}
                Ok(other) => anyhow::bail!("ended: {other:?}"),
            }
        }
        Ok(())
    });
    while sockets(&gateway).await? == before {
        assert!(begun.elapsed() < common::LONG, "still open");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    drop(silent);
    keeping.await?
}

#[tokio::test]
async fn one_that_does_not_read_slows_nobody_and_gets_a_snapshot_when_it_reads_again() -> anyhow::Result<()> {
    let ring = FakeRing::start(40, Duration::from_millis(50), None)?;
    let timing = Timing { send: common::LONG * 4, ..Timing::default() };
    let gateway = gateway(&ring.address("demo-node-0"), &[], timing).await?;
    gateway.until("converged", |ring| ring["converged"] == true).await?;
    // It takes little into its buffers, and is not read while much more is sent.
    let mut slow = common::small_socket(&gateway).await?;
    let mut quick = gateway.socket("", None).await?;
    let mut page = Page::of(&next(&mut quick).await?);
    let (mut longest, mut bytes) = (Duration::ZERO, 0);
    for _ in 0..30 {
        ring.work(rand::random_range(1000..2000), 5000, 1.0);
        let asked = Instant::now();
        let delta = next(&mut quick).await?;
        longest = longest.max(asked.elapsed());
        bytes += delta.to_string().len();
        page.apply(&delta);
    }
    assert!(longest < Duration::from_secs(5), "the quick one waited {longest:?}");
    assert!(bytes > 400_000, "enough was sent to matter: {bytes}");
    // What the slow one gets has no gap, spares it what is old, and ends where the ring is.
    let (mut behind, mut snapshots, mut deltas) = (Page::of(&next(&mut slow).await?), 1, 0);
    while behind.sequence < page.sequence {
        let frame = next(&mut slow).await?;
        if frame["type"] == "snapshot" {
            (behind, snapshots) = (Page::of(&frame), snapshots + 1);
        } else {
            behind.apply(&frame);
            deltas += 1;
        }
    }
    assert!(snapshots >= 2, "{snapshots} snapshots and {deltas} deltas");
    let now = gateway.ring().await?;
    assert!(find(&now, "demo-node-39").is_some());
    assert_eq!(behind.nodes.len(), 40);
    Ok(())
}

#[tokio::test]
async fn at_the_end_every_socket_is_told_and_the_process_ends_soon() -> anyhow::Result<()> {
    let (_ring, gateway) = ring_and_gateway(1, &[]).await?;
    let mut sockets = Vec::new();
    for _ in 0..5 {
        let mut socket = gateway.socket("", None).await?;
        next(&mut socket).await?;
        sockets.push(socket);
    }
    // One that never reads does not keep it.
    let _deaf = gateway.socket("", None).await?;
    let begun = Instant::now();
    gateway.shutdown.cancel();
    for socket in &mut sockets {
        assert_eq!(close_code(socket).await?, 1001);
    }
    gateway.running.await??;
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    assert!(tokio::net::TcpStream::connect(gateway.address).await.is_err(), "it listens no more");
    Ok(())
}
