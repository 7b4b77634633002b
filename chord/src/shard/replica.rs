//! A node's part in one shard: what it promised, accepted and sealed (ring.md 3.2).
//!
//! Everything here is one replica's word to a leader. Each answer that reveals what was written
//! waits until it is durable; `Env::send_durable` sees to that.
use crate::{
    io::Token,
    member::MemberKey,
    msg::{MapEntry, ShardKind, ShardMsg},
    rules::Rule,
    shard::{
        config::{Ballot, Config, ReplicaMeta, Seal, ShardId},
        digest,
        env::{Env, message},
        leader::Leader,
        moves::{Ack, Closing, Incoming},
        ops::KeyOp,
        record::{Record, Version},
    },
    store::{Change, Store},
    time::Nanos,
};
use bytes::Bytes;
use std::collections::VecDeque;

/// A client's operation (or, without a token, the node's own) that waits for its turn.
#[derive(Clone, Hash, Debug)]
pub(crate) struct Pending {
    pub token: Option<Token>,
    pub key: Bytes,
    pub op: KeyOp,
    pub deadline: Nanos,
}

/// A page of the shard that somebody waits for.
#[derive(Clone, Hash, Debug)]
pub(crate) struct PendingScan {
    pub token: Token,
    pub after: Option<Bytes>,
    pub limit: usize,
    pub deadline: Nanos,
}

/// One shard on one node.
#[derive(Clone, Hash)]
pub(crate) struct Replica {
    pub shard: ShardId,
    /// Durable.
    pub meta: ReplicaMeta,
    /// This node leads, or tries to.
    pub leader: Option<Leader>,
    /// This node sealed the configuration before and is bringing the next one into being.
    pub closing: Option<Closing>,
    /// Parts of a snapshot that are on their way here.
    pub incoming: Option<Incoming>,
    /// Operations that wait for a leader to be ready here.
    pub pending: VecDeque<Pending>,
    pub pending_scans: VecDeque<PendingScan>,
    /// Highest ballot heard of under this configuration.
    pub seen: Ballot,
    /// No election before then.
    pub elect_at: Nanos,
    /// When a newer configuration was first heard of that is not installed here.
    pub outdated_since: Option<Nanos>,
    pub polled_at: Nanos,
    /// Since when nobody that this node knows of leads.
    pub leaderless_since: Option<Nanos>,
    /// The entry in the node's timers.
    pub wake_at: Option<Nanos>,
}

impl Replica {
    pub fn new(shard: ShardId, meta: ReplicaMeta) -> Replica {
        Replica {
            shard,
            seen: meta.promised,
            meta,
            leader: None,
            closing: None,
            incoming: None,
            pending: VecDeque::new(),
            pending_scans: VecDeque::new(),
            elect_at: Nanos(0),
            outdated_since: None,
            polled_at: Nanos(0),
            leaderless_since: None,
            wake_at: None,
        }
    }

    /// A replica of nothing, that may be sent a snapshot.
    pub fn empty(shard: ShardId) -> Replica {
        let config = Config { epoch: 0, members: Vec::new() };
        let meta = ReplicaMeta {
            config,
            previous: Vec::new(),
            installed: false,
            promised: Ballot::ZERO,
            seal: None,
            word: None,
        };
        Replica::new(shard, meta)
    }

    pub fn epoch(&self) -> u64 {
        self.meta.config.epoch
    }

    /// Whether this node is a member of the configuration and lost its copy: the disk did not keep what was written.
    /// It gives no word under this configuration any more; only a later one, with a whole copy, lets it in again.
    pub fn is_lost(&self, me: &MemberKey) -> bool {
        !self.meta.installed && self.meta.config.index_of(me).is_some()
    }

    /// Looks at the shard again at `at` at the latest.
    pub fn wake<S: Store>(&mut self, at: Nanos, env: &mut Env<S>) {
        if self.wake_at.is_none_or(|planned| at < planned) {
            if let Some(planned) = self.wake_at.replace(at) {
                env.shared.timers.remove(&(planned, self.shard));
            }
            env.shared.timers.insert((at, self.shard));
        }
    }

    pub fn save<S: Store>(&self, env: &mut Env<S>) {
        env.write(vec![Change::Meta(self.shard, self.meta.clone())]);
    }

