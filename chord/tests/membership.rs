//! Membership by one node: whom it watches and tells, what it writes down, and whose word counts (`docs/mutation.md`).
mod common;

use bytes::Bytes;
use chord::{
    Core,
    id::Id,
    io::{AdminAction, AdminRequest, CallError, CallId, Event, Input, Output, Token},
    member::{Member, MemberState, NodeRef},
    msg::{JoinReply, MapEntry, Neighbours, RingReply, RingRequest, ShardKind, ShardMsg},
    settings::Settings,
    shard::{
        config::{Ballot, Config, ReplicaMeta, ShardId},
        digest::Digest,
        record::{Record, Version},
    },
    store::{Change, Expiry, NodeMeta, Seq, Store},
    time::{Nanos, Now},
};
use common::node;
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use std::collections::{BTreeMap, BTreeSet};

/// The disk of a node that never has a record to keep.
#[derive(Clone, Default)]
struct Notes {
    node: Option<NodeMeta>,
    metas: BTreeMap<ShardId, ReplicaMeta>,
    written: Seq,
}

impl Store for Notes {
    fn node(&self) -> Option<NodeMeta> {
        self.node.clone()
    }
    fn metas(&self) -> Vec<(ShardId, ReplicaMeta)> {
        self.metas.clone().into_iter().collect()
    }
    fn get(&self, _: ShardId, _: &[u8]) -> Option<Record> {
        None
    }
    fn scan(&self, _: ShardId, _: Option<&[u8]>, _: usize, _: usize) -> Vec<(Bytes, Record)> {
        vec![]
    }
    fn versions(&self, _: ShardId) -> Vec<(Bytes, Version)> {
        vec![]
    }
    fn digest(&self, _: ShardId) -> Digest {
        Digest::default()
    }
    fn expiring(&self, _: u64, _: usize) -> Vec<Expiry> {
        vec![]
    }
    fn write(&mut self, changes: Vec<Change>) -> Seq {
        for change in changes {
            match change {
                Change::Node(node) => self.node = Some(node),
                Change::Meta(shard, meta) => _ = self.metas.insert(shard, meta),
                Change::Clear(_) => {}
                Change::Put { .. } | Change::Drop { .. } => panic!("nobody writes here: {change:?}"),
            }
        }
        self.written += 1;
        self.written
    }
}

/// The node at 50 of a ring with one shard of one replica: the first node of the circle should hold it.
struct One {
    core: Core<Notes>,
    now: Nanos,
    rng: ChaCha8Rng,
    /// Whether the disk syncs at once.
    syncs: bool,
    /// Members that do not answer.
    silent: BTreeSet<u64>,
    /// What came out since it was last cleared.
    out: Vec<Output>,
}

fn member(place: u64, revision: u64, state: MemberState) -> Member {
    Member { node: node(place), revision, state }
}

/// The only shard, as held by one node.
fn held_by(place: u64) -> MapEntry {
    MapEntry { shard: ShardId(0), config: Config { epoch: 1, members: vec![node(place).key] }, leader: None }
}

impl One {
    fn start(store: Notes) -> One {
        let settings = Settings { shards: 1, replication_factor: 1, ..Settings::default() };
        let (now, mut rng) = (Nanos::from_millis(1000), ChaCha8Rng::seed_from_u64(1));
        let core = Core::start(Now { mono: now, wall_ms: 0 }, &mut rng, store, node(50), settings).expect("its own");
        let mut one = One { core, now, rng, syncs: true, silent: BTreeSet::new(), out: vec![] };
        one.step(Input::Tick);
        one
    }

    fn founder() -> One {
        let mut one = One::start(Notes::default());
        one.admin(AdminAction::Bootstrap { ring_id: 9 });
        one
    }

    /// Adopted a moment ago by the node at 10, which holds the shard.
    fn joiner() -> One {
        let mut one = One::start(Notes::default());
        one.admin(AdminAction::Join { seeds: vec!["10".into()], ring_id: None });
        let (call, ..) = one.asked().pop().expect("it asks its seed");
        let accepted = JoinReply::Accepted {
            predecessor: node(10),
            successors: vec![node(10)],
            ring_id: 9,
            shards: 1,
            replication_factor: 1,
            members: vec![member(10, 1, MemberState::Serving)],
        };
        one.step(Input::CallDone { call, result: Ok(RingReply::Join(accepted)) });
        assert_eq!(one.core.state(), MemberState::Joining);
        one
    }

