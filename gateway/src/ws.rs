//! The WebSocket: a snapshot, then deltas.
use crate::{
    app::Shared,
    guard::{Visitor, is_origin_allowed},
    hub::{Hub, Place},
    limit::{Bucket, Full, Rate},
    problem::Problem,
    query::Query,
    schema::ClientMessage,
};
use axum::{
    Extension,
    extract::{
        RawQuery, State,
        ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code, rejection::WebSocketUpgradeRejection},
    },
    response::Response,
};
use http::{HeaderMap, StatusCode};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Bytes of a message from a visitor.
const MESSAGE_BYTES_MAX: usize = 1024;
/// Bytes read at a time. The default of 128 KiB would be held, and zeroed at every wake-up, by each of thousands.
pub const READ_BYTES: usize = 1024;
/// How often a visitor may resume: each time may cost a snapshot.
const RESUMES: Rate = Rate { per_second: 1, burst: 5 };
/// Pings and pongs; a browser sends one pong for each of our pings.
pub const FRAMES: Rate = Rate { per_second: 10, burst: 50 };

/// Times of a socket.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Between two pings.
    pub ping: Duration,
    /// Silence, pongs included, after which a visitor counts as gone.
    pub silence: Duration,
    /// For a frame to be sent.
    pub send: Duration,
}

impl Default for Timing {
    fn default() -> Timing {
        let [ping, silence, send] = [15, 40, 20].map(Duration::from_secs);
        Timing { ping, silence, send }
    }
}

/// `GET /api/v1/ws`.
pub async fn open(
    State(shared): State<Arc<Shared>>,
    Extension(Visitor(visitor)): Extension<Visitor>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Problem> {
    let query = Query::parse(query.as_deref(), &["stream", "sequence"])?;
    let sequence = query.number("sequence", 0)?;
    if !is_origin_allowed(&headers, &shared.allowed_origins) {
        let detail = "a page of another origin may not listen here; add its origin to --allowed-origins";
        return Err(Problem::new(StatusCode::FORBIDDEN, detail));
    }
    let upgrade = upgrade.map_err(|_| {
        let detail = "this is a WebSocket; connect with `Upgrade: websocket`, or use GET api/v1/ring";
        Problem::new(StatusCode::UPGRADE_REQUIRED, detail)
    })?;
    let permit = shared.sockets.take(visitor).map_err(|full| {
        let problem = match full {
            Full::Each => Problem::new(StatusCode::TOO_MANY_REQUESTS, "too many sockets of this address; close one"),
            Full::All => Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too many sockets are open; try again later"),
        };
        problem.retry_after(Duration::from_secs(10))
    })?;
    let place = shared.hub.resume(query.get("stream"), sequence);
    let upgrade = upgrade.max_message_size(MESSAGE_BYTES_MAX).max_frame_size(MESSAGE_BYTES_MAX);
    let upgrade = upgrade.read_buffer_size(READ_BYTES);
    let task = shared.tasks.token();
    Ok(upgrade.on_upgrade(async move |socket| {
        metrics::gauge!("chord_gateway_sockets").increment(1);
        let why = converse(socket, &shared.hub, place, shared.timing, &shared.shutdown).await;
        metrics::gauge!("chord_gateway_sockets").decrement(1);
        metrics::counter!("chord_gateway_sockets_closed_total", "why" => format!("{why:?}")).increment(1);
        drop((permit, task));
    }))
}

/// Why a socket ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    /// The visitor went, or broke the connection.
    Gone,
    /// It took too long to take a frame.
    Slow,
    /// It sent nothing, not even pongs.
    Silent,
    /// It sent what it may not.
    Misbehaved,
    /// The gateway ends.
    Shutdown,
}

async fn converse(
    mut socket: WebSocket,
    hub: &Hub,
    mut place: Place,
    timing: Timing,
    shutdown: &CancellationToken,
) -> End {
    let mut newest = hub.subscribe();
    let mut heard = Instant::now();
    let (mut resumes, mut frames) = (Bucket::new(RESUMES, heard), Bucket::new(FRAMES, heard));
    let mut ping = tokio::time::interval(timing.ping);
    let end = loop {
        newest.mark_unchanged();
        while let Some((frame, after)) = hub.next(place) {
            match timeout(timing.send, socket.send(Message::Text(frame))).await {
                Ok(Ok(())) => place = after,
                Ok(Err(_)) => return End::Gone,
                Err(_) => return End::Slow,
            }
            if shutdown.is_cancelled() {
                break;
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => break End::Shutdown,
            _ = newest.changed() => {}
            message = socket.recv() => {
                heard = Instant::now();
                match message {
                    Some(Ok(Message::Text(text))) => match serde_json::from_str(&text) {
                        Ok(ClientMessage::Resume { stream, sequence }) if resumes.take(RESUMES, heard).is_ok() => {
                            place = hub.resume(stream.as_deref(), sequence);
                        }
                        _ => break End::Misbehaved,
                    },
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) if frames.take(FRAMES, heard).is_ok() => {}
                    Some(Ok(Message::Binary(_) | Message::Ping(_) | Message::Pong(_))) => break End::Misbehaved,
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return End::Gone,
                }
            }
            _ = ping.tick() => {
                if heard.elapsed() > timing.silence {
                    return End::Silent;
                }
                match timeout(timing.send, socket.send(Message::Ping(Default::default()))).await {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) => return End::Gone,
                    Err(_) => return End::Slow,
                }
            }
        }
    };
    let (code, reason) = match end {
        End::Shutdown => (close_code::AWAY, "the gateway restarts; connect again"),
        _ => (close_code::POLICY, "only {\"type\":\"resume\",...} may be sent, and nothing often"),
    };
    let close = Message::Close(Some(CloseFrame { code, reason: reason.into() }));
    // The other side answers with its own Close, or takes too long.
    let farewell = async {
        if socket.send(close).await.is_ok() {
            while let Some(Ok(_)) = socket.recv().await {}
        }
    };
    let _ = timeout(Duration::from_secs(2), farewell).await;
    end
}
