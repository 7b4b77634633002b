//! Looking for rot: everything that is stored is read again from time to time, and its checksums are compared.
//!
//! What is in fjall's cache is not read from disk again: it is served from there, and right.
use super::{Files, fail, format};
use anyhow::Context as _;
use chord::shard::config::ShardId;
use std::{
    collections::BTreeSet,
    sync::{Arc, Weak},
    thread,
    time::Duration,
};

/// Bytes of records per second.
const BYTES_PER_SECOND: u64 = 16 << 20;

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

/// Reads everything. `pause` is told after each shard how many bytes that were.
///
/// # Errors
/// When metadata is damaged: what this member gave its word for cannot come from anybody else.
pub(super) fn look(files: &Files, mut pause: impl FnMut(u64)) -> anyhow::Result<Damage> {
    let mut damage = Damage::default();
    files.node().context("node metadata")?;
    for (shard, _) in files.metas().context("replica metadata")? {
        let mut bytes = 0;
        for entry in files.records.range(format::shard_range(shard)) {
            match entry.into_inner().map_err(anyhow::Error::from).and_then(|(_, value)| {
                bytes += value.len() as u64;
                Ok(format::decode_record(&value)?)
            }) {
                Ok(_) => {}
                Err(error) => {
                    tracing::error!(shard = shard.0, %error, "a record is damaged");
                    damage.shards.insert(shard);
                    break;
                }
            }
        }
        pause(bytes);
    }
    damage.derived = files.sums().is_err() || files.expiries.iter().any(|entry| entry.key().is_err());
    Ok(damage)
}

/// Looks through the store every `every`, in a thread that ends with the store. Rot ends the process: the next start
/// repairs it.
pub(super) fn watch(files: &Arc<Files>, every: Duration) -> std::io::Result<()> {
    let files: Weak<Files> = Arc::downgrade(files);
    thread::Builder::new().name("scrub".into()).spawn(move || {
        loop {
            thread::sleep(every);
            let Some(files) = files.upgrade() else { return };
            let pause = |bytes| thread::sleep(Duration::from_millis(bytes * 1000 / BYTES_PER_SECOND));
            match look(&files, pause) {
                Ok(damage) if damage.is_none() => metrics::counter!("chord_scrubs_total").increment(1),
                Ok(_) => files.rotten("the scrub found damage", &"checksums differ"),
                Err(error) => fail("the scrub found damage", &format!("{error:#}")),
            }
        }
    })?;
    Ok(())
}
