//! Shipped ring state machines over simulated time and a network: nodes join, leave and die, and repair what that
//! breaks by nothing but what they send each other.
use super::circle::{Around, GENESIS, key, member, node_ref, number_of};
use chord::{
    id::{Id, successor},
    io::{CallError, CallId, Outcome, Output, Token},
    member::{Member, MemberState, NodeRef},
    msg::{RingReply, RingRequest},
    ring::{Genesis, Ring, RingEnv, RingNews},
    settings::Settings,
    time::Nanos,
};
use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, VecDeque},
};

/// Least and most time of a message, ns.
type Delay = (u64, u64);
/// 50 ms on average.
const DELAY: Delay = (10_000_000, 90_000_000);
/// One second, ns.
pub const SECOND: u64 = 1_000_000_000;
/// Time after which a user tries again, ns, and how often.
const AGAIN: (u64, u32) = (SECOND, 5);

enum Event {
    Wake(usize),
    Ask { from: usize, call: CallId, to: usize, request: RingRequest },
    Done { node: usize, call: CallId, reply: RingReply },
    Again(usize),
}

struct Node {
    me: NodeRef,
    /// `None` once it is dead or has left.
    ring: Option<Ring>,
    genesis: Option<Genesis>,
    wakes_at: u64,
    /// Whether it counts as a member.
    counted: bool,
}

/// A user's lookup.
pub struct Lookup {
    target: Id,
    from: usize,
    /// Who owned the target when it began.
    owner: Id,
    /// When it began, and how long it took, ns.
    began: u64,
    pub took: u64,
    attempts: u32,
    /// Contacts of the first attempt that did not answer.
    pub silences: u32,
    /// Contacts of the last attempt, the owner among them.
    pub contacts: u32,
    /// Whether the first attempt found no owner, or a wrong one.
    pub failed_at_first: bool,
    /// Whether the owner that was found is the right one; `None`: it found none (yet).
    pub right: Option<bool>,
    /// Over, one way or the other, and the node where it began lives.
    pub over: bool,
}

/// A call's end unless it is answered before: when, whose, which, and for which lookup.
type Patience = (u64, usize, CallId, Option<usize>);

/// All nodes and what is on its way.
pub struct Network {
    around: Around,
    nodes: Vec<Node>,
    /// Members by place on the circle: what every lookup should find.
    members: BTreeMap<Id, usize>,
    /// Time, order, and place of the event in the slab.
    heap: BinaryHeap<Reverse<(u64, u64, usize)>>,
    slab: Vec<Option<Event>>,
    free: Vec<usize>,
    /// In order of time, as all calls have the same patience.
    patience: VecDeque<Patience>,
    seq: u64,
    now: u64,
    delay: Delay,
    run: u64,
    /// All there ever were.
    pub lookups: Vec<Lookup>,
    by_target: BTreeMap<Id, usize>,
    /// Steps of ring state machines.
    pub events: u64,
    out: Vec<Output>,
}

impl Network {
    /// An ideal ring of `count` members at hashed ids; `list` entries per successor list, `round` between
    /// stabilizations.
    pub fn new(count: usize, list: usize, round: u64, mut rng: ChaCha8Rng) -> Network {
        let run: u64 = rng.random();
        let ids = (0..count).map(|number| name(run, number)).collect();
        Network::of(ids, run, list, round, rng)
    }

    /// An ideal ring at these ids; later nodes get hashed ones of this run.
    fn of(mut ids: Vec<Id>, run: u64, list: usize, round: u64, rng: ChaCha8Rng) -> Network {
        let settings = Settings {
            successor_list_length: list,
            stabilize_interval: Nanos(round),
            fix_fingers_interval: Nanos(round),
            probe_interval: Nanos(2 * round),
            ..Settings::default()
        };
        ids.sort_unstable();
        let refs: Vec<NodeRef> = ids.iter().enumerate().map(|(number, id)| node_ref(number, *id)).collect();
        let mut around = Around::new(settings, rng);
        let rings = around.ideal(&refs);
        let mut network = Network {
            around,
            nodes: Vec::new(),
            members: BTreeMap::new(),
            heap: BinaryHeap::new(),
            slab: Vec::new(),
            free: Vec::new(),
            patience: VecDeque::new(),
            seq: 0,
            now: 0,
            delay: DELAY,
            run,
            lookups: Vec::new(),
            by_target: BTreeMap::new(),
            events: 0,
            out: Vec::new(),
        };
        for (me, ring) in refs.into_iter().zip(rings) {
            let number = network.add(me, ring, Some(GENESIS));
            // Everybody at its own time.
            let at = network.around.rng.random_range(0..round);
            network.plan(at, Event::Wake(number));
        }
        network
    }

    /// The same, with other times of messages.
    pub fn delayed(self, delay: Delay) -> Network {
        Network { delay, ..self }
    }

