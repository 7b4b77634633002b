//! Edges of the ring's steps that mutation found nobody to look at (`docs/mutation.md`): joins that take long, questions
//! that are sent astray, rings of one, and news that is none.
mod common;

use chord::{
    id::Id,
    io::{CallError, CallId, Outcome, Output, Token},
    member::{Disk, Member, MemberKey, MemberState, NodeRef, View},
    msg::{Hop, JoinReply, Neighbours, RingReply, RingRequest, Via},
    ring::{Genesis, Ring, RingEnv, RingNews},
    settings::Settings,
    time::{Nanos, Now},
};
use common::node;
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use std::{
    collections::BTreeSet,
    hash::{DefaultHasher, Hash as _, Hasher as _},
};

const GENESIS: Genesis = Genesis { ring_id: 9, shards: 4, replication_factor: 3 };

/// The node at 50 of a ring of 10, 20, .. 90, and what it has asked and said.
struct One {
    ring: Ring,
    us: u64,
    rng: ChaCha8Rng,
    view: View,
    suspects: BTreeSet<MemberKey>,
    settings: Settings,
    genesis: Option<Genesis>,
    calls: u64,
    /// Of the last step.
    out: Vec<Output>,
}

fn list_of(place: u64, successors: &[u64], predecessor: Option<u64>) -> RingReply {
    let successors = successors.iter().copied().map(node).collect();
    let predecessor = predecessor.map(node);
    RingReply::GetSuccessorList(Neighbours { node: node(place), member: true, successors, predecessor, busy: false })
}

fn closest(place: u64, is_owner: bool) -> RingReply {
    let via = if is_owner { Via::Owner } else { Via::Successor(0) };
    RingReply::ClosestPrecedingFinger { node: node(place), is_owner, via }
}

impl One {
    fn among(members: impl IntoIterator<Item = u64>) -> One {
        let mut one = One {
            ring: Ring::new(node(50)),
            us: 1_000_000,
            rng: ChaCha8Rng::seed_from_u64(3),
            view: View::default(),
            suspects: BTreeSet::new(),
            settings: Settings { successor_list_length: 4, ..Settings::default() },
            genesis: Some(GENESIS),
            calls: 0,
            out: vec![],
        };
        members.into_iter().for_each(|place| one.is_known(place));
        one
    }

    /// Between 40 and 60, 70, 80, 90.
    fn settled() -> One {
        let mut one = One::among((1..=9).map(|place| 10 * place));
        let successors = [60, 70, 80, 90].map(node).into();
        one.with(|ring, env| ring.settle(node(40), successors, [], env));
        one.ring.take_news();
        one
    }

    fn founder(members: impl IntoIterator<Item = u64>) -> One {
        let mut one = One::among(members);
        one.with(|ring, env| ring.found(env));
        one.ring.take_news();
        one
    }

    fn is_known(&mut self, place: u64) {
        self.view.merge(Member { node: node(place), revision: 1, state: MemberState::Serving });
    }

    fn with<T>(&mut self, act: impl FnOnce(&mut Ring, &mut RingEnv) -> T) -> T {
        self.out.clear();
        let mut env = RingEnv {
            now: Now { mono: Nanos(1000 * self.us), wall_ms: 0 },
            rng: &mut self.rng,
            view: &self.view,
            suspects: &self.suspects,
            settings: &self.settings,
            genesis: self.genesis,
            calls: &mut self.calls,
            out: &mut self.out,
        };
        act(&mut self.ring, &mut env)
    }

    fn tick(&mut self, ms: u64) {
        self.us += 1000 * ms;
        self.with(|ring, env| ring.tick(env));
    }

    fn tell(&mut self, call: CallId, result: Result<RingReply, CallError>) {
        assert!(self.with(|ring, env| ring.on_call_done(call, result, env)), "its own call");
    }

    fn hear(&mut self, request: RingRequest) {
        self.with(|ring, env| ring.on_request(Token(1), request, env));
    }

