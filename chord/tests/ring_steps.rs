//! Each step of the ring protocol by one node: what it is told, what it asks and where it points then.
mod common;

use chord::{
    id::Id,
    io::{CallError, CallId, Output, Token},
    member::{Disk, Member, MemberKey, MemberState, NodeRef, View},
    msg::{JoinReply, Neighbours, RingReply, RingRequest},
    ring::{Genesis, Ring, RingEnv, RingNews},
    settings::Settings,
    time::{Nanos, Now},
};
use common::node;
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeSet;

/// The node at 50 of a ring of 10, 20, .. 90.
struct One {
    ring: Ring,
    ms: u64,
    rng: ChaCha8Rng,
    view: View,
    suspects: BTreeSet<MemberKey>,
    settings: Settings,
    genesis: Option<Genesis>,
    calls: u64,
    tokens: u64,
}

const GENESIS: Genesis = Genesis { ring_id: 9, shards: 4, replication_factor: 3 };

fn member(place: u64, state: MemberState) -> Member {
    Member { node: node(place), revision: 1, state }
}

fn neighbours(place: u64, successors: &[u64], predecessor: Option<u64>) -> Neighbours {
    let successors = successors.iter().copied().map(node).collect();
    Neighbours { node: node(place), member: true, successors, predecessor: predecessor.map(node), busy: false }
}

type Asked = (CallId, u64, RingRequest);

impl One {
    fn fresh() -> One {
        let mut view = View::default();
        for place in 1..=9 {
            view.merge(member(10 * place, MemberState::Serving));
        }
        One {
            ring: Ring::new(node(50)),
            ms: 1000,
            rng: ChaCha8Rng::seed_from_u64(3),
            view,
            suspects: BTreeSet::new(),
            settings: Settings { successor_list_length: 4, ..Settings::default() },
            genesis: Some(GENESIS),
            calls: 0,
            tokens: 0,
        }
    }

    /// Between 40 and 60, 70, 80, 90.
    fn settled() -> One {
        let mut one = One::fresh();
        let successors = [60, 70, 80, 90].map(node).into();
        one.with(|ring, env| ring.settle(node(40), successors, [], env));
        one.ring.take_news();
        one
    }

    fn founder() -> One {
        let mut one = One::fresh();
        one.with(|ring, env| ring.found(env));
        one.ring.take_news();
        one
    }

    fn with<T>(&mut self, act: impl FnOnce(&mut Ring, &mut RingEnv) -> T) -> (T, Vec<Output>) {
        let mut out = Vec::new();
        let mut env = RingEnv {
            now: Now { mono: Nanos::from_millis(self.ms), wall_ms: 0 },
            rng: &mut self.rng,
            view: &self.view,
            suspects: &self.suspects,
            settings: &self.settings,
            genesis: self.genesis,
            calls: &mut self.calls,
            out: &mut out,
        };
        (act(&mut self.ring, &mut env), out)
    }

    fn asks(out: Vec<Output>) -> Vec<Asked> {
        let asked = |output| match output {
            Output::Call { call, addr, request, .. } => Some((call, addr.parse().ok()?, request)),
            _ => None,
        };
        out.into_iter().filter_map(asked).collect()
    }

    /// Time passes; what it asks without being told anything.
    fn tick(&mut self, ms: u64) -> Vec<Asked> {
        self.ms += ms;
        One::asks(self.with(|ring, env| ring.tick(env)).1)
    }

    fn tell(&mut self, call: CallId, result: Result<RingReply, CallError>) -> Vec<Asked> {
        One::asks(self.with(|ring, env| ring.on_call_done(call, result, env)).1)
    }

    fn hear(&mut self, request: RingRequest) -> (RingReply, Vec<Asked>) {
        self.tokens += 1;
        let token = Token(self.tokens);
        let (_, out) = self.with(|ring, env| ring.on_request(token, request, env));
        let reply = out.iter().find_map(|output| match output {
            Output::Reply { token: of, reply } if *of == token => Some(reply.clone()),
            _ => None,
        });
        (reply.expect("an answer"), One::asks(out))
    }

