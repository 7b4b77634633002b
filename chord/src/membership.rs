//! Membership: who is a member, who is up, and how the news spreads.
//!
//! Every node keeps the whole view. Changes are pushed to the others at once (to all of a small
//! ring, by rumor in a large one) and a periodic exchange with a random member repairs what was lost.
use crate::{
    core::{Core, MembershipCalls, shards},
    io::{AdminAction, AdminError, AdminRequest, CallError, CallId, Output, Token},
    member::{Member, MemberKey, MemberState, NodeRef},
    msg::{RingReply, RingRequest},
    outbox::Out,
    rules::Rule,
    store::Store,
    time::{Nanos, Now},
};
use rand::{Rng, RngExt as _};
use std::collections::BTreeMap;

/// Rings up to this size are told of changes directly, and everybody watches everybody.
const SMALL_RING: usize = 64;
/// Members told at a time in a larger one.
const FAN_OUT: usize = 3;
/// Times a rumor is passed on by one node.
const RUMOR_ROUNDS: u8 = 4;
/// Time between looks at peers and at the node's own life.
const LOOK: Nanos = Nanos::from_millis(200);
/// Least time between exchanges with a random member.
const GOSSIP: Nanos = Nanos::from_millis(1000);
/// Time for a ping or an exchange.
const CALL_TIMEOUT: Nanos = Nanos::from_millis(1000);
/// Least time between writes of the view to disk.
const SAVE: Nanos = Nanos::from_millis(3000);

/// What a call of this module is for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Purpose {
    Ping,
    Gossip,
}

/// Timers and odds and ends of membership.
#[derive(Clone, Hash, Default)]
pub(crate) struct Membership {
    calls: MembershipCalls,
    rumors: BTreeMap<MemberKey, u8>,
    pub next_look: Nanos,
    next_gossip: Nanos,
    next_save: Nanos,
    view_changed: bool,
    /// The view or somebody's liveness changed: who should hold what must be worked out anew.
    pub placement_due: bool,
    /// When to look whether anybody has been dead for so long that it is replaced.
    next_replace: Nanos,
    /// Own map's hash when it last differed from a peer's.
    map_mismatch: Option<u64>,
    /// When to ask for the whole map, until one has come since the start and no shard is missing from it.
    pub map_wanted_at: Nanos,
    pub map_came: bool,
}

impl<S: Store> Core<S> {
    /// Takes in an entry of the view and passes it on if it is news.
    pub(crate) fn merge(&mut self, member: Member) {
        let key = member.node.key;
        if key == self.own.node.key {
            // Nobody but the operator (by eviction) says anything about this node that it did not say itself.
            if member.state == MemberState::Evicted && self.own.state != MemberState::Evicted {
                self.own.revision = member.revision;
                self.set_state(MemberState::Evicted);
            }
            if member.node.start() > self.own.node.start() {
                self.superseded(member.node);
            }
            return;
        }
        let before = self.view.get(&key).map(|known| known.state);
        if self.view.merge(member.clone()) {
            self.membership.rumors.insert(key, RUMOR_ROUNDS);
            self.membership.view_changed = true;
            self.membership.placement_due = true;
            if before != Some(member.state) {
                let text = format!("{} is {:?}", member.node.name, member.state);
                let kind = match member.state {
                    MemberState::Left | MemberState::Evicted | MemberState::Leaving => "leave",
                    MemberState::Empty | MemberState::Joining | MemberState::Serving => "join",
                };
                self.tell(kind, Some(member.node), text);
            }
        }
    }

    /// A later start over this node's directory, or over a copy of it, is in the ring: what this one says as the same
    /// member could contradict it.
    fn superseded(&mut self, by: NodeRef) {
        let text = format!(
            "another process has the identity of {} and started later (start {} at {}; this is start {}): this data \
             directory was copied, or is an older copy; keep one of the two and give the other an empty directory",
            by.name, by.incarnation, by.internal_addr, self.own.node.incarnation
        );
        self.tell("superseded", Some(by), text);
    }

