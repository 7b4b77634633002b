//! What visitors of a gateway send, over a connection as they have it; and what the ring's members tell it.
use crate::answers::members;
use chord::id::Id;
use chord_client::net;
use chord_gateway::{
    app::{Shared, router},
    args::Args,
    hub::Hub,
    model::{Description, Model},
    observe::Links,
    query,
    sandbox::{Sandbox, schema::Command},
    ws::Timing,
};
use chord_proto::v1;
use clap::Parser as _;
use http::Request;
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use prost::Message as _;
use std::{sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Every connection is done within this, however busy the machine.
const ANSWER_MAX: Duration = Duration::from_secs(40);
/// Most commands of one sandbox.
const COMMANDS_MAX: usize = 24;

/// A word of the one member of the ring that is shown.
fn description() -> v1::DescribeResponse {
    let node = v1::NodeRef {
        id: Id::of_ordinal(0).to_bytes().to_vec().into(),
        disk_uuid: vec![1; 16].into(),
        incarnation: 1,
        name: "n-0".into(),
        internal_addr: "n-0:7400".into(),
        client_addr: "n-0:7401".into(),
        zone: String::new(),
    };
    let member =
        v1::Member { node: Some(node.clone()), state: v1::MemberState::Serving.into(), reachable: true, revision: 1 };
    v1::DescribeResponse {
        node: Some(node),
        state: v1::MemberState::Serving.into(),
        ring_id: vec![7; 16].into(),
        members: vec![member],
        shards: 4,
        replication_factor: 3,
        ..v1::DescribeResponse::default()
    }
}

/// A gateway that shows a ring of one, whose member gives these answers when it is asked.
fn gateway(answers: &[u8]) -> axum::Router {
    let args = ["chord-gateway", "--endpoints=n-0:7401", "--requests-per-second=1000000", "--burst=1000000"];
    let args = Args::try_parse_from(args).expect("flags");
    let mut model = Model::new("demo", "default", "0123456789abcdef");
    let hub = Hub::new(model.ring().clone());
    let known = Description::parse(description()).expect("a description");
    model.describe(known, 1).expect("a member");
    hub.publish(model.publish(1).expect("news"));
    let channel = net::link("n-0:7401", None, members(answers)).expect("an address").channel;
    let links = Links::from_iter([(Id::of_ordinal(0), channel)]);
    let (shutdown, tasks) = (CancellationToken::new(), TaskTracker::new());
    let shared = Shared::new(&args, Arc::new(hub), links, Timing::default(), shutdown, tasks);
    router(Arc::new(shared), &args)
}

/// What the gateway sends back to all of `bytes` until it closes the connection.
async fn connection(router: axum::Router, bytes: Vec<u8>) -> Vec<u8> {
    let (mut here, there) = tokio::io::duplex(1 << 20);
    let service =
        TowerToHyperService::new(tower::ServiceExt::<Request<hyper::body::Incoming>>::map_err(router, |never| {
            match never {}
        }));
    let server =
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(there), service).with_upgrades();
    tokio::spawn(async move {
        let _: Result<(), hyper::Error> = server.await;
    });
    let mut answer = Vec::new();
    let _ = here.write_all(&bytes).await;
    let _ = here.shutdown().await;
    let _ = timeout(ANSWER_MAX, here.read_to_end(&mut answer)).await.expect("every connection ends");
    answer
}

fn request(path: &[u8], more: &str) -> Vec<u8> {
    [b"GET ", path, b" HTTP/1.1\r\nHost: demo\r\n", more.as_bytes(), b"\r\n"].concat()
}

const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// Frames of a visitor: first byte, length, payload, again and again; masked with zeros.
fn frames(mut rest: &[u8]) -> Vec<u8> {
    let mut frames = Vec::new();
    while let Some((&[first, length], after)) = rest.split_first_chunk() {
        let (payload, after) = after.split_at(after.len().min(usize::from(length & 0x7f)));
        let length = payload.len() as u8;
        match length {
            126.. => frames.extend([first, 0x80 | 126, 0, length]),
            _ => frames.extend([first, 0x80 | length]),
        }
        frames.extend([0; 4]);
        frames.extend(payload);
        rest = after;
    }
    frames
}

