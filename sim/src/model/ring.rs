//! The ring's part of the shipped core: every order of questions, replies, failures and returns, within a bound.
//!
//! A question and its reply are one step where the model is `prompt` (Zave's assumption); else a reply comes late, or
//! never, and the question or the reply may be lost. Any timer fires at any moment while its node waits for nothing.
use super::host::{NEVER, identity, print, still_settings};
use chord::{
    id::{Id, between},
    io::{CallError, CallId, Output, Token},
    member::{Member, MemberState, NodeRef, View},
    msg::{Neighbours, RingReply, RingRequest},
    ring::{Genesis, Ring, RingEnv, RingNews},
    rules::Rule,
    settings::Settings,
    time::{Nanos, Now},
};
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use stateright::{Model, Property};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    hash::{Hash, Hasher},
    sync::{Arc, Mutex},
};

/// Beyond every pause of the ring.
const TICK: Nanos = Nanos::from_millis(60_000);
const GENESIS: Genesis = Genesis { ring_id: 7, shards: 1, replication_factor: 1 };

/// What is explored.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Its name.
    pub name: &'static str,
    /// What it is about.
    pub about: &'static str,
    /// Nodes.
    pub nodes: usize,
    /// Members at first, at rest.
    pub members: usize,
    /// Longest successor list.
    pub list: usize,
    /// Nodes that fail, in all.
    pub fails: u8,
    /// Nodes that start, for the first time or again, in all.
    pub starts: u8,
    /// Members that leave in good order, in all.
    pub leaves: u8,
    /// Questions or replies that are lost, in all.
    pub losses: u8,
    /// A reply comes at once; failures are known by the refusal of a connection alone.
    pub prompt: bool,
    /// Members probe. Small rings of prompt replies must hold together without.
    pub probes: bool,
    /// Nobody fails who leaves another member without a live successor (Zave's assumption): then there is one ring at
    /// every moment. Without it a ring may fall in two for a while, and repairs.
    pub one_ring: bool,
    /// The rule that the ring does without.
    pub without: Option<Rule>,
}

/// One node's part in the ring.
#[derive(Clone)]
struct Peer {
    ring: Ring,
    /// It has been in the ring.
    joined: bool,
    now: Nanos,
    calls: u64,
    /// Calls without an end.
    open: BTreeSet<CallId>,
}

impl Hash for Peer {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.ring, self.joined, self.calls, &self.open).hash(state);
    }
}

#[derive(Clone, Hash)]
enum Act {
    Tick { probe: Option<usize>, chance: u8 },
    Ask(RingRequest),
    Done(CallId, Result<RingReply, CallError>),
    Down(usize),
    Join(Vec<String>),
    Depart,
}

struct Done {
    peer: Arc<Sealed>,
    calls: Vec<(CallId, usize, RingRequest)>,
    reply: Option<RingReply>,
}

/// A peer with its fingerprint and its pointers.
struct Sealed {
    print: u64,
    pointers: Neighbours,
    peer: Peer,
}

impl Sealed {
    fn new(peer: Peer) -> Arc<Sealed> {
        Arc::new(Sealed { print: print(&peer), pointers: peer.ring.neighbours(), peer })
    }
}

/// A question on its way, or its reply.
#[derive(Clone, Hash)]
struct Question {
    to: usize,
    /// Which process there is meant, by its number of starts.
    process: u64,
    request: RingRequest,
    reply: Option<RingReply>,
}

/// All there is at one moment.
#[derive(Clone)]
pub struct State {
    peers: Vec<Option<Arc<Sealed>>>,
    /// Starts of each node.
    starts: Vec<u64>,
    /// Who was ever in the ring; its disk knows.
    joined: u32,
    /// Left in good order.
    left: u32,
    wires: BTreeMap<(usize, CallId), Question>,
    fails: u8,
    started: u8,
    leaves: u8,
    losses: u8,
}

