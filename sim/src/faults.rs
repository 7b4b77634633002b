//! What goes wrong, and the operator who scales, replaces and evicts as the real one would.
use crate::{
    clock::{MS, SECOND},
    disk::{Disk, MemStore, ShardData},
    world::{Event, RING, World},
};
use chord::{
    Core,
    io::AdminAction,
    member::{MemberKey, MemberState},
    rules::Rule,
    shard::config::ShardId,
    time::Nanos,
};
use rand::RngExt as _;
use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

/// Time between looks of the operator.
const LOOK: u64 = 500 * MS;
/// Most machines of a run.
const NODES_MAX: usize = 9;
/// Longest time a process is frozen. Less than tombstones outlive the oldest retry: that margin is what the
/// protocol allows a client's request for its way.
const PAUSE_MAX: u64 = 3 * SECOND;

/// A fault's beginning or end.
#[derive(Debug)]
pub enum Fault {
    /// Draw the next one.
    Next,
    /// A process starts again.
    Restart(usize),
    /// A process ends although it was about to restart in good order.
    Stop(usize),
    /// A cut ends.
    Mend(BTreeSet<(usize, usize)>),
    /// Messages get through again.
    Quiet,
    /// A disk has room again.
    Room(usize),
}

/// What the operator has under way.
#[derive(Debug, Default)]
pub struct Operator {
    /// No new faults from then on.
    pub faults_until: u64,
    leaving: BTreeSet<usize>,
    /// Members that are gone for good: whoever does not know is told.
    lost: Vec<MemberKey>,
}

#[derive(Clone, Copy)]
enum Draw {
    Kill,
    KillAll,
    Pause,
    Partition,
    OneWay,
    Loss,
    Reset,
    Stall,
    Full,
    Skew,
    Wipe,
    Rot,
    Grow,
    Leave,
    Rest,
}

impl World {
    /// Founds the ring and lets the others join.
    pub fn boot(&mut self) {
        for index in 0..self.nodes.len() {
            self.start(index);
        }
        self.admin(0, AdminAction::Bootstrap { ring_id: RING });
        self.plan(self.now + 10 * MS, Event::Operator);
    }

    /// The operator's look: joins what is empty, evicts what is lost, removes what has left.
    pub fn operate(&mut self) {
        self.plan(self.now + LOOK, Event::Operator);
        for index in 0..self.nodes.len() {
            let node = &self.nodes[index];
            let Some(state) = node.core.as_ref().map(|core| core.state()).filter(|_| node.paused_until <= self.now)
            else {
                continue;
            };
            match state {
                MemberState::Empty => {
                    let others = (0..self.nodes.len()).filter(|other| *other != index && !self.nodes[*other].removed);
                    let seeds: Vec<String> = others.map(|other| self.nodes[other].me.internal_addr.clone()).collect();
                    if !seeds.is_empty() {
                        self.admin(index, AdminAction::Join { seeds, ring_id: Some(RING) });
                    }
                }
                // It may have forgotten a wish that it never acknowledged.
                MemberState::Serving | MemberState::Joining if self.operator.leaving.contains(&index) => {
                    self.admin(index, AdminAction::Leave);
                }
                MemberState::Leaving if !self.operator.leaving.contains(&index) => {
                    self.admin(index, AdminAction::AbortLeave);
                }
                MemberState::Left
                    if node.disk.borrow().durable.node.as_ref().is_some_and(|kept| kept.node.state.is_final()) =>
                {
                    self.trace.sometimes("member left");
                    self.operator.leaving.remove(&index);
                    // Its last word may not have reached everybody.
                    self.operator.lost.push(self.nodes[index].me.key);
                    self.kill(index, false);
                    self.nodes[index].removed = true;
                }
                MemberState::Evicted => {
                    self.watch.fail(format!("n-{index} was evicted, but its disk is there"));
                }
                _ => {}
            }
        }
        self.evict();
    }

