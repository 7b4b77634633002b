//! A circle of shipped ring state machines whose pointers are ideal, or were until some of the nodes died: for the
//! figures in which time does not pass.
use chord::{
    id::{BITS, Id, successor},
    io::{CallError, Outcome, Output, Token},
    member::{Disk, Member, MemberKey, MemberState, NodeRef, View},
    msg::{RingReply, RingRequest},
    ring::{Genesis, Ring, RingEnv},
    settings::Settings,
    time::{Nanos, Now},
};
use rand::{RngExt as _, seq::index::sample};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeSet;

/// Any ring of these runs.
pub const GENESIS: Genesis = Genesis { ring_id: 7, shards: 4096, replication_factor: 3 };

/// The node with this number, at `id`.
pub fn node_ref(number: usize, id: Id) -> NodeRef {
    NodeRef {
        key: MemberKey { id, disk: Disk(number as u128) },
        incarnation: 1,
        name: format!("ring-{number}"),
        internal_addr: format!("ring-{number}.ring:7101"),
        client_addr: format!("ring-{number}.ring:7100"),
        zone: String::new(),
    }
}

/// The number of the node at an address.
pub fn number_of(addr: &str) -> Option<usize> {
    addr.strip_prefix("ring-")?.split('.').next()?.parse().ok()
}

/// A full member of the view.
pub fn member(node: NodeRef) -> Member {
    Member { node, revision: 1, state: MemberState::Serving }
}

/// Nodes hashed onto the circle, as in the papers, sorted.
pub fn hashed(count: usize, rng: &mut ChaCha8Rng) -> Vec<Id> {
    let run: u64 = rng.random();
    let mut ids: Vec<Id> = (0..count).map(|number| Id::of_name(&format!("{run:x}-{number}"))).collect();
    ids.sort_unstable();
    ids
}

/// A random key's point.
pub fn key(rng: &mut ChaCha8Rng) -> Id {
    Id::of_key(&rng.random::<u64>().to_be_bytes())
}

/// Successors of a place on a circle of `nodes`.
pub fn successors_of(nodes: &[NodeRef], place: usize, length: usize) -> Vec<NodeRef> {
    (1..=length.min(nodes.len() - 1)).map(|step| nodes[(place + step) % nodes.len()].clone()).collect()
}

/// The ideal fingers of a place on a circle of `nodes`, sorted by id.
pub fn fingers_of(nodes: &[NodeRef], place: usize) -> impl Iterator<Item = (u32, NodeRef)> {
    let me = nodes[place].id();
    let finger = move |index| (index, &nodes[successor(nodes, me.plus_power_of_two(index), NodeRef::id)]);
    (0..BITS).map(finger).filter(move |(_, node)| node.id() != me).map(|(index, node)| (index, node.clone()))
}

/// What surrounds the ring of any node.
pub struct Around {
    /// All members: everybody knows everybody, as by gossip.
    pub view: View,
    /// Settings of all.
    pub settings: Settings,
    /// All chance.
    pub rng: ChaCha8Rng,
    /// Simulated time.
    pub now: Nanos,
    /// Number of the last call of any node.
    pub calls: u64,
    nobody: BTreeSet<MemberKey>,
}

impl Around {
    /// With an empty view.
    pub fn new(settings: Settings, rng: ChaCha8Rng) -> Around {
        Around { view: View::default(), settings, rng, now: Nanos(0), calls: 0, nobody: BTreeSet::new() }
    }

    /// For one step of one node. Nobody is suspected: there is no failure detector but the silence of who is asked.
    pub fn env<'a>(&'a mut self, genesis: Option<Genesis>, out: &'a mut Vec<Output>) -> RingEnv<'a> {
        RingEnv {
            now: Now { mono: self.now, wall_ms: 0 },
            rng: &mut self.rng,
            view: &self.view,
            suspects: &self.nobody,
            settings: &self.settings,
            genesis,
            calls: &mut self.calls,
            out,
        }
    }