impl Hash for State {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for peer in &self.peers {
            peer.as_ref().map(|peer| peer.print).hash(state);
        }
        (&self.starts, self.joined, self.left, &self.wires, self.fails, self.started, self.leaves, self.losses)
            .hash(state);
    }
}

impl PartialEq for State {
    fn eq(&self, other: &State) -> bool {
        print(self) == print(other)
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, peer) in self.peers.iter().enumerate() {
            let Some(peer) = peer else { continue };
            let pointers = &peer.pointers;
            let names: Vec<&str> = pointers.successors.iter().map(|node| node.name.as_str()).collect();
            let predecessor = pointers.predecessor.as_ref().map(|node| &node.name);
            writeln!(f, "n{index}: member {}, {names:?}, predecessor {predecessor:?}", pointers.member)?;
        }
        Ok(())
    }
}

/// What may happen next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// A node's timers fire; a node without a ring chooses whom to ask by the second number.
    Tick(usize, u8),
    /// Its timers fire, and it looks whether another one lies before its successor.
    Probe(usize, usize),
    /// A question arrives (and where replies are prompt, its reply).
    Arrive(usize, u64),
    /// A reply arrives.
    Reply(usize, u64),
    /// A question or its reply is lost.
    Lose(usize, u64),
    /// A node hears that another one is dead.
    Down(usize, usize),
    /// A node fails.
    Fail(usize),
    /// A node starts, for the first time or again.
    Start(usize),
    /// A member leaves in good order.
    Leave(usize),
}

/// A scenario, and all acts so far.
pub struct RingModel {
    scenario: Scenario,
    settings: Settings,
    ids: Vec<Id>,
    acts: Mutex<HashMap<u64, Arc<Done>>>,
}

impl RingModel {
    /// Explores this.
    pub fn new(scenario: Scenario) -> RingModel {
        let settings = Settings {
            stabilize_interval: Nanos::from_millis(3000),
            probe_interval: Nanos(0),
            fix_fingers_interval: NEVER,
            successor_list_length: scenario.list,
            without: scenario.without,
            ..still_settings()
        };
        let ids = (0..scenario.nodes).map(|index| identity(index, 0).id()).collect();
        RingModel { scenario, settings, ids, acts: Mutex::default() }
    }

    fn node(&self, state: &State, index: usize) -> NodeRef {
        NodeRef { incarnation: state.starts[index].max(1), ..identity(index, 0) }
    }

    /// Those of a set that ever were members, as everybody knows them.
    fn view(&self, state: &State, among: u32) -> View {
        let mut view = View::default();
        for index in (0..self.scenario.nodes).filter(|index| state.joined & among & (1 << index) != 0) {
            let gone = state.left & (1 << index) != 0;
            let state_of = if gone { MemberState::Left } else { MemberState::Serving };
            view.merge(Member { node: self.node(state, index), revision: 1, state: state_of });
        }
        view
    }

    /// Lets a node act. `detected`: the failure detector knows who is dead.
    fn act(&self, state: &mut State, index: usize, act: Act, detected: bool) -> Option<RingReply> {
        let peer = state.peers[index].clone()?;
        // Only a probe looks at members that the ring does not name, and a node that looks for its ring.
        let among = match act {
            Act::Tick { probe, .. } if !peer.pointers.successors.is_empty() => probe.map_or(0, |other| 1 << other),
            _ => u32::MAX,
        };
        let dead = (0..self.scenario.nodes).filter(|other| detected && state.peers[*other].is_none());
        let dead =
            dead.fold(if let Act::Down(other) = act { 1 << other } else { 0 }, |set, other| set | (1u32 << other));
        let key = print(&(peer.print, &act, among & state.joined, state.left, &state.starts, dead));
        let known = self.acts.lock().expect("no step panics").get(&key).cloned();
        let done = known.unwrap_or_else(|| {
            let suspects = (0..self.scenario.nodes).filter(|other| dead & (1 << other) != 0);
            let suspects = suspects.map(|other| identity(other, 0).key).collect();
            let done = Arc::new(run(&peer.peer, act, &self.view(state, among), &suspects, &self.settings));
            self.acts.lock().expect("no step panics").insert(key, done.clone());
            done
        });
        state.joined |= u32::from(done.peer.peer.joined) << index;
        state.peers[index] = Some(done.peer.clone());
        for (call, to, request) in &done.calls {
            let process = state.starts[*to];
            let question = Question { to: *to, process, request: request.clone(), reply: None };
            state.wires.insert((index, *call), question);
        }
        done.reply.clone()
    }

