//! Moving a shard from one configuration to the next: pre-copy, seal, transfer, install (ring.md 3.4).
//!
//! The leader copies the records to the newcomers while writes go on, seals the configuration on a
//! majority (which decides the next one), makes its own copy the union of what that majority holds,
//! and installs it on every member of the next configuration, each atomically. The next
//! configuration lives once a majority has installed it; ex-members keep their records until all have.
use crate::{
    member::MemberKey,
    msg::{MapEntry, ShardKind},
    rules::Rule,
    shard::{
        config::{Ballot, Config, ReplicaMeta, Seal, ShardId},
        digest::summand,
        env::{Env, Shared, message},
        leader::{BUSY_LOOK, Leader, Phase, RESEND},
        record::Record,
        replica::Replica,
    },
    store::{Change, Store},
    time::Nanos,
};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};

/// Keys written during a pre-copy above which another round is worth it.
const DIRTY_KEYS_MAX: usize = 64;
/// Most rounds of pre-copy.
const ROUNDS_MAX: u32 = 3;
/// Bytes of shards on the move at a time, unless it is a single one.
const MOVING_BYTES_MAX: u64 = 8 << 20;
/// Longest wait for operations under way before sealing all the same.
const QUIET_WAIT: Nanos = Nanos::from_millis(500);
/// Wait for the rest of the seals before records are fetched from those that differ.
const SEAL_WAIT: Nanos = Nanos::from_millis(150);
/// Time for the last members to install before the next configuration's own leader sees to them.
const CLOSING_MAX: Nanos = Nanos::from_millis(10_000);

/// A move in its first phase: the old configuration still serves.
#[derive(Clone, Hash)]
pub(crate) struct Move {
    pub next: Config,
    /// Number among the moves of this ballot.
    attempt: u64,
    /// Keys written since the copy to the newcomers began.
    pub dirty: BTreeSet<Bytes>,
    rounds: u32,
    /// Set once no new operation is begun.
    pub closing_since: Option<Nanos>,
}

/// A move past the point of no return: the configuration is being sealed.
#[derive(Clone, Hash)]
pub(crate) struct Sealing {
    next: Config,
    attempt: u64,
    acks: BTreeMap<MemberKey, u128>,
    /// What the newcomers lack of a finished pre-copy; `None`: they have nothing.
    dirty: Option<BTreeSet<Bytes>>,
    sent_at: Nanos,
    since: Nanos,
    /// Members whose records are being merged, with the last key read and the round.
    fetching: BTreeMap<MemberKey, (Bytes, u64)>,
    /// Members whose records are all in the own copy now.
    merged: BTreeSet<MemberKey>,
}

/// The next configuration is decided and being installed.
#[derive(Clone, Hash)]
pub(crate) struct Closing {
    epoch: u64,
    ballot: Ballot,
    attempt: u64,
    next: Config,
    shipments: BTreeMap<MemberKey, Shipment>,
    acks: BTreeSet<MemberKey>,
    lives: bool,
    since: Nanos,
}

/// A snapshot (or a part of one) on its way to one member, one message at a time.
#[derive(Clone, Hash)]
pub(crate) struct Shipment {
    next: Config,
    /// The move's, from 1, or 0 for a copy of the present configuration: what answers another one says nothing of this.
    attempt: u64,
    pre_copy: bool,
    full: bool,
    /// Only these keys, all in one message.
    only: Option<Vec<Bytes>>,
    part: u32,
    after: Option<Bytes>,
    /// Last key and end-mark of the part on its way.
    sent: Option<(Option<Bytes>, bool)>,
    sent_at: Nanos,
    done: bool,
}

/// Parts received and not applied yet.
#[derive(Clone, Hash)]
pub(crate) struct Incoming {
    from: MemberKey,
    epoch: u64,
    ballot: Ballot,
    attempt: u64,
    pre_copied: BTreeMap<Bytes, Record>,
    /// The pre-copy has reached its end.
    complete: bool,
    final_records: BTreeMap<Bytes, Record>,
    pre_part: u32,
    part: u32,
}

/// Fields of an install message.
pub(crate) struct Part {
    pub next: Config,
    pub attempt: u64,
    pub records: Vec<(Bytes, Record)>,
    pub part: u32,
    pub last: bool,
    pub digest: u128,
    pub pre_copy: bool,
    pub full: bool,
}

/// Fields of the answer to one.
pub(crate) struct Ack {
    pub attempt: u64,
    pub part: u32,
    pub last: bool,
    pub pre_copy: bool,
    pub mismatch: bool,
}

