//! The leader that moves a shard: copy, seal, transfer, install.
use crate::harness::{
    EPOCH, LATER, LEADS, Node, OLD, Part, SHARD, Start, ask, config, digest, fetches, held, in_parts, key, leader,
    next, part, parts, records, said, sealing, serving, told, update, writes,
};
use bytes::Bytes;
use chord::{
    io::{Input, Operation, Outcome, Token},
    member::MemberState,
    msg::{ShardKind, ShardMsg},
    settings::Settings,
    shard::{
        config::{Ballot, Seal, ShardId},
        record::Record,
    },
    store::{Change, Store as _},
    time::Nanos,
};
use sim::model::host::{Act, identity, still_settings};
use std::collections::BTreeMap;

/// A leader that has copied `a` to the newcomer; nothing was written meanwhile.
fn sealer() -> Node {
    sealer_of(&[("a", 1)])
}

fn sealer_of(of: &[(&str, u64)]) -> Node {
    let mut node = leader(still_settings(), of);
    let copy = part(&node.gossip(MemberState::Leaving, 2));
    assert_eq!(sealing(&node.ack(3, &copy)), [1, 2]);
    node
}

#[test]
fn move_copies_seals_and_installs() {
    let mut node = leader(in_parts(), &[("a", 1), ("b", 2)]);
    let said = node.gossip(MemberState::Leaving, 2);
    let first = part(&said);
    assert_eq!(parts(&said)[0].0, 3, "the newcomer");
    assert_eq!((first.part, first.last, first.pre_copy, first.full), (0, false, true, true));
    assert_eq!(first.records, records(&[("a", 1)]));
    let second = part(&node.ack(3, &first));
    assert_eq!((second.part, second.last, second.pre_copy), (1, true, true));
    assert_eq!((second.attempt, &second.records), (first.attempt, &records(&[("b", 2)])));
    assert!(parts(&node.ack(3, &first)).is_empty(), "the same answer again says nothing");
    // The old configuration still serves.
    node.write("c", 1);
    let said = node.ack(3, &second);
    assert_eq!(sealing(&said), [1, 2]);
    assert!(parts(&said).is_empty(), "what is decided first");
    assert_eq!(node.0.core.status().counters.keys_sent, 2);
    // Too late for this configuration, and no reason to send the client away.
    let late = node.put("d", 2);
    assert!(late.answers.is_empty() && writes(&said).is_empty());
    let all = node.records();
    let said = node.seal_ack(1, digest(&all));
    assert_eq!(node.meta().config, next(), "a majority with the same records is enough");
    let installs: BTreeMap<usize, Part> = parts(&said).into_iter().collect();
    assert_eq!(installs.keys().copied().collect::<Vec<_>>(), [1, 3]);
    for (member, lacks) in [(1, vec![]), (3, vec![key("c")])] {
        let install = &installs[&member];
        assert_eq!(install.records.keys().cloned().collect::<Vec<_>>(), lacks, "what member {member} lacks");
        assert_eq!((install.part, install.last, install.pre_copy, install.full), (0, true, false, false));
        assert_eq!((install.attempt, install.digest), (first.attempt, digest(&all)));
    }
    // Answers to the copy before the seal, or to another attempt, say nothing about that.
    assert!(node.ack(3, &second).is_empty());
    let other = installs[&3].taken().expect("an answer");
    assert!(told(&node.hear(3, EPOCH, LEADS, other), &update()).is_empty());
    // The next configuration lives once a majority is there, and is led by its first member.
    let said = node.ack(3, &installs[&3]);
    assert_eq!(told(&said, &update()), [1, 2, 3]);
    assert_eq!(told(&said, &ShardKind::Prepare), [1, 3]);
    assert!(told(&node.ack(1, &installs[&1]), &update()).is_empty(), "once");
    // Who is not in it any more asks, and may drop its copy when no member keeps a seal.
    let (ballot, promise) = (Ballot(1 << 4), ShardKind::Promise { seal: None, digest: digest(&all) });
    let retire = ShardKind::Retire { next: next() };
    let ask = ShardKind::MapRequest { shards: vec![SHARD] };
    for (member, leave) in [(1, vec![]), (3, vec![2])] {
        let said = node.hear(member, EPOCH + 1, ballot, promise.clone());
        if member == 1 {
            assert_eq!(writes(&said).iter().map(|(to, _)| *to).collect::<Vec<_>>(), [1, 3], "the client's turn");
        }
        assert_eq!(told(&node.hear(2, EPOCH, Ballot::ZERO, ask.clone()), &retire), leave);
    }
    assert!(told(&node.hear(1, EPOCH, Ballot::ZERO, ask), &retire).is_empty());
}