/// The first byte says what the others are: a path below the API, all of a connection, messages of one of the two
/// WebSockets, commands of a sandbox (one a line), or answers of the member to a lookup.
pub fn visitors(data: &[u8]) -> bool {
    let Some((kind, rest)) = data.split_first() else { return false };
    if kind % 6 == 4 {
        return sandbox(rest);
    }
    let bytes = match kind % 6 {
        0 => request(&[b"/api/v1/", rest].concat(), "Connection: close\r\n"),
        1 => rest.to_vec(),
        2 => [request(b"/api/v1/ws", UPGRADE), frames(rest)].concat(),
        3 => [request(b"/api/v1/sandbox", UPGRADE), frames(rest)].concat(),
        _ => {
            let fingers = format!("/api/v1/ring/nodes/{}/fingers", Id::of_ordinal(0));
            let close = "Connection: close\r\n";
            [request(b"/api/v1/lookup?key=a", ""), request(fingers.as_bytes(), close)].concat()
        }
    };
    // The ids and queries alone as well: HTTP takes only what can be in a URL.
    let text = String::from_utf8_lossy(rest);
    let allowed = ["key", "keyBase64", "id", "sequence", "stream", "limit"];
    if let Ok(query) = query::Query::parse(Some(&text), &allowed) {
        let _ = (query.number("sequence", 0), query.number("limit", 100), query::target(&query));
    }
    let _ = query::id("id", &text);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let answers = if kind % 6 == 5 { rest } else { b"" };
    let answer = runtime.block_on(async { connection(gateway(answers), bytes).await });
    // Not waiting for a world that a sandbox's socket has left behind.
    runtime.shutdown_background();
    answer.starts_with(b"HTTP/1.1 200") || answer.starts_with(b"HTTP/1.1 101")
}

fn sandbox(commands: &[u8]) -> bool {
    let (mut sandbox, mut done) = (Sandbox::new(3), false);
    for line in commands.split(|byte| *byte == b'\n').take(COMMANDS_MAX) {
        if let Ok(command) = serde_json::from_slice::<Command>(line) {
            sandbox.command(command);
            done = true;
        }
        if sandbox.pass(Duration::from_millis(100), Duration::from_millis(1)).is_err() {
            break;
        }
    }
    let picture = serde_json::to_string(&sandbox.frame(Duration::from_secs(1)));
    assert!(picture.is_ok_and(|picture| picture.len() < 1 << 20), "a picture is bounded");
    done
}

/// What members tell the gateway: `v1::WatchResponse`s, each with its length (u16 LE) before it.
pub fn told(mut rest: &[u8]) -> bool {
    use v1::watch_response::Kind;
    let mut model = Model::new("demo", "default", "0123456789abcdef");
    let hub = Hub::new(model.ring().clone());
    let (mut now, mut taken) = (1, false);
    while let Some((length, after)) = rest.split_first_chunk() {
        let (message, after) = after.split_at(after.len().min(u16::from_le_bytes(*length).into()));
        rest = after;
        now += 600;
        match v1::WatchResponse::decode(message).ok().and_then(|said| said.kind) {
            Some(Kind::Description(said)) => {
                let Ok(said) = Description::parse(said) else { continue };
                taken |= model.describe(said, now).is_ok();
            }
            Some(Kind::Event(event)) => {
                let reporter = model.targets().keys().next().copied();
                reporter.into_iter().for_each(|reporter| model.event(reporter, event.clone()));
            }
            None => {
                let silent = model.targets().keys().next().copied();
                silent.into_iter().for_each(|silent| model.lost(silent, now, "silence"));
            }
        }
        model.publish(now).into_iter().for_each(|news| hub.publish(news));
        let _ = hub.current().document();
    }
    taken
}