impl Shipment {
    fn new(next: Config, attempt: u64, pre_copy: bool, full: bool, only: Option<Vec<Bytes>>) -> Shipment {
        let (part, after, sent, sent_at, done) = (0, None, None, Nanos(0), false);
        Shipment { next, attempt, pre_copy, full, only, part, after, sent, sent_at, done }
    }

    /// Sends the part that is due.
    fn send<S: Store>(&mut self, shard: ShardId, to: &MemberKey, tag: (u64, Ballot), env: &mut Env<S>) {
        let records: Vec<(Bytes, Record)> = match &self.only {
            Some(keys) => keys.iter().filter_map(|key| Some((key.clone(), env.store.get(shard, key)?))).collect(),
            None => env.store.scan(shard, self.after.as_deref(), usize::MAX, env.settings.chunk_bytes_max),
        };
        let end = records.last().map(|(key, _)| key.clone());
        let last = self.only.is_some()
            || end.as_ref().is_none_or(|end| env.store.scan(shard, Some(end), 1, usize::MAX).is_empty());
        env.shared.counters.keys_sent += records.len() as u64;
        self.sent = Some((end, last));
        self.sent_at = env.now.mono;
        let digest = env.store.digest(shard).root();
        let Shipment { next, attempt, part, pre_copy, full, .. } = self;
        let (next, attempt, part, pre_copy, full) = (next.clone(), *attempt, *part, *pre_copy, *full);
        let install = ShardKind::Install { next, attempt, records, part, last, digest, pre_copy, full };
        env.send(to, message(shard, tag.0, tag.1, install));
    }

    /// Notes that a part has arrived; says whether there is another one to send.
    fn advance(&mut self, part: u32) -> bool {
        if part != self.part || self.done {
            return false;
        }
        let Some((end, last)) = self.sent.take() else { return false };
        self.done = last;
        self.part += 1;
        self.after = end;
        !last
    }

    /// Starts again, with everything.
    fn restart_in_full(&mut self) {
        *self = Shipment::new(self.next.clone(), self.attempt, self.pre_copy, true, None);
    }

    fn is_late(&self, now: Nanos) -> bool {
        !self.done && now.since(self.sent_at) >= Nanos(3 * RESEND.0)
    }
}

impl Replica {
    /// Whether the ring proposes another configuration than the present one, or a member of it lost its copy.
    fn differs<S: Store>(&self, env: &Env<S>) -> bool {
        let desired = env.shared.placement.of(self.shard);
        let incomplete = self.leader.as_ref().is_some_and(|leader| !leader.lost.is_empty());
        !desired.is_empty() && (incomplete || desired != self.meta.config.members.as_slice())
    }

    /// Notes whether there is something to move.
    pub fn want_move<S: Store>(&mut self, env: &mut Env<S>) {
        if self.differs(env) && self.lead().is_some() {
            env.shared.want_move.insert(self.shard);
        } else {
            env.shared.want_move.remove(&self.shard);
        }
    }

    /// Begins the move to the desired configuration, if this node leads and there is room.
    pub fn start_move<S: Store>(&mut self, env: &mut Env<S>) {
        let differs = self.differs(env);
        let members = env.shared.placement.of(self.shard).to_vec();
        let config = self.meta.config.clone();
        let bytes = env.store.digest(self.shard).bytes;
        let room = env.shared.moving.is_empty() || env.shared.moving_bytes() + bytes <= MOVING_BYTES_MAX;
        let reachable = members.iter().all(|member| env.is_up(member));
        let Some(Leader { phase: Phase::Leading(lead), moves, .. }) = &mut self.leader else { return };
        if !differs || lead.movement.is_some() {
            return;
        }
        if !room || !reachable || !lead.clean {
            env.shared.want_move.insert(self.shard);
            return;
        }
        let next = Config { epoch: config.epoch + 1, members };
        *moves += 1;
        let (attempt, dirty) = (*moves, BTreeSet::new());
        lead.movement = Some(Move { next: next.clone(), attempt, dirty, rounds: 0, closing_since: None });
        env.shared.moving.insert(self.shard, bytes);
        let newcomers: Vec<MemberKey> =
            next.members.iter().copied().filter(|member| config.index_of(member).is_none()).collect();
        self.pre_copy(newcomers, None, env);
        self.wake(env.now.mono + BUSY_LOOK, env);
    }

