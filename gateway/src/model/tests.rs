use super::*;
use crate::schema::State;
use chord::id::Id;
use chord_proto::v1::MemberState as Wire;

/// A place on the circle: quarters are 0x00, 0x40, 0x80 and 0xc0.
fn place(first: u8) -> Vec<u8> {
    let mut id = vec![0; 20];
    id[0] = first;
    id
}

fn node(first: u8) -> v1::NodeRef {
    v1::NodeRef {
        id: place(first).into(),
        name: format!("n-{first:02x}"),
        disk_uuid: vec![first; 16].into(),
        incarnation: 1,
        client_addr: format!("n-{first:02x}:7401"),
        ..Default::default()
    }
}

fn key(first: u8) -> MemberKey {
    let disk = chord::member::Disk(u128::from_be_bytes([first; 16]));
    MemberKey { id: Id::from_slice(&place(first)).expect("20 bytes"), disk }
}

/// What `me` says in a ring of `all`, in order; those in `down` it does not reach.
fn says(me: u8, all: &[u8], down: &[u8]) -> v1::DescribeResponse {
    let at = all.iter().position(|other| *other == me).expect("a member");
    let member = |other: &u8| v1::Member {
        node: Some(node(*other)),
        state: Wire::Serving.into(),
        reachable: !down.contains(other),
        revision: 1,
    };
    v1::DescribeResponse {
        node: Some(node(me)),
        state: Wire::Serving.into(),
        ring_id: vec![7; 16].into(),
        predecessor: Some(node(all[(at + all.len() - 1) % all.len()])),
        successors: all.iter().cycle().skip(at + 1).take(all.len()).map(|other| node(*other)).collect(),
        members: all.iter().map(member).collect(),
        stats: Some(v1::NodeStats { keys_leader: 100, lookups: 2, lookup_hops: 5, ..Default::default() }),
        version: "1".into(),
        uptime_ms: 1,
        shards: 256,
        replication_factor: 3,
        operator: None,
    }
}

fn hear(model: &mut Model, wire: v1::DescribeResponse, now: Millis) -> Result<(), Refused> {
    model.describe(Description::parse(wire).expect("well formed"), now)
}

fn ring_of(all: &[u8]) -> Model {
    let mut model = Model::new("demo", "default", "s");
    for me in all {
        hear(&mut model, says(*me, all, &[]), 1000).expect("taken in");
    }
    model
}

fn published(model: &mut Model, now: Millis) -> Publication {
    model.publish(now).expect("something changed")
}

fn find<'a>(ring: &'a Ring, name: &str) -> &'a Node {
    ring.nodes.iter().find(|node| node.name == name).unwrap_or_else(|| panic!("{name} is in {:?}", ring.nodes))
}

#[test]
fn shares_of_a_ring_wrap_past_zero_and_add_up_to_one() {
    let all = [0x10, 0x40, 0xc0];
    let ring = published(&mut ring_of(&all), 1000).ring;
    let shares: Vec<f64> = ring.nodes.iter().map(|node| node.owned_share).collect();
    // From 0xc0 over the top to 0x10: 0x50 of 0x100.
    assert_eq!(shares, [0.3125, 0.1875, 0.5]);
    assert_eq!(shares.iter().sum::<f64>(), 1.0);
}

#[test]
fn the_share_of_a_single_node_is_everything_and_of_neighbours_next_to_nothing() {
    assert_eq!(share(Id::from(5), Id::from(5)), 1.0);
    assert_eq!(share(Id::ZERO, Id::MAX), 1.0);
    assert!(share(Id::MAX, Id::ZERO) > 0.0 && share(Id::MAX, Id::ZERO) < 1e-40);
    let ring = published(&mut ring_of(&[0x33]), 1000).ring;
    assert_eq!((ring.nodes[0].owned_share, ring.converged), (1.0, true));
}

#[test]
fn a_ring_whose_nodes_all_point_right_is_converged_and_summed_up() {
    let mut model = ring_of(&[0x00, 0x40, 0x80]);
    let Publication { ring, change, .. } = published(&mut model, 1500);
    assert!(ring.converged, "{:?}", ring.stats.not_converged_because);
    assert_eq!((ring.sequence.0, ring.generated_at, ring.shards.0), (1, 1500, 256));
    assert_eq!(ring.ring_id.as_deref(), Some("07070707070707070707070707070707"));
    assert_eq!(change.expect("the first ring is no other ring").nodes.len(), 3);
    let stats = &ring.stats;
    assert_eq!((stats.keys.0, stats.load_max_mean, stats.lookup_hops_mean), (300, Some(1.0), Some(1.5)));
    assert_eq!(model.publish(2000), None, "nothing changed since");
}

