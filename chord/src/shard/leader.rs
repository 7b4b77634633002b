//! Leading a shard: elections, operations on keys, reads confirmed by a majority (ring.md 3.2).
use crate::{
    io::{Outcome, Token},
    member::MemberKey,
    msg::{MapEntry, ShardKind},
    rules::Rule,
    shard::{
        config::{Ballot, Config, Seal, ShardId},
        env::{Env, candidate, majority_is_up, message},
        moves::{Move, Sealing, Shipment},
        ops::{Draft, KeyOp, Verdict, evaluate, with_version},
        record::{Record, Version},
        repair::Compare,
        replica::{Pending, PendingScan, Replica},
    },
    store::Store,
    time::Nanos,
};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Time after which an unanswered message is sent again.
pub(crate) const RESEND: Nanos = Nanos::from_millis(300);
/// Time between looks at a shard where something is under way.
pub(crate) const BUSY_LOOK: Nanos = Nanos::from_millis(100);

/// Bytes of keys and values at which a page of a scan ends.
const PAGE_BYTES_MAX: usize = 4 << 20;

/// Time a shard goes without a leader before its first member steps in; the second waits twice as long, and so on.
const STAND_IN: Nanos = Nanos::from_millis(1000);

/// A node that leads one shard, or tries to.
#[derive(Clone, Hash)]
pub(crate) struct Leader {
    pub config: Config,
    pub ballot: Ballot,
    pub phase: Phase,
    /// Members known to have installed this configuration.
    pub installed: BTreeSet<MemberKey>,
    /// Members known to keep no seal of an earlier attempt.
    pub unsealed: BTreeSet<MemberKey>,
    /// Snapshots on their way to members that have not.
    pub shipments: BTreeMap<MemberKey, Shipment>,
    /// Members that lost their copy.
    pub lost: BTreeSet<MemberKey>,
    pub prepared_at: Nanos,
    /// Moves begun under this ballot; some may have been given up.
    pub moves: u64,
}

#[derive(Clone, Hash)]
pub(crate) enum Phase {
    Preparing { promises: BTreeMap<MemberKey, (Option<Seal>, u128)> },
    Leading(Box<Lead>),
    Sealing(Box<Sealing>),
}

/// A leader with a majority's promises.
#[derive(Clone, Hash)]
pub(crate) struct Lead {
    pub seq: u64,
    /// Last writes as of some moments, oldest first: what was written so long ago that no retry of it can come.
    marks: VecDeque<(Nanos, u64)>,
    /// Every key here is as a majority has it. Until then each key is settled when it is first touched.
    pub clean: bool,
    pub touched: BTreeSet<Bytes>,
    pub flights: BTreeMap<Bytes, Flight>,
    /// Reads that wait for the next round of confirmation.
    reads: Vec<(Token, Outcome)>,
    round: Option<Round>,
    rounds: u64,
    pub scans: VecDeque<PendingScan>,
    pub compare: Compare,
    pub movement: Option<Move>,
}

#[derive(Clone, Hash)]
struct Round {
    number: u64,
    answers: Vec<(Token, Outcome)>,
    acks: BTreeSet<MemberKey>,
    sent_at: Nanos,
}

/// Operations on one key, one at a time.
#[derive(Clone, Hash)]
pub(crate) struct Flight {
    stage: Stage,
    waiting: VecDeque<Pending>,
    sent_at: Nanos,
    /// The committed record, while a write is on its way.
    pub before: Option<Record>,
}

#[derive(Clone, Hash)]
enum Stage {
    Idle,
    Reading(BTreeMap<MemberKey, Option<Record>>),
    Writing(Box<Writing>),
}

/// A write on its way, and what its client will be told.
#[derive(Clone, Hash)]
struct Writing {
    record: Record,
    acks: BTreeSet<MemberKey>,
    answer: Option<(Token, Outcome)>,
}

impl Lead {
    fn new(clean: bool, compare: Compare, now: Nanos) -> Lead {
        Lead {
            seq: 0,
            marks: VecDeque::from([(now, 0)]),
            clean,
            touched: BTreeSet::new(),
            flights: BTreeMap::new(),
            reads: Vec::new(),
            round: None,
            rounds: 0,
            scans: VecDeque::new(),
            compare,
            movement: None,
        }
    }