    fn add(&mut self, me: NodeRef, ring: Ring, genesis: Option<Genesis>) -> usize {
        let counted = ring.answers_lookups();
        if counted {
            self.members.insert(me.id(), self.nodes.len());
        }
        self.nodes.push(Node { me, ring: Some(ring), genesis, wakes_at: u64::MAX, counted });
        self.nodes.len() - 1
    }

    fn plan(&mut self, at: u64, event: Event) {
        let place = self.free.pop().unwrap_or_else(|| {
            self.slab.push(None);
            self.slab.len() - 1
        });
        self.slab[place] = Some(event);
        self.seq += 1;
        self.heap.push(Reverse((at, self.seq, place)));
    }

    /// Simulated time, ns.
    pub fn now(&self) -> u64 {
        self.now
    }

    /// Runs until a time, ns.
    pub fn run_until(&mut self, until: u64) {
        loop {
            let next = self.heap.peek().map_or(u64::MAX, |Reverse((at, _, _))| *at);
            let silent = self.patience.front().map_or(u64::MAX, |(at, _, _, _)| *at);
            if next.min(silent) > until {
                break;
            }
            self.now = next.min(silent);
            if silent < next {
                if let Some((_, node, call, lookup)) = self.patience.pop_front() {
                    self.silence(node, call, lookup);
                }
            } else if let Some(Reverse((_, _, place))) = self.heap.pop() {
                self.free.push(place);
                if let Some(event) = self.slab[place].take() {
                    self.handle(event);
                }
            }
        }
        self.now = until;
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Wake(node) => {
                self.nodes[node].wakes_at = u64::MAX;
                self.step(node, |ring, env| ring.tick(env));
            }
            Event::Ask { from, call, to, request } => {
                let mut reply = None;
                self.step(to, |ring, env| {
                    ring.on_request(Token(0), request, env);
                    let answers = |output: &mut Output| matches!(output, Output::Reply { .. });
                    reply = env.out.extract_if(.., answers).next();
                });
                if let Some(Output::Reply { reply, .. }) = reply {
                    let at = self.arrival();
                    self.plan(at, Event::Done { node: from, call, reply });
                }
            }
            Event::Done { node, call, reply } => {
                self.step(node, |ring, env| ring.on_call_done(call, Ok(reply), env));
            }
            Event::Again(lookup) => self.attempt(lookup),
        }
    }

    fn silence(&mut self, node: usize, call: CallId, lookup: Option<usize>) {
        let open = self.step(node, |ring, env| ring.on_call_done(call, Err(CallError::Unreachable), env));
        if open != Some(true) {
            // Answered long ago: nothing happened.
            self.events -= u64::from(open.is_some());
        } else if let Some(lookup) = lookup.and_then(|lookup| self.lookups.get_mut(lookup))
            && lookup.attempts == 1
        {
            lookup.silences += 1;
        }
    }

    fn arrival(&mut self) -> u64 {
        self.now + self.around.rng.random_range(self.delay.0..=self.delay.1)
    }

    /// One step of a node's ring, and what it wants done; `None` when the node is gone.
    fn step<T>(&mut self, index: usize, act: impl FnOnce(&mut Ring, &mut RingEnv) -> T) -> Option<T> {
        let node = &mut self.nodes[index];
        let ring = node.ring.as_mut()?;
        self.events += 1;
        self.around.now = Nanos(self.now);
        let mut out = std::mem::take(&mut self.out);
        let result = act(ring, &mut self.around.env(node.genesis, &mut out));
        for news in ring.take_news() {
            if let RingNews::Joined { genesis, .. } = news {
                node.genesis = Some(genesis);
                self.around.view.merge(member(node.me.clone()));
            }
        }
        if node.counted != ring.answers_lookups() {
            node.counted = ring.answers_lookups();
            if node.counted {
                self.members.insert(node.me.id(), index);
            } else {
                self.members.remove(&node.me.id());
            }
        }
        let wakes_at = ring.next_deadline().0.max(self.now);
        if wakes_at < node.wakes_at {
            node.wakes_at = wakes_at;
            self.plan(wakes_at, Event::Wake(index));
        }
        for output in out.drain(..) {
            self.carry_out(index, output);
        }
        self.out = out;
        Some(result)
    }

    fn carry_out(&mut self, index: usize, output: Output) {
        match output {
            Output::Call { call, addr, request, timeout } => {
                let lookup = match &request {
                    RingRequest::ClosestPrecedingFinger { target, .. } => self.by_target.get(target).copied(),
                    _ => None,
                };
                self.patience.push_back((self.now + timeout.0, index, call, lookup));
                if let Some(to) = number_of(&addr).filter(|to| *to < self.nodes.len()) {
                    let at = self.arrival();
                    self.plan(at, Event::Ask { from: index, call, to, request });
                }
            }
            Output::Client { token, outcome } => self.found(token.0 as usize, outcome),
            other => unreachable!("a ring asks and answers, and does not {other:?}"),
        }
    }

    /// A node dies: nobody is told.
    pub fn kill(&mut self, index: usize) {
        self.members.remove(&self.nodes[index].me.id());
        self.nodes[index].ring = None;
    }

    /// A node leaves in good order: its neighbours are told, and that it has left spreads as gossip does.
    pub fn leave(&mut self, index: usize) {
        self.step(index, |ring, env| ring.depart(env));
        let node = self.nodes[index].me.clone();
        self.around.view.merge(Member { node, revision: 2, state: MemberState::Left });
        self.kill(index);
    }

    /// A new node joins through a random member.
    pub fn join(&mut self) {
        let seed = self.somebody();
        let seeds = vec![self.nodes[seed].me.internal_addr.clone()];
        let number = self.nodes.len();
        let me = node_ref(number, name(self.run, number));
        self.add(me.clone(), Ring::new(me), None);
        self.step(number, |ring, env| ring.join(seeds, None, env));
    }

    /// A random member.
    pub fn somebody(&mut self) -> usize {
        loop {
            let index = self.around.rng.random_range(0..self.nodes.len());
            if self.nodes[index].counted && self.nodes[index].ring.is_some() {
                return index;
            }
        }
    }

    /// Time until the next event of a Poisson process, ns.
    pub fn gap(&mut self, per_second: f64) -> u64 {
        let chance: f64 = self.around.rng.random();
        (-(1.0 - chance).ln() / per_second * SECOND as f64) as u64
    }

    fn owner_of(&self, target: Id) -> Id {
        let next = self.members.range(target..).next().or_else(|| self.members.first_key_value());
        next.map_or(target, |(id, _)| *id)
    }

    /// A user looks a random key up.
    pub fn look_up(&mut self) {
        let target = key(&mut self.around.rng);
        let (from, owner) = (0, self.owner_of(target));
        let (silences, contacts, attempts) = (0, 0, 0);
        let lookup = Lookup {
            target,
            from,
            owner,
            began: self.now,
            took: 0,
            attempts,
            silences,
            contacts,
            failed_at_first: false,
            right: None,
            over: false,
        };
        self.lookups.push(lookup);
        self.by_target.insert(target, self.lookups.len() - 1);
        self.attempt(self.lookups.len() - 1);
    }

    fn attempt(&mut self, number: usize) {
        let from = self.somebody();
        let lookup = &mut self.lookups[number];
        lookup.attempts += 1;
        lookup.from = from;
        let target = lookup.target;
        self.step(from, |ring, env| ring.lookup(Token(number as u64), target, env));
    }

    fn found(&mut self, number: usize, outcome: Outcome) {
        let now = self.owner_of(self.lookups[number].target);
        let lookup = &mut self.lookups[number];
        if let Outcome::Path { hops, owner } = outcome {
            lookup.contacts = hops.len() as u32 - 1;
            lookup.right = Some(owner.id() == now || owner.id() == lookup.owner);
        }
        if lookup.attempts == 1 {
            lookup.failed_at_first = lookup.right != Some(true);
        }
        if lookup.right.is_none() && lookup.attempts <= AGAIN.1 {
            return self.plan(self.now + AGAIN.0, Event::Again(number));
        }
        lookup.over = true;
        lookup.took = self.now - lookup.began;
        self.by_target.remove(&lookup.target);
    }

    /// Percent of `keys` random keys of which all copies are gone, with one and with three copies on the nodes that
    /// there were at first, `count` of them in the order of their ids.
    pub fn lost(&mut self, keys: usize, count: usize) -> [f64; 2] {
        let first: Vec<(Id, bool)> =
            self.nodes[..count].iter().map(|node| (node.me.id(), node.ring.is_none())).collect();
        let mut lost = [0, 0];
        for _ in 0..keys {
            let owner = successor(&first, key(&mut self.around.rng), |(id, _)| *id);
            let gone = |copies| (0..copies).all(|step| first[(owner + step) % count].1);
            lost[0] += usize::from(gone(1));
            lost[1] += usize::from(gone(3));
        }
        lost.map(|lost| 100.0 * lost as f64 / keys as f64)
    }

    /// Members whose predecessor or first `depth` successors are not what they should be.
    pub fn astray(&self, depth: usize) -> usize {
        let places: Vec<(&Id, usize)> = self.members.iter().map(|(id, index)| (id, *index)).collect();
        let count = places.len();
        let length = depth.min(self.around.settings.successor_list_length).min(count - 1);
        let is_astray = |place: &usize| {
            let Some(ring) = &self.nodes[places[*place].1].ring else { return true };
            let neighbours = ring.neighbours();
            let right = |step: usize, node: &NodeRef| *places[(place + step) % count].0 == node.id();
            let list = &neighbours.successors;
            let in_order = list.iter().take(length).zip(1..).all(|(node, step)| right(step, node));
            let before = neighbours.predecessor.is_some_and(|node| right(count - 1, &node));
            list.len() < length || !in_order || !before
        };
        (0..count).filter(is_astray).count()
    }
}

fn name(run: u64, number: usize) -> Id {
    Id::of_name(&format!("{run:x}-{number}"))
}

#[cfg(test)]
mod tests;