    /// Handles a message of another node, or of this one's own leader.
    pub fn on_message<S: Store>(&mut self, from: MemberKey, msg: ShardMsg, env: &mut Env<S>) {
        let (epoch, ballot) = (msg.epoch, msg.ballot);
        match msg.kind {
            ShardKind::Prepare
            | ShardKind::ReadKey { .. }
            | ShardKind::Write { .. }
            | ShardKind::Confirm { .. }
            | ShardKind::Seal { .. }
            | ShardKind::TransferRequest { .. }
            | ShardKind::DigestRequest { .. }
            | ShardKind::Stable { .. } => {
                let answer = self.accept(from, epoch, ballot, msg.kind, env);
                if let Some(kind) = answer {
                    env.send_durable(&from, message(self.shard, epoch, ballot, kind));
                }
            }
            ShardKind::Install { next, attempt, records, part, last, digest, pre_copy, full } => {
                let install = crate::shard::moves::Part { next, attempt, records, part, last, digest, pre_copy, full };
                self.on_install(from, epoch, ballot, install, env);
            }
            ShardKind::InstallAck { attempt, part, last, pre_copy, mismatch } => {
                let ack = Ack { attempt, part, last, pre_copy, mismatch };
                self.on_install_ack(from, epoch, ballot, ack, env);
            }
            ShardKind::Retire { next } => {
                self.release(epoch, ballot, env);
                self.on_retire(next, env);
            }
            ShardKind::Handover => self.on_handover(epoch, env),
            ShardKind::MapRequest { .. } => self.on_map_request(from, env),
            ShardKind::MapUpdate { .. } => {}
            answer @ (ShardKind::Promise { .. }
            | ShardKind::KeyState { .. }
            | ShardKind::WriteAck { .. }
            | ShardKind::ConfirmAck { .. }
            | ShardKind::SealAck { .. }
            | ShardKind::TransferChunk { .. }
            | ShardKind::Digest { .. }
            | ShardKind::Nack { .. }) => self.on_answer(from, epoch, ballot, answer, env),
        }
    }

    /// The replica's answer to a leader's request, if it deserves one.
    fn accept<S: Store>(
        &mut self,
        from: MemberKey,
        epoch: u64,
        ballot: Ballot,
        kind: ShardKind,
        env: &mut Env<S>,
    ) -> Option<ShardKind> {
        if self.epoch() > epoch && env.holds(Rule::EpochBinds) {
            let config = Some(self.meta.config.clone());
            return Some(ShardKind::Nack { promised: Ballot::ZERO, config, sealed: false, lost: false });
        }
        if self.epoch() < epoch || !self.meta.installed {
            // Only requests that open a ballot ask for a snapshot; the rest would ask once per write.
            let lost = self.epoch() == epoch && self.is_lost(&env.me);
            return Some(ShardKind::Nack { promised: Ballot::ZERO, config: None, sealed: false, lost });
        }
        let sealed = self.meta.seal.is_some();
        let refusal = ShardKind::Nack { promised: self.meta.promised, config: None, sealed, lost: false };
        let sealed_against = self.meta.seal.as_ref().is_some_and(|seal| seal.ballot >= ballot);
        // A leader may lead only under its own place in the configuration.
        if self.meta.config.members.get(ballot.index()) != Some(&from) {
            return None;
        }
        if ballot < self.meta.promised && env.holds(Rule::PromiseBinds) {
            return Some(ShardKind::Nack { promised: self.meta.promised, config: None, sealed: false, lost: false });
        }
        if let Some(known) = env.shared.map.get_mut(&self.shard).filter(|known| known.config.epoch == epoch) {
            known.leader = Some(ballot.index() as u32);
        }
        match kind {
            ShardKind::Prepare => {
                self.promise(ballot, env);
                let digest = env.store.digest(self.shard).root();
                Some(ShardKind::Promise { seal: self.meta.seal.clone(), digest })
            }
            ShardKind::ReadKey { key } if ballot == self.meta.promised => {
                let record = env.store.get(self.shard, &key);
                Some(ShardKind::KeyState { key, record })
            }
            ShardKind::Write { key, record } if !sealed_against => {
                self.store_record(ballot, key.clone(), &record, env);
                Some(ShardKind::WriteAck { key, version: record.version })
            }
            ShardKind::Confirm { number } if ballot == self.meta.promised && !sealed_against => {
                if self.meta.seal.take().is_some() {
                    // As with a write: whoever leads above this seal has seen that it was never decided.
                    self.save(env);
                }
                Some(ShardKind::ConfirmAck { number })
            }
            ShardKind::Seal { next } if next.epoch == epoch + 1 => {
                self.seen = self.seen.max(ballot);
                self.meta.promised = ballot;
                self.meta.seal = Some(Seal { ballot, next });
                self.save(env);
                self.depose_below(ballot, env);
                Some(ShardKind::SealAck { digest: env.store.digest(self.shard).root() })
            }
            ShardKind::TransferRequest { after, round }
                if ballot == self.meta.promised
                    && self.meta.seal.as_ref().is_some_and(|seal| seal.ballot == ballot) =>
            {
                let after = (!after.is_empty()).then_some(&after[..]);
                let records = env.store.scan(self.shard, after, usize::MAX, env.settings.chunk_bytes_max);
                let last = records
                    .last()
                    .is_none_or(|(key, _)| env.store.scan(self.shard, Some(key), 1, usize::MAX).is_empty());
                Some(ShardKind::TransferChunk { records, round, last })
            }
            ShardKind::DigestRequest { buckets } if ballot == self.meta.promised => Some(if buckets.is_empty() {
                let sums = Some(Box::new(env.store.digest(self.shard).sums));
                ShardKind::Digest { sums, keys: Vec::new(), buckets }
            } else {
                let keys = versions_in(env.store, self.shard, &buckets);
                ShardKind::Digest { sums: None, keys, buckets }
            }),
            ShardKind::Stable { keys } if ballot == self.meta.promised && !sealed_against => {
                self.drop_tombstones(keys, env);
                None
            }
            // A stale or premature request: the refusal tells the leader where this replica stands.
            _ => Some(refusal),
        }
    }

