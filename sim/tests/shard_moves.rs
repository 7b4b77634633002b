//! A shard on its way from one configuration to the next, message by message (ring.md 3.4): one node of the shipped
//! core, and a test that plays everybody else. Mutation found that nothing else noticed (docs/mutation.md).
mod common;

use bytes::Bytes;
use chord::{
    io::{Input, Operation, Outcome, Retryable, Token},
    member::{Member, MemberState},
    msg::{MapEntry, RingRequest, ShardKind, ShardMsg},
    settings::Settings,
    shard::{
        config::{Ballot, Config, ReplicaMeta, Seal, ShardId},
        digest::summand,
        record::{OpId, Record, Version},
    },
    time::Nanos,
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
        let mut disk = Data::default();
        if let Some(meta) = self.meta {
            disk.shards.entry(SHARD).or_default().meta = Some(meta);
        }
        disk.node = Some(common::kept(self.me, self.state, 5, 3));
        let host = Host::start(identity(self.me, 0), disk, Host::first_now(), self.settings);
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

/// Member 0, elected under `LATER` by itself and member 1.
fn leader(settings: Settings, of: &[(&str, u64)]) -> Node {
    let mut node = Start { settings, ..serving(0, Some(held(EPOCH, OLD))) }.node(of);
    node.wait(200);
    let promise = ShardKind::Promise { seal: None, digest: digest(&records(of)) };
    for member in [1, 2] {
        node.hear(member, EPOCH, LATER, promise.clone());
    }
    assert!(node.0.leads);
    node
}

/// One record a message.
fn in_parts() -> Settings {
    Settings { chunk_bytes_max: 1, ..still_settings() }
}

impl Node {
    fn wait(&mut self, ms: u64) -> Vec<Said> {
        said(&self.act(Act::Wait(Nanos::from_millis(ms), ms, true)))
    }

    /// Member 2 goes (or comes back): the ring proposes another configuration.
    fn gossip(&mut self, state: MemberState, revision: u64) -> Vec<Said> {
        let rumors = vec![Member { node: identity(2, 0), revision, state }];
        let request = RingRequest::Gossip { from: identity(4, 0), view_hash: 0, rumors, map_hash: 0 };
        said(&self.act(Act::Take(Box::new(Input::Ring { token: Token(0), request }), true)))
    }

    fn put(&mut self, text: &str, number: u64) -> Arc<Done> {
        let op = Retryable { id: OpId { client: 7, number }, retry: false, age: Nanos(0) };
        let operation = Operation::Put { key: key(text), value: Bytes::from_static(b"v"), ttl_ms: None, op };
        let deadline = self.0.now.mono + Nanos::from_millis(30_000);
        self.act(Act::Take(Box::new(Input::Client { token: Token(number), operation, deadline }), true))
    }

    /// A write that member 1 takes, too.
    fn write(&mut self, text: &str, number: u64) {
        let version = writes(&said(&self.put(text, number))).pop().expect("it goes to the members").1;
        self.hear(1, EPOCH, LATER, ShardKind::WriteAck { key: key(text), version });
    }

    /// The answer to the last part that was sent.
    fn ack(&mut self, from: usize, part: &Part) -> Vec<Said> {
        self.hear(from, EPOCH, LATER, part.taken().expect("an answer"))
    }

    fn seal_ack(&mut self, from: usize, digest: u128) -> Vec<Said> {
        self.hear(from, EPOCH, LATER, ShardKind::SealAck { digest })
    }
}

/// Parts of a copy among the messages, with their receivers.
fn parts(said: &[Said]) -> Vec<(usize, Part)> {
    let part = |(to, message): &Said| match message.kind.clone() {
        ShardKind::Install { attempt, records, part, last, digest, pre_copy, full, next: sent } => {
            assert_eq!((message.epoch, sent), (EPOCH, next()));
            let (ballot, records) = (message.ballot, records.into_iter().collect());
            Some((*to, Part { ballot, attempt, part, last, pre_copy, full, records, digest }))
        }
        _ => None,
    };
    said.iter().filter_map(part).collect()
}

/// The only part among the messages.
fn part(said: &[Said]) -> Part {
    let mut parts = parts(said);
    assert_eq!(parts.len(), 1, "one part: {said:?}");
    parts.remove(0).1
}

/// Who is asked to seal.
fn sealing(said: &[Said]) -> Vec<usize> {
    let seal = ShardKind::Seal { next: next() };
    said.iter().filter(|(_, message)| message.kind == seal).map(|(to, _)| *to).collect()
}

/// Who is sent a write, and its version.
fn writes(said: &[Said]) -> Vec<(usize, Version)> {
    let write = |(to, message): &Said| match &message.kind {
        ShardKind::Write { record, .. } => Some((*to, record.version)),
        _ => None,
    };
    said.iter().filter_map(write).collect()
}

/// Who is asked for records: behind which key, in which round.
fn fetches(said: &[Said]) -> Vec<(usize, Bytes, u64)> {
    let fetch = |(to, message): &Said| match &message.kind {
        ShardKind::TransferRequest { after, round } => Some((*to, after.clone(), *round)),
        _ => None,
    };
    said.iter().filter_map(fetch).collect()
}

fn told(said: &[Said], kind: &ShardKind) -> Vec<usize> {
    said.iter().filter(|(_, message)| message.kind == *kind).map(|(to, _)| *to).collect()
}

/// The next configuration lives.
fn update() -> ShardKind {
    ShardKind::MapUpdate { entries: vec![MapEntry { shard: SHARD, config: next(), leader: None }] }
}

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

/// Asks where the shard is.
fn ask() -> ShardKind {
    ShardKind::MapRequest { shards: vec![SHARD] }
}

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