    fn notify(&mut self, from: NodeRef) -> Vec<Asked> {
        let (reply, asked) = self.hear(RingRequest::Notify { from });
        assert_eq!(reply, RingReply::Notify);
        asked
    }

    fn successors(&self) -> Vec<u64> {
        let places = self.ring.neighbours().successors;
        places.iter().map(|node| node.internal_addr.parse().expect("a place")).collect()
    }

    fn predecessor(&self) -> Option<u64> {
        self.ring.neighbours().predecessor.map(|node| node.internal_addr.parse().expect("a place"))
    }

    /// The question for the list of this one, of those that were asked.
    fn list_of(place: u64, asked: &[Asked]) -> Option<CallId> {
        let list = |(_, to, request): &&Asked| *to == place && *request == RingRequest::GetSuccessorList;
        asked.iter().find(list).map(|(call, ..)| *call)
    }

    fn notified(place: u64, asked: &[Asked]) -> bool {
        asked.iter().any(|(_, to, request)| *to == place && matches!(request, RingRequest::Notify { .. }))
    }

    /// Begins a round: the call that asks the first successor.
    fn stabilize(&mut self, first: u64) -> CallId {
        let asked = self.tick(10_000);
        One::list_of(first, &asked).unwrap_or_else(|| panic!("{first} is asked for its list: {asked:?}"))
    }
}

#[test]
fn a_round_takes_the_successors_list_and_tells_it() {
    let mut one = One::settled();
    let call = one.stabilize(60);
    let asked = one.tell(call, Ok(RingReply::GetSuccessorList(neighbours(60, &[65, 70, 80, 90], Some(50)))));
    assert_eq!(one.successors(), [60, 65, 70, 80]);
    assert!(One::notified(60, &asked) && asked.len() == 1, "{asked:?}");
    assert!(one.ring.take_news().contains(&RingNews::Stabilized));
}

#[test]
fn a_closer_one_is_asked_in_the_same_round_and_one_closer_still_in_the_next() {
    let mut one = One::settled();
    let call = one.stabilize(60);
    let asked = one.tell(call, Ok(RingReply::GetSuccessorList(neighbours(60, &[70, 80, 90], Some(57)))));
    let call = One::list_of(57, &asked).expect("the closer one is asked at once");
    assert!(!One::notified(60, &asked));
    let asked = one.tell(call, Ok(RingReply::GetSuccessorList(neighbours(57, &[60, 70, 80], Some(53)))));
    assert_eq!(one.successors(), [57, 60, 70, 80]);
    assert!(One::notified(57, &asked) && One::list_of(53, &asked).is_none(), "{asked:?}");
    let call = one.stabilize(53);
    // It does not answer: the first successor stays, and is told.
    let asked = one.tell(call, Err(CallError::Unreachable));
    assert!(One::notified(57, &asked), "{asked:?}");
    assert_eq!(one.successors(), [57, 60, 70, 80]);
    // One that is not closer is not asked.
    let call = one.stabilize(57);
    let asked = one.tell(call, Ok(RingReply::GetSuccessorList(neighbours(57, &[60, 70, 80], Some(45)))));
    assert!(One::notified(57, &asked) && asked.len() == 1, "{asked:?}");
}

#[test]
fn a_successor_is_dropped_at_the_second_silence_or_when_it_is_gone() {
    let mut one = One::settled();
    let call = one.stabilize(60);
    assert!(one.tell(call, Err(CallError::Unreachable)).is_empty());
    assert_eq!(one.successors(), [60, 70, 80, 90], "it may only be slow");
    assert_eq!(one.ring.next_deadline(), Nanos::from_millis(one.ms), "asked again at once");
    let asked = one.tick(0);
    let call = One::list_of(60, &asked).expect("the same question again");
    let asked = one.tell(call, Err(CallError::Unreachable));
    assert_eq!(one.successors(), [70, 80, 90]);
    assert!(One::notified(70, &asked));
    let call = one.stabilize(70);
    one.tell(call, Err(CallError::Refused));
    assert_eq!(one.successors(), [80, 90], "nobody listens there");
    let call = one.stabilize(80);
    let other = NodeRef { key: MemberKey { id: Id::from(80), disk: Disk(7) }, ..node(80) };
    one.tell(call, Ok(RingReply::GetSuccessorList(Neighbours { node: other, ..neighbours(80, &[90], None) })));
    assert_eq!(one.successors(), [90], "another disk is another member");
    let call = one.stabilize(90);
    one.tell(call, Ok(RingReply::GetSuccessorList(Neighbours { member: false, ..neighbours(90, &[10], None) })));
    assert_eq!(one.successors(), [0; 0], "no member any more");
    assert_eq!(one.predecessor(), None);
    assert!(
        !one.ring.is_member() && one.ring.take_news().contains(&RingNews::Rejoining),
        "an orphan is no ring of one"
    );
}

