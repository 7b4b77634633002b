//! The data plane: sealed shard configurations (ring.md 3.2).
//!
//! Reading order: `config`, `record`, `ops` (what an operation does to a key), `replica` (what one
//! copy promises), `leader` (elections, reads and writes), `moves` (from one configuration to the
//! next), `repair` (keeping copies equal), and here what a node does with all its shards.
pub mod config;
pub mod digest;
pub(crate) mod env;
mod leader;
mod moves;
mod ops;
pub mod placement;
pub mod record;
mod repair;
mod replica;

use crate::{
    core::Status,
    io::{Operation, Outcome, Token},
    member::{MemberKey, View},
    msg::{MapEntry, ShardKind, ShardMsg},
    shard::{
        config::{Ballot, Config, ReplicaMeta, ShardId},
        env::{Env, Shared, message},
        leader::{BUSY_LOOK, Phase},
        ops::{KeyOp, refuse},
        placement::Placement,
        replica::{Pending, PendingScan, Replica},
    },
    store::{Change, Store},
    time::Nanos,
};
use std::collections::BTreeMap;

/// Time between looks for values whose time to live has ended.
const SWEEP: Nanos = Nanos::from_millis(1000);
/// Most of them per look.
const SWEEP_MAX: usize = 1000;
/// Time between looks for moves that may begin.
const MOVES_LOOK: Nanos = Nanos::from_millis(20);
/// Most moves tried per look.
const MOVES_TRIED_MAX: usize = 256;

/// All shards of a node.
#[derive(Clone, Hash, Default)]
pub(crate) struct Shards {
    replicas: BTreeMap<ShardId, Replica>,
    next_sweep: Nanos,
    next_moves: Nanos,
    /// Where the last look for moves ended.
    moves_cursor: Option<ShardId>,
}

impl Shards {
    /// Takes up what the store holds.
    pub fn load<S: Store>(env: &mut Env<S>) -> Shards {
        let mut shards = Shards::default();
        for (shard, meta) in env.store.metas() {
            if meta.config.epoch > 0 {
                env.shared.learn(MapEntry { shard, config: meta.config.clone(), leader: None });
            }
            let mut replica = Replica::new(shard, meta);
            if replica.meta.installed || replica.is_lost(&env.me) {
                let at = env.jittered(Nanos(0), BUSY_LOOK);
                replica.wake(at, env);
            }
            shards.replicas.insert(shard, replica);
        }
        shards
    }

    /// Founds a ring: this node alone holds every shard.
    pub fn found<S: Store>(&mut self, env: &mut Env<S>) {
        let config = Config { epoch: 1, members: vec![env.me] };
        let meta = ReplicaMeta {
            config,
            previous: Vec::new(),
            installed: true,
            promised: Ballot::ZERO,
            seal: None,
            word: None,
        };
        let shards = (0..env.settings.shards).map(ShardId);
        env.write(shards.clone().map(|shard| Change::Meta(shard, meta.clone())).collect());
        for shard in shards {
            env.shared.learn(MapEntry { shard, config: meta.config.clone(), leader: None });
            let mut replica = Replica::new(shard, meta.clone());
            replica.wake(env.now.mono, env);
            self.replicas.insert(shard, replica);
        }
    }

    /// Handles the messages of a peer, or of this node to itself.
    pub fn on_message<S: Store>(&mut self, from: MemberKey, msg: ShardMsg, env: &mut Env<S>) {
        match msg.kind {
            ShardKind::MapUpdate { entries } => {
                for entry in entries.into_iter().filter(|entry| entry.shard.0 < env.settings.shards) {
                    let shard = entry.shard;
                    if env.shared.learn(entry)
                        && let Some(replica) = self.replicas.get_mut(&shard)
                    {
                        replica.wake(env.now.mono, env);
                    }
                }
            }
            ShardKind::MapRequest { ref shards } if shards.is_empty() => {
                let entries = env.shared.map.values().cloned().collect();
                let update = ShardKind::MapUpdate { entries };
                env.send(&from, message(msg.shard, 0, Ballot::ZERO, update));
            }
            _ if msg.shard.0 < env.settings.shards => {
                let replica = self.replicas.entry(msg.shard).or_insert_with(|| Replica::empty(msg.shard));
                replica.on_message(from, msg, env);
            }
            _ => {}
        }
    }