    /// Last of the own writes that are older than `age`; `None` when not even the earlier leaders' are.
    fn settled(&mut self, now: Nanos, age: Nanos) -> Option<u64> {
        const MARKS: u64 = 8;
        if self.marks.back().is_none_or(|(at, _)| now.since(*at).0 >= age.0 / MARKS) {
            self.marks.push_back((now, self.seq));
        }
        while self.marks.get(1).is_some_and(|(at, _)| now.since(*at) >= age) {
            self.marks.pop_front();
        }
        self.marks.front().filter(|(at, _)| now.since(*at) >= age).map(|(_, seq)| *seq)
    }

    /// Whether anything needs a look soon.
    pub fn is_busy(&self) -> bool {
        !self.flights.is_empty()
            || self.round.is_some()
            || !self.reads.is_empty()
            || !self.scans.is_empty()
            || self.movement.is_some()
            || !self.clean
            || self.compare.is_active()
    }
}

impl Lead {
    /// A page of the committed state. Says that there is more only after an entry, from which to go on. Fails with the
    /// keys whose time to live has ended: those must become tombstones first.
    fn page<S: Store>(&self, shard: ShardId, scan: &PendingScan, env: &Env<S>) -> Result<Outcome, Vec<Bytes>> {
        let (mut page, mut bytes, mut late, mut more) = (Vec::new(), 0, Vec::new(), false);
        let mut after = scan.after.clone();
        'looks: loop {
            let room = scan.limit.saturating_add(1) - page.len();
            let records = env.store.scan(shard, after.as_deref(), room, PAGE_BYTES_MAX);
            let Some((last, _)) = records.last() else { break };
            after = Some(last.clone());
            for (key, record) in records {
                if page.len() == scan.limit || bytes >= PAGE_BYTES_MAX {
                    more = true;
                    break 'looks;
                }
                let committed = match self.flights.get(&key) {
                    Some(Flight { stage: Stage::Writing(_), before, .. }) if env.holds(Rule::ScanCommitted) => {
                        before.clone()
                    }
                    _ => Some(record),
                };
                let Some(record) = committed.filter(|record| env.shows(record)) else { continue };
                if record.has_ended(env.now.wall_ms) {
                    late.push(key);
                } else if let Some(value) = record.value {
                    bytes += key.len() + value.len();
                    page.push((key, value, record.revision));
                }
            }
        }
        if late.is_empty() { Ok(Outcome::Page(page, more)) } else { Err(late) }
    }
}

impl Replica {
    /// Whether this node leads and takes operations.
    pub fn lead(&mut self) -> Option<&mut Lead> {
        match &mut self.leader.as_mut()?.phase {
            Phase::Leading(lead) => Some(lead),
            Phase::Preparing { .. } | Phase::Sealing(_) => None,
        }
    }

    /// Takes, keeps or seeks leadership as liveness demands.
    pub fn consider<S: Store>(&mut self, env: &mut Env<S>) {
        if !self.meta.installed || self.meta.config.index_of(&env.me).is_none() || self.leader.is_some() {
            return;
        }
        // A newer configuration is known: leave it time to reach this node before reviving the old one.
        if self.outdated_since.is_some_and(|since| env.now.mono.since(since) < Nanos::from_millis(3000)) {
            return;
        }
        let Some(first) = candidate(&self.meta.config, env) else {
            // Nothing wakes the shard when a member becomes known.
            return self.wake(env.now.mono + STAND_IN, env);
        };
        if first != env.me && !self.must_stand_in(env) {
            return;
        }
        if env.now.mono < self.elect_at {
            return self.wake(self.elect_at, env);
        }
        self.start_election(env);
    }

    /// Whether nobody leads although somebody before this node should: it may lack the records to.
    fn must_stand_in<S: Store>(&mut self, env: &mut Env<S>) -> bool {
        let promised = self.meta.promised;
        let followed = self.meta.config.members.get(promised.index()).filter(|_| promised != Ballot::ZERO);
        let place = self.meta.config.index_of(&env.me).unwrap_or_default() as u64;
        if env.now.mono < env.shared.resting_until
            || followed.is_some_and(|leader| *leader != env.me && env.is_up(leader))
        {
            self.leaderless_since = None;
            return false;
        }
        let since = *self.leaderless_since.get_or_insert(env.now.mono);
        let patience = Nanos(STAND_IN.0 * (place + 1));
        let waited = env.now.mono.since(since) >= patience;
        if !waited {
            self.wake(since + patience, env);
        }
        waited
    }