#[test]
fn the_death_of_the_first_successor_is_acted_on_at_once() {
    let mut one = One::settled();
    let (_, out) = one.with(|ring, env| ring.on_peer_down(&node(70).key, env));
    assert!(out.is_empty());
    assert_eq!(one.successors(), [60, 70, 80, 90]);
    let (_, out) = one.with(|ring, env| ring.on_peer_down(&node(60).key, env));
    assert!(One::notified(70, &One::asks(out)));
    assert_eq!(one.successors(), [70, 80, 90]);
}

#[test]
fn a_reply_that_comes_after_the_first_successor_has_changed_is_not_applied() {
    let mut one = One::settled();
    let call = one.stabilize(60);
    one.hear(RingRequest::Leave { from: node(60), predecessor: Some(node(50)), successors: vec![node(70)] });
    assert_eq!(one.successors(), [70]);
    one.tell(call, Ok(RingReply::GetSuccessorList(neighbours(60, &[65, 70], Some(50)))));
    assert_eq!(one.successors(), [70]);
}

#[test]
fn a_closer_notifier_becomes_the_predecessor_and_another_one_only_if_the_present_is_dead() {
    let mut one = One::settled();
    assert!(one.notify(node(45)).is_empty());
    assert_eq!(one.predecessor(), Some(45));
    assert!(one.notify(node(50)).is_empty());
    assert_eq!(one.predecessor(), Some(45), "it is not its own predecessor");
    let asked = one.notify(node(42));
    assert!(matches!(&asked[..], [(_, 45, RingRequest::Ping { .. })]), "{asked:?}");
    one.tell(asked[0].0, Ok(RingReply::Ping { node: node(45), member: true }));
    assert_eq!(one.predecessor(), Some(45), "it lives");
    let other = NodeRef { key: MemberKey { id: Id::from(45), disk: Disk(7) }, ..node(45) };
    let dead = [
        Err(CallError::Unreachable),
        Ok(RingReply::Ping { node: node(45), member: false }),
        Ok(RingReply::Ping { node: other.clone(), member: true }),
        Ok(RingReply::Notify),
    ];
    for answer in dead {
        one.notify(node(45));
        let asked = one.notify(node(42));
        one.tell(asked[0].0, answer.clone());
        assert_eq!(one.predecessor(), Some(42), "{answer:?}");
    }
    one.notify(node(45));
    one.suspects.insert(node(45).key);
    assert!(one.notify(node(42)).is_empty(), "known to be dead");
    assert_eq!(one.predecessor(), Some(42));
}

#[test]
fn a_predecessor_that_starts_again_is_known_by_its_new_start() {
    let mut one = One::settled();
    let start = |incarnation, place| NodeRef { incarnation, ..node(place) };
    let known = |one: &One| one.ring.neighbours().predecessor.map(|node| (node.key.disk.0, node.incarnation));
    one.notify(start(3, 40));
    assert_eq!(known(&one), Some((40, 3)));
    one.notify(start(2, 40));
    assert_eq!(known(&one), Some((40, 3)), "an old message");
    let other = NodeRef { key: MemberKey { id: Id::from(40), disk: Disk(7) }, ..start(1, 40) };
    one.notify(other);
    assert_eq!(known(&one), Some((7, 1)), "another disk counts anew");
    one.notify(start(5, 60));
    assert_eq!(one.ring.neighbours().successors[0].incarnation, 5, "successors too");
}

