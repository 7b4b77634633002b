//! Shipped cores as values: a node that a model can copy, step and compare.
use crate::disk::{Data, Plain};
use chord::{
    Core,
    io::{CallId, Input, Outcome, Output, Token},
    member::{Disk, MemberKey, MemberState, NodeRef},
    msg::{RingReply, RingRequest, ShardMsg},
    settings::Settings,
    shard::config::Config,
    store::Store as _,
    time::{Nanos, Now},
};
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Mutex},
};

/// Wall clock at the start of every model, milliseconds since the Unix epoch.
const WALL_START_MS: u64 = 1_700_000_000_000;
/// So long that no timer of it fires by itself.
pub const NEVER: Nanos = Nanos::from_millis(1_000_000_000_000);

/// A node: the core, its clocks and what of its disk survives a crash.
#[derive(Clone)]
pub struct Host {
    /// The shipped core.
    pub core: Core<Plain>,
    /// Its clocks.
    pub now: Now,
    /// What survives a crash.
    pub durable: Data,
    /// Whether it believes that it leads the shard.
    pub leads: bool,
    /// Its configuration of the shard.
    pub config: Option<Config>,
    /// Number of the configuration that its disk knows, and whether it has installed it.
    pub epoch: (u64, bool),
    /// Whether it has left the ring in good order, durably.
    pub has_left: bool,
    persisted: u64,
    print: u64,
}

impl Hash for Host {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.print.hash(state);
    }
}

/// Something that a node does.
#[derive(Hash)]
pub enum Act {
    /// It is given an input; `true`: what it writes is durable at once.
    Take(Box<Input>, bool),
    /// Its timers fire, after so much time by its monotonic and its wall clock.
    Wait(Nanos, u64, bool),
    /// Its disk catches up.
    Sync,
}

/// A message on a wire, known by its fingerprint.
pub struct Letter<M = ShardMsg> {
    print: u64,
    /// What it says.
    pub message: Arc<M>,
}

impl<M: Hash> Letter<M> {
    /// Puts a message on a wire.
    pub fn new(message: M) -> Letter<M> {
        Letter { print: print(&message), message: Arc::new(message) }
    }
}

impl<M> Clone for Letter<M> {
    fn clone(&self) -> Letter<M> {
        Letter { print: self.print, message: self.message.clone() }
    }
}

impl<M> Hash for Letter<M> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.print.hash(state);
    }
}

/// What came of an act.
pub struct Done {
    /// The node after it.
    pub host: Arc<Host>,
    /// Messages.
    pub letters: Vec<(MemberKey, Letter)>,
    /// Answers to clients.
    pub answers: Vec<(Token, Outcome)>,
    /// Questions about the ring.
    pub calls: Vec<(CallId, String, RingRequest)>,
    /// Answer to such a question.
    pub reply: Option<RingReply>,
}

/// All acts so far. A step is a function of the node and the input, and in a model most of them come again and again.
#[derive(Default)]
pub struct Acts(Mutex<HashMap<u64, Arc<Done>>>);

impl Acts {
    /// Lets a node act.
    pub fn act(&self, host: &Arc<Host>, act: Act) -> Arc<Done> {
        let key = print(&(host, &act));
        if let Some(done) = self.0.lock().expect("no step panics").get(&key) {
            return done.clone();
        }
        let done = Arc::new(host.act(act));
        self.0.lock().expect("no step panics").insert(key, done.clone());
        done
    }
}

/// Who a node is; `disk` tells the disks of one id apart.
pub fn identity(index: usize, disk: u128) -> NodeRef {
    // Evenly round the circle, in the order of their indices.
    let id = chord::id::Id::from_bytes([(index as u8) * 32; 20]);
    NodeRef {
        key: MemberKey { id, disk: Disk((disk << 8) | index as u128) },
        incarnation: 0,
        name: format!("n{index}"),
        internal_addr: format!("{index}"),
        client_addr: String::new(),
        zone: String::new(),
    }
}

