//! `GET /api/v1/sandbox`: a WebSocket with a world behind it.
use super::{Sandbox, schema::Command};
use crate::{
    app::Shared,
    guard::{Visitor, is_origin_allowed},
    limit::{Bucket, Full, Rate},
    problem::Problem,
    query::Query,
    ws::{FRAMES, READ_BYTES},
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
use serde::Serialize;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::time::{MissedTickBehavior, timeout};

/// A world's life.
const LIFE: Duration = Duration::from_secs(30 * 60);
/// Between two pictures of a world in which time passes.
const PICTURE: Duration = Duration::from_millis(100);
/// Work on a world at a time. All worlds share one thread, and rest as long as they worked.
const SLICE: Duration = Duration::from_millis(15);
/// Nodes a world begins with.
const NODES: usize = 8;
/// Commands of a visitor.
const COMMANDS: Rate = Rate { per_second: 10, burst: 30 };
/// Bytes of a command.
const COMMAND_BYTES_MAX: usize = 2048;

/// Opens one.
pub async fn open(
    State(shared): State<Arc<Shared>>,
    Extension(Visitor(visitor)): Extension<Visitor>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Problem> {
    Query::parse(query.as_deref(), &[])?;
    if !is_origin_allowed(&headers, &shared.allowed_origins) {
        let detail = "a page of another origin may not play here; add its origin to --allowed-origins";
        return Err(Problem::new(StatusCode::FORBIDDEN, detail));
    }
    let upgrade = upgrade.map_err(|_| {
        let detail = "this is a WebSocket; connect with `Upgrade: websocket`, or open sandbox in a browser";
        Problem::new(StatusCode::UPGRADE_REQUIRED, detail)
    })?;
    let permit = shared.sandboxes.take(visitor).map_err(|full| {
        let problem = match full {
            Full::Each => Problem::new(StatusCode::TOO_MANY_REQUESTS, "too many sandboxes of this address; close one"),
            Full::All => Problem::new(StatusCode::SERVICE_UNAVAILABLE, "all sandboxes are taken; try again later"),
        };
        problem.retry_after(Duration::from_secs(60))
    })?;
    let task = shared.tasks.token();
    let upgrade = upgrade.max_message_size(COMMAND_BYTES_MAX).max_frame_size(COMMAND_BYTES_MAX);
    let upgrade = upgrade.read_buffer_size(READ_BYTES);
    Ok(upgrade.on_upgrade(async move |socket| {
        metrics::gauge!("chord_gateway_sandboxes").increment(1);
        play(socket, &shared).await;
        metrics::gauge!("chord_gateway_sandboxes").decrement(1);
        drop((permit, task));
    }))
}

/// Until the visitor goes, or its time is over.
async fn play(mut socket: WebSocket, shared: &Shared) {
    let (begun, mut heard) = (Instant::now(), Instant::now());
    let mut sandbox = Sandbox::new(NODES);
    let (mut commands, mut frames) = (Bucket::new(COMMANDS, begun), Bucket::new(FRAMES, begun));
    let mut tick = tokio::time::interval(PICTURE);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut ping = tokio::time::interval(shared.timing.ping);
    let (mut last, mut changed) = (Instant::now(), true);
    let why = loop {
        tokio::select! {
            // What the visitor sends comes first: else one that sends too much is noticed only turn by turn.
            biased;
            () = shared.shutdown.cancelled() => break (close_code::AWAY, "the gateway restarts; begin anew"),
            message = socket.recv() => {
                heard = Instant::now();
                match message {
                    Some(Ok(Message::Text(text))) => match serde_json::from_str::<Command>(&text) {
                        Ok(command) if commands.take(COMMANDS, heard).is_ok() => {
                            sandbox.command(command);
                            changed = true;
                        }
                        Ok(_) => break (close_code::POLICY, "too many commands"),
                        Err(_) => break (close_code::POLICY, "that is no command of a sandbox"),
                    },
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) if frames.take(FRAMES, heard).is_ok() => {}
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => break (close_code::POLICY, "too many pings"),
                    Some(Ok(Message::Binary(_))) => break (close_code::POLICY, "commands are text"),
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                }
            }
            _ = ping.tick() => {
                if heard.elapsed() > shared.timing.silence || !send(&mut socket, shared, Message::Ping(Default::default())).await {
                    return;
                }
            }
            _ = tick.tick() => {
                let left = LIFE.saturating_sub(begun.elapsed());
                if left.is_zero() {
                    break (close_code::NORMAL, "half an hour is over; begin anew");
                }
                let Ok(turn) = shared.sandbox_turns.acquire().await else { return };
                // Waiting for a turn is no time that passes in the world.
                let real = last.elapsed().min(2 * PICTURE);
                last = Instant::now();
                let worked = tokio::task::spawn_blocking(move || {
                    let goes_on = sandbox.pass(real, SLICE);
                    let picture = (changed || goes_on != Ok(false)).then(|| text(&sandbox.frame(left)));
                    (sandbox, goes_on, picture)
                });
                let Ok((back, goes_on, picture)) = worked.await else { return };
                sandbox = back;
                let Ok(goes_on) = goes_on else { break (close_code::POLICY, "this world became too much; begin anew") };
                // As much rest as there was work.
                tokio::time::sleep(last.elapsed().min(4 * SLICE)).await;
                drop(turn);
                changed = goes_on;
                if let Some(picture) = picture && !send(&mut socket, shared, picture).await {
                    return;
                }
            }
        }
    };
    let close = Message::Close(Some(CloseFrame { code: why.0, reason: why.1.into() }));
    let farewell = async {
        if socket.send(close).await.is_ok() {
            while let Some(Ok(_)) = socket.recv().await {}
        }
    };
    let _ = timeout(Duration::from_secs(2), farewell).await;
}

async fn send(socket: &mut WebSocket, shared: &Shared, message: Message) -> bool {
    matches!(timeout(shared.timing.send, socket.send(message)).await, Ok(Ok(())))
}

fn text(frame: &impl Serialize) -> Message {
    Message::Text(serde_json::to_string(frame).expect("our documents have no failing serializer").into())
}
