//! `RingView`: what a gateway and people may see.
use super::{
    convert::{self, from_node},
    peer::finger,
    told::Told,
};
use crate::driver::{Driver, Inspect};
use chord::{
    id::Id,
    io::{Operation, Outcome},
    shard::config::ShardId,
};
use chord_proto::v1::{self, ring_view_server::RingView};
use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::{broadcast::error::RecvError, mpsc};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Request, Response, Status};

type Answer<T> = Result<Response<T>, Status>;

/// Least time between two descriptions in a watch.
const UPDATE: Duration = Duration::from_secs(1);
/// Time for a lookup.
const LOOKUP: Duration = Duration::from_secs(5);

/// Counts what those who look cost: `call` is the method.
fn count_call(call: &'static str) {
    metrics::counter!("chord_view_calls_total", "call" => call).increment(1);
}

/// Serves those who look.
#[derive(Clone)]
pub struct ViewService {
    driver: Driver,
    started: Instant,
    rate: Arc<Mutex<Rate>>,
    told: Told,
}

/// Operations at the last look, for the rate since.
struct Rate {
    at: Instant,
    operations: u64,
    per_second_milli: u64,
}

impl ViewService {
    /// Over the core and what the operator told.
    pub fn new(driver: Driver, told: Told) -> ViewService {
        let now = Instant::now();
        let rate = Arc::new(Mutex::new(Rate { at: now, operations: 0, per_second_milli: 0 }));
        ViewService { driver, started: now, rate, told }
    }

    /// The node's description as of now.
    pub async fn description(&self) -> Result<v1::DescribeResponse, Status> {
        let uptime_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let mut description = self
            .driver
            .inspect(move |core| describe(core, uptime_ms))
            .await
            .map_err(|gone| Status::unavailable(gone.to_string()))?;
        description.operator = self.told.last();
        if let Some(stats) = &mut description.stats {
            let operations = stats.gets + stats.puts + stats.deletes;
            let mut rate = self.rate.lock().unwrap_or_else(PoisonError::into_inner);
            let elapsed = rate.at.elapsed();
            if elapsed >= Duration::from_millis(900) {
                let since = operations.saturating_sub(rate.operations);
                rate.per_second_milli = since * 1_000_000 / (elapsed.as_millis() as u64).max(1);
                (rate.at, rate.operations) = (Instant::now(), operations);
            }
            stats.ops_per_second_milli = rate.per_second_milli;
            (stats.latency_p50_us, stats.latency_p99_us) = crate::latency::recent();
        }
        Ok(description)
    }
}

fn describe(core: &dyn Inspect, uptime_ms: u64) -> v1::DescribeResponse {
    let neighbours = core.neighbours();
    let status = core.status();
    let counters = status.counters;
    v1::DescribeResponse {
        node: Some(from_node(core.me())),
        state: convert::from_state(core.state()).into(),
        ring_id: core.ring_id().map(convert::bytes_of).unwrap_or_default(),
        predecessor: neighbours.predecessor.as_ref().map(from_node),
        successors: neighbours.successors.iter().map(from_node).collect(),
        members: core.view().iter().map(|(member, up)| convert::from_member(member, *up)).collect(),
        stats: Some(v1::NodeStats {
            keys_leader: status.keys_led,
            keys_replica: status.keys_held,
            bytes: status.bytes_held,
            shards_leader: status.shards_led,
            shards_replica: status.shards_held,
            shards_under_replicated: status.shards_under_replicated,
            shards_moving: status.shards_moving,
            gets: counters.gets,
            puts: counters.puts,
            deletes: counters.deletes,
            lookups: counters.lookups,
            lookup_hops: counters.lookup_hops,
            stabilize_rounds: counters.stabilize_rounds,
            latency_p50_us: 0,
            latency_p99_us: 0,
            ops_per_second_milli: 0,
            keys_sent: counters.keys_sent,
            keys_received: counters.keys_received,
        }),
        version: env!("CARGO_PKG_VERSION").into(),
        uptime_ms,
        shards: core.settings().shards,
        replication_factor: core.settings().replication_factor as u32,
        operator: None,
    }
}

#[tonic::async_trait]
impl RingView for ViewService {
    async fn describe(&self, _: Request<v1::DescribeRequest>) -> Answer<v1::DescribeResponse> {
        count_call("Describe");
        Ok(Response::new(self.description().await?))
    }