/// Settings under which nothing happens by itself: models fire what they want fired.
pub fn still_settings() -> Settings {
    Settings {
        shards: 1,
        stabilize_interval: NEVER,
        fix_fingers_interval: NEVER,
        probe_interval: NEVER,
        ping_interval: NEVER,
        suspect_after: Nanos(2 * NEVER.0),
        replace_after: NEVER,
        anti_entropy_interval: NEVER,
        retry_age_max: NEVER,
        tombstone_min_age: Nanos(2 * NEVER.0),
        ..Settings::default()
    }
}

impl Host {
    /// Starts a node over what its disk holds.
    pub fn start(me: NodeRef, durable: Data, now: Now, settings: Settings) -> Host {
        let store = Plain::over(durable.clone());
        let core = Core::start(now, &mut chance(), store, me, settings).expect("settings of a model are in bounds");
        let mut host = Host {
            core,
            now,
            durable,
            leads: false,
            config: None,
            epoch: (0, false),
            has_left: false,
            persisted: 0,
            print: 0,
        };
        host.seal();
        host
    }

    /// The clocks of a first start.
    pub fn first_now() -> Now {
        Now { mono: Nanos::from_millis(1000), wall_ms: WALL_START_MS }
    }

    fn act(&self, act: Act) -> Done {
        let mut host = self.clone();
        let mut out = Vec::new();
        match act {
            Act::Take(input, sync) => host.step(*input, sync, &mut out),
            Act::Wait(mono, wall_ms, sync) => {
                host.now.mono = host.now.mono + mono;
                host.now.wall_ms += wall_ms;
                host.step(Input::Tick, sync, &mut out);
            }
            Act::Sync => host.sync(&mut out),
        }
        host.seal();
        let (mut letters, mut answers, mut calls, mut reply) = (Vec::new(), Vec::new(), Vec::new(), None);
        for output in out {
            match output {
                Output::Shard { to, message } => {
                    letters.push((to.key, Letter::new(message)));
                }
                Output::Client { token, outcome } => answers.push((token, outcome)),
                Output::Call { call, addr, request, .. } => calls.push((call, addr, request)),
                Output::Reply { reply: said, .. } => reply = Some(said),
                Output::Admin { .. } | Output::Event(_) => {}
            }
        }
        Done { host: Arc::new(host), letters, answers, calls, reply }
    }

    fn step(&mut self, input: Input, sync: bool, out: &mut Vec<Output>) {
        self.core.step(self.now, &mut chance(), input, out);
        if sync {
            self.sync(out);
        }
    }

    /// Whether something is written and not durable.
    pub fn is_unsynced(&self) -> bool {
        self.persisted < self.core.written()
    }

    /// Makes all that is written durable, and what that lets the core do, too.
    fn sync(&mut self, out: &mut Vec<Output>) {
        while self.is_unsynced() {
            self.persisted = self.core.written();
            self.durable = self.core.store().data.clone();
            self.core.step(self.now, &mut chance(), Input::Persisted(self.persisted), out);
        }
    }

    /// What is looked at often is worked out once.
    fn seal(&mut self) {
        self.print = print(&(&self.core, self.now.mono, self.now.wall_ms, self.persisted));
        if self.is_unsynced() {
            self.print ^= print(&self.durable).rotate_left(17);
        }
        let map = self.core.shard_map();
        let leader = map.first().and_then(|entry| entry.config.members.get(entry.leader? as usize));
        self.leads = leader == Some(&self.core.me().key);
        let kept = self.durable.shards.values().find_map(|data| data.meta.as_ref());
        self.epoch = kept.map_or((0, false), |meta| (meta.config.epoch, meta.installed));
        self.has_left = self.durable.node.as_ref().is_some_and(|kept| kept.node.state == MemberState::Left);
        self.config = self.core.store().metas().into_iter().next().map(|(_, meta)| meta.config);
    }
}

/// The same chance at every step, so that a step is a function of its state.
fn chance() -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(0)
}

/// A fingerprint: the same for the same value, in every run.
pub fn print(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}
