//! Probes and metrics.
use crate::{driver::Driver, rpc::roles};
use axum::{Router, extract::State, http::StatusCode, routing::get};
use chord::member::MemberState;
use chord_client::net::Tls;
use metrics_exporter_prometheus::PrometheusHandle;
use std::time::Duration;

/// Time in which the core's thread has to answer.
const RESPONSIVE: Duration = Duration::from_secs(5);

/// What the endpoints need.
#[derive(Clone)]
pub struct Probes {
    /// To the core.
    pub driver: Driver,
    /// Renders metrics.
    pub metrics: PrometheusHandle,
    /// For the certificate's end.
    pub tls: Option<Tls>,
}

/// `/livez`, `/readyz` and `/metrics`.
pub fn router(probes: Probes) -> Router {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(render))
        .with_state(probes)
}

/// Alive: the core's thread answers. Never depends on peers.
async fn livez(State(probes): State<Probes>) -> (StatusCode, &'static str) {
    match tokio::time::timeout(RESPONSIVE, probes.driver.inspect(|_| ())).await {
        Ok(Ok(())) => (StatusCode::OK, "ok\n"),
        _ => (StatusCode::SERVICE_UNAVAILABLE, "the core's thread does not answer\n"),
    }
}

/// Ready: a full member, or one that hands over and must stay reachable for that.
async fn readyz(State(probes): State<Probes>) -> (StatusCode, &'static str) {
    let state = tokio::time::timeout(RESPONSIVE, probes.driver.inspect(|core| core.state())).await;
    match state {
        Ok(Ok(MemberState::Serving | MemberState::Leaving)) => (StatusCode::OK, "ok\n"),
        Ok(Ok(MemberState::Empty)) => (StatusCode::SERVICE_UNAVAILABLE, "waits to be told which ring to join\n"),
        Ok(Ok(MemberState::Joining)) => (StatusCode::SERVICE_UNAVAILABLE, "its shards are on their way\n"),
        Ok(Ok(MemberState::Left | MemberState::Evicted)) => (StatusCode::SERVICE_UNAVAILABLE, "has left the ring\n"),
        _ => (StatusCode::SERVICE_UNAVAILABLE, "the core's thread does not answer\n"),
    }
}

async fn render(State(probes): State<Probes>) -> String {
    if let Ok((status, state, members)) =
        probes.driver.inspect(|core| (core.status(), core.state(), core.view().len())).await
    {
        let gauge = |name: &'static str, value: u64| metrics::gauge!(name).set(value as f64);
        gauge("chord_keys_led", status.keys_led);
        gauge("chord_keys_held", status.keys_held);
        gauge("chord_bytes_held", status.bytes_held);
        gauge("chord_shards_led", status.shards_led.into());
        gauge("chord_shards_held", status.shards_held.into());
        gauge("chord_shards_under_replicated", status.shards_under_replicated.into());
        gauge("chord_shards_pending", status.shards_pending.into());
        gauge("chord_shards_unavailable", status.shards_unavailable.into());
        gauge("chord_members_known", members as u64);
        gauge("chord_ready", u64::from(matches!(state, MemberState::Serving | MemberState::Leaving)));
        let counter = |name: &'static str, value: u64| metrics::counter!(name).absolute(value);
        counter("chord_gets_total", status.counters.gets);
        counter("chord_puts_total", status.counters.puts);
        counter("chord_deletes_total", status.counters.deletes);
        counter("chord_lookups_total", status.counters.lookups);
        counter("chord_lookup_hops_total", status.counters.lookup_hops);
        counter("chord_stabilize_rounds_total", status.counters.stabilize_rounds);
        counter("chord_elections_total", status.counters.elections);
        counter("chord_repaired_total", status.counters.repaired);
        counter("chord_expired_total", status.counters.expired);
        counter("chord_keys_sent_total", status.counters.keys_sent);
        counter("chord_keys_received_total", status.counters.keys_received);
    }
    metrics::gauge!("chord_queue_length").set(probes.driver.queued() as f64);
    if let Some(expiry) = probes.tls.as_ref().and_then(roles::expiry) {
        metrics::gauge!("chord_certificate_expiry_seconds").set(expiry as f64);
    }
    probes.metrics.render()
}