    /// Questions of the last step: whom and what.
    fn asked(&self) -> Vec<(CallId, u64, RingRequest)> {
        let asked = |output: &Output| match output {
            Output::Call { call, addr, request, .. } => Some((*call, addr.parse().ok()?, request.clone())),
            _ => None,
        };
        self.out.iter().filter_map(asked).collect()
    }

    /// The call of the last step that asked this one for its list.
    fn list_asked(&self, place: u64) -> Option<CallId> {
        let list =
            |(_, to, request): &&(_, u64, RingRequest)| *to == place && *request == RingRequest::GetSuccessorList;
        self.asked().iter().find(list).map(|(call, ..)| *call)
    }

    /// The only question of the last step.
    fn only_asked(&self) -> (CallId, u64) {
        match &self.asked()[..] {
            [(call, to, _)] => (*call, *to),
            other => panic!("one question, not {other:?}"),
        }
    }

    /// Milliseconds until it does something by itself.
    fn waits(&self) -> u64 {
        self.ring.next_deadline().since(Nanos(1000 * self.us)).as_millis()
    }

    fn successors(&self) -> Vec<u64> {
        let places = self.ring.neighbours().successors;
        places.iter().map(|node| node.internal_addr.parse().expect("a place")).collect()
    }

    fn predecessor(&self) -> Option<u64> {
        self.ring.neighbours().predecessor.map(|node| node.internal_addr.parse().expect("a place"))
    }
}

/// A node on its way in, that has asked 20.
fn joiner() -> (One, CallId) {
    let mut one = One::among([]);
    one.genesis = None;
    one.with(|ring, env| ring.join(vec!["20".into()], None, env));
    let call = one.only_asked().0;
    (one, call)
}

#[test]
fn a_join_without_an_answer_is_tried_again_after_the_time_for_one_and_a_growing_pause() {
    let (mut one, mut call) = joiner();
    for attempt in 0..12u32 {
        let wait = one.waits();
        let pause = (100 << attempt).min(3000);
        // The time for a call is a second. The pause is taken give or take a quarter.
        assert!((1000 + pause * 3 / 4..=1000 + pause * 5 / 4).contains(&wait), "{wait} at attempt {attempt}");
        one.tell(call, Err(CallError::Unreachable));
        one.tick(5000);
        call = one.only_asked().0;
    }
}

#[test]
fn pauses_of_joiners_differ_so_that_they_do_not_come_all_at_once() {
    let waits: BTreeSet<Nanos> = (0..20)
        .map(|seed| {
            let mut one = One::among([]);
            (one.genesis, one.rng) = (None, ChaCha8Rng::seed_from_u64(seed));
            one.with(|ring, env| ring.join(vec!["20".into()], None, env));
            one.ring.next_deadline()
        })
        .collect();
    assert_eq!(waits.len(), 20, "{waits:?}");
    let ms = |at: Option<&Nanos>| at.expect("one of them").since(Nanos::from_millis(1000)).as_millis();
    let (first, last) = (ms(waits.first()), ms(waits.last()));
    assert!((1075..1090).contains(&first) && (1110..=1125).contains(&last), "between {first} and {last}");
}

#[test]
fn an_answer_to_an_earlier_attempt_to_join_says_nothing_any_more() {
    let (mut one, first) = joiner();
    one.tick(5000);
    let second = one.only_asked().0;
    assert!(!one.with(|ring, env| ring.on_call_done(first, Ok(RingReply::Join(JoinReply::Busy(10))), env)));
    one.tell(second, Ok(RingReply::Join(JoinReply::Redirect(node(30)))));
    assert_eq!(one.only_asked().1, 30, "the later one counts");
}

