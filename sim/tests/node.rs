//! What a node says to clients, to the operator and to people. Mutation found that nothing else noticed (docs/mutation.md).
//!
//! A few cores over a network without delay and disks that sync at once: what a test waits for is the protocol's own time.
use bytes::Bytes;
use chord::{
    Core,
    id::Id,
    io::{
        AdminAction, AdminError, AdminRequest, CallError, CallId, Event, Input, Operation, Outcome, Output, Retryable,
        Token,
    },
    member::{Disk as DiskId, MemberKey, MemberState, NodeRef},
    msg::{RingReply, RingRequest, ShardKind, ShardMsg},
    settings::Settings,
    shard::{
        config::{Ballot, ShardId},
        record::OpId,
    },
    time::{Nanos, Now},
};
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use sim::disk::{Disk, MemStore};
use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet, VecDeque},
    rc::Rc,
};

const RING: u128 = 9;
/// Wall clock at the start of the monotonic one.
const EPOCH_MS: u64 = 1_000_000;

struct Node {
    me: NodeRef,
    core: Option<Core<MemStore>>,
    disk: Rc<RefCell<Disk>>,
    rng: ChaCha8Rng,
}

struct Nodes {
    ms: u64,
    all: Vec<Node>,
    queue: VecDeque<(usize, Output)>,
    asked: BTreeMap<Token, (usize, CallId)>,
    events: Vec<(usize, Event)>,
    admin: BTreeMap<Token, Result<(), AdminError>>,
    said: BTreeMap<Token, Outcome>,
    /// Alive, and nothing gets through to them or from them.
    cut: BTreeSet<usize>,
    tokens: u64,
    settings: Settings,
}

fn settings() -> Settings {
    let ms = Nanos::from_millis;
    Settings {
        shards: 4,
        successor_list_length: 4,
        stabilize_interval: ms(300),
        fix_fingers_interval: ms(500),
        probe_interval: ms(1000),
        ping_interval: ms(200),
        suspect_after: ms(800),
        replace_after: ms(6000),
        anti_entropy_interval: ms(2000),
        tombstone_min_age: ms(9000),
        retry_age_max: ms(5000),
        ..Settings::default()
    }
}

fn node_ref(index: usize) -> NodeRef {
    NodeRef {
        key: MemberKey { id: Id::of_ordinal(index as u32), disk: DiskId(100 + index as u128) },
        incarnation: 0,
        name: format!("n-{index}"),
        internal_addr: format!("h-{index}:1"),
        client_addr: format!("c-{index}:1"),
        zone: String::new(),
    }
}

impl Nodes {
    /// Processes with empty disks.
    fn started(count: usize) -> Nodes {
        let (queue, asked, events, cut) = Default::default();
        let (admin, said) = Default::default();
        let mut nodes =
            Nodes { ms: 1000, all: vec![], queue, asked, events, admin, said, cut, tokens: 0, settings: settings() };
        for index in 0..count {
            let me = node_ref(index);
            let disk = Rc::new(RefCell::new(Disk::new(me.key)));
            nodes.all.push(Node { me, core: None, disk, rng: ChaCha8Rng::seed_from_u64(index as u64) });
            nodes.start(index);
        }
        nodes
    }

    /// A ring at rest.
    fn ring(count: usize) -> Nodes {
        let mut nodes = Nodes::started(count);
        assert_eq!(nodes.admin(0, AdminAction::Bootstrap { ring_id: RING }), Ok(()));
        for index in 1..count {
            assert_eq!(nodes.admin(index, AdminAction::Join { seeds: vec!["h-0:1".into()], ring_id: None }), Ok(()));
            nodes.until("it serves", |nodes| nodes.core(index).state() == MemberState::Serving);
        }
        nodes.run(3000);
        nodes
    }

    fn now(&self) -> Now {
        Now { mono: Nanos::from_millis(self.ms), wall_ms: EPOCH_MS + self.ms }
    }

    fn core(&self, index: usize) -> &Core<MemStore> {
        self.all[index].core.as_ref().expect("it runs")
    }

    fn start(&mut self, index: usize) {
        let (now, settings) = (self.now(), self.settings.clone());
        let node = &mut self.all[index];
        let core = Core::start(now, &mut node.rng, MemStore(node.disk.clone()), node.me.clone(), settings);
        node.core = Some(core.expect("its own directory"));
        self.step(index, Input::Tick);
    }

    fn kill(&mut self, index: usize) {
        self.all[index].core = None;
    }

