//! What a node does with all its shards: what its status says, what its timers look after, what it takes from strangers
//! (ring.md 3.2). One node of the shipped core, and a test that plays everybody else.
//! Mutation found that nothing else noticed (docs/mutation.md).
mod common;

use bytes::Bytes;
use chord::{
    core::{Counters, Status},
    id::Id,
    io::{CallId, Input, Operation, Outcome, Token},
    member::{Disk, Member, MemberKey, MemberState, NodeRef},
    msg::{JoinReply, MapEntry, RingReply, RingRequest, ShardKind, ShardMsg},
    settings::Settings,
    shard::{
        config::{Ballot, Config, ReplicaMeta, Seal, ShardId},
        record::{Record, Version},
    },
    store::{Change, NodeMeta, Store as _},
    time::Nanos,
};
use sim::{
    disk::{Data, Plain},
    model::host::{Act, Acts, Done, Host, identity, still_settings},
};
use std::{collections::BTreeSet, sync::Arc};

const EPOCH: u64 = 5;

/// The first attempt of the member at a place.
fn first_of(place: u64) -> Ballot {
    Ballot((1 << 4) | place)
}

fn config(epoch: u64, members: &[usize]) -> Config {
    Config { epoch, members: members.iter().map(|member| identity(*member, 0).key).collect() }
}

/// A copy in good order, under a configuration where nobody has tried to lead.
fn held(members: &[usize]) -> ReplicaMeta {
    let (config, promised) = (config(EPOCH, members), Ballot::ZERO);
    ReplicaMeta { config, previous: Vec::new(), installed: true, promised, seal: None, word: None }
}

