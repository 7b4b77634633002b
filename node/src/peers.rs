//! Other nodes: one ordered session per peer for the data plane, and calls of the ring.
use crate::{
    driver::{Command, Driver, call_done},
    rpc::convert::{self, from_node, from_shard_msg, id_bytes},
};
use chord::{
    io::{CallError, CallId, Input},
    member::{MemberKey, NodeRef},
    msg::{RingReply, RingRequest, ShardMsg},
    time::Nanos,
};
use chord_client::net::{CONNECT_TIMEOUT, Dial, Link, Tls, link};
use chord_proto::{
    MESSAGE_BYTES_MAX,
    v1::{self, ring_client::RingClient, shard_client::ShardClient},
};
use prost::Message as _;
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{runtime::Handle, sync::mpsc, time::sleep};
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};

/// Most bytes on their way to one peer; what exceeds that is dropped, and found again by comparing.
const WINDOW_BYTES_MAX: usize = 64 << 20;
/// Most bytes of one frame: a single message may be larger.
const FRAME_BYTES_MAX: usize = 2 << 20;
/// A session that nobody used for so long is closed.
const IDLE: Duration = Duration::from_secs(120);
/// First pause before a session is opened again; it doubles up to the second, and is jittered by half.
const RECONNECT: Duration = Duration::from_millis(100);
const RECONNECT_MAX: Duration = Duration::from_millis(800);
/// A channel that nobody asked for in so long is forgotten: its peer may be gone for good.
const LINK_IDLE: Duration = Duration::from_secs(600);

struct Outgoing {
    addr: String,
    messages: mpsc::UnboundedSender<Vec<v1::ShardMessage>>,
    bytes: Arc<AtomicUsize>,
}

struct Inner {
    me: OnceLock<NodeRef>,
    ring_id: Mutex<Option<u128>>,
    tls: Option<Tls>,
    dial: Dial,
    driver: Driver,
    runtime: Handle,
    /// With the time of their last use.
    links: Mutex<HashMap<String, (Link, Instant)>>,
    sessions: Mutex<HashMap<MemberKey, Outgoing>>,
    session_number: AtomicU64,
}

