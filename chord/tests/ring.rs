//! Fingers and lookups of a ring of forty nodes whose neighbours are known to be right.
use chord::{
    id::{Id, successor},
    io::{CallError, CallId, Outcome, Output, Token},
    member::{Disk, Member, MemberKey, MemberState, NodeRef, View},
    msg::{Hop, RingReply, RingRequest, Via},
    ring::{Ring, RingEnv, RingNews},
    settings::Settings,
    time::{Nanos, Now},
};
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

const NODES: usize = 40;
/// Most forwards among so many members: twice their logarithm, and eight.
const HOPS_MAX: u32 = 18;

struct Net {
    ms: u64,
    rng: ChaCha8Rng,
    rings: Vec<Ring>,
    /// By id.
    nodes: Vec<NodeRef>,
    calls: Vec<u64>,
    view: View,
    settings: Settings,
    dead: BTreeSet<usize>,
    queue: VecDeque<(usize, Output)>,
    asked: BTreeMap<Token, (usize, CallId)>,
    tokens: u64,
    replies: BTreeMap<Token, RingReply>,
    outcomes: BTreeMap<Token, Outcome>,
    /// Questions to peers so far.
    questions: usize,
}

fn node(index: usize) -> NodeRef {
    NodeRef {
        key: MemberKey { id: Id::of_name(&format!("n-{index}")), disk: Disk(1) },
        incarnation: 1,
        name: format!("n-{index}"),
        internal_addr: format!("h-{index}:1"),
        client_addr: String::new(),
        zone: String::new(),
    }
}

impl Net {
    /// Predecessors and successor lists are ideal, there are no fingers.
    fn new() -> Net {
        let mut nodes: Vec<NodeRef> = (0..NODES).map(node).collect();
        nodes.sort_by_key(NodeRef::id);
        let mut view = View::default();
        for node in &nodes {
            view.merge(Member { node: node.clone(), revision: 1, state: MemberState::Serving });
        }
        let settings = Settings { successor_list_length: 4, ..Settings::default() };
        let mut net = Net {
            ms: 1000,
            rng: ChaCha8Rng::seed_from_u64(1),
            rings: nodes.iter().cloned().map(Ring::new).collect(),
            calls: vec![0; NODES],
            nodes,
            view,
            settings,
            dead: BTreeSet::new(),
            queue: VecDeque::new(),
            asked: BTreeMap::new(),
            tokens: 0,
            replies: BTreeMap::new(),
            outcomes: BTreeMap::new(),
            questions: 0,
        };
        for at in 0..NODES {
            let around = |step: usize| net.nodes[(at + step) % NODES].clone();
            let (before, after) = (around(NODES - 1), (1..=4).map(around).collect());
            net.with(at, |ring, env| ring.settle(before, after, [], env));
        }
        net
    }

    /// The same, with whole finger tables.
    fn with_fingers() -> Net {
        let mut net = Net::new();
        net.repair();
        net
    }

    fn with<T>(&mut self, at: usize, act: impl FnOnce(&mut Ring, &mut RingEnv) -> T) -> T {
        let mut out = Vec::new();
        let (suspects, now) = (BTreeSet::new(), Now { mono: Nanos::from_millis(self.ms), wall_ms: 0 });
        let mut env = RingEnv {
            now,
            rng: &mut self.rng,
            view: &self.view,
            suspects: &suspects,
            settings: &self.settings,
            genesis: None,
            calls: &mut self.calls[at],
            out: &mut out,
        };
        let done = act(&mut self.rings[at], &mut env);
        self.queue.extend(out.into_iter().map(|output| (at, output)));
        done
    }

    /// Every question takes a millisecond there and back; one to a dead node fails.
    fn flow(&mut self) {
        while let Some((from, output)) = self.queue.pop_front() {
            match output {
                Output::Call { call, addr, request, .. } => {
                    self.ms += 1;
                    self.questions += 1;
                    let to = self.nodes.iter().position(|node| node.internal_addr == addr).expect("a known address");
                    if self.dead.contains(&to) {
                        self.done(from, call, Err(CallError::Unreachable));
                    } else {
                        let token = self.token();
                        self.asked.insert(token, (from, call));
                        self.with(to, |ring, env| ring.on_request(token, request, env));
                    }
                }
                Output::Reply { token, reply } => match self.asked.remove(&token) {
                    Some((asker, call)) => self.done(asker, call, Ok(reply)),
                    None => assert_eq!(self.replies.insert(token, reply), None, "answered once"),
                },
                Output::Client { token, outcome } => {
                    assert_eq!(self.outcomes.insert(token, outcome), None, "answered once");
                }
                other => panic!("not the ring's: {other:?}"),
            }
        }
    }