    fn pre_copy<S: Store>(&mut self, newcomers: Vec<MemberKey>, only: Option<Vec<Bytes>>, env: &mut Env<S>) {
        let shard = self.shard;
        let Some(leader) = &mut self.leader else { return };
        let tag = (leader.config.epoch, leader.ballot);
        let Phase::Leading(lead) = &leader.phase else { return };
        let Some(Move { next, attempt, .. }) = lead.movement.clone() else { return };
        for newcomer in newcomers {
            let mut shipment = Shipment::new(next.clone(), attempt, true, only.is_none(), only.clone());
            // A later round goes on where the parts of the first one ended.
            shipment.part = leader.shipments.get(&newcomer).map_or(0, |before| before.part);
            shipment.send(shard, &newcomer, tag, env);
            leader.shipments.insert(newcomer, shipment);
        }
        self.pre_copy_progress(env);
    }

    /// Goes on once every newcomer has what was sent: another round, or the seal.
    fn pre_copy_progress<S: Store>(&mut self, env: &mut Env<S>) {
        let Some(leader) = &mut self.leader else { return };
        let Phase::Leading(lead) = &mut leader.phase else { return };
        let Some(movement) = &mut lead.movement else { return };
        let next = &movement.next;
        let newcomers: Vec<MemberKey> =
            next.members.iter().copied().filter(|member| leader.config.index_of(member).is_none()).collect();
        let waiting = newcomers.iter().any(|member| leader.shipments.get(member).is_some_and(|ship| !ship.done));
        if waiting || movement.closing_since.is_some() {
            return;
        }
        movement.rounds += 1;
        if movement.dirty.len() > DIRTY_KEYS_MAX && movement.rounds < ROUNDS_MAX {
            let only = std::mem::take(&mut movement.dirty).into_iter().collect();
            // Writes on their way are not in the store's committed state yet; they are dirty again.
            movement.dirty.extend(lead.flights.keys().cloned());
            return self.pre_copy(newcomers, Some(only), env);
        }
        movement.closing_since = Some(env.now.mono);
        self.seal_when_quiet(env);
    }

    /// Seals once no operation is under way, or when that takes too long.
    pub fn seal_when_quiet<S: Store>(&mut self, env: &mut Env<S>) {
        let Some(lead) = self.lead() else { return };
        let Some(movement) = &lead.movement else { return };
        let Some(since) = movement.closing_since else { return };
        if !lead.flights.is_empty() && env.now.mono.since(since) < QUIET_WAIT {
            return;
        }
        let (next, attempt, dirty) = (movement.next.clone(), movement.attempt, movement.dirty.clone());
        self.start_sealing(next, attempt, Some(dirty), env);
    }

    /// Closes the configuration for writes in favour of `next`; `attempt` and `dirty` are those of a finished pre-copy.
    pub fn start_sealing<S: Store>(
        &mut self,
        next: Config,
        attempt: u64,
        dirty: Option<BTreeSet<Bytes>>,
        env: &mut Env<S>,
    ) {
        let Some(leader) = &mut self.leader else { return };
        let now = env.now.mono;
        let (acks, fetching) = (BTreeMap::new(), BTreeMap::new());
        let merged = BTreeSet::new();
        let sealing = Sealing { next, attempt, acks, dirty, sent_at: now, since: now, fetching, merged };
        let before = std::mem::replace(&mut leader.phase, Phase::Sealing(Box::new(sealing)));
        leader.shipments.clear();
        if let Phase::Leading(lead) = before {
            self.park(*lead, env);
        }
        env.shared.want_move.remove(&self.shard);
        let bytes = env.store.digest(self.shard).bytes;
        env.shared.moving.entry(self.shard).or_insert(bytes);
        self.send_seal(env);
        self.wake(now + BUSY_LOOK, env);
    }

    fn send_seal<S: Store>(&mut self, env: &mut Env<S>) {
        let Some(leader) = &mut self.leader else { return };
        let Phase::Sealing(sealing) = &mut leader.phase else { return };
        sealing.sent_at = env.now.mono;
        for member in leader.config.members.iter().filter(|member| !sealing.acks.contains_key(member)) {
            let seal = ShardKind::Seal { next: sealing.next.clone() };
            env.send(member, message(self.shard, leader.config.epoch, leader.ballot, seal));
        }
    }

    pub fn on_seal_ack<S: Store>(&mut self, from: MemberKey, digest: u128, env: &mut Env<S>) {
        let Some(leader) = &mut self.leader else { return };
        let Phase::Sealing(sealing) = &mut leader.phase else { return };
        sealing.acks.insert(from, digest);
        self.seal_progress(env);
    }

