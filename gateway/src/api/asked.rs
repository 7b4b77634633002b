//! What a member is asked for at the time: its fingers, and a lookup that really walks the ring.
use super::{id_of, member, name_of, named, openapi, shaped};
use crate::{
    app::Shared,
    model::share,
    problem::Problem,
    query::{self, Query},
    schema::{AnyId, Finger, FingerTable, FoldedFinger, HexId, Hop, Interval, Lookup, Node, NodeName},
};
use axum::{
    Json,
    extract::{Path, RawQuery, State},
};
use chord::id::{BITS, Id};
use chord_proto::{
    MESSAGE_BYTES_MAX,
    v1::{self, ring_view_client::RingViewClient},
};
use http::StatusCode;
use std::{sync::Arc, time::Duration};
use tonic::{Code, Response, Status, transport::Channel};

/// Time for a member's answer.
const ANSWER: Duration = Duration::from_secs(6);
/// Hops of a lookup taken from a member.
const HOPS_MAX: usize = 512;

/// Asks a member; a slow one costs its asker a bounded time and nobody else any.
async fn ask<T, F>(shared: &Shared, node: &Node, call: impl FnOnce(RingViewClient<Channel>) -> F) -> Result<T, Problem>
where
    F: Future<Output = Result<Response<T>, Status>>,
{
    let busy = "too many questions to members are under way; try again in a second";
    let busy = || Problem::new(StatusCode::SERVICE_UNAVAILABLE, busy).retry_after(Duration::from_secs(1));
    let _permit = shared.asking.try_acquire().map_err(|_| busy())?;
    let unreached = |why: &str| {
        let detail = format!("{} does not answer ({why}); choose another node or try again", node.name);
        Problem::new(StatusCode::BAD_GATEWAY, detail).retry_after(Duration::from_secs(5))
    };
    let Some(channel) = shared.links.get(node.id.0) else { return Err(unreached("not connected")) };
    let client = RingViewClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
    match tokio::time::timeout(ANSWER, call(client)).await {
        Ok(Ok(answer)) => Ok(answer.into_inner()),
        Ok(Err(status)) if status.code() == Code::InvalidArgument => Err(Problem::bad(status.message())),
        Ok(Err(status)) => Err(unreached(status.message())),
        Err(_) => {
            let detail = format!("{} did not answer in time; choose another node or try again", node.name);
            Err(Problem::new(StatusCode::GATEWAY_TIMEOUT, detail).retry_after(Duration::from_secs(5)))
        }
    }
}

/// A member's finger table.
#[utoipa::path(get, path = "/ring/nodes/{id}/fingers",
    params(("id" = AnyId, Path)), responses((status = 200, body = FingerTable)))]
pub async fn fingers(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Json<FingerTable>, Problem> {
    Query::parse(query.as_deref(), &[])?;
    let node = member(&shared, "id", &id)?;
    let call = async |mut client: RingViewClient<Channel>| client.finger_table(v1::FingerTableRequest {}).await;
    let answer = ask(&shared, &node, call).await?;
    let fingers = shaped(answer.fingers.into_iter().take(BITS as usize).map(finger).collect::<Result<Vec<_>, _>>())?;
    let folded = fold(node.id.0, &fingers);
    Ok(Json(FingerTable { node: named(&node), fingers, folded }))
}

fn finger(wire: v1::Finger) -> Result<Finger, String> {
    if wire.index >= BITS {
        return Err(format!("finger {} of {BITS}", wire.index));
    }
    let target = wire.node.map(|node| name_of("target", node)).transpose()?;
    Ok(Finger { index: wire.index.into(), start: id_of("start", &wire.start)?, target })
}

/// Neighbouring fingers with the same target as one.
fn fold(node: Id, fingers: &[Finger]) -> Vec<FoldedFinger> {
    let runs = fingers.chunk_by(|one, next| one.target == next.target);
    runs.filter_map(|run| {
        let (first, last) = (run.first()?, run.last()?);
        let end = u32::try_from(last.index.0).ok().map(|index| index + 1).filter(|next| *next < BITS);
        let until = HexId(end.map_or(node, |next| node.plus_power_of_two(next)));
        Some(FoldedFinger {
            first: first.index,
            last: last.index,
            from: first.start,
            until,
            target: first.target.clone(),
        })
    })
    .collect()
}

/// A lookup, hop by hop.
#[utoipa::path(get, path = "/lookup",
    params(openapi::Target, ("from" = Option<AnyId>, Query, description = "the member to start from")),
    responses((status = 200, body = Lookup)))]