#[test]
fn seal_waits_for_the_writes_under_way_but_not_for_long() {
    for patient in [true, false] {
        let mut node = leader(still_settings(), &[("a", 1)]);
        let copy = part(&node.gossip(MemberState::Leaving, 2));
        let version = writes(&said(&node.put("b", 1)))[0].1;
        assert!(sealing(&node.ack(3, &copy)).is_empty());
        let done = node.put("c", 2);
        assert!(writes(&said(&done)).is_empty() && done.answers.is_empty(), "nothing new is begun");
        assert!(sealing(&node.wait(400)).is_empty());
        if patient {
            let ack = ShardKind::WriteAck { key: key("b"), version };
            assert_eq!(sealing(&node.hear(1, EPOCH, LATER, ack)), [1, 2]);
        } else {
            let done = node.act(Act::Wait(Nanos::from_millis(200), 200, true));
            assert_eq!(sealing(&said(&done)), [1, 2]);
            let unknown =
                |(token, outcome): &(Token, Outcome)| *token == Token(1) && matches!(outcome, Outcome::Unknown(_));
            assert!(done.answers.iter().any(unknown), "it may have taken effect");
        }
    }
}

#[test]
fn what_was_written_during_the_copy_is_copied_in_further_rounds() {
    // As many keys as the seal's installation may carry, and one more.
    for (keys, again) in [(64, false), (65, true)] {
        let mut node = leader(still_settings(), &[("a", 1)]);
        let copy = part(&node.gossip(MemberState::Leaving, 2));
        (0..keys).for_each(|n| node.write(&format!("k{n}"), n));
        let said = node.ack(3, &copy);
        assert_eq!((parts(&said).len(), sealing(&said).len()), if again { (1, 0) } else { (0, 2) });
        if !again {
            continue;
        }
        let second = part(&said);
        assert_eq!((second.part, second.last, second.full, second.records.len()), (1, true, false, 65));
        (0..keys).for_each(|n| node.write(&format!("m{n}"), 100 + n));
        let third = part(&node.ack(3, &second));
        assert_eq!((third.part, third.records.len()), (2, 65), "only what is new");
        // Writes that do not end are no reason to go on like that.
        (0..keys).for_each(|n| node.write(&format!("n{n}"), 200 + n));
        assert_eq!(sealing(&node.ack(3, &third)), [1, 2]);
        let own = digest(&node.records());
        let installs: BTreeMap<usize, Part> = parts(&node.seal_ack(1, own)).into_iter().collect();
        assert_eq!((installs[&3].records.len(), installs[&3].full), (65, false));
    }
}

#[test]
fn seal_is_asked_for_again_from_those_who_have_not_answered() {
    let mut node = sealer();
    assert!(sealing(&node.wait(100)).is_empty());
    assert_eq!(sealing(&node.wait(250)), [1, 2]);
    let differs = digest(&records(&[("a", 1), ("b", 2)]));
    node.seal_ack(1, differs);
    let said = [node.wait(200), node.wait(200)].concat();
    assert_eq!(sealing(&said), [2]);
    assert!(parts(&said).is_empty(), "one copy is no majority");
}

#[test]
fn records_are_fetched_from_those_that_differ_when_no_equal_majority_comes() {
    let (own, differs) = (digest(&records(&[("a", 1)])), digest(&records(&[("a", 1), ("b", 2)])));
    // Two equal ones are a majority, however the third looks.
    let mut node = sealer();
    assert!(fetches(&node.seal_ack(1, differs)).is_empty(), "the third may be equal");
    let said = node.seal_ack(2, own);
    assert_eq!((parts(&said).len(), fetches(&said).len()), (2, 0));
    assert!(parts(&said).iter().any(|(to, part)| *to == 1 && part.full), "the one that differs gets everything");
    // When all have answered there is nothing to wait for.
    let mut node = sealer();
    node.seal_ack(1, differs);
    assert_eq!(fetches(&node.seal_ack(2, differs)), [(1, key(""), 0), (2, key(""), 0)]);
    // A silent one is waited for a little.
    let mut node = sealer();
    node.seal_ack(1, differs);
    assert!(fetches(&node.wait(100)).is_empty());
    assert_eq!(fetches(&node.wait(100)), [(1, key(""), 0)]);
    assert!(fetches(&node.seal_ack(1, differs)).is_empty(), "once");
    assert_eq!(fetches(&node.wait(300)), [(1, key(""), 0)], "until it answers");
}