/// Ways to other nodes. Cheap to clone.
#[derive(Clone)]
pub struct Peers(Arc<Inner>);

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Peers {
    /// No connection is made, by `dial`, before it is needed.
    pub fn new(tls: Option<Tls>, dial: Dial, driver: Driver, runtime: Handle) -> Peers {
        Peers(Arc::new(Inner {
            me: OnceLock::new(),
            ring_id: Mutex::new(None),
            tls,
            dial,
            driver,
            runtime,
            links: Mutex::default(),
            sessions: Mutex::default(),
            session_number: AtomicU64::new(0),
        }))
    }

    /// Who this node is, once its core has started.
    pub fn set_me(&self, me: NodeRef) {
        // A peer takes only the newest session. The incarnation rises over restarts whatever the clock does.
        self.0.session_number.store(me.incarnation << 32, Ordering::Relaxed);
        let _ = self.0.me.set(me);
    }

    /// The ring it is in.
    pub fn set_ring_id(&self, ring_id: Option<u128>) {
        *lock(&self.0.ring_id) = ring_id;
    }

    /// A channel to an address; made once, and again after it was forgotten.
    pub fn link(&self, addr: &str) -> Result<Link, String> {
        let now = Instant::now();
        if let Some((known, used)) = lock(&self.0.links).get_mut(addr) {
            *used = now;
            return Ok(known.clone());
        }
        let fresh = {
            // The channel's own tasks run on the runtime, whoever asks.
            let _guard = self.0.runtime.enter();
            link(addr, self.0.tls.clone(), self.0.dial.clone())?
        };
        let mut links = lock(&self.0.links);
        links.retain(|_, (_, used)| now.duration_since(*used) < LINK_IDLE);
        links.insert(addr.to_owned(), (fresh.clone(), now));
        Ok(fresh)
    }

    /// Sends messages over the session to a peer.
    pub fn send(&self, to: NodeRef, messages: Vec<ShardMsg>) {
        let wire: Vec<v1::ShardMessage> = messages.iter().map(from_shard_msg).collect();
        let bytes: usize = wire.iter().map(prost::Message::encoded_len).sum();
        let mut sessions = lock(&self.0.sessions);
        // A peer that started again elsewhere: the session to where it was ends with its queue.
        if sessions.get(&to.key).is_some_and(|old| old.addr != to.internal_addr) {
            sessions.remove(&to.key);
        }
        let outgoing = sessions.entry(to.key).or_insert_with(|| {
            let (sender, receiver) = mpsc::unbounded_channel();
            let in_flight = Arc::new(AtomicUsize::new(0));
            self.0.runtime.spawn(self.clone().session(to.clone(), receiver, in_flight.clone()));
            Outgoing { addr: to.internal_addr.clone(), messages: sender, bytes: in_flight }
        });
        if outgoing.bytes.load(Ordering::Relaxed) + bytes > WINDOW_BYTES_MAX {
            metrics::counter!("chord_session_dropped_total").increment(1);
            return;
        }
        outgoing.bytes.fetch_add(bytes, Ordering::Relaxed);
        if outgoing.messages.send(wire).is_err() {
            sessions.remove(&to.key);
        }
    }

    /// Keeps the session to one peer as long as it is used.
    async fn session(
        self,
        to: NodeRef,
        mut queue: mpsc::UnboundedReceiver<Vec<v1::ShardMessage>>,
        in_flight: Arc<AtomicUsize>,
    ) {
        let mut pause = RECONNECT;
        loop {
            let first = match tokio::time::timeout(IDLE, queue.recv()).await {
                Ok(Some(first)) => first,
                Ok(None) => return,
                Err(_) => {
                    // Not used: forget it, unless somebody queued something just now.
                    let mut sessions = lock(&self.0.sessions);
                    if queue.is_empty() {
                        sessions.remove(&to.key);
                        return;
                    }
                    continue;
                }
            };
            let begun = Instant::now();
            let refused = self.run_session(&to, first, &mut queue, &in_flight).await;
            if queue.is_closed() {
                return;
            }
            if begun.elapsed() > RECONNECT_MAX + CONNECT_TIMEOUT {
                pause = RECONNECT;
            }
            // What is still queued was meant for a session that is gone.
            while queue.try_recv().is_ok() {}
            in_flight.store(0, Ordering::Relaxed);
            self.0.driver.send(Command::Input(Input::PeerDown { peer: to.key, refused }));
            sleep(pause.mul_f32(rand::random_range(0.5..1.0))).await;
            pause = (2 * pause).min(RECONNECT_MAX);
        }
    }

    /// One session from its hello to its end; says whether the peer's port was closed.
    async fn run_session(
        &self,
        to: &NodeRef,
        first: Vec<v1::ShardMessage>,
        queue: &mut mpsc::UnboundedReceiver<Vec<v1::ShardMessage>>,
        in_flight: &AtomicUsize,
    ) -> bool {
        let Ok(link) = self.link(&to.internal_addr) else { return false };
        let (Some(me), Some(ring_id)) = (self.0.me.get(), *lock(&self.0.ring_id)) else { return false };
        let (frames, outgoing) = mpsc::channel::<v1::ShardFrame>(8);
        let hello = v1::Hello {
            from: Some(from_node(me)),
            ring_id: convert::bytes_of(ring_id),
            to_disk_uuid: convert::bytes_of(to.key.disk.0),
            session: self.0.session_number.fetch_add(1, Ordering::Relaxed),
        };
        let _ = frames.send(v1::ShardFrame { hello: Some(hello), messages: Vec::new() }).await;
        let mut client = ShardClient::new(link.channel.clone()).max_encoding_message_size(4 * MESSAGE_BYTES_MAX);
        let exchange = client.exchange(ReceiverStream::new(outgoing));
        tokio::pin!(exchange);
        let mut next = Some(first);
        loop {
            let messages = match next.take() {
                Some(messages) => messages,
                None => tokio::select! {
                    end = &mut exchange => return self.session_end(to, &link, end.err()),
                    messages = queue.recv() => match messages {
                        Some(messages) => messages,
                        None => return false,
                    },
                },
            };
            let mut frame = v1::ShardFrame { hello: None, messages };
            let mut bytes = frame.encoded_len();
            while bytes < FRAME_BYTES_MAX {
                let Ok(more) = queue.try_recv() else { break };
                bytes += more.iter().map(prost::Message::encoded_len).sum::<usize>();
                frame.messages.extend(more);
            }
            let taken = bytes.min(in_flight.load(Ordering::Relaxed));
            tokio::select! {
                end = &mut exchange => return self.session_end(to, &link, end.err()),
                sent = frames.send(frame) => if sent.is_err() {
                    return self.session_end(to, &link, exchange.await.err());
                },
            }
            in_flight.fetch_sub(taken, Ordering::Relaxed);
        }
    }

    fn session_end(&self, to: &NodeRef, link: &Link, error: Option<tonic::Status>) -> bool {
        let refused = link.is_refused();
        if let Some(error) = error {
            tracing::debug!(peer = to.name, %error, refused, "session ended");
        }
        refused
    }

    /// Asks a peer over `Ring`; the core hears of the end in any case.
    pub fn call(&self, call: CallId, addr: String, request: RingRequest, timeout: Nanos) {
        let peers = self.clone();
        self.0.runtime.spawn(async move {
            let result = match peers.link(&addr) {
                Ok(link) => {
                    let asked = ask(link.clone(), request);
                    match tokio::time::timeout(Duration::from_nanos(timeout.0), asked).await {
                        Ok(Ok(reply)) => Ok(reply),
                        Ok(Err(error)) => Err(classify(&error, &link)),
                        Err(_) => Err(CallError::Unreachable),
                    }
                }
                Err(_) => Err(CallError::Rejected),
            };
            peers.0.driver.send(call_done(call, result));
        });
    }
}