    /// Whether a member that is gone for good is still counted on by somebody.
    fn is_recovering(&self) -> bool {
        let believes =
            |core: &Core<MemStore>, lost| core.view().get(lost).is_some_and(|member| !member.state.is_final());
        let cores = || self.nodes.iter().filter(|node| !node.removed).map(|node| node.core.as_ref());
        self.operator.lost.iter().any(|lost| cores().any(|core| core.is_none_or(|core| believes(core, lost))))
    }

    fn evict(&mut self) {
        for lost in self.operator.lost.clone() {
            let believes = |index: &usize| {
                let core = self.nodes[*index].core.as_ref();
                core.is_some_and(|core| core.view().get(&lost).is_some_and(|member| !member.state.is_final()))
            };
            let awake = |index: &usize| self.nodes[*index].paused_until <= self.now;
            let believers: Vec<usize> = (0..self.nodes.len()).filter(believes).filter(awake).collect();
            if let Some(index) = believers.first() {
                self.admin(*index, AdminAction::Evict { member: lost });
            }
        }
    }

    /// A fault begins or ends.
    pub fn on_fault(&mut self, fault: Fault) {
        match fault {
            Fault::Next => {
                if self.now < self.operator.faults_until {
                    self.draw();
                    let at = self.now + self.rng.random_range(0..=2 * self.options.fault_every);
                    self.plan(at, Event::Fault(Fault::Next));
                }
            }
            Fault::Restart(index) => self.start(index),
            Fault::Stop(index) => {
                self.kill(index, false);
                let at = self.now + self.rng.random_range(100 * MS..=2 * SECOND);
                self.plan(at, Event::Fault(Fault::Restart(index)));
            }
            Fault::Mend(pairs) => self.net.cut(&pairs, false),
            Fault::Quiet => self.net.loss = 0.0,
            Fault::Room(index) => {
                if self.is_up(index) {
                    self.step(index, chord::io::Input::DiskFull(false));
                }
            }
        }
    }

