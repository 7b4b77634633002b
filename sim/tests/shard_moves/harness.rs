//! One node of the shipped core, and a test that plays everybody else.
use crate::common;
use bytes::Bytes;
use chord::{
    io::{Input, Operation, Retryable, Token},
    member::{Member, MemberState},
    msg::{MapEntry, RingRequest, ShardKind, ShardMsg},
    settings::Settings,
    shard::{
        config::{Ballot, Config, ReplicaMeta, ShardId},
        digest::summand,
        record::{OpId, Record, Version},
    },
    store::{Change, NodeMeta, Store as _},
    time::Nanos,
};
use sim::{
    disk::{Data, Plain},
    model::host::{Act, Acts, Done, Host, identity, still_settings},
};
use std::{collections::BTreeMap, sync::Arc};

pub const SHARD: ShardId = ShardId(0);
pub const EPOCH: u64 = 5;
/// Of member 0.
pub const LEADS: Ballot = Ballot(3 << 4);
pub const LATER: Ballot = Ballot(4 << 4);
/// Members of the configuration, and of the one that is to follow.
pub const OLD: [usize; 3] = [0, 1, 2];
pub const NEW: [usize; 3] = [0, 1, 3];

/// Records by their keys.
pub type Records = BTreeMap<Bytes, Record>;
/// A message, and to whom.
pub type Said = (usize, ShardMsg);

/// One node, before any message.
pub struct Start {
    pub me: usize,
    pub state: MemberState,
    pub shards: BTreeMap<ShardId, ReplicaMeta>,
    pub settings: Settings,
}

pub struct Node(pub Arc<Host>);

pub fn config(epoch: u64, members: [usize; 3]) -> Config {
    Config { epoch, members: members.map(|member| identity(member, 0).key).to_vec() }
}

pub fn next() -> Config {
    config(EPOCH + 1, NEW)
}

pub fn held(epoch: u64, members: [usize; 3]) -> ReplicaMeta {
    let config = config(epoch, members);
    ReplicaMeta { config, previous: Vec::new(), installed: true, promised: LEADS, seal: None, word: None }
}

