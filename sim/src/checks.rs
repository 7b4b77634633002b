//! What must hold at every moment, and what must hold again once everything is healed.
use crate::{
    disk::{Disk, MemStore},
    trace::Trace,
    workload::Asked,
    world::World,
};
use bytes::Bytes;
use chord::{
    Core,
    id::{Id, between},
    io::{Event, Outcome},
    member::{MemberKey, MemberState},
    shard::{
        config::{ReplicaMeta, ShardId},
        record::{Record, Version},
    },
    store::Change,
};
use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    rc::Rc,
};

/// Invariants over everything that is written and answered.
#[derive(Default)]
pub struct Watch {
    /// The first thing that was wrong.
    pub failure: Option<String>,
    /// Every disk there ever was.
    pub disks: BTreeMap<MemberKey, Rc<RefCell<Disk>>>,
    /// Members of every configuration that was installed or adopted.
    configs: BTreeMap<(ShardId, u64), Vec<MemberKey>>,
    metas: BTreeMap<(MemberKey, ShardId), ReplicaMeta>,
    versions: HashMap<(ShardId, Bytes, Version), Record>,
    records: HashMap<(MemberKey, ShardId, Bytes), Record>,
}

impl Watch {
    /// Notes the first failure.
    pub fn fail(&mut self, text: String) {
        self.failure.get_or_insert(text);
    }

    /// A node starts anew: what it had not synced may be forgotten.
    pub fn forget(&mut self, owner: MemberKey) {
        self.metas.retain(|(of, _), _| *of != owner);
        self.records.retain(|(of, _, _), _| *of != owner);
        let Some(disk) = self.disks.get(&owner) else { return };
        for (shard, data) in &disk.borrow().current.shards {
            if let Some(meta) = &data.meta {
                self.metas.insert((owner, *shard), meta.clone());
            }
        }
    }

    /// What a step wrote.
    pub fn on_changes(&mut self, index: usize, owner: MemberKey, changes: &[Change], trace: &mut Trace) {
        for change in changes {
            match change {
                Change::Meta(shard, meta) => self.on_meta(index, owner, *shard, meta, trace),
                Change::Put { shard, key, record } => self.on_put(index, owner, *shard, key, record, trace),
                Change::Drop { .. } => trace.sometimes("tombstone dropped"),
                Change::Clear(_) | Change::Node(_) => {}
            }
        }
    }

    fn on_meta(&mut self, index: usize, owner: MemberKey, shard: ShardId, meta: &ReplicaMeta, trace: &mut Trace) {
        let config = &meta.config;
        let is_new = !self.configs.contains_key(&(shard, config.epoch));
        if is_new && let Some(left) = config.members.iter().find(|member| self.has_left(member)) {
            return self.fail(format!("shard {} moves to {left:?}, which had left before", shard.0));
        }
        let known = self.configs.entry((shard, config.epoch)).or_insert_with(|| config.members.clone());
        if *known != config.members {
            let text = format!(
                "shard {} has two configurations {}: {known:?} and {:?}",
                shard.0, config.epoch, config.members
            );
            return self.fail(text);
        }
        if let Some(before) = self.metas.insert((owner, shard), meta.clone()) {
            let same = before.config.epoch == config.epoch;
            let held = same && before.installed && meta.installed;
            if before.config.epoch > config.epoch {
                self.fail(format!(
                    "n-{index} went back from configuration {} of shard {} to {}",
                    before.config.epoch, shard.0, config.epoch
                ));
            } else if same && before.promised > meta.promised {
                self.fail(format!(
                    "n-{index} broke its promise {:?} of shard {}: now {:?}",
                    before.promised, shard.0, meta.promised
                ));
            } else if same && before.installed && !meta.installed {
                self.fail(format!("n-{index} forgot that it holds shard {}", shard.0));
            }
            if let (Some(old), Some(new), true) = (&before.seal, &meta.seal, held) {
                if old.ballot < new.ballot && old.ballot.index() != new.ballot.index() {
                    trace.sometimes(if old.next == new.next {
                        "seal finished by another leader"
                    } else {
                        "rival seals"
                    });
                }
            } else if before.seal.is_some() && meta.seal.is_none() && held {
                trace.sometimes("undecided seal lifted");
            }
            if before.installed && !same && !meta.installed {
                trace.sometimes("ex-member retired");
            }
        }
    }

    fn on_put(
        &mut self,
        index: usize,
        owner: MemberKey,
        shard: ShardId,
        key: &Bytes,
        record: &Record,
        trace: &mut Trace,
    ) {
        let one = (shard, key.clone(), record.version);
        let known = self.versions.entry(one).or_insert_with(|| record.clone());
        if known != record {
            let text =
                format!("n-{index} stores another record under a version that is taken: {known:?} and {record:?}");
            return self.fail(text);
        }
        if record.version.seq == 0 {
            trace.sometimes("key settled by a new leader");
        }
        let before = self.records.insert((owner, shard, key.clone()), record.clone());
        if let Some(before) = before
            && before.expires_at_ms.is_some()
            && before.is_live()
            && !record.is_live()
            && before.recent == record.recent
        {
            trace.sometimes("expired");
            if before.version.ballot != record.version.ballot || before.version.epoch != record.version.epoch {
                trace.sometimes("ttl tombstone by new leader");
            }
        }
    }