    fn done(&mut self, at: usize, call: CallId, result: Result<RingReply, CallError>) {
        assert!(self.with(at, |ring, env| ring.on_call_done(call, result, env)), "its own call");
    }

    /// One round of finger repair everywhere, and nothing else.
    fn repair(&mut self) {
        self.ms += 10_000;
        for at in (0..NODES).filter(|at| !self.dead.contains(at)).collect::<Vec<_>>() {
            self.with(at, |ring, env| ring.tick(env));
            self.flow();
        }
    }

    fn token(&mut self) -> Token {
        self.tokens += 1;
        Token(self.tokens)
    }

    fn lookup(&mut self, at: usize, target: Id) -> Outcome {
        let token = self.token();
        self.with(at, |ring, env| ring.lookup(token, target, env));
        self.flow();
        self.outcomes.remove(&token).expect("an answer")
    }

    fn find(&mut self, at: usize, target: Id, hops: u32, trace: bool) -> RingReply {
        let token = self.token();
        let request = RingRequest::FindSuccessor { target, hops, trace };
        self.with(at, |ring, env| ring.on_request(token, request, env));
        self.flow();
        self.replies.remove(&token).expect("an answer")
    }

    /// Place of the owner of a point among the living.
    fn owner(&self, point: Id) -> usize {
        let living: Vec<usize> = (0..NODES).filter(|at| !self.dead.contains(at)).collect();
        living[successor(&living, point, |at| self.nodes[*at].id())]
    }

    fn targets(&self) -> Vec<Id> {
        let hashed = (0..60u64).map(|n| Id::of_key(&n.to_be_bytes()));
        hashed.chain(self.nodes.iter().map(NodeRef::id)).chain([Id::ZERO, Id::MAX]).collect()
    }

    /// Whether each contact is the pointer of the one before that it is said to be.
    fn check_path(&self, path: &[Hop]) {
        for pair in path.windows(2) {
            let from = self.nodes.iter().position(|node| node.key == pair[0].node.key).expect("a member");
            let (id, to) = (self.nodes[from].id(), pair[1].node.id());
            let expected = match pair[1].via {
                Via::Finger(index) => self.nodes[self.owner(id.plus_power_of_two(index))].id(),
                Via::Successor(place) => self.nodes[(from + 1 + place as usize) % NODES].id(),
                Via::Owner => to,
                Via::Start => panic!("only the first contact is where it starts: {path:?}"),
            };
            assert_eq!(expected, to, "{path:?}");
        }
    }
}

#[test]
fn one_round_makes_every_finger_right_with_a_question_or_two_for_each_other_node() {
    let mut net = Net::new();
    let before = net.questions;
    net.repair();
    // Stabilization asks for two of them each.
    assert!(net.questions - before < NODES * 40, "{}", net.questions - before);
    for at in 0..NODES {
        let me = net.nodes[at].id();
        let fingers = net.rings[at].fingers();
        let expected: Vec<(u32, Id, NodeRef)> = (0..160)
            .map(|index| (index, me.plus_power_of_two(index)))
            .map(|(index, start)| (index, start, net.nodes[net.owner(start)].clone()))
            .filter(|(_, _, owner)| owner.id() != me)
            .collect();
        assert_eq!(fingers, expected, "n at {at}");
        let token = net.token();
        net.with(at, |ring, env| ring.on_request(token, RingRequest::GetFingerTable, env));
        net.flow();
        let told = expected.into_iter().map(|(index, _, node)| (index, node)).collect();
        assert_eq!(net.replies.remove(&token), Some(RingReply::GetFingerTable(told)));
    }
    let again = net.questions;
    net.repair();
    assert!(net.questions - again < NODES * 40);
}

#[test]
fn a_finger_that_dies_is_forgotten_at_once_and_replaced_by_the_next_round() {
    let mut net = Net::with_fingers();
    let gone = net.rings[0].fingers().last().expect("a far finger").2.clone();
    net.with(0, |ring, env| ring.on_peer_down(&gone.key, env));
    let left = net.rings[0].fingers();
    assert!(!left.is_empty() && left.iter().all(|(_, _, node)| node.key != gone.key));
    net.repair();
    assert_eq!(net.rings[0].fingers().last().map(|(_, _, node)| node.key), Some(gone.key), "it lives after all");
}

