//! One real core that is a member of a shard, and a test that plays everybody else.
use crate::common::kept;
use bytes::Bytes;
use chord::{
    id::Id,
    io::{AdminAction, AdminRequest, Input, Operation, Outcome, Retryable, Token},
    member::{Disk, Member, MemberKey, MemberState, NodeRef},
    msg::{ShardKind, ShardMsg},
    settings::Settings,
    shard::{
        config::{Ballot, Config, ReplicaMeta, ShardId},
        record::{OpId, Record, Version},
    },
    store::{Change, Store as _},
    time::Nanos,
};
use sim::{
    disk::{Data, Plain},
    model::host::{Act, Acts, Host, identity, still_settings},
};
use std::sync::Arc;

pub const SHARD: ShardId = ShardId(0);
pub const EPOCH: u64 = 5;
/// The first attempt of member 0, and a later one of member 2.
pub const LEADS: Ballot = Ballot(1 << 4);
pub const RIVAL: Ballot = Ballot((2 << 4) | 2);

/// What came of one act: messages to members, and what clients were told.
#[derive(Default)]
pub struct Done {
    pub sent: Vec<(usize, ShardKind)>,
    pub told: Vec<(u64, Outcome)>,
    /// Members that were told who leads.
    pub informed: Vec<usize>,
}

impl Done {
    /// To whom a kind of message went.
    pub fn to(&self, which: impl Fn(&ShardKind) -> bool) -> Vec<usize> {
        self.sent.iter().filter(|(_, kind)| which(kind)).map(|(to, _)| *to).collect()
    }

    pub fn prepares(&self) -> Vec<usize> {
        self.to(|kind| *kind == ShardKind::Prepare)
    }

    pub fn asked_for_digests(&self) -> Vec<usize> {
        self.to(|kind| matches!(kind, ShardKind::DigestRequest { .. }))
    }

    /// Members that are sent a write of a key, and the record, which is the same for all.
    pub fn write(&self, text: &str) -> (Vec<usize>, Option<Record>) {
        let mut records = self.sent.iter().filter_map(|(_, kind)| match kind {
            ShardKind::Write { key, record } if key == text => Some(record),
            _ => None,
        });
        let record = records.next().cloned();
        assert!(records.all(|other| Some(other) == record.as_ref()), "all are sent the same");
        (self.to(|kind| matches!(kind, ShardKind::Write { key, .. } if key == text)), record)
    }

    /// The number of the round of confirmation that begins, or is asked for again.
    pub fn confirms(&self) -> Option<u64> {
        self.sent.iter().find_map(|(_, kind)| match kind {
            ShardKind::Confirm { number } => Some(*number),
            _ => None,
        })
    }

    pub fn is_nothing(&self) -> bool {
        self.sent.is_empty() && self.told.is_empty()
    }
}

/// The core. Its ballot is the one under which it leads, once it does.
pub struct Core {
    pub host: Arc<Host>,
    pub ballot: Ballot,
}

/// What its disk holds at the start.
pub struct Start {
    pub me: usize,
    pub members: usize,
    /// Members of the ring that the configuration should have, too.
    pub newcomers: usize,
    /// Further members of the ring, that have no part in the shard. From 100 on.
    pub onlookers: usize,
    pub installed: bool,
    pub promised: Ballot,
    pub settings: Settings,
    pub records: Vec<(&'static str, Record)>,
}

impl Default for Start {
    fn default() -> Start {
        let (installed, promised) = (true, Ballot::ZERO);
        let (members, newcomers, onlookers) = (3, 0, 0);
        let (settings, records) = (still_settings(), Vec::new());
        Start { me: 0, members, newcomers, onlookers, installed, promised, settings, records }
    }
}

impl Start {
    pub fn start(self) -> Core {
        let ring = self.members + self.newcomers;
        let mut disk = Data::default();
        let shard = disk.shards.entry(SHARD).or_default();
        shard.meta = Some(ReplicaMeta {
            config: config(EPOCH, self.members),
            previous: Vec::new(),
            installed: self.installed,
            promised: self.promised,
            seal: None,
            word: None,
        });
        let mut node = kept(self.me, MemberState::Serving, ring, ring);
        node.members.extend((100..100 + self.onlookers).map(onlooker));
        disk.node = Some(node);
        let put = |(text, record)| Change::Put { shard: SHARD, key: key(text), record };
        let mut store = Plain::over(disk);
        store.write(self.records.into_iter().map(put).collect());
        let host = Host::start(identity(self.me, 0), store.data, Host::first_now(), self.settings);
        Core { host: Arc::new(host), ballot: LEADS }
    }

