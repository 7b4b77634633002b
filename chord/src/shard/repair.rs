//! Keeping replicas equal: settling what an earlier leader left open, anti-entropy, tombstones (ring.md 3.6).
//!
//! The leader asks each member for its 32 bucket sums, then for the keys of the buckets that differ.
//! A member that lacks a committed record is sent it again; where a member knows more than the
//! leader (a write that was never acknowledged), the key is written anew, which settles it for good.
use crate::{
    member::MemberKey,
    msg::ShardKind,
    rules::Rule,
    shard::{
        digest::BUCKETS,
        env::{Env, message},
        leader::{Phase, RESEND},
        ops::KeyOp,
        record::Version,
        replica::{Pending, Replica, versions_in},
    },
    store::Store,
    time::Nanos,
};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};

/// Comparison of the replicas of one shard.
#[derive(Clone, Hash)]
pub(crate) struct Compare {
    /// When to compare next.
    pub next_at: Nanos,
    /// Members whose answer is awaited.
    waiting: BTreeSet<MemberKey>,
    /// Members whose sums equal the leader's in this comparison.
    equal: BTreeSet<MemberKey>,
    sent_at: Nanos,
    /// What a new leader has to settle before all keys count as settled.
    resolving: Option<Resolving>,
    /// Tombstones seen by an earlier comparison, and when first.
    tombstones: BTreeMap<Bytes, (Version, Nanos)>,
}

/// A new leader compares itself with a majority: keys that differ there are settled one by one.
#[derive(Clone, Hash)]
struct Resolving {
    open: BTreeSet<Bytes>,
    heard: BTreeSet<MemberKey>,
}

impl Compare {
    pub fn new(next_at: Nanos) -> Compare {
        Compare {
            next_at,
            waiting: BTreeSet::new(),
            equal: BTreeSet::new(),
            sent_at: Nanos(0),
            resolving: None,
            tombstones: BTreeMap::new(),
        }
    }

    pub fn is_active(&self) -> bool {
        !self.waiting.is_empty()
    }
}

impl Replica {
    /// A new leader's majority does not agree: finds out where, and settles those keys.
    pub fn start_resolving<S: Store>(&mut self, env: &mut Env<S>) {
        let others: Vec<MemberKey> =
            self.meta.config.members.iter().copied().filter(|member| *member != env.me).collect();
        if let Some(lead) = self.lead() {
            lead.compare.resolving = Some(Resolving { open: BTreeSet::new(), heard: BTreeSet::new() });
        }
        self.ask(others, env);
    }

    /// Compares with all members that are up.
    pub fn start_compare<S: Store>(&mut self, env: &mut Env<S>) {
        let now = env.now.mono;
        let next_at = env.jittered(env.settings.anti_entropy_interval, Nanos(env.settings.anti_entropy_interval.0 / 4));
        let members: Vec<MemberKey> = self.meta.config.members.clone();
        let others: Vec<MemberKey> =
            members.into_iter().filter(|member| *member != env.me && env.is_up(member)).collect();
        let Some(lead) = self.lead() else { return };
        if lead.compare.is_active() || !lead.clean {
            lead.compare.next_at = now + RESEND;
            return;
        }
        lead.compare.next_at = next_at;
        lead.compare.equal.clear();
        if others.is_empty() {
            return self.after_compare(env);
        }
        self.ask(others, env);
    }

    fn ask<S: Store>(&mut self, members: Vec<MemberKey>, env: &mut Env<S>) {
        let Some(leader) = &mut self.leader else { return };
        let Phase::Leading(lead) = &mut leader.phase else { return };
        lead.compare.sent_at = env.now.mono;
        for member in members {
            lead.compare.waiting.insert(member);
            let request = ShardKind::DigestRequest { buckets: Vec::new() };
            env.send(&member, message(self.shard, leader.config.epoch, leader.ballot, request));
        }
    }