    /// Once a majority is sealed: makes the own copy their union, then installs it.
    fn seal_progress<S: Store>(&mut self, env: &mut Env<S>) {
        let (shard, now) = (self.shard, env.now.mono);
        let Some(leader) = &mut self.leader else { return };
        let tag = (leader.config.epoch, leader.ballot);
        let everybody = leader.config.members.len();
        let majority = if env.holds(Rule::SealMajority) { leader.config.majority() } else { 1 };
        let Phase::Sealing(sealing) = &mut leader.phase else { return };
        let Some(own) = sealing.acks.get(&env.me).copied() else { return };
        let differs = |member: &MemberKey, digest: &u128| {
            *digest != own && !sealing.merged.contains(member) && env.holds(Rule::TransferMajority)
        };
        let differing: Vec<MemberKey> =
            sealing.acks.iter().filter(|(member, digest)| differs(member, digest)).map(|(member, _)| *member).collect();
        // Whoever of them answers will do, as long as the own copy is the union of a majority's.
        if sealing.acks.len() - differing.len() >= majority {
            return self.start_installing(env);
        }
        let patient = sealing.acks.len() < everybody && now.since(sealing.since) < SEAL_WAIT;
        if sealing.acks.len() < majority || patient {
            return;
        }
        for member in differing {
            if sealing.fetching.contains_key(&member) {
                continue;
            }
            sealing.fetching.insert(member, (Bytes::new(), 0));
            let request = ShardKind::TransferRequest { after: Bytes::new(), round: 0 };
            env.send(&member, message(shard, tag.0, tag.1, request));
        }
    }

    pub fn on_transfer_chunk<S: Store>(
        &mut self,
        from: MemberKey,
        records: Vec<(Bytes, Record)>,
        round: u64,
        last: bool,
        env: &mut Env<S>,
    ) {
        let shard = self.shard;
        let Some(leader) = &mut self.leader else { return };
        let tag = (leader.config.epoch, leader.ballot);
        let Phase::Sealing(sealing) = &mut leader.phase else { return };
        let Some((after, expected)) = sealing.fetching.get_mut(&from).filter(|(_, expected)| *expected == round) else {
            return;
        };
        *expected += 1;
        if let Some((key, _)) = records.last() {
            *after = key.clone();
        }
        // Merged into the own sealed copy: nothing is acknowledged by that, and the newest version wins.
        let newer: Vec<Change> = records
            .into_iter()
            .filter(|(key, record)| env.store.get(shard, key).is_none_or(|mine| mine.version < record.version))
            .map(|(key, record)| Change::Put { shard, key, record })
            .collect();
        if let Some(dirty) = &mut sealing.dirty {
            for change in &newer {
                if let Change::Put { key, .. } = change {
                    dirty.insert(key.clone());
                }
            }
        }
        if !last {
            let request = ShardKind::TransferRequest { after: after.clone(), round: *expected };
            env.send(&from, message(shard, tag.0, tag.1, request));
        } else {
            sealing.fetching.remove(&from);
            sealing.merged.insert(from);
        }
        if !newer.is_empty() {
            env.write(newer);
        }
        self.seal_progress(env);
    }

    fn start_installing<S: Store>(&mut self, env: &mut Env<S>) {
        let Some(leader) = self.leader.take() else { return };
        let Phase::Sealing(sealing) = leader.phase else { return };
        let (epoch, ballot) = (leader.config.epoch, leader.ballot);
        let own = env.store.digest(self.shard).root();
        let mut shipments = BTreeMap::new();
        for member in sealing.next.members.iter().filter(|member| **member != env.me) {
            let newcomer = leader.config.index_of(member).is_none();
            let only = match (&sealing.dirty, sealing.acks.get(member)) {
                (Some(dirty), _) if newcomer => Some(dirty.iter().cloned().collect()),
                (_, Some(digest)) if *digest == own => Some(Vec::new()),
                _ => None,
            };
            let shipment = Shipment::new(sealing.next.clone(), sealing.attempt, false, only.is_none(), only);
            shipments.insert(*member, shipment);
        }
        let (next, attempt, acks, since) = (sealing.next.clone(), sealing.attempt, BTreeSet::new(), env.now.mono);
        self.closing =
            Some(Closing { epoch, ballot, attempt, next: next.clone(), shipments, acks, lives: false, since });
        // Its own copy is the snapshot: it is in the next configuration as soon as that is on disk.
        if next.index_of(&env.me).is_some() {
            self.enter(next, Vec::new(), env);
            let done = ShardKind::InstallAck { attempt, part: 0, last: true, pre_copy: false, mismatch: false };
            env.send_durable(&env.me.clone(), message(self.shard, epoch, ballot, done));
        }
        let shard = self.shard;
        if let Some(closing) = &mut self.closing {
            for (member, shipment) in &mut closing.shipments {
                shipment.send(shard, member, (epoch, ballot), env);
            }
        }
        self.wake(env.now.mono + BUSY_LOOK, env);
    }

