//! What one copy of a shard answers to whom: a follower of the shipped core, and a test that plays everybody else.
//! Mutation found that nothing else noticed (docs/mutation.md).
mod common;

use bytes::Bytes;
use chord::{
    io::Input,
    member::MemberState,
    msg::{ShardKind, ShardMsg},
    shard::{
        config::{Ballot, Config, ReplicaMeta, Seal, ShardId},
        digest::bucket,
        record::{Record, Version},
    },
};
use sim::{
    disk::Data,
    model::host::{Act, Acts, Host, identity, still_settings},
};
use std::sync::Arc;

const SHARD: ShardId = ShardId(0);
const EPOCH: u64 = 5;
/// Attempts of member 0, and one of member 2 between them.
const FIRST: Ballot = Ballot(1 << 4);
const LEADS: Ballot = Ballot(3 << 4);
const RIVAL: Ballot = Ballot((2 << 4) | 2);
const LATER: Ballot = Ballot(4 << 4);

/// Member 1 of a configuration of three, that follows member 0.
struct Follower(Arc<Host>);

fn config(epoch: u64, members: [usize; 3]) -> Config {
    Config { epoch, members: members.map(|member| identity(member, 0).key).to_vec() }
}

impl Follower {
    fn new(installed: bool, seal: Option<Seal>) -> Follower {
        let config = config(EPOCH, [0, 1, 2]);
        let mut disk = Data::default();
        let meta = ReplicaMeta { config, previous: Vec::new(), installed, promised: LEADS, seal, word: None };
        disk.shards.entry(SHARD).or_default().meta = Some(meta);
        disk.node = Some(common::kept(1, MemberState::Serving, 4, 3));
        Follower(Arc::new(Host::start(identity(1, 0), disk, Host::first_now(), still_settings())))
    }

    /// What it answers to a message; everything else that it has to say is left out.
    fn hear(&mut self, from: usize, epoch: u64, ballot: Ballot, kind: ShardKind) -> Option<ShardKind> {
        let from = identity(from, 0).key;
        let message = ShardMsg { shard: SHARD, epoch, ballot, kind };
        let input = Input::Shard { from, messages: vec![message] };
        let done = Acts::default().act(&self.0, Act::Take(Box::new(input), true));
        self.0 = done.host.clone();
        let mut answers = done.letters.iter().filter(|(to, letter)| *to == from && letter.message.kind.is_answer());
        let answer = answers.next().map(|(_, letter)| letter.message.kind.clone());
        assert!(answers.next().is_none(), "one answer");
        answer
    }

    fn leader(&mut self, kind: ShardKind) -> Option<ShardKind> {
        self.hear(0, EPOCH, LEADS, kind)
    }

    fn write(&mut self, text: &str, seq: u64, value: Option<&'static str>) {
        let record = record(LEADS, seq, value);
        let version = record.version;
        let ack = Some(ShardKind::WriteAck { key: key(text), version });
        assert_eq!(self.leader(ShardKind::Write { key: key(text), record }), ack);
    }

    fn meta(&self) -> ReplicaMeta {
        self.0.durable.shards[&SHARD].meta.clone().expect("it has a part in the shard")
    }

    fn kept(&self, text: &str) -> Option<Record> {
        self.0.durable.shards[&SHARD].records.get(text.as_bytes()).cloned()
    }
}