    fn fresh(&self, state: &mut State, index: usize) {
        state.starts[index] += 1;
        let ring = Ring::new(self.node(state, index));
        let joined = state.joined & (1 << index) != 0;
        let peer = Peer { ring, joined, now: Nanos::from_millis(1000), calls: 0, open: BTreeSet::new() };
        state.peers[index] = Some(Sealed::new(peer));
    }

    fn start(&self, state: &mut State, index: usize) {
        // All names of the service; the founder has none to ask.
        let others = (0..self.scenario.nodes).filter(|other| *other != index && state.joined > 0);
        let seeds = others.map(|other| other.to_string()).collect();
        self.fresh(state, index);
        self.act(state, index, Act::Join(seeds), false);
    }

    /// A question reaches its node; the reply is on its way then.
    fn arrive(&self, state: &mut State, at: (usize, CallId), detected: bool) {
        let Some(question) = state.wires.get(&at).cloned() else { return };
        if state.peers[question.to].is_none() {
            return self.end(state, at, Err(CallError::Refused), detected);
        }
        if question.process != state.starts[question.to] {
            return self.end(state, at, Err(CallError::Unreachable), detected);
        }
        let reply = self.act(state, question.to, Act::Ask(question.request), detected);
        match reply {
            Some(reply) => {
                if let Some(question) = state.wires.get_mut(&at) {
                    question.reply = Some(reply);
                }
            }
            None => self.end(state, at, Err(CallError::Unreachable), detected),
        }
    }

    fn end(&self, state: &mut State, at: (usize, CallId), result: Result<RingReply, CallError>, detected: bool) {
        state.wires.remove(&at);
        self.act(state, at.0, Act::Done(at.1, result), detected);
    }

    fn reply(&self, state: &mut State, at: (usize, CallId), detected: bool) {
        if let Some(reply) = state.wires.get(&at).and_then(|question| question.reply.clone()) {
            self.end(state, at, Ok(reply), detected);
        }
    }

    /// Everything on its way arrives.
    fn settle(&self, state: &mut State) {
        while let Some((at, question)) = state.wires.first_key_value() {
            let (at, replied) = (*at, question.reply.is_some());
            if replied {
                self.reply(state, at, true);
            } else {
                self.arrive(state, at, true);
            }
        }
    }

    /// Fair repair: no failure any more, dead nodes are known to be dead, and everybody's timers fire in turn.
    /// Rounds that it takes until the ring is ideal; `None`: it never is.
    pub fn repair(&self, state: &State) -> Option<usize> {
        let mut state = state.clone();
        let rounds = 4 * self.scenario.nodes + 8;
        for round in 0..rounds {
            self.settle(&mut state);
            if self.is_ideal(&state) {
                return Some(round);
            }
            for index in 0..self.scenario.nodes {
                let Some(peer) = &state.peers[index] else { continue };
                let me = self.ids[index];
                let until = peer.pointers.successors.first().map_or(me, NodeRef::id);
                let missing = |other: &usize| {
                    let id = self.ids[*other];
                    self.scenario.probes && *other != index && state.peers[*other].is_some() && between(me, id, until)
                };
                // It probes one after another.
                let missing: Vec<usize> = (0..self.scenario.nodes).filter(missing).collect();
                let probe = (!missing.is_empty()).then(|| missing[round % missing.len()]);
                self.act(&mut state, index, Act::Tick { probe, chance: round as u8 }, true);
                self.settle(&mut state);
            }
        }
        self.is_ideal(&state).then_some(rounds)
    }

