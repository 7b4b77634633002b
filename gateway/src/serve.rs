//! Connections of visitors: how many, how long they may take, and how they end.
use crate::{limit::Held, stall::Stall};
use axum::{Router, extract::ConnectInfo};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{convert::Infallible, net::SocketAddr, time::Duration};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::Service as _;

/// What a connection may do.
#[derive(Clone)]
pub struct Limits {
    /// Connections; one that became a WebSocket is counted there.
    pub connections: Held,
    /// Time for a request's head, and between two requests of a connection.
    pub head_timeout: Duration,
    /// Time without any progress in sending.
    pub stall_timeout: Duration,
}

/// Bytes for a request's head.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// Headers of a request.
const HEADERS_MAX: usize = 64;

/// Serves `router` until `shutdown`, then ends each connection after the request under way. `tasks` holds what is
/// left; whoever waits for it decides how long.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    shutdown: CancellationToken,
    tasks: TaskTracker,
) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.cancelled() => return,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, mostly: others must close first.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        // One too many is closed at once: a queue of the waiting would be what an attacker wants.
        let Ok(permit) = limits.connections.take(peer.ip()) else {
            metrics::counter!("chord_gateway_connections_refused_total").increment(1);
            continue;
        };
        let (router, limits, shutdown) = (router.clone(), limits.clone(), shutdown.clone());
        tasks.spawn(async move {
            converse(stream, peer, router, &limits, shutdown).await;
            drop(permit);
        });
    }
}

async fn converse(stream: TcpStream, peer: SocketAddr, router: Router, limits: &Limits, shutdown: CancellationToken) {
    let _ = stream.set_nodelay(true);
    let service = hyper::service::service_fn(move |mut request: http::Request<hyper::body::Incoming>| {
        let mut router = router.clone();
        request.extensions_mut().insert(ConnectInfo(peer));
        async move { Ok::<_, Infallible>(router.call(request).await.unwrap_or_else(|never| match never {})) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_timeout)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(Stall::new(stream, limits.stall_timeout)), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "a connection broke");
    }
}
