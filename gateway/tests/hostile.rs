//! Visitors that mean harm, many at once, and one beside them that must not notice.
mod common;

use anyhow::Context as _;
use chord_gateway::ws::Timing;
use common::{Gateway, LONG, Socket, fake::FakeRing, gateway, next};
use std::time::{Duration, Instant};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    task::JoinSet,
    time::timeout,
};

/// Of one kind of attack.
const MANY: usize = 100;
/// Another address than that of the one who must not notice.
const ATTACKER: [u8; 4] = [127, 0, 0, 66];

async fn connect(gateway: &Gateway) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((ATTACKER, 0).into())?;
    socket.connect(gateway.address).await
}

/// A WebSocket of which every byte can be chosen.
async fn upgraded(gateway: &Gateway, path: &str) -> anyhow::Result<TcpStream> {
    let mut stream = connect(gateway).await?;
    let head = format!(
        "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(timeout(LONG, stream.read_u8()).await??);
    }
    anyhow::ensure!(answer.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&answer));
    Ok(stream)
}

/// Whether the other side ends the connection.
async fn ends(mut stream: TcpStream) -> bool {
    let mut all = Vec::new();
    timeout(LONG, stream.read_to_end(&mut all)).await.is_ok()
}

/// A masked frame, as a browser would send it, with any first byte.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        length @ 0..126 => bytes.push(0x80 | length as u8),
        length => bytes.extend([&[0x80 | 126], &(length as u16).to_be_bytes()[..]].concat()),
    }
    let mask = [1, 2, 3, 4];
    bytes.extend(mask);
    bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// A ring in which something changes all the time, and a gateway before it.
