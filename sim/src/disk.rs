//! A disk in memory that forgets what was not synced, as real ones do.
use bytes::Bytes;
use chord::{
    member::MemberKey,
    shard::{
        config::{ReplicaMeta, ShardId},
        digest::{Digest, summand},
        record::{Record, Version},
    },
    store::{Change, Expiry, NodeMeta, Seq, Store},
};
use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet, VecDeque},
    ops::Bound,
    rc::Rc,
};

/// One shard on a disk.
#[derive(Clone, Hash, Debug, Default)]
pub struct ShardData {
    /// What is kept about it.
    pub meta: Option<ReplicaMeta>,
    /// Its records.
    pub records: BTreeMap<Bytes, Record>,
    /// Records were here that the disk did not keep; until the shard is held anew.
    pub rotten: bool,
    digest: Digest,
}

/// Everything on a disk at one moment.
#[derive(Clone, Hash, Debug, Default)]
pub struct Data {
    /// What the node keeps about itself.
    pub node: Option<NodeMeta>,
    /// Shards.
    pub shards: BTreeMap<ShardId, ShardData>,
    expiries: BTreeSet<(u64, ShardId, Bytes)>,
}

impl ShardData {
    fn count(&mut self, key: &Bytes, record: &Record, sign: i64) {
        let (bucket, sum) = summand(key, &record.version);
        let slot = &mut self.digest.sums[bucket];
        *slot = if sign > 0 { slot.wrapping_add(sum) } else { slot.wrapping_sub(sum) };
        let counter = if record.is_live() { &mut self.digest.keys } else { &mut self.digest.tombstones };
        *counter = counter.wrapping_add_signed(sign);
        let bytes = (key.len() + record.value_bytes()) as i64;
        self.digest.bytes = self.digest.bytes.wrapping_add_signed(sign * bytes);
    }
}

impl Data {
    fn remove(&mut self, shard: ShardId, key: &Bytes) {
        let data = self.shards.entry(shard).or_default();
        if let Some(record) = data.records.remove(key) {
            data.count(key, &record, -1);
            if let Some(at) = record.expires_at_ms {
                self.expiries.remove(&(at, shard, key.clone()));
            }
        }
    }

    fn apply(&mut self, change: &Change) {
        match change {
            Change::Put { shard, key, record } => {
                self.remove(*shard, key);
                let data = self.shards.entry(*shard).or_default();
                data.count(key, record, 1);
                data.records.insert(key.clone(), record.clone());
                if let Some(at) = record.expires_at_ms.filter(|_| record.is_live()) {
                    self.expiries.insert((at, *shard, key.clone()));
                }
            }
            Change::Drop { shard, key } => self.remove(*shard, key),
            Change::Clear(shard) => {
                let data = self.shards.entry(*shard).or_default();
                data.records.clear();
                data.rotten = false;
                data.digest = Digest::default();
                self.expiries.retain(|(_, of, _)| of != shard);
            }
            Change::Meta(shard, meta) => self.shards.entry(*shard).or_default().meta = Some(meta.clone()),
            Change::Node(node) => self.node = Some(node.clone()),
        }
    }
}

/// The disk of one member: what a reader sees, and what survives a power cut.
#[derive(Debug)]
pub struct Disk {
    /// Whose it is.
    pub owner: MemberKey,
    /// What survives.
    pub durable: Data,
    /// What reads see.
    pub current: Data,
    unsynced: VecDeque<(Seq, Vec<Change>)>,
    written: Seq,
    /// Changes since the checks last looked.
    pub fresh: Vec<Change>,
    /// Gone for good.
    pub wiped: bool,
}

impl Disk {
    /// An empty disk.
    pub fn new(owner: MemberKey) -> Disk {
        let (durable, current) = (Data::default(), Data::default());
        let (unsynced, fresh) = (VecDeque::new(), Vec::new());
        Disk { owner, durable, current, unsynced, written: 0, fresh, wiped: false }
    }

    /// Batches written and not durable.
    pub fn unsynced(&self) -> usize {
        self.unsynced.len()
    }

    /// A sync that covers all batches up to `upto` has ended.
    pub fn sync(&mut self, upto: Seq) {
        while let Some((_, batch)) = self.unsynced.pop_front_if(|(seq, _)| *seq <= upto) {
            batch.iter().for_each(|change| self.durable.apply(change));
        }
    }

    /// Of a shard, the disk does not keep the records for which `lose` says so. What a start finds then: the copy counts
    /// as lost, and what is left of it is of no use.
    pub fn rot(&mut self, shard: ShardId, mut lose: impl FnMut() -> bool) {
        let Some(data) = self.durable.shards.get_mut(&shard) else { return };
        let lost: Vec<Bytes> = data.records.keys().filter(|_| lose()).cloned().collect();
        data.rotten = true;
        if let Some(meta) = &mut data.meta {
            meta.installed = false;
        }
        lost.iter().for_each(|key| self.durable.remove(shard, key));
        self.current = self.durable.clone();
    }

