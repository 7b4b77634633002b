//! Who keeps records of an older configuration, or has lost its copy.
use crate::harness::{EPOCH, LEADS, OLD, SHARD, Start, ask, config, held, next, serving, told, update};
use chord::{
    io::Input,
    member::MemberState,
    msg::{MapEntry, ShardKind},
    shard::config::{Ballot, ReplicaMeta, Seal},
};
use sim::model::host::{Act, identity};

#[test]
fn who_keeps_records_of_an_older_configuration_asks_for_the_newer_one() {
    let mut node = serving(2, Some(held(EPOCH, OLD))).node(&[("a", 1)]);
    let map = |epoch, members| {
        let entry = MapEntry { shard: SHARD, config: config(epoch, members), leader: None };
        ShardKind::MapUpdate { entries: vec![entry] }
    };
    // Nothing newer is known.
    node.hear(1, EPOCH, Ballot::ZERO, map(EPOCH, OLD));
    assert!((0..20).all(|_| told(&node.wait(100), &ask()).is_empty()));
    let said = node.hear(1, EPOCH + 1, Ballot::ZERO, update());
    assert_eq!(told(&said, &ask()), [0, 1, 3], "all that may know");
    let mut asked = |seconds: u64| (0..10 * seconds).filter(|_| !told(&node.wait(100), &ask()).is_empty()).count();
    let (soon, later) = (asked(9), (asked(2), asked(20)).1);
    assert!((7..=9).contains(&soon), "once a second, not {soon} times in nine");
    assert!((3..=4).contains(&later), "every five seconds after a while, not {later} times in twenty");
    node.hear(0, EPOCH + 1, Ballot(1 << 4), ShardKind::Retire { next: next() });
    assert!((0..20).all(|_| told(&node.wait(100), &ask()).is_empty()), "it keeps nothing any more");
}

#[test]
fn lost_copy_is_told_to_the_one_who_leads() {
    let loss = ShardKind::Nack { promised: Ballot::ZERO, config: None, sealed: false, lost: true };
    let lost = |promised| ReplicaMeta { installed: false, promised, ..held(EPOCH, OLD) };
    let mut node = serving(1, Some(lost(LEADS))).node(&[]);
    let said = node.wait(200);
    assert_eq!((told(&said, &loss), told(&said, &ask())), (vec![0], vec![0, 2]));
    assert!(node.wait(500).is_empty());
    assert_eq!(told(&node.wait(600), &loss), [0], "until it is heard");
    // Who promised nobody knows nobody to tell.
    let mut node = serving(1, Some(lost(Ballot::ZERO))).node(&[]);
    let said = node.wait(200);
    assert_eq!((told(&said, &loss), told(&said, &ask())), (vec![], vec![0, 2]));
}

#[test]
fn who_led_and_lost_its_copy_lets_the_next_one_lead() {
    let lost = || ReplicaMeta { installed: false, ..held(EPOCH, OLD) };
    let map = |leader| {
        let entry = MapEntry { shard: SHARD, config: config(EPOCH, OLD), leader: Some(leader) };
        ShardKind::MapUpdate { entries: vec![entry] }
    };
    for (led, asked) in [(None, vec![1]), (Some(0), vec![1]), (Some(2), vec![])] {
        let mut node = serving(0, Some(lost())).node(&[]);
        if let Some(leader) = led {
            node.hear(2, EPOCH, Ballot::ZERO, map(leader));
        }
        assert_eq!(told(&node.wait(1200), &ShardKind::Handover), asked, "led by {led:?}");
    }
    // A leader that is down leads no more.
    let mut node = serving(0, Some(lost())).node(&[]);
    node.hear(2, EPOCH, Ballot::ZERO, map(1));
    node.act(Act::Take(Box::new(Input::PeerDown { peer: identity(1, 0).key, refused: true }), true));
    assert_eq!(told(&node.wait(1200), &ShardKind::Handover), [2]);
}

#[test]
fn who_leaves_asks_whether_its_word_is_still_needed() {
    let word = Some(Seal { ballot: LEADS, next: next() });
    let meta = ReplicaMeta { installed: false, word: word.clone(), ..held(EPOCH, OLD) };
    let mut node = Start { state: MemberState::Leaving, ..serving(3, Some(meta)) }.node(&[]);
    let asked = (0..50).filter(|_| !told(&node.wait(100), &ask()).is_empty()).count();
    assert!((4..=6).contains(&asked), "once a second, not {asked} times in five");
    assert_eq!((node.meta().word, node.0.has_left), (word, false));
    // The shard is beyond the configuration that it gave its word for: nothing of it can come.
    let entry = MapEntry { shard: SHARD, config: config(EPOCH + 1, OLD), leader: None };
    node.hear(0, EPOCH + 1, Ballot::ZERO, ShardKind::MapUpdate { entries: vec![entry] });
    node.wait(1000);
    assert!(node.0.has_left);
}