#[test]
fn own_copy_becomes_the_union_of_a_majoritys() {
    let mut node = sealer_of(&[("a", 1), ("same", 9)]);
    let theirs = records(&[("a", 3), ("b", 2), ("c", 4), ("same", 9)]);
    node.seal_ack(1, digest(&theirs));
    node.wait(200);
    let chunk = |of: &[(&str, u64)], round, last| {
        let records = records(of).into_iter().collect();
        ShardKind::TransferChunk { records, round, last }
    };
    let said = node.hear(1, EPOCH, LATER, chunk(&[("a", 3), ("b", 2)], 0, false));
    assert_eq!(fetches(&said), [(1, key("b"), 1)]);
    // The same chunk again, after the request was repeated, and one that was never asked for.
    assert!(node.hear(1, EPOCH, LATER, chunk(&[("a", 3), ("b", 2)], 0, false)).is_empty());
    assert!(node.hear(1, EPOCH, LATER, chunk(&[("x", 9)], 2, true)).is_empty());
    // An older version than the own does not come back.
    let said = node.hear(1, EPOCH, LATER, chunk(&[("a", 1), ("c", 4), ("same", 9)], 1, true));
    assert_eq!(node.records(), theirs);
    let installs: BTreeMap<usize, Part> = parts(&said).into_iter().collect();
    assert_eq!((installs[&1].full, installs[&1].records.len()), (false, 0), "it has them all");
    let news = records(&[("a", 3), ("b", 2), ("c", 4)]);
    assert_eq!((installs[&3].full, &installs[&3].records), (false, &news), "the copy before the seal lacks them");
    assert!(installs.values().all(|install| install.digest == digest(&theirs)));
}

#[test]
fn part_is_sent_again_until_it_is_answered() {
    let mut node = leader(in_parts(), &[("a", 1), ("b", 2)]);
    let first = part(&node.gossip(MemberState::Leaving, 2));
    assert!(parts(&node.wait(500)).is_empty());
    let again = part(&node.wait(500));
    assert_eq!((again.part, &again.records), (first.part, &first.records));
    let second = part(&node.ack(3, &first));
    assert!(parts(&node.wait(500)).is_empty());
    // The newcomer restarted: everything again.
    let anew = part(&node.hear(3, EPOCH, LATER, second.refused().expect("an answer")));
    assert_eq!((anew.part, anew.full, &anew.records), (0, true, &first.records));
    let second = part(&node.ack(3, &anew));
    assert_eq!(sealing(&node.ack(3, &second)), [1, 2]);
    // The same after the seal.
    let own = digest(&node.records());
    let installs: BTreeMap<usize, Part> = parts(&node.seal_ack(1, own)).into_iter().collect();
    assert!(parts(&node.wait(500)).is_empty());
    let said = parts(&node.wait(500));
    assert_eq!(said.iter().map(|(to, _)| *to).collect::<Vec<_>>(), [1, 3]);
    let anew = part(&node.hear(3, EPOCH, LATER, installs[&3].refused().expect("an answer")));
    assert_eq!((anew.part, anew.last, anew.full, anew.pre_copy), (0, false, true, false));
    let second = part(&node.ack(3, &anew));
    assert_eq!((second.part, second.last, &second.records), (1, true, &records(&[("b", 2)])));
    assert_eq!(told(&node.ack(3, &second), &update()), [1, 2, 3], "that makes a majority");
    // What is left is for member 1, for some time.
    let mut receivers = |ms| parts(&node.wait(ms)).iter().map(|(to, _)| *to).collect::<Vec<_>>();
    assert_eq!((receivers(1000), receivers(1000)), (vec![1], vec![1]));
    receivers(11_000);
    assert!(receivers(1000).is_empty(), "the leader of the next configuration sees to it");
}

