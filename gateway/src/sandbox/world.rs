//! A ring of shipped cores over a simulated network, driven by one queue of events in simulated time.
//!
//! Here is what drives and connects them; [`nodes`] makes and breaks them, [`clients`] puts and gets.
mod clients;
mod nodes;

use super::{
    net::Net,
    schema::{Entry, Flight, Saying},
    store::MemStore,
    words,
};
use chord::{
    Core,
    id::Id,
    io::{AdminAction, AdminRequest, CallError, CallId, Input, Output, Token},
    member::{Disk, MemberKey, MemberState, NodeRef},
    msg::{RingReply, RingRequest, ShardMsg},
    settings::Settings,
    time::{Nanos, Now},
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

const MS: u64 = 1_000_000;
/// What a disk takes to sync.
const SYNC: u64 = 3 * MS;
/// Nodes that run at a time.
pub const NODES_MAX: usize = 64;
/// Events that wait; a ring of 64 has some thousands.
const WAITING_MAX: usize = 200_000;
/// Log entries kept until they are fetched; the newest are kept.
const LOG_MAX: usize = 200;
/// Events between two looks at the real clock.
const GLANCE: u32 = 16;

enum Event {
    Start { node: usize },
    Wake { node: usize, life: u64 },
    Ask { from: Caller, to: usize, at: u64, request: RingRequest },
    Done { caller: Caller, result: Result<RingReply, CallError> },
    Deliver { from: usize, to: usize, number: u64, message: ShardMsg },
    Broken { from: usize, life: u64, to: usize, number: u64, refused: bool },
    Synced { node: usize, life: u64, upto: u64 },
    Client { job: u64 },
}

/// Where the answer to a question goes.
#[derive(Clone, Copy)]
struct Caller {
    node: usize,
    life: u64,
    call: CallId,
}

pub struct Node {
    pub me: NodeRef,
    pub core: Option<Core<MemStore>>,
    /// It has left for good.
    pub left: bool,
    /// Counts processes.
    life: u64,
    store: MemStore,
    wake_at: u64,
    synced: u64,
    syncing: bool,
    calls: BTreeSet<CallId>,
    callers: BTreeMap<Token, Caller>,
    jobs: BTreeMap<Token, u64>,
    tokens: u64,
}

pub struct World {
    /// Simulated nanoseconds.
    pub now: u64,
    seq: u64,
    events: BTreeMap<(u64, u64), Event>,
    rng: StdRng,
    pub nodes: Vec<Node>,
    pub net: Net,
    jobs: BTreeMap<u64, clients::Job>,
    jobs_begun: u64,
    pub flights: Vec<Flight>,
    log: Vec<Entry>,
    logged: u64,
    /// Not at rest yet since it was made: time runs as fast as it may, and nothing is explained.
    pub settling: bool,
}

pub fn settings() -> Settings {
    let ms = Nanos::from_millis;
    Settings {
        shards: 64,
        successor_list_length: 4,
        stabilize_interval: ms(1000),
        fix_fingers_interval: ms(2000),
        probe_interval: ms(3000),
        suspect_after: ms(2000),
        replace_after: ms(10_000),
        ..Settings::default()
    }
}

impl World {
    /// A ring of `nodes` that are about to find together.
    pub fn new(nodes: usize, seed: u64) -> World {
        let mut world = World {
            now: 0,
            seq: 0,
            events: BTreeMap::new(),
            rng: StdRng::seed_from_u64(seed),
            nodes: Vec::new(),
            net: Net::default(),
            jobs: BTreeMap::new(),
            jobs_begun: 0,
            flights: Vec::new(),
            log: Vec::new(),
            logged: 0,
            settling: true,
        };
        for place in 0..nodes.clamp(1, NODES_MAX) {
            let node = world.make();
            world.plan(place as u64 * 300 * MS, Event::Start { node });
        }
        world
    }

    fn plan(&mut self, at: u64, event: Event) {
        self.seq += 1;
        self.events.insert((at.max(self.now), self.seq), event);
    }

    fn make(&mut self) -> usize {
        let index = self.nodes.len();
        let key = MemberKey { id: Id::of_ordinal(index as u32), disk: Disk(self.rng.random()) };
        let address = format!("n{index}:1");
        let me = NodeRef {
            key,
            incarnation: 0,
            name: format!("n{index}"),
            internal_addr: address.clone(),
            client_addr: address,
            zone: String::new(),
        };
        self.nodes.push(Node {
            me,
            core: None,
            left: false,
            life: 0,
            store: MemStore::default(),
            wake_at: u64::MAX,
            synced: 0,
            syncing: false,
            calls: BTreeSet::new(),
            callers: BTreeMap::new(),
            jobs: BTreeMap::new(),
            tokens: 0,
        });
        index
    }

    fn clock(&self) -> Now {
        Now { mono: Nanos(self.now), wall_ms: 1_700_000_000_000 + self.now / MS }
    }

    /// Lets time pass until `until`, or until `enough`, but works no longer than `budget`. Whether it got there.
    ///
    /// # Errors
    /// When there is more going on than a sandbox may hold.
    pub fn advance(
        &mut self,
        until: u64,
        budget: Duration,
        enough: impl Fn(&World) -> bool,
    ) -> Result<bool, &'static str> {
        let begun = Instant::now();
        let mut handled = 0_u32;
        while let Some(entry) = self.events.first_entry().filter(|entry| entry.key().0 <= until) {
            self.now = entry.key().0;
            let event = entry.remove();
            self.handle(event);
            handled += 1;
            if enough(self) {
                return Ok(true);
            }
            if self.events.len() > WAITING_MAX {
                return Err("too much was going on in this sandbox at once");
            }
            if handled.is_multiple_of(GLANCE) && begun.elapsed() > budget {
                return Ok(false);
            }
        }
        self.now = until.max(self.now);
        Ok(true)
    }

    /// Log entries since it was last called.
    pub fn take_log(&mut self) -> Vec<Entry> {
        std::mem::take(&mut self.log)
    }

    pub fn has_log(&self) -> bool {
        !self.log.is_empty()
    }

    /// Adds a line to the log; the oldest make room.
    pub fn say(&mut self, node: Option<usize>, to: Option<usize>, title: &str, text: String) {
        if self.settling {
            return;
        }
        self.logged += 1;
        let (number, at_ms) = (self.logged, self.now / MS);
        self.log.push(Entry { number, at_ms, node, to, title: title.into(), text });
        let forget = self.log.len().saturating_sub(LOG_MAX);
        self.log.drain(..forget);
    }

    fn name(&self, index: usize) -> &str {
        self.nodes.get(index).map_or("?", |node| &node.me.name)
    }

    fn alive(&self, index: usize, life: u64) -> bool {
        self.nodes.get(index).is_some_and(|node| node.life == life && node.core.is_some())
    }

    fn admin(&mut self, index: usize, action: AdminAction) {
        let token = self.token(index);
        self.step(index, Input::Admin { token, request: AdminRequest { operator_epoch: None, disk: None, action } });
    }

    fn token(&mut self, index: usize) -> Token {
        let node = &mut self.nodes[index];
        node.tokens += 1;
        Token(node.tokens)
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Start { node } => self.start(node),
            Event::Wake { node, life } => {
                if self.alive(node, life) && self.nodes[node].wake_at <= self.now {
                    self.nodes[node].wake_at = u64::MAX;
                    self.step(node, Input::Tick);
                }
            }
            Event::Ask { from, to, at, request } => {
                if self.alive(to, at) && !self.net.is_cut(from.node, to) {
                    let token = self.token(to);
                    self.nodes[to].callers.insert(token, from);
                    self.step(to, Input::Ring { token, request });
                }
            }
            Event::Done { caller: Caller { node, life, call }, result } => {
                if self.alive(node, life) && self.nodes[node].calls.remove(&call) {
                    self.step(node, Input::CallDone { call, result });
                }
            }
            Event::Deliver { from, to, number, message } => {
                if self.net.carries(from, to, number) && self.nodes[to].core.is_some() {
                    let from = self.nodes[from].me.key;
                    self.step(to, Input::Shard { from, messages: vec![message] });
                }
            }
            Event::Broken { from, life, to, number, refused } => {
                if let Some(peer) = self.net.end(from, to, number)
                    && self.alive(from, life)
                {
                    self.step(from, Input::PeerDown { peer, refused });
                }
            }
            Event::Synced { node, life, upto } => {
                if self.alive(node, life) {
                    (self.nodes[node].synced, self.nodes[node].syncing) = (upto, false);
                    self.step(node, Input::Persisted(upto));
                }
            }
            Event::Client { job } => self.attempt(job),
        }
    }

    fn step(&mut self, index: usize, input: Input) {
        let now = self.clock();
        let Some(node) = self.nodes.get_mut(index) else { return };
        let Some(core) = node.core.as_mut() else { return };
        let mut outputs = Vec::new();
        core.step(now, &mut self.rng, input, &mut outputs);
        let (life, written, wake_at) = (node.life, core.written(), core.next_deadline().0);
        let has_left = core.state().is_final();
        if written > node.synced && !node.syncing {
            node.syncing = true;
            self.plan(self.now + SYNC, Event::Synced { node: index, life, upto: written });
        }
        let node = &mut self.nodes[index];
        if wake_at < node.wake_at {
            node.wake_at = wake_at;
            self.plan(wake_at, Event::Wake { node: index, life });
        }
        for output in outputs {
            self.carry_out(index, output);
        }
        // What it had to say is said; a process that has left ends when its word is on disk.
        let node = &self.nodes[index];
        if has_left && node.synced >= written {
            self.fail(index);
            self.nodes[index].left = true;
        }
    }

    fn carry_out(&mut self, index: usize, output: Output) {
        match output {
            Output::Call { call, addr, request, timeout } => self.call(index, call, &addr, request, timeout),
            Output::Reply { token, reply } => {
                let Some(caller) = self.nodes[index].callers.remove(&token) else { return };
                if self.net.is_cut(index, caller.node) {
                    return;
                }
                let at = self.now + Net::latency(&mut self.rng);
                let said = words::answer(&reply, self.name(index), self.name(caller.node));
                self.fly(index, caller.node, said, at);
                self.plan(at, Event::Done { caller, result: Ok(reply) });
            }
            Output::Shard { to, message } => self.post(index, &to, message),
            Output::Client { token, outcome } => {
                if let Some(job) = self.nodes[index].jobs.remove(&token) {
                    self.answered(job, outcome);
                }
            }
            Output::Admin { result: Err(why), .. } => {
                self.say(Some(index), None, "refused", format!("{why:?}"));
            }
            Output::Admin { .. } => {}
            Output::Event(event) if event.kind == "move" => {}
            Output::Event(event) => {
                let text = format!("{}: {}", self.name(index), event.message);
                self.say(Some(index), None, event.kind, text);
            }
        }
    }

    fn call(&mut self, index: usize, call: CallId, addr: &str, request: RingRequest, timeout: Nanos) {
        let node = &mut self.nodes[index];
        node.calls.insert(call);
        let caller = Caller { node: index, life: node.life, call };
        let arrives = self.now + Net::latency(&mut self.rng);
        let Some(to) = self.nodes.iter().position(|node| node.me.internal_addr == addr) else {
            return self.plan(arrives, Event::Done { caller, result: Err(CallError::Refused) });
        };
        let said = words::question(&request, self.name(index), self.name(to)).filter(|_| self.is_news(&request));
        self.fly(index, to, said, arrives);
        if self.nodes[to].core.is_none() && !self.net.is_cut(index, to) {
            return self.plan(arrives, Event::Done { caller, result: Err(CallError::Refused) });
        }
        self.plan(self.now + timeout.0, Event::Done { caller, result: Err(CallError::Unreachable) });
        self.plan(arrives, Event::Ask { from: caller, to, at: self.nodes[to].life, request });
    }

    fn post(&mut self, from: usize, peer: &NodeRef, message: ShardMsg) {
        let Some(to) = self.nodes.iter().position(|node| node.me.key == peer.key) else { return };
        let latency = Net::latency(&mut self.rng);
        let up = self.nodes[to].core.is_some();
        let refused = !up && !self.net.is_cut(from, to);
        let (session, breaks) = self.net.session(from, to, peer.key, up);
        let (number, broken) = (session.number, session.broken);
        let arrives = Net::arrival(session, self.now, latency);
        if let Some(after) = breaks {
            let life = self.nodes[from].life;
            self.plan(self.now + after, Event::Broken { from, life, to, number, refused });
        }
        if !broken {
            let said = words::shard(&message.kind, self.name(from), self.name(to));
            self.fly(from, to, said, arrives);
            self.plan(arrives, Event::Deliver { from, to, number, message });
        }
    }

    /// Shows a message on its way, and explains it.
    fn fly(&mut self, from: usize, to: usize, said: Option<Saying>, arrives: u64) {
        if let Some(Saying { title, text }) = said.filter(|_| !self.settling) {
            self.flights.retain(|flight| flight.arrives_ms * MS as f64 > self.now as f64);
            let ms = |at: u64| at as f64 / MS as f64;
            self.flights.push(Flight { from, to, title, sent_ms: ms(self.now), arrives_ms: ms(arrives) });
            self.say(Some(from), Some(to), title, text);
        }
    }

    /// Whether every node that runs points to its true neighbours; nobody counts who is cut off from nobody.
    pub fn is_ideal(&self) -> bool {
        let mut members: Vec<&Core<MemStore>> = self.nodes.iter().filter_map(|node| node.core.as_ref()).collect();
        members.sort_by_key(|core| core.me().id());
        let count = members.len();
        members.iter().enumerate().all(|(place, core)| {
            let near = core.neighbours();
            let next = members[(place + 1) % count].me().key;
            let before = members[(place + count - 1) % count].me().key;
            count == 1
                || near.successors.first().map(|it| it.key) == Some(next)
                    && near.predecessor.map(|it| it.key) == Some(before)
        })
    }

    /// Whether nothing is left to do: the ring is ideal, all serve, and all shards are where they should be.
    pub fn is_at_rest(&self) -> bool {
        let mut running = self.nodes.iter().filter_map(|node| node.core.as_ref());
        let serves = |core: &Core<MemStore>| core.state() == MemberState::Serving && core.status().shards_pending == 0;
        self.nodes.iter().all(|node| node.left || node.core.is_some()) && running.all(serves) && self.is_ideal()
    }
}