    pub fn start_election<S: Store>(&mut self, env: &mut Env<S>) {
        let Some(index) = self.meta.config.index_of(&env.me) else { return };
        let ballot = self.seen.max(self.meta.promised).next_for(index);
        // Its own promise first, and durable: a ballot must never be used twice.
        self.seen = ballot;
        self.leaderless_since = None;
        self.meta.promised = ballot;
        self.save(env);
        self.leader = Some(Leader {
            config: self.meta.config.clone(),
            ballot,
            phase: Phase::Preparing { promises: BTreeMap::new() },
            installed: BTreeSet::new(),
            unsealed: BTreeSet::new(),
            moves: 0,
            shipments: BTreeMap::new(),
            lost: BTreeSet::new(),
            prepared_at: env.now.mono,
        });
        let digest = env.store.digest(self.shard).root();
        let promise = ShardKind::Promise { seal: self.meta.seal.clone(), digest };
        env.send_durable(&env.me.clone(), message(self.shard, self.epoch(), ballot, promise));
        self.send_prepare(env);
        let at = env.jittered(RESEND, BUSY_LOOK);
        self.wake(at, env);
    }

    /// Asks those members that have not been heard of under this ballot.
    fn send_prepare<S: Store>(&mut self, env: &mut Env<S>) {
        let Some(leader) = &mut self.leader else { return };
        leader.prepared_at = env.now.mono;
        for member in &leader.config.members {
            if *member != env.me && !leader.installed.contains(member) && !leader.shipments.contains_key(member) {
                let prepare = message(self.shard, leader.config.epoch, leader.ballot, ShardKind::Prepare);
                env.send_durable(member, prepare);
            }
        }
    }

    /// Gives up leadership where no majority is in reach: who waits here had better ask the others.
    pub fn depose_in_minority<S: Store>(&mut self, env: &mut Env<S>) {
        if self.leader.as_ref().is_some_and(|leader| !majority_is_up(&leader.config, env)) {
            self.step_down(env);
        }
    }

    /// Gives up leadership if `ballot` is above its own.
    pub fn depose_below<S: Store>(&mut self, ballot: Ballot, env: &mut Env<S>) {
        if self.leader.as_ref().is_some_and(|leader| leader.ballot < ballot) {
            self.step_down(env);
        }
    }

    /// Ends leadership: writes on their way have an unknown outcome, the rest has had no effect.
    pub fn step_down<S: Store>(&mut self, env: &mut Env<S>) {
        let Some(leader) = self.leader.take() else { return self.redirect_pending(env) };
        env.shared.moving.remove(&self.shard);
        env.shared.want_move.remove(&self.shard);
        if let Some(known) = env.shared.map.get_mut(&self.shard)
            && known.leader == leader.config.index_of(&env.me).map(|index| index as u32)
        {
            known.leader = None;
        }
        self.elect_at = env.jittered(Nanos::from_millis(50), BUSY_LOOK);
        self.wake(self.elect_at, env);
        if let Phase::Leading(lead) = leader.phase {
            self.park(*lead, env);
        }
        self.redirect_pending(env);
    }

    /// Stops taking operations: what has begun has an unknown outcome, the rest waits.
    pub fn park<S: Store>(&mut self, lead: Lead, env: &mut Env<S>) {
        for flight in lead.flights.into_values() {
            if let Stage::Writing(writing) = flight.stage
                && let Some((token, _)) = writing.answer
            {
                let said = if env.holds(Rule::UnknownIsSaid) { Outcome::Unknown } else { Outcome::Unavailable };
                env.answer(token, said("the shard's leader changed during the write; send it again"));
            }
            self.pending.extend(flight.waiting);
        }
        let unconfirmed = lead.reads.into_iter().chain(lead.round.into_iter().flat_map(|round| round.answers));
        for (token, _) in unconfirmed {
            let outcome = env.redirect(self.shard);
            env.answer(token, outcome);
        }
        self.pending_scans.extend(lead.scans);
    }

