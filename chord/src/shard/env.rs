//! What a shard sees of its node while it handles one thing.
use crate::{
    core::Counters,
    health::Health,
    io::{Event, Outcome, Output, Token},
    member::{MemberKey, NodeRef, View},
    msg::{MapEntry, ShardKind, ShardMsg},
    outbox::{Out, Outbox},
    rules::Rule,
    settings::Settings,
    shard::{
        config::{Ballot, Config, ShardId},
        placement::Placement,
        record::Record,
    },
    store::{Change, Store},
    time::{Nanos, Now},
};
use rand::{Rng, RngExt as _};
use std::collections::{BTreeMap, BTreeSet};

/// State that all shards of a node share.
#[derive(Clone, Hash, Default)]
pub(crate) struct Shared {
    /// Newest configuration known of each shard, and who leads it.
    pub map: BTreeMap<ShardId, MapEntry>,
    /// Sum over the map: equal for equal maps.
    pub map_hash: u64,
    /// Whom the ring proposes.
    pub placement: Placement,
    /// When to look at which shard again.
    pub timers: BTreeSet<(Nanos, ShardId)>,
    /// Led shards whose configuration is not the desired one, not being moved yet.
    pub want_move: BTreeSet<ShardId>,
    /// Moves under way, with their bytes.
    pub moving: BTreeMap<ShardId, u64>,
    /// Client operations not answered yet.
    pub operations: usize,
    /// Until then this node takes no leadership: it is about to restart.
    pub resting_until: Nanos,
    pub counters: Counters,
}

impl Shared {
    /// Takes in what somebody knows about a shard; says whether its configuration is newer.
    pub fn learn(&mut self, entry: MapEntry) -> bool {
        let known = self.map.get(&entry.shard);
        let newer = known.is_none_or(|known| known.config.epoch < entry.config.epoch);
        let same = known.is_some_and(|known| known.config.epoch == entry.config.epoch);
        if newer {
            let before = known.map_or(0, |known| map_summand(entry.shard, known.config.epoch));
            self.map_hash =
                self.map_hash.wrapping_sub(before).wrapping_add(map_summand(entry.shard, entry.config.epoch));
            self.map.insert(entry.shard, entry);
        } else if same
            && entry.leader.is_some()
            && let Some(known) = self.map.get_mut(&entry.shard)
        {
            known.leader = entry.leader;
        }
        newer
    }

    /// Bytes of all moves under way.
    pub fn moving_bytes(&self) -> u64 {
        self.moving.values().sum()
    }
}

fn map_summand(shard: ShardId, epoch: u64) -> u64 {
    // SplitMix64: shards and epochs are small numbers, their sum must not collide.
    let mut x = (u64::from(shard.0) << 40) ^ epoch;
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// The node around a shard.
pub(crate) struct Env<'a, S: Store> {
    pub now: Now,
    pub rng: &'a mut dyn Rng,
    pub store: &'a mut S,
    pub view: &'a View,
    pub me: MemberKey,
    pub health: &'a Health,
    pub settings: &'a Settings,
    pub outbox: &'a mut Outbox,
    pub shared: &'a mut Shared,
    pub disk_full: bool,
}