    fn step(&mut self, index: usize, input: Input) {
        let now = self.now();
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            let node = &mut self.all[index];
            let Some(core) = &mut node.core else { return };
            let mut out = Vec::new();
            core.step(now, &mut node.rng, input, &mut out);
            self.queue.extend(out.into_iter().map(|output| (index, output)));
            if node.disk.borrow().unsynced() > 0 {
                node.disk.borrow_mut().sync(core.written());
                inputs.push(Input::Persisted(core.written()));
            }
        }
    }

    fn passes(&self, from: usize, to: usize) -> bool {
        !self.cut.contains(&from) && !self.cut.contains(&to)
    }

    fn flow(&mut self) {
        while let Some((from, output)) = self.queue.pop_front() {
            match output {
                Output::Call { call, addr, request, .. } => {
                    let to = self.all.iter().position(|node| node.me.internal_addr == addr);
                    match to.filter(|to| self.passes(from, *to) && self.all[*to].core.is_some()) {
                        Some(to) => {
                            let token = self.token();
                            self.asked.insert(token, (from, call));
                            self.step(to, Input::Ring { token, request });
                        }
                        None => self.step(from, Input::CallDone { call, result: Err(CallError::Unreachable) }),
                    }
                }
                Output::Reply { token, reply } => match self.asked.remove(&token) {
                    Some((asker, call)) if self.passes(from, asker) => {
                        self.step(asker, Input::CallDone { call, result: Ok(reply) });
                    }
                    _ => {}
                },
                Output::Shard { to, message } => {
                    let sender = self.all[from].me.key;
                    let to = self.all.iter().position(|node| node.me.key == to.key);
                    if let Some(to) = to.filter(|to| self.passes(from, *to)) {
                        self.step(to, Input::Shard { from: sender, messages: vec![message] });
                    }
                }
                Output::Client { token, outcome } => {
                    assert_eq!(self.said.insert(token, outcome), None, "answered once")
                }
                Output::Admin { token, result } => assert_eq!(self.admin.insert(token, result), None, "answered once"),
                Output::Event(event) => self.events.push((from, event)),
            }
        }
    }

    fn run(&mut self, ms: u64) {
        for _ in 0..ms / 10 {
            self.ms += 10;
            for index in 0..self.all.len() {
                let due = |core: &Core<MemStore>| core.next_deadline() <= Nanos::from_millis(self.ms);
                if self.all[index].core.as_ref().is_some_and(due) {
                    self.step(index, Input::Tick);
                }
                self.flow();
            }
        }
    }

    fn until(&mut self, what: &str, reached: impl Fn(&Nodes) -> bool) {
        let end = self.ms + 60_000;
        while !reached(self) {
            assert!(self.ms < end, "it never comes to this: {what}");
            self.run(10);
        }
    }

    fn token(&mut self) -> Token {
        self.tokens += 1;
        Token(self.tokens)
    }

    fn ask_admin(&mut self, index: usize, request: AdminRequest) -> Result<(), AdminError> {
        let token = self.token();
        self.step(index, Input::Admin { token, request });
        self.flow();
        self.admin.remove(&token).expect("the operator is answered")
    }

    fn admin(&mut self, index: usize, action: AdminAction) -> Result<(), AdminError> {
        self.ask_admin(index, AdminRequest { operator_epoch: None, disk: None, action })
    }

    fn ask(&mut self, index: usize, operation: Operation) -> Outcome {
        let token = self.token();
        let deadline = Nanos::from_millis(self.ms + 5000);
        self.step(index, Input::Client { token, operation, deadline });
        self.flow();
        self.until("an answer", |nodes| nodes.said.contains_key(&token));
        self.said.remove(&token).expect("just seen")
    }

    /// Asks whoever leads.
    fn ask_leader(&mut self, operation: Operation) -> (usize, Outcome) {
        let answers = |nodes: &mut Nodes, index| match nodes.ask(index, operation.clone()) {
            Outcome::NotLeader(_) | Outcome::Unavailable(_) => None,
            outcome => Some((index, outcome)),
        };
        (0..self.all.len()).find_map(|index| answers(self, index)).expect("somebody leads")
    }

    /// What people were told by a node of this kind, since the last time.
    fn told(&mut self, index: usize, kind: &str) -> Vec<String> {
        let (told, rest) =
            std::mem::take(&mut self.events).into_iter().partition(|(by, event)| *by == index && event.kind == kind);
        self.events = rest;
        let told: Vec<(usize, Event)> = told;
        told.into_iter().map(|(_, event)| event.message).collect()
    }
}

fn op(number: u64) -> Retryable {
    Retryable { id: OpId { client: 1, number }, retry: false, age: Nanos(0) }
}