    /// Sends everybody who waits to where the shard is led now.
    pub fn redirect_pending<S: Store>(&mut self, env: &mut Env<S>) {
        for token in std::mem::take(&mut self.pending).into_iter().filter_map(|pending| pending.token) {
            let outcome = env.redirect(self.shard);
            env.answer(token, outcome);
        }
        for scan in std::mem::take(&mut self.pending_scans) {
            let outcome = env.redirect(self.shard);
            env.answer(scan.token, outcome);
        }
    }

    /// A majority promised: lead, or finish what an earlier leader sealed.
    pub fn on_promise<S: Store>(&mut self, from: MemberKey, seal: Option<Seal>, digest: u128, env: &mut Env<S>) {
        let Some(leader) = &mut self.leader else { return };
        leader.installed.insert(from);
        leader.shipments.remove(&from);
        if seal.is_none() {
            leader.unsealed.insert(from);
        }
        let Phase::Preparing { promises } = &mut leader.phase else {
            if seal.is_some() {
                // It was not among the majority: any word of this leader lifts the seal.
                let confirm = ShardKind::Confirm { number: 0 };
                env.send(&from, message(self.shard, leader.config.epoch, leader.ballot, confirm));
            }
            return;
        };
        promises.insert(from, (seal, digest));
        if promises.len() < leader.config.majority() || !promises.contains_key(&env.me) {
            return;
        }
        let seals = promises.values().filter_map(|(seal, _)| seal.clone()).filter(|_| env.holds(Rule::SealIsFinished));
        let sealed = if env.holds(Rule::HighestSealWins) {
            seals.max_by_key(|seal| seal.ballot)
        } else {
            seals.min_by_key(|seal| seal.ballot)
        };
        let clean = promises.values().all(|(_, digest)| promises.values().next().is_some_and(|(_, d)| d == digest));
        env.shared.counters.elections += 1;
        if let Some(seal) = sealed {
            leader.moves += 1;
            let attempt = leader.moves;
            return self.start_sealing(seal.next, attempt, None, env);
        }
        let next_compare = env.jittered(Nanos(0), env.settings.anti_entropy_interval);
        let compare = Compare::new(next_compare);
        leader.phase = Phase::Leading(Box::new(Lead::new(clean, compare, env.now.mono)));
        let index = leader.config.index_of(&env.me).map(|index| index as u32);
        let entry = MapEntry { shard: self.shard, config: leader.config.clone(), leader: index };
        env.shared.learn(entry.clone());
        env.announce(entry);
        if !clean {
            self.start_resolving(env);
        }
        self.want_move(env);
        for pending in std::mem::take(&mut self.pending) {
            self.submit(pending, env);
        }
        for scan in std::mem::take(&mut self.pending_scans) {
            self.submit_scan(scan, env);
        }
        self.wake(env.now.mono + Nanos::from_millis(1000), env);
    }

    /// Whether waiting here may help who asks: this node is about to lead, or is not done with leading.
    pub fn may_serve<S: Store>(&self, env: &Env<S>) -> bool {
        self.leader.is_some() || self.is_closing() || candidate(&self.meta.config, env) == Some(env.me)
    }

    /// Puts an operation to work, in line behind others on its key.
    pub fn submit<S: Store>(&mut self, pending: Pending, env: &mut Env<S>) {
        let closed = self.lead().is_none_or(|lead| lead.movement.as_ref().is_some_and(|m| m.closing_since.is_some()));
        if closed {
            if self.may_serve(env) {
                self.pending.push_back(pending);
                self.consider(env);
                self.wake(env.now.mono + BUSY_LOOK, env);
            } else if let Some(token) = pending.token {
                let outcome = env.redirect(self.shard);
                env.answer(token, outcome);
            }
            return;
        }
        let key = pending.key.clone();
        let now = env.now.mono;
        let Some(lead) = self.lead() else { return };
        let flight = lead.flights.entry(key.clone()).or_insert_with(|| Flight {
            stage: Stage::Idle,
            waiting: VecDeque::new(),
            sent_at: now,
            before: None,
        });
        flight.waiting.push_back(pending);
        if matches!(flight.stage, Stage::Idle) {
            self.advance(key, env);
        }
        self.wake(now + BUSY_LOOK, env);
    }