#[test]
fn a_lookup_shows_its_way_to_the_owner() {
    let mut net = Net::with_fingers();
    let mut longest = 0;
    for target in net.targets() {
        for at in [0, 7, 31] {
            net.with(at, |ring, _| ring.take_news());
            let Outcome::Path { hops, owner } = net.lookup(at, target) else { panic!("a path") };
            assert_eq!(owner, net.nodes[net.owner(target)]);
            assert_eq!(hops.last().map(|hop| &hop.node), Some(&owner));
            assert_eq!((&hops[0].node, hops[0].via, hops[0].elapsed_us), (&net.nodes[at], Via::Start, 0));
            // Every contact is asked, and each question takes a millisecond.
            for (hop, step) in hops.iter().zip(0..) {
                assert_eq!(hop.elapsed_us, 1000 * step);
            }
            net.check_path(&hops);
            longest = longest.max(hops.len());
            let news = net.with(at, |ring, _| ring.take_news());
            assert_eq!(news, [RingNews::LookupDone { hops: hops.len() as u32 }]);
        }
    }
    assert!((4..=8).contains(&longest), "logarithmic, not {longest}");
}

#[test]
fn a_question_of_a_peer_is_passed_on_to_the_owner_and_answered() {
    let mut net = Net::with_fingers();
    for target in net.targets() {
        for at in [0, 7, 31] {
            let place = net.owner(target);
            let RingReply::FindSuccessor { owner, predecessor, path } = net.find(at, target, 0, true) else {
                panic!("an answer")
            };
            assert_eq!(owner, net.nodes[place]);
            // As the last to forward knows it; an owner that was asked itself knows best.
            let before = path
                .len()
                .checked_sub(2)
                .map_or(net.nodes[(place + NODES - 1) % NODES].id(), |last| path[last].node.id());
            assert_eq!(predecessor, Some(before));
            assert_eq!((&path[0].node, path[0].via), (&net.nodes[at], Via::Start));
            assert_eq!(path.last().map(|hop| &hop.node), Some(&owner));
            net.check_path(&path);
            // Whoever is last to forward knows the owner without asking it.
            let forwards = (path.len() as u64).saturating_sub(2);
            assert_eq!(path[0].elapsed_us, 1000 * forwards);
            let RingReply::FindSuccessor { path, .. } = net.find(at, target, 0, false) else { panic!("an answer") };
            assert!(path.is_empty(), "nobody asked for the way");
        }
    }
}

#[test]
fn a_question_that_has_gone_round_too_often_is_refused_and_so_is_one_to_no_member() {
    let mut net = Net::with_fingers();
    let own = net.nodes[0].id();
    assert!(matches!(net.find(0, own, HOPS_MAX, false), RingReply::FindSuccessor { .. }));
    let RingReply::Refused(why) = net.find(0, own, HOPS_MAX + 1, false) else { panic!("it has no end") };
    assert!(why.contains("within 18 hops"), "{why}");
    // The next node would refuse it: its word comes back.
    let far = net.nodes[20].id();
    let RingReply::Refused(why) = net.find(0, far, HOPS_MAX, false) else { panic!("it has no end") };
    assert!(why.contains("within 18 hops"), "{why}");
    net.rings[0] = Ring::new(net.nodes[0].clone());
    let RingReply::Refused(why) = net.find(0, own, 0, false) else { panic!("no member") };
    assert!(why.contains("not a member"), "{why}");
    let Outcome::Unavailable(why) = net.lookup(0, own) else { panic!("no member") };
    assert!(why.contains("not a member"), "{why}");
    let request = RingRequest::ClosestPrecedingFinger { target: own, avoid: vec![], as_owner: false };
    let token = net.token();
    net.with(0, |ring, env| ring.on_request(token, request, env));
    net.flow();
    assert!(matches!(net.replies.remove(&token), Some(RingReply::Refused(_))));
}

#[test]
fn no_more_than_so_many_questions_are_passed_on_at_a_time() {
    let mut net = Net::with_fingers();
    let far = net.nodes[20].id();
    // The answers stay away.
    let ask = |net: &mut Net| {
        let token = net.token();
        let request = RingRequest::FindSuccessor { target: far, hops: 0, trace: false };
        net.with(0, |ring, env| ring.on_request(token, request, env));
        token
    };
    let tokens: Vec<Token> = (0..4096).map(|_| ask(&mut net)).collect();
    assert!(net.queue.iter().all(|(_, output)| matches!(output, Output::Call { .. })));
    let one_more = ask(&mut net);
    assert!(
        matches!(net.queue.back(), Some((0, Output::Reply { token, reply: RingReply::Refused(_) })) if *token == one_more)
    );
    net.flow();
    for token in tokens {
        assert!(matches!(net.replies.remove(&token), Some(RingReply::FindSuccessor { .. })));
    }
    for _ in 0..2 * 4096 {
        assert!(matches!(net.find(0, far, 0, false), RingReply::FindSuccessor { .. }), "there is room again");
    }
    // And after refusals and silence too.
    for _ in 0..4097 {
        assert!(matches!(net.find(0, far, HOPS_MAX, false), RingReply::Refused(_)));
    }
    assert!(matches!(net.find(0, far, 0, false), RingReply::FindSuccessor { .. }));
}