#[test]
fn a_delta_has_only_what_changed() {
    let all = [0x00, 0x40, 0x80];
    let mut model = ring_of(&all);
    published(&mut model, 1000);
    let mut wire = says(0x40, &all, &[]);
    wire.uptime_ms = 2;
    hear(&mut model, wire, 2000).expect("taken in");
    let Publication { ring, change, events } = published(&mut model, 2000);
    let change = change.expect("the same ring");
    assert_eq!(change.nodes.iter().map(|node| node.name.as_str()).collect::<Vec<_>>(), ["n-40"]);
    assert!(change.removed.is_empty() && events.is_empty());
    assert_eq!(ring.sequence.0, 2);
}

#[test]
fn a_silent_member_stays_with_its_last_word_and_since_when() {
    let all = [0x00, 0x40, 0x80];
    let mut model = ring_of(&all);
    published(&mut model, 1000);
    model.lost(key(0x80), 5000, "connection refused");
    model.lost(key(0x80), 6000, "connection refused");
    let Publication { ring, events, .. } = published(&mut model, 6000);
    let silent = find(&ring, "n-80");
    assert_eq!((silent.stale_since, silent.reachable), (Some(5000), true), "the others still reach it");
    assert_eq!(silent.stats.as_ref().expect("its last word").keys_leader.0, 100);
    assert!(!ring.converged && ring.stats.stale.0 == 1);
    assert_eq!(events.iter().map(|event| event.kind.as_str()).collect::<Vec<_>>(), ["stale"]);

    for me in [0x00, 0x40] {
        hear(&mut model, says(me, &all, &[0x80]), 7000).expect("taken in");
    }
    assert!(!find(&published(&mut model, 7000).ring, "n-80").reachable);

    hear(&mut model, says(0x80, &all, &[]), 9000).expect("taken in");
    let Publication { ring, events, .. } = published(&mut model, 9000);
    assert_eq!(find(&ring, "n-80").stale_since, None);
    assert!(events[0].kind == "fresh" && events[0].message.contains("after 4 s"), "{events:?}");
}

#[test]
fn a_member_that_others_name_is_shown_before_it_was_ever_heard() {
    let mut model = Model::new("demo", "default", "s");
    hear(&mut model, says(0x00, &[0x00, 0x40], &[]), 1000).expect("taken in");
    let ring = published(&mut model, 1000).ring;
    let named = find(&ring, "n-40");
    assert_eq!((named.stale_since, named.owned_share), (Some(1000), 0.25));
    assert_eq!((&named.stats, &named.version, named.uptime_ms), (&None, &None, None));
    assert_eq!(model.targets().len(), 2);
    // It answering for the first time is no return.
    hear(&mut model, says(0x40, &[0x00, 0x40], &[]), 2000).expect("taken in");
    assert!(published(&mut model, 2000).events.is_empty());
}

#[test]
fn a_member_that_left_is_removed_without_being_called_silent() {
    let all = [0x00, 0x40, 0x80];
    let mut model = ring_of(&all);
    published(&mut model, 1000);
    model.lost(key(0x40), 2000, "it closed the stream");
    let mut wire = says(0x00, &all, &[]);
    (wire.members[1].state, wire.members[1].revision) = (Wire::Left.into(), 2);
    hear(&mut model, wire, 2100).expect("taken in");
    let Publication { ring, change, events } = published(&mut model, 2500);
    assert_eq!(change.expect("the same ring").removed, [HexId(key(0x40).id)]);
    assert_eq!((ring.nodes.len(), events.len()), (2, 0));
    assert_eq!(model.targets().len(), 2);
    // Neither an older word of another member nor its own brings it back.
    hear(&mut model, says(0x80, &all, &[]), 3000).expect("taken in");
    assert_eq!(hear(&mut model, says(0x40, &all, &[]), 3000), Err(Refused::Gone));
    assert_eq!(model.ring().nodes.len(), 2);
}

