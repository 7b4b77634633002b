//! A shard on its way from one configuration to the next, message by message (ring.md 3.4): one node of the shipped
//! core, and a test that plays everybody else. Mutation found that nothing else noticed (docs/mutation.md).
use bytes::Bytes;
use chord::{
    io::Input,
    member::{Member, MemberState, NodeRef},
    msg::{ShardKind, ShardMsg},
    settings::Settings,
    shard::{
        config::{Ballot, Config, ReplicaMeta, Seal, ShardId},
        digest::summand,
        record::{Record, Version},
    },
    store::NodeMeta,
};
use sim::{
    disk::Data,
    model::host::{Act, Acts, Done, Host, identity, still_settings},
};
use std::{collections::BTreeMap, sync::Arc};

const SHARD: ShardId = ShardId(0);
const EPOCH: u64 = 5;
/// Of member 0.
const LEADS: Ballot = Ballot(3 << 4);
const LATER: Ballot = Ballot(4 << 4);
/// Members of the configuration, and of the one that is to follow.
const OLD: [usize; 3] = [0, 1, 2];
const NEW: [usize; 3] = [0, 1, 3];

/// Records by their keys.
type Records = BTreeMap<Bytes, Record>;
/// A message, and to whom.
type Said = (usize, ShardMsg);

/// One node, before any message.
struct Start {
    me: usize,
    state: MemberState,
    meta: Option<ReplicaMeta>,
    settings: Settings,
}

struct Node(Arc<Host>);

fn config(epoch: u64, members: [usize; 3]) -> Config {
    Config { epoch, members: members.map(|member| identity(member, 0).key).to_vec() }
}

fn next() -> Config {
    config(EPOCH + 1, NEW)
}

fn held(epoch: u64, members: [usize; 3]) -> ReplicaMeta {
    let config = config(epoch, members);
    ReplicaMeta { config, previous: Vec::new(), installed: true, promised: LEADS, seal: None, word: None }
}