fn key(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn record(ballot: Ballot, seq: u64, value: Option<&'static str>) -> Record {
    let version = Version { epoch: EPOCH, ballot, seq };
    let value = value.map(|text| Bytes::from_static(text.as_bytes()));
    Record { version, revision: version, value, expires_at_ms: None, recent: Vec::new(), forgotten: None }
}

/// Where the follower stands, without reproach.
fn refusal(promised: Ballot, sealed: bool) -> Option<ShardKind> {
    Some(ShardKind::Nack { promised, config: None, sealed, lost: false })
}

fn seal(ballot: Ballot) -> Seal {
    Seal { ballot, next: config(EPOCH + 1, [1, 2, 3]) }
}

/// Everything that a leader asks of a copy, apart from what opens a ballot.
fn requests() -> Vec<ShardKind> {
    vec![
        ShardKind::ReadKey { key: key("a") },
        ShardKind::Confirm { number: 9 },
        ShardKind::DigestRequest { buckets: Vec::new() },
        ShardKind::TransferRequest { after: Bytes::new(), round: 0 },
        ShardKind::Stable { keys: Vec::new() },
    ]
}

#[test]
fn only_the_attempt_that_has_the_promise_is_served() {
    let mut follower = Follower::new(true, None);
    for kind in requests() {
        // An earlier attempt, one that was never announced, and one whose ballot belongs to another member.
        assert_eq!(follower.hear(2, EPOCH, RIVAL, kind.clone()), refusal(LEADS, false), "{kind:?}");
        assert_eq!(follower.hear(0, EPOCH, LATER, kind.clone()), refusal(LEADS, false), "{kind:?}");
        assert_eq!(follower.hear(2, EPOCH, LEADS, kind.clone()), None, "{kind:?}");
    }
    assert_eq!(follower.meta().promised, LEADS, "none of these opens a ballot");
    let confirm = ShardKind::Confirm { number: 9 };
    assert_eq!(follower.leader(confirm), Some(ShardKind::ConfirmAck { number: 9 }));
}

#[test]
fn a_promise_binds_and_may_be_given_again() {
    let mut follower = Follower::new(true, None);
    let promise = |answer| matches!(answer, Some(ShardKind::Promise { seal: None, .. }));
    assert_eq!(follower.hear(0, EPOCH, FIRST, ShardKind::Prepare), refusal(LEADS, false));
    let written = follower.0.core.written();
    assert!(promise(follower.leader(ShardKind::Prepare)), "its answer may have been lost");
    assert_eq!(follower.0.core.written(), written, "nothing new to keep");
    assert!(promise(follower.hear(0, EPOCH, LATER, ShardKind::Prepare)));
    assert_eq!(follower.meta().promised, LATER);
    let late = ShardKind::Write { key: key("a"), record: record(LEADS, 1, Some("1")) };
    assert_eq!(follower.leader(late), refusal(LATER, false));
    assert_eq!(follower.kept("a"), None);
}

/// Members that were not asked when the leader was elected learn of it by its first write.
#[test]
fn a_write_is_a_promise_to_who_writes() {
    for before in [None, Some(seal(LEADS))] {
        let mut follower = Follower::new(true, before.clone());
        let record = record(LATER, 1, Some("1"));
        let ack = Some(ShardKind::WriteAck { key: key("a"), version: record.version });
        assert_eq!(follower.hear(0, EPOCH, LATER, ShardKind::Write { key: key("a"), record: record.clone() }), ack);
        assert_eq!((follower.meta().promised, follower.meta().seal), (LATER, None), "after {before:?}");
        let late = ShardKind::Write { key: key("b"), record };
        assert_eq!(follower.leader(late), refusal(LATER, false));
    }
    // A leader that was promised, and writes, has seen that an earlier seal was never decided.
    let mut follower = Follower::new(true, Some(seal(RIVAL)));
    follower.write("a", 1, Some("1"));
    assert_eq!((follower.meta().promised, follower.meta().seal), (LEADS, None));
}

#[test]
fn another_configuration_is_told_where_the_copy_stands() {
    let mut follower = Follower::new(true, None);
    let config = Some(config(EPOCH, [0, 1, 2]));
    let moved_on = ShardKind::Nack { promised: Ballot::ZERO, config, sealed: false, lost: false };
    assert_eq!(follower.hear(0, EPOCH - 1, LATER, ShardKind::Prepare), Some(moved_on));
    // A later configuration has to bring its records.
    assert_eq!(follower.hear(0, EPOCH + 1, LATER, ShardKind::Prepare), refusal(Ballot::ZERO, false));
    assert_eq!(follower.meta().promised, LEADS);
    // Who lost its copy says so where it is a member, and nowhere else.
    let mut follower = Follower::new(false, None);
    let lost = ShardKind::Nack { promised: Ballot::ZERO, config: None, sealed: false, lost: true };
    assert_eq!(follower.hear(0, EPOCH, LATER, ShardKind::Prepare), Some(lost));
    assert_eq!(follower.hear(0, EPOCH + 1, LATER, ShardKind::Prepare), refusal(Ballot::ZERO, false));
}

#[test]
fn a_sealed_copy_takes_no_word_of_the_attempt_that_sealed_it() {
    let mut follower = Follower::new(true, None);
    follower.write("a", 1, Some("1"));
    let sealing = |epoch| ShardKind::Seal { next: config(epoch, [1, 2, 3]) };
    for epoch in [EPOCH, EPOCH + 2] {
        assert_eq!(follower.leader(sealing(epoch)), refusal(LEADS, false), "the next configuration is the next one");
    }
    assert_eq!(follower.meta().seal, None);
    let transfer = || ShardKind::TransferRequest { after: Bytes::new(), round: 0 };
    assert_eq!(follower.leader(transfer()), refusal(LEADS, false), "nothing is handed over before it is sealed");
    assert!(matches!(follower.leader(sealing(EPOCH + 1)), Some(ShardKind::SealAck { .. })));
    assert_eq!(follower.meta().seal, Some(seal(LEADS)));
    let refused = refusal(LEADS, true);
    let write = |ballot| ShardKind::Write { key: key("a"), record: record(ballot, 2, Some("2")) };
    assert_eq!(follower.leader(write(LEADS)), refused);
    assert_eq!(follower.leader(ShardKind::Confirm { number: 1 }), refused);
    let version = record(LEADS, 1, None).version;
    assert_eq!(follower.leader(ShardKind::Stable { keys: vec![(key("a"), version)] }), refused);
    assert_eq!(follower.kept("a"), Some(record(LEADS, 1, Some("1"))));
    // A later attempt did not see the seal on a majority when it writes: it was never decided.
    assert!(matches!(follower.hear(0, EPOCH, LATER, write(LATER)), Some(ShardKind::WriteAck { .. })));
    assert_eq!((follower.meta().promised, follower.meta().seal), (LATER, None));
    assert_eq!(follower.kept("a"), Some(record(LATER, 2, Some("2"))));
}

#[test]
fn a_transfer_is_for_the_attempt_that_sealed_and_goes_on_behind_a_key() {
    let mut follower = Follower::new(true, None);
    for (text, seq) in [("a", 1), ("b", 2)] {
        follower.write(text, seq, Some("v"));
    }
    let sealing = ShardKind::Seal { next: config(EPOCH + 1, [1, 2, 3]) };
    assert!(matches!(follower.leader(sealing), Some(ShardKind::SealAck { .. })));
    let mut fetch = |after: &str, round| match follower.leader(ShardKind::TransferRequest { after: key(after), round })
    {
        Some(ShardKind::TransferChunk { records, round: of, last: true }) if of == round => {
            records.into_iter().map(|(key, _)| key).collect::<Vec<_>>()
        }
        other => panic!("all the rest, not {other:?}"),
    };
    assert_eq!(fetch("", 0), [key("a"), key("b")]);
    assert_eq!(fetch("a", 1), [key("b")]);
    assert_eq!(fetch("b", 2), [] as [Bytes; 0]);
    // Somebody else leads by now, and has not sealed.
    assert!(matches!(follower.hear(0, EPOCH, LATER, ShardKind::Prepare), Some(ShardKind::Promise { .. })));
    let transfer = ShardKind::TransferRequest { after: Bytes::new(), round: 0 };
    assert_eq!(follower.hear(0, EPOCH, LATER, transfer), refusal(LATER, true));
}

#[test]
fn the_newest_record_stays_and_what_is_known_is_not_written_again() {
    let mut follower = Follower::new(true, None);
    follower.write("a", 2, Some("2"));
    let written = follower.0.core.written();
    follower.write("a", 2, Some("2"));
    follower.write("a", 1, Some("1"));
    assert_eq!(follower.0.core.written(), written);
    assert_eq!(follower.kept("a"), Some(record(LEADS, 2, Some("2"))));
}

#[test]
fn stable_drops_the_tombstone_that_is_meant_and_nothing_else() {
    let mut follower = Follower::new(true, None);
    follower.write("gone", 1, None);
    follower.write("newer", 3, None);
    follower.write("lives", 4, Some("v"));
    let version = |seq| record(LEADS, seq, None).version;
    let keys = vec![
        (key("gone"), version(1)),
        (key("newer"), version(2)),
        (key("lives"), version(4)),
        (key("nothing"), version(1)),
    ];
    let stable = ShardKind::Stable { keys };
    assert_eq!(follower.hear(0, EPOCH, LATER, stable.clone()), refusal(LEADS, false), "of an attempt without promise");
    assert!(follower.kept("gone").is_some());
    assert_eq!(follower.leader(stable.clone()), None);
    assert_eq!(follower.kept("gone"), None);
    assert!(follower.kept("newer").is_some() && follower.kept("lives").is_some());
    let written = follower.0.core.written();
    assert_eq!(follower.leader(stable), None);
    assert_eq!(follower.0.core.written(), written, "nothing left to drop");
}

#[test]
fn digests_tell_sums_first_and_then_the_keys_of_the_buckets_asked_for() {
    let mut follower = Follower::new(true, None);
    let other = (0..).map(|n| format!("key-{n}")).find(|text| bucket(text.as_bytes()) != bucket(b"a"));
    follower.write("a", 1, Some("v"));
    follower.write(&other.expect("there are 32 buckets"), 2, Some("v"));
    let sums = follower.leader(ShardKind::DigestRequest { buckets: Vec::new() });
    let Some(ShardKind::Digest { sums: Some(sums), keys, .. }) = sums else { panic!("sums, not {sums:?}") };
    assert_eq!((sums.iter().filter(|sum| **sum != 0).count(), keys.len()), (2, 0));
    let buckets = vec![bucket(b"a") as u32];
    let keys = vec![(key("a"), record(LEADS, 1, None).version)];
    let told = Some(ShardKind::Digest { sums: None, keys, buckets: buckets.clone() });
    assert_eq!(follower.leader(ShardKind::DigestRequest { buckets }), told);
}

#[test]
fn a_copy_is_retired_by_a_later_configuration_without_it_only() {
    let mut follower = Follower::new(true, None);
    follower.write("a", 1, Some("v"));
    for next in [config(EPOCH, [0, 2, 3]), config(EPOCH - 1, [0, 2, 3]), config(EPOCH + 1, [1, 2, 3])] {
        assert_eq!(follower.hear(0, next.epoch, LATER, ShardKind::Retire { next }), None);
        assert!(follower.meta().installed && follower.kept("a").is_some());
    }
    let next = config(EPOCH + 1, [0, 2, 3]);
    assert_eq!(follower.hear(0, EPOCH + 1, FIRST, ShardKind::Retire { next: next.clone() }), None);
    assert_eq!(follower.kept("a"), None);
    let meta = follower.meta();
    assert_eq!((meta.config, meta.installed, meta.promised, meta.seal), (next, false, Ballot::ZERO, None));
}