    /// Runs the operations that wait on a key until one needs other members, or none is left.
    fn advance<S: Store>(&mut self, key: Bytes, env: &mut Env<S>) {
        loop {
            let (shard, epoch) = (self.shard, self.epoch());
            let Some(leader) = &mut self.leader else { return };
            let Phase::Leading(lead) = &mut leader.phase else { return };
            let Some(flight) = lead.flights.get_mut(&key) else { return };
            let Some(pending) = flight.waiting.front() else {
                lead.flights.remove(&key);
                return self.after_flight(env);
            };
            let settled = lead.clean || lead.touched.contains(&key) || !env.holds(Rule::ReadMajorityFirst);
            if !settled {
                flight.stage = Stage::Reading(BTreeMap::new());
                flight.sent_at = env.now.mono;
                for member in &leader.config.members {
                    let read = ShardKind::ReadKey { key: key.clone() };
                    env.send(member, message(shard, epoch, leader.ballot, read));
                }
                return;
            }
            let committed = env.store.get(shard, &key).filter(|record| env.shows(record));
            match evaluate(&pending.op, committed.as_ref(), env.now.wall_ms) {
                Verdict::Answer(outcome) if env.holds(Rule::ConfirmReads) => {
                    if let Some(token) = flight.waiting.pop_front().and_then(|pending| pending.token) {
                        lead.reads.push((token, outcome));
                        self.confirm(env);
                    }
                }
                Verdict::Known(outcome) | Verdict::Answer(outcome) => {
                    if let Some(token) = flight.waiting.pop_front().and_then(|pending| pending.token) {
                        env.answer(token, outcome);
                    }
                }
                Verdict::Done => {
                    flight.waiting.pop_front();
                }
                Verdict::Write(draft, outcome) => {
                    let answer = flight.waiting.pop_front().and_then(|pending| Some((pending.token?, outcome)));
                    return self.start_write(key, draft, committed, answer, env);
                }
                Verdict::ExpireFirst(draft) => {
                    env.shared.counters.expired += 1;
                    return self.start_write(key, draft, committed, None, env);
                }
            }
        }
    }

    fn start_write<S: Store>(
        &mut self,
        key: Bytes,
        draft: Draft,
        before: Option<Record>,
        answer: Option<(Token, Outcome)>,
        env: &mut Env<S>,
    ) {
        let Some(leader) = &mut self.leader else { return };
        let Phase::Leading(lead) = &mut leader.phase else { return };
        let ballot = if env.holds(Rule::BallotLeadsVersion) { leader.ballot } else { Ballot::ZERO };
        let version = |seq| Version { epoch: leader.config.epoch, ballot, seq };
        let settled = lead.settled(env.now.mono, env.settings.tombstone_min_age).map(version).unwrap_or_default();
        lead.seq += 1;
        let version = version(lead.seq);
        let mut record = draft.into_record(version, before.as_ref(), settled);
        if !env.holds(Rule::RememberOps) {
            record.recent.clear();
        }
        let answer = answer.map(|(token, outcome)| (token, with_version(outcome, version)));
        self.write_record(key, record, before, answer, env);
    }

    /// Sends a record to all members; it is committed once a majority has it on disk.
    fn write_record<S: Store>(
        &mut self,
        key: Bytes,
        record: Record,
        before: Option<Record>,
        answer: Option<(Token, Outcome)>,
        env: &mut Env<S>,
    ) {
        let Some(leader) = &mut self.leader else { return };
        let Phase::Leading(lead) = &mut leader.phase else { return };
        if let Some(movement) = &mut lead.movement {
            movement.dirty.insert(key.clone());
        }
        if let Some(flight) = lead.flights.get_mut(&key) {
            let acks = BTreeSet::new();
            flight.stage = Stage::Writing(Box::new(Writing { record: record.clone(), acks, answer }));
            flight.sent_at = env.now.mono;
            flight.before = before;
        }
        for member in &leader.config.members {
            let write = ShardKind::Write { key: key.clone(), record: record.clone() };
            env.send(member, message(self.shard, leader.config.epoch, leader.ballot, write));
        }
    }