/// Only its join: what it asked before it became an orphan is still its own.
#[test]
fn an_orphan_still_takes_the_answers_to_its_other_questions() {
    let mut one = One::settled();
    let question = RingRequest::FindSuccessor { target: Id::from(95), hops: 0, trace: false };
    one.hear(question);
    let passed_on = one.only_asked().0;
    one.with(|ring, env| ring.rejoin(env));
    let owner = RingReply::FindSuccessor { owner: node(10), predecessor: None, path: vec![] };
    one.tell(passed_on, Ok(owner.clone()));
    assert_eq!(one.out, [Output::Reply { token: Token(1), reply: owner }]);
}

#[test]
fn a_joiner_asks_a_busy_member_seven_times_and_then_begins_again() {
    let (mut one, mut call) = joiner();
    one.tell(call, Ok(RingReply::Join(JoinReply::Redirect(node(30)))));
    call = one.only_asked().0;
    // The redirect counts: it is all about not going round for ever.
    for _ in 0..6 {
        one.tell(call, Ok(RingReply::Join(JoinReply::Busy(200))));
        one.tick(200);
        let (next, to) = one.only_asked();
        assert_eq!(to, 30);
        call = next;
    }
    one.tell(call, Ok(RingReply::Join(JoinReply::Busy(200))));
    one.tick(200);
    assert_eq!(one.only_asked().1, 20, "from the seed on");
}

#[test]
fn a_joiner_that_knows_nobody_waits_for_a_seed() {
    let mut one = One::among([]);
    one.genesis = None;
    // The only seed is its own name.
    one.with(|ring, env| ring.join(vec!["50".into()], None, env));
    assert!(one.asked().is_empty() && one.ring.next_deadline() > Nanos(1000 * one.us));
    one.with(|ring, env| ring.join(vec!["50".into(), "20".into()], None, env));
    one.tick(5000);
    assert_eq!(one.only_asked().1, 20);
}

/// A wiped disk at the same place: which of the two is dead, nobody can tell, and neither may found a ring by itself.
#[test]
fn an_orphan_does_not_count_as_the_smallest_beside_another_disk_at_its_own_place() {
    let mut one = One::among([]);
    let twin = NodeRef { key: MemberKey { id: Id::from(50), disk: Disk(7) }, internal_addr: "51".into(), ..node(50) };
    one.view.merge(Member { node: twin, revision: 1, state: MemberState::Serving });
    one.with(|ring, env| ring.rejoin(env));
    for _ in 0..10 {
        let (call, to) = one.only_asked();
        assert_eq!(to, 51);
        one.tell(call, Ok(RingReply::Refused("an orphan too".into())));
        one.tick(5000);
        assert!(!one.ring.is_member());
    }
}

#[test]
fn every_contact_of_a_way_has_its_time_in_microseconds() {
    let mut one = One::settled();
    // Who owns it is known here: the way ends at once, and no time has passed.
    one.hear(RingRequest::FindSuccessor { target: Id::from(55), hops: 0, trace: true });
    let hop = |place: u64, via, elapsed_us| Hop { node: node(place), via, elapsed_us };
    let path = vec![hop(50, Via::Start, 0), hop(60, Via::Owner, 0)];
    let found = RingReply::FindSuccessor { owner: node(60), predecessor: Some(Id::from(50)), path };
    assert_eq!(one.out, [Output::Reply { token: Token(1), reply: found }]);
    // A silent hop first, and then what it would have been asked is known here.
    one.hear(RingRequest::FindSuccessor { target: Id::from(95), hops: 0, trace: true });
    let (call, to) = one.only_asked();
    assert_eq!(to, 90);
    one.hear(RingRequest::Leave { from: node(60), predecessor: None, successors: vec![node(97)] });
    one.us += 12_345;
    one.tell(call, Err(CallError::Unreachable));
    let path = vec![hop(50, Via::Start, 12_345), hop(97, Via::Owner, 12_345)];
    let found = RingReply::FindSuccessor { owner: node(97), predecessor: Some(Id::from(50)), path };
    assert_eq!(one.out, [Output::Reply { token: Token(1), reply: found }]);
}

