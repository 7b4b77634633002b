//! Keeping copies equal, and letting tombstones go (ring.md 3.6).
use crate::harness::{Core, Done, Start, ack, confirmed, delete, get, key, old, put, state, value, version};
use chord::{
    msg::ShardKind,
    settings::Settings,
    shard::{
        digest::{BUCKETS, bucket},
        record::Record,
    },
    time::Nanos,
};
use sim::model::host::still_settings;

const INTERVAL_MS: u64 = 60_000;
const AGE_MS: u64 = 20_000;

/// A comparison of a full minute's interval; tombstones may go after a third of that.
fn comparing(records: Vec<(&'static str, Record)>) -> Start {
    let ms = Nanos::from_millis;
    let settings = Settings {
        anti_entropy_interval: ms(INTERVAL_MS),
        tombstone_min_age: ms(AGE_MS),
        retry_age_max: ms(AGE_MS / 2),
        ..still_settings()
    };
    Start { settings, records, ..Start::default() }
}

/// Waits for a comparison to begin; says when.
fn compared(core: &mut Core) -> (u64, Done) {
    core.until(2 * INTERVAL_MS, |done| !done.asked_for_digests().is_empty()).expect("it compares")
}

/// Everybody holds the same.
fn all_same(core: &mut Core) -> Done {
    let same = core.same();
    assert_eq!(stable(&core.hear(1, same.clone())), None, "of one member only");
    core.hear(2, same)
}

/// Tombstones that all are told to drop.
fn stable(done: &Done) -> Option<(Vec<usize>, Vec<String>)> {
    let keys = done.sent.iter().find_map(|(_, kind)| match kind {
        ShardKind::Stable { keys } => {
            Some(keys.iter().map(|(key, _)| String::from_utf8_lossy(key).into_owned()).collect())
        }
        _ => None,
    })?;
    Some((done.to(|kind| matches!(kind, ShardKind::Stable { .. })), keys))
}

/// A member whose sums all differ; and what it then says it holds in the buckets of some keys.
fn differs(core: &mut Core, from: usize, held: &[(&'static str, Record)], asked: &[&str]) -> Done {
    let mut sums = Box::new([0; BUCKETS]);
    if let ShardKind::Digest { sums: Some(own), .. } = core.same() {
        sums = own;
    }
    let mut buckets: Vec<u32> = asked.iter().map(|text| bucket(text.as_bytes()) as u32).collect();
    buckets.sort_unstable();
    buckets.dedup();
    buckets.iter().for_each(|bucket| sums[*bucket as usize] ^= 1);
    let done = core.hear(from, ShardKind::Digest { sums: Some(sums), keys: Vec::new(), buckets: Vec::new() });
    let request = ShardKind::DigestRequest { buckets: buckets.clone() };
    assert_eq!(done.sent, [(from, request)], "it asks for what differs");
    let keys = held.iter().map(|(text, record)| (key(text), record.version)).collect();
    core.hear(from, ShardKind::Digest { sums: None, keys, buckets })
}

#[test]
fn copies_are_compared_at_the_interval_with_those_that_are_up() {
    let mut core = comparing(vec![("a", old(1, Some("1")))]).lead();
    assert_eq!(compared(&mut core).1.asked_for_digests(), [1, 2]);
    all_same(&mut core);
    core.down(2);
    let (after, done) = compared(&mut core);
    assert_eq!(done.asked_for_digests(), [1]);
    assert!((INTERVAL_MS..=INTERVAL_MS * 5 / 4 + 100).contains(&after), "{after} ms");
}

#[test]
fn who_does_not_answer_is_asked_again_after_a_while() {
    let mut core = comparing(Vec::new()).lead();
    compared(&mut core);
    let same = core.same();
    core.hear(1, same);
    assert_eq!(core.until(800, |done| !done.asked_for_digests().is_empty()).map(|(ms, _)| ms), None);
    assert_eq!(core.wait(100).asked_for_digests(), [2]);
}

#[test]
fn a_member_is_sent_what_it_lacks_and_nothing_else() {
    let (a, b) = (old(1, Some("1")), old(2, Some("2")));
    let mut core = comparing(vec![("a", a.clone()), ("b", b.clone())]).lead();
    compared(&mut core);
    let done = differs(&mut core, 1, &[("b", b)], &["a", "b"]);
    assert_eq!(done.sent, [(1, ShardKind::Write { key: key("a"), record: a })]);
    assert_eq!(core.repaired(), 1);
}

#[test]
fn what_only_a_member_knows_is_settled_by_a_write() {
    let (mine, theirs) = (old(1, Some("1")), old(2, Some("2")));
    let mut core = comparing(vec![("a", mine.clone())]).lead();
    compared(&mut core);
    let (to, record) = differs(&mut core, 2, &[("a", theirs)], &["a"]).write("a");
    let record = record.expect("written anew");
    assert_eq!((to, record.version, core.repaired()), (vec![1, 2], version(1), 1));
    assert_eq!((record.revision, record.value), (mine.revision, mine.value), "the majority's, which was committed");
}

#[test]
fn old_tombstones_go_once_everybody_holds_them() {
    let records = vec![("gone", old(1, None)), ("lives", old(2, Some("v")))];
    let mut core = comparing(records).lead();
    compared(&mut core);
    let done = all_same(&mut core);
    assert_eq!(done.sent, [], "it is not known to be old enough");
    let (after, _) = compared(&mut core);
    assert!((AGE_MS..=AGE_MS + 200).contains(&after), "as soon as it is old enough, not after {after} ms");
    assert_eq!(stable(&all_same(&mut core)), Some((vec![1, 2], vec!["gone".into()])));
    let (after, _) = compared(&mut core);
    assert!(after >= INTERVAL_MS, "nothing is left to look for");
    assert_eq!(all_same(&mut core).sent, []);
}

#[test]
fn a_tombstone_made_anew_is_a_young_one() {
    let mut core = comparing(vec![("gone", old(1, None))]).lead();
    compared(&mut core);
    all_same(&mut core);
    for (number, operation) in [(1, put("gone", "v", 1)), (2, delete("gone", 2))] {
        core.ask(number, operation);
        core.hear(1, ack("gone", version(number)));
    }
    compared(&mut core);
    assert_eq!(all_same(&mut core).sent, []);
    compared(&mut core);
    assert_eq!(stable(&all_same(&mut core)), Some((vec![1, 2], vec!["gone".into()])));
}

#[test]
fn no_tombstone_goes_while_a_write_is_on_its_way() {
    let mut core = comparing(vec![("gone", old(1, None))]).lead();
    compared(&mut core);
    all_same(&mut core);
    core.ask(1, put("a", "1", 1));
    compared(&mut core);
    assert_eq!(stable(&all_same(&mut core)), None);
}

#[test]
fn no_tombstone_goes_that_a_member_may_lack() {
    let gone = old(1, None);
    let mut core = comparing(vec![("gone", gone.clone())]).lead();
    compared(&mut core);
    all_same(&mut core);
    compared(&mut core);
    let same = core.same();
    assert_eq!(stable(&core.hear(1, same)), None);
    let done = differs(&mut core, 2, &[], &["gone"]);
    assert_eq!(done.sent, [(2, ShardKind::Write { key: key("gone"), record: gone })]);
}

#[test]
fn keys_count_as_settled_once_a_majority_was_compared() {
    let (a, b) = (old(1, Some("1")), old(2, Some("2")));
    let start = Start { records: vec![("a", a.clone()), ("b", b.clone())], ..Start::default() };
    let is_read = |kind: &ShardKind| matches!(kind, ShardKind::ReadKey { .. });
    let (mut core, done) = start.lead_unclean();
    assert_eq!(done.asked_for_digests(), [1, 2]);
    // One key that was settled says nothing about another.
    core.ask(1, get("a"));
    core.hear(1, state("a", Some(a.clone())));
    assert_eq!(core.hear(1, confirmed(1)).told, [(1, value(&a))]);
    assert_eq!(core.ask(2, get("b")).to(is_read), [1, 2]);
    // Nor does the comparison about a key that is being read.
    let same = core.same();
    core.hear(1, same);
    assert_eq!(core.ask(3, get("c")).to(is_read), [1, 2]);
    core.hear(2, state("b", Some(b.clone())));
    core.hear(2, state("c", None));
    core.hear(2, confirmed(2));
    core.hear(2, confirmed(3));
    let done = core.ask(4, get("d"));
    assert_eq!((done.to(is_read), done.confirms()), (vec![], Some(4)), "all are settled");
}

#[test]
fn a_key_that_differs_is_settled_before_all_count_as_settled() {
    let (mine, theirs) = (old(1, Some("1")), old(2, Some("2")));
    let is_read = |kind: &ShardKind| matches!(kind, ShardKind::ReadKey { .. });
    let (mut core, _) = comparing(vec![("a", mine)]).lead_unclean();
    let done = differs(&mut core, 1, &[("a", theirs.clone())], &["a"]);
    assert_eq!(done.to(is_read), [1, 2]);
    let same = core.same();
    core.hear(2, same);
    let compares = core.until(2 * INTERVAL_MS, |done| !done.asked_for_digests().is_empty());
    assert!(compares.is_none(), "first things first");
    assert_eq!(core.ask(1, get("b")).to(is_read), [1, 2]);
    core.hear(1, state("b", None));
    let record = core.hear(1, state("a", Some(theirs))).write("a").1.expect("written anew");
    assert_eq!(core.hear(1, ack("a", record.version)).to(is_read), [] as [usize; 0]);
    assert_eq!(core.ask(2, get("c")).to(is_read), [] as [usize; 0]);
}