    /// Changes this node's own state, durably, and tells everybody.
    pub(crate) fn set_state(&mut self, state: MemberState) {
        self.own.state = state;
        self.own.revision += 1;
        self.view.merge(self.own.clone());
        self.save_node();
        // Nobody may hear of it before this node is sure to remember.
        if self.settings.holds(Rule::RememberFirst) {
            self.outbox.hold_until_written();
        }
        self.membership.rumors.insert(self.own.node.key, RUMOR_ROUNDS);
        self.membership.next_gossip = Nanos(0);
        self.membership.placement_due = true;
    }

    /// A sign of life of a peer.
    pub(crate) fn on_heard(&mut self, now: Now, rng: &mut dyn Rng, peer: MemberKey) {
        if self.health.heard(peer, now.mono) {
            self.suspects.remove(&peer);
            self.membership.placement_due = true;
            let (shards, env) = shards!(self, now, rng);
            shards.on_liveness(peer, true, env);
            if let Some(node) = self.view.get(&peer).map(|member| member.node.clone()) {
                let text = format!("{} answers again", node.name);
                self.tell("alive", Some(node), text);
            }
        }
    }

    /// The session to a peer broke; with `refused` its port is closed.
    pub(crate) fn on_peer_down(&mut self, now: Now, rng: &mut dyn Rng, peer: MemberKey, refused: bool) {
        if refused {
            if self.health.refused(peer, now.mono) {
                self.on_fallen(now, rng, peer);
            }
        } else {
            // Messages may be lost: what the peer missed is found by comparing.
            let (shards, env) = shards!(self, now, rng);
            shards.on_liveness(peer, true, env);
        }
    }

    fn on_fallen(&mut self, now: Now, rng: &mut dyn Rng, peer: MemberKey) {
        self.suspects.insert(peer);
        let (shards, env) = shards!(self, now, rng);
        shards.on_liveness(peer, false, env);
        self.with_ring(now, rng, |ring, env| ring.on_peer_down(&peer, env));
        if let Some(node) = self.view.get(&peer).map(|member| member.node.clone()) {
            let text = format!("{} does not answer", node.name);
            self.tell("suspect", Some(node), text);
        }
    }

    /// Everything that time brings.
    pub(crate) fn look_after(&mut self, now: Now, rng: &mut dyn Rng) {
        if self.ring.next_deadline() <= now.mono {
            self.with_ring(now, rng, |ring, env| ring.tick(env));
        }
        if !self.is_in_ring() {
            // A last word about having left is still passed on.
            if self.own.state.is_final() && now.mono >= self.membership.next_look {
                self.membership.next_look = now.mono + LOOK;
                self.gossip(now, rng);
            }
            return;
        }
        if now.mono >= self.membership.next_look {
            self.membership.next_look = now.mono + LOOK;
            self.watch();
            for peer in self.buried() {
                self.on_fallen(now, rng, peer);
            }
            for peer in self.health.fallen(now.mono, &self.settings) {
                self.on_fallen(now, rng, peer);
            }
            for peer in self.health.due(now.mono, &self.settings) {
                let ping = RingRequest::Ping { from: self.own.node.clone() };
                self.call(peer, Purpose::Ping, ping);
            }
            self.gossip(now, rng);
            self.look_for_map(now, rng);
            if now.mono >= self.membership.next_replace {
                self.membership.next_replace = now.mono + Nanos::from_millis(5000);
                self.membership.placement_due = true;
            }
            if self.membership.view_changed && now.mono >= self.membership.next_save {
                self.membership.view_changed = false;
                self.membership.next_save = now.mono + SAVE;
                self.save_node();
            }
            self.grow_up(now, rng);
        }
        if self.membership.placement_due {
            self.membership.placement_due = false;
            self.place(now, rng);
        }
        let (shards, env) = shards!(self, now, rng);
        shards.tick(env);
    }