    fn step(&mut self, input: Input) {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            let synced = if let Input::Persisted(seq) = input { seq } else { 0 };
            self.core.step(Now { mono: self.now, wall_ms: 0 }, &mut self.rng, input, &mut self.out);
            if self.syncs && self.core.written() > synced {
                inputs.push(Input::Persisted(self.core.written()));
            }
        }
    }

    fn admin(&mut self, action: AdminAction) {
        self.step(Input::Admin { token: Token(1), request: AdminRequest { operator_epoch: None, disk: None, action } });
        let result = self.out.iter().rev().find_map(|output| match output {
            Output::Admin { result, .. } => Some(result.clone()),
            _ => None,
        });
        assert_eq!(result, Some(Ok(())));
    }

    fn hear(&mut self, request: RingRequest) {
        self.step(Input::Ring { token: Token(2), request });
    }

    fn hear_of(&mut self, rumors: impl IntoIterator<Item = Member>) {
        let (from, rumors) = (node(60), rumors.into_iter().collect());
        self.hear(RingRequest::Gossip { from, view_hash: 0, rumors, map_hash: 0 });
    }

    fn hear_map(&mut self, from: u64) {
        let kind = ShardKind::MapUpdate { entries: vec![held_by(from)] };
        let message = ShardMsg { shard: ShardId(0), epoch: 0, ballot: Ballot::ZERO, kind };
        self.step(Input::Shard { from: node(from).key, messages: vec![message] });
    }

    /// Time passes, to the moment; peers answer at once, from rings of which this node is a part.
    fn run(&mut self, ms: u64) {
        let end = self.now + Nanos::from_millis(ms);
        loop {
            let from = self.out.len();
            self.step(Input::Tick);
            let mut asked = One::calls(&self.out[from..]);
            while let Some((call, to, request)) = asked.pop() {
                let from = self.out.len();
                let result = self.answer(to, request);
                self.step(Input::CallDone { call, result });
                asked.extend(One::calls(&self.out[from..]));
            }
            let next = self.core.next_deadline().max(self.now + Nanos(1));
            if next > end {
                break;
            }
            self.now = next;
        }
        self.now = end;
    }

    fn answer(&self, to: u64, request: RingRequest) -> Result<RingReply, CallError> {
        if self.silent.contains(&to) {
            return Err(CallError::Unreachable);
        }
        let (me, successors) = (self.core.me().clone(), vec![self.core.me().clone()]);
        Ok(match request {
            RingRequest::Ping { .. } => RingReply::Ping { node: node(to), member: true },
            RingRequest::Gossip { .. } => RingReply::Gossip { members: vec![], map_differs: false },
            RingRequest::Notify { .. } => RingReply::Notify,
            RingRequest::GetSuccessorList => {
                let predecessor = Some(me);
                let node = node(to);
                RingReply::GetSuccessorList(Neighbours { node, member: true, successors, predecessor, busy: false })
            }
            RingRequest::Join { .. } => RingReply::Join(JoinReply::Accepted {
                predecessor: node(to),
                successors: vec![node(to)],
                ring_id: 9,
                shards: 1,
                replication_factor: 1,
                members: vec![],
            }),
            _ => RingReply::Refused("not asked here".into()),
        })
    }

    fn calls(out: &[Output]) -> Vec<(CallId, u64, RingRequest)> {
        let call = |output: &Output| match output {
            Output::Call { call, addr, request, .. } => Some((*call, addr.parse().ok()?, request.clone())),
            _ => None,
        };
        out.iter().filter_map(call).collect()
    }

    fn asked(&self) -> Vec<(CallId, u64, RingRequest)> {
        One::calls(&self.out)
    }

    /// Who was asked such a thing, how often.
    fn count(&self, which: impl Fn(&RingRequest) -> bool) -> BTreeMap<u64, usize> {
        let mut count = BTreeMap::new();
        for (_, to, _) in self.asked().into_iter().filter(|(.., request)| which(request)) {
            *count.entry(to).or_default() += 1;
        }
        count
    }

    fn pinged(&self) -> Vec<u64> {
        self.count(|request| matches!(request, RingRequest::Ping { .. })).into_keys().collect()
    }

    /// What people were told about members' lives.
    fn told(&self) -> Vec<&str> {
        let text = |output| match output {
            &Output::Event(Event { kind: "join" | "leave", ref message, .. }) => Some(message.as_str()),
            _ => None,
        };
        self.out.iter().filter_map(text).collect()
    }

    fn map_requests(&self) -> Vec<Id> {
        let to = |output: &Output| match output {
            Output::Shard { to, message } if matches!(message.kind, ShardKind::MapRequest { .. }) => Some(to.id()),
            _ => None,
        };
        self.out.iter().filter_map(to).collect()
    }

    fn own(&self) -> Member {
        self.core.view().get(&node(50).key).expect("its own entry").clone()
    }
}