pub async fn lookup(State(shared): State<Arc<Shared>>, RawQuery(query): RawQuery) -> Result<Json<Lookup>, Problem> {
    let query = Query::parse(query.as_deref(), &["key", "keyBase64", "id", "from"])?;
    let (target, key) = query::target(&query)?;
    let from = match query.get("from") {
        Some(from) => member(&shared, "from", from)?,
        None => {
            let ring = &shared.hub.current().ring;
            let heard = ring.nodes.iter().find(|node| node.stale_since.is_none()).cloned();
            let none = "no member is heard; api/v1/stats says since when, try again later";
            heard.ok_or_else(|| {
                Problem::new(StatusCode::SERVICE_UNAVAILABLE, none).retry_after(Duration::from_secs(5))
            })?
        }
    };
    let request = v1::LookupPathRequest { target: Some(target) };
    let call = async move |mut client: RingViewClient<Channel>| client.lookup_path(request).await;
    let answer = ask(&shared, &from, call).await?;
    let nodes = &shared.hub.current().ring.nodes;
    shaped(document(answer, key, named(&from), nodes)).map(Json)
}

/// The document of a lookup; `nodes` says what the owner owns.
fn document(
    wire: v1::LookupPathResponse,
    key: Option<String>,
    from: NodeName,
    nodes: &[Node],
) -> Result<Lookup, String> {
    let target = id_of("target", &wire.target)?;
    let owner = name_of("owner", wire.owner.unwrap_or_default())?;
    let mut hops: Vec<Hop> = Vec::new();
    for hop in wire.hops.into_iter().take(HOPS_MAX) {
        let node = name_of("hops", hop.node.unwrap_or_default())?;
        let interval = if node.id == owner.id {
            let known = nodes.iter().find(|known| known.id == node.id).and_then(|known| known.predecessor);
            // The owner's predecessor is usually the one that named it.
            let after = known.or(hops.last().map(|hop| hop.node.id)).unwrap_or(node.id);
            interval(after, node.id)
        } else {
            interval(node.id, target)
        };
        hops.push(Hop { node, via: hop.via, elapsed_us: hop.elapsed_us.into(), interval });
    }
    let elapsed_us = hops.last().map_or(0_u64.into(), |hop| hop.elapsed_us);
    let leader = wire.leader.map(|node| name_of("leader", node)).transpose()?;
    let replicas = wire.replicas.into_iter().map(|node| name_of("replicas", node)).collect::<Result<_, _>>()?;
    Ok(Lookup { key, target, from, hops, elapsed_us, owner, shard: wire.shard.into(), leader, replicas })
}

fn interval(after: HexId, up_to: HexId) -> Interval {
    Interval { after, up_to, share: share(after.0, up_to.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingers_fold_by_target_and_cover_the_circle_once() {
        let node = Id::from(100);
        let target = |value: u64| Some(NodeName { id: HexId(Id::from(value)), name: value.to_string() });
        let finger = |index: u32| Finger {
            index: index.into(),
            start: HexId(node.plus_power_of_two(index)),
            target: if index < 3 { target(110) } else { target(7) },
        };
        let folded = fold(node, &(0..BITS).map(finger).collect::<Vec<_>>());
        let [first, second] = &folded[..] else { panic!("two targets: {folded:?}") };
        assert_eq!((first.first.0, first.last.0, first.from), (0, 2, HexId(Id::from(101))));
        assert_eq!((second.first.0, second.last.0, second.from), (3, 159, HexId(Id::from(108))));
        assert_eq!((first.until, second.until), (second.from, HexId(node)));
    }
}