#[test]
fn a_ring_of_one_closes_through_whoever_notifies_it() {
    let mut one = One::founder();
    one.tick(10_000);
    assert!(one.ring.take_news().contains(&RingNews::Stabilized));
    one.notify(node(20));
    assert_eq!((one.successors(), one.predecessor()), (vec![20], Some(20)));
    // And is one again when the other leaves in good order.
    one.hear(RingRequest::Leave { from: node(20), predecessor: Some(node(50)), successors: vec![node(50)] });
    assert_eq!((one.successors(), one.predecessor()), (vec![], None));
    one.tick(10_000);
    assert!(one.ring.is_member(), "alone by right");
    let news = one.ring.take_news();
    assert!(news.contains(&RingNews::Stabilized) && !news.contains(&RingNews::Rejoining), "{news:?}");
}

#[test]
fn a_goodbye_closes_the_gap() {
    let goodbye = |from: u64, predecessor: u64, successors: &[u64]| RingRequest::Leave {
        from: node(from),
        predecessor: Some(node(predecessor)),
        successors: successors.iter().copied().map(node).collect(),
    };
    let mut one = One::settled();
    one.hear(goodbye(60, 50, &[63, 70, 80, 90]));
    assert_eq!((one.successors(), one.predecessor()), (vec![63, 70, 80, 90], Some(40)), "the list of who leaves");
    assert_eq!(one.ring.next_deadline(), Nanos::from_millis(one.ms), "and a look at once");
    one.hear(goodbye(80, 70, &[90, 10]));
    assert_eq!((one.successors(), one.predecessor()), (vec![63, 70, 90], Some(40)));
    one.hear(goodbye(40, 30, &[50, 63]));
    assert_eq!((one.successors(), one.predecessor()), (vec![63, 70, 90], Some(30)));
    one.hear(goodbye(20, 10, &[30]));
    assert_eq!((one.successors(), one.predecessor()), (vec![63, 70, 90], Some(30)), "no neighbour");
    one.hear(goodbye(30, 30, &[50]));
    assert_eq!(one.predecessor(), None, "who leaves is nobody's predecessor");
    let mut one = One::fresh();
    one.hear(goodbye(60, 50, &[70]));
    assert_eq!(one.ring.next_deadline(), Nanos(u64::MAX), "none of its business");
}

#[test]
fn members_that_ought_to_lie_before_the_successor_are_probed() {
    let mut one = One::settled();
    one.view.merge(member(55, MemberState::Serving));
    let probes = |one: &mut One| {
        let asked = one.tick(30_000);
        if let Some(round) = One::list_of(60, &asked) {
            one.tell(round, Ok(RingReply::GetSuccessorList(neighbours(60, &[70, 80, 90], Some(50)))));
        }
        One::list_of(55, &asked)
    };
    let call = probes(&mut one).expect("55 is asked");
    one.tell(call, Ok(RingReply::GetSuccessorList(Neighbours { member: false, ..neighbours(55, &[60], None) })));
    let call = probes(&mut one).expect("it was no member: asked again");
    one.tell(call, Ok(RingReply::GetSuccessorList(neighbours(50, &[60], None))));
    let call = probes(&mut one).expect("itself: asked again");
    one.tell(call, Ok(RingReply::GetSuccessorList(neighbours(55, &[60], None))));
    assert_eq!(one.ring.next_deadline(), Nanos::from_millis(one.ms), "looked at in a round that begins at once");
    let asked = one.tick(0);
    assert!(One::list_of(55, &asked).is_some(), "as a candidate: {asked:?}");
    // Nobody who has left, or does not answer.
    let mut one = One::settled();
    one.view.merge(member(55, MemberState::Left));
    assert_eq!(probes(&mut one), None);
    let mut one = One::settled();
    one.view.merge(member(55, MemberState::Serving));
    one.suspects.insert(node(55).key);
    assert_eq!(probes(&mut one), None);
}

