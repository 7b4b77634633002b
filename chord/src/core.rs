//! `Core`: the one state machine that the shell, the simulator and the models drive.
use crate::{
    health::Health,
    id::Id,
    io::{AdminError, CallError, CallId, Event, Input, Operation, Outcome, Output, Token},
    member::{Disk, Member, MemberKey, MemberState, NodeRef, View},
    msg::{MapEntry, Neighbours, RingReply, RingRequest, ShardKind, ShardMsg},
    outbox::{Out, Outbox},
    ring::{Genesis, Ring, RingEnv, RingNews},
    rules::Rule,
    settings::Settings,
    shard::{
        Shards,
        config::{Ballot, ShardId},
        env::{Shared, message},
    },
    store::{Change, NodeMeta, Seq, Store},
    time::{Nanos, Now},
};
use rand::Rng;
use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{Hash, Hasher},
};

/// A node: ring, membership and shards.
///
/// # The caller's duties, in order
/// 1. Build it with [`Core::start`] from the store of the node's data directory.
/// 2. For each input, and whenever [`Core::next_deadline`] has come, call [`Core::step`] and carry out
///    the outputs in order.
/// 3. Whenever [`Core::written`] is ahead of what is durable, sync the store in the background and
///    report how far it got with [`Input::Persisted`]. One sync for many steps is the point of it.
/// 4. Answer each [`Output::Call`] with exactly one [`Input::CallDone`].
///
/// A failed sync must end the process: retrying it could call lost data durable.
#[derive(Clone, Hash)]
pub struct Core<S: Store> {
    pub(crate) store: S,
    pub(crate) settings: Settings,
    /// This node's own entry of the view.
    pub(crate) own: Member,
    pub(crate) ring_id: Option<u128>,
    pub(crate) operator_epoch: u64,
    pub(crate) view: View,
    pub(crate) health: Health,
    pub(crate) suspects: BTreeSet<MemberKey>,
    pub(crate) ring: Ring,
    pub(crate) shards: Shards,
    pub(crate) shared: Shared,
    pub(crate) outbox: Outbox,
    pub(crate) calls: u64,
    pub(crate) disk_full: bool,
    pub(crate) membership: crate::membership::Membership,
}

/// What a node is and holds, for the operator's evidence and for people.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Status {
    /// Shards in whose configuration this node is.
    pub shards_held: u32,
    /// Shards this node leads.
    pub shards_led: u32,
    /// Led shards with fewer reachable members than the replication factor (or the ring's size, if smaller).
    pub shards_under_replicated: u32,
    /// Led shards whose configuration is not the desired one yet.
    pub shards_pending: u32,
    /// Led shards that are being moved now.
    pub shards_moving: u32,
    /// Held shards without a known live leader.
    pub shards_unavailable: u32,
    /// Shards whose records this node still keeps as an ex-member.
    pub shards_retiring: u32,
    /// Live keys of led shards.
    pub keys_led: u64,
    /// Live keys of all held shards.
    pub keys_held: u64,
    /// Bytes of led shards.
    pub bytes_led: u64,
    /// Bytes of all held shards.
    pub bytes_held: u64,
    /// Why a leave does not go on; empty when it does.
    pub leave_blocked: String,
    /// Counters since the start of the process.
    pub counters: Counters,
}

/// Counters since the start of the process.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Reads answered.
    pub gets: u64,
    /// Writes and compare-and-sets acknowledged.
    pub puts: u64,
    /// Deletes acknowledged.
    pub deletes: u64,
    /// Lookups finished here.
    pub lookups: u64,
    /// Sum of their hops, contacts including the owner.
    pub lookup_hops: u64,
    /// Stabilization rounds.
    pub stabilize_rounds: u64,
    /// Records sent in moves.
    pub keys_sent: u64,
    /// Records received in moves.
    pub keys_received: u64,
    /// Elections won.
    pub elections: u64,
    /// Records re-committed or pushed by repair.
    pub repaired: u64,
    /// Expired keys turned into tombstones.
    pub expired: u64,
}

