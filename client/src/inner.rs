//! What a client does inside: picks members, sends, retries, and learns the shard map.
use crate::{
    call::{self, Call, Write},
    error::Error,
    map::Map,
    pool::{Peer, Pool},
    retry::{self, Attempts, Budget},
    settings::{ClientSettings, Endpoints},
};
use arc_swap::ArcSwapOption;
use chord_proto::v1;
use rand::RngExt as _;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio_util::task::AbortOnDropHandle;
use tonic::{Status, transport::Channel};

/// Shortest time between two looks at the shard map.
const LEARN_INTERVAL: Duration = Duration::from_millis(100);
/// Time for one node to answer with the shard map.
const LEARN_TIMEOUT: Duration = Duration::from_secs(1);
/// Nodes asked for it before giving up until the next failure.
const LEARN_NODES_MAX: usize = 4;
/// Time between two looks whether a member that was found unreachable is back.
const PROBE: Duration = Duration::from_secs(2);
/// Shortest time worth an attempt.
const ATTEMPT_MIN: Duration = Duration::from_millis(1);

/// What all clones of a client share.
pub(crate) struct Inner {
    pub settings: ClientSettings,
    pub budget: Budget,
    endpoints: Vec<Arc<Peer>>,
    pool: Pool,
    routes: ArcSwapOption<Routes>,
    learning: AtomicBool,
    /// Milliseconds since `born` of the last look at the shard map.
    learnt_ms: AtomicU64,
    born: Instant,
    _certificates: Option<AbortOnDropHandle<()>>,
}

/// The shard map, with the peers behind its members.
struct Routes {
    map: Map,
    peers: Vec<Option<Arc<Peer>>>,
}

impl Inner {
    /// Checks what was given; connects to nobody yet.
    pub fn new(endpoints: Endpoints, settings: ClientSettings) -> Result<Inner, Error> {
        settings.validate()?;
        if endpoints.addresses.is_empty() {
            return Err(Error::InvalidArgument("no endpoints; give host:port of at least one member".into()));
        }
        let addresses = endpoints.addresses.clone();
        let tls = endpoints.tls.clone();
        let pool = Pool::new(endpoints, settings.connections_per_member);
        let peers = addresses.iter().map(|address| pool.peer(address)).collect::<Result<Vec<_>, _>>();
        Ok(Inner {
            budget: Budget::new(settings.retry_budget),
            settings,
            endpoints: peers.map_err(Error::InvalidArgument)?,
            pool,
            routes: ArcSwapOption::empty(),
            learning: AtomicBool::new(false),
            learnt_ms: AtomicU64::new(0),
            born: Instant::now(),
            _certificates: tls.map(|tls| AbortOnDropHandle::new(tokio::spawn(tls.follow()))),
        })
    }

    /// Looks at the map, when there is one.
    pub fn map<T>(&self, see: impl FnOnce(&Map) -> T) -> Option<T> {
        self.routes.load().as_ref().map(|routes| see(&routes.map))
    }

    /// A channel to an address.
    pub fn channel(&self, address: &str) -> Result<Channel, Error> {
        Ok(self.pool.peer(address).map_err(Error::InvalidArgument)?.channel())
    }

    /// Sends a request until it is answered, its deadline has passed, or there is no point.
    pub async fn execute<C: Call>(self: &Arc<Self>, call: C, write: Option<&Write>) -> Result<C::Answer, Error> {
        self.budget.earn();
        let result = self.drive(call, write).await;
        if self.now_ms().saturating_sub(self.learnt_ms.load(Ordering::Relaxed))
            > self.settings.map_age_max.as_millis() as u64
        {
            self.learn();
        }
        result
    }

    async fn drive<C: Call>(self: &Arc<Self>, mut call: C, write: Option<&Write>) -> Result<C::Answer, Error> {
        let mut attempts = Attempts::of(write);
        let started = Instant::now();
        let mut tried = Vec::new();
        loop {
            let waited = started.elapsed();
            let left = self.settings.deadline.saturating_sub(waited);
            let Some(peer) = (left >= ATTEMPT_MIN).then(|| self.pick(call.key(), &mut tried)).flatten() else {
                return Err(attempts.give_up(waited));
            };
            if let (Some(write), Some(op_id)) = (write, call.op_id()) {
                write.stamp(op_id, attempts.maybe);
            }
            let timeout = left.min(self.settings.attempt_timeout);
            let answer = match self.settings.hedge_after {
                Some(after) if write.is_none() => self.hedged(&peer, call.clone(), timeout, after).await,
                _ => attempt(&peer, call.clone(), timeout).await,
            };
            let status = match answer {
                Ok(answer) => return Ok(answer),
                Err(status) => status,
            };
            self.after_failure(&peer, &status, &mut attempts, started).await?;
            tried.push(peer);
        }
    }

