//! Who leads when, and what becomes of those who wait.
use crate::harness::{
    Core, EPOCH, LEADS, RIVAL, SHARD, Start, ack, config, confirmed, elsewhere, get, key, nack, old, put, scan, value,
    version,
};
use chord::{
    io::Outcome,
    msg::ShardKind,
    shard::config::{Ballot, Seal},
};
use std::collections::BTreeSet;

fn promise(digest: u128) -> ShardKind {
    ShardKind::Promise { seal: None, digest }
}

fn is_unknown(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Unknown(_))
}

#[test]
fn who_has_not_promised_is_asked_again_and_nobody_else() {
    let mut core = Start { members: 5, ..Start::default() }.start();
    assert_eq!(core.wait(200).prepares(), [1, 2, 3, 4]);
    let digest = core.digest();
    assert!(core.hear(1, promise(digest)).is_nothing(), "two of five are no majority");
    assert!(core.wait(100).is_nothing());
    assert_eq!(core.wait(200).prepares(), [2, 3, 4]);
    assert!(!core.host.leads);
    core.hear(2, promise(digest));
    assert!(core.host.leads);
    assert_eq!(core.host.core.status().counters.elections, 1);
    // Now there is no hurry, and those that are down are not waited for.
    assert_eq!(core.wait(500).prepares(), [] as [usize; 0]);
    assert_eq!(core.until(2000, |done| !done.prepares().is_empty()).map(|(_, done)| done.prepares()), Some(vec![3, 4]));
    core.down(4);
    core.hear(3, promise(digest));
    assert!(core.until(3000, |done| !done.prepares().is_empty()).is_none());
}

#[test]
fn only_a_members_answer_to_this_attempt_counts() {
    let mut core = Start::default().start();
    core.wait(200);
    let digest = core.digest();
    core.hear_under(1, EPOCH, RIVAL, promise(digest));
    core.hear_under(1, EPOCH + 1, LEADS, promise(digest));
    core.hear_under(3, EPOCH, LEADS, promise(digest));
    assert!(!core.host.leads);
    core.hear(1, promise(digest));
    assert!(core.host.leads);
    core.ask(1, put("a", "1", 1));
    for (from, epoch, ballot) in [(1, EPOCH, RIVAL), (1, EPOCH + 1, LEADS), (3, EPOCH, LEADS)] {
        assert_eq!(core.hear_under(from, epoch, ballot, ack("a", version(1))).told, []);
    }
    assert_eq!(core.hear(1, ack("a", version(1))).told, [(1, Outcome::Written(version(1)))]);
}

#[test]
fn who_asks_before_the_election_is_served_after_it() {
    let mut core = Start { records: vec![("a", old(1, Some("1")))], ..Start::default() }.start();
    assert_eq!(core.ask(1, get("a")).told, []);
    assert_eq!(core.ask(2, scan(9)).told, []);
    core.wait(200);
    let digest = core.digest();
    let mut done = core.hear(1, promise(digest));
    let mut told = Vec::new();
    while let Some(number) = done.confirms() {
        done = core.hear(2, confirmed(number));
        told.append(&mut done.told);
    }
    let page = Outcome::Page(vec![(key("a"), old(1, Some("1")).value.expect("live"), old(1, None).version)], false);
    assert_eq!(told, [(1, value(&old(1, Some("1")))), (2, page)]);
}

/// A leader with a write that has begun, one behind it, and a read that nobody confirmed.
fn busy() -> Core {
    let mut core = Start::default().lead();
    for (token, operation) in [(1, put("a", "1", 1)), (2, put("a", "2", 2)), (3, get("b"))] {
        assert_eq!(core.ask(token, operation).told, []);
    }
    core
}

/// What those three are told when it is not the leader any more.
fn deposed(told: &[(u64, Outcome)], hint: usize) {
    assert_eq!(told.len(), 3, "{told:?}");
    for (token, outcome) in told {
        let good = if *token == 1 { is_unknown(outcome) } else { elsewhere(outcome, hint) };
        assert!(good, "{token}: {outcome:?}");
    }
}

