//! Looking for rot: everything that is stored is read again from time to time, and its checksums are compared.
//!
//! What an older version sealed is sealed anew in passing, so that no start waits for that. All versions that know this
//! format read both, and each thing is replaced on its own by what means the same: the process may end at any moment,
//! and the next pass goes on with what is left.
//!
//! What is in fjall's cache is not read from disk again: it is served from there, and right.
use super::{
    Files,
    commit::Order,
    fail,
    format::{self, Kind},
};
use anyhow::Context as _;
use chord::shard::config::ShardId;
use std::{
    collections::BTreeSet,
    sync::{Arc, Weak, mpsc::Sender},
    thread,
    time::Duration,
};

/// Bytes of records per second.
const BYTES_PER_SECOND: u64 = 16 << 20;
/// Most bytes, and most things of an older format, before it rests.
const CHUNK_BYTES: u64 = 1 << 20;
const CHUNK_OLD: usize = 256;

/// What is wrong with a store.
#[derive(Default)]
pub(super) struct Damage {
    /// Shards of which a record cannot be read or is not what was written.
    pub shards: BTreeSet<ShardId>,
    /// Whether the sums or the index of expiries cannot be read; both follow from the records.
    pub derived: bool,
}

impl Damage {
    pub fn is_none(&self) -> bool {
        self.shards.is_empty() && !self.derived
    }
}

/// Reads everything. `seen` is shown what is sound: its kind, its key, how it is sealed.
///
/// # Errors
/// When metadata is damaged: what this member gave its word for cannot come from anybody else.
pub(super) fn look(files: &Files, mut seen: impl FnMut(Kind, &[u8], &[u8])) -> anyhow::Result<Damage> {
    let mut damage = Damage::default();
    files.node().context("node metadata")?;
    let shards = files.metas().context("replica metadata")?;
    let small = [(Kind::Node, &files.node), (Kind::Meta, &files.metas)];
    for (kind, entry) in small.into_iter().flat_map(|(kind, keyspace)| keyspace.iter().map(move |entry| (kind, entry)))
    {
        let (key, value) = entry.into_inner()?;
        seen(kind, &key, &value);
    }
    for shard in shards.into_keys() {
        for entry in files.records.range(format::shard_range(shard)) {
            match entry.into_inner().map_err(anyhow::Error::from).and_then(|(key, value)| {
                format::decode_record(&key, &value)?;
                seen(Kind::Record, &key, &value);
                Ok(())
            }) {
                Ok(()) => {}
                Err(error) => {
                    tracing::error!(shard = shard.0, %error, "a record is damaged");
                    damage.shards.insert(shard);
                    break;
                }
            }
        }
    }
    damage.derived = files.sums().is_err() || files.expiries.iter().any(|entry| entry.key().is_err());
    Ok(damage)
}

/// Looks through the store every `every`, in a thread that ends with the store. Rot ends the process: the next start
/// repairs it.
pub(super) fn watch(files: &Arc<Files>, commits: Weak<Sender<Order>>, every: Duration) -> std::io::Result<()> {
    let files: Weak<Files> = Arc::downgrade(files);
    thread::Builder::new().name("scrub".into()).spawn(move || {
        loop {
            thread::sleep(every);
            let Some(files) = files.upgrade() else { return };
            let (mut bytes, mut old) = (0, Vec::new());
            let reseal = |old: &mut Vec<_>| {
                if let Some(commits) = commits.upgrade().filter(|_| !old.is_empty()) {
                    // A commit thread that has ended ends the process.
                    let _ = commits.send(Order::Reseal(std::mem::take(old)));
                }
            };
            let looked = look(&files, |kind, key, sealed| {
                bytes += sealed.len() as u64;
                if format::is_old(sealed) {
                    old.push((kind, key.to_vec()));
                }
                if bytes >= CHUNK_BYTES || old.len() >= CHUNK_OLD {
                    reseal(&mut old);
                    thread::sleep(Duration::from_millis(bytes * 1000 / BYTES_PER_SECOND));
                    bytes = 0;
                }
            });
            reseal(&mut old);
            match looked {
                Ok(damage) if damage.is_none() => metrics::counter!("chord_scrubs_total").increment(1),
                Ok(_) => files.rotten("the scrub found damage", &"checksums differ"),
                Err(error) => fail("the scrub found damage", &format!("{error:#}")),
            }
        }
    })?;
    Ok(())
}
