//! What clients asked and were told: the only thing that the promise is about.
use chord::shard::record::Version;
use std::collections::BTreeMap;

/// A value that was written once; 0 is no value.
pub type Value = u32;

/// What an operation was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Linearizable read.
    Get,
    /// Write, with its time to live (ns) if it has one.
    Put { value: Value, ttl: Option<u64> },
    /// Delete.
    Delete,
    /// Write or delete (0) if the revision is the expected one.
    Cas { expected: Option<Version>, value: Value },
}

/// What the client was told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Told {
    /// Value and revision.
    Value(Option<(Value, Version)>),
    /// Revision made.
    Written(Version),
    /// Whether there was a value.
    Deleted(bool),
    /// Whether it was applied, and the revision now.
    Compared { applied: bool, revision: Option<Version> },
}

/// One operation on one key.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Op {
    /// Which client.
    pub client: usize,
    /// What.
    pub kind: Kind,
    /// Simulated time of the first attempt.
    pub invoke: u64,
    /// When the client was told; `u64::MAX`: it never was, the outcome is unknown.
    pub ret: u64,
    /// The answer; `None`: unknown.
    pub told: Option<Told>,
}

/// All operations, per key.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// In order of their ends.
    pub keys: BTreeMap<usize, Vec<Op>>,
}

/// Which value each revision made, and when each value's life may end: what the checker needs beside the operations.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Value of a revision.
    pub value_of: BTreeMap<Version, Value>,
    revision_of: BTreeMap<Value, Version>,
    /// Earliest and latest end of a value with a time to live.
    pub ends: BTreeMap<Value, (u64, u64)>,
}

impl Facts {
    fn learn(&mut self, value: Value, revision: Version) -> Result<(), String> {
        let known = self.value_of.insert(revision, value).unwrap_or(value);
        let same = *self.revision_of.entry(value).or_insert(revision);
        if known != value {
            return Err(format!("revision {revision:?} was told for value {known} and for value {value}"));
        }
        if same != revision {
            return Err(format!("value {value} took effect twice: as {same:?} and as {revision:?}"));
        }
        Ok(())
    }

    /// Whether anybody was told of a value.
    pub fn is_seen(&self, value: Value) -> bool {
        self.revision_of.contains_key(&value)
    }

    /// Whether a key that holds `value` may be at `revision`.
    pub fn may_be(&self, revision: Version, value: Value) -> bool {
        match self.value_of.get(&revision) {
            Some(known) => *known == value,
            None => value != 0 && !self.revision_of.contains_key(&value),
        }
    }

    /// Gathers the facts of one key's operations; `skew` bounds how far any wall clock is off, ns.
    ///
    /// # Errors
    /// When the answers contradict each other whatever the order of the operations.
    pub fn of(ops: &[Op], skew: u64) -> Result<Facts, String> {
        let mut facts = Facts::default();
        for op in ops {
            match (op.kind, op.told) {
                (_, Some(Told::Value(Some((value, revision))))) => facts.learn(value, revision)?,
                (Kind::Put { value, .. }, Some(Told::Written(revision))) => facts.learn(value, revision)?,
                (Kind::Cas { value, .. }, Some(Told::Compared { applied: true, revision: Some(revision) })) => {
                    facts.learn(value, revision)?;
                }
                _ => {}
            }
            if let Kind::Put { value, ttl: Some(ttl) } = op.kind {
                // Two clocks that differ by at most twice the bound, and their rounding to milliseconds.
                let slack = skew.saturating_mul(2).saturating_add(3_000_000);
                let latest = op.ret.saturating_add(ttl).saturating_add(slack);
                facts.ends.insert(value, ((op.invoke + ttl).saturating_sub(slack), latest));
            }
        }
        Ok(facts)
    }
}