#[test]
fn a_wiped_disk_is_a_new_member_in_the_old_ones_place() {
    let all = [0x00, 0x40];
    let mut model = ring_of(&all);
    published(&mut model, 1000);
    model.lost(key(0x40), 2000, "gone");
    let mut wire = says(0x40, &all, &[]);
    let fresh = v1::NodeRef { disk_uuid: vec![9; 16].into(), ..node(0x40) };
    wire.node = Some(fresh.clone());
    wire.members[1].node = Some(fresh);
    hear(&mut model, wire, 3000).expect("taken in");
    let ring = published(&mut model, 3000).ring;
    assert_eq!((ring.nodes.len(), find(&ring, "n-40").stale_since), (2, None));
}

#[test]
fn wrong_neighbours_are_told_by_name() {
    let all = [0x00, 0x40, 0x80];
    let mut model = ring_of(&all);
    let mut wire = says(0x40, &all, &[]);
    wire.successors = vec![node(0x00)];
    hear(&mut model, wire, 1000).expect("taken in");
    let because = published(&mut model, 1000).ring.stats.not_converged_because.expect("not converged");
    assert_eq!(because, "n-40 does not have n-80 as its successor yet");
}

#[test]
fn another_ring_is_shown_only_when_this_one_is_silent() {
    let mut model = ring_of(&[0x00, 0x40]);
    published(&mut model, 1000);
    let other = || v1::DescribeResponse { ring_id: vec![8; 16].into(), ..says(0x80, &[0x80], &[]) };
    assert_eq!(hear(&mut model, other(), 2000), Err(Refused::AnotherRing));
    assert_eq!(model.publish(2000), None);
    model.lost(key(0x00), 3000, "gone");
    model.lost(key(0x40), 3000, "gone");
    hear(&mut model, other(), 4000).expect("taken in");
    let Publication { ring, change, .. } = published(&mut model, 4000);
    assert_eq!((ring.nodes.len(), change), (1, None), "no delta leads from one ring to another");
    assert_eq!(ring.sequence.0, 2);
}

#[test]
fn a_node_in_no_ring_is_not_shown() {
    let mut model = Model::new("demo", "default", "s");
    let empty = v1::DescribeResponse { ring_id: Default::default(), ..says(0x80, &[0x80], &[]) };
    assert_eq!(hear(&mut model, empty, 1000), Err(Refused::NotInRing));
    assert_eq!(model.publish(1000), None);
    assert_eq!(model.ring().stats.not_converged_because.as_deref(), Some("no member has answered yet"));
}

#[test]
fn news_that_everybody_tells_is_one_event() {
    let mut model = ring_of(&[0x00, 0x40, 0x80]);
    published(&mut model, 1000);
    let news = |at_ms, kind: &str, message: &str| v1::RingEvent {
        at_ms,
        kind: kind.into(),
        subject: Some(node(0x40)),
        shard: None,
        message: message.into(),
    };
    model.event(key(0x00), news(5000, "leave", "n-40 is Leaving"));
    model.event(key(0x80), news(5300, "leave", "n-40 is Leaving"));
    model.event(key(0x80), news(5400, "leave", "n-40 is Left"));
    model.event(key(0x00), news(5500, "successor", "my successor is n-40"));
    model.event(key(0x80), news(5500, "successor", "my successor is n-40"));
    model.event(key(0x00), news(60_000, "leave", "n-40 is Leaving"));
    model.event(key(0x33), news(60_000, "leave", "from nobody we know"));
    let events = published(&mut model, 60_000).events;
    let told: Vec<_> = events.iter().map(|event| (event.number.0, event.at, event.kind.as_str())).collect();
    let successors = [(3, 5500, "successor"), (4, 5500, "successor")];
    assert_eq!(told, [(1, 5000, "leave"), (2, 5400, "leave"), successors[0], successors[1], (5, 60_000, "leave")]);
}

#[test]
fn states_and_reachability_come_from_the_members_view() {
    let all = [0x00, 0x40, 0x80];
    let mut model = ring_of(&all);
    let mut wire = says(0x00, &all, &[]);
    (wire.members[2].state, wire.members[2].revision) = (Wire::Leaving.into(), 2);
    hear(&mut model, wire, 1000).expect("taken in");
    let ring = published(&mut model, 1000).ring;
    assert_eq!((find(&ring, "n-80").state, find(&ring, "n-40").state), (State::Leaving, State::Serving));
    assert_eq!(ring.stats.serving.0, 2);
}