impl<S: Store> Env<'_, S> {
    /// Whether a safety rule is in force. It is, outside of tests of the rule itself.
    pub fn holds(&self, rule: Rule) -> bool {
        self.settings.holds(rule)
    }

    /// Whether a record counts. It does, even when its time has ended: it must become a tombstone first.
    pub fn shows(&self, record: &Record) -> bool {
        self.holds(Rule::ExpireByTombstone) || !record.has_ended(self.now.wall_ms)
    }

    /// Applies a batch; what is sent as durable from now on waits for it.
    pub fn write(&mut self, changes: Vec<Change>) {
        let seq = self.store.write(changes);
        self.outbox.on_written(seq);
    }

    /// Whether the node may count on a member now. It counts on itself, and on nobody it has not heard of.
    pub fn is_up(&self, member: &MemberKey) -> bool {
        *member == self.me || (self.view.get(member).is_some() && self.health.is_up(member))
    }

    /// Whether this node is on its way out of the ring: it takes nothing on any more.
    pub fn is_leaving(&self) -> bool {
        self.view.get(&self.me).is_some_and(|member| !member.state.is_eligible())
    }

    fn out(&self, to: &MemberKey, message: ShardMsg) -> Option<Out> {
        if *to == self.me {
            return Some(Out::Local(message));
        }
        let to = self.view.get(to)?.node.clone();
        Some(Out::Shell(Output::Shard { to, message }))
    }

    /// Sends at once.
    pub fn send(&mut self, to: &MemberKey, message: ShardMsg) {
        if let Some(out) = self.out(to, message) {
            self.outbox.push(out);
        }
    }

    /// Sends once everything written so far is durable.
    pub fn send_durable(&mut self, to: &MemberKey, message: ShardMsg) {
        if !self.holds(Rule::PersistFirst) {
            return self.send(to, message);
        }
        if let Some(out) = self.out(to, message) {
            self.outbox.push_durable(out);
        }
    }

    /// Answers a client.
    pub fn answer(&mut self, token: Token, outcome: Outcome) {
        match &outcome {
            Outcome::Value(_) => self.shared.counters.gets += 1,
            Outcome::Written(_) | Outcome::Compared { .. } => self.shared.counters.puts += 1,
            Outcome::Deleted(_) => self.shared.counters.deletes += 1,
            _ => {}
        }
        self.shared.operations = self.shared.operations.saturating_sub(1);
        self.outbox.push(Out::Shell(Output::Client { token, outcome }));
    }

    /// Tells people.
    pub fn event(&mut self, kind: &'static str, shard: ShardId, message: String) {
        let subject = self.view.get(&self.me).map(|member| member.node.clone());
        self.outbox.push(Out::Shell(Output::Event(Event { kind, subject, shard: Some(shard), message })));
    }

    /// Who should be asked about a shard, as far as this node knows; never itself.
    pub fn leader_hint(&self, shard: ShardId) -> Option<NodeRef> {
        let entry = self.shared.map.get(&shard)?;
        let led = entry.leader.and_then(|index| entry.config.members.get(index as usize));
        let first_up = entry.config.members.iter().find(|member| **member != self.me && self.is_up(member));
        let hint = led.filter(|member| **member != self.me && self.is_up(member)).or(first_up)?;
        Some(self.view.get(hint)?.node.clone())
    }

    /// "No effect; ask there", or "ask again" when nobody is known.
    pub fn redirect(&self, shard: ShardId) -> Outcome {
        match self.leader_hint(shard) {
            Some(node) => Outcome::NotLeader(Some(node)),
            None => Outcome::Unavailable("no live leader of the shard is known here; ask again"),
        }
    }

    /// Tells the others about a configuration: all of a small ring, some of a large one (gossip does the rest).
    pub fn announce(&mut self, entry: MapEntry) {
        const FAN_OUT: usize = 32;
        let mut others: Vec<MemberKey> =
            self.view.current().map(|member| member.node.key).filter(|key| *key != self.me).collect();
        while others.len() > FAN_OUT {
            others.swap_remove(self.rng.random_range(0..others.len()));
        }
        let (shard, epoch) = (entry.shard, entry.config.epoch);
        for other in others {
            let update = ShardKind::MapUpdate { entries: vec![entry.clone()] };
            self.send(&other, message(shard, epoch, Ballot::ZERO, update));
        }
    }

    /// A moment up to `spread` after `delay` from now.
    pub fn jittered(&mut self, delay: Nanos, spread: Nanos) -> Nanos {
        self.now.mono + delay + Nanos(self.rng.random_range(0..=spread.0))
    }
}

/// A message about a shard.
pub(crate) fn message(shard: ShardId, epoch: u64, ballot: Ballot, kind: ShardKind) -> ShardMsg {
    ShardMsg { shard, epoch, ballot, kind }
}

/// Whether most members are up. Without them nobody can be elected, and an attempt would do harm later: its higher ballot
/// may arrive when a cut heals, and end the leadership of those who went on meanwhile.
pub(crate) fn majority_is_up<S: Store>(config: &Config, env: &Env<S>) -> bool {
    config.members.iter().filter(|member| env.is_up(member)).count() >= config.majority()
}

/// The first member that is up, as long as a majority is: it should lead.
pub(crate) fn candidate<S: Store>(config: &Config, env: &Env<S>) -> Option<MemberKey> {
    if !majority_is_up(config, env) {
        return None;
    }
    let resting = env.now.mono < env.shared.resting_until;
    config.members.iter().copied().find(|member| if *member == env.me { !resting } else { env.is_up(member) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_summed_by_splitmix64() {
        // Its first two outputs from 0, as in its reference implementation.
        assert_eq!(map_summand(ShardId(0), 0x9e37_79b9_7f4a_7c15), 0xe220_a839_7b1d_cdaf);
        assert_eq!(map_summand(ShardId(0), 0x3c6e_f372_fe94_f82a), 0x6e78_9e6a_a1b9_65f4);
        assert_eq!(
            map_summand(ShardId(3), 1 << 40 | 5),
            map_summand(ShardId(0), 2 << 40 | 5),
            "shard and epoch are mixed"
        );
    }

    #[test]
    fn only_what_is_newer_is_news_and_what_is_older_names_no_leader() {
        let entry = |epoch, leader| MapEntry { shard: ShardId(1), config: Config { epoch, members: vec![] }, leader };
        let mut shared = Shared::default();
        assert!(shared.learn(entry(5, Some(1))));
        let hash = shared.map_hash;
        for (told, leads) in [(entry(5, None), 1), (entry(4, Some(2)), 1), (entry(5, Some(0)), 0)] {
            assert!(!shared.learn(told), "it is known already");
            assert_eq!((shared.map[&ShardId(1)].leader, shared.map_hash), (Some(leads), hash));
        }
    }

    #[test]
    fn moves_under_way_are_summed() {
        let moving = [(ShardId(1), 30), (ShardId(2), 12)].into();
        assert_eq!(Shared { moving, ..Shared::default() }.moving_bytes(), 42);
    }
}