    /// A replica's answer to this leader.
    pub fn on_answer<S: Store>(
        &mut self,
        from: MemberKey,
        epoch: u64,
        ballot: Ballot,
        answer: ShardKind,
        env: &mut Env<S>,
    ) {
        let mine = self.leader.as_ref().is_some_and(|leader| {
            leader.config.epoch == epoch && leader.ballot == ballot && leader.config.index_of(&from).is_some()
        });
        if !mine {
            return;
        }
        match answer {
            ShardKind::Promise { seal, digest } => self.on_promise(from, seal, digest, env),
            ShardKind::KeyState { key, record } => self.on_key_state(from, key, record, env),
            ShardKind::WriteAck { key, version } => self.on_write_ack(from, key, version, env),
            ShardKind::ConfirmAck { number } => self.on_confirm_ack(from, number, env),
            ShardKind::SealAck { digest } => self.on_seal_ack(from, digest, env),
            ShardKind::TransferChunk { records, round, last } => {
                self.on_transfer_chunk(from, records, round, last, env);
            }
            ShardKind::Digest { sums, keys, buckets } => self.on_digest(from, sums, keys, buckets, env),
            ShardKind::Nack { lost: true, .. } => self.on_loss(from, env),
            ShardKind::Nack { promised, config, .. } => self.on_nack(from, promised, config, env),
            _ => {}
        }
    }

    fn on_key_state<S: Store>(&mut self, from: MemberKey, key: Bytes, record: Option<Record>, env: &mut Env<S>) {
        let Some(leader) = &mut self.leader else { return };
        let majority = leader.config.majority();
        let Phase::Leading(lead) = &mut leader.phase else { return };
        let Some(Flight { stage: Stage::Reading(states), .. }) = lead.flights.get_mut(&key) else { return };
        states.insert(from, record);
        if states.len() < majority || !states.contains_key(&env.me) {
            return;
        }
        let newest = states.values().flatten().max_by_key(|record| record.version).cloned();
        let version_of = |state: &Option<Record>| state.as_ref().map(|record| record.version);
        let agreed = states.values().all(|state| version_of(state) == version_of(&newest));
        match newest {
            Some(mut record) if !agreed && env.holds(Rule::RecommitOnFirstTouch) => {
                // A minority may hold a write that was never acknowledged: settle it for good.
                env.shared.counters.repaired += 1;
                record.version = Version { epoch: leader.config.epoch, ballot: leader.ballot, seq: 0 };
                self.write_record(key, record, None, None, env);
            }
            _ => {
                lead.touched.insert(key.clone());
                self.advance(key, env);
            }
        }
    }

    fn on_write_ack<S: Store>(&mut self, from: MemberKey, key: Bytes, version: Version, env: &mut Env<S>) {
        let Some(leader) = &mut self.leader else { return };
        let majority = if env.holds(Rule::AckMajority) { leader.config.majority() } else { 1 };
        leader.installed.insert(from);
        leader.unsealed.insert(from);
        let Phase::Leading(lead) = &mut leader.phase else { return };
        let Some(flight) = lead.flights.get_mut(&key) else { return };
        let Stage::Writing(writing) = &mut flight.stage else { return };
        let Writing { record, acks, answer } = writing.as_mut();
        if record.version != version {
            return;
        }
        acks.insert(from);
        // The leader's own store serves the reads that follow, so its own copy must be among them.
        if acks.len() < majority || !acks.contains(&env.me) {
            return;
        }
        if let Some((token, outcome)) = answer.take() {
            env.answer(token, outcome);
        }
        flight.stage = Stage::Idle;
        flight.before = None;
        if !lead.clean {
            lead.touched.insert(key.clone());
        }
        self.advance(key, env);
    }

