//! What can be asked, and what comes back.
use crate::{KEY_BYTES_MAX, VALUE_BYTES_MAX, error::Error};
use bytes::Bytes;
use chord_proto::v1;
use std::{
    fmt,
    str::FromStr,
    time::{Duration, Instant},
};

/// Version of a key's value: a later write has a greater one. Compare them, print and parse them; their parts mean
/// nothing to an application.
/// ```
/// let version: chord_client::Version = "3.16.7".parse().unwrap();
/// assert_eq!(version.to_string(), "3.16.7");
/// assert!(version < "4.1.0".parse().unwrap());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Version {
    /// Number of the shard configuration.
    pub epoch: u64,
    /// The leader's attempt.
    pub ballot: u64,
    /// Write under it.
    pub seq: u64,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.epoch, self.ballot, self.seq)
    }
}

impl FromStr for Version {
    type Err = String;
    fn from_str(text: &str) -> Result<Version, String> {
        let mut parts = text.split('.').map(str::parse::<u64>);
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(Ok(epoch)), Some(Ok(ballot)), Some(Ok(seq)), None) => Ok(Version { epoch, ballot, seq }),
            _ => Err(format!("`{text}` is not a version; one looks like 3.16.7")),
        }
    }
}

impl From<v1::Version> for Version {
    fn from(v: v1::Version) -> Version {
        Version { epoch: v.epoch, ballot: v.ballot, seq: v.seq }
    }
}

impl From<Version> for v1::Version {
    fn from(v: Version) -> v1::Version {
        v1::Version { epoch: v.epoch, ballot: v.ballot, seq: v.seq }
    }
}

/// A value that was read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Value {
    /// The value.
    pub value: Bytes,
    /// Its version.
    pub version: Version,
    /// Remaining time to live; `None`: no end.
    pub ttl: Option<Duration>,
}

/// Names a write that was sent, so that it can be sent again without taking effect twice: before this process writes
/// the key anew, which ends it for good. From [`Error::OutcomeUnknown`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Attempted {
    pub(crate) client: u128,
    pub(crate) number: u64,
    pub(crate) first: Instant,
}

/// A read. `"key".into()` and `Get::new("key")` are linearizable.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Get {
    pub(crate) key: Bytes,
    pub(crate) stale_ok: bool,
}

impl Get {
    /// Linearizable read of `key` (1..=1024 bytes).
    pub fn new(key: impl Into<Bytes>) -> Get {
        Get { key: key.into(), stale_ok: false }
    }
    /// Any one replica may answer, perhaps with an old value. Works without a majority.
    #[must_use]
    pub fn stale_ok(mut self) -> Get {
        self.stale_ok = true;
        self
    }
}

impl<K: Into<Bytes>> From<K> for Get {
    fn from(key: K) -> Get {
        Get::new(key)
    }
}

/// A write.
/// ```
/// # use chord_client::Put; use std::time::Duration;
/// let put = Put::new("session/17", vec![1, 2, 3]).ttl(Duration::from_secs(60));
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Put {
    pub(crate) key: Bytes,
    pub(crate) value: Bytes,
    pub(crate) ttl: Option<Duration>,
    pub(crate) attempted: Option<Attempted>,
}

impl Put {
    /// `key`: 1..=1024 bytes, any; `value`: 0..=1 MiB.
    pub fn new(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Put {
        Put { key: key.into(), value: value.into(), ttl: None, attempted: None }
    }
    /// The key is absent after so long, at least 1 ms, by the clock of the shard's leader.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Put {
        self.ttl = Some(ttl);
        self
    }
    /// Goes on with a write whose outcome was unknown.
    #[must_use]
    pub fn resume(mut self, attempted: Attempted) -> Put {
        self.attempted = Some(attempted);
        self
    }
}

/// A deletion.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Delete {
    pub(crate) key: Bytes,
    pub(crate) attempted: Option<Attempted>,
}

impl Delete {
    /// Deletes `key` (1..=1024 bytes).
    pub fn new(key: impl Into<Bytes>) -> Delete {
        Delete { key: key.into(), attempted: None }
    }
    /// Goes on with a deletion whose outcome was unknown.
    #[must_use]
    pub fn resume(mut self, attempted: Attempted) -> Delete {
        self.attempted = Some(attempted);
        self
    }
}

impl<K: Into<Bytes>> From<K> for Delete {
    fn from(key: K) -> Delete {
        Delete::new(key)
    }
}

/// A write or deletion that is made only if the key's version is the expected one.
/// ```
/// # use chord_client::{CompareAndSet, Version};
/// # let version = Version { epoch: 1, ballot: 16, seq: 1 };
/// let create = CompareAndSet::new("lock", "mine").expect_absent();
/// let change = CompareAndSet::new("lock", "yours").expect(version);
/// let release = CompareAndSet::delete("lock").expect(version);
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CompareAndSet {
    pub(crate) key: Bytes,
    pub(crate) expected: Option<Version>,
    pub(crate) value: Option<Bytes>,
    pub(crate) ttl: Option<Duration>,
    pub(crate) attempted: Option<Attempted>,
}

