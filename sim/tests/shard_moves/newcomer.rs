//! What a node that is sent a copy takes, and what it refuses.
use crate::harness::{
    EPOCH, LATER, LEADS, NEW, OLD, Part, Records, Start, config, difference, held, next, pre, records, serving, whole,
};
use chord::{
    member::MemberState,
    shard::config::{Ballot, ReplicaMeta, Seal},
};

#[test]
fn newcomer_gathers_a_copy_in_parts_and_enters_with_what_was_written_meanwhile() {
    let mut node = serving(3, None).node(&[]);
    let first = pre(0, false, &[("a", 1)]);
    assert_eq!(node.take(&first), first.taken());
    assert!(node.keeps_nothing(), "no word for half a copy");
    let second = pre(1, true, &[("b", 2)]);
    assert_eq!(node.take(&second), second.taken());
    assert_eq!(node.meta().word, Some(Seal { ballot: LEADS, next: next() }), "the leader may seal in its favour");
    assert!(!node.meta().installed && node.records().is_empty(), "nothing is applied before the seal");
    // The answer was lost.
    let written = node.0.core.written();
    assert_eq!(node.take(&second), second.taken());
    assert_eq!(node.0.core.written(), written);
    // A second round of what was written during the first.
    let again = Part { full: false, ..pre(2, true, &[("b", 3), ("c", 4)]) };
    assert_eq!(node.take(&again), again.taken());
    let all = records(&[("a", 1), ("b", 3), ("c", 4), ("d", 5)]);
    let last = difference(&[("d", 5)], &all);
    assert_eq!(node.take(&last), last.taken());
    assert!(node.has_entered(&all));
    assert_eq!(node.meta().word, None);
    assert_eq!(node.0.core.status().counters.keys_received, 6, "a, b, b again, b and c, d");
    // Whoever is there says so.
    assert_eq!(node.take(&last), last.taken());
    assert_eq!(node.take(&first), first.answer(true, false));
    assert!(node.has_entered(&all));
}

#[test]
fn copy_that_begins_anew_leaves_nothing_of_the_one_before() {
    let mut node = serving(3, None).node(&[]);
    for part in [pre(0, false, &[("a", 1)]), pre(1, false, &[("gone", 2)]), pre(0, true, &[("a", 1)])] {
        assert_eq!(node.take(&part), part.taken());
    }
    let all = records(&[("a", 1)]);
    let last = difference(&[], &all);
    assert_eq!(node.take(&last), last.taken());
    assert!(node.has_entered(&all));
    // The same after the seal.
    let mut node = serving(3, None).node(&[]);
    let all = records(&[("a", 1), ("b", 2)]);
    let first = whole(0, false, &[("gone", 1)], &all);
    assert_eq!(node.take(&first), first.taken());
    for part in [whole(0, false, &[("a", 1)], &all), whole(1, true, &[("b", 2)], &all)] {
        assert_eq!(node.take(&part), part.taken());
    }
    assert!(node.has_entered(&all));
}

#[test]
fn copy_with_a_part_missing_is_refused() {
    let mut node = serving(3, None).node(&[]);
    let all = records(&[("a", 1), ("b", 2), ("c", 3)]);
    // It restarted between the first part and the second, or between two after the seal.
    let beyond = |last| [pre(1, last, &[("b", 2)]), whole(1, last, &[("b", 2)], &all)];
    for part in [beyond(false), beyond(true)].concat() {
        assert_eq!(node.take(&part), part.refused());
    }
    assert!(node.keeps_nothing(), "neither a word nor a copy");
    // Half a copy is none that a difference could be added to.
    for part in [pre(0, false, &[("a", 1), ("b", 2)]), whole(0, false, &[("a", 1)], &all)] {
        assert_eq!(node.take(&part), part.taken());
    }
    let last = difference(&[("c", 3)], &all);
    assert_eq!(node.take(&last), last.refused());
    assert!(node.keeps_nothing());
    // All of it in full is another matter.
    let last = whole(0, true, &[("a", 1), ("b", 2), ("c", 3)], &all);
    assert_eq!(node.take(&last), last.taken());
    assert!(node.has_entered(&all));
}

#[test]
fn copy_that_is_not_the_leaders_is_refused() {
    let mut node = serving(3, None).node(&[]);
    let all = records(&[("a", 1), ("b", 2)]);
    let complete = pre(0, true, &[("a", 1)]);
    assert_eq!(node.take(&complete), complete.taken());
    // The leader's copy has a record that the difference lacks, or an older one, or one less.
    for last in [difference(&[], &all), difference(&[("b", 1)], &all), whole(0, true, &[("b", 2)], &all)] {
        assert_eq!(node.take(&complete), complete.taken());
        assert_eq!(node.take(&last), last.refused());
        assert!(!node.meta().installed && node.records().is_empty());
    }
    // What was refused is forgotten: the difference alone does not do any more.
    let last = difference(&[("b", 2)], &all);
    assert_eq!(node.take(&last), last.refused());
}