#[test]
fn decided_configuration_is_installed_however_long_that_takes() {
    let mut node = sealer();
    let own = digest(&node.records());
    assert_eq!(parts(&node.seal_ack(1, own)).len(), 2);
    (0..15).for_each(|_| drop(node.wait(1000)));
    let said = node.wait(1000);
    let installs: BTreeMap<usize, Part> = parts(&said).into_iter().collect();
    assert_eq!(installs.keys().copied().collect::<Vec<_>>(), [1, 3]);
    assert_eq!(told(&node.ack(1, &installs[&1]), &update()), [1, 2, 3]);
}

#[test]
fn move_under_way_is_not_begun_a_second_time() {
    let mut node = leader(still_settings(), &[("a", 1)]);
    let copy = part(&node.gossip(MemberState::Leaving, 2));
    // Another reason to move comes up.
    let loss = ShardKind::Nack { promised: Ballot::ZERO, config: None, sealed: false, lost: true };
    let said = [node.hear(1, EPOCH, LATER, loss), node.wait(100), node.wait(100)].concat();
    assert!(parts(&said).is_empty());
    assert_eq!(sealing(&node.ack(3, &copy)), [1, 2]);
}

#[test]
fn member_that_lost_its_copy_gets_one_in_a_configuration_of_the_same_members() {
    let mut node = leader(still_settings(), &[("a", 1)]);
    let loss = ShardKind::Nack { promised: Ballot::ZERO, config: None, sealed: false, lost: true };
    let said = [node.hear(2, EPOCH, LATER, loss), node.wait(100)].concat();
    let seal = ShardKind::Seal { next: config(EPOCH + 1, OLD) };
    assert_eq!(told(&said, &seal), [1, 2], "nobody is new: there is nothing to copy before");
    let own = digest(&node.records());
    let said = node.seal_ack(1, own);
    let copies: Vec<(usize, bool)> = said
        .iter()
        .filter_map(|(to, message)| match message.kind {
            ShardKind::Install { full, .. } => Some((*to, full)),
            _ => None,
        })
        .collect();
    assert_eq!(copies, [(1, false), (2, true)]);
}

#[test]
fn move_is_given_up_with_its_newcomer_and_begun_anew() {
    let mut node = leader(still_settings(), &[("a", 1)]);
    let copy = part(&node.gossip(MemberState::Leaving, 2));
    let down = Input::PeerDown { peer: identity(3, 0).key, refused: true };
    node.act(Act::Take(Box::new(down), true));
    let placed = [node.wait(200), node.wait(200)].concat();
    assert!(parts(&placed).is_empty(), "nobody is there to copy to");
    assert!(sealing(&node.ack(3, &copy)).is_empty(), "what was given up does not go on");
    node.write("b", 1);
    let again = [node.wait(200), node.wait(200)].concat();
    let again = part(&again);
    assert_eq!((again.full, again.part, again.records.len()), (true, 0, 2));
    assert_ne!(again.attempt, copy.attempt);
    assert!(sealing(&node.ack(3, &copy)).is_empty(), "an earlier attempt's answer");
    let rival = again.taken().expect("an answer");
    assert!(sealing(&node.hear(3, EPOCH, LEADS, rival)).is_empty(), "an earlier leadership's answer");
    assert_eq!(sealing(&node.ack(3, &again)), [1, 2]);
}

#[test]
fn move_that_nobody_wants_any_more_is_given_up() {
    let mut node = leader(still_settings(), &[("a", 1)]);
    let copy = part(&node.gossip(MemberState::Leaving, 2));
    node.gossip(MemberState::Serving, 3);
    let said = [node.wait(200), node.ack(3, &copy), node.wait(2000)].concat();
    assert!(parts(&said).is_empty() && sealing(&said).is_empty(), "the configuration is the desired one");
    node.write("b", 1);
    let again = part(&node.gossip(MemberState::Leaving, 4));
    assert_ne!(again.attempt, copy.attempt);
}

