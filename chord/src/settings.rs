//! Tunables, with units last in each name. Relations between them are asserted once, in `validate`.
use crate::time::Nanos;

/// Longest key, bytes.
pub const KEY_BYTES_MAX: usize = 1024;
/// Longest value, bytes.
pub const VALUE_BYTES_MAX: usize = 1 << 20;
/// Most members of one shard's configuration.
pub const REPLICATION_FACTOR_MAX: usize = 7;
/// Most members of a ring.
pub const MEMBERS_MAX: usize = 16_384;

/// How a node behaves. All nodes of a ring should be given the same.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Settings {
    /// Replicas of each shard, 1..=7. Fixed at genesis.
    pub replication_factor: usize,
    /// Number of shards, a power of two, 1..=65536. Fixed at genesis.
    pub shards: u32,
    /// Longest successor list, 1..=32.
    pub successor_list_length: usize,
    /// Time between stabilizations; each is jittered by a quarter.
    pub stabilize_interval: Nanos,
    /// Time between finger repairs; each repairs the whole table.
    pub fix_fingers_interval: Nanos,
    /// Time between looks for a ring that split.
    pub probe_interval: Nanos,
    /// Time between pings to each peer that matters.
    pub ping_interval: Nanos,
    /// Silence after which a peer counts as dead for leadership.
    pub suspect_after: Nanos,
    /// Silence after which a dead member's replicas are made anew elsewhere.
    pub replace_after: Nanos,
    /// Time between comparisons of replicas.
    pub anti_entropy_interval: Nanos,
    /// Most shards one node moves at a time.
    pub moves_in_flight_max: usize,
    /// Most bytes per transfer or install message.
    pub chunk_bytes_max: usize,
    /// Most client operations a node holds at a time; more are shed.
    pub operations_in_flight_max: usize,
    /// Age below which a tombstone stays even when all members hold it, so that a late retry of an
    /// operation on its key is recognised.
    pub tombstone_min_age: Nanos,
    /// Oldest retry of an operation that is still looked at.
    pub retry_age_max: Nanos,
    /// A rule that this core does without, to show that it is needed.
    #[cfg(feature = "mutants")]
    pub without: Option<crate::rules::Rule>,
}

impl Default for Settings {
    fn default() -> Settings {
        let seconds = |s: u64| Nanos::from_millis(1000 * s);
        Settings {
            replication_factor: 3,
            shards: 4096,
            successor_list_length: 8,
            stabilize_interval: seconds(3),
            fix_fingers_interval: seconds(3),
            probe_interval: seconds(10),
            ping_interval: Nanos::from_millis(500),
            suspect_after: Nanos::from_millis(2500),
            replace_after: seconds(300),
            anti_entropy_interval: seconds(600),
            moves_in_flight_max: 8,
            chunk_bytes_max: 1 << 20,
            operations_in_flight_max: 4096,
            tombstone_min_age: seconds(120),
            retry_age_max: seconds(60),
            #[cfg(feature = "mutants")]
            without: None,
        }
    }
}

impl Settings {
    /// Checks every bound.
    ///
    /// # Errors
    /// A sentence that names the setting, its bound and what was given.
    pub fn validate(&self) -> Result<(), String> {
        let check = |ok: bool, text: String| if ok { Ok(()) } else { Err(text) };
        check(
            (1..=REPLICATION_FACTOR_MAX).contains(&self.replication_factor),
            format!("replication factor must be 1..={REPLICATION_FACTOR_MAX}, not {}", self.replication_factor),
        )?;
        check(
            self.shards.is_power_of_two() && self.shards <= 65_536,
            format!("shards must be a power of two up to 65536, not {}", self.shards),
        )?;
        check(
            (1..=32).contains(&self.successor_list_length),
            format!("successor list length must be 1..=32, not {}", self.successor_list_length),
        )?;
        check(
            self.successor_list_length >= self.replication_factor,
            format!(
                "successor list length ({}) must not be below the replication factor ({})",
                self.successor_list_length, self.replication_factor
            ),
        )?;
        check(
            self.stabilize_interval >= Nanos::from_millis(10) && self.fix_fingers_interval >= Nanos::from_millis(10),
            "stabilize and fix-fingers intervals must be at least 10 ms".into(),
        )?;
        check(
            self.suspect_after.0 >= 2 * self.ping_interval.0,
            "suspect-after must be at least twice the ping interval".into(),
        )?;
        check(
            self.retry_age_max < self.tombstone_min_age,
            "tombstones must outlive the oldest retry: tombstone-min-age must exceed retry-age-max".into(),
        )
    }
}