#[test]
fn a_lookup_that_comes_back_to_where_it_began_has_found_its_owner() {
    let mut one = One::settled();
    one.with(|ring, env| ring.lookup(Token(5), Id::from(45), env));
    // Its own range: nobody is asked.
    assert!(matches!(&one.out[..], [Output::Client { outcome: Outcome::Path { hops, .. }, .. }] if hops.len() == 1));
    one.with(|ring, env| ring.lookup(Token(5), Id::from(35), env));
    let (call, to) = one.only_asked();
    assert_eq!(to, 90);
    one.us += 12_345;
    // 10, 20, 30 and 40 are dead: for 90, 50 comes next.
    one.suspects.insert(node(40).key);
    one.tell(call, Ok(closest(50, true)));
    let hop = |place: u64, via, elapsed_us| Hop { node: node(place), via, elapsed_us };
    let hops = vec![hop(50, Via::Start, 0), hop(90, Via::Successor(3), 12_345), hop(50, Via::Owner, 12_345)];
    let outcome = Outcome::Path { hops, owner: node(50) };
    assert_eq!(one.out, [Output::Client { token: Token(5), outcome }]);
}

/// Sends a lookup for 35 from one node to the next; with how many contacts it was given up.
fn sent_on(one: &mut One, mut answer: impl FnMut(usize) -> RingReply) -> Result<Vec<Hop>, usize> {
    one.with(|ring, env| ring.lookup(Token(5), Id::from(35), env));
    for asked in 0.. {
        match &one.out[..] {
            [Output::Client { outcome: Outcome::Unavailable(why), .. }] => {
                assert!(why.contains("too many hops"), "{why}");
                return Err(asked);
            }
            [Output::Client { outcome: Outcome::Path { hops, .. }, .. }] => return Ok(hops.clone()),
            _ => {}
        }
        assert!(asked < 100, "it has no end");
        let call = one.only_asked().0;
        one.tell(call, Ok(answer(asked)));
    }
    unreachable!("it ends or it fails")
}

#[test]
fn a_lookup_that_turns_back_is_given_up_at_once_unless_the_way_ends_there() {
    let mut one = One::settled();
    let back = [60, 70, 60];
    assert_eq!(sent_on(&mut one, |asked| closest(back[asked], false)), Err(3));
    let found = sent_on(&mut one, |asked| [closest(20, false), closest(90, true), closest(90, true)][asked].clone());
    let places: Vec<Id> = found.expect("an owner").iter().map(|hop| hop.node.id()).collect();
    assert_eq!(places, [50, 90, 20, 90].map(Id::from), "who had passed it on owns it after all");
}

#[test]
fn a_lookup_that_never_arrives_is_given_up_after_its_budget() {
    let mut one = One::settled();
    // Nine members: twice the whole part of their logarithm, and eight.
    assert_eq!(sent_on(&mut one, |asked| closest(1000 + asked as u64, false)), Err(14));
    let found = sent_on(&mut one, |asked| closest(1000 + asked.min(12) as u64, asked >= 12));
    assert_eq!(found.map(|hops| hops.len()), Ok(15), "the last that it may ask is the owner");
}

#[test]
fn one_round_of_fingers_at_a_time_whatever_else_is_looked_up() {
    let mut one = One::settled();
    let walks = |one: &One| {
        let walk =
            |(_, _, request): &&(_, _, RingRequest)| matches!(request, RingRequest::ClosestPrecedingFinger { .. });
        one.asked().iter().filter(walk).count()
    };
    one.with(|ring, env| ring.lookup(Token(5), Id::from(35), env));
    one.tick(10_000);
    assert_eq!(walks(&one), 1, "a client's lookup is no reason to wait");
    one.tick(10_000);
    assert_eq!(walks(&one), 0, "the last round is not over");
}