fn key(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn record(seq: u64) -> Record {
    let version = Version { epoch: EPOCH, ballot: LEADS, seq };
    let value = Some(Bytes::from_static(b"v"));
    Record { version, revision: version, value, expires_at_ms: None, recent: Vec::new(), forgotten: None }
}

fn records(of: &[(&str, u64)]) -> Records {
    of.iter().map(|(text, seq)| (key(text), record(*seq))).collect()
}

fn digest(records: &Records) -> u128 {
    records.iter().fold(0, |sum: u128, (key, record)| sum.wrapping_add(summand(key, &record.version).1))
}

/// A serving node that holds `meta`.
fn serving(me: usize, meta: Option<ReplicaMeta>) -> Start {
    Start { me, state: MemberState::Serving, meta, settings: still_settings() }
}

impl Start {
    fn node(self, records: &[(&str, u64)]) -> Node {
        let nodes: Vec<NodeRef> = (0..5).map(|index| identity(index, 0)).collect();
        let member = |index: usize, state| Member { node: nodes[index].clone(), revision: 1, state };
        let mut disk = Data::default();
        if let Some(meta) = self.meta {
            disk.shards.entry(SHARD).or_default().meta = Some(meta);
        }
        let others = (0..5).filter(|index| *index != self.me).map(|index| member(index, MemberState::Serving));
        disk.node = Some(NodeMeta {
            node: member(self.me, self.state),
            ring_id: Some(7),
            shards: 1,
            replication_factor: 3,
            operator_epoch: 0,
            members: others.collect(),
        });
        let host = Host::start(nodes[self.me].clone(), disk, Host::first_now(), self.settings);
        let mut node = Node(Arc::new(host));
        for (text, seq) in records {
            let write = ShardKind::Write { key: key(text), record: record(*seq) };
            node.hear(0, EPOCH, LEADS, write);
        }
        node
    }
}

impl Node {
    fn act(&mut self, act: Act) -> Arc<Done> {
        let done = Acts::default().act(&self.0, act);
        self.0 = done.host.clone();
        done
    }

    /// What it says when it is told something.
    fn hear(&mut self, from: usize, epoch: u64, ballot: Ballot, kind: ShardKind) -> Vec<Said> {
        let message = ShardMsg { shard: SHARD, epoch, ballot, kind };
        let input = Input::Shard { from: identity(from, 0).key, messages: vec![message] };
        said(&self.act(Act::Take(Box::new(input), true)))
    }

    fn meta(&self) -> ReplicaMeta {
        self.0.durable.shards[&SHARD].meta.clone().expect("it has a part in the shard")
    }

    fn records(&self) -> Records {
        self.0.durable.shards.get(&SHARD).map(|data| data.records.clone()).unwrap_or_default()
    }

    fn keeps_nothing(&self) -> bool {
        self.0.durable.shards.get(&SHARD).is_none_or(|data| data.meta.is_none() && data.records.is_empty())
    }

    /// Whether the records are its whole copy of the next configuration.
    fn has_entered(&self, records: &Records) -> bool {
        let meta = self.meta();
        meta.config == next() && meta.installed && self.records() == *records
    }
}

fn said(done: &Done) -> Vec<Said> {
    let index = |to| (0..5).find(|index| identity(*index, 0).key == to).expect("one of the nodes");
    done.letters.iter().map(|(to, letter)| (index(*to), ShardMsg::clone(&letter.message))).collect()
}

/// A part of a copy, as the leader of the old configuration sends it.
#[derive(Clone)]
struct Part {
    ballot: Ballot,
    attempt: u64,
    part: u32,
    last: bool,
    pre_copy: bool,
    full: bool,
    records: Records,
    digest: u128,
}

/// Part `part` of a whole copy before the seal.
fn pre(part: u32, last: bool, of: &[(&str, u64)]) -> Part {
    Part { ballot: LEADS, attempt: 1, part, last, pre_copy: true, full: true, records: records(of), digest: 0 }
}

/// Part `part` of a whole copy that makes `all`.
fn whole(part: u32, last: bool, of: &[(&str, u64)], all: &Records) -> Part {
    Part { pre_copy: false, digest: digest(all), ..pre(part, last, of) }
}

/// All that the receiver lacks of `all`.
fn difference(of: &[(&str, u64)], all: &Records) -> Part {
    Part { full: false, ..whole(0, true, of, all) }
}

impl Part {
    fn kind(&self) -> ShardKind {
        let Part { attempt, part, last, pre_copy, full, digest, .. } = *self;
        let records = self.records.clone().into_iter().collect();
        ShardKind::Install { next: next(), attempt, records, part, last, digest, pre_copy, full }
    }

    fn answer(&self, last: bool, mismatch: bool) -> Option<ShardKind> {
        let Part { attempt, part, pre_copy, .. } = *self;
        Some(ShardKind::InstallAck { attempt, part, last, pre_copy, mismatch })
    }

    fn taken(&self) -> Option<ShardKind> {
        self.answer(self.last, false)
    }

    fn refused(&self) -> Option<ShardKind> {
        self.answer(self.last, true)
    }
}

impl Node {
    /// What it answers to a part.
    fn take(&mut self, part: &Part) -> Option<ShardKind> {
        let mut said = self.hear(0, EPOCH, part.ballot, part.kind());
        said.retain(|(to, message)| *to == 0 && message.kind.is_answer());
        assert!(said.len() < 2, "one answer");
        let (_, message) = said.pop()?;
        assert_eq!((message.epoch, message.ballot), (EPOCH, part.ballot), "the answer names the leader's attempt");
        Some(message.kind)
    }
}

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
    for part in [pre(1, false, &[("b", 2)]), pre(1, true, &[("b", 2)]), whole(1, true, &[("b", 2)], &all)] {
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