    /// Works out anew who should hold what.
    fn place(&mut self, now: Now, rng: &mut dyn Rng) {
        let (replace_after, me) = (self.settings.replace_after, self.own.node.key);
        let gone = |member: &Member| {
            let since = self.health.down_since(&member.node.key);
            member.node.key != me && since.is_some_and(|since| now.mono.since(since) >= replace_after)
        };
        let eligible: Vec<Member> =
            self.view.iter().filter(|member| member.state.is_eligible() && !gone(member)).cloned().collect();
        let (shards, env) = shards!(self, now, rng);
        shards.replace_all(eligible.iter(), env);
    }

    /// Joining becomes Serving, Leaving becomes Left, once the shards are where they belong.
    fn grow_up(&mut self, now: Now, rng: &mut dyn Rng) {
        match self.own.state {
            MemberState::Joining if self.ring.is_member() && !self.membership.placement_due => {
                let (shards, env) = shards!(self, now, rng);
                if shards.has_all_desired(env) {
                    self.set_state(MemberState::Serving);
                    self.tell("join", Some(self.own.node.clone()), "serves all shards it should hold".into());
                }
            }
            MemberState::Leaving => {
                let me = self.own.node.key;
                let (shards, env) = shards!(self, now, rng);
                shards.ask_release(env);
                if self.shards.is_empty_handed(&me, &self.shared) || !self.settings.holds(Rule::LeaveEmptyHanded) {
                    self.set_state(MemberState::Left);
                    self.tell("leave", Some(self.own.node.clone()), "handed everything over and left".into());
                    self.with_ring(now, rng, |ring, env| ring.depart(env));
                }
            }
            _ => {}
        }
    }

    /// Keeps an eye on those that matter: all of a small ring; partners and neighbours in a large one.
    fn watch(&mut self) {
        let me = self.own.node.key;
        let all: Vec<MemberKey> = self.view.current().map(|member| member.node.key).filter(|key| *key != me).collect();
        let matter = if all.len() <= SMALL_RING {
            all
        } else {
            let neighbours = self.ring.neighbours();
            let around = neighbours.successors.into_iter().chain(neighbours.predecessor).map(|node| node.key);
            let mut matter: Vec<MemberKey> =
                self.shards.partners().chain(around).filter(|key| *key != me && all.contains(key)).collect();
            matter.sort_unstable();
            matter.dedup();
            matter
        };
        let now = self.membership.next_look;
        for peer in &matter {
            self.health.watch(*peer, now);
        }
        self.health.retain(|peer| matter.binary_search(peer).is_ok());
        self.suspects.retain(|peer| matter.binary_search(peer).is_ok());
    }

    /// Members that have just turned out to be gone for good: nobody may wait for them to lead.
    fn buried(&mut self) -> Vec<MemberKey> {
        let gone = self.view.iter().filter(|member| member.state.is_final()).map(|member| member.node.key);
        gone.filter(|peer| self.health.bury(*peer)).collect()
    }

    fn call(&mut self, peer: MemberKey, purpose: Purpose, request: RingRequest) {
        let Some(addr) = self.view.get(&peer).map(|member| member.node.internal_addr.clone()) else { return };
        self.calls += 1;
        let call = CallId(self.calls);
        self.membership.calls.insert(call, (peer, purpose));
        self.outbox.push(Out::Shell(Output::Call { call, addr, request, timeout: CALL_TIMEOUT }));
    }

    /// The end of a call of this module; false when it is not one.
    pub(crate) fn on_membership_call_done(
        &mut self,
        now: Now,
        rng: &mut dyn Rng,
        call: CallId,
        result: &Result<RingReply, CallError>,
    ) -> bool {
        let Some((peer, purpose)) = self.membership.calls.remove(&call) else { return false };
        match (purpose, result) {
            (Purpose::Ping, Ok(RingReply::Ping { node, .. })) if node.key == peer => self.on_heard(now, rng, peer),
            // Another disk answers there: the member that was meant is gone.
            (Purpose::Ping, Ok(RingReply::Ping { .. })) | (_, Err(CallError::Refused)) => {
                self.on_peer_down(now, rng, peer, true);
            }
            (Purpose::Gossip, Ok(RingReply::Gossip { members, map_differs })) => {
                self.on_heard(now, rng, peer);
                self.exchange(peer, members);
                let hash = self.shared.map_hash;
                if *map_differs && self.membership.map_mismatch.replace(hash) == Some(hash) {
                    self.membership.map_mismatch = None;
                    self.request_map(peer);
                }
            }
            _ => {}
        }
        true
    }