    /// Starts a round of confirmation unless one is on its way.
    fn confirm<S: Store>(&mut self, env: &mut Env<S>) {
        let Some(leader) = &mut self.leader else { return };
        let Phase::Leading(lead) = &mut leader.phase else { return };
        if lead.round.is_some() || lead.reads.is_empty() {
            return;
        }
        if self.meta.promised != leader.ballot || self.meta.seal.is_some() || self.meta.config != leader.config {
            return self.step_down(env);
        }
        lead.rounds += 1;
        let number = lead.rounds;
        let answers = std::mem::take(&mut lead.reads);
        lead.round = Some(Round { number, answers, acks: BTreeSet::from([env.me]), sent_at: env.now.mono });
        if leader.config.majority() > 1 {
            let me = env.me;
            for member in leader.config.members.iter().filter(|member| **member != me) {
                let confirm = ShardKind::Confirm { number };
                env.send(member, message(self.shard, leader.config.epoch, leader.ballot, confirm));
            }
        } else {
            self.on_confirm_ack(env.me, number, env);
        }
    }

    fn on_confirm_ack<S: Store>(&mut self, from: MemberKey, number: u64, env: &mut Env<S>) {
        let Some(leader) = &mut self.leader else { return };
        let majority = leader.config.majority();
        leader.unsealed.insert(from);
        let Phase::Leading(lead) = &mut leader.phase else { return };
        let Some(round) = lead.round.as_mut().filter(|round| round.number == number) else { return };
        round.acks.insert(from);
        if round.acks.len() >= majority {
            let answers = lead.round.take().map(|round| round.answers).unwrap_or_default();
            for (token, outcome) in answers {
                env.answer(token, outcome);
            }
            self.confirm(env);
            self.after_flight(env);
        }
    }

    fn on_nack<S: Store>(&mut self, from: MemberKey, promised: Ballot, config: Option<Config>, env: &mut Env<S>) {
        let Some(leader) = &mut self.leader else { return };
        match config {
            Some(config) => {
                // The shard has moved on without this node.
                let newer = env.shared.learn(MapEntry { shard: self.shard, config, leader: None });
                if newer {
                    self.outdated_since.get_or_insert(env.now.mono);
                }
                self.step_down(env);
                self.wake(env.now.mono, env);
            }
            None if promised > leader.ballot => {
                self.seen = self.seen.max(promised);
                self.step_down(env);
            }
            None if promised == Ballot::ZERO && !matches!(leader.phase, Phase::Sealing(_)) => {
                self.ship_to_newcomer(from, env);
            }
            None => {}
        }
    }

    /// A member lost its copy: the shard has to go on to a new configuration, which brings it a whole one.
    fn on_loss<S: Store>(&mut self, from: MemberKey, env: &mut Env<S>) {
        let Some(leader) = &mut self.leader else { return };
        leader.installed.remove(&from);
        leader.lost.insert(from);
        self.want_move(env);
    }

    /// What may go on now that a flight or a round has ended: scans, a move that waits for quiet.
    pub fn after_flight<S: Store>(&mut self, env: &mut Env<S>) {
        self.serve_scans(env);
        self.seal_when_quiet(env);
        self.finish_resolving(env);
    }

    pub fn submit_scan<S: Store>(&mut self, scan: PendingScan, env: &mut Env<S>) {
        if let Some(lead) = self.lead() {
            lead.scans.push_back(scan);
            self.serve_scans(env);
            self.wake(env.now.mono + BUSY_LOOK, env);
        } else if self.may_serve(env) {
            self.pending_scans.push_back(scan);
            self.consider(env);
            self.wake(env.now.mono + BUSY_LOOK, env);
        } else {
            let outcome = env.redirect(self.shard);
            env.answer(scan.token, outcome);
        }
    }

    /// Serves pages: a page is the committed state at one moment, confirmed like any read.
    fn serve_scans<S: Store>(&mut self, env: &mut Env<S>) {
        let shard = self.shard;
        let Some(lead) = self.lead() else { return };
        if !lead.clean || lead.scans.is_empty() {
            return;
        }
        let mut expired: Vec<Bytes> = Vec::new();
        for scan in std::mem::take(&mut lead.scans) {
            match lead.page(shard, &scan, env) {
                Ok(page) => lead.reads.push((scan.token, page)),
                Err(late) => {
                    expired.extend(late);
                    lead.scans.push_back(scan);
                }
            }
        }
        let idle: Vec<Bytes> = expired.into_iter().filter(|key| !lead.flights.contains_key(key)).collect();
        for key in idle {
            let deadline = env.now.mono + Nanos::from_millis(5000);
            self.submit(Pending { token: None, key, op: KeyOp::Expire, deadline }, env);
        }
        self.confirm(env);
    }