    /// The process or the machine died: of what was not synced the first `kept` batches are there all the same.
    pub fn crash(&mut self, kept: usize) {
        for (_, batch) in self.unsynced.drain(..).take(kept) {
            batch.iter().for_each(|change| self.durable.apply(change));
        }
        self.unsynced.clear();
        self.current = self.durable.clone();
        self.written = 0;
        self.fresh.clear();
    }
}

/// What a core gets: a handle on a disk that outlives it.
#[derive(Clone, Debug)]
pub struct MemStore(pub Rc<RefCell<Disk>>);

/// What a store says of itself.
impl Data {
    fn metas(&self) -> Vec<(ShardId, ReplicaMeta)> {
        self.shards.iter().filter_map(|(shard, data)| Some((*shard, data.meta.clone()?))).collect()
    }
    fn get(&self, shard: ShardId, key: &[u8]) -> Option<Record> {
        self.shards.get(&shard)?.records.get(key).cloned()
    }
    fn scan(&self, shard: ShardId, after: Option<&[u8]>, limit: usize, bytes_max: usize) -> Vec<(Bytes, Record)> {
        let Some(data) = self.shards.get(&shard) else { return Vec::new() };
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut bytes = 0;
        let mut page = Vec::new();
        for (key, record) in data.records.range::<[u8], _>((from, Bound::Unbounded)).take(limit) {
            page.push((key.clone(), record.clone()));
            bytes += key.len() + record.value_bytes();
            if bytes >= bytes_max {
                break;
            }
        }
        page
    }
    fn versions(&self, shard: ShardId) -> Vec<(Bytes, Version)> {
        let records = self.shards.get(&shard).into_iter().flat_map(|data| &data.records);
        records.map(|(key, record)| (key.clone(), record.version)).collect()
    }
    fn digest(&self, shard: ShardId) -> Digest {
        self.shards.get(&shard).map(|data| data.digest.clone()).unwrap_or_default()
    }
    fn expiring(&self, until_ms: u64, limit: usize) -> Vec<Expiry> {
        let due = self.expiries.iter().take_while(|(at_ms, _, _)| *at_ms <= until_ms).take(limit);
        due.map(|(at_ms, shard, key)| Expiry { at_ms: *at_ms, shard: *shard, key: key.clone() }).collect()
    }
}

/// Implements the reading half of `Store` by the data that `$data` gives.
macro_rules! reads {
    ($self:ident => $data:expr) => {
        fn node(&$self) -> Option<NodeMeta> {
            $data.node.clone()
        }
        fn metas(&$self) -> Vec<(ShardId, ReplicaMeta)> {
            $data.metas()
        }
        fn get(&$self, shard: ShardId, key: &[u8]) -> Option<Record> {
            $data.get(shard, key)
        }
        fn scan(&$self, shard: ShardId, after: Option<&[u8]>, limit: usize, bytes_max: usize) -> Vec<(Bytes, Record)> {
            $data.scan(shard, after, limit, bytes_max)
        }
        fn versions(&$self, shard: ShardId) -> Vec<(Bytes, Version)> {
            $data.versions(shard)
        }
        fn digest(&$self, shard: ShardId) -> Digest {
            $data.digest(shard)
        }
        fn expiring(&$self, until_ms: u64, limit: usize) -> Vec<Expiry> {
            $data.expiring(until_ms, limit)
        }
    };
}

impl Store for MemStore {
    reads!(self => self.0.borrow().current);
    fn write(&mut self, changes: Vec<Change>) -> Seq {
        let mut disk = self.0.borrow_mut();
        disk.written += 1;
        for change in &changes {
            disk.current.apply(change);
        }
        disk.fresh.extend(changes.iter().cloned());
        let seq = disk.written;
        disk.unsynced.push_back((seq, changes));
        seq
    }
}

/// A store that is a plain value, so that a model can copy and compare it. What survives a crash is the model's to say.
#[derive(Clone, Hash, Debug, Default)]
pub struct Plain {
    /// What reads see.
    pub data: Data,
    written: Seq,
}

impl Plain {
    /// The store of a process that starts over `data`.
    pub fn over(data: Data) -> Plain {
        Plain { data, written: 0 }
    }
}

impl Store for Plain {
    reads!(self => self.data);
    fn write(&mut self, changes: Vec<Change>) -> Seq {
        changes.iter().for_each(|change| self.data.apply(change));
        self.written += 1;
        self.written
    }
}