#[test]
fn what_came_for_another_attempt_is_no_part_of_this_one() {
    let all = records(&[("a", 1), ("b", 2)]);
    let last = difference(&[("b", 2)], &all);
    for other in [Part { attempt: 2, ..last.clone() }, Part { ballot: LATER, ..last.clone() }] {
        let mut node = serving(3, None).node(&[]);
        let complete = pre(0, true, &[("a", 1)]);
        assert_eq!(node.take(&complete), complete.taken());
        assert_eq!(node.take(&other), other.refused());
        assert!(!node.meta().installed);
        // And the first one is over with that.
        assert_eq!(node.take(&last), last.refused());
        let complete = Part { attempt: other.attempt, ballot: other.ballot, ..complete };
        assert_eq!(node.take(&complete), complete.taken());
        assert_eq!(node.meta().word, Some(Seal { ballot: other.ballot, next: next() }));
        assert_eq!(node.take(&other), other.taken());
        assert!(node.has_entered(&all));
    }
}

#[test]
fn member_needs_only_the_difference_from_its_own_copy() {
    let mut node = serving(1, Some(held(EPOCH, OLD))).node(&[("a", 1), ("b", 2)]);
    let all = records(&[("a", 1), ("b", 3), ("c", 4)]);
    // It has more to change than this.
    let short = difference(&[("c", 4)], &all);
    assert_eq!(node.take(&short), short.refused());
    assert_eq!((node.meta(), node.records()), (held(EPOCH, OLD), records(&[("a", 1), ("b", 2)])));
    let last = difference(&[("b", 3), ("c", 4)], &all);
    assert_eq!(node.take(&last), last.taken());
    assert!(node.has_entered(&all));
    assert_eq!(node.meta().previous, config(EPOCH, OLD).members, "whom to retire");
    // A whole copy drops what the leader's lacks.
    let mut node = serving(1, Some(held(EPOCH, OLD))).node(&[("a", 1), ("gone", 2)]);
    let all = records(&[("a", 1)]);
    let last = whole(0, true, &[("a", 1)], &all);
    assert_eq!(node.take(&last), last.taken());
    assert!(node.has_entered(&all));
}

#[test]
fn own_copy_counts_only_in_the_configuration_before_and_if_it_is_whole() {
    // It missed a configuration, or it lost its copy: even if its records look right, they are not its word.
    let lost = ReplicaMeta { installed: false, ..held(EPOCH, OLD) };
    for meta in [held(EPOCH - 1, OLD), lost] {
        let mut node = serving(1, Some(meta.clone())).node(&[]);
        let all = Records::new();
        let last = difference(&[], &all);
        assert_eq!(node.take(&last), last.refused());
        assert_eq!(node.meta(), meta);
        let last = whole(0, true, &[], &all);
        assert_eq!(node.take(&last), last.taken());
        assert!(node.has_entered(&all));
    }
}

#[test]
fn configuration_that_is_over_or_not_for_this_node_is_not_entered() {
    let all = records(&[("a", 1)]);
    let last = whole(0, true, &[("a", 1)], &all);
    let later = held(EPOCH + 2, NEW);
    let mut node = serving(1, Some(later.clone())).node(&[]);
    assert_eq!(node.take(&last), last.taken(), "its leader may go on");
    assert_eq!((node.meta(), node.records()), (later, Records::new()));
    // A snapshot from before the loss of the copy is not answered: it may be as old as that.
    let lost = ReplicaMeta { installed: false, ..held(EPOCH + 1, NEW) };
    let mut node = serving(1, Some(lost.clone())).node(&[]);
    assert_eq!(node.take(&last), None);
    assert_eq!(node.meta(), lost);
    let mut node = serving(4, None).node(&[]);
    assert_eq!(node.take(&last), None);
    assert!(node.keeps_nothing());
}

#[test]
fn node_that_leaves_begins_no_move_and_ends_the_one_that_is_decided() {
    // It has given its word to an earlier attempt, and so may not go yet.
    let word = Seal { ballot: Ballot(2 << 4), next: next() };
    let waiting = ReplicaMeta { installed: false, word: Some(word), ..held(EPOCH, OLD) };
    let mut node = Start { state: MemberState::Leaving, ..serving(3, Some(waiting.clone())) }.node(&[]);
    assert_eq!(node.take(&pre(0, true, &[("a", 1)])), None, "no other word");
    assert_eq!(node.meta(), waiting);
    let all = records(&[("a", 1)]);
    let last = whole(0, true, &[("a", 1)], &all);
    assert_eq!(node.take(&last), last.taken());
    assert!(node.has_entered(&all));
}
