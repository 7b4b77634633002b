//! Reads, writes and scans under a leader.
use crate::harness::{EPOCH, LEADS, Start, ack, confirmed, get, key, old, put, scan, state, value, version};
use bytes::Bytes;
use chord::{io::Outcome, msg::ShardKind, settings::Settings, shard::record::Version, time::Nanos};
use sim::model::host::still_settings;

#[test]
fn a_write_is_sent_again_as_it_is_until_a_majority_has_it() {
    let mut core = Start { members: 5, ..Start::default() }.lead();
    let (to, record) = core.ask(1, put("a", "1", 1)).write("a");
    assert_eq!((to, record.as_ref().map(|record| record.version)), (vec![1, 2, 3, 4], Some(version(1))));
    assert_eq!(core.hear(3, ack("a", version(1))).told, []);
    assert_eq!(core.wait(100).write("a").0, [] as [usize; 0]);
    assert_eq!(core.wait(200).write("a"), (vec![1, 2, 4], record.clone()));
    assert_eq!(core.wait(100).write("a").0, [] as [usize; 0]);
    assert_eq!(core.wait(200).write("a"), (vec![1, 2, 4], record));
    assert_eq!(core.hear(3, ack("a", version(1))).told, [], "two are no majority of five");
    assert_eq!(core.hear(4, ack("a", version(1))).told, [(1, Outcome::Written(version(1)))]);
    // Nobody waits for the rest, and a leader at rest is not woken ten times a second.
    let mut sleeps = Nanos(0);
    for _ in 0..10 {
        assert_eq!(core.wait(100).write("a").0, [] as [usize; 0]);
        sleeps = sleeps.max(core.host.core.next_deadline().since(core.host.now.mono));
    }
    assert!(sleeps > Nanos::from_millis(100), "{sleeps:?}");
}

#[test]
fn a_read_is_answered_by_a_round_that_began_after_it() {
    let record = old(1, Some("1"));
    let mut core = Start { members: 5, records: vec![("a", record.clone())], ..Start::default() }.lead();
    let done = core.ask(1, get("a"));
    assert_eq!(done.to(|kind| *kind == ShardKind::Confirm { number: 1 }), [1, 2, 3, 4]);
    assert!(core.hear(2, confirmed(1)).is_nothing());
    assert!(core.wait(100).is_nothing());
    assert_eq!(core.wait(200).to(|kind| *kind == ShardKind::Confirm { number: 1 }), [1, 3, 4]);
    assert_eq!(core.wait(100).confirms(), None);
    assert!(core.ask(2, get("a")).is_nothing(), "one round at a time");
    let done = core.hear(3, confirmed(1));
    assert_eq!(done.told, [(1, value(&record))]);
    assert_eq!(done.to(|kind| *kind == ShardKind::Confirm { number: 2 }), [1, 2, 3, 4]);
    assert!(core.hear(1, confirmed(1)).is_nothing() && core.hear(4, confirmed(1)).is_nothing(), "of the round before");
    assert!(core.hear(1, confirmed(2)).is_nothing());
    assert_eq!(core.hear(4, confirmed(2)).told, [(2, value(&record))]);
}

#[test]
fn a_retry_is_answered_once_and_changes_nothing() {
    let mut core = Start::default().lead();
    core.ask(1, put("a", "1", 1));
    core.hear(1, ack("a", version(1)));
    let done = core.ask(2, put("a", "1", 1));
    assert_eq!((done.told, done.sent), (vec![(2, Outcome::Written(version(1)))], vec![]));
}

#[test]
fn a_key_on_which_a_majority_agrees_is_not_written() {
    let record = old(1, Some("1"));
    let (mut core, _) = Start { records: vec![("a", record.clone())], ..Start::default() }.lead_unclean();
    let is_read = |kind: &ShardKind| matches!(kind, ShardKind::ReadKey { .. });
    assert_eq!(core.ask(1, get("a")).to(is_read), [1, 2]);
    assert!(core.wait(100).to(is_read).is_empty());
    assert_eq!(core.wait(200).to(is_read), [1, 2]);
    let done = core.hear(1, state("a", Some(record.clone())));
    assert_eq!((done.write("a").0, done.confirms(), core.repaired()), (vec![], Some(1), 0));
    assert_eq!(core.hear(2, confirmed(1)).told, [(1, value(&record))]);
}

#[test]
fn a_write_of_a_minority_is_settled_before_it_is_read() {
    let (mine, theirs) = (old(1, Some("1")), old(2, Some("2")));
    let (mut core, _) = Start { records: vec![("a", mine)], ..Start::default() }.lead_unclean();
    core.ask(1, get("a"));
    let done = core.hear(1, state("a", Some(theirs.clone())));
    let (to, record) = done.write("a");
    let record = record.expect("the newest is written anew");
    assert_eq!((to, done.confirms(), core.repaired()), (vec![1, 2], None, 1));
    assert_eq!(record.version, Version { epoch: EPOCH, ballot: LEADS, seq: 0 });
    assert_eq!((record.revision, &record.value), (theirs.revision, &theirs.value));
    let done = core.hear(1, ack("a", record.version));
    assert_eq!((done.told, done.sent.len()), (vec![], 2));
    let done = core.hear(2, confirmed(1));
    assert_eq!(done.told, [(1, value(&theirs))]);
    // And from then on it is as good as any other.
    let done = core.ask(2, get("a"));
    assert_eq!((done.confirms(), done.sent.len()), (Some(2), 2));
}