    fn members(&self, state: &State) -> Vec<usize> {
        (0..self.scenario.nodes)
            .filter(|index| state.peers[*index].is_some() && state.left & (1 << index) == 0)
            .collect()
    }

    fn is_ideal(&self, state: &State) -> bool {
        let members = self.members(state);
        let count = members.len();
        let id_at = |place: usize| self.ids[members[place % count]];
        (0..count).all(|place| {
            let Some(peer) = &state.peers[members[place]] else { return false };
            let pointers = &peer.pointers;
            let length = self.scenario.list.min(count - 1);
            let successors: Vec<Id> = pointers.successors.iter().map(NodeRef::id).collect();
            let expected: Vec<Id> = (1..=length).map(|step| id_at(place + step)).collect();
            let before = (count > 1).then(|| id_at(place + count - 1));
            peer.peer.ring.is_member()
                && successors == expected
                && pointers.predecessor.as_ref().map(NodeRef::id) == before
        })
    }

    /// Whether a failure leaves a member without a live successor.
    fn strands(&self, state: &State, index: usize) -> bool {
        let live = |node: &NodeRef| {
            let other = self.ids.iter().position(|id| *id == node.id());
            other.is_some_and(|other| other != index && state.peers[other].as_ref().is_some_and(|p| p.pointers.member))
        };
        let others = state.peers.iter().flatten().map(|peer| &peer.pointers);
        let mut others = others.filter(|pointers| pointers.member && pointers.node.id() != self.ids[index]);
        others.any(|pointers| !pointers.successors.is_empty() && !pointers.successors.iter().any(live))
    }

    /// Lists in order, without repetitions and without the node itself, none too long.
    fn is_well_formed(&self, state: &State) -> bool {
        state.peers.iter().flatten().all(|peer| {
            let pointers = &peer.pointers;
            let me = pointers.node.id();
            let ids: Vec<Id> = pointers.successors.iter().map(NodeRef::id).collect();
            ids.windows(2).all(|pair| between(me, pair[0], pair[1]))
                && ids.iter().all(|id| *id != me)
                && ids.len() <= self.scenario.list
                && pointers.predecessor.as_ref().is_none_or(|node| node.id() != me)
        })
    }

    /// Nothing fails or is lost: there are joins alone.
    fn is_undisturbed(&self) -> bool {
        let Scenario { fails, leaves, losses, .. } = self.scenario;
        fails + leaves + losses == 0
    }

    /// Every member meets every other one on its way along the circle.
    fn is_whole(&self, state: &State) -> bool {
        let count = self.members(state).len();
        let mut members = state.peers.iter().flatten().map(|peer| &peer.peer.ring).filter(|ring| ring.is_member());
        let all: BTreeSet<Id> = members.clone().map(|ring| ring.neighbours().node.id()).collect();
        members.all(|ring| {
            let me = ring.neighbours().node.id();
            let mut met = BTreeSet::from([me]);
            let mut at = self.ids.iter().position(|id| *id == me);
            for _ in 0..count {
                at = at.and_then(|index| self.next_live(state, index));
                met.extend(at.map(|index| self.ids[index]));
            }
            all.is_subset(&met)
        })
    }

    /// With nothing on its way any more, nobody follows a node that has left.
    fn is_left_alone(&self, state: &State) -> bool {
        let followed = state.peers.iter().flatten().filter(|peer| peer.pointers.member);
        let mut followed = followed.filter_map(|peer| peer.pointers.successors.first());
        let has_left = |node: &NodeRef| {
            let index = self.ids.iter().position(|id| *id == node.id());
            index.is_some_and(|index| state.left & (1 << index) != 0)
        };
        !state.wires.is_empty() || !followed.any(has_left)
    }

    /// Whom a member follows; itself, when it is alone.
    fn next_live(&self, state: &State, index: usize) -> Option<usize> {
        let pointers = &state.peers[index].as_ref()?.pointers;
        if !pointers.member {
            return None;
        }
        let live = |node: &NodeRef| {
            let index = self.ids.iter().position(|id| *id == node.id())?;
            let peer = state.peers[index].as_ref()?;
            peer.pointers.member.then_some(index)
        };
        if pointers.successors.is_empty() { Some(index) } else { pointers.successors.iter().find_map(live) }
    }