    /// Flips to a configuration whose records are in `changes` or already here.
    fn enter<S: Store>(&mut self, next: Config, mut changes: Vec<Change>, env: &mut Env<S>) {
        let previous = std::mem::take(&mut self.meta.config.members);
        let (config, promised, word) = (next.clone(), Ballot::ZERO, self.word_beyond(next.epoch));
        self.meta = ReplicaMeta { config, previous, installed: true, promised, seal: None, word };
        self.seen = Ballot::ZERO;
        self.incoming = None;
        self.outdated_since = None;
        self.leaderless_since = None;
        changes.push(Change::Meta(self.shard, self.meta.clone()));
        env.write(changes);
        // Whoever installs tells the leader-to-be when a majority has; this is for when that word is lost.
        self.elect_at = env.now.mono + RESEND;
        env.shared.learn(MapEntry { shard: self.shard, config: next, leader: None });
        self.wake(self.elect_at, env);
    }

    /// A part of a snapshot for this node.
    pub fn on_install<S: Store>(
        &mut self,
        from: MemberKey,
        epoch: u64,
        ballot: Ballot,
        install: Part,
        env: &mut Env<S>,
    ) {
        let Part { next, attempt, records, part, last, digest, pre_copy, full } = install;
        let shard = self.shard;
        let ack = |last: bool, mismatch: bool| {
            message(shard, epoch, ballot, ShardKind::InstallAck { attempt, part, last, pre_copy, mismatch })
        };
        // Who is about to leave would have to be moved out of the next configuration at once: it is not begun.
        if next.index_of(&env.me).is_none() || (pre_copy && env.is_leaving()) {
            return;
        }
        let here = self.meta.config.epoch;
        // A snapshot from before the loss may still be on its way.
        if here == next.epoch && self.is_lost(&env.me) {
            return;
        }
        if here > next.epoch || (here == next.epoch && self.meta.installed) {
            return env.send_durable(&from, ack(true, false));
        }
        let move_of = |incoming: &Incoming| (incoming.from, incoming.epoch, incoming.ballot, incoming.attempt);
        if self.incoming.as_ref().map(move_of) != Some((from, epoch, ballot, attempt)) {
            let (pre_copied, final_records) = (BTreeMap::new(), BTreeMap::new());
            let (complete, pre_part, part) = (false, 0, 0);
            self.incoming =
                Some(Incoming { from, epoch, ballot, attempt, pre_copied, complete, final_records, pre_part, part });
        }
        let Some(incoming) = &mut self.incoming else { return };
        env.shared.counters.keys_received += records.len() as u64;
        if pre_copy {
            if full && part == 0 {
                incoming.pre_copied.clear();
                incoming.complete = false;
                incoming.pre_part = 0;
            }
            if part > incoming.pre_part {
                // A part is missing (this node restarted meanwhile): only a copy in full helps.
                return env.send(&from, ack(last, true));
            }
            if part == incoming.pre_part {
                incoming.pre_copied.extend(records);
                incoming.pre_part += 1;
                incoming.complete |= last;
            }
            let word = Seal { ballot, next };
            if incoming.complete && self.meta.word.as_ref() != Some(&word) {
                self.meta.word = Some(word);
                self.save(env);
            }
            return env.send_durable(&from, ack(last, false));
        }
        if part == 0 {
            incoming.final_records.clear();
            incoming.part = 0;
        }
        if part > incoming.part {
            return env.send(&from, ack(last, true));
        }
        if part == incoming.part {
            incoming.final_records.extend(records);
            incoming.part += 1;
        }
        if !last {
            return env.send(&from, ack(false, false));
        }
        let arrived = std::mem::take(&mut incoming.final_records);
        let changes = if full {
            (sum(&arrived) == digest).then(|| replace_all(shard, arrived))
        } else if incoming.complete {
            let mut all = std::mem::take(&mut incoming.pre_copied);
            all.extend(arrived);
            (sum(&all) == digest).then(|| replace_all(shard, all))
        } else if self.meta.installed && here + 1 == next.epoch {
            patch_own(shard, arrived, digest, env)
        } else {
            None
        };
        match changes {
            Some(changes) => {
                self.step_down(env);
                self.closing = None;
                env.shared.moving.remove(&shard);
                self.enter(next, changes, env);
                env.send_durable(&from, ack(true, false));
            }
            None => {
                self.incoming = None;
                env.send(&from, ack(true, true));
            }
        }
    }