#[test]
fn a_joiner_is_adopted_in_the_step_that_answers_it() {
    let mut one = One::settled();
    let (reply, _) = one.hear(RingRequest::Join { joiner: node(55) });
    let RingReply::Join(JoinReply::Accepted { predecessor, successors, ring_id, shards, replication_factor, members }) =
        reply
    else {
        panic!("accepted, not {reply:?}")
    };
    assert_eq!((predecessor, ring_id, shards, replication_factor, members.len()), (node(50), 9, 4, 3, 9));
    assert_eq!(successors, [60, 70, 80, 90].map(node));
    assert_eq!(one.successors(), [55, 60, 70, 80]);
    assert_eq!(one.predecessor(), Some(40));
    // With room in the list this node is in it.
    let mut one = One::founder();
    let (reply, _) = one.hear(RingRequest::Join { joiner: node(20) });
    let RingReply::Join(JoinReply::Accepted { successors, .. }) = reply else { panic!("accepted, not {reply:?}") };
    assert_eq!(successors, [node(50)]);
    assert_eq!((one.successors(), one.predecessor()), (vec![20], Some(20)));
}

#[test]
fn a_joiner_is_sent_to_the_node_before_its_place() {
    let mut one = One::settled();
    let mut redirect = |joiner: u64| match one.hear(RingRequest::Join { joiner: node(joiner) }).0 {
        RingReply::Join(JoinReply::Redirect(node)) => node.internal_addr.parse::<u64>().expect("a place"),
        other => panic!("redirected, not {other:?}"),
    };
    assert_eq!(redirect(65), 60);
    assert_eq!(redirect(85), 80);
    assert_eq!(redirect(45), 40, "its own predecessor knows");
    assert_eq!(redirect(20), 90, "as near as it can tell");
    one.suspects.insert(node(40).key);
    let (reply, _) = one.hear(RingRequest::Join { joiner: node(45) });
    assert_eq!(reply, RingReply::Join(JoinReply::Busy(200)), "its predecessor is dead: later");
}

#[test]
fn joiners_that_can_never_be_members_are_told_why() {
    let mut one = One::settled();
    let mut refused = |joiner: NodeRef| match one.hear(RingRequest::Join { joiner }).0 {
        RingReply::Join(JoinReply::Refused(why)) => why,
        other => panic!("refused, not {other:?}"),
    };
    let disk = |place: u64| NodeRef { key: MemberKey { id: Id::from(place), disk: Disk(7) }, ..node(place) };
    assert!(refused(disk(50)).contains("is taken by n-50"));
    assert!(refused(disk(20)).contains("belongs to n-20 with another data directory"));
    one.view.merge(member(20, MemberState::Evicted));
    let mut refused = |joiner: NodeRef| match one.hear(RingRequest::Join { joiner }).0 {
        RingReply::Join(JoinReply::Refused(why)) => Some(why),
        _ => None,
    };
    assert!(refused(node(20)).is_some_and(|why| why.contains("has left this ring for good")));
    assert_eq!(refused(disk(20)), None, "its place is free");
    let mut one = One::fresh();
    let (reply, _) = one.hear(RingRequest::Join { joiner: node(55) });
    assert!(matches!(reply, RingReply::Refused(_)), "no member itself: {reply:?}");
}

