//! A disk in memory. It keeps what was written, and forgets with the sandbox.
use bytes::Bytes;
use chord::{
    shard::{
        config::{ReplicaMeta, ShardId},
        digest::{Digest, summand},
        record::{Record, Version},
    },
    store::{Change, Expiry, NodeMeta, Seq, Store},
};
use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

#[derive(Default)]
struct Shard {
    meta: Option<ReplicaMeta>,
    records: BTreeMap<Bytes, Record>,
}

#[derive(Default)]
struct Disk {
    node: Option<NodeMeta>,
    shards: BTreeMap<ShardId, Shard>,
    written: Seq,
}

/// A handle on a disk that outlives its node's process.
#[derive(Clone, Default)]
pub struct MemStore(Arc<Mutex<Disk>>);

impl MemStore {
    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new process counts its batches anew.
    pub fn restart(&self) {
        self.disk().written = 0;
    }

    fn records<T>(&self, shard: ShardId, look: impl FnOnce(&BTreeMap<Bytes, Record>) -> T) -> Option<T> {
        self.disk().shards.get(&shard).map(|shard| look(&shard.records))
    }
}

impl Disk {
    fn apply(&mut self, change: Change) {
        match change {
            Change::Put { shard, key, record } => {
                self.shards.entry(shard).or_default().records.insert(key, record);
            }
            Change::Drop { shard, key } => {
                self.shards.entry(shard).or_default().records.remove(&key);
            }
            Change::Clear(shard) => self.shards.entry(shard).or_default().records.clear(),
            Change::Meta(shard, meta) => self.shards.entry(shard).or_default().meta = Some(meta),
            Change::Node(node) => self.node = Some(node),
        }
    }
}

/// Shards here have a few keys: digests and expiries are computed when asked for.
impl Store for MemStore {
    fn node(&self) -> Option<NodeMeta> {
        self.disk().node.clone()
    }
    fn metas(&self) -> Vec<(ShardId, ReplicaMeta)> {
        self.disk().shards.iter().filter_map(|(id, shard)| Some((*id, shard.meta.clone()?))).collect()
    }
    fn get(&self, shard: ShardId, key: &[u8]) -> Option<Record> {
        self.records(shard, |records| records.get(key).cloned()).flatten()
    }
    fn scan(&self, shard: ShardId, after: Option<&[u8]>, limit: usize, bytes_max: usize) -> Vec<(Bytes, Record)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let page = |records: &BTreeMap<Bytes, Record>| {
            let mut bytes = 0;
            let within = |(key, record): &(&Bytes, &Record)| {
                let is_within = bytes < bytes_max;
                bytes += key.len() + record.value_bytes();
                is_within
            };
            let found = records.range::<[u8], _>((from, Bound::Unbounded)).take(limit).take_while(within);
            found.map(|(key, record)| (key.clone(), record.clone())).collect()
        };
        self.records(shard, page).unwrap_or_default()
    }
    fn versions(&self, shard: ShardId) -> Vec<(Bytes, Version)> {
        let versions = |records: &BTreeMap<Bytes, Record>| {
            records.iter().map(|(key, record)| (key.clone(), record.version)).collect()
        };
        self.records(shard, versions).unwrap_or_default()
    }
    fn digest(&self, shard: ShardId) -> Digest {
        let digest = |records: &BTreeMap<Bytes, Record>| {
            let mut digest = Digest::default();
            for (key, record) in records {
                let (bucket, sum) = summand(key, &record.version);
                digest.sums[bucket] = digest.sums[bucket].wrapping_add(sum);
                *(if record.is_live() { &mut digest.keys } else { &mut digest.tombstones }) += 1;
                digest.bytes += (key.len() + record.value_bytes()) as u64;
            }
            digest
        };
        self.records(shard, digest).unwrap_or_default()
    }
    fn expiring(&self, until_ms: u64, limit: usize) -> Vec<Expiry> {
        let disk = self.disk();
        let live = disk.shards.iter().flat_map(|(id, shard)| shard.records.iter().map(move |it| (*id, it)));
        let ends = live.filter(|(_, (_, record))| record.is_live()).filter_map(|(shard, (key, record))| {
            Some(Expiry { at_ms: record.expires_at_ms?, shard, key: key.clone() })
        });
        let mut due: Vec<Expiry> = ends.filter(|expiry| expiry.at_ms <= until_ms).collect();
        due.sort_by_key(|expiry| expiry.at_ms);
        due.truncate(limit);
        due
    }
    fn write(&mut self, changes: Vec<Change>) -> Seq {
        let mut disk = self.disk();
        changes.into_iter().for_each(|change| disk.apply(change));
        disk.written += 1;
        disk.written
    }
}