#[test]
fn only_a_change_of_the_nearest_pointers_is_news() {
    let mut one = One::settled();
    let news = |one: &mut One| {
        let told = |news: &RingNews| matches!(news, RingNews::Successor(_) | RingNews::Predecessor(_));
        one.ring.take_news().into_iter().filter(told).collect::<Vec<_>>()
    };
    let round = |one: &mut One, first: u64, list: &[u64], predecessor: u64| {
        one.tick(10_000);
        let call = one.list_asked(first).expect("a round");
        one.tell(call, Ok(list_of(first, list, Some(predecessor))));
    };
    round(&mut one, 60, &[70, 80], 50);
    one.hear(RingRequest::Notify { from: node(40) });
    assert_eq!(news(&mut one), [], "as before");
    one.hear(RingRequest::Notify { from: node(45) });
    assert_eq!(news(&mut one), [RingNews::Predecessor(Some(node(45)))]);
    one.hear(RingRequest::Leave { from: node(60), predecessor: None, successors: vec![node(65)] });
    assert_eq!(news(&mut one), [RingNews::Successor(Some(node(65)))]);
    one.hear(RingRequest::Leave { from: node(45), predecessor: None, successors: vec![] });
    assert_eq!(news(&mut one), [RingNews::Predecessor(None)]);
}

/// It had lost sight of all but its neighbours, and the one after it says goodbye.
#[test]
fn who_is_left_alone_closes_the_circle_through_its_predecessor_if_that_lives() {
    let left_alone = |predecessor_is_dead: bool| {
        let mut one = One::among([40, 50, 60]);
        one.with(|ring, env| ring.settle(node(40), vec![node(60)], [], env));
        if predecessor_is_dead {
            one.suspects.insert(node(40).key);
        }
        one.hear(RingRequest::Leave { from: node(60), predecessor: Some(node(50)), successors: vec![] });
        one.tick(0);
        assert!(one.ring.is_member());
        (one.successors(), one.predecessor())
    };
    assert_eq!(left_alone(false), (vec![40], Some(40)));
    assert_eq!(left_alone(true), (vec![], None));
}

#[test]
fn a_ring_of_one_follows_whom_it_has_probed_but_neither_itself_nor_after_it_has_left() {
    let probed = || {
        let mut one = One::founder([50, 55]);
        one.tick(30_000);
        let probe = one.list_asked(55).expect("a probe");
        (one, probe)
    };
    let (mut one, probe) = probed();
    one.tell(probe, Ok(list_of(55, &[60], None)));
    assert_eq!(one.successors(), [55]);
    assert!(matches!(&one.asked()[..], [(_, 55, RingRequest::Notify { .. })]));
    // A name that resolves to this very node.
    let (mut one, probe) = probed();
    one.tell(probe, Ok(list_of(50, &[], None)));
    assert_eq!((one.successors(), one.asked().len()), (vec![], 0));
    let (mut one, probe) = probed();
    one.with(|ring, env| ring.depart(env));
    one.tell(probe, Ok(list_of(55, &[60], None)));
    assert_eq!((one.successors(), one.asked().len()), (vec![], 0));
}

#[test]
fn a_copy_of_a_directory_that_counts_the_same_start_does_not_take_a_successors_place() {
    let mut one = One::settled();
    let elsewhere = |incarnation| NodeRef { incarnation, internal_addr: "elsewhere".into(), ..node(60) };
    let known = |one: &One| one.ring.neighbours().successors[0].internal_addr.clone();
    one.hear(RingRequest::Notify { from: elsewhere(1) });
    assert_eq!(known(&one), "60");
    one.hear(RingRequest::Notify { from: elsewhere(2) });
    assert_eq!(known(&one), "elsewhere", "a later start is the member itself");
}