/// What a cut-off member asked for would arrive when the cut heals, and depose those who went on without it.
#[test]
fn who_reaches_no_majority_seeks_no_leadership_and_keeps_nobody_waiting() {
    let mut core = Start::default().start();
    core.wait(0); // from here on it watches the others
    core.down(1);
    core.down(2);
    for (token, operation) in [(1, put("a", "1", 1)), (2, get("a")), (3, scan(9))] {
        let told = core.ask(token, operation).told;
        assert!(matches!(told[..], [(_, Outcome::Unavailable(_))]), "{told:?}");
    }
    assert!(core.until(8000, |done| !done.prepares().is_empty()).is_none());
    // One that answers is a majority with this one.
    assert_eq!(core.hear(2, ack("a", version(1))).prepares(), [1, 2]);
}

#[test]
fn a_leader_that_reaches_no_majority_any_more_sends_those_who_wait_elsewhere() {
    let mut core = busy();
    assert_eq!(core.down(1).told, []);
    let told = core.down(2).told;
    let [(1, write), (_, second), (_, third)] = &told[..] else { panic!("{told:?}") };
    assert!(is_unknown(write), "{write:?}");
    assert!([second, third].iter().all(|outcome| matches!(outcome, Outcome::Unavailable(_))), "{told:?}");
    assert!(!core.host.leads);
}

#[test]
fn a_higher_promise_deposes() {
    let mut core = busy();
    for promised in [LEADS, Ballot(LEADS.0 - 1)] {
        assert!(core.hear(2, nack(promised, None)).is_nothing(), "no other attempt");
    }
    deposed(&core.hear(1, nack(RIVAL, None)).told, 1);
    assert_eq!(core.host.core.shard_map()[0].leader, None);
    let (_, done) = core.until(1000, |done| !done.prepares().is_empty()).expect("it is the first that is up");
    assert_eq!(done.prepares(), [1, 2]);
    core.ballot = Ballot(3 << 4);
    let digest = core.digest();
    core.hear(1, promise(digest));
    assert!(core.host.leads, "under a ballot above the promise that it was told of");
}

#[test]
fn a_rival_that_has_its_own_promise_deposes_it() {
    let mut core = busy();
    let done = core.hear_under(2, EPOCH, RIVAL, ShardKind::Prepare);
    deposed(&done.told, 2);
    assert_eq!(done.to(|kind| matches!(kind, ShardKind::Promise { .. })), [2]);
}

#[test]
fn a_newer_configuration_is_given_time_to_arrive() {
    let mut core = busy();
    assert_eq!(core.hear(1, nack(Ballot::ZERO, Some(config(EPOCH + 1, 3)))).told.len(), 3);
    let (after, _) = core.until(9000, |done| !done.prepares().is_empty()).expect("the old one is all there is");
    assert!((3000..4000).contains(&after), "{after} ms");
}

#[test]
fn a_member_without_the_configuration_is_sent_it_unless_it_is_sealed() {
    let is_install = |kind: &ShardKind| matches!(kind, ShardKind::Install { .. });
    let mut core = Start { records: vec![("a", old(1, Some("1")))], ..Start::default() }.lead();
    assert_eq!(core.hear(2, nack(LEADS, None)).to(is_install), [] as [usize; 0]);
    assert_eq!(core.hear(2, nack(Ballot::ZERO, None)).to(is_install), [2]);
    // What an earlier leader sealed is finished first.
    let mut core = Start::default().start();
    core.wait(200);
    let (seal, digest) = (Some(Seal { ballot: Ballot(1), next: config(EPOCH + 1, 2) }), core.digest());
    let done = core.hear(1, ShardKind::Promise { seal, digest });
    assert!(!done.to(|kind| matches!(kind, ShardKind::Seal { .. })).is_empty());
    assert_eq!(core.hear(2, nack(Ballot::ZERO, None)).to(is_install), [] as [usize; 0]);
}

#[test]
fn the_next_in_line_steps_in_where_nobody_leads() {
    let mut after = Vec::new();
    // Nobody ever led; or it did itself, before it was started again.
    for (me, promised) in [(1, Ballot::ZERO), (1, Ballot(LEADS.0 | 1)), (2, Ballot::ZERO)] {
        let mut core = Start { me, promised, ..Start::default() }.start();
        let (ms, done) = core.until(9000, |done| !done.prepares().is_empty()).expect("somebody has to");
        assert_eq!(done.prepares(), [0, 1, 2].into_iter().filter(|member| *member != me).collect::<Vec<_>>());
        after.push(ms);
    }
    // It looks for the first time within 100 ms of its start.
    assert!((2000..=2200).contains(&after[0]) && (2000..=2200).contains(&after[1]), "{after:?}");
    assert!((3000..=3200).contains(&after[2]), "{after:?}");
}

