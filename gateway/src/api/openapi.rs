//! The API's description of itself.
use crate::{app::Shared, schema};
use axum::{Json, extract::State};
use std::sync::Arc;
use utoipa::{OpenApi, openapi};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "chord-gateway",
        description = "A Chord ring, read-only. Errors are application/problem+json (RFC 9457). \
            `GET ws` upgrades to a WebSocket that sends a snapshot and then numbered deltas."
    ),
    paths(
        super::ring,
        super::nodes,
        super::node,
        super::asked::fingers,
        super::asked::lookup,
        super::stats,
        super::events
    ),
    components(schemas(schema::Problem))
)]
struct Api;

/// The description, for a gateway below `base_path`.
pub fn describe(base_path: &str) -> openapi::OpenApi {
    let mut api = Api::openapi();
    api.servers = Some(vec![openapi::Server::new(format!("{base_path}api/v1"))]);
    api
}

/// `GET /api/v1/openapi.json`.
pub async fn document(State(shared): State<Arc<Shared>>) -> Json<openapi::OpenApi> {
    Json(describe(&shared.base_path))
}