    /// Members that follow their first live successors come round on at most one circle.
    fn is_one_ring(&self, state: &State) -> bool {
        let mut circles: BTreeSet<usize> = BTreeSet::new();
        for start in self.members(state) {
            let mut at = start;
            let mut seen = Vec::new();
            while !seen.contains(&at) {
                seen.push(at);
                let Some(following) = self.next_live(state, at) else { break };
                at = following;
                if at == start {
                    circles.insert(*seen.iter().min().unwrap_or(&start));
                }
            }
        }
        circles.len() <= 1
    }
}

/// One act of the shipped ring.
fn run(peer: &Peer, act: Act, view: &View, suspects: &BTreeSet<chord::member::MemberKey>, settings: &Settings) -> Done {
    let mut peer = peer.clone();
    if peer.open.is_empty() {
        peer.calls = 0;
    }
    let chance = if let Act::Tick { chance, .. } = act { u64::from(chance) } else { 0 };
    if let Act::Tick { .. } = act {
        peer.now = peer.now + TICK;
    }
    let mut out = Vec::new();
    let mut env = RingEnv {
        now: Now { mono: peer.now, wall_ms: 0 },
        rng: &mut ChaCha8Rng::seed_from_u64(chance),
        view,
        suspects,
        settings,
        genesis: peer.joined.then_some(GENESIS),
        calls: &mut peer.calls,
        out: &mut out,
    };
    match act {
        Act::Tick { .. } => peer.ring.tick(&mut env),
        Act::Ask(request) => peer.ring.on_request(Token(0), request, &mut env),
        Act::Done(call, result) => {
            peer.open.remove(&call);
            peer.ring.on_call_done(call, result, &mut env);
        }
        Act::Down(other) => peer.ring.on_peer_down(&identity(other, 0).key, &mut env),
        Act::Join(seeds) if seeds.is_empty() && !peer.joined => {
            peer.joined = true;
            peer.ring.found(&mut env);
        }
        Act::Join(_) if peer.joined => peer.ring.rejoin(&mut env),
        Act::Join(seeds) => peer.ring.join(seeds, None, &mut env),
        Act::Depart => peer.ring.depart(&mut env),
    }
    let joined = |news: RingNews| matches!(news, RingNews::Joined { .. });
    peer.joined |= peer.ring.take_news().into_iter().any(joined);
    let (mut calls, mut reply) = (Vec::new(), None);
    for output in out {
        match output {
            Output::Call { call, addr, request, .. } => {
                peer.open.insert(call);
                calls.push((call, addr.parse().expect("addresses are numbers here"), request));
            }
            Output::Reply { reply: said, .. } => reply = Some(said),
            _ => {}
        }
    }
    Done { peer: Sealed::new(peer), calls, reply }
}