/// Statistics are no part of what a node does next: two nodes that differ in them alone are the same to the models.
impl Hash for Counters {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

/// The shards and, beside them, what they need of the node: two borrows of one `Core`.
macro_rules! shards {
    ($core:ident, $now:expr, $rng:expr) => {
        (
            &mut $core.shards,
            &mut $crate::shard::env::Env {
                now: $now,
                rng: &mut *$rng,
                store: &mut $core.store,
                view: &$core.view,
                me: $core.own.node.key,
                health: &$core.health,
                settings: &$core.settings,
                outbox: &mut $core.outbox,
                shared: &mut $core.shared,
                disk_full: $core.disk_full,
            },
        )
    };
}
pub(crate) use shards;

impl<S: Store> Core<S> {
    /// Wakes a node over its store. `me.incarnation` is ignored: it becomes the stored one plus one,
    /// durable before anything is sent.
    ///
    /// # Errors
    /// A sentence for people when the settings are out of bounds or the directory belongs to another node.
    pub fn start(
        now: Now,
        rng: &mut dyn Rng,
        store: S,
        mut me: NodeRef,
        settings: Settings,
    ) -> Result<Core<S>, String> {
        settings.validate()?;
        if !settings.holds(Rule::DiskNamesMember) {
            me.key.disk = Disk::default();
        }
        let kept = store.node();
        if let Some(kept) = &kept
            && (kept.me().key != me.key || kept.me().name != me.name)
        {
            return Err(format!(
                "the data directory belongs to node {} (id {}), not to {} (id {}); give this node its own directory",
                kept.me().name,
                kept.me().id(),
                me.name,
                me.id()
            ));
        }
        let mut own = Member { node: me, revision: 0, state: MemberState::Empty };
        let mut core_settings = settings;
        let (mut ring_id, mut operator_epoch, mut view) = (None, 0, View::default());
        own.node.incarnation = 1;
        if let Some(kept) = kept {
            own.node.incarnation = kept.me().incarnation + 1;
            own.revision = kept.node.revision;
            own.state = kept.node.state;
            ring_id = kept.ring_id;
            operator_epoch = kept.operator_epoch;
            if ring_id.is_some() {
                core_settings.shards = kept.shards;
                core_settings.replication_factor = kept.replication_factor;
            }
            for member in kept.members {
                view.merge(member);
            }
        }
        let mut core = Core {
            store,
            settings: core_settings,
            ring: Ring::new(own.node.clone()),
            own,
            ring_id,
            operator_epoch,
            view,
            health: Health::default(),
            suspects: BTreeSet::new(),
            shards: Shards::default(),
            shared: Shared::default(),
            outbox: Outbox::default(),
            calls: 0,
            disk_full: false,
            membership: Default::default(),
        };
        if core.own.state != MemberState::Empty {
            core.view.merge(core.own.clone());
        }
        core.save_node();
        core.outbox.hold_until_written();
        if core.is_in_ring() {
            let (_, env) = shards!(core, now, rng);
            core.shards = Shards::load(env);
            core.membership.placement_due = true;
            core.with_ring(now, rng, |ring, env| ring.rejoin(env));
        }
        Ok(core)
    }

    /// Handles one input. Never blocks, never fails; work per call is bounded.
    pub fn step(&mut self, now: Now, rng: &mut dyn Rng, input: Input, out: &mut Vec<Output>) {
        match input {
            Input::Tick => {}
            Input::Ring { token, request } => self.on_ring_request(now, rng, token, request),
            Input::CallDone { call, result } => self.on_call_done(now, rng, call, result),
            Input::Shard { from, messages } => {
                // Questions show that its messages come through; whether this node's do, its answers show.
                if messages.iter().any(|msg| msg.kind.is_answer()) {
                    self.on_heard(now, rng, from);
                }
                if self.is_in_ring() {
                    let whole = self.settings.shards as usize;
                    let is_whole_map = |msg: &ShardMsg| matches!(&msg.kind, ShardKind::MapUpdate { entries } if entries.len() == whole);
                    self.membership.map_came |= messages.iter().any(is_whole_map);
                    let (shards, env) = shards!(self, now, rng);
                    for msg in messages {
                        shards.on_message(from, msg, env);
                    }
                }
            }
            Input::PeerDown { peer, refused } => self.on_peer_down(now, rng, peer, refused),
            Input::Client { token, operation, deadline } => self.on_client(now, rng, token, operation, deadline),
            // Nobody waits any more; the answer goes nowhere and its slot is free when it ends.
            Input::Abandon(_) => {}
            Input::Admin { token, request } => self.on_admin(now, rng, token, request),
            Input::Persisted(seq) => self.outbox.on_persisted(seq),
            Input::DiskFull(full) => self.disk_full = full,
        }
        self.look_after(now, rng);
        self.deliver(now, rng, out);
    }

    /// Hands the outputs out, and the messages to itself in.
    fn deliver(&mut self, now: Now, rng: &mut dyn Rng, out: &mut Vec<Output>) {
        while let Some(next) = self.outbox.pop() {
            match next {
                Out::Shell(output) => out.push(output),
                Out::Local(msg) => {
                    let me = self.own.node.key;
                    let (shards, env) = shards!(self, now, rng);
                    shards.on_message(me, msg, env);
                }
            }
        }
    }

