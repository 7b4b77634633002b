//! A cluster: shipped cores over simulated network, disks and clocks, driven by one queue of events.
use crate::{
    checks::Watch,
    clock::{Clock, MS, SECOND},
    disk::{Disk, MemStore},
    faults::Fault,
    net::{Net, Session},
    swarm::Options,
    trace::Trace,
    workload::{Clients, Reply},
};
use chord::{
    Core,
    id::Id,
    io::{AdminRequest, CallError, CallId, Input, Operation, Outcome, Output, Token},
    member::{Disk as DiskId, MemberKey, NodeRef},
    msg::{RingReply, RingRequest, ShardMsg},
    time::Nanos,
};
use rand::{Rng as _, RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

/// Most steps of one node at one moment: more means that time stands still.
const STEPS_MAX: u32 = 20_000;

/// Most events of a run. A usual one has 20 000.
const EVENTS_MAX: u64 = 1_000_000;

/// Something that happens to the cluster.
#[derive(Debug)]
pub enum Event {
    /// A node's deadline has come.
    Wake { node: usize, life: u64 },
    /// Messages of a session arrive.
    Deliver { from: usize, to: usize, number: u64 },
    /// A session breaks, if whatever made it silent still does.
    Silent { from: usize, to: usize, number: u64 },
    /// The sender hears that a session broke.
    Broken { from: usize, life: u64, to: usize, number: u64, refused: bool },
    /// A question arrives.
    Ask { from: usize, life: u64, call: CallId, to: usize, at: u64, request: RingRequest },
    /// A call ends.
    Done { node: usize, life: u64, call: CallId, result: Result<RingReply, CallError> },
    /// A sync has ended.
    Synced { node: usize, life: u64, upto: u64 },
    /// A client's operation arrives.
    Operate { node: usize, life: u64, client: usize, attempt: u64, operation: Operation, time: u64 },
    /// A client hears something, or has waited long enough.
    Client { client: usize, attempt: u64, reply: Reply },
    /// A client sends its operation once more.
    Again { client: usize },
    /// A client wants to do something.
    Think { client: usize },
    /// A fault begins, or ends.
    Fault(Fault),
    /// The operator looks at what it has under way.
    Operator,
}

/// Where the answer to a question goes.
struct Asker {
    node: usize,
    life: u64,
    call: CallId,
}

/// A machine with its disk, and the process on it while it runs.
pub struct Node {
    /// Who it is, as of its present disk.
    pub me: NodeRef,
    /// The process.
    pub core: Option<Core<MemStore>>,
    /// Counts processes.
    pub life: u64,
    /// The disk.
    pub disk: Rc<RefCell<Disk>>,
    /// Clocks.
    pub clock: Clock,
    rng: ChaCha8Rng,
    syncing: bool,
    wake_at: u64,
    busy: (u64, u32),
    calls: BTreeSet<CallId>,
    askers: BTreeMap<Token, Asker>,
    clients: BTreeMap<Token, (usize, u64)>,
    /// Requests of the operator that were answered.
    pub told: BTreeMap<Token, bool>,
    /// Answers to operations that a script asked.
    pub said: BTreeMap<Token, Outcome>,
    tokens: u64,
    /// The machine does not even refuse connections.
    pub dark: bool,
    /// Frozen until then.
    pub paused_until: u64,
    /// Syncs end no earlier.
    pub stalled_until: u64,
    /// Left or lost for good, by the operator's doing.
    pub removed: bool,
}

/// The cluster and everything around it.
pub struct World {
    /// What kind of run this is.
    pub options: Options,
    /// Simulated time, ns.
    pub now: u64,
    seq: u64,
    events: BTreeMap<(u64, u64), Event>,
    /// The source of all chance outside of the cores.
    pub rng: ChaCha8Rng,
    /// Machines.
    pub nodes: Vec<Node>,
    /// Links.
    pub net: Net,
    /// Clients and what they saw.
    pub clients: Clients,
    /// Invariants.
    pub watch: Watch,
    /// What happened.
    pub trace: Trace,
    /// What the operator has under way.
    pub operator: crate::faults::Operator,
    /// Events handled.
    pub steps: u64,
}

/// Identity of ring in every run.
pub const RING: u128 = 7;

impl World {
    /// Machines without processes.
    pub fn new(options: Options, rng: ChaCha8Rng, verbose: bool) -> World {
        let clients = Clients::new(&options);
        let net = Net::new(options.delay);
        let mut world = World {
            watch: Watch::default(),
            options,
            now: 0,
            seq: 0,
            events: BTreeMap::new(),
            rng,
            nodes: Vec::new(),
            net,
            clients,
            trace: Trace::new(verbose),
            operator: crate::faults::Operator::default(),
            steps: 0,
        };
        for _ in 0..world.options.nodes {
            world.add_node();
        }
        world
    }

    /// Plans an event.
    pub fn plan(&mut self, at: u64, event: Event) {
        self.seq += 1;
        self.events.insert((at.max(self.now), self.seq), event);
    }

    /// A new machine with an empty disk.
    pub fn add_node(&mut self) -> usize {
        let index = self.nodes.len();
        let me = self.identity(index);
        let skew = (self.options.skew / MS).cast_signed();
        let clock = Clock::new(if skew > 0 { self.rng.random_range(-skew..=skew) } else { 0 });
        let disk = Rc::new(RefCell::new(Disk::new(me.key)));
        self.watch.disks.insert(me.key, disk.clone());
        self.nodes.push(Node {
            me,
            core: None,
            life: 0,
            disk,
            clock,
            rng: ChaCha8Rng::seed_from_u64(0),
            syncing: false,
            wake_at: u64::MAX,
            busy: (0, 0),
            calls: BTreeSet::new(),
            askers: BTreeMap::new(),
            clients: BTreeMap::new(),
            told: BTreeMap::new(),
            said: BTreeMap::new(),
            tokens: 0,
            dark: false,
            paused_until: 0,
            stalled_until: 0,
            removed: false,
        });
        index
    }

    fn identity(&mut self, index: usize) -> NodeRef {
        let disk = DiskId((u128::from(self.rng.next_u64()) << 64) | index as u128);
        NodeRef {
            key: MemberKey { id: Id::of_ordinal(index as u32), disk },
            incarnation: 0,
            name: format!("n-{index}"),
            internal_addr: address(index),
            client_addr: format!("c-{index}:1"),
            zone: String::new(),
        }
    }

    /// The disk of a stopped node is lost; an empty one takes its place.
    pub fn wipe(&mut self, index: usize) {
        let me = self.identity(index);
        let disk = Rc::new(RefCell::new(Disk::new(me.key)));
        self.watch.disks.insert(me.key, disk.clone());
        let node = &mut self.nodes[index];
        node.disk.borrow_mut().wiped = true;
        (node.me, node.disk) = (me, disk);
    }

    /// Starts a node's process over its disk.
    pub fn start(&mut self, index: usize) {
        let seed = self.rng.next_u64();
        let node = &mut self.nodes[index];
        if node.core.is_some() || node.removed {
            return;
        }
        node.life += 1;
        node.dark = false;
        node.rng = ChaCha8Rng::seed_from_u64(seed);
        node.clock.restart(self.now);
        self.net.sessions.retain(|(from, _), _| *from != index);
        self.watch.forget(node.me.key);
        (node.syncing, node.wake_at) = (false, u64::MAX);
        let store = MemStore(node.disk.clone());
        let started = Core::start(
            node.clock.read(self.now),
            &mut node.rng,
            store,
            node.me.clone(),
            self.options.settings.clone(),
        );
        match started {
            Ok(core) => {
                // Without the rule that a disk names its member it is another key than the one that the disk was made for.
                node.me.key = core.me().key;
                self.watch.disks.insert(node.me.key, node.disk.clone());
                node.core = Some(core);
            }
            Err(why) => return self.watch.fail(format!("{} does not start: {why}", node.me.name)),
        }
        self.trace.say(self.now, || format!("n-{index} starts"));
        self.step(index, Input::Tick);
    }

    /// Ends a node's process at once. `dark`: its machine is gone too and refuses nothing.
    pub fn kill(&mut self, index: usize, dark: bool) {
        let node = &mut self.nodes[index];
        if node.core.take().is_none() {
            return;
        }
        node.life += 1;
        node.dark = dark;
        node.paused_until = 0;
        let unsynced = node.disk.borrow().unsynced();
        // A lost suffix, most often all of it.
        let kept = if unsynced > 0 && self.rng.random_bool(0.5) { self.rng.random_range(0..=unsynced) } else { 0 };
        node.disk.borrow_mut().crash(kept);
        node.calls.clear();
        node.clients.clear();
        let askers = std::mem::take(&mut node.askers);
        if unsynced > kept {
            self.trace.sometimes("crash lost unsynced batches");
        }
        if kept > 0 {
            self.trace.sometimes("crash kept a part of the unsynced batches");
        }
        self.trace.say(self.now, || format!("n-{index} dies, {unsynced} batches unsynced, {kept} of them kept"));
        for asker in askers.into_values().filter(|_| !dark) {
            let at = self.now + self.net.latency(&mut self.rng);
            let result = Err(CallError::Unreachable);
            self.plan(at, Event::Done { node: asker.node, life: asker.life, call: asker.call, result });
        }
        for (from, to) in self.net.sessions_at(index) {
            if from == index {
                // What is on the wire may still arrive, as far as it got.
                let Some(session) = self.net.sessions.get_mut(&(from, to)) else { continue };
                let arrived = self.rng.random_range(0..=session.queue.len());
                session.queue.truncate(arrived);
            } else if dark {
                self.plan_silence(from, to);
            } else {
                self.break_session(from, to);
            }
        }
    }

    /// A machine's share of a cut or a power cut: connections go silent.
    pub fn plan_silence(&mut self, from: usize, to: usize) {
        let Some(number) = self.net.sessions.get(&(from, to)).map(|session| session.number) else { return };
        let at = self.now + Net::keepalive(&mut self.rng);
        self.plan(at, Event::Silent { from, to, number });
    }

    /// Loses what is on its way, and tells the sender soon.
    pub fn break_session(&mut self, from: usize, to: usize) {
        let Some(session) = self.net.sessions.get_mut(&(from, to)).filter(|session| !session.broken) else { return };
        session.broken = true;
        session.queue.clear();
        let number = session.number;
        let refused = self.nodes[to].core.is_none() && !self.nodes[to].dark;
        let (life, at) = (self.nodes[from].life, self.now + Net::news(&mut self.rng));
        self.plan(at, Event::Broken { from, life, to, number, refused });
    }

    /// Whether a process runs.
    pub fn is_up(&self, index: usize) -> bool {
        self.nodes[index].core.is_some()
    }

    /// Runs until a time, or until something is wrong.
    pub fn run_until(&mut self, until: u64) {
        while let Some(entry) = self.events.first_entry().filter(|entry| entry.key().0 <= until) {
            let (at, seq) = *entry.key();
            let event = entry.remove();
            self.now = at;
            self.steps += 1;
            self.trace.mix(&[at, seq]);
            self.handle(event);
            if self.steps > EVENTS_MAX {
                self.watch.fail(format!("more than {EVENTS_MAX} events: somebody is busy with nothing"));
            }
            if self.watch.failure.is_some() {
                return;
            }
        }
        self.now = until;
    }

    fn is_alive(&self, index: usize, life: u64) -> bool {
        self.nodes[index].life == life && self.is_up(index)
    }

    /// Whether a node is frozen: then the event comes again when it is not.
    fn later(&mut self, index: usize, event: Event) -> Option<Event> {
        let until = self.nodes[index].paused_until;
        if until <= self.now {
            return Some(event);
        }
        self.plan(until, event);
        None
    }

    fn handle(&mut self, event: Event) {
        let concerned = match &event {
            Event::Wake { node, .. }
            | Event::Done { node, .. }
            | Event::Synced { node, .. }
            | Event::Operate { node, .. } => Some(*node),
            Event::Deliver { to, .. } | Event::Ask { to, .. } => Some(*to),
            Event::Broken { from, .. } => Some(*from),
            _ => None,
        };
        let event = match concerned {
            Some(index) => match self.later(index, event) {
                Some(event) => event,
                None => return,
            },
            None => event,
        };
        match event {
            Event::Wake { node, life } => {
                if self.is_alive(node, life) && self.nodes[node].wake_at <= self.now {
                    self.nodes[node].wake_at = u64::MAX;
                    self.step(node, Input::Tick);
                }
            }
            Event::Deliver { from, to, number } => self.deliver(from, to, number),
            Event::Silent { from, to, number } => {
                let silent = self.net.is_cut(from, to) || self.net.is_cut(to, from) || !self.is_up(to);
                if silent && self.net.sessions.get(&(from, to)).is_some_and(|session| session.number == number) {
                    self.break_session(from, to);
                }
            }
            Event::Broken { from, life, to, number, refused } => {
                let Some(session) = self.net.sessions.get(&(from, to)).filter(|session| session.number == number)
                else {
                    return;
                };
                let peer = session.to;
                self.net.sessions.remove(&(from, to));
                if self.is_alive(from, life) {
                    self.step(from, Input::PeerDown { peer, refused });
                }
            }
            Event::Ask { from, life, call, to, at, request } => {
                // A question to a process that has ended since goes unanswered.
                if at == self.nodes[to].life {
                    self.ask(from, life, call, to, request);
                }
            }
            Event::Done { node, life, call, result } => {
                if self.is_alive(node, life) && self.nodes[node].calls.remove(&call) {
                    self.step(node, Input::CallDone { call, result });
                }
            }
            Event::Synced { node, life, upto } => {
                if self.is_alive(node, life) {
                    self.nodes[node].disk.borrow_mut().sync(upto);
                    self.nodes[node].syncing = false;
                    self.step(node, Input::Persisted(upto));
                }
            }
            Event::Operate { node, life, client, attempt, operation, time } => {
                if self.is_alive(node, life) {
                    let token = self.token(node);
                    self.nodes[node].clients.insert(token, (client, attempt));
                    let deadline = self.nodes[node].clock.read(self.now).mono + Nanos(time);
                    self.step(node, Input::Client { token, operation, deadline });
                } else if !self.nodes[node].dark {
                    // Nobody listens, or whoever did is gone and with it the connection.
                    let reply = if self.is_up(node) { Reply::Timeout } else { Reply::NotSent };
                    let at = self.now + self.net.latency(&mut self.rng);
                    self.plan(at, Event::Client { client, attempt, reply });
                }
            }
            Event::Client { client, attempt, reply } => self.on_reply(client, attempt, reply),
            Event::Again { client } => self.attempt(client),
            Event::Think { client } => self.think(client),
            Event::Fault(fault) => self.on_fault(fault),
            Event::Operator => self.operate(),
        }
    }

    fn token(&mut self, index: usize) -> Token {
        let node = &mut self.nodes[index];
        node.tokens += 1;
        Token(node.tokens)
    }

    fn deliver(&mut self, from: usize, to: usize, number: u64) {
        let cut = self.net.is_cut(from, to);
        let Some(session) = self.net.sessions.get_mut(&(from, to)).filter(|session| session.number == number) else {
            return;
        };
        if session.broken || session.queue.is_empty() {
            return;
        }
        if cut {
            // The transport keeps trying until the connection is given up.
            let at = self.now + self.rng.random_range(20 * MS..=100 * MS);
            return self.plan(at, Event::Deliver { from, to, number });
        }
        let mut messages: Vec<ShardMsg> = Vec::new();
        while let Some((_, message)) = session.queue.pop_front_if(|(at, _)| *at <= self.now) {
            messages.push(message);
        }
        let (meant, next) = (session.to, session.queue.front().map(|(at, _)| *at));
        if let Some(at) = next {
            self.plan(at, Event::Deliver { from, to, number });
        }
        let node = &self.nodes[to];
        if node.core.is_none() || node.me.key != meant {
            return self.break_session(from, to);
        }
        let from = self.nodes[from].me.key;
        self.step(to, Input::Shard { from, messages });
    }

    fn ask(&mut self, from: usize, life: u64, call: CallId, to: usize, request: RingRequest) {
        if self.is_up(to) {
            let token = self.token(to);
            self.nodes[to].askers.insert(token, Asker { node: from, life, call });
            self.step(to, Input::Ring { token, request });
        } else if !self.nodes[to].dark && self.net.passes(to, from, &mut self.rng) {
            let at = self.now + self.net.latency(&mut self.rng);
            self.plan(at, Event::Done { node: from, life, call, result: Err(CallError::Refused) });
        }
    }

    /// The operator's or a user's wish; says under which token the answer will come.
    pub fn admin(&mut self, index: usize, action: chord::io::AdminAction) -> Token {
        let token = self.token(index);
        self.step(index, Input::Admin { token, request: AdminRequest { operator_epoch: None, disk: None, action } });
        token
    }

    /// A script's operation, asked of a node at once; says under which token the answer will come.
    pub fn ask_for(&mut self, index: usize, operation: Operation) -> Token {
        let token = self.token(index);
        let deadline = self.nodes[index].clock.read(self.now + 10 * SECOND).mono;
        self.step(index, Input::Client { token, operation, deadline });
        token
    }

    /// One step of a core, and what it wants done.
    pub fn step(&mut self, index: usize, input: Input) {
        let now = self.now;
        let node = &mut self.nodes[index];
        let Some(mut core) = node.core.take() else { return };
        node.busy = if node.busy.0 == now { (now, node.busy.1 + 1) } else { (now, 0) };
        if node.busy.1 > STEPS_MAX {
            self.watch.fail(format!("n-{index} takes {STEPS_MAX} steps without time passing"));
        }
        self.trace.say(now, || format!("n-{index} <- {input:?}"));
        let mut out = Vec::new();
        core.step(node.clock.read(now), &mut node.rng, input, &mut out);
        self.trace.mix(&[index as u64, out.len() as u64, core.written()]);
        let fresh = std::mem::take(&mut node.disk.borrow_mut().fresh);
        let wake_at = node.clock.when(core.next_deadline()).max(now);
        if wake_at < node.wake_at {
            node.wake_at = wake_at;
            let life = node.life;
            self.plan(wake_at, Event::Wake { node: index, life });
        }
        self.watch.on_changes(index, core.me().key, &fresh, &mut self.trace);
        self.watch.on_ring(&core);
        self.watch.on_view(&core);
        let written = core.written();
        let node = &mut self.nodes[index];
        node.core = Some(core);
        if !node.syncing && node.disk.borrow().unsynced() > 0 {
            node.syncing = true;
            let (least, most) = self.options.sync;
            let (life, stalled) = (node.life, node.stalled_until);
            let at = (now + self.rng.random_range(least..=most)).max(stalled);
            self.plan(at, Event::Synced { node: index, life, upto: written });
        }
        for output in out {
            self.trace.say(now, || format!("n-{index} -> {output:?}"));
            self.carry_out(index, output);
        }
    }

    fn carry_out(&mut self, index: usize, output: Output) {
        let life = self.nodes[index].life;
        match output {
            Output::Call { call, addr, request, timeout } => {
                self.nodes[index].calls.insert(call);
                self.plan(
                    self.now + timeout.0,
                    Event::Done { node: index, life, call, result: Err(CallError::Unreachable) },
                );
                if let Some(to) = index_of(&addr).filter(|to| *to < self.nodes.len())
                    && self.net.passes(index, to, &mut self.rng)
                {
                    let at = self.now + self.net.latency(&mut self.rng);
                    let at_life = self.nodes[to].life;
                    if self.net.loss > 0.0 && self.rng.random_bool(0.05) {
                        // The transport may try again a request whose connection broke; only one answer counts.
                        let again = at + self.net.latency(&mut self.rng);
                        self.plan(
                            again,
                            Event::Ask { from: index, life, call, to, at: at_life, request: request.clone() },
                        );
                    }
                    self.plan(at, Event::Ask { from: index, life, call, to, at: at_life, request });
                }
            }
            Output::Reply { token, reply } => {
                let Some(asker) = self.nodes[index].askers.remove(&token) else { return };
                if self.net.passes(index, asker.node, &mut self.rng) {
                    let at = self.now + self.net.latency(&mut self.rng);
                    self.plan(
                        at,
                        Event::Done { node: asker.node, life: asker.life, call: asker.call, result: Ok(reply) },
                    );
                }
            }
            Output::Shard { to, message } => self.post(index, &to, message),
            Output::Client { token, outcome } => {
                let node = &mut self.nodes[index];
                let Some((client, attempt)) = node.clients.remove(&token) else {
                    node.said.insert(token, outcome);
                    return;
                };
                let operation = self.clients.asked(client, attempt);
                self.watch.on_answer(operation, &outcome, &mut self.trace);
                if !self.net.loses(&mut self.rng) {
                    let at = self.now + self.net.latency(&mut self.rng);
                    self.plan(at, Event::Client { client, attempt, reply: Reply::Outcome(outcome) });
                }
            }
            Output::Admin { token, result } => {
                self.nodes[index].told.insert(token, result.is_ok());
            }
            Output::Event(event) => self.watch.on_event(&event, &mut self.trace),
        }
    }

    fn post(&mut self, from: usize, to: &NodeRef, message: ShardMsg) {
        let Some(index) = index_of(&to.internal_addr) else { return };
        let arrives = self.now + self.net.latency(&mut self.rng);
        let known = self.net.sessions.get(&(from, index)).filter(|session| session.to == to.key);
        if known.is_none() {
            // The first message opens it.
            let node = &self.nodes[index];
            let cut = self.net.is_cut(from, index) || self.net.is_cut(index, from);
            let (up, dark) = (node.core.is_some(), node.dark);
            let session = self.net.open(from, index, to.key);
            if cut || !up {
                session.broken = true;
                let number = session.number;
                let refused = !cut && !dark;
                let wait = if refused { Net::news(&mut self.rng) } else { SECOND };
                let life = self.nodes[from].life;
                return self.plan(self.now + wait, Event::Broken { from, life, to: index, number, refused });
            }
        }
        let Some(session) = self.net.sessions.get_mut(&(from, index)) else { return };
        if session.broken {
            return;
        }
        let number = session.number;
        if let Some(at) = Net::post(session, message, arrives) {
            self.plan(at, Event::Deliver { from, to: index, number });
        }
    }
}

fn address(index: usize) -> String {
    format!("n-{index}:1")
}

/// The machine at an address.
pub fn index_of(addr: &str) -> Option<usize> {
    addr.strip_prefix("n-")?.strip_suffix(":1")?.parse().ok()
}

/// A session is known by number alone.
impl PartialEq for Session {
    fn eq(&self, other: &Session) -> bool {
        self.number == other.number
    }
}
