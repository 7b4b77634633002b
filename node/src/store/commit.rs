//! Group commit: everything that gathered while the last fsync ran goes to disk with the next one.
use super::{
    Files, fail,
    format::{self, Kind},
};
use bytes::Bytes;
use chord::{
    shard::{
        config::{ReplicaMeta, ShardId},
        record::Record,
    },
    store::{NodeMeta, Seq},
};
use fjall::PersistMode;
use std::{
    collections::{BTreeMap, BTreeSet},
    iter,
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
    thread::{self, JoinHandle},
    time::Instant,
};

/// Most batches of the core in one batch on disk.
const BATCHES_MAX: usize = 4096;

/// One batch of the core on its way to disk.
pub(super) struct Batch {
    pub seq: Seq,
    pub records: Vec<(ShardId, Bytes, Option<Record>)>,
    pub metas: Vec<(ShardId, ReplicaMeta)>,
    pub node: Option<NodeMeta>,
    pub touched: BTreeSet<(ShardId, u8)>,
    pub sums: Vec<(ShardId, u8, u128)>,
    pub counts: BTreeMap<ShardId, (u64, u64, u64)>,
    /// Entries of the index of expiries that come (true) and go, in order.
    pub expiries: Vec<(Vec<u8>, bool)>,
}

impl Batch {
    pub fn new(seq: Seq) -> Batch {
        Batch {
            seq,
            records: Vec::new(),
            metas: Vec::new(),
            node: None,
            touched: BTreeSet::new(),
            sums: Vec::new(),
            counts: BTreeMap::new(),
            expiries: Vec::new(),
        }
    }
}

/// What the commit thread is asked for.
pub(super) enum Order {
    Write(Box<Batch>),
    /// Seal anew what is under these keys, if that is of an older format still.
    Reseal(Vec<(Kind, Vec<u8>)>),
}

/// Changes that are written but not on disk yet, each with the batch that made it last.
#[derive(Default)]
struct Fresh {
    /// `None` marks a removed record.
    records: BTreeMap<(ShardId, Bytes), (Seq, Option<Record>)>,
    /// Whether the entry of the index is there.
    expiries: BTreeMap<Vec<u8>, (Seq, bool)>,
    metas: BTreeMap<ShardId, (Seq, ReplicaMeta)>,
    node: Option<(Seq, NodeMeta)>,
}

/// What reads must see before the disk has it. Look here first, then on disk: an entry goes only after it is there.
#[derive(Default)]
pub(super) struct Overlay(Mutex<Fresh>);

impl Overlay {
    fn lock(&self) -> MutexGuard<'_, Fresh> {
        // Plain maps: whoever panicked left them whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in one record, or that it is gone.
    pub fn put(&self, seq: Seq, shard: ShardId, key: Bytes, record: Option<Record>) {
        self.lock().records.insert((shard, key), (seq, record));
    }

    /// Takes in what a batch changes beside records.
    pub fn add_rest(&self, batch: &Batch) {
        let mut fresh = self.lock();
        for (place, present) in &batch.expiries {
            fresh.expiries.insert(place.clone(), (batch.seq, *present));
        }
        for (shard, meta) in &batch.metas {
            fresh.metas.insert(*shard, (batch.seq, meta.clone()));
        }
        if let Some(node) = &batch.node {
            fresh.node = Some((batch.seq, node.clone()));
        }
    }

    /// What is fresh about a key; `None`: look on disk.
    pub fn get(&self, shard: ShardId, key: &[u8]) -> Option<Option<Record>> {
        let fresh = self.lock();
        if fresh.records.is_empty() {
            return None;
        }
        fresh.records.get(&(shard, Bytes::copy_from_slice(key))).map(|(_, record)| record.clone())
    }

    /// What is fresh about a shard, in key order.
    pub fn range(&self, shard: ShardId, after: Option<&[u8]>) -> Vec<(Bytes, Option<Record>)> {
        let from = match after {
            Some(after) => Bound::Excluded((shard, Bytes::copy_from_slice(after))),
            None => Bound::Included((shard, Bytes::new())),
        };
        let fresh = self.lock();
        let here = fresh.records.range((from, Bound::Unbounded)).take_while(|((at, _), _)| *at == shard);
        here.map(|((_, key), (_, record))| (key.clone(), record.clone())).collect()
    }

    /// Fresh entries of the index of expiries up to `end`, and whether each is there.
    pub fn expiries(&self, end: Bound<Vec<u8>>) -> BTreeMap<Vec<u8>, bool> {
        let fresh = self.lock();
        fresh.expiries.range((Bound::Unbounded, end)).map(|(place, (_, present))| (place.clone(), *present)).collect()
    }

    /// Fresh replica metadata.
    pub fn metas(&self) -> BTreeMap<ShardId, ReplicaMeta> {
        self.lock().metas.iter().map(|(shard, (_, meta))| (*shard, meta.clone())).collect()
    }

    /// Fresh node metadata.
    pub fn node(&self) -> Option<NodeMeta> {
        self.lock().node.as_ref().map(|(_, node)| node.clone())
    }