    pub fn on_install_ack<S: Store>(
        &mut self,
        from: MemberKey,
        epoch: u64,
        ballot: Ballot,
        Ack { attempt, part, last, pre_copy, mismatch }: Ack,
        env: &mut Env<S>,
    ) {
        let shard = self.shard;
        // An answer to a copy of the present configuration is none to the next one's.
        let of_move = |closing: &&mut Closing| {
            (closing.epoch, closing.ballot, closing.attempt) == (epoch, ballot, attempt) && !pre_copy
        };
        if let Some(closing) = self.closing.as_mut().filter(of_move) {
            let done = match closing.shipments.get_mut(&from) {
                Some(shipment) if mismatch => {
                    shipment.restart_in_full();
                    shipment.send(shard, &from, (epoch, ballot), env);
                    false
                }
                Some(shipment) if !last => {
                    if shipment.advance(part) {
                        shipment.send(shard, &from, (epoch, ballot), env);
                    }
                    false
                }
                _ => last && !mismatch,
            };
            if done {
                closing.shipments.remove(&from);
                closing.acks.insert(from);
                self.closing_progress(env);
            }
            return;
        }
        let Some(leader) = &mut self.leader else { return };
        if leader.config.epoch != epoch || leader.ballot != ballot {
            return;
        }
        let of_it = |shipment: &&mut Shipment| shipment.pre_copy == pre_copy && shipment.attempt == attempt;
        let Some(shipment) = leader.shipments.get_mut(&from).filter(of_it) else { return };
        if mismatch {
            shipment.restart_in_full();
            shipment.send(shard, &from, (epoch, ballot), env);
        } else if pre_copy {
            if shipment.advance(part) {
                shipment.send(shard, &from, (epoch, ballot), env);
            }
            self.pre_copy_progress(env);
        } else if last {
            leader.shipments.remove(&from);
            let prepare = message(shard, epoch, ballot, ShardKind::Prepare);
            env.send(&from, prepare);
        } else if shipment.advance(part) {
            shipment.send(shard, &from, (epoch, ballot), env);
        }
    }

    /// The word given for a configuration after this one.
    pub fn word_beyond(&self, epoch: u64) -> Option<Seal> {
        self.meta.word.clone().filter(|word| word.next.epoch > epoch)
    }

    /// Whether a configuration that this node took a copy for may still come.
    pub fn is_expected(&self, shared: &Shared) -> bool {
        let newest = shared.map.get(&self.shard).map_or(0, |entry| entry.config.epoch);
        self.meta.word.as_ref().is_some_and(|word| newest < word.next.epoch)
    }

    /// Asks whether it may, so that this node can leave.
    pub fn ask_release<S: Store>(&mut self, env: &mut Env<S>) {
        if self.is_expected(env.shared) && env.now.mono.since(self.polled_at) >= Nanos::from_millis(1000) {
            self.ask_members(env);
        }
    }

    /// A leader says that nothing is kept or expected here. No earlier attempt's seal is left in its configuration,
    /// and while this node is leaving it gives no later one its word.
    pub fn release<S: Store>(&mut self, epoch: u64, ballot: Ballot, env: &mut Env<S>) {
        let covers = |seal: &Seal| epoch >= seal.next.epoch || (epoch + 1 == seal.next.epoch && ballot >= seal.ballot);
        if self.meta.word.as_ref().is_some_and(covers) && env.is_leaving() {
            self.meta.word = None;
            self.incoming = None;
            self.save(env);
        }
    }

    /// Whether the next configuration is decided but does not live yet.
    pub fn is_closing(&self) -> bool {
        self.closing.as_ref().is_some_and(|closing| !closing.lives)
    }