    /// Puts a client's operation to work.
    pub fn on_operation<S: Store>(&mut self, token: Token, operation: Operation, deadline: Nanos, env: &mut Env<S>) {
        env.shared.operations += 1;
        if env.shared.operations > env.settings.operations_in_flight_max {
            return env.answer(token, Outcome::Overloaded(Nanos::from_millis(100)));
        }
        if let Operation::Scan { shard, after, limit } = operation {
            if shard.0 >= env.settings.shards || limit == 0 {
                let text = format!("shard must be below {} and limit at least 1", env.settings.shards);
                return env.answer(token, Outcome::Invalid(text));
            }
            let scan = PendingScan { token, after, limit, deadline };
            return match self.replicas.get_mut(&shard).filter(|replica| replica.meta.installed) {
                Some(replica) => replica.submit_scan(scan, env),
                None => {
                    let outcome = env.redirect(shard);
                    env.answer(token, outcome);
                }
            };
        }
        let stale_ok = matches!(operation, Operation::Get { stale_ok: true, .. });
        let Some((key, op)) = KeyOp::from_operation(operation) else {
            return env.answer(token, Outcome::Invalid("not an operation on a key".into()));
        };
        if let Some(outcome) = refuse(&key, &op, env.settings) {
            return env.answer(token, outcome);
        }
        if env.disk_full && op.grows() {
            return env.answer(token, Outcome::DiskFull);
        }
        let shard = ShardId::of(crate::id::Id::of_key(&key), env.settings.shards);
        let Some(replica) = self.replicas.get_mut(&shard).filter(|replica| replica.meta.installed) else {
            let outcome = env.redirect(shard);
            return env.answer(token, outcome);
        };
        if stale_ok {
            let record = env.store.get(shard, &key);
            let outcome = match ops::evaluate(&KeyOp::Get, record.as_ref(), env.now.wall_ms) {
                ops::Verdict::Answer(outcome) => outcome,
                _ => Outcome::Value(None),
            };
            return env.answer(token, outcome);
        }
        replica.submit(Pending { token: Some(token), key, op, deadline }, env);
    }

    /// Does what time demands.
    pub fn tick<S: Store>(&mut self, env: &mut Env<S>) {
        while let Some((at, shard)) = env.shared.timers.first().copied().filter(|(at, _)| *at <= env.now.mono) {
            env.shared.timers.remove(&(at, shard));
            if let Some(replica) = self.replicas.get_mut(&shard) {
                replica.wake_at = None;
                replica.on_wake(env);
            }
        }
        if env.now.mono >= self.next_sweep {
            self.next_sweep = env.now.mono + SWEEP;
            self.sweep(env);
        }
        if env.now.mono >= self.next_moves && !env.shared.want_move.is_empty() {
            self.next_moves = env.now.mono + MOVES_LOOK;
            self.start_moves(env);
        }
    }

    /// When `tick` has something to do.
    pub fn next_deadline(&self, shared: &Shared) -> Nanos {
        let moves = if shared.want_move.is_empty() { self.next_sweep } else { self.next_moves };
        let timer = shared.timers.first().map_or(self.next_sweep, |(at, _)| *at);
        self.next_sweep.min(moves).min(timer)
    }

    fn sweep<S: Store>(&mut self, env: &mut Env<S>) {
        let deadline = env.now.mono + Nanos::from_millis(5000);
        for expiry in env.store.expiring(env.now.wall_ms, SWEEP_MAX) {
            if let Some(replica) = self.replicas.get_mut(&expiry.shard)
                && replica.lead().is_some_and(|lead| !lead.flights.contains_key(&expiry.key))
            {
                replica.submit(Pending { token: None, key: expiry.key, op: KeyOp::Expire, deadline }, env);
            }
        }
    }

    fn start_moves<S: Store>(&mut self, env: &mut Env<S>) {
        let from = self.moves_cursor.map_or(ShardId(0), |last| ShardId(last.0 + 1));
        let wanted: Vec<ShardId> = env
            .shared
            .want_move
            .range(from..)
            .chain(env.shared.want_move.range(..from))
            .copied()
            .take(MOVES_TRIED_MAX)
            .collect();
        for shard in wanted {
            if env.shared.moving.len() >= env.settings.moves_in_flight_max {
                break;
            }
            self.moves_cursor = Some(shard);
            env.shared.want_move.remove(&shard);
            if let Some(replica) = self.replicas.get_mut(&shard) {
                replica.start_move(env);
            }
        }
    }