    /// What a node tells people.
    pub fn on_event(&mut self, event: &Event, trace: &mut Trace) {
        let name = match event.kind {
            "move" => "shard moved",
            "rejoin" => "orphan rejoins",
            "join-refused" => "join refused",
            "suspect" => "member suspected",
            "alive" => "suspect answers again",
            _ => return,
        };
        trace.sometimes(name);
    }

    /// A write that is acknowledged must be on the disks of a majority at that very moment.
    pub fn on_answer(&mut self, asked: Option<Asked>, outcome: &Outcome, trace: &mut Trace) {
        let Some(Asked { key, retry }) = asked else { return };
        let version = match outcome {
            Outcome::Written(version) | Outcome::Compared { applied: true, revision: Some(version) } => *version,
            _ => return,
        };
        // The answer to a retry may tell of a write of long ago, whose disks may be lost or hold newer configurations.
        if retry {
            return;
        }
        let shards = self.configs.keys().map(|(shard, _)| shard.0 + 1).max().unwrap_or(1).next_power_of_two();
        let shard = ShardId::of(Id::of_key(&key), shards);
        let Some(members) = self.configs.get(&(shard, version.epoch)) else {
            return self.fail(format!("a write was acknowledged under an unknown configuration: {version:?}"));
        };
        let holds = |member: &&MemberKey| {
            let Some(disk) = self.disks.get(*member).map(|disk| disk.borrow()) else { return false };
            let Some(data) = disk.durable.shards.get(&shard) else { return false };
            let epoch = data.meta.as_ref().map_or(0, |meta| meta.config.epoch);
            // Of a rotten copy nobody can say what was in it; all others must do.
            data.rotten
                || epoch > version.epoch
                || data.records.get(&key).is_some_and(|record| record.version >= version)
        };
        let count = members.iter().filter(holds).count();
        if count <= members.len() / 2 {
            self.fail(format!(
                "{version:?} of {key:?} was acknowledged, but only {count} of {} disks have it",
                members.len()
            ));
        }
        trace.sometimes("write acknowledged");
    }

    /// Whether a member has left in good order, durably.
    fn has_left(&self, member: &MemberKey) -> bool {
        let Some(disk) = self.disks.get(member).map(|disk| disk.borrow()) else { return false };
        disk.durable.node.as_ref().is_some_and(|kept| kept.node.state == MemberState::Left)
    }

    /// What anybody believes about a member, the member is sure to remember itself, at every moment.
    pub fn on_view(&mut self, core: &Core<MemStore>) {
        let others = core.view().iter().filter(|member| member.node.key != core.me().key);
        for member in others.filter(|member| member.state != MemberState::Evicted) {
            let Some(disk) = self.disks.get(&member.node.key) else { continue };
            let said = (member.revision, member.state);
            let kept = disk.borrow().durable.node.as_ref().map(|kept| (kept.node.revision, kept.node.state));
            if kept.is_none_or(|kept| kept < said) {
                let (name, other) = (&core.me().name, &member.node.name);
                return self.fail(format!("{name} believes {said:?} of {other}, which keeps {kept:?} itself"));
            }
        }
    }

    /// Successor lists are in order, without repetitions and without the node itself, at every moment.
    pub fn on_ring(&mut self, core: &Core<MemStore>) {
        let neighbours = core.neighbours();
        let me = core.me().id();
        let ids: Vec<Id> = neighbours.successors.iter().map(|node| node.id()).collect();
        let ordered = ids.windows(2).all(|pair| between(me, pair[0], pair[1]));
        let distinct = ids.iter().all(|id| *id != me);
        if !ordered || !distinct || ids.len() > core.settings().successor_list_length {
            self.fail(format!("successor list of {} is out of order: {ids:?}", core.me().name));
        }
        if neighbours.predecessor.is_some_and(|predecessor| predecessor.id() == me) {
            self.fail(format!("{} is its own predecessor", core.me().name));
        }
    }
}