#[test]
fn lookups_go_round_those_that_do_not_answer() {
    let mut net = Net::with_fingers();
    // Never more than two of four successors.
    net.dead = (0..NODES).filter(|at| at % 5 == 1 || at % 5 == 2).collect();
    for target in net.targets() {
        for at in [0, 8, 33] {
            let Outcome::Path { hops, owner } = net.lookup(at, target) else { panic!("a path") };
            assert_eq!(owner, net.nodes[net.owner(target)], "whoever follows the dead owner has its range");
            let silent =
                |hop: &Hop| net.dead.contains(&net.nodes.iter().position(|n| n.key == hop.node.key).expect("one"));
            assert!(!hops.iter().any(silent), "{hops:?}");
        }
    }
}

#[test]
fn a_forwarder_tries_three_other_pointers_and_then_says_so() {
    let mut net = Net::with_fingers();
    let far = net.nodes[20].id();
    let before = net.questions;
    net.dead = (1..NODES).collect();
    let RingReply::Refused(why) = net.find(0, far, 0, false) else { panic!("all are dead") };
    assert!(why.contains("no live hop"), "{why}");
    assert_eq!(net.questions - before, 4);
    for _ in 0..4097 {
        assert!(matches!(net.find(0, far, 0, false), RingReply::Refused(_)));
    }
    net.dead.clear();
    assert!(matches!(net.find(0, far, 0, false), RingReply::FindSuccessor { .. }), "there is room again");
    // One dead pointer costs one more question.
    let RingReply::FindSuccessor { path, .. } = net.find(0, far, 0, true) else { panic!("an answer") };
    let first = net.nodes.iter().position(|node| node.key == path[1].node.key).expect("a member");
    net.dead.insert(first);
    let RingReply::FindSuccessor { owner, path, .. } = net.find(0, far, 0, true) else { panic!("an answer") };
    assert_eq!(owner, net.nodes[20]);
    assert_ne!(path[1].node.key, net.nodes[first].key);
}

#[test]
fn who_is_taken_for_the_owner_names_its_predecessor_if_that_lies_nearer() {
    let mut net = Net::with_fingers();
    let mut ask = |target: Id, avoid: Vec<Id>| {
        let token = net.token();
        let request = RingRequest::ClosestPrecedingFinger { target, avoid, as_owner: true };
        net.with(10, |ring, env| ring.on_request(token, request, env));
        net.flow();
        match net.replies.remove(&token) {
            Some(RingReply::ClosestPrecedingFinger { node, is_owner: true, via: Via::Owner }) => node.id(),
            other => panic!("an owner, not {other:?}"),
        }
    };
    let nodes: Vec<Id> = {
        let mut ids: Vec<Id> = (0..NODES).map(|index| node(index).id()).collect();
        ids.sort_unstable();
        ids
    };
    assert_eq!(ask(nodes[10], vec![]), nodes[10], "its own point");
    assert_eq!(ask(nodes[9], vec![]), nodes[9], "its predecessor's point");
    assert_eq!(ask(nodes[8].plus_power_of_two(1), vec![]), nodes[9], "before its predecessor");
    assert_eq!(ask(nodes[9].plus_power_of_two(1), vec![]), nodes[10], "after its predecessor");
    assert_eq!(ask(nodes[9], vec![nodes[9]]), nodes[10], "a silent predecessor");
}

/// Nothing of the node's own is the ring's business.
#[test]
fn gossip_is_not_the_rings_to_answer_and_a_strangers_call_is_not_its_own() {
    let mut net = Net::new();
    let (token, from) = (net.token(), net.nodes[1].clone());
    let request = RingRequest::Gossip { from, view_hash: 0, rumors: vec![], map_hash: 0 };
    net.with(0, |ring, env| ring.on_request(token, request, env));
    net.flow();
    assert!(matches!(net.replies.remove(&token), Some(RingReply::Refused(_))));
    assert!(!net.with(0, |ring, env| ring.on_call_done(CallId(77), Err(CallError::Refused), env)));
}