#[test]
fn nothing_is_moved_before_every_key_is_as_a_majority_has_it() {
    let mut node = serving(0, Some(held(EPOCH, OLD))).node(&[("a", 1)]);
    node.wait(200);
    let promise = ShardKind::Promise { seal: None, digest: 0 };
    node.hear(1, EPOCH, LATER, promise);
    assert!(node.0.leads);
    let said = [node.gossip(MemberState::Leaving, 2), node.wait(100), node.wait(100)].concat();
    assert!(parts(&said).is_empty());
}

#[test]
fn member_without_the_configuration_is_sent_a_whole_copy_once() {
    let mut node = leader(in_parts(), &[("a", 1), ("b", 2)]);
    let behind = ShardKind::Nack { promised: Ballot::ZERO, config: None, sealed: false, lost: false };
    assert!(node.hear(1, EPOCH, LATER, behind.clone()).is_empty(), "it has promised, and so has a copy");
    // As in an election where member 2 has not answered yet.
    let mut node = Start { settings: in_parts(), ..serving(0, Some(held(EPOCH, OLD))) }.node(&[("a", 1), ("b", 2)]);
    node.wait(200);
    node.hear(1, EPOCH, LATER, ShardKind::Promise { seal: None, digest: digest(&node.records()) });
    let said = node.hear(2, EPOCH, LATER, behind.clone());
    let installs: Vec<&ShardKind> = said.iter().filter(|(to, _)| *to == 2).map(|(_, message)| &message.kind).collect();
    let [ShardKind::Install { next, part: 0, last: false, pre_copy: false, full: true, .. }] = installs[..] else {
        panic!("the first part of a whole copy, not {installs:?}")
    };
    assert_eq!(*next, config(EPOCH, OLD), "of this configuration");
    assert!(node.hear(2, EPOCH, LATER, behind).is_empty(), "it is on its way");
    assert!(
        !node
            .hear(4, EPOCH, Ballot::ZERO, ask())
            .iter()
            .any(|(_, message)| { matches!(message.kind, ShardKind::Install { .. }) }),
        "nobody else gets one"
    );
    let again = node.wait(1000);
    assert!(again.iter().any(|(to, message)| *to == 2 && matches!(message.kind, ShardKind::Install { part: 0, .. })));
    let ack = |part, last| ShardKind::InstallAck { attempt: 0, part, last, pre_copy: false, mismatch: false };
    let said = node.hear(2, EPOCH, LATER, ack(0, false));
    assert!(matches!(said[0].1.kind, ShardKind::Install { part: 1, last: true, .. }));
    let said = node.hear(2, EPOCH, LATER, ack(1, true));
    assert_eq!(told(&said, &ShardKind::Prepare), [2], "it may give its word now");
    assert_eq!(told(&node.wait(1000), &ShardKind::Prepare), [2], "until it has: a copy is no promise");
}

/// A member that was behind answers only once the next configuration is being installed.
#[test]
fn answer_to_a_copy_of_the_present_configuration_is_none_to_the_next() {
    let mut node = serving(0, Some(held(EPOCH, OLD))).node(&[("a", 1)]);
    node.wait(200);
    let own = digest(&node.records());
    node.hear(2, EPOCH, LATER, ShardKind::Promise { seal: None, digest: own });
    let behind = ShardKind::Nack { promised: Ballot::ZERO, config: None, sealed: false, lost: false };
    node.hear(1, EPOCH, LATER, behind);
    let copy = part(&node.gossip(MemberState::Leaving, 2));
    assert_eq!(sealing(&node.ack(3, &copy)), [1, 2]);
    assert_eq!(parts(&node.seal_ack(2, own)).len(), 2);
    let late = ShardKind::InstallAck { attempt: 0, part: 0, last: true, pre_copy: false, mismatch: false };
    assert!(told(&node.hear(1, EPOCH, LATER, late), &update()).is_empty(), "only one has installed it");
}