    /// Takes in a peer's whole view (empty: it equals this one) and sends what the peer lacks of this one.
    fn exchange(&mut self, peer: MemberKey, theirs: &[Member]) {
        for member in theirs.iter().cloned() {
            self.merge(member);
        }
        let known: BTreeMap<MemberKey, &Member> = theirs.iter().map(|member| (member.node.key, member)).collect();
        let lacks = |mine: &&Member| known.get(&mine.node.key).is_none_or(|theirs| mine.supersedes(theirs));
        let rumors: Vec<Member> = self.view.iter().filter(lacks).cloned().collect();
        if !theirs.is_empty() && !rumors.is_empty() {
            let (view_hash, map_hash) = (self.view.hash(), self.shared.map_hash);
            let from = self.own.node.clone();
            self.call(peer, Purpose::Gossip, RingRequest::Gossip { from, view_hash, rumors, map_hash });
        }
    }

    /// Exchanges views with one random member, or spreads what is new.
    fn gossip(&mut self, now: Now, rng: &mut dyn Rng) {
        if now.mono < self.membership.next_gossip && self.membership.rumors.is_empty() {
            return;
        }
        self.membership.next_gossip = now.mono + GOSSIP;
        let me = self.own.node.key;
        let mut peers: Vec<MemberKey> = self
            .view
            .current()
            .map(|member| member.node.key)
            .filter(|key| *key != me && self.health.is_up(key))
            .collect();
        let rumors: Vec<Member> = self.membership.rumors.keys().filter_map(|key| self.view.get(key)).cloned().collect();
        let wanted = match (rumors.is_empty(), peers.len() <= SMALL_RING) {
            (true, _) => 1,
            (false, true) => peers.len(),
            (false, false) => FAN_OUT,
        };
        self.membership.rumors.retain(|_, rounds| {
            *rounds -= 1;
            *rounds > 0
        });
        while peers.len() > wanted {
            peers.swap_remove(rng.random_range(0..peers.len()));
        }
        let (view_hash, map_hash) = (self.view.hash(), self.shared.map_hash);
        for peer in peers {
            let (from, rumors) = (self.own.node.clone(), rumors.clone());
            self.call(peer, Purpose::Gossip, RingRequest::Gossip { from, view_hash, rumors, map_hash });
        }
    }

    pub(crate) fn on_gossip(
        &mut self,
        _now: Now,
        _from: NodeRef,
        view_hash: u64,
        rumors: Vec<Member>,
        map_hash: u64,
    ) -> RingReply {
        // A node that waits for its join keeps no view: a ring it may never join is none of its business.
        if !self.is_in_ring() {
            return RingReply::Gossip { members: Vec::new(), map_differs: false };
        }
        for member in rumors {
            self.merge(member);
        }
        let differs = self.view.hash() != view_hash;
        let members = if differs { self.view.iter().cloned().collect() } else { Vec::new() };
        RingReply::Gossip { members, map_differs: map_hash != self.shared.map_hash }
    }

    /// Asks for the map: a restarted node knows the configurations it is in, but not who leads.
    fn look_for_map(&mut self, now: Now, rng: &mut dyn Rng) {
        let complete = self.membership.map_came && self.shared.map.len() as u32 == self.settings.shards;
        if complete || now.mono < self.membership.map_wanted_at {
            return;
        }
        self.membership.map_wanted_at = now.mono + GOSSIP;
        let me = self.own.node.key;
        let peers: Vec<MemberKey> = self
            .view
            .current()
            .map(|member| member.node.key)
            .filter(|key| *key != me && self.health.is_up(key))
            .collect();
        if !peers.is_empty() {
            let peer = peers.get(rng.random_range(0..peers.len())).copied();
            peer.into_iter().for_each(|peer| self.request_map(peer));
        }
    }