#[test]
fn a_node_joins_through_a_seed_and_follows_where_it_is_sent() {
    let mut one = One::fresh();
    one.genesis = None;
    one.view = View::default();
    let (_, out) = one.with(|ring, env| ring.join(vec!["20".into()], Some(9), env));
    let mut asked = One::asks(out);
    for next in [30, 40, 30] {
        assert!(matches!(&asked[..], [(_, _, RingRequest::Join { .. })]), "{asked:?}");
        asked = one.tell(asked[0].0, Ok(RingReply::Join(JoinReply::Redirect(node(next)))));
        assert_eq!(asked[0].1, next);
    }
    // Busy: the same one again, when it says.
    assert!(one.tell(asked[0].0, Ok(RingReply::Join(JoinReply::Busy(200)))).is_empty());
    assert_eq!(one.ring.next_deadline(), Nanos::from_millis(one.ms + 200));
    assert!(one.tick(199).is_empty());
    let asked = one.tick(1);
    assert_eq!(asked[0].1, 30);
    // Silence: not at once.
    assert!(one.tell(asked[0].0, Err(CallError::Unreachable)).is_empty());
    assert!(one.ring.next_deadline() > Nanos::from_millis(one.ms));
    let accepted = |ring_id| {
        let successors = [60, 70, 80, 90, 10].map(node).into();
        RingReply::Join(JoinReply::Accepted {
            predecessor: node(40),
            successors,
            ring_id,
            shards: 4,
            replication_factor: 3,
            members: vec![member(40, MemberState::Serving)],
        })
    };
    let asked = one.tick(20_000);
    assert_eq!(asked[0].1, 20, "from the seed on");
    one.tell(asked[0].0, Ok(accepted(8)));
    assert!(matches!(&one.ring.take_news()[..], [RingNews::JoinRefused(why)] if why.contains("that is ring")));
    let asked = one.tick(20_000);
    one.tell(asked[0].0, Ok(RingReply::Join(JoinReply::Refused("no".into()))));
    assert_eq!(one.ring.take_news(), [RingNews::JoinRefused("no".into())]);
    let asked = one.tick(20_000);
    one.tell(asked[0].0, Ok(accepted(9)));
    assert_eq!((one.successors(), one.predecessor()), (vec![60, 70, 80, 90], Some(40)));
    let joined = RingNews::Joined { genesis: GENESIS, members: vec![member(40, MemberState::Serving)] };
    assert!(one.ring.take_news().contains(&joined));
}

#[test]
fn a_joiner_that_is_sent_round_and_round_begins_again() {
    let mut one = One::fresh();
    (one.genesis, one.view) = (None, View::default());
    let (_, out) = one.with(|ring, env| ring.join(vec!["20".into()], None, env));
    let mut asked = One::asks(out);
    let mut redirects = 0;
    while !asked.is_empty() {
        redirects += 1;
        assert!(redirects <= 40);
        asked = one.tell(asked[0].0, Ok(RingReply::Join(JoinReply::Redirect(node(30)))));
    }
    assert_eq!(redirects, 40);
    assert_eq!(one.tick(20_000)[0].1, 20, "from the seed on");
}

#[test]
fn pauses_between_attempts_double_up_to_a_bound() {
    let mut one = One::fresh();
    (one.genesis, one.view) = (None, View::default());
    let (_, out) = one.with(|ring, env| ring.join(vec!["20".into()], None, env));
    let mut call = One::asks(out)[0].0;
    let mut pauses = Vec::new();
    for _ in 0..12 {
        one.tell(call, Err(CallError::Unreachable));
        let pause = one.ring.next_deadline().since(Nanos::from_millis(one.ms)).as_millis();
        pauses.push(pause);
        call = one.tick(pause + 1)[0].0;
    }
    for (pause, attempt) in pauses.iter().zip(0..) {
        let mean = (100u64 << attempt).min(3000);
        assert!((mean / 2..=mean * 3 / 2).contains(pause), "{pauses:?}");
    }
}

#[test]
fn the_last_orphan_forms_the_ring_again_only_if_it_is_the_smallest() {
    let orphans = |places: &[u64]| {
        let mut one = One::fresh();
        one.view = View::default();
        for place in places.iter().chain(&[50]) {
            one.view.merge(member(*place, MemberState::Serving));
        }
        let (_, out) = one.with(|ring, env| ring.rejoin(env));
        let mut asked = One::asks(out);
        for _ in 0..20 {
            if let Some((call, ..)) = asked.pop() {
                asked = one.tell(call, Ok(RingReply::Refused("an orphan too".into())));
            }
            if one.ring.is_member() {
                return true;
            }
            asked.extend(one.tick(5000));
        }
        false
    };
    assert!(orphans(&[]) && orphans(&[60, 70]));
    assert!(!orphans(&[60, 40]) && !orphans(&[40]));
}