    /// Decides what a failed attempt means, and waits until the next one; an error ends the operation.
    async fn after_failure(
        self: &Arc<Self>,
        peer: &Arc<Peer>,
        status: &Status,
        attempts: &mut Attempts,
        started: Instant,
    ) -> Result<(), Error> {
        let message = format!("{}: {}", peer.address, retry::describe(status));
        let (max, waited) = (self.settings.backoff_max, started.elapsed());
        let next = attempts.failed(retry::classify(status), message, waited, max)?;
        if next.avoid {
            self.avoid(peer);
        }
        if next.learn {
            self.learn();
        }
        let wait = if self.budget.spend() {
            next.wait_min + next.jitter.mul_f64(rand::rng().random::<f64>())
        } else {
            next.wait_min + max
        };
        if waited + wait >= self.settings.deadline {
            return Err(attempts.give_up(waited));
        }
        tokio::time::sleep(wait).await;
        Ok(())
    }

    /// A read, asked of a second member as well when the first takes long; the first answer counts.
    async fn hedged<C: Call>(
        &self,
        peer: &Arc<Peer>,
        call: C,
        timeout: Duration,
        after: Duration,
    ) -> Result<C::Answer, Status> {
        let first = attempt(peer, call.clone(), timeout);
        tokio::pin!(first);
        if let Ok(answer) = tokio::time::timeout(after, &mut first).await {
            return answer;
        }
        let Some(other) = self.pick(call.key(), &mut vec![peer.clone()]).filter(|other| !Arc::ptr_eq(other, peer))
        else {
            return first.await;
        };
        let second = attempt(&other, call, timeout.saturating_sub(after));
        tokio::pin!(second);
        match futures::future::select(first, second).await {
            futures::future::Either::Left((Err(_), second)) => second.await,
            futures::future::Either::Right((Err(_), first)) => first.await,
            futures::future::Either::Left((answer, _)) | futures::future::Either::Right((answer, _)) => answer,
        }
    }

    /// Sends a read that every node can answer until one does.
    pub async fn anyone<A, F: Future<Output = Result<A, Status>>>(
        self: &Arc<Self>,
        ask: impl Fn(Channel, Duration) -> F,
    ) -> Result<A, Error> {
        self.budget.earn();
        let (started, mut attempts, mut tried) = (Instant::now(), Attempts::default(), Vec::new());
        loop {
            let left = self.settings.deadline.saturating_sub(started.elapsed());
            let Some(peer) = (left >= ATTEMPT_MIN).then(|| self.pick(&[], &mut tried)).flatten() else {
                return Err(attempts.give_up(started.elapsed()));
            };
            let timeout = left.min(self.settings.attempt_timeout);
            let answer = tokio::time::timeout(timeout, ask(peer.channel(), timeout)).await;
            match answer.unwrap_or_else(|_| Err(timed_out(timeout))) {
                Ok(answer) => {
                    peer.answered();
                    return Ok(answer);
                }
                Err(status) => self.after_failure(&peer, &status, &mut attempts, started).await?,
            }
            tried.push(peer);
        }
    }

    /// Whom to ask next: the shard's leader, its other holders, other members; first those that were not tried. When all
    /// that can be reached were, the round begins anew. Endpoints, behind which any member may be, are for when none can.
    fn pick(&self, key: &[u8], tried: &mut Vec<Arc<Peer>>) -> Option<Arc<Peer>> {
        let routes = self.routes.load();
        let holders: &[usize] = match &*routes {
            Some(routes) if !key.is_empty() => routes.map.holders(key),
            _ => &[],
        };
        let peers: &[Option<Arc<Peer>>] = routes.as_ref().map_or(&[], |routes| &routes.peers);
        let first = holders.first().and_then(|m| peers.get(*m)).and_then(Option::as_ref);
        if let Some(leader) = first.filter(|leader| tried.is_empty() && !leader.is_avoided()) {
            return Some(leader.clone());
        }
        let turn = if peers.is_empty() { 0 } else { rand::rng().random_range(0..peers.len()) };
        let others = peers.iter().cycle().skip(turn).take(peers.len());
        let members = || holders.iter().filter_map(|m| peers.get(*m)).chain(others.clone()).flatten();
        let all = || members().chain(&self.endpoints);
        let is_near = |peer: &&Arc<Peer>| !peer.is_avoided();
        let round = |tried: &[Arc<Peer>]| {
            let is_new = |peer: &&Arc<Peer>| !tried.iter().any(|known| Arc::ptr_eq(known, peer));
            let near = members().filter(is_near).find(is_new);
            let beyond = || all().filter(is_near).find(is_new).or_else(|| all().find(is_new));
            near.or_else(|| if members().any(|peer| is_near(&peer)) { None } else { beyond() }).cloned()
        };
        round(tried).or_else(|| {
            tried.clear();
            round(tried)
        })
    }