impl Model for RingModel {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let nodes = self.scenario.nodes;
        let mut state = State {
            peers: vec![None; nodes],
            starts: vec![0; nodes],
            joined: 0,
            left: 0,
            wires: BTreeMap::new(),
            fails: 0,
            started: 0,
            leaves: 0,
            losses: 0,
        };
        for index in 0..self.scenario.members {
            self.start(&mut state, index);
            for round in 0..4 * nodes {
                self.settle(&mut state);
                for index in 0..=index {
                    self.act(&mut state, index, Act::Tick { probe: None, chance: round as u8 }, true);
                    self.settle(&mut state);
                }
            }
        }
        vec![state]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        let scenario = &self.scenario;
        for (at, question) in &state.wires {
            let (from, call) = (at.0, at.1.0);
            actions.push(if question.reply.is_some() { Action::Reply(from, call) } else { Action::Arrive(from, call) });
            if state.losses < scenario.losses {
                actions.push(Action::Lose(from, call));
            }
        }
        for index in 0..scenario.nodes {
            let Some(sealed) = &state.peers[index] else {
                if state.started < scenario.starts && state.left & (1 << index) == 0 {
                    actions.push(Action::Start(index));
                }
                continue;
            };
            // The last one that was ever in the ring takes the ring with it.
            let others: Vec<usize> = self.members(state).into_iter().filter(|other| *other != index).collect();
            let joined = |other: usize| state.joined & (1 << other) != 0;
            let spare = others.into_iter().any(joined);
            if state.fails < scenario.fails && spare && !(scenario.one_ring && self.strands(state, index)) {
                actions.push(Action::Fail(index));
            }
            let pointers = &sealed.pointers;
            if pointers.member && state.leaves < scenario.leaves && spare {
                actions.push(Action::Leave(index));
            }
            if !sealed.peer.open.is_empty() || state.left & (1 << index) != 0 {
                continue;
            }
            actions.push(Action::Tick(index, 0));
            if !pointers.member {
                actions.push(Action::Tick(index, 1));
                continue;
            }
            let me = pointers.node.id();
            let first = pointers.successors.first();
            let until = first.map_or(me, NodeRef::id);
            for other in (0..scenario.nodes).filter(|other| *other != index) {
                if scenario.probes && state.joined & (1 << other) != 0 && between(me, self.ids[other], until) {
                    actions.push(Action::Probe(index, other));
                }
            }
            if let Some(first) = first
                && let Ok(other) = first.internal_addr.parse::<usize>()
                && state.peers[other].is_none()
            {
                actions.push(Action::Down(index, other));
            }
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        let state = &mut next;
        match action {
            Action::Tick(index, chance) => {
                self.act(state, index, Act::Tick { probe: None, chance }, false);
            }
            Action::Probe(index, other) => {
                self.act(state, index, Act::Tick { probe: Some(other), chance: 0 }, false);
            }
            Action::Arrive(from, call) => {
                let at = (from, CallId(call));
                self.arrive(state, at, false);
                if self.scenario.prompt {
                    self.reply(state, at, false);
                }
            }
            Action::Reply(from, call) => self.reply(state, (from, CallId(call)), false),
            Action::Lose(from, call) => {
                state.losses += 1;
                self.end(state, (from, CallId(call)), Err(CallError::Unreachable), false);
            }
            Action::Down(index, other) => {
                self.act(state, index, Act::Down(other), false);
            }
            Action::Fail(index) => {
                state.fails += 1;
                state.peers[index] = None;
                // Its questions have nobody to come back to; its replies may still come.
                state.wires.retain(|(from, _), _| *from != index);
            }
            Action::Start(index) => {
                state.started += 1;
                self.start(state, index);
            }
            Action::Leave(index) => {
                state.leaves += 1;
                state.left |= 1 << index;
                self.act(state, index, Act::Depart, false);
            }
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<RingModel>> {
        let mut properties = vec![
            Property::always("lists are in order", |model: &RingModel, state: &State| model.is_well_formed(state)),
            Property::always("repairs to one ideal ring", |model: &RingModel, state: &State| {
                model.repair(state).is_some()
            }),
            Property::sometimes("all nodes are in an ideal ring", |model: &RingModel, state: &State| {
                model.members(state).len() == model.scenario.nodes && model.is_ideal(state)
            }),
        ];
        if self.is_undisturbed() && self.scenario.prompt {
            properties.push(Property::always("members are on the circle", |model: &RingModel, state: &State| {
                model.is_whole(state)
            }));
        }
        let Scenario { fails, starts, leaves, losses, .. } = self.scenario;
        if leaves > 0 && fails + starts + losses == 0 {
            properties.push(Property::always("who has left is left alone", |model: &RingModel, state: &State| {
                model.is_left_alone(state)
            }));
        }
        if self.scenario.one_ring {
            properties.push(Property::always("one ring", |model: &RingModel, state: &State| model.is_one_ring(state)));
        }
        properties
    }
}
