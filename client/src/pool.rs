//! Connections to members.
use crate::{
    net::{self, Link},
    settings::Endpoints,
};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};
use tonic::transport::Channel;

/// One address, with its connections.
pub(crate) struct Peer {
    pub address: String,
    links: Vec<Link>,
    next: AtomicUsize,
    avoided: AtomicBool,
}

impl Peer {
    fn new(address: &str, endpoints: &Endpoints, connections: usize) -> Result<Peer, String> {
        let links = (0..connections)
            .map(|_| {
                net::link_within(address, endpoints.tls.clone(), endpoints.dial.clone(), endpoints.connect_timeout)
            })
            .collect::<Result<_, _>>()?;
        Ok(Peer { address: address.to_owned(), links, next: AtomicUsize::new(0), avoided: AtomicBool::new(false) })
    }

    /// One of its connections, in turn.
    pub fn channel(&self) -> Channel {
        let turn = self.next.fetch_add(1, Ordering::Relaxed) % self.links.len();
        self.links[turn].channel.clone()
    }

    /// Whether it was found unreachable, and has not answered since.
    pub fn is_avoided(&self) -> bool {
        self.avoided.load(Ordering::Relaxed)
    }

    /// Has it asked last. Says whether that is news.
    pub fn avoid(&self) -> bool {
        !self.avoided.swap(true, Ordering::Relaxed)
    }

    pub fn answered(&self) {
        if self.is_avoided() {
            self.avoided.store(false, Ordering::Relaxed);
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

    /// Whether a peer is not forgotten.
    pub fn holds(&self, peer: &Arc<Peer>) -> bool {
        let peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        peers.get(&peer.address).is_some_and(|known| Arc::ptr_eq(known, peer))
    }

    /// Forgets addresses that are not wanted any more; operations under way keep theirs.
    pub fn retain(&self, wanted: impl Fn(&str) -> bool) {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner).retain(|address, _| wanted(address));
    }
}