/// One node, before any message.
struct Start {
    me: usize,
    state: MemberState,
    ring: usize,
    shards: u32,
    settings: Settings,
    metas: Vec<(u32, ReplicaMeta)>,
    records: Vec<(u32, &'static str)>,
}

impl Default for Start {
    fn default() -> Start {
        let (state, settings, metas, records) = (MemberState::Serving, still_settings(), Vec::new(), Vec::new());
        Start { me: 0, state, ring: 4, shards: 1, settings, metas, records }
    }
}

impl Start {
    fn node(self) -> Node {
        let node = NodeMeta { shards: self.shards, ..common::kept(self.me, self.state, self.ring, 3) };
        let metas = self.metas.into_iter().map(|(shard, meta)| Change::Meta(ShardId(shard), meta));
        let put = |(shard, text)| Change::Put { shard: ShardId(shard), key: key(text), record: record() };
        let records = self.records.into_iter().map(put);
        let mut store = Plain::over(Data::default());
        store.write(std::iter::once(Change::Node(node)).chain(metas).chain(records).collect());
        Node(Arc::new(Host::start(identity(self.me, 0), store.data, Host::first_now(), self.settings)))
    }
}

fn key(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn record() -> Record {
    let version = Version { epoch: EPOCH - 1, ballot: first_of(0), seq: 1 };
    let value = Some(Bytes::from_static(b"v"));
    Record { version, revision: version, value, expires_at_ms: None, recent: Vec::new(), forgotten: None }
}

struct Node(Arc<Host>);

impl Node {
    fn act(&mut self, act: Act) -> Arc<Done> {
        let done = Acts::default().act(&self.0, act);
        self.0 = done.host.clone();
        done
    }

    fn take(&mut self, input: Input) -> Arc<Done> {
        self.act(Act::Take(Box::new(input), true))
    }

    fn wait(&mut self, ms: u64) -> Arc<Done> {
        self.act(Act::Wait(Nanos::from_millis(ms), ms, true))
    }

    fn hear(&mut self, from: usize, messages: Vec<ShardMsg>) -> Arc<Done> {
        self.take(Input::Shard { from: identity(from, 0).key, messages })
    }

    fn down(&mut self, peer: usize) {
        self.take(Input::PeerDown { peer: identity(peer, 0).key, refused: true });
    }

    /// A peer answers, whatever that was about.
    fn up(&mut self, peer: usize) -> Arc<Done> {
        self.hear(peer, vec![said(0, 0, Ballot::ZERO, ShardKind::ConfirmAck { number: 0 })])
    }

    /// A member promises its first attempt at each of these shards.
    fn promised(&mut self, from: usize, shards: &[u32]) -> Arc<Done> {
        let promise = |shard: &u32| {
            let digest = self.0.core.store().digest(ShardId(*shard)).root();
            said(*shard, EPOCH, first_of(0), ShardKind::Promise { seal: None, digest })
        };
        let messages = shards.iter().map(promise).collect();
        self.hear(from, messages)
    }

    fn ask(&mut self, token: u64, operation: Operation) -> Arc<Done> {
        let deadline = self.0.now.mono + Nanos::from_millis(60_000);
        self.take(Input::Client { token: Token(token), operation, deadline })
    }
}

fn said(shard: u32, epoch: u64, ballot: Ballot, kind: ShardKind) -> ShardMsg {
    ShardMsg { shard: ShardId(shard), epoch, ballot, kind }
}

/// A whole copy of an empty shard, after the seal, for the next configuration.
fn install(shard: u32, members: &[usize]) -> ShardMsg {
    let (next, records) = (config(EPOCH + 1, members), Vec::new());
    let install =
        ShardKind::Install { next, attempt: 1, records, part: 0, last: true, digest: 0, pre_copy: false, full: true };
    said(shard, EPOCH, first_of(0), install)
}

/// News of the next configuration of some shards.
fn news(shards: &[u32], members: &[usize]) -> ShardMsg {
    let entry = |shard: &u32| MapEntry { shard: ShardId(*shard), config: config(EPOCH + 1, members), leader: None };
    let entries = shards.iter().map(entry).collect();
    said(0, EPOCH + 1, Ballot::ZERO, ShardKind::MapUpdate { entries })
}

/// Shards of some kind of message, and to whom.
fn sent(done: &Done, which: impl Fn(&ShardKind) -> bool) -> Vec<(u32, usize)> {
    let letters = done.letters.iter().filter(|(_, letter)| which(&letter.message.kind));
    letters.map(|(to, letter)| (letter.message.shard.0, (to.disk.0 & 255) as usize)).collect()
}

fn is_prepare(kind: &ShardKind) -> bool {
    *kind == ShardKind::Prepare
}

fn is_install(kind: &ShardKind) -> bool {
    matches!(kind, ShardKind::Install { .. })
}

/// A node with a shard in every state. The ring of five proposes [0, 1, 2] for the shards from 8 on.
#[test]
fn status_counts_each_shard_as_what_it_is() {
    let follows = |place| ReplicaMeta { promised: first_of(place), ..held(&[3, 4, 0]) };
    let mut metas = vec![
        // A newer configuration without this node is known.
        (0, held(&[0, 1, 2])),
        (1, held(&[0, 1, 2])),
        // Its copy is lost.
        (2, ReplicaMeta { installed: false, ..held(&[3, 4, 0]) }),
        // It follows one that is up; one that is down; itself, before its restart; nobody.
        (4, follows(0)),
        (5, follows(1)),
        (6, follows(2)),
        (7, held(&[3, 4, 0])),
    ];
    // It leads with everybody; without member 2; under what is not the desired configuration; not yet.
    metas.extend([8, 9].map(|shard| (shard, held(&[0, 1, 2]))));
    metas.extend([10, 11].map(|shard| (shard, held(&[0, 1, 3]))));
    metas.extend([12, 13, 14].map(|shard| (shard, held(&[0, 1, 2]))));
    let settings = Settings { moves_in_flight_max: 1, ..still_settings() };
    let records = vec![(0, "a"), (2, "b"), (4, "c"), (8, "d"), (10, "e"), (12, "f")];
    let mut node = Start { ring: 5, shards: 16, settings, metas, records, ..Start::default() }.node();
    node.hear(1, vec![news(&[0, 1], &[1, 2, 3])]);
    node.down(4);
    node.wait(200);
    node.promised(1, &[8, 9, 10, 11]);
    node.promised(2, &[8]);
    node.promised(3, &[10, 11]);
    let status = node.0.core.status();
    assert_eq!(status.counters.elections, 4);
    let expected = Status {
        shards_held: 11,
        shards_led: 4,
        shards_under_replicated: 1,
        shards_pending: 2,
        shards_moving: 1,
        shards_unavailable: 6,
        shards_retiring: 2,
        keys_led: 2,
        keys_held: 4,
        bytes_led: 4,
        bytes_held: 8,
        leave_blocked: String::new(),
        counters: Counters::default(),
    };
    assert_eq!(Status { counters: Counters::default(), ..status }, expected);
}

#[test]
fn shards_beyond_the_rings_are_nobodys_business() {
    let mut node = Start { shards: 2, ..Start::default() }.node();
    let messages = |shard| vec![said(shard, EPOCH, first_of(1), ShardKind::Prepare), install(shard, &[0, 1, 2])];
    for shard in [2, 3] {
        assert!(sent(&node.hear(1, messages(shard)), ShardKind::is_answer).is_empty());
    }
    assert!(node.0.durable.shards.is_empty());
    let answers = sent(&node.hear(1, messages(1)), ShardKind::is_answer);
    assert_eq!(answers, [(1, 1), (1, 1)], "a refusal, and thanks for the copy");
    assert_eq!(node.0.durable.shards.keys().copied().collect::<Vec<_>>(), [ShardId(1)]);
}

#[test]
fn the_word_given_for_a_copy_names_no_configuration() {
    let word = Some(Seal { ballot: first_of(0), next: config(EPOCH + 1, &[0, 1, 2]) });
    let newcomer = ReplicaMeta { config: config(0, &[]), installed: false, word, ..held(&[]) };
    let node = Start { shards: 2, metas: vec![(0, newcomer), (1, held(&[0, 1, 2]))], ..Start::default() }.node();
    let known = MapEntry { shard: ShardId(1), config: config(EPOCH, &[0, 1, 2]), leader: None };
    assert_eq!(node.0.core.shard_map(), [known]);
}

/// Lets a node that has started back onto the circle, before member 2.
fn rejoin(node: &mut Node) {
    let done = node.wait(0);
    let join = |(call, _, request): &(CallId, String, RingRequest)| {
        matches!(request, RingRequest::Join { .. }).then_some(*call)
    };
    let call = done.calls.iter().find_map(join).expect("it asks to be taken back");
    let accepted = JoinReply::Accepted {
        predecessor: identity(0, 0),
        successors: vec![identity(2, 0), identity(3, 0), identity(0, 0)],
        ring_id: 7,
        shards: 1,
        replication_factor: 3,
        members: Vec::new(),
    };
    node.take(Input::CallDone { call, result: Ok(RingReply::Join(accepted)) });
}

#[test]
fn joiner_serves_once_its_copies_are_whole_and_of_the_newest_configurations() {
    let whole = held(&[0, 1, 2]);
    for (meta, newer) in [(whole.clone(), true), (ReplicaMeta { installed: false, ..whole }, false)] {
        let state = MemberState::Joining;
        let mut node = Start { me: 1, state, metas: vec![(0, meta)], ..Start::default() }.node();
        rejoin(&mut node);
        if newer {
            node.hear(0, vec![news(&[0], &[0, 1, 2])]);
        }
        node.wait(1000);
        assert_eq!(node.0.core.state(), MemberState::Joining);
        node.hear(0, vec![install(0, &[0, 1, 2])]);
        node.wait(1000);
        assert_eq!(node.0.core.state(), MemberState::Serving);
    }
}

fn get() -> Operation {
    Operation::Get { key: key("a"), stale_ok: false }
}

fn scan() -> Operation {
    Operation::Scan { shard: ShardId(0), after: None, limit: 9 }
}

/// It has just entered a configuration, and leaves the others a moment to say that it lives.
fn entered(me: usize) -> Node {
    let mut node = Start { me, ..Start::default() }.node();
    node.hear(3, vec![install(0, &[0, 1, 2])]);
    node
}

#[test]
fn who_is_about_to_lead_keeps_those_who_ask() {
    let mut node = entered(0);
    assert!(node.ask(1, get()).answers.is_empty());
    assert!(node.ask(2, scan()).answers.is_empty());
    for _ in 0..2 {
        let done = node.wait(110);
        assert!(done.answers.is_empty() && sent(&done, is_prepare).is_empty());
    }
    let done = node.wait(110);
    assert_eq!(sent(&done, is_prepare), [(0, 1), (0, 2)]);
    assert!(done.answers.is_empty());
}

#[test]
fn who_need_not_lead_after_all_sends_those_who_wait_to_the_first() {
    for operation in [get(), scan()] {
        let mut node = entered(1);
        node.down(0);
        assert!(node.ask(1, operation).answers.is_empty());
        let answers = node.up(0).answers.clone();
        assert_eq!(answers, [(Token(1), Outcome::NotLeader(Some(identity(0, 0))))]);
    }
}

#[test]
fn who_stands_in_for_a_silent_first_keeps_those_who_ask_while_it_is_elected() {
    let mut node = Start { me: 1, metas: vec![(0, held(&[0, 1, 2]))], ..Start::default() }.node();
    assert!((0..30).any(|_| !sent(&node.wait(100), is_prepare).is_empty()), "nobody leads");
    node.ask(1, get());
    node.ask(2, scan());
    for _ in 0..3 {
        assert!(node.wait(110).answers.is_empty());
    }
}

#[test]
fn shards_are_moved_in_turn() {
    let shards = [3, 4, 5];
    let settings = Settings { moves_in_flight_max: 1, ..still_settings() };
    let metas = shards.map(|shard| (shard, held(&[0, 1, 3]))).to_vec();
    let mut node = Start { shards: 8, settings, metas, ..Start::default() }.node();
    node.wait(200);
    node.down(2);
    // All three are to be moved to member 2: it tries each, and none can be.
    assert!(sent(&node.promised(1, &shards), is_install).is_empty());
    node.up(2);
    assert_eq!(sent(&node.wait(100), is_install), [(3, 2)], "after the last comes the first");
}

#[test]
fn node_of_a_large_ring_watches_those_it_holds_shards_with() {
    let ring: Vec<NodeRef> = (0..80)
        .map(|index| NodeRef {
            key: MemberKey { id: Id::of_ordinal(index), disk: Disk(index.into()) },
            internal_addr: index.to_string(),
            ..identity(0, 0)
        })
        .collect();
    let member = |node: &NodeRef| Member { node: node.clone(), revision: 1, state: MemberState::Serving };
    let mut data = Data::default();
    let members = ring[1..].iter().map(member).collect();
    data.node = Some(NodeMeta { node: member(&ring[0]), members, ..common::kept(0, MemberState::Serving, 1, 3) });
    let config = Config { epoch: EPOCH, members: [40, 0, 50].map(|index| ring[index].key).to_vec() };
    data.shards.entry(ShardId(0)).or_default().meta = Some(ReplicaMeta { config, ..held(&[]) });
    let settings = Settings { ping_interval: Nanos::from_millis(500), ..still_settings() };
    let mut node = Node(Arc::new(Host::start(ring[0].clone(), data, Host::first_now(), settings)));
    node.wait(0);
    let done = node.wait(1000);
    let pings = done.calls.iter().filter(|(_, _, request)| matches!(request, RingRequest::Ping { .. }));
    let pinged: BTreeSet<&str> = pings.map(|(_, addr, _)| &addr[..]).collect();
    assert_eq!(pinged, ["40", "50"].into());
}