    fn draw(&mut self) {
        let faults = self.options.faults;
        let kinds = [
            (faults.kill, Draw::Kill),
            (faults.kill_all, Draw::KillAll),
            (faults.pause, Draw::Pause),
            (faults.partition, Draw::Partition),
            (faults.one_way, Draw::OneWay),
            (faults.loss, Draw::Loss),
            (faults.reset, Draw::Reset),
            (faults.stall, Draw::Stall),
            (faults.full, Draw::Full),
            (faults.skew, Draw::Skew),
            (faults.wipe, Draw::Wipe),
            (faults.rot, Draw::Rot),
            (faults.grow, Draw::Grow),
            (faults.leave, Draw::Leave),
            (faults.rest, Draw::Rest),
        ];
        let on: Vec<Draw> = kinds.into_iter().filter(|(on, _)| *on).map(|(_, kind)| kind).collect();
        let up: Vec<usize> = (0..self.nodes.len()).filter(|index| self.is_up(*index)).collect();
        if on.is_empty() || up.is_empty() {
            return;
        }
        let kind = on[self.rng.random_range(0..on.len())];
        let index = up[self.rng.random_range(0..up.len())];
        let time = self.rng.random_range(200 * MS..=5 * SECOND);
        let now = self.now;
        match kind {
            Draw::Kill => {
                // With every operation to be decided, one of three at a time.
                if self.options.all_decided && up.len() < self.nodes.len() {
                    return;
                }
                let dark = !self.options.all_decided && self.rng.random_bool(0.4);
                self.kill(index, dark);
                self.plan(now + time, Event::Fault(Fault::Restart(index)));
            }
            Draw::KillAll => {
                self.trace.sometimes("all members down");
                for index in up {
                    self.kill(index, true);
                    let at = now + self.rng.random_range(100 * MS..=2 * SECOND);
                    self.plan(at, Event::Fault(Fault::Restart(index)));
                }
            }
            Draw::Pause => {
                self.trace.sometimes("process frozen");
                self.nodes[index].paused_until = now + time.min(PAUSE_MAX);
            }
            Draw::Partition => {
                let side: Vec<bool> = (0..NODES_MAX).map(|_| self.rng.random_bool(0.5)).collect();
                let count = self.nodes.len();
                let pairs = (0..NODES_MAX).flat_map(|a| (0..NODES_MAX).map(move |b| (a, b)));
                let pairs = pairs.filter(|(a, b)| a != b);
                let cut: BTreeSet<(usize, usize)> = match self.rng.random_range(0..4) {
                    0 => {
                        // One node sees both sides, which do not see each other.
                        self.trace.sometimes("bridge partition");
                        pairs.filter(|(a, b)| side[*a] != side[*b] && *a != index && *b != index).collect()
                    }
                    1 => {
                        // Each sees its two neighbours only.
                        self.trace.sometimes("ring-shaped partition");
                        pairs.filter(|(a, b)| ![1, count - 1].contains(&(a.abs_diff(*b) % count))).collect()
                    }
                    _ => {
                        self.trace.sometimes("partition");
                        pairs.filter(|(a, b)| side[*a] != side[*b]).collect()
                    }
                };
                self.cut(cut, time);
            }
            Draw::OneWay => {
                self.trace.sometimes("one-way cut");
                let other = self.rng.random_range(0..self.nodes.len());
                let all = self.rng.random_bool(0.5);
                let to = (0..NODES_MAX).filter(|to| *to != index && (all || *to == other));
                let pairs: BTreeSet<(usize, usize)> = to.map(|to| (index, to)).collect();
                let turn = self.rng.random_bool(0.5);
                let pairs = pairs.into_iter().map(|(a, b)| if turn { (b, a) } else { (a, b) }).collect();
                self.cut(pairs, time);
            }
            Draw::Loss => {
                self.trace.sometimes("messages lost and doubled");
                self.net.loss = [0.02, 0.1, 0.3][self.rng.random_range(0..3)];
                self.plan(now + time, Event::Fault(Fault::Quiet));
            }
            Draw::Reset => {
                for (from, to) in self.net.sessions_at(index) {
                    if self.rng.random_bool(0.5) {
                        self.break_session(from, to);
                    }
                }
            }
            Draw::Stall => {
                self.trace.sometimes("sync stalled");
                self.nodes[index].stalled_until = now + time;
            }
            Draw::Full => {
                self.step(index, chord::io::Input::DiskFull(true));
                self.plan(now + time, Event::Fault(Fault::Room(index)));
            }
            Draw::Skew => {
                self.trace.sometimes("clock jumped");
                let most = (self.options.skew / MS).cast_signed();
                self.nodes[index].clock.skew_ms = self.rng.random_range(-most..=most);
            }
            Draw::Wipe => {
                if self.can_lose() {
                    self.trace.sometimes("disk lost");
                    self.lose_disk(index);
                    self.plan(now + time, Event::Fault(Fault::Restart(index)));
                }
            }
            Draw::Rot => {
                if self.can_lose() {
                    self.kill(index, false);
                    let held = |(shard, data): (&ShardId, &ShardData)| {
                        data.meta.as_ref().is_some_and(|meta| meta.installed).then_some(*shard)
                    };
                    let disk = self.nodes[index].disk.clone();
                    let held: Vec<ShardId> = disk.borrow().durable.shards.iter().filter_map(held).collect();
                    for shard in held {
                        if self.rng.random_bool(0.5) {
                            self.trace.sometimes("copy lost to rot");
                            disk.borrow_mut().rot(shard, || self.rng.random_bool(0.3));
                        }
                    }
                    // Often so soon that nobody has taken over.
                    let time = if self.rng.random_bool(0.5) { 20 * MS } else { time };
                    self.plan(now + time, Event::Fault(Fault::Restart(index)));
                }
            }
            Draw::Grow => {
                if self.nodes.len() < NODES_MAX {
                    self.trace.sometimes("scaled up");
                    let index = self.add_node();
                    self.start(index);
                }
            }
            Draw::Leave => {
                let stays = (0..self.nodes.len())
                    .filter(|i| !self.nodes[*i].removed && !self.operator.leaving.contains(i) && *i != index);
                let mut core = self.nodes[index].core.iter();
                let joined = core.any(|core| matches!(core.state(), MemberState::Serving | MemberState::Joining));
                if self.operator.leaving.contains(&index) {
                    if self.rng.random_bool(0.2) && self.nodes[index].paused_until <= now {
                        self.operator.leaving.remove(&index);
                        self.admin(index, AdminAction::AbortLeave);
                    }
                } else if joined && stays.count() > 0 && !self.is_recovering() {
                    self.operator.leaving.insert(index);
                }
            }
            Draw::Rest => {
                if self.nodes[index].paused_until <= now {
                    self.admin(index, AdminAction::PrepareRestart { ttl: Nanos::from_millis(3000) });
                    let at = now + self.rng.random_range(50 * MS..=SECOND);
                    self.plan(at, Event::Fault(Fault::Stop(index)));
                }
            }
        }
    }