/// Nobody of these is to hold anything, so that no shard moves.
fn many(places: impl IntoIterator<Item = u64>) -> Vec<Member> {
    places.into_iter().map(|place| member(place, 1, MemberState::Leaving)).collect()
}

#[test]
fn all_of_a_small_ring_are_watched_and_only_the_neighbours_in_a_large_one() {
    let mut one = One::founder();
    one.hear_of(many(101..=110));
    one.run(2000);
    assert_eq!(one.pinged(), Vec::from_iter(101..=110));
    one.hear_of(many(111..=180));
    one.out.clear();
    one.run(2000);
    assert_eq!(one.pinged(), [0; 0], "it has no neighbour yet");
    one.hear(RingRequest::Join { joiner: node(105) });
    one.run(2000);
    assert_eq!(one.pinged(), [105]);
}

/// In a large ring the news of a joiner takes a while; until it comes, only stabilization asks for it.
#[test]
fn a_successor_that_the_view_does_not_know_yet_is_not_taken_for_silent() {
    let mut one = One::founder();
    one.hear_of(many(101..=180));
    one.hear(RingRequest::Join { joiner: node(55) });
    one.run(6000);
    assert_eq!(one.core.neighbours().successors, [node(55)]);
}

#[test]
fn a_node_writes_down_what_is_new_and_nothing_when_nothing_is() {
    let mut one = One::founder();
    one.run(4000);
    let before = one.core.written();
    one.run(20_000);
    assert_eq!(one.core.written(), before, "nothing has happened");
    one.hear_of(many([60]));
    one.run(4000);
    let kept = one.core.store().node().expect("its notes").members;
    assert!(kept.contains(&member(60, 1, MemberState::Leaving)), "{kept:?}");
    let before = one.core.written();
    one.run(20_000);
    assert_eq!(one.core.written(), before);
}

#[test]
fn views_are_compared_once_a_second_when_there_is_no_news() {
    let mut one = One::founder();
    one.hear_of(many([60, 70]));
    one.run(3000);
    one.out.clear();
    one.run(20_000);
    let exchanges: usize = one.count(|request| matches!(request, RingRequest::Gossip { .. })).into_values().sum();
    assert!((19..=21).contains(&exchanges), "{exchanges} in 20 s");
}

#[test]
fn people_are_told_of_a_member_when_its_state_changes_and_not_when_it_starts_again() {
    let mut one = One::founder();
    one.out.clear();
    one.hear_of(many([60]));
    assert_eq!(one.told(), ["n-60 is Leaving"]);
    let again = NodeRef { incarnation: 2, ..node(60) };
    one.hear_of([Member { node: again, revision: 1, state: MemberState::Leaving }]);
    assert_eq!(one.core.view().get(&node(60).key).map(|member| member.node.incarnation), Some(2));
    one.hear_of([member(60, 2, MemberState::Left)]);
    assert_eq!(one.told(), ["n-60 is Leaving", "n-60 is Left"]);
}

#[test]
fn every_change_of_its_own_state_has_a_higher_revision_so_that_a_leave_can_be_aborted() {
    let mut one = One::start(Notes::default());
    let mut revisions = vec![one.core.store().node().expect("its notes").node.revision];
    one.admin(AdminAction::Bootstrap { ring_id: 9 });
    revisions.push(one.own().revision);
    one.hear_of(many([60]));
    one.admin(AdminAction::Leave);
    revisions.push(one.own().revision);
    one.admin(AdminAction::AbortLeave);
    assert_eq!(one.own().state, MemberState::Serving, "what everybody is told");
    revisions.push(one.own().revision);
    assert!(revisions.is_sorted_by(|before, after| before < after), "{revisions:?}");
}

#[test]
fn an_evicted_member_stays_so_whatever_it_had_still_said_of_itself() {
    let mut one = One::founder();
    one.hear_of([member(60, 5, MemberState::Leaving)]);
    one.admin(AdminAction::Evict { member: node(60).key });
    // Its last word, sent before it heard.
    one.hear_of([member(60, 6, MemberState::Left)]);
    assert_eq!(one.core.view().get(&node(60).key).map(|member| member.state), Some(MemberState::Evicted));
}