fn classify(error: &tonic::Status, link: &Link) -> CallError {
    match error.code() {
        tonic::Code::Unavailable if link.is_refused() => CallError::Refused,
        tonic::Code::PermissionDenied | tonic::Code::Unauthenticated | tonic::Code::InvalidArgument => {
            CallError::Rejected
        }
        _ => CallError::Unreachable,
    }
}

async fn ask(link: Link, request: RingRequest) -> Result<RingReply, tonic::Status> {
    let mut ring = RingClient::new(link.channel)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let malformed = |error: convert::Malformed| tonic::Status::invalid_argument(error.to_string());
    let reply = match request {
        RingRequest::FindSuccessor { target, hops, trace } => {
            let request = v1::FindSuccessorRequest { target: id_bytes(target), hops, trace };
            convert::find_successor_reply(ring.find_successor(request).await?.into_inner()).map_err(malformed)?
        }
        RingRequest::GetPredecessor => {
            let reply = ring.get_predecessor(v1::GetPredecessorRequest {}).await?.into_inner();
            RingReply::GetPredecessor(reply.predecessor.map(convert::node).transpose().map_err(malformed)?)
        }
        RingRequest::GetSuccessorList => {
            let reply = ring.get_successor_list(v1::GetSuccessorListRequest {}).await?.into_inner();
            RingReply::GetSuccessorList(convert::neighbours(reply).map_err(malformed)?)
        }
        RingRequest::ClosestPrecedingFinger { target, avoid, as_owner } => {
            let avoid = avoid.into_iter().map(id_bytes).collect();
            let request = v1::ClosestPrecedingFingerRequest { target: id_bytes(target), avoid, as_owner };
            convert::closest(ring.closest_preceding_finger(request).await?.into_inner()).map_err(malformed)?
        }
        RingRequest::GetFingerTable => {
            let reply = ring.get_finger_table(v1::GetFingerTableRequest {}).await?.into_inner();
            convert::finger_table(reply).map_err(malformed)?
        }
        RingRequest::Notify { from } => {
            ring.notify(v1::NotifyRequest { from: Some(from_node(&from)) }).await?;
            RingReply::Notify
        }
        RingRequest::Ping { from } => {
            let reply = ring.ping(v1::PingRequest { from: Some(from_node(&from)) }).await?.into_inner();
            let node = convert::required_node("node", reply.node).map_err(malformed)?;
            RingReply::Ping { node, member: reply.member }
        }
        RingRequest::Join { joiner } => {
            let reply = ring.join(v1::JoinRequest { joiner: Some(from_node(&joiner)) }).await?.into_inner();
            RingReply::Join(convert::join_reply(reply).map_err(malformed)?)
        }
        RingRequest::Leave { from, predecessor, successors } => {
            let request = v1::LeaveRequest {
                from: Some(from_node(&from)),
                predecessor: predecessor.as_ref().map(from_node),
                successors: successors.iter().map(from_node).collect(),
            };
            ring.leave(request).await?;
            RingReply::Leave
        }
        RingRequest::Gossip { from, view_hash, rumors, map_hash } => {
            let rumors = rumors.iter().map(|member| convert::from_member(member, true)).collect();
            let request = v1::GossipRequest { from: Some(from_node(&from)), view_hash, rumors, map_hash };
            let reply = ring.gossip(request).await?.into_inner();
            let members = convert::members(reply.members).map_err(malformed)?;
            RingReply::Gossip { members, map_differs: reply.map_differs }
        }
    };
    Ok(reply)
}

/// Messages of one frame, in order; those that make no sense are left out.
pub fn messages_of(frame: v1::ShardFrame) -> Vec<ShardMsg> {
    frame.messages.into_iter().filter_map(|message| convert::shard_msg(message).ok()).collect()
}

/// Feeds a peer's session to the core until it ends; slows it down while the core is behind.
pub async fn receive(
    driver: &Driver,
    from: MemberKey,
    mut frames: tonic::Streaming<v1::ShardFrame>,
    current: impl Fn() -> bool,
) -> Result<(), tonic::Status> {
    while let Some(frame) = frames.next().await {
        let frame = frame?;
        if !current() {
            return Err(tonic::Status::aborted("a newer session of this peer has begun"));
        }
        while driver.is_overloaded() {
            sleep(Duration::from_millis(1)).await;
        }
        let messages = messages_of(frame);
        if !messages.is_empty() {
            driver.send(Command::Input(Input::Shard { from, messages }));
        }
    }
    Ok(())
}
