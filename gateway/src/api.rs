//! REST: `GET /api/v1/...`. Every answer but those of [`asked`] comes from what is published already.
pub mod asked;
pub mod openapi;

use crate::{
    app::Shared,
    model::{id_of, name_of},
    problem::Problem,
    query::{self, Query},
    sandbox,
    schema::{AnyId, Count, EventList, Node, NodeList, Ring, RingStats},
    ws,
};
use axum::{
    Json, Router,
    extract::{Path, RawQuery, State},
    response::{IntoResponse as _, Response},
    routing::get,
};
use http::{HeaderValue, StatusCode, header};
use std::sync::Arc;

/// Everything below `/api/v1`.
pub fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/ring", get(ring))
        .route("/ring/nodes", get(nodes))
        .route("/ring/nodes/{id}", get(node))
        .route("/ring/nodes/{id}/fingers", get(asked::fingers))
        .route("/lookup", get(asked::lookup))
        .route("/stats", get(stats))
        .route("/events", get(events))
        .route("/openapi.json", get(openapi::document))
        .route("/ws", get(ws::open))
        .route("/sandbox", get(sandbox::socket::open))
        .fallback(unknown)
        .layer(axum::middleware::map_response(uncached))
        .with_state(shared)
}

async fn uncached(mut response: Response) -> Response {
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// For paths of the API that are none.
pub async fn unknown() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "there is nothing here; api/v1/openapi.json lists what there is")
}

/// The whole ring.
#[utoipa::path(get, path = "/ring", responses((status = 200, body = Ring)))]
pub async fn ring(State(shared): State<Arc<Shared>>, RawQuery(query): RawQuery) -> Result<Response, Problem> {
    Query::parse(query.as_deref(), &[])?;
    let document = shared.hub.current().document();
    Ok(([(header::CONTENT_TYPE, "application/json")], document).into_response())
}

/// Its members.
#[utoipa::path(get, path = "/ring/nodes", responses((status = 200, body = NodeList)))]
pub async fn nodes(State(shared): State<Arc<Shared>>, RawQuery(query): RawQuery) -> Result<Json<NodeList>, Problem> {
    Query::parse(query.as_deref(), &[])?;
    Ok(Json(NodeList { nodes: shared.hub.current().ring.nodes.clone() }))
}

/// One member.
#[utoipa::path(get, path = "/ring/nodes/{id}", params(("id" = AnyId, Path)), responses((status = 200, body = Node)))]
pub async fn node(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Json<Node>, Problem> {
    Query::parse(query.as_deref(), &[])?;
    member(&shared, "id", &id).map(Json)
}

/// The ring in figures.
#[utoipa::path(get, path = "/stats", responses((status = 200, body = RingStats)))]
pub async fn stats(State(shared): State<Arc<Shared>>, RawQuery(query): RawQuery) -> Result<Json<RingStats>, Problem> {
    Query::parse(query.as_deref(), &[])?;
    Ok(Json(shared.hub.current().ring.stats.clone()))
}

/// What happened, as far as it is kept.
#[utoipa::path(get, path = "/events",
    params(("since" = Option<Count>, Query, description = "only events with a larger number")),
    responses((status = 200, body = EventList)))]
pub async fn events(State(shared): State<Arc<Shared>>, RawQuery(query): RawQuery) -> Result<Json<EventList>, Problem> {
    let since = Query::parse(query.as_deref(), &["since"])?.number("since", 0)?;
    Ok(Json(shared.hub.events(since)))
}

/// The member that `text` names.
///
/// # Errors
/// 400 when it is no id, 404 when no member has it.
fn member(shared: &Shared, parameter: &str, text: &str) -> Result<Node, Problem> {
    let id = query::id(parameter, text)?;
    let current = shared.hub.current();
    let found = current.ring.nodes.binary_search_by_key(&id, |node| node.id.0).ok();
    let node = found.and_then(|place| current.ring.nodes.get(place)).cloned();
    let detail = || format!("no member of the ring has the id {id}; api/v1/ring/nodes lists them");
    node.ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, detail()))
}

/// A member as it is named in passing.
fn named(node: &Node) -> crate::schema::NodeName {
    crate::schema::NodeName { id: node.id, name: node.name.clone() }
}

/// What a member answered, if it has the right shape.
fn shaped<T>(answer: Result<T, String>) -> Result<T, Problem> {
    answer.map_err(|why| Problem::new(StatusCode::BAD_GATEWAY, format!("the member's answer makes no sense: {why}")))
}