fn key(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn put(text: &str, number: u64) -> Operation {
    Operation::Put { key: key(text), value: Bytes::from_static(b"value"), ttl_ms: None, op: op(number) }
}

fn get(text: &str) -> Operation {
    Operation::Get { key: key(text), stale_ok: false }
}

fn precondition(result: Result<(), AdminError>) -> String {
    match result {
        Err(AdminError::Precondition(text)) => text,
        other => panic!("refused for its state, not {other:?}"),
    }
}

fn fenced(result: Result<(), AdminError>) -> String {
    match result {
        Err(AdminError::Fenced(text)) => text,
        other => panic!("fenced off, not {other:?}"),
    }
}

#[test]
fn a_directory_belongs_to_one_id_disk_and_name() {
    let mut nodes = Nodes::ring(1);
    nodes.kill(0);
    let start = |nodes: &mut Nodes, me: NodeRef| {
        let (now, settings, store) = (nodes.now(), nodes.settings.clone(), MemStore(nodes.all[0].disk.clone()));
        Core::start(now, &mut nodes.all[0].rng, store, me, settings).map(|core| core.me().clone())
    };
    let mine = nodes.all[0].me.clone();
    let renamed = NodeRef { name: "n-7".into(), ..mine.clone() };
    let moved = NodeRef { key: MemberKey { id: Id::of_ordinal(7), ..mine.key }, ..mine.clone() };
    for other in [renamed, moved] {
        let why = start(&mut nodes, other).expect_err("another's directory");
        assert!(why.contains("the data directory belongs to node n-0"), "{why}");
    }
    assert_eq!(start(&mut nodes, mine).expect("its own").incarnation, 2);
}

#[test]
fn each_start_is_a_later_one_and_the_node_remembers_who_it_is() {
    let mut nodes = Nodes::ring(2);
    for incarnation in [2, 3] {
        nodes.kill(1);
        nodes.start(1);
        let core = nodes.core(1);
        let entry = core.view().get(&core.me().key).expect("its own entry");
        assert_eq!((core.me().incarnation, entry.node.incarnation), (incarnation, incarnation));
        assert_eq!((core.state(), core.ring_id()), (MemberState::Serving, Some(RING)));
        assert_eq!(core.settings().shards, 4);
    }
    assert_eq!(Nodes::started(1).core(0).ring_id(), None);
}

#[test]
fn clients_are_told_that_a_node_is_not_in_the_ring_yet_or_no_more() {
    let mut nodes = Nodes::started(1);
    let Outcome::Unavailable(why) = nodes.ask(0, get("key")) else { panic!("no member yet") };
    assert!(why.contains("not a member of a ring yet"), "{why}");
    let mut nodes = Nodes::ring(2);
    assert_eq!(nodes.admin(1, AdminAction::Leave), Ok(()));
    nodes.until("it has left", |nodes| nodes.core(1).state() == MemberState::Left);
    for operation in [get("key"), put("key", 1), Operation::Lookup { target: Id::ZERO }] {
        let Outcome::Unavailable(why) = nodes.ask(1, operation) else { panic!("no member any more") };
        assert!(why.contains("has left the ring"), "{why}");
    }
}

#[test]
fn the_operator_is_told_what_a_node_does_not_do_in_its_state() {
    let mut nodes = Nodes::started(3);
    let join = || AdminAction::Join { seeds: vec!["h-0:1".into()], ring_id: None };
    let join_ring = |ring_id| AdminAction::Join { seeds: vec!["h-0:1".into()], ring_id: Some(ring_id) };
    // Empty.
    assert!(precondition(nodes.admin(0, AdminAction::Leave)).contains("not a member"));
    assert!(precondition(nodes.admin(0, AdminAction::AbortLeave)).contains("has left"));
    let no_seeds = AdminAction::Join { seeds: vec![], ring_id: None };
    assert!(precondition(nodes.admin(1, no_seeds)).contains("no seeds"));
    // Serving, alone.
    assert_eq!(nodes.admin(0, AdminAction::Bootstrap { ring_id: RING }), Ok(()));
    assert_eq!(nodes.told(0, "join"), ["founded the ring"]);
    assert_eq!(nodes.admin(0, AdminAction::Bootstrap { ring_id: RING }), Ok(()), "again");
    assert_eq!(nodes.told(0, "join").len(), 0, "once");
    assert!(fenced(nodes.admin(0, AdminAction::Bootstrap { ring_id: RING + 1 })).contains("is in ring"));
    assert!(precondition(nodes.admin(0, AdminAction::Leave)).contains("last member"));
    assert_eq!(nodes.admin(0, join()), Ok(()));
    assert_eq!(nodes.admin(0, join_ring(RING)), Ok(()));
    assert!(fenced(nodes.admin(0, join_ring(RING + 1))).contains("is in ring"));
    assert_eq!(nodes.admin(0, AdminAction::AbortLeave), Ok(()));
    // Not alone.
    assert_eq!(nodes.admin(1, join()), Ok(()));
    nodes.until("it serves", |nodes| nodes.core(1).state() == MemberState::Serving);
    let (me, other) = (nodes.all[0].me.key, nodes.all[1].me.key);
    assert!(precondition(nodes.admin(0, AdminAction::Evict { member: me })).contains("cannot evict itself"));
    let stranger = AdminAction::Evict { member: nodes.all[2].me.key };
    assert!(precondition(nodes.admin(0, stranger)).contains("no such member"));
    // Leaving: nobody answers it, so it stays so.
    nodes.cut.insert(1);
    assert_eq!(nodes.admin(1, AdminAction::Leave), Ok(()));
    assert_eq!(nodes.core(1).state(), MemberState::Leaving);
    assert!(precondition(nodes.admin(1, join())).contains("leaving"));
    assert_eq!(nodes.admin(1, AdminAction::Leave), Ok(()), "again");
    assert_eq!(nodes.admin(1, AdminAction::AbortLeave), Ok(()));
    assert_eq!(nodes.core(1).state(), MemberState::Serving);
    nodes.cut.clear();
    // Evicted.
    assert_eq!(nodes.admin(0, AdminAction::Evict { member: other }), Ok(()));
    nodes.until("it has heard", |nodes| nodes.core(1).state() == MemberState::Evicted);
    assert_eq!(nodes.admin(0, AdminAction::Evict { member: other }), Ok(()), "again");
    assert!(precondition(nodes.admin(1, join())).contains("never serves again"));
    assert!(precondition(nodes.admin(1, AdminAction::Leave)).contains("not a member"));
    assert!(precondition(nodes.admin(1, AdminAction::AbortLeave)).contains("has left"));
    assert_eq!(nodes.told(0, "leave"), ["n-1 is Evicted"], "once");
}

#[test]
fn an_older_operator_or_one_that_means_another_disk_is_fenced_off() {
    let mut nodes = Nodes::ring(1);
    let rest = AdminAction::PrepareRestart { ttl: Nanos(0) };
    let mut ask = |operator_epoch, disk: Option<u128>| {
        let request = AdminRequest { operator_epoch, disk: disk.map(DiskId), action: rest.clone() };
        nodes.ask_admin(0, request)
    };
    assert_eq!(ask(Some(5), Some(100)), Ok(()));
    assert!(fenced(ask(Some(4), None)).contains("epoch 4 is older than 5"));
    assert_eq!(ask(Some(5), None), Ok(()));
    assert_eq!(ask(None, None), Ok(()), "the node's own signal handler");
    assert!(fenced(ask(Some(9), Some(101))).contains("is meant"));
    assert_eq!(ask(Some(6), None), Ok(()), "who means another disk is not heard at all");
    // It remembers.
    nodes.kill(0);
    nodes.start(0);
    let request = AdminRequest { operator_epoch: Some(5), disk: None, action: rest };
    assert!(fenced(nodes.ask_admin(0, request)).contains("epoch 5 is older than 6"));
}

#[test]
fn people_are_told_who_does_not_answer_and_who_answers_again() {
    let mut nodes = Nodes::ring(3);
    nodes.events.clear();
    let peer = nodes.all[2].me.clone();
    assert!(nodes.core(0).is_reachable(&peer) && nodes.core(0).is_reachable(&nodes.all[0].me));
    nodes.cut.insert(2);
    nodes.until("it is missed", |nodes| !nodes.core(0).is_reachable(&nodes.all[2].me));
    assert_eq!(nodes.told(0, "suspect"), ["n-2 does not answer"]);
    nodes.step(0, Input::PeerDown { peer: peer.key, refused: true });
    nodes.flow();
    assert_eq!(nodes.told(0, "suspect").len(), 0, "no news");
    // That its questions come through does not show that it can be reached: a leader whom nobody reaches has to be
    // replaced. Its answers show it.
    let token = nodes.token();
    nodes.step(0, Input::Ring { token, request: RingRequest::Ping { from: peer.clone() } });
    let message = |kind| ShardMsg { shard: ShardId(0), epoch: 0, ballot: Ballot(0), kind };
    nodes.step(0, Input::Shard { from: peer.key, messages: vec![message(ShardKind::Prepare)] });
    nodes.flow();
    assert!(!nodes.core(0).is_reachable(&peer));
    nodes.step(0, Input::Shard { from: peer.key, messages: vec![message(ShardKind::ConfirmAck { number: 0 })] });
    nodes.flow();
    assert_eq!(nodes.told(0, "alive"), ["n-2 answers again"]);
    assert!(nodes.core(0).is_reachable(&peer));
    nodes.step(0, Input::PeerDown { peer: peer.key, refused: true });
    assert!(!nodes.core(0).is_reachable(&peer), "its port is closed: no need to wait");
    nodes.cut.remove(&2);
    nodes.until("it answers a ping", |nodes| nodes.core(0).is_reachable(&nodes.all[2].me));
    // A session that breaks says nothing about its end.
    nodes.step(0, Input::PeerDown { peer: peer.key, refused: false });
    assert!(nodes.core(0).is_reachable(&peer));
}

#[test]
fn whoever_is_silent_for_longer_than_agreed_is_replaced_and_told_of() {
    let mut nodes = Nodes::ring(4);
    let lost = nodes.all[3].me.key;
    let holds =
        |nodes: &Nodes| nodes.core(0).shard_map().iter().filter(|entry| entry.config.members.contains(&lost)).count();
    assert!(holds(&nodes) > 0);
    nodes.kill(3);
    nodes.run(5000);
    assert!(holds(&nodes) > 0, "it may come back");
    nodes.until("others hold its share", |nodes| holds(nodes) == 0);
    let status = |index: usize, nodes: &Nodes| nodes.core(index).status();
    nodes.run(5000);
    for index in 0..3 {
        assert_eq!(status(index, &nodes).shards_under_replicated, 0);
    }
}

#[test]
fn a_status_counts_what_the_node_holds_and_has_done() {
    let mut nodes = Nodes::ring(3);
    let before: Vec<_> = (0..3).map(|index| nodes.core(index).status()).collect();
    for (index, status) in before.iter().enumerate() {
        assert_eq!((status.shards_held, status.keys_held, status.bytes_held), (4, 0, 0), "{index}");
        assert_eq!((status.shards_under_replicated, status.shards_pending, status.shards_moving), (0, 0, 0));
        assert_eq!((status.shards_unavailable, status.shards_retiring), (0, 0));
        assert_eq!(status.leave_blocked, "");
        assert!(status.counters.stabilize_rounds > 5, "{index}");
    }
    assert_eq!(before.iter().map(|status| status.shards_led).sum::<u32>(), 4);
    let leaders: BTreeSet<usize> = (0..8).map(|n| nodes.ask_leader(put(&format!("key-{n}"), n + 1)).0).collect();
    let sum = |nodes: &Nodes, what: fn(&chord::Status) -> u64| {
        (0..3).map(|index| what(&nodes.core(index).status())).sum::<u64>()
    };
    assert_eq!(sum(&nodes, |status| status.counters.puts), 8);
    assert_eq!(sum(&nodes, |status| status.keys_led), 8);
    // Five bytes each of key and value.
    assert_eq!(sum(&nodes, |status| status.bytes_led), 80);
    assert_eq!(sum(&nodes, |status| status.keys_held), 24);
    assert_eq!(sum(&nodes, |status| status.bytes_held), 240);
    nodes.ask_leader(get("key-0"));
    nodes.ask_leader(get("key-0"));
    nodes.ask_leader(Operation::Delete { key: key("key-0"), op: op(20) });
    assert_eq!(sum(&nodes, |status| status.counters.gets), 2);
    assert_eq!(sum(&nodes, |status| status.counters.deletes), 1);
    assert_eq!(sum(&nodes, |status| status.keys_led), 7);
    // A follower that is away is missed by those that lead.
    let down = (0..3).find(|index| !leaders.contains(index)).unwrap_or(2);
    nodes.kill(down);
    nodes.run(4000);
    let up = |nodes: &Nodes| {
        (0..3).filter(|index| *index != down).map(|index| nodes.core(index).status()).collect::<Vec<_>>()
    };
    assert_eq!(up(&nodes).iter().map(|status| status.shards_led).sum::<u32>(), 4);
    assert!(up(&nodes).iter().all(|status| status.shards_under_replicated == status.shards_led));
    assert!(up(&nodes).iter().all(|status| status.shards_unavailable == 0));
}

#[test]
fn lookups_are_counted_with_their_hops() {
    let mut nodes = Nodes::ring(4);
    let mut hops = 0;
    for n in 0..10u64 {
        let target = Id::of_key(&n.to_be_bytes());
        let Outcome::Path { hops: path, owner } = nodes.ask(0, Operation::Lookup { target }) else { panic!("a path") };
        let mut ids: Vec<Id> = nodes.all.iter().map(|node| node.me.key.id).collect();
        ids.sort_unstable();
        assert_eq!(owner.key.id, ids[chord::id::successor(&ids, target, |id| *id)]);
        assert_eq!(path.last().map(|hop| hop.node.key), Some(owner.key));
        hops += path.len() as u64;
    }
    let counters = nodes.core(0).status().counters;
    assert_eq!((counters.lookups, counters.lookup_hops), (10, hops));
    let fingers = nodes.core(0).fingers();
    assert!(!fingers.is_empty());
    for (index, start, node) in fingers {
        assert_eq!(start, nodes.all[0].me.key.id.plus_power_of_two(index));
        let mut ids: Vec<Id> = nodes.all.iter().map(|node| node.me.key.id).collect();
        ids.sort_unstable();
        assert_eq!(node.key.id, ids[chord::id::successor(&ids, start, |id| *id)], "finger {index}");
    }
}

#[test]
fn a_leave_says_what_it_waits_for() {
    let mut nodes = Nodes::ring(3);
    assert_eq!(nodes.core(2).status().leave_blocked, "");
    nodes.cut.insert(1);
    nodes.until("it is missed", |nodes| !nodes.core(2).is_reachable(&nodes.all[1].me));
    assert_eq!(nodes.core(2).status().leave_blocked, "", "it is not leaving");
    assert_eq!(nodes.admin(2, AdminAction::Leave), Ok(()));
    assert_eq!(nodes.core(2).status().leave_blocked, "cannot reach n-1; bring it back or evict it");
    let mut nodes = Nodes::ring(2);
    nodes.cut.extend([0, 1]);
    for index in [0, 1] {
        assert_eq!(nodes.admin(index, AdminAction::Leave), Ok(()));
    }
    assert_eq!(nodes.core(0).status().leave_blocked, "", "it has not heard of the other");
    nodes.cut.clear();
    nodes.run(2000);
    let blocked = nodes.core(0).status().leave_blocked;
    assert!(blocked.starts_with("every other member is leaving too"), "{blocked}");
}

#[test]
fn a_copied_directory_is_noticed() {
    let mut nodes = Nodes::ring(2);
    let me = nodes.all[1].me.clone();
    let gossip = |nodes: &mut Nodes, node: NodeRef, revision| {
        let member = chord::member::Member { node, revision, state: MemberState::Serving };
        let (from, token) = (nodes.all[0].me.clone(), nodes.token());
        let request = RingRequest::Gossip { from, view_hash: 0, rumors: vec![member], map_hash: 0 };
        nodes.step(1, Input::Ring { token, request });
        nodes.flow();
        nodes.told(1, "superseded")
    };
    let same = NodeRef { incarnation: 1, ..me.clone() };
    assert_eq!(gossip(&mut nodes, same, 50).len(), 0, "this start");
    let later = NodeRef { incarnation: 2, internal_addr: "elsewhere:1".into(), ..me.clone() };
    let told = gossip(&mut nodes, later, 0);
    assert!(told.len() == 1 && told[0].contains("start 2 at elsewhere:1; this is start 1"), "{told:?}");
    assert_eq!(nodes.core(1).state(), MemberState::Serving);
}

#[test]
fn a_peer_that_another_disk_answers_for_is_gone() {
    let mut nodes = Nodes::ring(3);
    nodes.kill(2);
    // The same name and address, an empty disk.
    nodes.all[2].me.key.disk = DiskId(999);
    nodes.all[2].disk = Rc::new(RefCell::new(Disk::new(nodes.all[2].me.key)));
    nodes.start(2);
    nodes.run(400);
    assert!(!nodes.core(0).is_reachable(&node_ref(2)), "no need to wait for silence");
}

#[test]
fn who_is_no_member_says_so_and_tells_no_views() {
    let mut nodes = Nodes::started(2);
    assert_eq!(nodes.admin(0, AdminAction::Bootstrap { ring_id: RING }), Ok(()));
    let from = nodes.all[1].me.clone();
    let reply = |nodes: &mut Nodes, index: usize, request: RingRequest| {
        let token = nodes.token();
        nodes.step(index, Input::Ring { token, request });
        let found = nodes.queue.iter().find_map(|(_, output)| match output {
            Output::Reply { token: of, reply } if *of == token => Some(reply.clone()),
            _ => None,
        });
        nodes.flow();
        found.expect("a peer is answered")
    };
    let gossip = |view_hash, map_hash| RingRequest::Gossip { from: from.clone(), view_hash, rumors: vec![], map_hash };
    let nothing = RingReply::Gossip { members: vec![], map_differs: false };
    assert_eq!(reply(&mut nodes, 1, gossip(1, 1)), nothing);
    let RingReply::Gossip { members, map_differs } = reply(&mut nodes, 0, gossip(1, 1)) else { panic!("gossip") };
    assert!(members.len() == 1 && map_differs);
    let hash = nodes.core(0).view().hash();
    let RingReply::Gossip { members, .. } = reply(&mut nodes, 0, gossip(hash, 1)) else { panic!("gossip") };
    assert!(members.is_empty(), "the same view");
    for (index, member) in [(0, true), (1, false)] {
        let RingReply::Ping { node, member: is } = reply(&mut nodes, index, RingRequest::Ping { from: from.clone() })
        else {
            panic!("a ping is answered")
        };
        assert_eq!((node.key, is), (nodes.all[index].me.key, member));
    }
}

/// The node that leads the shard of a key, by its own word.
fn leader_of(nodes: &mut Nodes, text: &str) -> usize {
    (0..nodes.all.len())
        .find(|index| matches!(nodes.ask(*index, get(text)), Outcome::Value(_)))
        .expect("somebody leads")
}

#[test]
fn who_does_not_lead_names_who_does_and_somebody_alive_when_that_is_unknown() {
    let mut nodes = Nodes::ring(3);
    let leads = leader_of(&mut nodes, "key");
    for index in (0..3).filter(|index| *index != leads) {
        let Outcome::NotLeader(Some(hint)) = nodes.ask(index, get("key")) else { panic!("another one leads") };
        assert_eq!(hint, nodes.core(leads).me().clone());
    }
    // The leader dies: nobody is sent to it any more, and one of the two others leads in the end.
    nodes.kill(leads);
    nodes.until("it is missed", |nodes| {
        (0..3).filter(|index| *index != leads).all(|index| !nodes.core(index).is_reachable(&nodes.all[leads].me))
    });
    let others: Vec<usize> = (0..3).filter(|index| *index != leads).collect();
    for index in &others {
        match nodes.ask(*index, get("key")) {
            Outcome::NotLeader(Some(hint)) => assert_ne!(hint.key, nodes.all[leads].me.key),
            Outcome::Value(_) | Outcome::Unavailable(_) => {}
            other => panic!("no effect, not {other:?}"),
        }
    }
    nodes.run(3000);
    let leads = others.into_iter().filter(|index| matches!(nodes.ask(*index, get("key")), Outcome::Value(_))).count();
    assert_eq!(leads, 1);
}

#[test]
fn questions_about_no_shard_or_for_nothing_are_invalid() {
    use chord::shard::config::ShardId;
    let mut nodes = Nodes::ring(1);
    let scan = |shard, limit| Operation::Scan { shard: ShardId(shard), after: None, limit };
    for operation in [scan(4, 1), scan(u32::MAX, 1), scan(0, 0)] {
        let Outcome::Invalid(why) = nodes.ask(0, operation) else { panic!("invalid") };
        assert!(why.contains("shard must be below 4 and limit at least 1"), "{why}");
    }
    assert_eq!(nodes.ask(0, scan(3, 1)), Outcome::Page(vec![], false));
    // Nor does a peer's message about such a shard make one.
    let before = nodes.core(0).status();
    let (from, ballot) = (node_ref(1).key, chord::shard::config::Ballot(16));
    for shard in [4, 5] {
        let message =
            chord::msg::ShardMsg { shard: ShardId(shard), epoch: 1, ballot, kind: chord::msg::ShardKind::Prepare };
        nodes.step(0, Input::Shard { from, messages: vec![message] });
        let config = chord::shard::config::Config { epoch: 9, members: vec![from] };
        let entries = vec![chord::msg::MapEntry { shard: ShardId(shard), config, leader: None }];
        let kind = chord::msg::ShardKind::MapUpdate { entries };
        let message = chord::msg::ShardMsg { shard: ShardId(0), epoch: 9, ballot, kind };
        nodes.step(0, Input::Shard { from, messages: vec![message] });
    }
    nodes.flow();
    assert_eq!(nodes.core(0).status(), before);
    assert_eq!(nodes.core(0).shard_map().len(), 4);
}

#[test]
fn any_copy_answers_who_takes_an_old_value() {
    let mut nodes = Nodes::ring(3);
    nodes.ask_leader(put("key", 1));
    nodes.run(500);
    for index in 0..3 {
        let stale = |text: &str| Operation::Get { key: key(text), stale_ok: true };
        let Outcome::Value(Some((value, ..))) = nodes.ask(index, stale("key")) else { panic!("a copy is here") };
        assert_eq!(value, Bytes::from_static(b"value"));
        assert_eq!(nodes.ask(index, stale("nothing")), Outcome::Value(None));
    }
}

#[test]
fn operations_beyond_the_bound_are_shed_and_others_taken_when_some_have_ended() {
    let mut nodes = Nodes::started(3);
    nodes.settings.operations_in_flight_max = 2;
    for index in 0..3 {
        nodes.kill(index);
        nodes.start(index);
    }
    assert_eq!(nodes.admin(0, AdminAction::Bootstrap { ring_id: RING }), Ok(()));
    for index in 1..3 {
        assert_eq!(nodes.admin(index, AdminAction::Join { seeds: vec!["h-0:1".into()], ring_id: None }), Ok(()));
        nodes.until("it serves", |nodes| nodes.core(index).state() == MemberState::Serving);
    }
    nodes.run(3000);
    let leads = leader_of(&mut nodes, "key");
    nodes.cut.insert(leads);
    let submit = |nodes: &mut Nodes, number| {
        let token = nodes.token();
        let deadline = Nanos::from_millis(nodes.ms + 1000);
        nodes.step(leads, Input::Client { token, operation: put("key", number), deadline });
        nodes.flow();
        token
    };
    let tokens = [1, 2, 3].map(|number| submit(&mut nodes, number));
    assert!(matches!(nodes.said.get(&tokens[2]), Some(Outcome::Overloaded(_))));
    assert!(!nodes.said.contains_key(&tokens[0]) && !nodes.said.contains_key(&tokens[1]));
    nodes.cut.clear();
    nodes.run(6000);
    assert!(nodes.said.contains_key(&tokens[0]) && nodes.said.contains_key(&tokens[1]));
    for number in 10..15 {
        assert!(matches!(nodes.ask_leader(put("key", number)).1, Outcome::Written(_)));
    }
}

#[test]
fn values_end_without_anybody_looking() {
    let mut nodes = Nodes::ring(3);
    let ends = Operation::Put { key: key("key"), value: Bytes::from_static(b"v"), ttl_ms: Some(2000), op: op(1) };
    let (leads, _) = nodes.ask_leader(ends);
    nodes.ask_leader(put("stays", 2));
    nodes.run(1000);
    let Outcome::Value(Some((_, _, left))) = nodes.ask(leads, get("key")) else { panic!("not yet") };
    assert!(left.is_some_and(|left| (900..=1000).contains(&left)), "{left:?}");
    nodes.run(3000);
    let sum = |nodes: &Nodes| (0..3).map(|index| nodes.core(index).status().counters.expired).sum::<u64>();
    assert_eq!(sum(&nodes), 1);
    assert_eq!((0..3).map(|index| nodes.core(index).status().keys_held).sum::<u64>(), 3, "one key, three copies");
    assert_eq!(nodes.ask(leads, get("key")), Outcome::Value(None));
}

#[test]
fn a_node_that_is_about_to_restart_leads_nothing_until_it_has_rested() {
    let mut nodes = Nodes::ring(3);
    let led = |nodes: &Nodes, index: usize| nodes.core(index).status().shards_led;
    let rests = (0..3).find(|index| led(&nodes, *index) > 0).expect("somebody leads");
    let before: Vec<u32> = (0..3).map(|index| led(&nodes, index)).collect();
    assert_eq!(nodes.admin(rests, AdminAction::PrepareRestart { ttl: Nanos::from_millis(5000) }), Ok(()));
    nodes.run(1000);
    assert_eq!(led(&nodes, rests), 0);
    assert_eq!((0..3).map(|index| led(&nodes, index)).sum::<u32>(), 4, "the others lead: {before:?}");
    nodes.run(3000);
    assert_eq!(led(&nodes, rests), 0, "still");
}

#[test]
fn people_are_told_of_moves_with_shard_and_member() {
    let nodes = Nodes::ring(2);
    let moved: Vec<&(usize, Event)> = nodes.events.iter().filter(|(_, event)| event.kind == "move").collect();
    assert!(!moved.is_empty());
    for (by, event) in moved {
        assert_eq!(event.subject.as_ref().map(|node| node.key), Some(nodes.all[*by].me.key));
        assert!(event.shard.is_some() && event.message.contains("is in configuration"), "{event:?}");
    }
    let held: Vec<u32> = (0..2).map(|index| nodes.core(index).status().shards_held).collect();
    assert_eq!(held, [4, 4]);
    assert_eq!(nodes.core(0).shard_map(), nodes.core(1).shard_map(), "they know the same");
    assert!(nodes.core(0).shard_map().iter().all(|entry| entry.leader.is_some()));
}