    /// The operator's or the user's wish. Idempotent.
    pub(crate) fn on_admin(&mut self, now: Now, rng: &mut dyn Rng, token: Token, request: AdminRequest) {
        let result = self.admit(&request).and_then(|()| self.carry_out(now, rng, request.action));
        self.admin_reply(token, result);
    }

    fn admit(&mut self, request: &AdminRequest) -> Result<(), AdminError> {
        let disk = self.own.node.key.disk;
        if let Some(meant) = request.disk
            && meant != disk
        {
            let text =
                format!("disk {:032x} is meant, but this is disk {:032x}; look at the node again", meant.0, disk.0);
            return Err(AdminError::Fenced(text));
        }
        if let Some(epoch) = request.operator_epoch {
            if epoch < self.operator_epoch {
                let text =
                    format!("operator epoch {epoch} is older than {}; another operator leads", self.operator_epoch);
                return Err(AdminError::Fenced(text));
            }
            if epoch > self.operator_epoch {
                self.operator_epoch = epoch;
                self.save_node();
            }
        }
        Ok(())
    }

    fn carry_out(&mut self, now: Now, rng: &mut dyn Rng, action: AdminAction) -> Result<(), AdminError> {
        let precondition = |text: &str| Err(AdminError::Precondition(text.to_owned()));
        let state = self.own.state;
        match action {
            AdminAction::Bootstrap { ring_id } => match (state, self.ring_id) {
                (MemberState::Empty, _) => {
                    self.found(now, rng, ring_id);
                    Ok(())
                }
                (_, Some(known)) if known == ring_id => Ok(()),
                (_, known) => Err(AdminError::Fenced(format!(
                    "the node is in ring {:032x} already, not in {ring_id:032x}",
                    known.unwrap_or_default()
                ))),
            },
            AdminAction::Join { seeds, ring_id } => match state {
                MemberState::Empty if seeds.is_empty() => {
                    precondition("no seeds: name at least one member to join through")
                }
                MemberState::Empty => {
                    self.with_ring(now, rng, |ring, env| ring.join(seeds, ring_id, env));
                    Ok(())
                }
                MemberState::Joining | MemberState::Serving if ring_id.is_none() || ring_id == self.ring_id => Ok(()),
                MemberState::Joining | MemberState::Serving => Err(AdminError::Fenced(format!(
                    "the node is in ring {:032x} already",
                    self.ring_id.unwrap_or_default()
                ))),
                MemberState::Leaving => precondition("the node is leaving; abort the leave or wait until it has left"),
                MemberState::Left | MemberState::Evicted => {
                    precondition("the directory of a member that left never serves again; give the node an empty one")
                }
            },
            AdminAction::Leave => match state {
                MemberState::Joining | MemberState::Serving => {
                    let me = self.own.node.key;
                    if !self.view.current().any(|member| member.node.key != me) {
                        return precondition("the last member of a ring cannot leave; its data would be lost");
                    }
                    self.set_state(MemberState::Leaving);
                    Ok(())
                }
                MemberState::Leaving | MemberState::Left => Ok(()),
                MemberState::Empty | MemberState::Evicted => precondition("the node is not a member of a ring"),
            },
            AdminAction::AbortLeave => match state {
                MemberState::Leaving => {
                    self.set_state(MemberState::Serving);
                    Ok(())
                }
                MemberState::Joining | MemberState::Serving => Ok(()),
                MemberState::Left | MemberState::Evicted | MemberState::Empty => {
                    precondition("the node has left; it can only join anew with an empty directory")
                }
            },
            AdminAction::PrepareRestart { ttl } => {
                let (shards, env) = shards!(self, now, rng);
                shards.rest(now.mono + ttl, env);
                Ok(())
            }
            AdminAction::Evict { member } => {
                if member == self.own.node.key {
                    return precondition("a node cannot evict itself; ask another member");
                }
                let Some(known) = self.view.get(&member).cloned() else {
                    return precondition("no such member is known here");
                };
                if !known.state.is_final() {
                    self.merge(Member { revision: known.revision + 1, state: MemberState::Evicted, ..known });
                }
                Ok(())
            }
        }
    }
}