#[test]
fn an_operator_that_repeats_itself_costs_no_write_and_a_later_one_is_remembered() {
    let mut one = One::founder();
    let mut ask = |epoch| {
        let action = AdminAction::Bootstrap { ring_id: 9 };
        let request = AdminRequest { operator_epoch: Some(epoch), disk: None, action };
        let before = one.core.written();
        one.step(Input::Admin { token: Token(1), request });
        (one.core.written() - before, one.core.store().node().map(|node| node.operator_epoch))
    };
    assert_eq!(ask(3), (1, Some(3)));
    assert_eq!(ask(3), (0, Some(3)));
    assert_eq!(ask(4), (1, Some(4)));
}

#[test]
fn answers_that_reveal_no_write_do_not_wait_for_the_disk() {
    let mut one = One::founder();
    one.run(1000);
    (one.syncs, one.out) = (false, vec![]);
    let action = AdminAction::Bootstrap { ring_id: 9 };
    let request = AdminRequest { operator_epoch: Some(3), disk: None, action };
    one.step(Input::Admin { token: Token(1), request });
    one.hear(RingRequest::Ping { from: node(60) });
    let alive = Output::Reply { token: Token(2), reply: RingReply::Ping { node: node(50), member: true } };
    assert_eq!(one.out, [alive], "that it lives; the operator waits until its epoch is on disk");
    one.step(Input::Persisted(one.core.written()));
    assert_eq!(one.out.last(), Some(&Output::Admin { token: Token(1), result: Ok(()) }));
}

#[test]
fn a_joiner_serves_once_it_holds_what_it_should_by_the_latest_view() {
    let mut one = One::joiner();
    one.now = one.now + Nanos::from_millis(100);
    one.hear_map(10);
    // The next look is due with the very news that the shard should be here instead.
    one.now = one.now + Nanos::from_millis(100);
    one.hear_of([member(10, 2, MemberState::Leaving)]);
    assert_eq!(one.core.state(), MemberState::Joining);
    one.run(1000);
    assert_eq!(one.core.state(), MemberState::Joining);
    // Without that news it has all it should: nothing.
    let mut one = One::joiner();
    one.hear_map(10);
    one.run(1000);
    assert_eq!(one.core.state(), MemberState::Serving);
}

#[test]
fn the_last_word_of_who_has_left_is_passed_on_and_no_more_often_than_it_looks() {
    let mut one = One::joiner();
    one.hear_map(10);
    one.run(2000);
    one.admin(AdminAction::Leave);
    one.run(300);
    assert_eq!(one.core.state(), MemberState::Left);
    let mut told = |ms| {
        one.now = one.now + Nanos::from_millis(ms);
        one.out.clear();
        one.hear(RingRequest::Ping { from: node(10) });
        let left = |member: &Member| member.node == node(50) && member.state == MemberState::Left;
        let last_word =
            |request: &RingRequest| matches!(request, RingRequest::Gossip { rumors, .. } if rumors.iter().any(left));
        one.count(last_word)
    };
    assert_eq!(told(300), BTreeMap::from([(10, 1)]));
    assert_eq!(told(0), BTreeMap::new());
    assert_eq!(told(200), BTreeMap::from([(10, 1)]));
}

#[test]
fn who_starts_again_asks_the_living_for_the_map_until_it_has_come() {
    let mut notes = Notes::default();
    let config = held_by(50).config;
    let meta =
        ReplicaMeta { config, previous: vec![], installed: true, promised: Ballot::ZERO, seal: None, word: None };
    notes.metas.insert(ShardId(0), meta);
    notes.node = Some(NodeMeta {
        node: member(50, 1, MemberState::Serving),
        ring_id: Some(9),
        shards: 1,
        replication_factor: 1,
        operator_epoch: 0,
        members: many([10, 20]),
    });
    let mut one = One::start(notes);
    one.silent.insert(20);
    one.run(6000);
    assert!(!one.core.is_reachable(&node(20)) && one.core.is_reachable(&node(10)));
    one.out.clear();
    one.run(10_000);
    let asked = one.map_requests();
    // It holds all there is, but who leads elsewhere it would have to hear.
    assert!((9..=11).contains(&asked.len()) && asked.iter().all(|id| *id == Id::from(10)), "{asked:?}");
    one.hear_map(50);
    one.out.clear();
    one.run(10_000);
    assert_eq!(one.map_requests(), []);
}