    /// A majority of the next configuration has installed it: it lives.
    fn closing_progress<S: Store>(&mut self, env: &mut Env<S>) {
        let Some(closing) = &mut self.closing else { return };
        let all = closing.acks.len() == closing.next.members.len();
        let first = !closing.lives && closing.acks.len() >= closing.next.majority();
        closing.lives |= first;
        let next = closing.next.clone();
        let previous = self.meta.config.members.iter().chain(&self.meta.previous).copied().collect::<Vec<_>>();
        if all {
            self.closing = None;
        }
        if first {
            env.shared.moving.remove(&self.shard);
            env.event("move", self.shard, format!("shard {} is in configuration {} now", self.shard.0, next.epoch));
            let entry = MapEntry { shard: self.shard, config: next.clone(), leader: None };
            env.shared.learn(entry.clone());
            let concerned: BTreeSet<MemberKey> = next.members.iter().copied().chain(previous).collect();
            let me = env.me;
            for member in concerned.into_iter().filter(|member| *member != me) {
                let update = ShardKind::MapUpdate { entries: vec![entry.clone()] };
                env.send(&member, message(self.shard, next.epoch, Ballot::ZERO, update));
            }
            if let Some(leader) = next.members.iter().copied().find(|member| env.is_up(member)) {
                let handover = message(self.shard, next.epoch, Ballot::ZERO, ShardKind::Handover);
                env.send(&leader, handover);
                if leader != env.me {
                    self.redirect_pending(env);
                }
            }
            if next.index_of(&env.me).is_none() {
                self.outdated_since.get_or_insert(env.now.mono);
            }
            self.wake(env.now.mono + BUSY_LOOK, env);
        }
    }

    /// Sends a whole snapshot to a member of this configuration that has not installed it.
    pub fn ship_to_newcomer<S: Store>(&mut self, to: MemberKey, env: &mut Env<S>) {
        let Some(leader) = &mut self.leader else { return };
        let absent = !leader.installed.contains(&to) && !leader.shipments.contains_key(&to);
        if absent && to != env.me && leader.config.index_of(&to).is_some() {
            let mut shipment = Shipment::new(leader.config.clone(), 0, false, true, None);
            shipment.send(self.shard, &to, (leader.config.epoch, leader.ballot), env);
            leader.shipments.insert(to, shipment);
        }
    }

    /// Looks after a move: sends again, gives up a pre-copy whose newcomer is gone, ends a long closing.
    pub fn retry_move<S: Store>(&mut self, env: &mut Env<S>) {
        let (shard, now) = (self.shard, env.now.mono);
        if let Some(closing) = &mut self.closing {
            let tag = (closing.epoch, closing.ballot);
            for (member, shipment) in closing.shipments.iter_mut().filter(|(_, shipment)| shipment.is_late(now)) {
                shipment.send(shard, member, tag, env);
            }
            if closing.lives && now.since(closing.since) > CLOSING_MAX {
                self.closing = None;
            }
        }
        let Some(leader) = &mut self.leader else { return };
        let tag = (leader.config.epoch, leader.ballot);
        leader.shipments.retain(|member, shipment| shipment.pre_copy || env.is_up(member));
        for (member, shipment) in leader.shipments.iter_mut().filter(|(_, shipment)| shipment.is_late(now)) {
            shipment.send(shard, member, tag, env);
        }
        match &mut leader.phase {
            Phase::Leading(lead) => {
                let Some(movement) = &lead.movement else { return };
                let gone = movement.next.members.iter().any(|member| !env.is_up(member));
                let stale = movement.next.members.as_slice() != env.shared.placement.of(shard);
                if movement.closing_since.is_none() && (gone || stale) {
                    lead.movement = None;
                    leader.shipments.retain(|_, shipment| !shipment.pre_copy);
                    env.shared.moving.remove(&shard);
                    return self.want_move(env);
                }
                self.seal_when_quiet(env);
            }
            Phase::Sealing(sealing) => {
                if now.since(sealing.sent_at) >= RESEND {
                    let fetching: Vec<(MemberKey, (Bytes, u64))> =
                        sealing.fetching.iter().map(|(member, state)| (*member, state.clone())).collect();
                    for (member, (after, round)) in fetching {
                        env.send(&member, message(shard, tag.0, tag.1, ShardKind::TransferRequest { after, round }));
                    }
                    self.send_seal(env);
                }
                self.seal_progress(env);
            }
            Phase::Preparing { .. } => {}
        }
    }

    /// Asks where the shard has gone, while this node keeps records of an older configuration.
    pub fn poll_newer<S: Store>(&mut self, env: &mut Env<S>) {
        let Some(entry) = env.shared.map.get(&self.shard) else { return };
        if !self.meta.installed || entry.config.epoch <= self.epoch() {
            return;
        }
        self.outdated_since.get_or_insert(env.now.mono);
        let long = self.outdated_since.is_some_and(|since| env.now.mono.since(since) > CLOSING_MAX);
        let pause = Nanos::from_millis(if long { 5000 } else { 1000 });
        if env.now.mono.since(self.polled_at) >= pause {
            self.ask_members(env);
        }
        self.wake(env.now.mono + Nanos::from_millis(300), env);
    }