async fn busy(flags: &[&str]) -> anyhow::Result<(FakeRing, Gateway)> {
    let ring = FakeRing::start(3, Duration::from_millis(50), None)?;
    let gateway = gateway(&ring.address("demo-node-0"), flags, Timing::default()).await?;
    gateway.until("converged", |ring| ring["converged"] == true).await?;
    let working = ring.clone();
    tokio::spawn(async move {
        for keys in 1000.. {
            working.work(keys, 500, 0.1);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    Ok((ring, gateway))
}

/// Takes deltas until `attack` is over and then some more: none may be missing, and every question is answered.
async fn unharmed(gateway: &Gateway, attack: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let mut page = gateway.socket("", None).await?;
    let mut sequence = next(&mut page).await?["sequence"].as_u64().context("a snapshot")?;
    let mut attack = std::pin::pin!(attack);
    let (mut is_over, mut after) = (false, 0);
    while after < 3 {
        tokio::select! {
            done = attack.as_mut(), if !is_over => {
                done?;
                is_over = true;
            }
            delta = next(&mut page) => {
                let delta = delta?;
                assert_eq!((&delta["type"], delta["sequence"].as_u64()), (&"delta".into(), Some(sequence + 1)));
                sequence += 1;
                after += u32::from(is_over);
                assert_eq!(gateway.get("/api/v1/stats").await?.status, 200);
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn malformed_and_oversized_frames_end_their_socket_and_no_other() -> anyhow::Result<()> {
    let (_ring, gateway) = busy(&[]).await?;
    let huge = [&[0x81, 0xff], &(u64::MAX >> 1).to_be_bytes()[..], &[1, 2, 3, 4]].concat();
    let endless = [frame(0x01, &[b'x'; 100]), frame(0x00, &[b'x'; 100]).repeat(20)].concat();
    let bad: Vec<(&str, Vec<u8>)> = vec![
        ("not masked", vec![0x81, 2, b'h', b'i']),
        ("an unknown opcode", frame(0x83, b"x")),
        ("reserved bits", frame(0xf1, b"x")),
        ("eight exabytes", huge),
        ("more than is allowed", frame(0x81, &[b'x'; 5000])),
        ("in parts, more than is allowed", endless),
        ("a ping in parts", frame(0x09, b"x")),
        ("a long ping", frame(0x89, &[b'x'; 200])),
        ("a part of nothing", frame(0x80, b"x")),
        ("not UTF-8", frame(0x81, &[0xff, 0xfe])),
        ("noise", (0..=255).rev().collect()),
    ];
    let attack = async {
        for path in ["/api/v1/ws", "/api/v1/sandbox"] {
            for (what, bytes) in &bad {
                let mut stream = upgraded(&gateway, path).await?;
                stream.write_all(bytes).await?;
                assert!(ends(stream).await, "{path} stays open after {what}");
            }
        }
        Ok(())
    };
    unharmed(&gateway, attack).await
}

#[tokio::test]
async fn floods_end_their_socket_and_no_other() -> anyhow::Result<()> {
    let (_ring, gateway) = busy(&[]).await?;
    let pings = frame(0x89, b"are you there?");
    let attack = async {
        let mut floods = JoinSet::new();
        for number in 0..20 {
            let path = ["/api/v1/ws", "/api/v1/sandbox"][number % 2];
            let (mut reading, mut writing) = upgraded(&gateway, path).await?.into_split();
            let pings = pings.repeat(100);
            floods.spawn(async move {
                let mut all = Vec::new();
                let reading = tokio::spawn(async move { reading.read_to_end(&mut all).await.is_ok() });
                let flood = async { while writing.write_all(&pings).await.is_ok() {} };
                let ended = timeout(LONG, flood).await.is_ok();
                reading.abort();
                ended
            });
        }
        while let Some(ended) = floods.join_next().await {
            assert!(ended?, "it may send pings for ever");
        }
        Ok(())
    };
    unharmed(&gateway, attack).await
}

#[tokio::test]
async fn slow_requests_take_what_their_own_address_has_and_no_more() -> anyhow::Result<()> {
    let (_ring, gateway) = busy(&[]).await?;
    let attack = async {
        // More than one address may have: the rest is turned away at once.
        let mut slow = Vec::new();
        for _ in 0..300 {
            let mut stream = connect(&gateway).await?;
            let _ = stream.write_all(b"GET /api/v1/ring HTTP/1.1\r\nX-Slow: ").await;
            slow.push(stream);
        }
        let begun = Instant::now();
        for _ in 0..5 {
            for stream in &mut slow {
                let _ = stream.write_all(b"a").await;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        let mut refused = 0;
        for stream in &slow {
            let mut byte = [0; 1];
            refused += usize::from(
                !matches!(stream.try_read(&mut byte), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock),
            );
        }
        anyhow::ensure!((40..300).contains(&refused), "{refused} of 300 were refused after {:?}", begun.elapsed());
        Ok(())
    };
    unharmed(&gateway, attack).await
}

#[tokio::test]
async fn connections_that_come_and_go_leave_nothing_behind() -> anyhow::Result<()> {
    let (_ring, gateway) = busy(&["--sockets=20", "--sockets-per-visitor=20"]).await?;
    let attack = async {
        for number in 0..MANY * 3 {
            match number % 3 {
                // Nothing at all, and a reset in the middle of a request.
                0 => drop(connect(&gateway).await?),
                1 => {
                    let mut stream = connect(&gateway).await?;
                    stream.write_all(b"GET /api/v1/ri").await?;
                    stream.set_zero_linger()?;
                }
                // A socket that is broken as soon as it is open; all of them may be in use for a moment.
                _ => {
                    if let Ok(stream) = upgraded(&gateway, "/api/v1/ws").await {
                        stream.set_zero_linger()?;
                    }
                }
            }
        }
        Ok(())
    };
    unharmed(&gateway, attack).await?;
    // Every place is free again.
    let begun = Instant::now();
    let mut held: Vec<Socket> = Vec::new();
    while held.len() < 20 {
        match gateway.socket("", None).await {
            Ok(socket) => held.push(socket),
            Err(error) => anyhow::ensure!(begun.elapsed() < LONG, "only {} places: {error}", held.len()),
        }
    }
    Ok(())
}