    pub fn on_digest<S: Store>(
        &mut self,
        from: MemberKey,
        sums: Option<Box<[u128; BUCKETS]>>,
        keys: Vec<(Bytes, Version)>,
        buckets: Vec<u32>,
        env: &mut Env<S>,
    ) {
        let shard = self.shard;
        let Some(leader) = &mut self.leader else { return };
        let tag = (leader.config.epoch, leader.ballot);
        let Phase::Leading(lead) = &mut leader.phase else { return };
        if !lead.compare.waiting.contains(&from) {
            return;
        }
        if let Some(sums) = sums {
            let own = env.store.digest(shard);
            let differing: Vec<u32> = own
                .sums
                .iter()
                .zip(sums.iter())
                .enumerate()
                .filter(|(_, (a, b))| a != b)
                .map(|(i, _)| i as u32)
                .collect();
            if differing.is_empty() {
                if let Some(resolving) = &mut lead.compare.resolving {
                    resolving.heard.insert(from);
                }
                lead.compare.equal.insert(from);
                lead.compare.waiting.remove(&from);
            } else {
                let request = ShardKind::DigestRequest { buckets: differing };
                return env.send(&from, message(shard, tag.0, tag.1, request));
            }
        } else {
            lead.compare.waiting.remove(&from);
            let own: BTreeMap<Bytes, Version> = versions_in(env.store, shard, &buckets).into_iter().collect();
            let theirs: BTreeMap<Bytes, Version> = keys.into_iter().collect();
            let differing = own.keys().chain(theirs.keys()).collect::<BTreeSet<_>>();
            let differing = differing.into_iter().filter(|key| own.get(*key) != theirs.get(*key));
            let mut mend = Vec::new();
            if let Some(resolving) = &mut lead.compare.resolving {
                resolving.heard.insert(from);
            }
            for key in differing {
                // What is on its way settles itself.
                if lead.flights.contains_key(key) {
                    continue;
                }
                if let Some(resolving) = &mut lead.compare.resolving {
                    resolving.open.insert(key.clone());
                    mend.push((key.clone(), KeyOp::Mend { bump: false }));
                } else if own.get(key) > theirs.get(key) {
                    if let Some(record) = env.store.get(shard, key) {
                        env.shared.counters.repaired += 1;
                        let write = ShardKind::Write { key: key.clone(), record };
                        env.send(&from, message(shard, tag.0, tag.1, write));
                    }
                } else {
                    env.shared.counters.repaired += 1;
                    mend.push((key.clone(), KeyOp::Mend { bump: true }));
                }
            }
            let deadline = env.now.mono + Nanos::from_millis(60_000);
            for (key, op) in mend {
                self.submit(Pending { token: None, key, op, deadline }, env);
            }
        }
        self.finish_resolving(env);
        if self.lead().is_some_and(|lead| !lead.compare.is_active()) {
            self.after_compare(env);
        }
    }

    /// Once all keys that were open are settled, every key is.
    pub fn finish_resolving<S: Store>(&mut self, env: &mut Env<S>) {
        let majority = self.meta.config.majority();
        let Some(lead) = self.lead() else { return };
        let Some(Resolving { open, heard }) = &lead.compare.resolving else { return };
        if heard.len() + 1 < majority || !open.iter().all(|key| lead.touched.contains(key)) {
            return;
        }
        // A key that is being settled right now may not have been among those compared.
        if lead.flights.keys().any(|key| !lead.touched.contains(key)) {
            return;
        }
        lead.compare.resolving = None;
        lead.compare.waiting.clear();
        lead.clean = true;
        lead.touched.clear();
        self.want_move(env);
        self.after_flight(env);
    }

    /// Drops tombstones that every member holds and that are too old for any retry.
    fn after_compare<S: Store>(&mut self, env: &mut Env<S>) {
        let (shard, now) = (self.shard, env.now.mono);
        let Some(leader) = &mut self.leader else { return };
        let (epoch, ballot) = (leader.config.epoch, leader.ballot);
        let Phase::Leading(lead) = &mut leader.phase else { return };
        let quiet = lead.clean && lead.flights.is_empty() && lead.movement.is_none();
        if !quiet
            || (lead.compare.equal.len() + 1 < leader.config.members.len() && env.holds(Rule::TombstoneEverywhere))
            || env.store.digest(shard).tombstones == 0
        {
            return;
        }
        let mut old = Vec::new();
        let mut seen = BTreeMap::new();
        for (key, record) in env.store.scan(shard, None, usize::MAX, usize::MAX) {
            if record.is_live() {
                continue;
            }
            let since = match lead.compare.tombstones.get(&key) {
                Some((version, since)) if *version == record.version => *since,
                _ => now,
            };
            if now.since(since) >= env.settings.tombstone_min_age || !env.holds(Rule::TombstoneAge) {
                old.push((key, record.version));
            } else {
                seen.insert(key, (record.version, since));
            }
        }
        lead.compare.tombstones = seen;
        // Look again when the youngest of them is old enough.
        if !lead.compare.tombstones.is_empty() {
            let again = now + env.settings.tombstone_min_age;
            lead.compare.next_at = lead.compare.next_at.min(again);
        }
        let at = lead.compare.next_at;
        if !old.is_empty() {
            for member in &leader.config.members {
                let stable = ShardKind::Stable { keys: old.clone() };
                env.send(member, message(shard, epoch, ballot, stable));
            }
        }
        self.wake(at, env);
    }

    /// Asks again where a comparison hangs; begins one that is due.
    pub fn retry_compare<S: Store>(&mut self, env: &mut Env<S>) {
        let (now, shard) = (env.now.mono, self.shard);
        let Some(leader) = &mut self.leader else { return };
        let (epoch, ballot) = (leader.config.epoch, leader.ballot);
        let Phase::Leading(lead) = &mut leader.phase else { return };
        if lead.compare.is_active() {
            if now.since(lead.compare.sent_at) >= Nanos(3 * RESEND.0) {
                lead.compare.sent_at = now;
                // A new leader needs a majority's word; a routine comparison does without the silent.
                if lead.compare.resolving.is_none() {
                    lead.compare.waiting.retain(|member| env.is_up(member));
                }
                for member in &lead.compare.waiting {
                    let request = ShardKind::DigestRequest { buckets: Vec::new() };
                    env.send(member, message(shard, epoch, ballot, request));
                }
            }
        } else if now >= lead.compare.next_at {
            self.start_compare(env);
        }
    }
}