#[test]
fn what_a_member_sends_out_of_shape_is_refused_by_field() {
    let all = [0x00, 0x40];
    let with = |spoil: fn(&mut v1::DescribeResponse)| {
        let mut wire = says(0x00, &all, &[]);
        spoil(&mut wire);
        Description::parse(wire)
    };
    for (spoil, needle) in [
        ((|it| it.node = None) as fn(&mut v1::DescribeResponse), "node"),
        (|it| it.ring_id = vec![1; 3].into(), "ring_id"),
        (|it| it.state = 77, "state"),
        (|it| it.members[0].state = 0, "state"),
        (|it| it.successors[0].id = vec![1; 21].into(), "successors"),
        (|it| it.predecessor = Some(v1::NodeRef::default()), "predecessor"),
        (|it| it.members[1].node = None, "members"),
    ] {
        let error = with(spoil).expect_err(needle);
        assert!(error.contains(needle), "{error}");
    }
    let long = with(|it| it.version = "é".repeat(400)).expect("cut, not refused");
    assert!(long.version.len() <= 512 && long.version.starts_with("éé"));
}

#[test]
fn the_operators_newest_word_is_shown_and_what_is_new_in_it_is_told() {
    let all = [0x40, 0x80];
    let mut model = ring_of(&all);
    let said = |epoch, at_ms, joining: Option<u8>| {
        let operation = joining.map(|other| v1::OperatorStep {
            kind: "Join".into(),
            member: node(other).name,
            progress: "7 shards to go".into(),
        });
        Some(v1::OperatorStatus { operator_epoch: epoch, at_ms, wanted: 3, operation, ..Default::default() })
    };
    let mut hears = |me, operator| {
        hear(&mut model, v1::DescribeResponse { operator, ..says(me, &all, &[]) }, 2000).expect("taken in");
        model.publish(2000)
    };
    assert!(hears(0x40, None).is_some_and(|first| first.ring.operator.is_none()));
    let begun = hears(0x40, said(1, 50, Some(0x80))).expect("the operator spoke");
    assert!(begun.change.expect("the same ring").operator);
    assert_eq!(begun.ring.operator.as_ref().map(|it| (it.at, it.wanted.0)), Some((50, 3)));
    let [event] = &begun.events[..] else { panic!("one event: {:?}", begun.events) };
    assert_eq!((event.kind.as_str(), event.reporter.as_ref()), ("operation", None));
    assert_eq!(event.subject.as_ref().map(|it| it.name.clone()), Some(node(0x80).name));
    // The other member hands on the same, and an older one: nothing is new.
    assert_eq!(hears(0x80, said(1, 50, Some(0x80))), None);
    assert_eq!(hears(0x80, said(1, 40, None)), None);
    let over = hears(0x80, said(2, 10, None)).expect("another operator's clock may be behind");
    assert!(over.events[0].message.ends_with("is over"), "{:?}", over.events);
}

#[test]
fn a_restart_and_a_transfer_are_told_once() {
    let all = [0x40, 0x80];
    let mut model = ring_of(&all);
    published(&mut model, 1000);
    let mut hears = |now, incarnation, moving, received| {
        let mut wire = says(0x40, &all, &[]);
        wire.node.as_mut().expect("itself").incarnation = incarnation;
        let stats = wire.stats.as_mut().expect("its figures");
        (stats.shards_moving, stats.keys_received) = (moving, received);
        hear(&mut model, wire, now).expect("taken in");
        let events = model.publish(now).map(|it| it.events).unwrap_or_default();
        events.into_iter().map(|event| (event.kind, event.message)).collect::<Vec<_>>()
    };
    let start = node(0x40).incarnation;
    assert_eq!(hears(2000, start, 3, 10)[0].0, "transfer");
    assert_eq!(hears(3000, start, 2, 110), [], "progress is no news");
    assert_eq!(hears(4000, start, 0, 120), [], "more may come");
    let over = hears(7000, start, 0, 120);
    assert!(over[0].1.contains("in place after 1 s") && over[0].1.contains("120 keys"), "{over:?}");
    let again = hears(8000, start + 1, 0, 0);
    assert_eq!(again.iter().map(|(kind, _)| kind.as_str()).collect::<Vec<_>>(), ["restart"]);
    assert_eq!(hears(9000, start + 1, 0, 0), []);
}