    fn promise<S: Store>(&mut self, ballot: Ballot, env: &mut Env<S>) {
        self.seen = self.seen.max(ballot);
        if ballot > self.meta.promised {
            self.meta.promised = ballot;
            self.save(env);
            self.depose_below(ballot, env);
        }
    }

    fn store_record<S: Store>(&mut self, ballot: Ballot, key: Bytes, record: &Record, env: &mut Env<S>) {
        let mut changes = Vec::new();
        self.seen = self.seen.max(ballot);
        if ballot > self.meta.promised || self.meta.seal.is_some() {
            // A higher ballot that writes did not see this seal on a majority: it was never decided.
            self.meta.promised = ballot;
            self.meta.seal = None;
            changes.push(Change::Meta(self.shard, self.meta.clone()));
            self.depose_below(ballot, env);
        }
        let older = env.store.get(self.shard, &key).is_none_or(|mine| mine.version < record.version);
        if older {
            changes.push(Change::Put { shard: self.shard, key, record: record.clone() });
        }
        if !changes.is_empty() {
            env.write(changes);
        }
    }

    fn drop_tombstones<S: Store>(&mut self, keys: Vec<(Bytes, Version)>, env: &mut Env<S>) {
        let drops: Vec<Change> = keys
            .into_iter()
            .filter(|(key, version)| {
                let record = env.store.get(self.shard, key);
                record.is_some_and(|record| !record.is_live() && record.version == *version)
            })
            .map(|(key, _)| Change::Drop { shard: self.shard, key })
            .collect();
        if !drops.is_empty() {
            env.write(drops);
        }
    }

    /// All members of a newer configuration have installed it: what is kept here is not needed any more.
    fn on_retire<S: Store>(&mut self, next: Config, env: &mut Env<S>) {
        if next.epoch <= self.epoch() || next.index_of(&env.me).is_some() {
            return;
        }
        self.step_down(env);
        self.closing = None;
        env.shared.moving.remove(&self.shard);
        // A copy taken for a later configuration is gone, but not the word that went with it.
        self.incoming = None;
        let word = self.word_beyond(next.epoch);
        self.outdated_since = None;
        env.shared.learn(MapEntry { shard: self.shard, config: next.clone(), leader: None });
        let previous = std::mem::take(&mut self.meta.config.members);
        self.meta = ReplicaMeta { config: next, previous, installed: false, promised: Ballot::ZERO, seal: None, word };
        self.seen = Ballot::ZERO;
        env.write(vec![Change::Clear(self.shard), Change::Meta(self.shard, self.meta.clone())]);
    }
}

/// Keys and versions of some buckets of a shard.
pub(crate) fn versions_in<S: Store>(store: &S, shard: ShardId, buckets: &[u32]) -> Vec<(Bytes, Version)> {
    let mut versions = store.versions(shard);
    versions.retain(|(key, _)| buckets.contains(&(digest::bucket(key) as u32)));
    versions
}