    /// Member 0, that a majority elects.
    pub fn lead(self) -> Core {
        let mut core = self.start();
        core.wait(200);
        let digest = core.digest();
        core.elect(digest);
        core
    }

    /// Member 0, elected by a majority that does not hold what it holds.
    pub fn lead_unclean(self) -> (Core, Done) {
        let mut core = self.start();
        core.wait(200);
        let digest = core.digest() ^ 1;
        let done = core.elect(digest);
        (core, done)
    }
}

impl Core {
    fn act(&mut self, act: Act) -> Done {
        let done = Acts::default().act(&self.host, act);
        self.host = done.host.clone();
        let index = |to: &MemberKey| (to.disk.0 & 255) as usize;
        let of_the_map = |kind: &ShardKind| matches!(kind, ShardKind::MapUpdate { .. } | ShardKind::MapRequest { .. });
        let letters = done.letters.iter().map(|(to, letter)| (index(to), letter.message.kind.clone()));
        let (of_map, sent): (Vec<_>, Vec<_>) = letters.partition(|(_, kind)| of_the_map(kind));
        Done {
            sent,
            informed: of_map
                .iter()
                .filter(|(_, kind)| matches!(kind, ShardKind::MapUpdate { .. }))
                .map(|(to, _)| *to)
                .collect(),
            told: done.answers.iter().map(|(token, outcome)| (token.0, outcome.clone())).collect(),
        }
    }

    pub fn hear_under(&mut self, from: usize, epoch: u64, ballot: Ballot, kind: ShardKind) -> Done {
        let message = ShardMsg { shard: SHARD, epoch, ballot, kind };
        let input = Input::Shard { from: identity(from, 0).key, messages: vec![message] };
        self.act(Act::Take(Box::new(input), true))
    }

    /// A member's answer to the attempt under way.
    pub fn hear(&mut self, from: usize, kind: ShardKind) -> Done {
        self.hear_under(from, EPOCH, self.ballot, kind)
    }

    /// Time passes, and its timers fire once.
    pub fn wait(&mut self, ms: u64) -> Done {
        self.act(Act::Wait(Nanos::from_millis(ms), ms, true))
    }

    /// Time passes in steps until something is sent that is waited for. Says how long that took.
    pub fn until(&mut self, most_ms: u64, is_it: impl Fn(&Done) -> bool) -> Option<(u64, Done)> {
        const STEP_MS: u64 = 100;
        (1..=most_ms / STEP_MS).find_map(|step| {
            let done = self.wait(STEP_MS);
            is_it(&done).then_some((step * STEP_MS, done))
        })
    }

    /// A client's operation, for which it waits so long.
    pub fn ask_for(&mut self, token: u64, operation: Operation, ms: u64) -> Done {
        let deadline = self.host.now.mono + Nanos::from_millis(ms);
        self.act(Act::Take(Box::new(Input::Client { token: Token(token), operation, deadline }), true))
    }

    pub fn ask(&mut self, token: u64, operation: Operation) -> Done {
        self.ask_for(token, operation, 1_000_000)
    }