/// The leader of two shards of this size, both of which are to move.
fn leader_of_two(bytes: usize) -> Node {
    // Of four, those whose desired members are the configuration's.
    let shards = [ShardId(2), ShardId(3)];
    let held = shards.map(|shard| (shard, held(EPOCH, OLD))).into();
    let settings = Settings { shards: 4, ..still_settings() };
    let value = Some(Bytes::from(vec![0; bytes]));
    let big = records(&[("a", 1)]).into_iter().map(|(key, record)| (key, Record { value: value.clone(), ..record }));
    let big: Vec<_> = big.collect();
    let put =
        |shard| big.iter().map(move |(key, record)| Change::Put { shard, key: key.clone(), record: record.clone() });
    let mut node =
        Start { shards: held, settings, ..serving(0, None) }.node_with(shards.into_iter().flat_map(put).collect());
    node.wait(200);
    for shard in shards {
        let promise = ShardKind::Promise { seal: None, digest: node.0.core.store().digest(shard).root() };
        let message = ShardMsg { shard, epoch: EPOCH, ballot: LATER, kind: promise };
        let input = Input::Shard { from: identity(1, 0).key, messages: vec![message] };
        node.act(Act::Take(Box::new(input), true));
    }
    node
}

#[test]
fn large_shards_move_one_after_the_other_and_small_ones_together() {
    const MIB: usize = 1 << 20;
    for (bytes, together) in [(3 * MIB, 2), (5 * MIB, 1), (9 * MIB, 1)] {
        let mut node = leader_of_two(bytes);
        node.gossip(MemberState::Leaving, 2);
        (0..5).for_each(|_| drop(node.wait(50)));
        let status = node.0.core.status();
        assert_eq!((status.shards_led, status.shards_moving), (2, together), "of {bytes} bytes");
    }
}

/// Member 1 leads a configuration of 1, 2 and 3, and the ring proposes 0, 1 and 2.
#[test]
fn who_asks_between_two_leaders_waits_for_the_second() {
    let mut node = serving(1, Some(held(EPOCH, [1, 2, 3]))).node(&[]);
    node.wait(200);
    let none = digest(&records(&[]));
    let copy = node.hear(2, EPOCH, LATER, ShardKind::Promise { seal: None, digest: none });
    let copy = [copy, node.wait(100)].concat();
    assert!(copy.iter().any(|(to, message)| *to == 0 && matches!(message.kind, ShardKind::Install { .. })));
    let ack = |pre_copy| ShardKind::InstallAck { attempt: 1, part: 0, last: true, pre_copy, mismatch: false };
    node.hear(0, EPOCH, LATER, ack(true));
    node.hear(2, EPOCH, LATER, ShardKind::SealAck { digest: none });
    assert_eq!(node.meta().config, config(EPOCH + 1, OLD), "decided, and not installed by a majority");
    let scan = Operation::Scan { shard: SHARD, after: None, limit: 9 };
    let asked = [node.put("a", 1), node.client(2, scan)];
    assert!(asked.iter().all(|done| done.answers.is_empty()), "nobody leads yet");
    let waited = node.act(Act::Wait(Nanos::from_millis(300), 300, true));
    assert!(waited.answers.is_empty());
    let done = node.hear_all(0, EPOCH, LATER, ack(false));
    let there = |outcome: &Outcome| matches!(outcome, Outcome::NotLeader(Some(node)) if node.key == identity(0, 0).key);
    assert_eq!(done.answers.iter().filter(|(_, outcome)| there(outcome)).count(), 2, "{:?}", done.answers);
}

/// It is a move like any other: what answers a copy of the present configuration does not count for it.
#[test]
fn what_an_earlier_leader_sealed_is_finished_under_a_number_of_its_own() {
    let mut node = serving(0, Some(held(EPOCH, OLD))).node(&[("a", 1)]);
    node.wait(200);
    let own = digest(&node.records());
    let behind = ShardKind::Nack { promised: Ballot::ZERO, config: None, sealed: false, lost: false };
    node.hear(1, EPOCH, LATER, behind);
    let seal = Some(Seal { ballot: LEADS, next: next() });
    let said = node.hear(2, EPOCH, LATER, ShardKind::Promise { seal, digest: own });
    assert_eq!(sealing(&said), [1, 2]);
    let installs = parts(&node.seal_ack(2, own));
    assert!(installs.iter().all(|(_, install)| install.attempt == 1 && !install.pre_copy), "{}", installs.len());
    let late = ShardKind::InstallAck { attempt: 0, part: 0, last: true, pre_copy: false, mismatch: false };
    assert!(told(&node.hear(1, EPOCH, LATER, late), &update()).is_empty());
}