    /// A machine is gone with its disk; an empty disk takes its place. The operator evicts the member that was there.
    pub fn lose_disk(&mut self, index: usize) {
        let lost = self.nodes[index].me.key;
        self.kill(index, true);
        self.wipe(index);
        if self.options.settings.holds(Rule::DiskNamesMember) {
            self.operator.lost.push(lost);
        }
    }

    /// The operator's wish that a member leaves.
    pub fn ask_to_leave(&mut self, index: usize) {
        self.operator.leaving.insert(index);
    }

    /// Cuts pairs for a while, from whom to whom.
    pub fn cut(&mut self, pairs: BTreeSet<(usize, usize)>, time: u64) {
        self.net.cut(&pairs, true);
        let touched: Vec<(usize, usize)> = self.net.sessions.keys().copied().collect();
        for (from, to) in touched {
            if pairs.contains(&(from, to)) || pairs.contains(&(to, from)) {
                self.plan_silence(from, to);
            }
        }
        self.plan(self.now + time, Event::Fault(Fault::Mend(pairs)));
    }

    /// Whether the promise survives the loss of a disk now: every shard has three members with their disks, and
    /// nobody is leaving.
    fn can_lose(&self) -> bool {
        if !self.operator.leaving.is_empty() || self.is_recovering() {
            return false;
        }
        let mut newest = BTreeMap::new();
        let mut holders = BTreeSet::new();
        for (owner, disk) in self.watch.disks.iter().filter(|(_, disk)| !disk.borrow().wiped) {
            for (shard, data) in &disk.borrow().durable.shards {
                let Some(meta) = data.meta.as_ref().filter(|meta| meta.installed) else { continue };
                let config = newest.entry(*shard).or_insert_with(|| meta.config.clone());
                if config.epoch < meta.config.epoch {
                    *config = meta.config.clone();
                }
                holders.insert((*shard, meta.config.epoch, *owner));
            }
        }
        newest.iter().all(|(shard, config)| {
            let sealed = |(_, disk): (&MemberKey, &Rc<RefCell<Disk>>)| {
                let disk = disk.borrow();
                let meta = disk.durable.shards.get(shard).and_then(|data| data.meta.as_ref());
                !disk.wiped
                    && meta
                        .is_some_and(|meta| meta.installed && meta.config.epoch >= config.epoch && meta.seal.is_some())
            };
            !self.watch.disks.iter().any(sealed)
                && config.members.len() >= 3
                && config.members.iter().all(|member| holders.contains(&(*shard, config.epoch, *member)))
        }) && newest.len() as u32 == self.options.settings.shards
    }

    /// Ends every fault: what may run runs, and everything gets through.
    pub fn heal(&mut self) {
        self.net.heal();
        for index in 0..self.nodes.len() {
            self.nodes[index].paused_until = 0;
            self.nodes[index].stalled_until = 0;
            self.start(index);
            if self.is_up(index) {
                self.step(index, chord::io::Input::DiskFull(false));
            }
        }
    }
}