    /// While the copy is lost: tells whoever leads, and lets somebody lead where everybody waits for this node.
    pub fn tell_loss<S: Store>(&mut self, env: &mut Env<S>) {
        const PAUSE: Nanos = Nanos::from_millis(1000);
        if !self.is_lost(&env.me) {
            return;
        }
        self.wake(env.now.mono + PAUSE, env);
        self.ask_members(env);
        let (shard, epoch, promised) = (self.shard, self.epoch(), self.meta.promised);
        let known = env.shared.map.get(&shard).filter(|known| known.config.epoch == epoch);
        let led = known.and_then(|known| self.meta.config.members.get(known.leader? as usize));
        let led = led.is_some_and(|leader| *leader != env.me && env.is_up(leader));
        match self.meta.config.members.get(promised.index()).copied().filter(|_| promised != Ballot::ZERO) {
            Some(owner) if owner == env.me => {
                let next = self.next_in_line(env);
                if let Some(next) = next.filter(|_| !led) {
                    env.send(&next, message(shard, epoch, Ballot::ZERO, ShardKind::Handover));
                }
            }
            Some(owner) => {
                let nack = ShardKind::Nack { promised: Ballot::ZERO, config: None, sealed: false, lost: true };
                env.send(&owner, message(shard, epoch, promised, nack));
            }
            None => {}
        }
    }

    fn ask_members<S: Store>(&mut self, env: &mut Env<S>) {
        let Some(entry) = env.shared.map.get(&self.shard) else { return };
        let (epoch, members) = (entry.config.epoch, entry.config.members.clone());
        self.polled_at = env.now.mono;
        let me = env.me;
        for member in members.into_iter().filter(|member| *member != me) {
            let request = ShardKind::MapRequest { shards: vec![self.shard] };
            env.send(&member, message(self.shard, epoch, Ballot::ZERO, request));
        }
    }

    /// Somebody who keeps records of an older configuration asks: tell, retire or bring up to date.
    pub fn on_map_request<S: Store>(&mut self, from: MemberKey, env: &mut Env<S>) {
        if let Some(entry) = env.shared.map.get(&self.shard).cloned() {
            let epoch = entry.config.epoch;
            let update = ShardKind::MapUpdate { entries: vec![entry] };
            env.send(&from, message(self.shard, epoch, Ballot::ZERO, update));
        }
        let Some(Leader { config, ballot, unsealed, phase: Phase::Leading(lead), .. }) = &self.leader else { return };
        let wanted = lead.movement.as_ref().is_some_and(|movement| movement.next.index_of(&from).is_some());
        if config.index_of(&from).is_some() {
            self.ship_to_newcomer(from, env);
        } else if !wanted
            && (config.members.iter().all(|member| unsealed.contains(member)) || !env.holds(Rule::RetireWhenUnsealed))
        {
            let retire = ShardKind::Retire { next: config.clone() };
            env.send(&from, message(self.shard, config.epoch, *ballot, retire));
        }
    }
}

fn sum(records: &BTreeMap<Bytes, Record>) -> u128 {
    records.iter().fold(0, |sum: u128, (key, record)| sum.wrapping_add(summand(key, &record.version).1))
}

fn replace_all(shard: ShardId, records: BTreeMap<Bytes, Record>) -> Vec<Change> {
    let puts = records.into_iter().map(|(key, record)| Change::Put { shard, key, record });
    std::iter::once(Change::Clear(shard)).chain(puts).collect()
}

/// What makes the own records those of the snapshot, if `difference` does.
fn patch_own<S: Store>(
    shard: ShardId,
    difference: BTreeMap<Bytes, Record>,
    digest: u128,
    env: &Env<S>,
) -> Option<Vec<Change>> {
    let mut root = env.store.digest(shard).root();
    let mut changes = Vec::new();
    for (key, record) in difference {
        if let Some(mine) = env.store.get(shard, &key) {
            root = root.wrapping_sub(summand(&key, &mine.version).1);
        }
        root = root.wrapping_add(summand(&key, &record.version).1);
        changes.push(Change::Put { shard, key, record });
    }
    (root == digest).then_some(changes)
}