pub fn key(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

pub fn record(seq: u64) -> Record {
    let version = Version { epoch: EPOCH, ballot: LEADS, seq };
    let value = Some(Bytes::from_static(b"v"));
    Record { version, revision: version, value, expires_at_ms: None, recent: Vec::new(), forgotten: None }
}

pub fn records(of: &[(&str, u64)]) -> Records {
    of.iter().map(|(text, seq)| (key(text), record(*seq))).collect()
}

pub fn digest(records: &Records) -> u128 {
    records.iter().fold(0, |sum: u128, (key, record)| sum.wrapping_add(summand(key, &record.version).1))
}

/// A serving node that holds `meta`.
pub fn serving(me: usize, meta: Option<ReplicaMeta>) -> Start {
    let shards = meta.map(|meta| (SHARD, meta)).into_iter().collect();
    Start { me, state: MemberState::Serving, shards, settings: still_settings() }
}

impl Start {
    pub fn node(self, of: &[(&str, u64)]) -> Node {
        let records = records(of).into_iter().map(|(key, record)| Change::Put { shard: SHARD, key, record });
        self.node_with(records.collect())
    }

    pub fn node_with(self, records: Vec<Change>) -> Node {
        let metas = self.shards.into_iter().map(|(shard, meta)| Change::Meta(shard, meta));
        let mut store = Plain::over(Data::default());
        store.write(metas.chain(records).collect());
        let node = NodeMeta { shards: self.settings.shards, ..common::kept(self.me, self.state, 5, 3) };
        store.data.node = Some(node);
        let host = Host::start(identity(self.me, 0), store.data, Host::first_now(), self.settings);
        Node(Arc::new(host))
    }
}

impl Node {
    pub fn act(&mut self, act: Act) -> Arc<Done> {
        let done = Acts::default().act(&self.0, act);
        self.0 = done.host.clone();
        done
    }

    /// What it does when it is told something.
    pub fn hear_all(&mut self, from: usize, epoch: u64, ballot: Ballot, kind: ShardKind) -> Arc<Done> {
        let message = ShardMsg { shard: SHARD, epoch, ballot, kind };
        let input = Input::Shard { from: identity(from, 0).key, messages: vec![message] };
        self.act(Act::Take(Box::new(input), true))
    }

    /// What it says then.
    pub fn hear(&mut self, from: usize, epoch: u64, ballot: Ballot, kind: ShardKind) -> Vec<Said> {
        said(&self.hear_all(from, epoch, ballot, kind))
    }

    pub fn meta(&self) -> ReplicaMeta {
        self.0.durable.shards[&SHARD].meta.clone().expect("it has a part in the shard")
    }

    pub fn records(&self) -> Records {
        self.0.durable.shards.get(&SHARD).map(|data| data.records.clone()).unwrap_or_default()
    }

    pub fn keeps_nothing(&self) -> bool {
        self.0.durable.shards.get(&SHARD).is_none_or(|data| data.meta.is_none() && data.records.is_empty())
    }

    /// Whether the records are its whole copy of the next configuration.
    pub fn has_entered(&self, records: &Records) -> bool {
        let meta = self.meta();
        meta.config == next() && meta.installed && self.records() == *records
    }
}

pub fn said(done: &Done) -> Vec<Said> {
    let index = |to| (0..5).find(|index| identity(*index, 0).key == to).expect("one of the nodes");
    done.letters.iter().map(|(to, letter)| (index(*to), ShardMsg::clone(&letter.message))).collect()
}

/// A part of a copy, as the leader of the old configuration sends it.
#[derive(Clone)]
pub struct Part {
    pub ballot: Ballot,
    pub attempt: u64,
    pub part: u32,
    pub last: bool,
    pub pre_copy: bool,
    pub full: bool,
    pub records: Records,
    pub digest: u128,
}

/// Part `part` of a whole copy before the seal.
pub fn pre(part: u32, last: bool, of: &[(&str, u64)]) -> Part {
    Part { ballot: LEADS, attempt: 1, part, last, pre_copy: true, full: true, records: records(of), digest: 0 }
}

/// Part `part` of a whole copy that makes `all`.
pub fn whole(part: u32, last: bool, of: &[(&str, u64)], all: &Records) -> Part {
    Part { pre_copy: false, digest: digest(all), ..pre(part, last, of) }
}

/// All that the receiver lacks of `all`.
pub fn difference(of: &[(&str, u64)], all: &Records) -> Part {
    Part { full: false, ..whole(0, true, of, all) }
}

impl Part {
    pub fn kind(&self) -> ShardKind {
        let Part { attempt, part, last, pre_copy, full, digest, .. } = *self;
        let records = self.records.clone().into_iter().collect();
        ShardKind::Install { next: next(), attempt, records, part, last, digest, pre_copy, full }
    }

    pub fn answer(&self, last: bool, mismatch: bool) -> Option<ShardKind> {
        let Part { attempt, part, pre_copy, .. } = *self;
        Some(ShardKind::InstallAck { attempt, part, last, pre_copy, mismatch })
    }

    pub fn taken(&self) -> Option<ShardKind> {
        self.answer(self.last, false)
    }

    pub fn refused(&self) -> Option<ShardKind> {
        self.answer(self.last, true)
    }
}

impl Node {
    /// What it answers to a part.
    pub fn take(&mut self, part: &Part) -> Option<ShardKind> {
        let mut said = self.hear(0, EPOCH, part.ballot, part.kind());
        said.retain(|(to, message)| *to == 0 && message.kind.is_answer());
        assert!(said.len() < 2, "one answer");
        let (_, message) = said.pop()?;
        assert_eq!((message.epoch, message.ballot), (EPOCH, part.ballot), "the answer names the leader's attempt");
        Some(message.kind)
    }
}

/// Member 0, elected under `LATER` by itself and member 1.
pub fn leader(settings: Settings, of: &[(&str, u64)]) -> Node {
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
pub fn in_parts() -> Settings {
    Settings { chunk_bytes_max: 1, ..still_settings() }
}

impl Node {
    pub fn wait(&mut self, ms: u64) -> Vec<Said> {
        said(&self.act(Act::Wait(Nanos::from_millis(ms), ms, true)))
    }

    /// Member 2 goes (or comes back): the ring proposes another configuration.
    pub fn gossip(&mut self, state: MemberState, revision: u64) -> Vec<Said> {
        let rumors = vec![Member { node: identity(2, 0), revision, state }];
        let request = RingRequest::Gossip { from: identity(4, 0), view_hash: 0, rumors, map_hash: 0 };
        said(&self.act(Act::Take(Box::new(Input::Ring { token: Token(0), request }), true)))
    }

    pub fn put(&mut self, text: &str, number: u64) -> Arc<Done> {
        let op = Retryable { id: OpId { client: 7, number }, retry: false, age: Nanos(0) };
        let value = Bytes::from_static(b"v");
        self.client(number, Operation::Put { key: key(text), value, ttl_ms: None, op })
    }

    pub fn client(&mut self, token: u64, operation: Operation) -> Arc<Done> {
        let deadline = self.0.now.mono + Nanos::from_millis(30_000);
        self.act(Act::Take(Box::new(Input::Client { token: Token(token), operation, deadline }), true))
    }

    /// A write that member 1 takes, too.
    pub fn write(&mut self, text: &str, number: u64) {
        let version = writes(&said(&self.put(text, number))).pop().expect("it goes to the members").1;
        self.hear(1, EPOCH, LATER, ShardKind::WriteAck { key: key(text), version });
    }

    /// The answer to the last part that was sent.
    pub fn ack(&mut self, from: usize, part: &Part) -> Vec<Said> {
        self.hear(from, EPOCH, LATER, part.taken().expect("an answer"))
    }

    pub fn seal_ack(&mut self, from: usize, digest: u128) -> Vec<Said> {
        self.hear(from, EPOCH, LATER, ShardKind::SealAck { digest })
    }
}

/// Parts of a copy among the messages, with their receivers.
pub fn parts(said: &[Said]) -> Vec<(usize, Part)> {
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
pub fn part(said: &[Said]) -> Part {
    let mut parts = parts(said);
    assert_eq!(parts.len(), 1, "one part: {said:?}");
    parts.remove(0).1
}

/// Who is asked to seal.
pub fn sealing(said: &[Said]) -> Vec<usize> {
    let seal = ShardKind::Seal { next: next() };
    said.iter().filter(|(_, message)| message.kind == seal).map(|(to, _)| *to).collect()
}

/// Who is sent a write, and its version.
pub fn writes(said: &[Said]) -> Vec<(usize, Version)> {
    let write = |(to, message): &Said| match &message.kind {
        ShardKind::Write { record, .. } => Some((*to, record.version)),
        _ => None,
    };
    said.iter().filter_map(write).collect()
}

/// Who is asked for records: behind which key, in which round.
pub fn fetches(said: &[Said]) -> Vec<(usize, Bytes, u64)> {
    let fetch = |(to, message): &Said| match &message.kind {
        ShardKind::TransferRequest { after, round } => Some((*to, after.clone(), *round)),
        _ => None,
    };
    said.iter().filter_map(fetch).collect()
}

pub fn told(said: &[Said], kind: &ShardKind) -> Vec<usize> {
    said.iter().filter(|(_, message)| message.kind == *kind).map(|(to, _)| *to).collect()
}

/// The next configuration lives.
pub fn update() -> ShardKind {
    ShardKind::MapUpdate { entries: vec![MapEntry { shard: SHARD, config: next(), leader: None }] }
}

/// Asks where the shard is.
pub fn ask() -> ShardKind {
    ShardKind::MapRequest { shards: vec![SHARD] }
}