    /// Sends again what has waited too long, and drops what nobody waits for.
    pub fn retry<S: Store>(&mut self, env: &mut Env<S>) {
        let now = env.now.mono;
        self.drop_late(env);
        let shard = self.shard;
        let Some(leader) = &mut self.leader else { return };
        let (epoch, ballot) = (leader.config.epoch, leader.ballot);
        let members = leader.config.members.clone();
        let missing = members.iter().any(|member| !leader.installed.contains(member) && env.is_up(member));
        let pause = if matches!(leader.phase, Phase::Preparing { .. }) { RESEND } else { Nanos::from_millis(1000) };
        if missing && now.since(leader.prepared_at) >= pause {
            self.send_prepare(env);
        }
        let Some(lead) = self.lead() else { return };
        for (key, flight) in &mut lead.flights {
            if now.since(flight.sent_at) < RESEND {
                continue;
            }
            flight.sent_at = now;
            let (kind, done): (ShardKind, Vec<MemberKey>) = match &flight.stage {
                Stage::Idle => continue,
                Stage::Reading(states) => (ShardKind::ReadKey { key: key.clone() }, states.keys().copied().collect()),
                Stage::Writing(writing) => {
                    let Writing { record, acks, .. } = writing.as_ref();
                    let write = ShardKind::Write { key: key.clone(), record: record.clone() };
                    (write, acks.iter().copied().collect())
                }
            };
            for member in members.iter().filter(|member| !done.contains(member)) {
                env.send(member, message(shard, epoch, ballot, kind.clone()));
            }
        }
        if let Some(round) = &mut lead.round
            && now.since(round.sent_at) >= RESEND
        {
            round.sent_at = now;
            for member in members.iter().filter(|member| !round.acks.contains(member)) {
                let confirm = ShardKind::Confirm { number: round.number };
                env.send(member, message(shard, epoch, ballot, confirm));
            }
        }
    }

    /// Answers those whose deadline has passed; what has not begun has had no effect.
    fn drop_late<S: Store>(&mut self, env: &mut Env<S>) {
        let now = env.now.mono;
        let mut late: Vec<Token> = Vec::new();
        let mut keep = |pending: &Pending| {
            let keep = pending.deadline > now;
            if !keep {
                late.extend(pending.token);
            }
            keep
        };
        self.pending.retain(&mut keep);
        if let Some(lead) = self.lead() {
            for flight in lead.flights.values_mut() {
                // The one at the front of an idle or reading key is next; it, too, has not begun.
                flight.waiting.retain(&mut keep);
            }
        }
        let mut late_scans: Vec<Token> = Vec::new();
        let mut keep_scan = |scan: &PendingScan| {
            let keep = scan.deadline > now;
            if !keep {
                late_scans.push(scan.token);
            }
            keep
        };
        self.pending_scans.retain(&mut keep_scan);
        if let Some(lead) = self.lead() {
            lead.scans.retain(&mut keep_scan);
        }
        for token in late.into_iter().chain(late_scans) {
            env.answer(token, Outcome::Unavailable("no majority of the shard answered in time; nothing was changed"));
        }
    }

    pub fn next_in_line<S: Store>(&self, env: &Env<S>) -> Option<MemberKey> {
        let config = &self.meta.config;
        config.members.iter().copied().find(|member| *member != env.me && env.is_up(member))
    }

    /// Lets the next member lead, because this node is about to restart.
    pub fn hand_over<S: Store>(&mut self, env: &mut Env<S>) {
        let next = self.next_in_line(env);
        if let (Some(_), Some(next)) = (self.lead(), next) {
            env.send(&next, message(self.shard, self.epoch(), Ballot::ZERO, ShardKind::Handover));
        }
    }

    pub fn on_handover<S: Store>(&mut self, epoch: u64, env: &mut Env<S>) {
        let resting = env.now.mono < env.shared.resting_until;
        if self.epoch() == epoch && self.meta.installed && self.leader.is_none() && !resting {
            self.start_election(env);
        }
    }
}
