//! Probes and metrics, on a port of their own.
use crate::{app::Shared, problem::Problem};
use axum::{Router, extract::State, routing::get};
use http::StatusCode;
use metrics_exporter_prometheus::PrometheusHandle;
use std::sync::Arc;

#[derive(Clone)]
struct Probes {
    shared: Arc<Shared>,
    metrics: PrometheusHandle,
}

/// `/livez`, `/readyz` and `/metrics`.
pub fn router(shared: Arc<Shared>, metrics: PrometheusHandle) -> Router {
    Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(render))
        .fallback(async || Problem::new(StatusCode::NOT_FOUND, "here are /livez, /readyz and /metrics"))
        .with_state(Probes { shared, metrics })
}

/// Ready once a ring was seen, and ever after: when the ring is down, its last state, marked as old, is worth more than
/// nothing.
async fn readyz(State(probes): State<Probes>) -> (StatusCode, &'static str) {
    if probes.shared.shutdown.is_cancelled() {
        (StatusCode::SERVICE_UNAVAILABLE, "shutting down\n")
    } else if probes.shared.hub.current().ring.ring_id.is_none() {
        (StatusCode::SERVICE_UNAVAILABLE, "no member of the ring has answered yet; is --endpoints right?\n")
    } else {
        (StatusCode::OK, "ok\n")
    }
}

async fn render(State(probes): State<Probes>) -> String {
    probes.metrics.run_upkeep();
    probes.metrics.render()
}