    fn on_client(&mut self, now: Now, rng: &mut dyn Rng, token: Token, operation: Operation, deadline: Nanos) {
        if !self.is_in_ring() {
            let outcome = Outcome::Unavailable(match self.own.state {
                MemberState::Left | MemberState::Evicted => "this node has left the ring; ask another one",
                _ => "this node is not a member of a ring yet; ask again, or another one",
            });
            return self.outbox.push(Out::Shell(Output::Client { token, outcome }));
        }
        match operation {
            Operation::Lookup { target } => self.with_ring(now, rng, |ring, env| ring.lookup(token, target, env)),
            operation => {
                let (shards, env) = shards!(self, now, rng);
                shards.on_operation(token, operation, deadline, env);
            }
        }
    }

    fn on_ring_request(&mut self, now: Now, rng: &mut dyn Rng, token: Token, request: RingRequest) {
        match request {
            RingRequest::Gossip { from, view_hash, rumors, map_hash } => {
                let reply = self.on_gossip(now, from, view_hash, rumors, map_hash);
                self.outbox.push(Out::Shell(Output::Reply { token, reply }));
            }
            request => self.with_ring(now, rng, |ring, env| ring.on_request(token, request, env)),
        }
    }

    fn on_call_done(&mut self, now: Now, rng: &mut dyn Rng, call: CallId, result: Result<RingReply, CallError>) {
        if !self.on_membership_call_done(now, rng, call, &result) {
            self.with_ring(now, rng, |ring, env| {
                ring.on_call_done(call, result, env);
            });
        }
    }

    /// Lets the ring do something, then takes in what is new there.
    pub(crate) fn with_ring(&mut self, now: Now, rng: &mut dyn Rng, act: impl FnOnce(&mut Ring, &mut RingEnv)) {
        let genesis = self.ring_id.map(|ring_id| Genesis {
            ring_id,
            shards: self.settings.shards,
            replication_factor: self.settings.replication_factor,
        });
        let mut out = Vec::new();
        let mut env = RingEnv {
            now,
            rng,
            view: &self.view,
            suspects: &self.suspects,
            settings: &self.settings,
            genesis,
            calls: &mut self.calls,
            out: &mut out,
        };
        act(&mut self.ring, &mut env);
        for output in out {
            self.outbox.push(Out::Shell(output));
        }
        for news in self.ring.take_news() {
            self.on_ring_news(now, news);
        }
    }

    fn on_ring_news(&mut self, now: Now, news: RingNews) {
        match news {
            RingNews::Joined { genesis, members } => self.on_joined(now, genesis, members),
            RingNews::JoinRefused(why) => self.tell("join-refused", None, why),
            RingNews::Successor(node) => {
                let text =
                    node.as_ref().map_or("has no successor".into(), |node| format!("successor is {}", node.name));
                self.tell("successor", node, text);
            }
            RingNews::Predecessor(node) => {
                let text =
                    node.as_ref().map_or("has no predecessor".into(), |node| format!("predecessor is {}", node.name));
                self.tell("predecessor", node, text);
            }
            RingNews::Rejoining => self.tell("rejoin", None, "lost all successors; rejoining".into()),
            RingNews::LookupDone { hops } => {
                self.shared.counters.lookups += 1;
                self.shared.counters.lookup_hops += u64::from(hops);
            }
            RingNews::Stabilized => self.shared.counters.stabilize_rounds += 1,
        }
    }

    /// Founds a ring.
    pub(crate) fn found(&mut self, now: Now, rng: &mut dyn Rng, ring_id: u128) {
        self.ring_id = Some(ring_id);
        self.own.state = MemberState::Serving;
        self.own.revision += 1;
        self.view.merge(self.own.clone());
        self.save_node();
        self.outbox.hold_until_written();
        let (shards, env) = shards!(self, now, rng);
        shards.found(env);
        self.membership.placement_due = true;
        self.with_ring(now, rng, |ring, env| ring.found(env));
        self.membership.map_came = true;
        self.tell("join", Some(self.own.node.clone()), "founded the ring".into());
    }

    fn on_joined(&mut self, now: Now, genesis: Genesis, members: Vec<Member>) {
        for member in members {
            self.merge(member);
        }
        if self.own.state != MemberState::Empty {
            return;
        }
        self.ring_id = Some(genesis.ring_id);
        self.settings.shards = genesis.shards;
        self.settings.replication_factor = genesis.replication_factor;
        self.set_state(MemberState::Joining);
        self.tell("join", Some(self.own.node.clone()), "joined the ring; its shards are on their way".into());
        self.membership.map_wanted_at = now.mono;
    }