    /// Forgets what is on disk now: everything up to `last` that no later batch has changed.
    fn settle(&self, batches: &[Batch], last: Seq) {
        fn drop_old<K: Ord, V>(fresh: &mut BTreeMap<K, (Seq, V)>, place: &K, last: Seq) {
            if fresh.get(place).is_some_and(|(seq, _)| *seq <= last) {
                fresh.remove(place);
            }
        }
        let mut fresh = self.lock();
        for batch in batches {
            for (shard, key, _) in &batch.records {
                drop_old(&mut fresh.records, &(*shard, key.clone()), last);
            }
            batch.expiries.iter().for_each(|(place, _)| drop_old(&mut fresh.expiries, place, last));
            batch.metas.iter().for_each(|(shard, _)| drop_old(&mut fresh.metas, shard, last));
        }
        if fresh.node.as_ref().is_some_and(|(seq, _)| *seq <= last) {
            fresh.node = None;
        }
    }
}

/// Starts the commit thread; it ends when the store is dropped.
pub(super) fn start(
    files: Arc<Files>,
    overlay: Arc<Overlay>,
    persisted: impl Fn(Seq) + Send + 'static,
) -> std::io::Result<(mpsc::Sender<Order>, JoinHandle<()>)> {
    let (sender, receiver) = mpsc::channel::<Order>();
    let thread = thread::Builder::new().name("commit".into()).spawn(move || {
        while let Ok(first) = receiver.recv() {
            let (mut batches, mut old) = (Vec::new(), Vec::new());
            for order in iter::once(first).chain(receiver.try_iter()).take(BATCHES_MAX) {
                match order {
                    Order::Write(batch) => batches.push(*batch),
                    Order::Reseal(places) => old.extend(places),
                }
            }
            reseal(&files, &old);
            if batches.is_empty() {
                continue;
            }
            let begun = Instant::now();
            write(&files, &batches).unwrap_or_else(|error| unwritten(&files, &error));
            metrics::histogram!("chord_commit_seconds").record(begun.elapsed().as_secs_f64());
            metrics::histogram!("chord_commit_batches").record(batches.len() as f64);
            if let Some(last) = batches.last().map(|batch| batch.seq) {
                overlay.settle(&batches, last);
                persisted(last);
            }
        }
    })?;
    Ok((sender, thread))
}

fn unwritten(files: &Files, error: &fjall::Error) -> ! {
    let what = "cannot write to the data directory";
    match error {
        // fjall's own thread has ended on what it could not read, or not write.
        fjall::Error::Poisoned => files.rotten(what, error),
        _ => fail(what, error),
    }
}

/// Seals anew what is of an older format. Only this thread writes, so nothing newer can be overwritten; and it syncs,
/// because no batch may follow one that is not on disk (see `journal`).
fn reseal(files: &Files, places: &[(Kind, Vec<u8>)]) {
    let mut out = files.db.batch().durability(Some(PersistMode::SyncData));
    for (kind, place) in places {
        let keyspace = match kind {
            Kind::Record => &files.records,
            Kind::Meta => &files.metas,
            Kind::Node => &files.node,
        };
        let found = keyspace.get(place).unwrap_or_else(|error| files.rotten("cannot read what is old", &error));
        let fresh = found.map(|sealed| format::reseal(*kind, place, &sealed));
        match fresh.transpose() {
            Ok(fresh) => fresh.flatten().into_iter().for_each(|fresh| out.insert(keyspace, place.clone(), fresh)),
            Err(error) => files.rotten("cannot use what is old", &error),
        }
    }
    if !out.is_empty() {
        out.commit().unwrap_or_else(|error| unwritten(files, &error));
    }
}

/// Writes batches in their order as one, and syncs. In one fjall batch all changes have one sequence
/// number, so of several changes of a key only the last may be in it.
fn write(files: &Files, batches: &[Batch]) -> fjall::Result<()> {
    let mut records = BTreeMap::new();
    let mut expiries = BTreeMap::new();
    let mut metas = BTreeMap::new();
    let mut sums = BTreeMap::new();
    let mut counts = BTreeMap::new();
    let mut node = None;
    for batch in batches {
        records.extend(batch.records.iter().map(|(shard, key, record)| ((*shard, key), record)));
        expiries.extend(batch.expiries.iter().map(|(place, present)| (place, *present)));
        metas.extend(batch.metas.iter().map(|(shard, meta)| (*shard, meta)));
        sums.extend(batch.sums.iter().map(|(shard, bucket, sum)| ((*shard, *bucket), sum)));
        counts.extend(batch.counts.iter());
        node = batch.node.as_ref().or(node);
    }
    let mut out = files.db.batch().durability(Some(PersistMode::SyncData));
    for ((shard, key), record) in records {
        let place = format::record_key(shard, key);
        match record {
            Some(record) => {
                let sealed = format::encode_record(&place, record);
                out.insert(&files.records, place, sealed);
            }
            None => out.remove(&files.records, place),
        }
    }
    for (place, present) in expiries {
        if present {
            out.insert(&files.expiries, place.clone(), Vec::<u8>::new());
        } else {
            out.remove(&files.expiries, place.clone());
        }
    }
    for (shard, meta) in metas {
        out.insert(&files.metas, format::meta_key(shard), format::encode_meta(shard, meta));
    }
    if let Some(node) = node {
        out.insert(&files.node, format::NODE, format::encode_node(node));
    }
    for ((shard, bucket), sum) in sums {
        let place = [&shard.0.to_be_bytes()[..], &[bucket]].concat();
        out.insert(&files.digests, place, sum.to_le_bytes().to_vec());
    }
    for (shard, (keys, tombstones, bytes)) in counts {
        let place = [&shard.0.to_be_bytes()[..], &[255]].concat();
        let counts = [keys.to_le_bytes(), tombstones.to_le_bytes(), bytes.to_le_bytes()].concat();
        out.insert(&files.digests, place, counts);
    }
    out.commit()
}