/// Whether the cluster is as it should be when nothing fails any more; says what is not.
///
/// # Errors
/// The first thing that is not as it should be.
pub fn converged(world: &World) -> Result<(), String> {
    let mut members: Vec<&Core<MemStore>> = Vec::new();
    for node in world.nodes.iter().filter(|node| !node.removed) {
        match &node.core {
            Some(core) if core.state() == MemberState::Serving => members.push(core),
            Some(core) => {
                return Err(format!("{} is {:?}: {}", node.me.name, core.state(), core.status().leave_blocked));
            }
            None => return Err(format!("{} is down", node.me.name)),
        }
    }
    members.sort_by_key(|core| core.me().id());
    let keys: Vec<MemberKey> = members.iter().map(|core| core.me().key).collect();
    let count = keys.len();
    for (place, core) in members.iter().enumerate() {
        let name = &core.me().name;
        let neighbours = core.neighbours();
        let length = core.settings().successor_list_length.min(count - 1);
        let expected: Vec<MemberKey> = (1..=length).map(|step| keys[(place + step) % count]).collect();
        let successors: Vec<MemberKey> = neighbours.successors.iter().map(|node| node.key).collect();
        if successors != expected {
            return Err(format!("successors of {name} are {successors:?}, not {expected:?}"));
        }
        let predecessor = neighbours.predecessor.map(|node| node.key);
        let before = (count > 1).then(|| keys[(place + count - 1) % count]);
        if predecessor != before {
            return Err(format!("predecessor of {name} is {predecessor:?}, not {before:?}"));
        }
        let view: Vec<MemberKey> = core.view().current().map(|member| member.node.key).collect();
        if view != keys {
            return Err(format!("{name} sees members {view:?}, not {keys:?}"));
        }
        let status = core.status();
        let open = [
            ("under-replicated", status.shards_under_replicated),
            ("pending", status.shards_pending),
            ("moving", status.shards_moving),
            ("unavailable", status.shards_unavailable),
            ("retiring", status.shards_retiring),
        ];
        if let Some((what, number)) = open.iter().find(|(_, number)| *number > 0) {
            return Err(format!("{name} has {number} {what} shards"));
        }
    }
    let shards = world.options.settings.shards;
    let led: u32 = members.iter().map(|core| core.status().shards_led).sum();
    if led != shards {
        return Err(format!("{led} of {shards} shards are led"));
    }
    for shard in (0..shards).map(ShardId) {
        let point = shard.point(shards);
        let first = keys.iter().position(|key| key.id >= point).unwrap_or(0);
        let held = world.options.settings.replication_factor.min(count);
        let expected: Vec<MemberKey> = (0..held).map(|step| keys[(first + step) % count]).collect();
        for core in &members {
            let map = core.shard_map();
            let entry = map.iter().find(|entry| entry.shard == shard);
            if entry.is_none_or(|entry| entry.config.members != expected) {
                return Err(format!("{} believes {entry:?} about shard {}, not {expected:?}", core.me().name, shard.0));
            }
        }
        let mut copies = Vec::new();
        for core in &members {
            let disk = core.store().0.borrow();
            let data = disk.current.shards.get(&shard);
            if expected.contains(&core.me().key) {
                copies.push(data.map(|data| data.records.clone()).unwrap_or_default());
            } else if data.is_some_and(|data| !data.records.is_empty()) {
                return Err(format!("{} still keeps records of shard {}", core.me().name, shard.0));
            }
        }
        if copies.windows(2).any(|pair| pair[0] != pair[1]) {
            return Err(format!("the copies of shard {} differ", shard.0));
        }
    }
    Ok(())
}

/// The cluster in words, one line per node and shard.
pub fn describe(world: &World) -> String {
    let mut text = String::new();
    let name = |key: &MemberKey| {
        let known = world.nodes.iter().find(|node| node.me.key == *key);
        known.map_or_else(|| format!("{key:?}"), |node| node.me.name.clone())
    };
    let names = |keys: &[MemberKey]| keys.iter().map(name).collect::<Vec<_>>().join(" ");
    for node in &world.nodes {
        let Some(core) = &node.core else {
            text += &format!("{}: down, removed: {}\n", node.me.name, node.removed);
            continue;
        };
        let neighbours = core.neighbours();
        let keys: Vec<MemberKey> = neighbours.successors.iter().map(|node| node.key).collect();
        let view: Vec<String> = core.view().iter().map(|m| format!("{} {:?}", name(&m.node.key), m.state)).collect();
        text += &format!(
            "{}: {:?}, on the ring: {}, successors {}, predecessor {:?}, view [{}], {:?}\n",
            node.me.name,
            core.state(),
            neighbours.member,
            names(&keys),
            neighbours.predecessor.map(|node| node.name),
            view.join(", "),
            core.status()
        );
        for entry in core.shard_map() {
            let meta = node.disk.borrow().current.shards.get(&entry.shard).and_then(|data| data.meta.clone());
            text += &format!(
                "    shard {}: {} [{}] led by {:?}",
                entry.shard.0,
                entry.config.epoch,
                names(&entry.config.members),
                entry.leader
            );
            if let Some(meta) = meta {
                text += &format!(
                    "; here {} [{}] installed: {}, promised {:?}, seal {:?}",
                    meta.config.epoch,
                    names(&meta.config.members),
                    meta.installed,
                    meta.promised,
                    meta.seal.map(|seal| (seal.ballot, names(&seal.next.members)))
                );
            }
            text.push('\n');
        }
    }
    text
}