    pub fn down(&mut self, peer: usize) -> Done {
        self.act(Act::Take(Box::new(Input::PeerDown { peer: identity(peer, 0).key, refused: true }), true))
    }

    /// It is about to restart, and takes no leadership for so long.
    pub fn rest(&mut self, ms: u64) -> Done {
        let action = AdminAction::PrepareRestart { ttl: Nanos::from_millis(ms) };
        let request = AdminRequest { operator_epoch: None, disk: None, action };
        self.act(Act::Take(Box::new(Input::Admin { token: Token(0), request }), true))
    }

    /// As many members promise as it takes, each with a copy of this digest.
    fn elect(&mut self, digest: u128) -> Done {
        let majority = self.host.config.as_ref().expect("it has a part in the shard").majority();
        (1..majority).map(|from| self.hear(from, ShardKind::Promise { seal: None, digest })).last().expect("others")
    }

    /// Digest of what it holds.
    pub fn digest(&self) -> u128 {
        self.host.core.store().digest(SHARD).root()
    }

    /// What a member says that holds the same.
    pub fn same(&self) -> ShardKind {
        let sums = Some(Box::new(self.host.core.store().digest(SHARD).sums));
        ShardKind::Digest { sums, keys: Vec::new(), buckets: Vec::new() }
    }

    pub fn repaired(&self) -> u64 {
        self.host.core.status().counters.repaired
    }
}

pub fn config(epoch: u64, members: usize) -> Config {
    Config { epoch, members: (0..members).map(|member| identity(member, 0).key).collect() }
}

fn onlooker(index: usize) -> Member {
    let key = MemberKey { id: Id::from_bytes([index as u8; 20]), disk: Disk(index as u128) };
    Member { node: NodeRef { key, ..identity(0, 0) }, revision: 1, state: MemberState::Serving }
}

pub fn key(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

/// Version of a write of the attempt under which member 0 leads.
pub fn version(seq: u64) -> Version {
    Version { epoch: EPOCH, ballot: LEADS, seq }
}

/// A record of the configuration before.
pub fn old(seq: u64, value: Option<&'static str>) -> Record {
    let version = Version { epoch: EPOCH - 1, ballot: LEADS, seq };
    let value = value.map(|text| Bytes::from_static(text.as_bytes()));
    Record { version, revision: version, value, expires_at_ms: None, recent: Vec::new(), forgotten: None }
}

pub fn op(number: u64) -> Retryable {
    Retryable { id: OpId { client: 1, number }, retry: false, age: Nanos(0) }
}

pub fn get(text: &str) -> Operation {
    Operation::Get { key: key(text), stale_ok: false }
}

pub fn put(text: &str, value: &'static str, number: u64) -> Operation {
    Operation::Put { key: key(text), value: Bytes::from_static(value.as_bytes()), ttl_ms: None, op: op(number) }
}

pub fn delete(text: &str, number: u64) -> Operation {
    Operation::Delete { key: key(text), op: op(number) }
}

pub fn scan(limit: usize) -> Operation {
    Operation::Scan { shard: SHARD, after: None, limit }
}

pub fn ack(text: &str, version: Version) -> ShardKind {
    ShardKind::WriteAck { key: key(text), version }
}

pub fn confirmed(number: u64) -> ShardKind {
    ShardKind::ConfirmAck { number }
}

pub fn state(text: &str, record: Option<Record>) -> ShardKind {
    ShardKind::KeyState { key: key(text), record }
}

pub fn value(record: &Record) -> Outcome {
    Outcome::Value(record.value.clone().map(|value| (value, record.revision, None)))
}

pub fn nack(promised: Ballot, config: Option<Config>) -> ShardKind {
    ShardKind::Nack { promised, config, sealed: false, lost: false }
}

/// "Ask there."
pub fn elsewhere(outcome: &Outcome, member: usize) -> bool {
    matches!(outcome, Outcome::NotLeader(Some(node)) if node.key == identity(member, 0).key)
}