#[test]
fn nobody_steps_in_for_a_leader_that_is_up_or_while_about_to_restart() {
    let mut core = Start { me: 1, promised: LEADS, ..Start::default() }.start();
    assert!(core.until(9000, |done| !done.prepares().is_empty()).is_none());
    core.down(0);
    assert!(core.until(1000, |done| !done.prepares().is_empty()).is_some());
    let mut core = Start { me: 1, ..Start::default() }.start();
    core.rest(9000);
    assert!(core.until(8000, |done| !done.prepares().is_empty()).is_none());
}

#[test]
fn who_steps_in_keeps_those_who_ask_meanwhile() {
    let mut core = Start { me: 1, ..Start::default() }.start();
    assert!(elsewhere(&core.ask(1, get("a")).told[0].1, 0));
    assert!(elsewhere(&core.ask(2, scan(9)).told[0].1, 0));
    core.until(9000, |done| !done.prepares().is_empty()).expect("nobody leads");
    assert_eq!(core.ask(3, get("a")).told, []);
    assert_eq!(core.ask(4, scan(9)).told, []);
}

#[test]
fn leadership_is_taken_over_from_a_node_that_restarts() {
    let handover = |core: &mut Core, epoch| core.hear_under(0, epoch, Ballot::ZERO, ShardKind::Handover).prepares();
    let follower = || Start { me: 1, promised: LEADS, ..Start::default() };
    let mut core = follower().start();
    core.wait(200);
    for epoch in [EPOCH - 1, EPOCH + 1] {
        assert_eq!(handover(&mut core, epoch), [] as [usize; 0]);
    }
    assert_eq!(handover(&mut core, EPOCH), [0, 2]);
    assert_eq!(handover(&mut core, EPOCH), [] as [usize; 0], "it is at it");
    let mut core = follower().start();
    core.wait(200);
    core.rest(9000);
    assert_eq!(handover(&mut core, EPOCH), [] as [usize; 0], "it restarts, too");
    core.wait(9100);
    assert_eq!(handover(&mut core, EPOCH), [0, 2]);
    let mut core = Start { installed: false, ..follower() }.start();
    core.wait(200);
    assert_eq!(handover(&mut core, EPOCH), [] as [usize; 0], "its copy is lost");
}

#[test]
fn who_lost_its_copy_does_not_lead() {
    let mut core = Start { installed: false, ..Start::default() }.start();
    assert!(core.until(9000, |done| !done.prepares().is_empty()).is_none());
    assert!(core.host.durable.shards[&SHARD].meta.as_ref().is_some_and(|meta| meta.promised == Ballot::ZERO));
}

#[test]
fn a_newcomer_is_sent_its_copy_again_and_again() {
    let is_install = |kind: &ShardKind| matches!(kind, ShardKind::Install { pre_copy: true, .. });
    let mut core = Start { members: 2, newcomers: 1, ..Start::default() }.lead();
    for _ in 0..4 {
        let (_, done) = core.until(2000, |done| !done.to(is_install).is_empty()).expect("it has not answered");
        assert_eq!(done.to(is_install), [2]);
    }
}

/// How many are told who leads.
fn informed(onlookers: usize) -> BTreeSet<usize> {
    let mut core = Start { onlookers, ..Start::default() }.start();
    core.wait(200);
    let informed = core.hear(1, promise(core.digest())).informed;
    let distinct = informed.iter().copied().collect::<BTreeSet<_>>();
    assert_eq!(distinct.len(), informed.len(), "once each");
    distinct
}

#[test]
fn all_of_a_small_ring_are_told_who_leads_and_some_of_a_large_one() {
    assert_eq!(informed(0), [1, 2].into());
    assert_eq!(informed(30).len(), 32);
    let some = informed(40);
    assert!(some.len() == 32 && !some.contains(&0), "gossip tells the rest: {some:?}");
}

#[test]
fn clients_are_sent_to_the_leader_or_while_it_is_down_to_the_first_that_is_up() {
    let mut core = Start { me: 2, promised: LEADS, ..Start::default() }.start();
    assert!(elsewhere(&core.ask(1, get("a")).told[0].1, 0), "nothing else is known");
    core.hear_under(1, EPOCH, Ballot((2 << 4) | 1), ShardKind::Prepare);
    assert!(elsewhere(&core.ask(2, get("a")).told[0].1, 1), "the leader before the first member");
    core.down(1);
    assert!(elsewhere(&core.ask(3, get("a")).told[0].1, 0));
}
