//! A gateway before a fake ring, and the plainest of HTTP and WebSocket clients.
#![allow(dead_code)] // Each test uses a part of it.
#[path = "../../fake/mod.rs"]
pub mod fake;

use anyhow::Context as _;
use chord_gateway::{app::App, args::Args, ws::Timing};
use clap::Parser as _;
use fake::FakeRing;
use futures::StreamExt as _;
use serde_json::Value;
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinHandle,
    time::timeout,
};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream,
    tungstenite::{self, Message, client::IntoClientRequest as _},
};
use tokio_util::sync::CancellationToken;

/// Nothing here takes longer, however busy the machine.
pub const LONG: Duration = Duration::from_secs(30);

pub type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

pub struct Gateway {
    pub address: SocketAddr,
    pub probes: SocketAddr,
    pub base: String,
    pub shutdown: CancellationToken,
    pub running: JoinHandle<anyhow::Result<()>>,
}

/// An answer.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// With flags beside those that it needs; `--endpoints` is a fake ring's first member unless among them.
pub async fn gateway(endpoints: &str, flags: &[&str], timing: Timing) -> anyhow::Result<Gateway> {
    let endpoints = format!("--endpoints={endpoints}");
    let base = ["chord-gateway", "--ring-name=demo", "--listen=127.0.0.1:0", "--http-addr=127.0.0.1:0", &endpoints];
    let mut all: Vec<&str> = base.to_vec();
    if !flags.iter().any(|flag| flag.starts_with("--requests-per-second")) {
        all.extend(["--requests-per-second=100000", "--burst=100000"]);
    }
    all.extend(flags);
    let args = Args::try_parse_from(all)?.checked()?;
    let base = args.base_path.clone();
    let app = App::build(args).await?.timing(timing);
    let (address, probes) = app.addresses()?;
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(app.run(shutdown.clone()));
    Ok(Gateway { address, probes, base, shutdown, running })
}

/// A ring of fakes and a gateway that has heard all of them.
pub async fn ring_and_gateway(nodes: u32, flags: &[&str]) -> anyhow::Result<(FakeRing, Gateway)> {
    let ring = FakeRing::start(nodes, Duration::from_millis(50), None)?;
    ring.work(1000, 100, 1.0);
    let gateway = gateway(&ring.address("demo-node-0"), flags, Timing::default()).await?;
    gateway.until("converged", |ring| ring["converged"] == true).await?;
    Ok((ring, gateway))
}

impl Gateway {
    /// `GET`, with more header lines.
    pub async fn get_with(&self, path: &str, headers: &[&str]) -> anyhow::Result<Reply> {
        self.request("GET", path, headers).await
    }

    pub async fn get(&self, path: &str) -> anyhow::Result<Reply> {
        self.get_with(path, &[]).await
    }

    /// The ring's document.
    pub async fn ring(&self) -> anyhow::Result<Value> {
        Ok(self.get(&format!("{}api/v1/ring", self.base)).await?.json())
    }

    pub async fn request(&self, method: &str, path: &str, headers: &[&str]) -> anyhow::Result<Reply> {
        request(self.address, method, path, headers).await
    }

    /// Asks for the ring until it is as it should be.
    pub async fn until(&self, what: &str, is: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
        let begun = Instant::now();
        loop {
            let ring = self.ring().await?;
            if is(&ring) {
                return Ok(ring);
            }
            anyhow::ensure!(begun.elapsed() < LONG, "never {what}: {ring:#}");
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }

    /// Opens the WebSocket.
    pub async fn socket(&self, query: &str, origin: Option<&str>) -> Result<Socket, tungstenite::Error> {
        self.socket_at(&format!("api/v1/ws{query}"), origin).await
    }

    /// Opens the WebSocket at a path.
    pub async fn socket_at(&self, path: &str, origin: Option<&str>) -> Result<Socket, tungstenite::Error> {
        self.socket_with(path, origin.map(|origin| ("origin", origin))).await
    }

    /// As a proxy would for a visitor.
    pub async fn socket_from(&self, visitor: &str, path: &str) -> Result<Socket, tungstenite::Error> {
        self.socket_with(path, Some(("x-forwarded-for", visitor))).await
    }

    async fn socket_with(
        &self,
        path: &str,
        header: Option<(&'static str, &str)>,
    ) -> Result<Socket, tungstenite::Error> {
        let url = format!("ws://{}{}{path}", self.address, self.base);
        let mut request = url.into_client_request()?;
        if let Some((name, value)) = header {
            request.headers_mut().insert(name, value.parse().expect("a header"));
        }
        Ok(tokio_tungstenite::connect_async(request).await?.0)
    }
}

/// A WebSocket whose side of the connection buffers next to nothing.
pub async fn small_socket(gateway: &Gateway) -> anyhow::Result<Socket> {
    let socket = tokio::net::TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(4096)?;
    let stream = MaybeTlsStream::Plain(socket.connect(gateway.address).await?);
    let url = format!("ws://{}{}api/v1/ws", gateway.address, gateway.base);
    Ok(tokio_tungstenite::client_async(url, stream).await?.0)
}

/// One request over a connection of its own.
pub async fn request(address: SocketAddr, method: &str, path: &str, headers: &[&str]) -> anyhow::Result<Reply> {
    let mut text = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
    for header in headers {
        text += &format!("{header}\r\n");
    }
    raw(address, &(text + "\r\n")).await
}

/// What is answered to a text, until the connection ends.
pub async fn raw(address: SocketAddr, text: &str) -> anyhow::Result<Reply> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(text.as_bytes()).await?;
    let mut bytes = Vec::new();
    timeout(LONG, stream.read_to_end(&mut bytes)).await.context("no answer in time")??;
    let text = String::from_utf8_lossy(&bytes);
    let (head, body) = text.split_once("\r\n\r\n").with_context(|| format!("no head in {text:?}"))?;
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).context("no status")?.parse()?;
    let pair = |line: &str| line.split_once(": ").map(|(name, value)| (name.to_lowercase(), value.to_owned()));
    Ok(Reply { status, headers: lines.filter_map(pair).collect(), body: body.to_owned() })
}

/// The next document of a socket; pings are passed over.
pub async fn next(socket: &mut Socket) -> anyhow::Result<Value> {
    loop {
        match timeout(LONG, socket.next()).await.context("nothing came in time")? {
            Some(Ok(Message::Text(text))) => return Ok(serde_json::from_str(&text)?),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            other => anyhow::bail!("not a document: {other:?}"),
        }
    }
}

/// The code a socket is closed with.
pub async fn close_code(socket: &mut Socket) -> anyhow::Result<u16> {
    loop {
        match timeout(LONG, socket.next()).await.context("not closed in time")? {
            Some(Ok(Message::Close(Some(frame)))) => return Ok(frame.code.into()),
            Some(Ok(Message::Close(None))) | None => anyhow::bail!("closed without a code"),
            Some(Ok(_)) => {}
            Some(Err(error)) => anyhow::bail!("broken: {error}"),
        }
    }
}

/// A member in a ring's document.
pub fn find<'a>(ring: &'a Value, name: &str) -> Option<&'a Value> {
    ring["nodes"].as_array()?.iter().find(|node| node["name"] == name)
}
