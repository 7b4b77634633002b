//! `RingView` of one fake: the protocol's answers, computed from what all of them know.
use super::{FakeRing, REPLICAS, SHARDS, World};
use chord::id::{BITS, Id, between};
use chord_proto::v1::{self, ring_view_server::RingView, watch_response::Kind};
use std::{pin::Pin, time::Duration};
use tokio::sync::mpsc;
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Request, Response, Status};

pub struct View {
    pub id: Id,
    pub ring: FakeRing,
}

type Answer<T> = Result<Response<T>, Status>;

impl View {
    /// A hung fake takes calls and is silent.
    async fn hang(&self) {
        while self.ring.with(|world| world.members.get(&self.id).is_some_and(|fake| fake.is_hung)) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

fn describe(world: &World, id: Id) -> Option<v1::DescribeResponse> {
    let (me, circle) = (world.members.get(&id)?, world.circle());
    let node = |id: &Id| world.members.get(id).map(|fake| fake.node.clone());
    let after = circle.partition_point(|other| *other <= id);
    let successors = circle.iter().cycle().skip(after).take(8.min(circle.len())).filter_map(node).collect();
    let before = circle.iter().rev().find(|other| **other < id).or(circle.last());
    let members = world.members.values().map(|fake| v1::Member {
        node: Some(fake.node.clone()),
        state: fake.state.into(),
        reachable: fake.is_up,
        revision: fake.revision,
    });
    Some(v1::DescribeResponse {
        node: Some(me.node.clone()),
        state: me.state.into(),
        ring_id: world.ring_id.to_vec().into(),
        predecessor: before.and_then(node),
        successors,
        members: members.collect(),
        stats: Some(me.stats),
        version: "0.1.0-fake".into(),
        uptime_ms: me.started.elapsed().as_millis() as u64,
        shards: SHARDS,
        replication_factor: REPLICAS as u32,
        operator: world.operator.clone(),
    })
}

/// The finger of `node` that most closely precedes `target`, and its number.
fn closest_finger(world: &World, node: Id, target: Id) -> Option<(Id, u32)> {
    (0..BITS).rev().find_map(|index| {
        let finger = world.successor_of(node.plus_power_of_two(index))?;
        (finger != node && between(node, finger, target)).then_some((finger, index))
    })
}

fn walk(world: &World, from: Id, target: Id) -> Option<(Vec<v1::Hop>, Id)> {
    let owner = world.successor_of(target)?;
    let (mut at, mut via, mut elapsed_us) = (from, "start".to_owned(), 0);
    let mut hops = Vec::new();
    loop {
        hops.push(v1::Hop { node: Some(world.members.get(&at)?.node.clone()), via, elapsed_us });
        if at == owner {
            return Some((hops, owner));
        }
        elapsed_us += rand::random_range(150..900);
        let next = world.successor_of(at.plus_power_of_two(0))?;
        (at, via) = match closest_finger(world, at, target) {
            Some((finger, index)) if next != owner => (finger, format!("finger {index}")),
            _ => (owner, "owner".to_owned()),
        };
    }
}

#[tonic::async_trait]
impl RingView for View {
    async fn describe(&self, _: Request<v1::DescribeRequest>) -> Answer<v1::DescribeResponse> {
        self.hang().await;
        let description = self.ring.with(|world| describe(world, self.id));
        description.map(Response::new).ok_or_else(|| Status::unavailable("gone"))
    }

    async fn finger_table(&self, _: Request<v1::FingerTableRequest>) -> Answer<v1::FingerTableResponse> {
        self.hang().await;
        let fingers = self.ring.with(|world| {
            let finger = |index| {
                let start = self.id.plus_power_of_two(index);
                let node = world.successor_of(start).and_then(|id| world.members.get(&id)).map(|it| it.node.clone());
                v1::Finger { index, start: start.to_bytes().to_vec().into(), node }
            };
            (0..BITS).map(finger).collect()
        });
        Ok(Response::new(v1::FingerTableResponse { fingers }))
    }

    async fn lookup_path(&self, request: Request<v1::LookupPathRequest>) -> Answer<v1::LookupPathResponse> {
        use v1::lookup_path_request::Target;
        self.hang().await;
        let target = match request.into_inner().target {
            Some(Target::Key(key)) => Some(Id::of_key(&key)),
            Some(Target::Id(id)) => Id::from_slice(&id),
            None => None,
        };
        let target = target.ok_or_else(|| Status::invalid_argument("target: give a key or an id"))?;
        self.ring.with(|world| {
            let (hops, owner) = walk(world, self.id, target).ok_or_else(|| Status::unavailable("no ring"))?;
            let circle = world.circle();
            let place = circle.iter().position(|id| *id == owner).unwrap_or(0);
            let node = |id: &Id| world.members.get(id).map(|fake| fake.node.clone());
            let replicas: Vec<_> =
                circle.iter().cycle().skip(place).take(REPLICAS.min(circle.len())).filter_map(node).collect();
            Ok(Response::new(v1::LookupPathResponse {
                target: target.to_bytes().to_vec().into(),
                hops,
                owner: node(&owner),
                shard: (target.top() >> (64 - SHARDS.ilog2())) as u32,
                leader: replicas.first().cloned(),
                replicas,
            }))
        })
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<v1::WatchResponse, Status>> + Send>>;

    async fn watch(&self, _: Request<v1::WatchRequest>) -> Answer<Self::WatchStream> {
        self.hang().await;
        let (sender, stream) = mpsc::channel(16);
        let (id, ring, mut events) = (self.id, self.ring.clone(), self.ring.events.subscribe());
        tokio::spawn(async move {
            let mut timer = tokio::time::interval(ring.pace);
            let mut last = None;
            loop {
                let kind = tokio::select! {
                    _ = timer.tick() => {
                        let Some(description) = ring.with(|world| describe(world, id)) else { return };
                        let comparable = v1::DescribeResponse { uptime_ms: 0, ..description.clone() };
                        if last.as_ref() == Some(&comparable) {
                            continue;
                        }
                        last = Some(comparable);
                        Kind::Description(description)
                    }
                    event = events.recv() => match event {
                        Ok((teller, event)) if teller == id => Kind::Event(event),
                        Err(tokio::sync::broadcast::error::RecvError::Closed) => return,
                        _ => continue,
                    },
                    () = sender.closed() => return,
                };
                if sender.send(Ok(v1::WatchResponse { kind: Some(kind) })).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }
}