#[test]
fn what_has_not_begun_in_time_has_no_effect() {
    let mut core = Start::default().lead();
    core.ask_for(1, put("a", "1", 1), 500);
    core.ask_for(2, put("a", "2", 2), 500);
    core.ask_for(3, put("a", "3", 3), 60_000);
    assert_eq!(core.wait(400).told, []);
    let told = core.wait(200).told;
    assert!(matches!(told[..], [(2, Outcome::Unavailable(_))]), "{told:?}");
    let done = core.hear(1, ack("a", version(1)));
    assert_eq!(done.told, [(1, Outcome::Written(version(1)))]);
    let value = done.write("a").1.and_then(|record| record.value);
    assert_eq!(value, Some(Bytes::from_static(b"3")), "the second is never written");
    // While there is no leader, nothing begins.
    let mut core = Start::default().start();
    core.ask_for(1, get("a"), 500);
    core.ask_for(2, scan(9), 500);
    core.ask_for(3, scan(9), 5000);
    assert_eq!(core.wait(400).told, []);
    let told = core.wait(200).told;
    assert!(matches!(told[..], [(1, Outcome::Unavailable(_)), (2, Outcome::Unavailable(_))]), "{told:?}");
}

#[test]
fn a_scan_waits_until_everything_is_settled() {
    let (mut core, _) = Start { records: vec![("a", old(1, Some("1")))], ..Start::default() }.lead_unclean();
    assert!(core.ask_for(1, scan(9), 500).is_nothing());
    assert!(core.ask_for(2, scan(9), 5000).is_nothing());
    assert_eq!(core.wait(400).told, []);
    let told = core.wait(200).told;
    assert!(matches!(told[..], [(1, Outcome::Unavailable(_))]), "{told:?}");
    let same = core.same();
    assert_eq!(core.hear(1, same).confirms(), Some(1));
    let told = core.hear(1, confirmed(1)).told;
    assert!(matches!(&told[..], [(2, Outcome::Page(page, false))] if page.len() == 1), "{told:?}");
}

#[test]
fn a_scan_shows_what_is_committed_up_to_its_limit() {
    let record = |seq| old(seq, Some("old"));
    let records = vec![("a", record(1)), ("b", record(2)), ("c", record(3))];
    let mut core = Start { records, ..Start::default() }.lead();
    core.ask(1, put("a", "new", 1));
    core.ask(2, put("aa", "new", 2));
    for (token, limit, more) in [(3, 2, true), (4, 3, false)] {
        let number = core.ask(token, scan(limit)).confirms().expect("confirmed like a read");
        let keys = ["a", "b", "c"];
        let page = (1..).zip(keys).take(limit);
        let page = page.map(|(seq, text)| (key(text), Bytes::from_static(b"old"), record(seq).version));
        assert_eq!(core.hear(1, confirmed(number)).told, [(token, Outcome::Page(page.collect(), more))]);
    }
}

#[test]
fn a_page_ends_at_four_megabytes() {
    let value: &'static str = Box::leak("v".repeat(1 << 20).into_boxed_str());
    let records = (1..).zip(["k1", "k2", "k3", "k4", "k5", "k6"]).map(|(seq, key)| (key, old(seq, Some(value))));
    let mut core = Start { records: records.collect(), ..Start::default() }.lead();
    core.ask(1, scan(100));
    let told = core.hear(1, confirmed(1)).told;
    let [(1, Outcome::Page(page, true))] = &told[..] else { panic!("a page, and more to come") };
    assert_eq!(page.len(), 4);
}

#[test]
fn a_scan_makes_tombstones_of_what_has_ended() {
    let mut ended = old(1, Some("1"));
    ended.expires_at_ms = Some(1);
    let mut core = Start { records: vec![("a", ended), ("b", old(2, Some("2")))], ..Start::default() }.lead();
    let (to, record) = core.ask(1, scan(usize::MAX)).write("a");
    assert_eq!((to, record.map(|record| record.value)), (vec![1, 2], Some(None)));
    let number = core.hear(2, ack("a", version(1))).confirms().expect("now the page can be made");
    let told = core.hear(2, confirmed(number)).told;
    assert!(matches!(&told[..], [(1, Outcome::Page(page, false))] if page.len() == 1 && page[0].0 == "b"), "{told:?}");
}

#[test]
fn operations_are_forgotten_when_no_retry_of_them_can_come() {
    let ms = Nanos::from_millis;
    let settings = Settings { tombstone_min_age: ms(8000), retry_age_max: ms(4000), ..still_settings() };
    let mut core = Start { settings, ..Start::default() }.lead();
    let mut write = |wait, seq, text| {
        core.wait(wait);
        let record = core.ask(seq, put(text, "v", seq)).write(text).1.expect("it is sent");
        assert_eq!(core.hear(1, ack(text, version(seq))).told, [(seq, Outcome::Written(version(seq)))]);
        record.recent.iter().map(|done| done.id.number).collect::<Vec<_>>()
    };
    assert_eq!(write(100, 1, "a"), [1]);
    assert_eq!(write(2000, 2, "b"), [2]);
    assert_eq!(write(4000, 3, "a"), [1, 3]);
    assert_eq!(write(5000, 4, "a"), [3, 4], "11 seconds later");
}
