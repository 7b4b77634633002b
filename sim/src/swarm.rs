//! What kind of run a seed stands for: every seed draws its own mix of sizes and faults, so that
//! faults meet each other in many combinations and no kind drowns the rest.
use crate::clock::{MS, SECOND};
use chord::{settings::Settings, time::Nanos};
use rand::{Rng, RngExt as _};

/// Which faults may happen in a run.
#[derive(Clone, Copy, Debug, Default)]
#[allow(missing_docs)]
pub struct Faults {
    pub kill: bool,
    pub kill_all: bool,
    pub pause: bool,
    pub partition: bool,
    pub one_way: bool,
    pub loss: bool,
    pub reset: bool,
    pub stall: bool,
    pub full: bool,
    pub skew: bool,
    pub wipe: bool,
    pub rot: bool,
    pub grow: bool,
    pub leave: bool,
    pub rest: bool,
}

/// A run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Names the run.
    pub seed: u64,
    /// Members at the start.
    pub nodes: usize,
    /// Settings of every core.
    pub settings: Settings,
    /// Clients, each with one operation at a time.
    pub clients: usize,
    /// Keys they share.
    pub keys: usize,
    /// Whether each key has one client that writes it.
    pub owned_keys: bool,
    /// How long a client tries, ns.
    pub retry_budget: u64,
    /// Most time between two operations of a client, ns.
    pub think: u64,
    /// Share of operations that write, percent.
    pub writes: u32,
    /// How long things may fail, ns.
    pub fault_time: u64,
    /// Mean time between two faults, ns.
    pub fault_every: u64,
    /// Which ones.
    pub faults: Faults,
    /// Least and most delay of a message, ns.
    pub delay: (u64, u64),
    /// How long a sync takes, ns.
    pub sync: (u64, u64),
    /// How far a wall clock may be off, ns.
    pub skew: u64,
    /// No operation may end with an unknown outcome.
    pub all_decided: bool,
}

/// Settings that make a cluster live fast: what takes minutes in production takes seconds here.
fn quick_settings() -> Settings {
    Settings {
        replication_factor: 3,
        shards: 4,
        successor_list_length: 4,
        stabilize_interval: Nanos::from_millis(300),
        fix_fingers_interval: Nanos::from_millis(500),
        probe_interval: Nanos::from_millis(1000),
        ping_interval: Nanos::from_millis(200),
        suspect_after: Nanos::from_millis(800),
        replace_after: Nanos::from_millis(6000),
        anti_entropy_interval: Nanos::from_millis(2000),
        moves_in_flight_max: 4,
        chunk_bytes_max: 64,
        operations_in_flight_max: 64,
        tombstone_min_age: Nanos::from_millis(9000),
        retry_age_max: Nanos::from_millis(5000),
        ..Settings::default()
    }
}

impl Options {
    /// The run of a seed.
    pub fn of_seed(seed: u64, rng: &mut dyn Rng) -> Options {
        let mut settings = quick_settings();
        settings.replication_factor = [1, 2, 3, 3, 3, 3, 3, 5][rng.random_range(0..8)];
        settings.successor_list_length = rng.random_range(settings.replication_factor.max(2)..=8);
        settings.shards = [2, 4, 4, 8, 16][rng.random_range(0..5)];
        settings.moves_in_flight_max = rng.random_range(1..=8);
        settings.chunk_bytes_max = [16, 64, 4096][rng.random_range(0..3)];
        let mut some = |percent: f64| rng.random_bool(percent / 100.0);
        let faults = Faults {
            kill: some(60.0),
            kill_all: some(25.0),
            pause: some(30.0),
            partition: some(45.0),
            one_way: some(30.0),
            loss: some(30.0),
            reset: some(40.0),
            stall: some(25.0),
            full: some(15.0),
            skew: some(50.0),
            wipe: some(35.0),
            rot: false,
            grow: some(40.0),
            leave: some(40.0),
            rest: some(25.0),
        };
        let nodes = [1, 2, 3, 3, 3, 4, 5, 6, 7][rng.random_range(0..9)];
        let slow = rng.random_bool(0.3);
        Options {
            seed,
            nodes,
            clients: rng.random_range(2..=6),
            keys: rng.random_range(2..=12),
            owned_keys: rng.random_bool(0.3),
            retry_budget: [500 * MS, 3 * SECOND, 4500 * MS][rng.random_range(0..3)],
            think: [5 * MS, 100 * MS, 300 * MS][rng.random_range(0..3)],
            writes: rng.random_range(30..=80),
            fault_time: rng.random_range(8..=16) * SECOND,
            fault_every: [400 * MS, 1000 * MS, 2500 * MS][rng.random_range(0..3)],
            faults,
            delay: if slow { (MS, 120 * MS) } else { (MS / 5, 8 * MS) },
            sync: if rng.random_bool(0.3) { (MS, 60 * MS) } else { (MS / 2, 6 * MS) },
            skew: if faults.skew { rng.random_range(1..=400) * MS } else { 0 },
            all_decided: false,
            settings,
        }
    }

    /// A cluster to which only happens what a script does.
    pub fn scripted(nodes: usize, rng: &mut dyn Rng) -> Options {
        let mut options = Options::of_seed(0, rng);
        options.settings = quick_settings();
        options.nodes = nodes;
        options.faults = Faults::default();
        (options.clients, options.skew) = (1, 0);
        (options.delay, options.sync) = ((MS / 5, 8 * MS), (MS / 2, 6 * MS));
        options
    }

    /// Disks that do not keep what they should, beside whatever else the seed draws.
    pub fn with_rot(seed: u64, rng: &mut dyn Rng) -> Options {
        let mut options = Options::of_seed(seed, rng);
        options.faults.rot = true;
        options.settings.replication_factor = options.settings.replication_factor.max(3);
        options.settings.successor_list_length = options.settings.successor_list_length.max(3);
        options.nodes = options.nodes.max(3);
        options
    }

    /// `kill -9` of one of three under load, again and again, by clients that retry for longer than a fail-over takes:
    /// every operation must be decided.
    pub fn kill_one_of_three(seed: u64, rng: &mut dyn Rng) -> Options {
        let mut options = Options::of_seed(seed, rng);
        let seconds = |s: u64| Nanos::from_millis(1000 * s);
        options.settings.replication_factor = 3;
        options.settings.successor_list_length = 8;
        (options.settings.retry_age_max, options.settings.tombstone_min_age) = (seconds(15), seconds(30));
        options.settings.replace_after = seconds(300);
        options.nodes = 3;
        options.faults = Faults { kill: true, ..Faults::default() };
        options.retry_budget = 12 * SECOND;
        (options.think, options.writes, options.owned_keys) = (20 * MS, 90, rng.random_bool(0.5));
        (options.fault_every, options.skew) = (2500 * MS, 0);
        options.delay = (MS / 5, 8 * MS);
        options.all_decided = true;
        options
    }
}