impl CompareAndSet {
    /// Writes `value` (0..=1 MiB) under `key` (1..=1024 bytes). Without another word the key must be absent.
    pub fn new(key: impl Into<Bytes>, value: impl Into<Bytes>) -> CompareAndSet {
        CompareAndSet { key: key.into(), expected: None, value: Some(value.into()), ttl: None, attempted: None }
    }
    /// Deletes `key`.
    pub fn delete(key: impl Into<Bytes>) -> CompareAndSet {
        CompareAndSet { key: key.into(), expected: None, value: None, ttl: None, attempted: None }
    }
    /// The key must have this version.
    #[must_use]
    pub fn expect(mut self, version: Version) -> CompareAndSet {
        self.expected = Some(version);
        self
    }
    /// The key must be absent.
    #[must_use]
    pub fn expect_absent(mut self) -> CompareAndSet {
        self.expected = None;
        self
    }
    /// As [`Put::ttl`].
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> CompareAndSet {
        self.ttl = Some(ttl);
        self
    }
    /// Goes on with one whose outcome was unknown.
    #[must_use]
    pub fn resume(mut self, attempted: Attempted) -> CompareAndSet {
        self.attempted = Some(attempted);
        self
    }
}

/// What became of a [`CompareAndSet`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Compared {
    /// Whether the version was the expected one and the write was made.
    pub applied: bool,
    /// The key's version now; `None` when it is absent.
    pub version: Option<Version>,
}

/// Asks for a page of all keys of the ring, shard by shard (the order of their hashes), within a shard in key order.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Scan {
    pub(crate) cursor: Bytes,
    pub(crate) limit: u32,
    pub(crate) keys_only: bool,
}

impl Scan {
    /// From the beginning, up to 100 entries.
    pub fn new() -> Scan {
        Scan { limit: 100, ..Scan::default() }
    }
    /// Goes on where a page ended: its `next`.
    #[must_use]
    pub fn after(mut self, cursor: impl Into<Bytes>) -> Scan {
        self.cursor = cursor.into();
        self
    }
    /// Up to so many entries, 1..=1000.
    #[must_use]
    pub fn limit(mut self, limit: u32) -> Scan {
        self.limit = limit;
        self
    }
    /// Leaves the values out.
    #[must_use]
    pub fn keys_only(mut self) -> Scan {
        self.keys_only = true;
        self
    }
}

/// A page of a [`Scan`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Page {
    /// Entries; there may be none although `next` is set.
    pub entries: Vec<Entry>,
    /// Where the next page begins; `None` at the end.
    pub next: Option<Bytes>,
}

/// A key in a [`Page`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Key.
    pub key: Bytes,
    /// Value; empty with [`Scan::keys_only`].
    pub value: Bytes,
    /// Version.
    pub version: Version,
}

pub(crate) fn check_key(key: &[u8]) -> Result<(), Error> {
    match key.len() {
        1..=KEY_BYTES_MAX => Ok(()),
        0 => Err(Error::InvalidArgument("the key is empty; a key has 1..=1024 bytes".into())),
        n => Err(Error::InvalidArgument(format!("the key has {n} bytes; a key has 1..={KEY_BYTES_MAX} bytes"))),
    }
}

pub(crate) fn check_value(value: &[u8]) -> Result<(), Error> {
    match value.len() {
        0..=VALUE_BYTES_MAX => Ok(()),
        n => Err(Error::InvalidArgument(format!(
            "the value has {n} bytes; at most {VALUE_BYTES_MAX} (1 MiB) are allowed"
        ))),
    }
}

/// Milliseconds of a time to live, checked.
pub(crate) fn check_ttl(ttl: Option<Duration>) -> Result<Option<u64>, Error> {
    let Some(ttl) = ttl else { return Ok(None) };
    match u64::try_from(ttl.as_millis()) {
        Ok(ms @ 1..) => Ok(Some(ms)),
        _ => Err(Error::InvalidArgument("the time to live must be at least 1 ms".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bounds_of_keys_values_and_ttls_are_inclusive() {
        assert!(check_key(&[0; 1]).is_ok() && check_key(&[0; 1024]).is_ok());
        assert!(check_key(&[]).is_err() && check_key(&[0; 1025]).is_err());
        assert!(check_value(&[]).is_ok() && check_value(&vec![0; 1 << 20]).is_ok());
        assert!(check_value(&vec![0; (1 << 20) + 1]).is_err());
        assert_eq!(check_ttl(Some(Duration::from_millis(1))), Ok(Some(1)));
        assert!(check_ttl(Some(Duration::from_micros(999))).is_err());
    }

    #[test]
    fn a_version_that_is_not_three_numbers_is_refused() {
        for text in ["", "1", "1.2", "1.2.3.4", "1.2.x", "-1.2.3", "1.2."] {
            assert!(text.parse::<Version>().is_err(), "{text}");
        }
    }
}