    /// The ring proposes anew; `eligible` says who may hold data.
    pub fn replace_all<'a, S: Store>(
        &mut self,
        eligible: impl Iterator<Item = &'a crate::member::Member>,
        env: &mut Env<S>,
    ) {
        let placement = Placement::new(eligible, env.settings.shards, env.settings.replication_factor);
        if placement == env.shared.placement {
            return;
        }
        env.shared.placement = placement;
        for replica in self.replicas.values_mut() {
            replica.want_move(env);
        }
    }

    /// A peer went down or came back: leadership may have to move.
    pub fn on_liveness<S: Store>(&mut self, peer: MemberKey, up: bool, env: &mut Env<S>) {
        let soon = env.now.mono;
        for replica in self.replicas.values_mut().filter(|replica| replica.meta.installed) {
            if replica.meta.config.index_of(&peer).is_none() {
                continue;
            }
            if !up || replica.leader.is_none() {
                replica.wake(soon, env);
            } else if let Some(lead) = replica.lead() {
                // It may have missed writes: compare, spread over a while.
                let at = env.jittered(Nanos::from_millis(200), Nanos::from_millis(2000));
                lead.compare.next_at = lead.compare.next_at.min(at);
                replica.wake(at, env);
            }
        }
    }

    /// Lets others lead until `until`.
    pub fn rest<S: Store>(&mut self, until: Nanos, env: &mut Env<S>) {
        env.shared.resting_until = until;
        for replica in self.replicas.values_mut() {
            replica.hand_over(env);
        }
    }

    /// Whether every shard that should be here is.
    pub fn has_all_desired<S: Store>(&self, env: &Env<S>) -> bool {
        env.shared.map.len() as u32 == env.settings.shards
            && env.shared.map.iter().all(|(shard, entry)| {
                let desired = env.shared.placement.of(*shard).contains(&env.me);
                let here = self
                    .replicas
                    .get(shard)
                    .is_some_and(|replica| replica.meta.installed && replica.meta.config.epoch >= entry.config.epoch);
                !desired || here
            })
    }

    /// Asks to be let go where a configuration with this node may still come.
    pub fn ask_release<S: Store>(&mut self, env: &mut Env<S>) {
        for replica in self.replicas.values_mut() {
            replica.ask_release(env);
        }
    }

    /// Whether nothing of the ring's data is the business of this node any more.
    pub fn is_empty_handed(&self, me: &MemberKey, shared: &Shared) -> bool {
        let rid =
            |replica: &Replica| !replica.meta.installed && replica.closing.is_none() && !replica.is_expected(shared);
        self.replicas.values().all(rid) && shared.map.values().all(|entry| entry.config.index_of(me).is_none())
    }

    /// Adds what the shards know to a status.
    pub fn status<S: Store>(
        &self,
        store: &S,
        me: &MemberKey,
        view: &View,
        up: impl Fn(&MemberKey) -> bool,
        shared: &Shared,
        wanted: usize,
    ) -> Status {
        let mut status = Status { counters: shared.counters, ..Status::default() };
        let serving = view.current().filter(|member| member.state.is_eligible()).count();
        for replica in self.replicas.values().filter(|replica| replica.meta.installed) {
            let digest = store.digest(replica.shard);
            let config = &replica.meta.config;
            if config.index_of(me).is_none() || replica.outdated_since.is_some() {
                status.shards_retiring += 1;
                continue;
            }
            status.shards_held += 1;
            status.keys_held += digest.keys;
            status.bytes_held += digest.bytes;
            match &replica.leader {
                Some(leader) if !matches!(leader.phase, Phase::Preparing { .. }) => {
                    status.shards_led += 1;
                    status.keys_led += digest.keys;
                    status.bytes_led += digest.bytes;
                    let present =
                        leader.config.members.iter().filter(|member| up(member) && leader.installed.contains(member));
                    if present.count() < wanted.min(serving) {
                        status.shards_under_replicated += 1;
                    }
                    let desired = shared.placement.of(replica.shard);
                    if !desired.is_empty() && desired != leader.config.members.as_slice() {
                        status.shards_pending += 1;
                    }
                }
                _ => {
                    // Whoever it promised to follow; nobody has asked since the configuration is new or the start.
                    let promised = replica.meta.promised;
                    let led = (promised != Ballot::ZERO)
                        .then(|| config.members.get(promised.index()))
                        .flatten()
                        .filter(|member| *member != me && up(member));
                    if led.is_none() {
                        status.shards_unavailable += 1;
                    }
                }
            }
        }
        status.shards_moving = shared.moving.len() as u32;
        status
    }

    /// Members that matter to this node's shards.
    pub fn partners(&self) -> impl Iterator<Item = MemberKey> {
        self.replicas
            .values()
            .filter(|replica| replica.meta.installed)
            .flat_map(|replica| replica.meta.config.members.iter().copied())
    }
}

impl Replica {
    /// Looks after everything that is under way, and plans the next look.
    fn on_wake<S: Store>(&mut self, env: &mut Env<S>) {
        self.poll_newer(env);
        self.tell_loss(env);
        self.depose_in_minority(env);
        self.consider(env);
        self.retry(env);
        self.retry_move(env);
        self.retry_compare(env);
        if !self.may_serve(env) {
            self.redirect_pending(env);
        }
        // Those who wait for a leader here are woken by its election.
        let (now, closing) = (env.now.mono, self.closing.is_some());
        let next = match &mut self.leader {
            None => closing.then(|| now + BUSY_LOOK),
            Some(leader) => {
                let missing = leader.config.members.iter().any(|m| !leader.installed.contains(m) && env.is_up(m));
                match &mut leader.phase {
                    Phase::Leading(lead) if !lead.is_busy() && !closing => {
                        let compare_at = lead.compare.next_at;
                        Some(if missing { compare_at.min(now + Nanos::from_millis(1000)) } else { compare_at })
                    }
                    Phase::Leading(_) | Phase::Preparing { .. } | Phase::Sealing(_) => Some(now + BUSY_LOOK),
                }
            }
        };
        if let Some(at) = next {
            self.wake(at, env);
        }
    }
}