#[test]
fn a_candidate_that_no_longer_lies_before_the_successor_is_not_asked() {
    let mut one = One::settled();
    one.tick(10_000);
    let call = one.list_asked(60).expect("a round");
    one.tell(call, Ok(list_of(60, &[70, 80, 90], Some(57))));
    let call = one.list_asked(57).expect("the closer one");
    // One closer still is for the next round; until then one comes that is nearer than both.
    one.tell(call, Ok(list_of(57, &[60, 70, 80], Some(55))));
    one.hear(RingRequest::Leave { from: node(57), predecessor: None, successors: vec![node(52), node(60)] });
    assert_eq!(one.successors(), [52, 60]);
    one.tick(10_000);
    assert!(one.list_asked(52).is_some() && one.list_asked(55).is_none(), "{:?}", one.asked());
}

#[test]
fn nobody_is_probed_while_a_candidate_waits() {
    let mut one = One::settled();
    one.settings.probe_interval = Nanos::from_millis(1000);
    one.tick(12_500);
    let call = one.list_asked(60).expect("a round");
    one.tell(call, Ok(list_of(60, &[70, 80, 90], Some(57))));
    let call = one.list_asked(57).expect("the closer one");
    one.tell(call, Ok(list_of(57, &[60, 70, 80], Some(53))));
    one.is_known(55);
    one.tick(1250);
    assert!(one.asked().is_empty(), "53 comes first, at the next round: {:?}", one.asked());
    one.tick(2500);
    assert!(one.list_asked(53).is_some());
}

fn settled_with(fingers: &[(u32, u64)]) -> One {
    let mut one = One::settled();
    settle(&mut one, fingers);
    one
}

fn settle(one: &mut One, fingers: &[(u32, u64)]) {
    let fingers = fingers.iter().map(|(index, place)| (*index, node(*place)));
    one.with(|ring, env| ring.settle(node(40), [60, 70, 80, 90].map(node).into(), fingers, env));
}

fn fingers(one: &One) -> Vec<(u32, u64)> {
    one.ring
        .fingers()
        .into_iter()
        .map(|(index, _, node)| (index, node.internal_addr.parse().expect("a place")))
        .collect()
}

/// Node 50 sees 60 at its fingers 0 to 3, 70 at 4, 90 at 5, and looks for the next.
const NEAR: [(u32, u64); 6] = [(0, 60), (1, 60), (2, 60), (3, 60), (4, 70), (5, 90)];

#[test]
fn fingers_that_the_successor_list_covers_are_set_without_a_question() {
    let mut one = One::settled();
    one.tick(10_000);
    assert_eq!(fingers(&one), NEAR);
    let target = Id::from(50).plus_power_of_two(6);
    let walk = RingRequest::ClosestPrecedingFinger { target, avoid: vec![], as_owner: false };
    assert!(one.asked().iter().any(|(_, to, request)| (*to, request) == (90, &walk)), "{:?}", one.asked());
}

#[test]
fn the_fingers_of_who_has_left_go_to_the_next_node_though_it_has_some_already() {
    let mut one = settled_with(&NEAR);
    one.hear(RingRequest::Leave { from: node(60), predecessor: None, successors: [70, 80, 90].map(node).into() });
    assert_eq!(fingers(&one), [(4, 70), (5, 90)]);
    one.tick(10_000);
    assert_eq!(fingers(&one), [(0, 70), (1, 70), (2, 70), (3, 70), (4, 70), (5, 90)]);
}

#[test]
fn fingers_set_one_by_one_in_any_order_make_the_same_table() {
    let whole: Vec<(u32, u64)> = NEAR.into_iter().chain((6..160).map(|index| (index, 40))).collect();
    let backwards: Vec<(u32, u64)> = whole.iter().rev().copied().collect();
    // A round sets whole runs of fingers at a time.
    let mut round = One::settled();
    round.tick(10_000);
    let mut asked = round.asked();
    while let Some((call, to, request)) = asked.pop() {
        let reply = match request {
            RingRequest::GetSuccessorList => list_of(to, &[70, 80, 90], Some(50)),
            RingRequest::ClosestPrecedingFinger { .. } => closest(40, true),
            _ => RingReply::Notify,
        };
        round.tell(call, Ok(reply));
        asked.extend(round.asked());
    }
    // Also to the models, which count states by their hashes.
    let hash = |one: &One| {
        let mut hasher = DefaultHasher::new();
        one.ring.hash(&mut hasher);
        hasher.finish()
    };
    for one in [&settled_with(&whole), &settled_with(&backwards)] {
        assert_eq!(fingers(one), whole);
        assert_eq!((fingers(&round), hash(&round)), (fingers(one), hash(one)));
    }
    assert_ne!(hash(&round), hash(&settled_with(&whole[1..])));
}

