//! Sandboxes, over real connections.
mod common;

use common::{Gateway, Socket, close_code, next, ring_and_gateway};
use futures::SinkExt as _;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio_tungstenite::tungstenite::{self, Message};

async fn open(gateway: &Gateway) -> Result<Socket, tungstenite::Error> {
    gateway.socket_at("api/v1/sandbox", None).await
}

async fn send(socket: &mut Socket, command: Value) -> anyhow::Result<()> {
    Ok(socket.send(Message::text(command.to_string())).await?)
}

/// Pictures until one is as wanted.
async fn until(socket: &mut Socket, what: &str, is_so: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
    let begun = Instant::now();
    loop {
        let frame = next(socket).await?;
        if is_so(&frame) {
            return Ok(frame);
        }
        anyhow::ensure!(begun.elapsed() < Duration::from_secs(60), "never {what}: {frame:#}");
    }
}

fn serving(frame: &Value) -> usize {
    let nodes = frame["nodes"].as_array().map_or(&[][..], Vec::as_slice);
    nodes.iter().filter(|node| node["state"] == "Serving" && node["up"] == true).count()
}

#[tokio::test]
async fn a_visitor_plays_and_the_real_ring_is_not_touched() -> anyhow::Result<()> {
    let (ring, gateway) = ring_and_gateway(3, &[]).await?;
    let members = |world: &mut common::fake::World| world.members.keys().copied().collect::<Vec<_>>();
    let before = ring.with(members);
    let mut socket = open(&gateway).await?;
    until(&mut socket, "a ring of eight", |frame| frame["ideal"] == true && serving(frame) == 8).await?;
    send(&mut socket, json!({"type": "reset", "nodes": 3})).await?;
    send(&mut socket, json!({"type": "fill", "keys": 5})).await?;
    send(&mut socket, json!({"type": "speed", "factor": 8})).await?;
    let keys = |frame: &Value| {
        let nodes = frame["nodes"].as_array().map_or(&[][..], Vec::as_slice);
        nodes.iter().filter_map(|node| node["keysLeader"].as_u64()).sum::<u64>()
    };
    until(&mut socket, "five keys on three nodes", |frame| frame["world"] == 2 && keys(frame) == 5).await?;
    send(&mut socket, json!({"type": "add"})).await?;
    until(&mut socket, "a fourth", |frame| serving(frame) == 4 && frame["ideal"] == true).await?;
    send(&mut socket, json!({"type": "fail", "node": 0})).await?;
    let failed = until(&mut socket, "three are left", |frame| serving(frame) == 3 && frame["ideal"] == true).await?;
    assert_eq!(failed["nodes"].as_array().map(Vec::len), Some(4), "who failed is still shown");
    assert_eq!(ring.with(members), before);
    Ok(())
}

#[tokio::test]
async fn sandboxes_are_bounded_and_given_back() -> anyhow::Result<()> {
    let flags = ["--sandboxes=4", "--trusted-hops=1"];
    let (_ring, gateway) = ring_and_gateway(1, &flags).await?;
    let open_from = async |visitor: &str| gateway.socket_from(visitor, "api/v1/sandbox").await;
    let refusal = async |visitor: &str| match open_from(visitor).await {
        Err(tungstenite::Error::Http(refused)) => {
            assert!(refused.headers().contains_key("retry-after"));
            refused.status().as_u16()
        }
        other => panic!("one too many of {visitor}: {:?}", other.map(|_| "opened")),
    };
    let (first, _second) = (open_from("192.0.2.1").await?, open_from("192.0.2.1").await?);
    assert_eq!(refusal("192.0.2.1").await, 429, "nobody has more than half");
    let (_third, _fourth) = (open_from("192.0.2.2").await?, open_from("192.0.2.3").await?);
    assert_eq!(refusal("192.0.2.4").await, 503, "all are taken");
    drop(first);
    let begun = Instant::now();
    while let Err(error) = open(&gateway).await {
        anyhow::ensure!(begun.elapsed() < common::LONG, "never given back: {error}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let Err(tungstenite::Error::Http(refused)) =
        gateway.socket_at("api/v1/sandbox", Some("https://evil.example")).await
    else {
        panic!("a page of another origin plays")
    };
    assert_eq!(refused.status(), 403);
    assert_eq!(gateway.get("/api/v1/sandbox").await?.status, 426);
    Ok(())
}

#[tokio::test]
async fn who_sends_nonsense_or_too_much_is_closed_and_others_play_on() -> anyhow::Result<()> {
    let (_ring, gateway) = ring_and_gateway(1, &[]).await?;
    let mut quiet = open(&gateway).await?;
    for nonsense in ["{", "null", r#"{"type":"format"}"#, r#"{"type":"add","more":1}"#, r#"{"type":"fail","node":-1}"#]
    {
        let mut socket = open(&gateway).await?;
        socket.send(Message::text(nonsense)).await?;
        assert_eq!(close_code(&mut socket).await?, 1008, "{nonsense}");
    }
    let mut flooding = open(&gateway).await?;
    for _ in 0..100 {
        send(&mut flooding, json!({"type": "speed", "factor": 1})).await?;
    }
    assert_eq!(close_code(&mut flooding).await?, 1008);
    let mut long = open(&gateway).await?;
    send(&mut long, json!({"type": "get", "key": "k".repeat(4000)})).await?;
    assert!(
        close_code(&mut long).await.is_ok_and(|code| code == 1009) || next(&mut long).await.is_err(),
        "a long command"
    );
    until(&mut quiet, "a ring of eight", |frame| frame["ideal"] == true && serving(frame) == 8).await?;
    Ok(())
}

#[tokio::test]
async fn ten_full_worlds_do_not_hold_up_the_ring_s_visitors() -> anyhow::Result<()> {
    let (_ring, gateway) = ring_and_gateway(3, &[]).await?;
    let mut sockets = Vec::new();
    for _ in 0..10 {
        let mut socket = open(&gateway).await?;
        send(&mut socket, json!({"type": "reset", "nodes": 64})).await?;
        send(&mut socket, json!({"type": "speed", "factor": 8})).await?;
        sockets.push(socket);
    }
    // All of them have had a turn, and the real ring is still answered for and told about.
    for socket in &mut sockets {
        until(socket, "its own world", |frame| frame["world"] == 2).await?;
    }
    let mut page = gateway.socket("", None).await?;
    for _ in 0..3 {
        next(&mut page).await?;
        assert_eq!(gateway.get("/api/v1/ring").await?.status, 200);
    }
    drop(sockets);
    Ok(())
}
