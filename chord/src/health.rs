//! Who is up, as this node sees it: a hint for leadership and placement, never evidence.
use crate::{member::MemberKey, settings::Settings, time::Nanos};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Copy, Hash, Debug)]
struct Peer {
    heard: Nanos,
    pinged: Nanos,
    down_since: Option<Nanos>,
}

/// The failure detector.
#[derive(Clone, Hash, Debug, Default)]
pub(crate) struct Health {
    peers: BTreeMap<MemberKey, Peer>,
    /// Left or lost for good: never up again, whoever answers at their address.
    gone: BTreeSet<MemberKey>,
}

impl Health {
    /// Starts to watch a peer: taken for alive until it proves silent.
    pub fn watch(&mut self, peer: MemberKey, now: Nanos) {
        if !self.gone.contains(&peer) {
            self.peers.entry(peer).or_insert(Peer { heard: now, pinged: Nanos(0), down_since: None });
        }
    }

    /// A member that will never be back. Says whether that is news.
    pub fn bury(&mut self, peer: MemberKey) -> bool {
        self.peers.remove(&peer);
        self.gone.insert(peer)
    }

    /// Stops watching all peers but these.
    pub fn retain(&mut self, keep: impl Fn(&MemberKey) -> bool) {
        self.peers.retain(|peer, _| keep(peer));
    }

    /// A sign of life. Says whether the peer was down.
    pub fn heard(&mut self, peer: MemberKey, now: Nanos) -> bool {
        match self.peers.get_mut(&peer) {
            Some(known) => {
                known.heard = known.heard.max(now);
                known.down_since.take().is_some()
            }
            None => false,
        }
    }

    /// Its port refuses: no need to wait. Says whether it was up.
    pub fn refused(&mut self, peer: MemberKey, now: Nanos) -> bool {
        match self.peers.get_mut(&peer) {
            Some(known) if known.down_since.is_none() => {
                known.down_since = Some(now);
                true
            }
            _ => false,
        }
    }

    /// Peers that went silent since the last look.
    pub fn fallen(&mut self, now: Nanos, settings: &Settings) -> Vec<MemberKey> {
        let mut fallen = Vec::new();
        for (key, peer) in &mut self.peers {
            if peer.down_since.is_none() && now.since(peer.heard) > settings.suspect_after {
                peer.down_since = Some(now);
                fallen.push(*key);
            }
        }
        fallen
    }

    /// Peers to ping now: those not heard of for one interval.
    pub fn due(&mut self, now: Nanos, settings: &Settings) -> Vec<MemberKey> {
        let interval = settings.ping_interval;
        let mut due = Vec::new();
        for (key, peer) in &mut self.peers {
            if now.since(peer.heard) >= interval && now.since(peer.pinged) >= interval {
                peer.pinged = now;
                due.push(*key);
            }
        }
        due
    }

    /// Whether a peer counts as alive. Unwatched ones do, unless they are gone for good.
    pub fn is_up(&self, peer: &MemberKey) -> bool {
        !self.gone.contains(peer) && self.peers.get(peer).is_none_or(|peer| peer.down_since.is_none())
    }

    /// Since when a peer has been down.
    pub fn down_since(&self, peer: &MemberKey) -> Option<Nanos> {
        self.peers.get(peer)?.down_since
    }
}