    /// The first of a key's holders, when the map knows it and it can be reached.
    pub fn leader(&self, key: &[u8]) -> Option<Arc<Peer>> {
        let routes = self.routes.load();
        let routes = routes.as_ref()?;
        let leader = routes.peers.get(*routes.map.holders(key).first()?)?.as_ref()?;
        (!leader.is_avoided()).then(|| leader.clone())
    }

    fn now_ms(&self) -> u64 {
        self.born.elapsed().as_millis() as u64
    }

    /// Learns the shard map anew in the background: one look at a time, and not too often.
    pub fn learn(self: &Arc<Self>) {
        if self.learning.swap(true, Ordering::Acquire) {
            return;
        }
        let age = Duration::from_millis(self.now_ms().saturating_sub(self.learnt_ms.load(Ordering::Relaxed)));
        let inner = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(LEARN_INTERVAL.saturating_sub(age)).await;
            if let Err(message) = inner.look().await {
                tracing::debug!(message, "could not learn the shard map");
            }
            inner.learnt_ms.store(inner.now_ms(), Ordering::Relaxed);
            inner.learning.store(false, Ordering::Release);
        });
    }

    /// Asks some nodes for the shard map until one gives it.
    pub async fn look(self: &Arc<Self>) -> Result<(), String> {
        let (mut tried, mut message) = (Vec::new(), String::from("no member is known"));
        for _ in 0..LEARN_NODES_MAX {
            let Some(peer) = self.pick(&[], &mut tried) else { break };
            match self.ask_map(&peer).await {
                Ok(()) => return Ok(()),
                Err((_, text)) => message = text,
            }
            tried.push(peer);
        }
        Err(message)
    }

    /// Has a member asked last until it answers a question for the shard map: no operation has to find out that it is
    /// back.
    pub fn avoid(self: &Arc<Self>, peer: &Arc<Peer>) {
        if !peer.avoid() {
            return;
        }
        let (client, peer) = (Arc::downgrade(self), peer.clone());
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(PROBE).await;
                let Some(client) = client.upgrade().filter(|client| client.pool.holds(&peer)) else { return };
                if !peer.is_avoided() || client.ask_map(&peer).await.is_ok() {
                    return;
                }
            }
        });
    }

    async fn ask_map(self: &Arc<Self>, peer: &Arc<Peer>) -> Result<(), (Status, String)> {
        let mut kv = call::kv(peer.channel());
        let ask = kv.shard_map(call::within(v1::ShardMapRequest {}, LEARN_TIMEOUT));
        let answer = tokio::time::timeout(LEARN_TIMEOUT, ask).await.unwrap_or_else(|_| Err(timed_out(LEARN_TIMEOUT)));
        let map = answer.and_then(|answer| Map::from_answer(answer.into_inner()).map_err(Status::failed_precondition));
        let map = map.map_err(|status| {
            let message = format!("{}: {}", peer.address, retry::describe(&status));
            if retry::classify(&status) == retry::Failure::NotSent {
                self.avoid(peer);
            }
            (status, message)
        })?;
        peer.answered();
        self.adopt(map);
        Ok(())
    }

    fn adopt(&self, map: Map) {
        let map = match &*self.routes.load() {
            Some(old) => map.merge(&old.map),
            None => map,
        };
        let peer = |address: &str| match self.pool.peer(address) {
            Ok(peer) => Some(peer),
            Err(error) => {
                tracing::warn!(error, "a member advertises an address that cannot be used");
                None
            }
        };
        let peers: Vec<_> = (0..map.members.len()).map(|m| map.address(m).and_then(peer)).collect();
        self.pool.retain(|address| {
            let mut wanted = peers.iter().flatten().chain(&self.endpoints);
            wanted.any(|peer| peer.address == address)
        });
        self.routes.store(Some(Arc::new(Routes { map, peers })));
    }

    /// Asks the endpoints in turn until one gives the shard map.
    pub async fn first_look(self: &Arc<Self>) -> Result<(), Error> {
        let started = Instant::now();
        let mut attempts = Attempts::default();
        for peer in self.endpoints.iter().cycle() {
            let Err((status, _)) = self.ask_map(peer).await else {
                self.learnt_ms.store(self.now_ms(), Ordering::Relaxed);
                return Ok(());
            };
            self.after_failure(peer, &status, &mut attempts, started).await?;
        }
        Err(attempts.give_up(started.elapsed()))
    }
}

async fn attempt<C: Call>(peer: &Arc<Peer>, call: C, timeout: Duration) -> Result<C::Answer, Status> {
    let sent = tokio::time::timeout(timeout, call.send(call::kv(peer.channel()), timeout)).await;
    let answer = sent.unwrap_or_else(|_| Err(timed_out(timeout)));
    if answer.is_ok() {
        peer.answered();
    }
    answer
}

/// An attempt that was given up: it may have had effect.
pub fn timed_out(after: Duration) -> Status {
    Status::deadline_exceeded(format!("no answer within {} ms", after.as_millis()))
}