    /// Rings with ideal pointers; `nodes` sorted by id.
    pub fn ideal(&mut self, nodes: &[NodeRef]) -> Vec<Ring> {
        nodes.iter().for_each(|node| _ = self.view.merge(member(node.clone())));
        let ideal = |place: usize| {
            let mut ring = Ring::new(nodes[place].clone());
            let before = nodes[(place + nodes.len() - 1) % nodes.len()].clone();
            let after = successors_of(nodes, place, self.settings.successor_list_length);
            ring.settle(before, after, fingers_of(nodes, place), &mut self.env(Some(GENESIS), &mut Vec::new()));
            ring
        };
        (0..nodes.len()).map(ideal).collect()
    }
}

/// How a lookup went.
pub struct Walked {
    /// Owner; `None`: it found none.
    pub owner: Option<Id>,
    /// Contacts that answered, the owner among them, the beginner not.
    pub contacts: u32,
    /// Contacts that did not answer.
    pub timeouts: u32,
}

/// Nodes in the order of their ids: the node with number i is at place i.
pub struct Circle {
    /// Sorted.
    pub ids: Vec<Id>,
    dead: Vec<bool>,
    rings: Vec<Ring>,
    around: Around,
    out: Vec<Output>,
}

impl Circle {
    /// With ideal pointers; `ids` sorted, `list` entries per successor list.
    pub fn new(ids: Vec<Id>, list: usize, rng: ChaCha8Rng) -> Circle {
        let nodes: Vec<NodeRef> = ids.iter().enumerate().map(|(place, id)| node_ref(place, *id)).collect();
        let mut around = Around::new(Settings { successor_list_length: list, ..Settings::default() }, rng);
        let rings = around.ideal(&nodes);
        Circle { dead: vec![false; ids.len()], ids, rings, around, out: Vec::new() }
    }

    /// Nodes die; nobody has noticed.
    pub fn kill(&mut self, count: usize) {
        for dead in sample(&mut self.around.rng, self.ids.len(), count) {
            self.dead[dead] = true;
        }
    }

    /// A random key, and who owns it: the first live node at or after it.
    pub fn draw(&mut self) -> (Id, Id) {
        let key = key(&mut self.around.rng);
        let mut owner = successor(&self.ids, key, |id| *id);
        while self.dead[owner] {
            owner = (owner + 1) % self.ids.len();
        }
        (key, self.ids[owner])
    }

    /// A random live node looks a key up, as it does for a user.
    pub fn walk(&mut self, target: Id) -> Walked {
        let mut from = self.around.rng.random_range(0..self.ids.len());
        while self.dead[from] {
            from = self.around.rng.random_range(0..self.ids.len());
        }
        let (mut out, mut timeouts) = (std::mem::take(&mut self.out), 0);
        self.rings[from].lookup(Token(0), target, &mut self.around.env(Some(GENESIS), &mut out));
        let outcome = loop {
            match out.pop() {
                Some(Output::Call { call, addr, request, .. }) => {
                    let to = number_of(&addr).filter(|to| !self.dead[*to]);
                    timeouts += u32::from(to.is_none());
                    let result = to.map_or(Err(CallError::Unreachable), |to| Ok(self.ask(to, request)));
                    self.rings[from].on_call_done(call, result, &mut self.around.env(Some(GENESIS), &mut out));
                }
                Some(Output::Client { outcome, .. }) => break outcome,
                other => unreachable!("a lookup asks or answers, and does not {other:?}"),
            }
        };
        self.rings[from].take_news();
        self.out = out;
        match outcome {
            Outcome::Path { hops, owner } => {
                Walked { owner: Some(owner.id()), contacts: hops.len() as u32 - 1, timeouts }
            }
            _ => Walked { owner: None, contacts: 0, timeouts },
        }
    }

    fn ask(&mut self, to: usize, request: RingRequest) -> RingReply {
        let mut out = Vec::new();
        self.rings[to].on_request(Token(0), request, &mut self.around.env(Some(GENESIS), &mut out));
        match out.pop() {
            Some(Output::Reply { reply, .. }) => reply,
            other => unreachable!("a question about the next hop is answered at once, not by {other:?}"),
        }
    }
}