#[test]
fn who_is_no_finger_any_more_is_not_sent_questions() {
    let mut one = settled_with(&[(7, 200)]);
    let next_hop = |one: &mut One| {
        one.hear(RingRequest::FindSuccessor { target: Id::from(300), hops: 0, trace: false });
        one.only_asked().1
    };
    assert_eq!(next_hop(&mut one), 200);
    settle(&mut one, &[(7, 180)]);
    assert_eq!((fingers(&one), next_hop(&mut one)), (vec![(7, 180)], 180));
}

#[test]
fn lookups_end_at_a_joiner_once_its_successor_has_named_it() {
    let (mut one, call) = joiner();
    let accepted = JoinReply::Accepted {
        predecessor: node(40),
        successors: [60, 70, 80].map(node).to_vec(),
        ring_id: GENESIS.ring_id,
        shards: GENESIS.shards,
        replication_factor: GENESIS.replication_factor,
        members: vec![],
    };
    one.tell(call, Ok(RingReply::Join(accepted)));
    let answers = |one: &mut One| {
        one.hear(RingRequest::ClosestPrecedingFinger { target: Id::from(45), avoid: vec![], as_owner: true });
        let refused = |output: &Output| matches!(output, Output::Reply { reply: RingReply::Refused(_), .. });
        !one.out.iter().any(refused)
    };
    assert!(one.ring.is_member() && !answers(&mut one), "60 has not heard of it");
    // 60 is told, and looked at again soon.
    one.tick(1);
    let call = one.list_asked(60).expect("it looks at its successor");
    one.tell(call, Ok(list_of(60, &[70, 80], Some(40))));
    let (notify, to) = one.only_asked();
    assert_eq!((to, answers(&mut one)), (60, false));
    one.tell(notify, Ok(RingReply::Notify));
    one.tick(50);
    let call = one.list_asked(60).expect("it looks whether it is known");
    one.tell(call, Ok(list_of(60, &[70, 80], Some(50))));
    let (notify, _) = one.only_asked();
    assert!(answers(&mut one), "it owns what lies between 40 and itself");
    // From now on at the usual pace.
    one.tell(notify, Ok(RingReply::Notify));
    one.tick(60);
    assert_eq!(one.list_asked(60), None);
}

/// A founder that does nothing but stabilize, right after it has.
fn stabilized(seed: u64, fix_fingers_interval: Nanos) -> One {
    let mut one = One::among([]);
    let never = Nanos::from_millis(1_000_000);
    one.rng = ChaCha8Rng::seed_from_u64(seed);
    one.settings = Settings { fix_fingers_interval, probe_interval: never, ..one.settings };
    one.with(|ring, env| ring.found(env));
    one.tick(0);
    one
}

#[test]
fn rounds_of_many_nodes_come_at_different_times_a_quarter_around_the_interval() {
    let wait = |seed| stabilized(seed, Nanos::from_millis(1_000_000)).waits();
    let waits: BTreeSet<u64> = (0..300).map(wait).collect();
    let (first, last) = (waits.first().copied(), waits.last().copied());
    assert!(first.is_some_and(|ms| (2250..2300).contains(&ms)), "{first:?}");
    assert!(last.is_some_and(|ms| (3700..=3750).contains(&ms)), "{last:?}");
}

#[test]
fn fingers_are_first_looked_for_soon_after_the_first_neighbours_are_known() {
    assert_eq!(stabilized(0, Nanos::from_millis(3000)).waits(), 300);
}