    async fn finger_table(&self, _: Request<v1::FingerTableRequest>) -> Answer<v1::FingerTableResponse> {
        count_call("FingerTable");
        let fingers = self.driver.inspect(|core| core.fingers()).await;
        let fingers = fingers.map_err(|gone| Status::unavailable(gone.to_string()))?;
        Ok(Response::new(v1::FingerTableResponse { fingers: fingers.iter().map(finger).collect() }))
    }

    async fn lookup_path(&self, request: Request<v1::LookupPathRequest>) -> Answer<v1::LookupPathResponse> {
        use v1::lookup_path_request::Target;
        count_call("LookupPath");
        let target = match request.into_inner().target {
            Some(Target::Key(key)) if (1..=chord::settings::KEY_BYTES_MAX).contains(&key.len()) => Id::of_key(&key),
            Some(Target::Key(_)) => return Err(Status::invalid_argument("key: must have 1 to 1024 bytes")),
            Some(Target::Id(id)) => {
                convert::id("id", &id).map_err(|_| Status::invalid_argument("id: must have 20 bytes"))?
            }
            None => return Err(Status::invalid_argument("target: give a key or an id")),
        };
        let (hops, owner) = match self.driver.operate(Operation::Lookup { target }, LOOKUP).await {
            Outcome::Path { hops, owner } => (hops, owner),
            Outcome::Unavailable(why) | Outcome::Unknown(why) => return Err(Status::unavailable(why)),
            _ => return Err(Status::internal("the core gave another kind of answer than was asked for")),
        };
        let known = self.driver.inspect(move |core| {
            let shard = ShardId::of(target, core.settings().shards);
            let entry = core.shard_map().into_iter().find(|entry| entry.shard == shard);
            let members = core.view();
            let node = |key: &chord::member::MemberKey| {
                members.iter().find(|(member, _)| member.node.key == *key).map(|(member, _)| from_node(&member.node))
            };
            let replicas: Vec<v1::NodeRef> =
                entry.iter().flat_map(|entry| &entry.config.members).filter_map(node).collect();
            let leader = entry.as_ref().and_then(|entry| node(entry.config.members.get(entry.leader? as usize)?));
            (shard.0, leader, replicas)
        });
        let (shard, leader, replicas) = known.await.map_err(|gone| Status::unavailable(gone.to_string()))?;
        Ok(Response::new(v1::LookupPathResponse {
            target: convert::id_bytes(target),
            hops: hops.iter().map(convert::from_hop).collect(),
            owner: Some(from_node(&owner)),
            shard,
            leader,
            replicas,
        }))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<v1::WatchResponse, Status>> + Send>>;

    async fn watch(&self, _: Request<v1::WatchRequest>) -> Answer<Self::WatchStream> {
        use v1::watch_response::Kind;
        count_call("Watch");
        let (sender, stream) = mpsc::channel(64);
        let service = self.clone();
        let mut events = self.driver.events();
        tokio::spawn(async move {
            let mut last = None;
            let mut timer = tokio::time::interval(UPDATE);
            loop {
                let kind = tokio::select! {
                    _ = timer.tick() => {
                        let Ok(description) = service.description().await else { return };
                        // The uptime alone is no news.
                        let comparable = v1::DescribeResponse { uptime_ms: 0, ..description.clone() };
                        if last.as_ref() == Some(&comparable) {
                            continue;
                        }
                        last = Some(comparable);
                        Kind::Description(description)
                    }
                    event = events.recv() => match event {
                        Ok((at_ms, event)) if event.kind != "move" => Kind::Event(v1::RingEvent {
                            at_ms,
                            kind: event.kind.into(),
                            subject: event.subject.as_ref().map(from_node),
                            shard: event.shard.map(|shard| shard.0),
                            message: event.message,
                        }),
                        // A slow watcher misses events, never descriptions.
                        Ok(_) | Err(RecvError::Lagged(_)) => continue,
                        Err(RecvError::Closed) => return,
                    },
                    () = sender.closed() => return,
                };
                if sender.send(Ok(v1::WatchResponse { kind: Some(kind) })).await.is_err() {
                    return;
                }
                metrics::counter!("chord_view_messages_total").increment(1);
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }
}