    /// Asks a peer for everything it knows about who holds what.
    pub(crate) fn request_map(&mut self, from: MemberKey) {
        if let Some(member) = self.view.get(&from) {
            let kind = ShardKind::MapRequest { shards: Vec::new() };
            let message = message(ShardId(0), 0, Ballot::ZERO, kind);
            self.outbox.push(Out::Shell(Output::Shard { to: member.node.clone(), message }));
        }
    }

    pub(crate) fn tell(&mut self, kind: &'static str, subject: Option<NodeRef>, message: String) {
        self.outbox.push(Out::Shell(Output::Event(Event { kind, subject, shard: None, message })));
    }

    pub(crate) fn admin_reply(&mut self, token: Token, result: Result<(), AdminError>) {
        self.outbox.push_durable(Out::Shell(Output::Admin { token, result }));
    }

    /// Writes down what the node knows of itself.
    pub(crate) fn save_node(&mut self) {
        let meta = NodeMeta {
            node: self.own.clone(),
            ring_id: self.ring_id,
            shards: self.settings.shards,
            replication_factor: self.settings.replication_factor,
            operator_epoch: self.operator_epoch,
            members: self.view.iter().cloned().collect(),
        };
        let seq = self.store.write(vec![Change::Node(meta)]);
        self.outbox.on_written(seq);
    }

    /// Whether it is part of a ring, with or without data duty.
    pub(crate) fn is_in_ring(&self) -> bool {
        self.ring_id.is_some() && !self.own.state.is_final() && self.own.state != MemberState::Empty
    }

    /// When to call [`Core::step`] with [`Input::Tick`] at the latest.
    pub fn next_deadline(&self) -> Nanos {
        if !self.is_in_ring() {
            return self.ring.next_deadline();
        }
        let shards = self.shards.next_deadline(&self.shared);
        self.ring.next_deadline().min(shards).min(self.membership.next_look)
    }

    /// Number of the last batch written to the store.
    pub fn written(&self) -> Seq {
        self.outbox.written()
    }

    /// The node itself, with its present incarnation.
    pub fn me(&self) -> &NodeRef {
        &self.own.node
    }

    /// Where it stands in its life.
    pub fn state(&self) -> MemberState {
        self.own.state
    }

    /// Identity of its ring, once it is in one.
    pub fn ring_id(&self) -> Option<u128> {
        self.ring_id
    }

    /// All members it knows.
    pub fn view(&self) -> &View {
        &self.view
    }

    /// Whether its failure detector holds a member for alive.
    pub fn is_reachable(&self, node: &NodeRef) -> bool {
        node.key == self.own.node.key || self.health.is_up(&node.key)
    }

    /// Its ring pointers.
    pub fn neighbours(&self) -> Neighbours {
        self.ring.neighbours()
    }

    /// Finger table: (index, start, node), sorted by index.
    pub fn fingers(&self) -> Vec<(u32, Id, NodeRef)> {
        self.ring.fingers()
    }

    /// Who holds each shard, as far as it knows, sorted by shard.
    pub fn shard_map(&self) -> Vec<MapEntry> {
        self.shared.map.values().cloned().collect()
    }

    /// What it is and holds.
    pub fn status(&self) -> Status {
        let me = self.own.node.key;
        let up = |member: &MemberKey| *member == me || self.health.is_up(member);
        let wanted = self.settings.replication_factor;
        let mut status = self.shards.status(&self.store, &me, &self.view, up, &self.shared, wanted);
        if self.own.state == MemberState::Leaving {
            status.leave_blocked = self.leave_blocked();
        }
        status
    }

    fn leave_blocked(&self) -> String {
        let eligible = || self.view.iter().filter(|member| member.state.is_eligible());
        if eligible().next().is_none() {
            return "every other member is leaving too: nobody can take the data; it stays on this disk".into();
        }
        let down: Vec<&str> = eligible()
            .filter(|member| !self.health.is_up(&member.node.key))
            .map(|member| member.node.name.as_str())
            .collect();
        if down.is_empty() {
            String::new()
        } else {
            format!("cannot reach {}; bring it back or evict it", down.join(", "))
        }
    }

    /// Its settings, with number of shards and replication factor as fixed at genesis.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Its store.
    pub fn store(&self) -> &S {
        &self.store
    }
}

/// Calls to peers that are about membership, and what they are for.
pub(crate) type MembershipCalls = BTreeMap<CallId, (MemberKey, crate::membership::Purpose)>;
