//! Connections to members.
use crate::{
    net::{self, Link},
    settings::Endpoints,
};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tonic::transport::Channel;

/// For how long a member that could not be reached is asked last.
const AVOID: Duration = Duration::from_secs(2);

/// One address, with its connections.
pub(crate) struct Peer {
    pub address: String,
    links: Vec<Link>,
    next: AtomicUsize,
    /// Milliseconds since `born`; 0: never.
    avoid_until_ms: AtomicU64,
    born: Instant,
}

impl Peer {
    fn new(address: &str, endpoints: &Endpoints, connections: usize) -> Result<Peer, String> {
        let links = (0..connections)
            .map(|_| {
                net::link_within(address, endpoints.tls.clone(), endpoints.dial.clone(), endpoints.connect_timeout)
            })
            .collect::<Result<_, _>>()?;
        let (next, avoid_until_ms) = (AtomicUsize::new(0), AtomicU64::new(0));
        Ok(Peer { address: address.to_owned(), links, next, avoid_until_ms, born: Instant::now() })
    }

    /// One of its connections, in turn.
    pub fn channel(&self) -> Channel {
        let turn = self.next.fetch_add(1, Ordering::Relaxed) % self.links.len();
        self.links[turn].channel.clone()
    }

    fn now_ms(&self) -> u64 {
        self.born.elapsed().as_millis() as u64
    }

    /// Whether it was lately found unreachable.
    pub fn is_avoided(&self) -> bool {
        let until = self.avoid_until_ms.load(Ordering::Relaxed);
        until != 0 && self.now_ms() < until
    }

    pub fn avoid(&self) {
        self.avoid_until_ms.store(self.now_ms() + AVOID.as_millis() as u64, Ordering::Relaxed);
    }

    pub fn answered(&self) {
        if self.avoid_until_ms.load(Ordering::Relaxed) != 0 {
            self.avoid_until_ms.store(0, Ordering::Relaxed);
        }
    }
}

/// All peers by address, shared between operations and successive maps.
pub(crate) struct Pool {
    endpoints: Endpoints,
    connections: usize,
    peers: Mutex<BTreeMap<String, Arc<Peer>>>,
}

impl Pool {
    pub fn new(endpoints: Endpoints, connections: usize) -> Pool {
        Pool { endpoints, connections, peers: Mutex::default() }
    }

    /// The peer at an address (host:port); an error when it is no address.
    pub fn peer(&self, address: &str) -> Result<Arc<Peer>, String> {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(peer) = peers.get(address) {
            return Ok(peer.clone());
        }
        let peer = Arc::new(Peer::new(address, &self.endpoints, self.connections)?);
        peers.insert(address.to_owned(), peer.clone());
        Ok(peer)
    }

    /// Forgets addresses that are not wanted any more; operations under way keep theirs.
    pub fn retain(&self, wanted: impl Fn(&str) -> bool) {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner).retain(|address, _| wanted(address));
    }
}
