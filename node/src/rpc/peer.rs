//! `Ring` and `Shard`: other nodes.
use super::convert::{self, Malformed, from_node};
use crate::{driver::Driver, peers::receive};
use chord::{
    id::Id,
    member::MemberKey,
    msg::{RingReply, RingRequest},
};
use chord_proto::v1::{self, ring_server::Ring, shard_server::Shard};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};
use tokio_stream::StreamExt as _;
use tonic::{Request, Response, Status, Streaming};

type Answer<T> = Result<Response<T>, Status>;

fn bad(error: Malformed) -> Status {
    Status::invalid_argument(error.to_string())
}

/// Serves other nodes.
#[derive(Clone)]
pub struct PeerService {
    driver: Driver,
    me: MemberKey,
    sessions: Arc<Mutex<HashMap<MemberKey, u64>>>,
}

impl PeerService {
    /// `me`: this node's id and disk, which a session must mean.
    pub fn new(driver: Driver, me: MemberKey) -> PeerService {
        PeerService { driver, me, sessions: Arc::default() }
    }

    async fn ask(&self, request: RingRequest) -> Result<RingReply, Status> {
        match self.driver.ring(request).await.map_err(|gone| Status::unavailable(gone.to_string()))? {
            RingReply::Refused(why) => Err(Status::failed_precondition(why)),
            reply => Ok(reply),
        }
    }
}

fn odd() -> Status {
    Status::internal("the core gave another kind of answer than was asked for")
}

#[tonic::async_trait]
impl Ring for PeerService {
    async fn find_successor(&self, request: Request<v1::FindSuccessorRequest>) -> Answer<v1::FindSuccessorResponse> {
        let request = convert::find_successor(request.into_inner()).map_err(bad)?;
        let RingReply::FindSuccessor { owner, predecessor, path } = self.ask(request).await? else { return Err(odd()) };
        Ok(Response::new(v1::FindSuccessorResponse {
            owner: Some(from_node(&owner)),
            predecessor_id: predecessor.map(convert::id_bytes).unwrap_or_default(),
            path: path.iter().map(convert::from_hop).collect(),
        }))
    }

    async fn get_predecessor(&self, _: Request<v1::GetPredecessorRequest>) -> Answer<v1::GetPredecessorResponse> {
        let RingReply::GetPredecessor(node) = self.ask(RingRequest::GetPredecessor).await? else { return Err(odd()) };
        Ok(Response::new(v1::GetPredecessorResponse { predecessor: node.as_ref().map(from_node) }))
    }

    async fn get_successor_list(
        &self,
        _: Request<v1::GetSuccessorListRequest>,
    ) -> Answer<v1::GetSuccessorListResponse> {
        let reply = self.ask(RingRequest::GetSuccessorList).await?;
        let RingReply::GetSuccessorList(neighbours) = reply else { return Err(odd()) };
        Ok(Response::new(convert::from_neighbours(neighbours)))
    }

    async fn closest_preceding_finger(
        &self,
        request: Request<v1::ClosestPrecedingFingerRequest>,
    ) -> Answer<v1::ClosestPrecedingFingerResponse> {
        let reply = self.ask(convert::closest_request(request.into_inner()).map_err(bad)?).await?;
        let RingReply::ClosestPrecedingFinger { node, is_owner, via } = reply else { return Err(odd()) };
        Ok(Response::new(convert::from_closest(&node, is_owner, via)))
    }

    async fn get_finger_table(&self, _: Request<v1::GetFingerTableRequest>) -> Answer<v1::GetFingerTableResponse> {
        let fingers = self.driver.inspect(|core| core.fingers()).await;
        let fingers = fingers.map_err(|gone| Status::unavailable(gone.to_string()))?;
        Ok(Response::new(v1::GetFingerTableResponse { fingers: fingers.iter().map(finger).collect() }))
    }

    async fn notify(&self, request: Request<v1::NotifyRequest>) -> Answer<v1::NotifyResponse> {
        let from = convert::required_node("from", request.into_inner().from).map_err(bad)?;
        self.ask(RingRequest::Notify { from }).await?;
        Ok(Response::new(v1::NotifyResponse {}))
    }

    async fn ping(&self, request: Request<v1::PingRequest>) -> Answer<v1::PingResponse> {
        let from = convert::required_node("from", request.into_inner().from).map_err(bad)?;
        let RingReply::Ping { node, member } = self.ask(RingRequest::Ping { from }).await? else { return Err(odd()) };
        Ok(Response::new(v1::PingResponse { node: Some(from_node(&node)), member }))
    }

    async fn join(&self, request: Request<v1::JoinRequest>) -> Answer<v1::JoinResponse> {
        let joiner = convert::required_node("joiner", request.into_inner().joiner).map_err(bad)?;
        let RingReply::Join(reply) = self.ask(RingRequest::Join { joiner }).await? else { return Err(odd()) };
        Ok(Response::new(convert::from_join_reply(reply)))
    }

    async fn leave(&self, request: Request<v1::LeaveRequest>) -> Answer<v1::LeaveResponse> {
        self.ask(convert::leave(request.into_inner()).map_err(bad)?).await?;
        Ok(Response::new(v1::LeaveResponse {}))
    }

    async fn gossip(&self, request: Request<v1::GossipRequest>) -> Answer<v1::GossipResponse> {
        let request = convert::gossip(request.into_inner()).map_err(bad)?;
        let RingReply::Gossip { members, map_differs } = self.ask(request).await? else { return Err(odd()) };
        let members = members.iter().map(|member| convert::from_member(member, true)).collect();
        Ok(Response::new(v1::GossipResponse { members, map_differs }))
    }
}

/// A finger for the wire.
pub fn finger((index, start, node): &(u32, Id, chord::member::NodeRef)) -> v1::Finger {
    v1::Finger { index: *index, start: convert::id_bytes(*start), node: Some(from_node(node)) }
}

#[tonic::async_trait]
impl Shard for PeerService {
    async fn exchange(&self, request: Request<Streaming<v1::ShardFrame>>) -> Answer<v1::ExchangeResponse> {
        let mut frames = request.into_inner();
        let first =
            frames.next().await.ok_or_else(|| Status::invalid_argument("the first frame must be a hello"))??;
        let hello = first.hello.ok_or_else(|| Status::invalid_argument("the first frame must be a hello"))?;
        let from = convert::required_node("from", hello.from).map_err(bad)?.key;
        let ring_id = convert::u128_of("ring_id", &hello.ring_id).map_err(bad)?;
        let disk = convert::u128_of("to_disk_uuid", &hello.to_disk_uuid).map_err(bad)?;
        if disk != self.me.disk.0 {
            return Err(Status::failed_precondition("another data directory is meant than the one that answers here"));
        }
        let mine = self.driver.inspect(|core| core.ring_id()).await;
        if mine.map_err(|gone| Status::unavailable(gone.to_string()))? != Some(ring_id) {
            return Err(Status::failed_precondition("this node is not in that ring"));
        }
        let session = hello.session;
        let lock = |sessions: &Mutex<HashMap<MemberKey, u64>>| {
            let mut sessions = sessions.lock().unwrap_or_else(PoisonError::into_inner);
            let newest = sessions.entry(from).or_insert(session);
            *newest = session.max(*newest);
            *newest
        };
        lock(&self.sessions);
        let sessions = self.sessions.clone();
        receive(&self.driver, from, frames, move || lock(&sessions) == session).await?;
        Ok(Response::new(v1::ExchangeResponse {}))
    }
}
