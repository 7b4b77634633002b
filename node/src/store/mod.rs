//! The store behind the core: fjall, with one fsync for many batches.
//!
//! The core's thread never waits for the disk: a batch goes into an overlay in memory, where reads see
//! it at once, and to the commit thread, which writes everything that has gathered in one fjall batch
//! with one fsync, takes it out of the overlay and reports how far it got. A failed write or fsync ends
//! the process: what the disk holds is not known then, and trying again could call lost data durable.
//!
//! A record that cannot be read, or is not what was written, is never served and never taken for absent: the process
//! ends, and the next start repairs the store (`rebuild`).
mod commit;
pub mod format;
pub mod journal;
pub mod manifest;
mod rebuild;
mod scrub;

pub use rebuild::mark;

use bytes::Bytes;
use chord::{
    shard::{
        config::{ReplicaMeta, ShardId},
        digest::{BUCKETS, Digest, summand},
        record::{Record, Version},
    },
    store::{Change, Expiry, NodeMeta, Seq, Store},
};
use commit::{Batch, Order, Overlay};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, compaction::Leveled};
use format::{decode_meta, decode_node, decode_record};
use std::{
    collections::{BTreeMap, HashMap},
    ops::Bound,
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
    thread::JoinHandle,
    time::Duration,
};

/// Exit code of a process whose disk failed it (`EX_IOERR`).
pub const EXIT_IO: i32 = 74;

/// Ends the process because the disk cannot be trusted.
pub(crate) fn fail(what: &str, error: &dyn std::fmt::Display) -> ! {
    tracing::error!(%error, "{what}; ending the process: nothing more may be called durable");
    eprintln!("chord-node: {what}: {error}");
    std::process::exit(EXIT_IO)
}

/// Size of a table on disk.
const TABLE_BYTES: u64 = 8 << 20;

/// Bytes of records that are in memory before they are written to a table; and of each kind of small entries, which take
/// several times as much there.
const RECORDS_BYTES: u64 = 4 << 20;
const SMALL_BYTES: u64 = 1 << 20;

/// fjall's keyspaces, shared by the core's thread (reads) and the commit thread (writes).
struct Files {
    dir: PathBuf,
    db: Database,
    records: Keyspace,
    metas: Keyspace,
    digests: Keyspace,
    expiries: Keyspace,
    node: Keyspace,
}

impl Files {
    fn open(dir: &Path) -> anyhow::Result<Files> {
        let db = Database::builder(dir)
            .cache_size(32 << 20)
            .manual_journal_persist(true)
            .max_journaling_size(64 << 20)
            .worker_threads(1)
            .open()?;
        // Small tables: one compaction rewrites few of them, see `disk.rs` for the room it needs.
        let strategy = Arc::new(Leveled::default().with_table_target_size(TABLE_BYTES));
        let keyspace = |name: &str, memtable: u64| {
            db.keyspace(name, || {
                KeyspaceCreateOptions::default()
                    .max_memtable_size(memtable)
                    .compaction_strategy(strategy.clone())
                    .manual_journal_persist(true)
            })
        };
        Ok(Files {
            dir: dir.to_owned(),
            records: keyspace("records", RECORDS_BYTES)?,
            metas: keyspace("metas", SMALL_BYTES)?,
            digests: keyspace("digests", SMALL_BYTES)?,
            expiries: keyspace("expiries", SMALL_BYTES)?,
            node: keyspace("node", SMALL_BYTES)?,
            db,
        })
    }

    /// Ends the process because what is stored is damaged; the next start repairs it.
    fn rotten(&self, what: &str, error: &dyn std::fmt::Display) -> ! {
        match rebuild::mark(&self.dir) {
            Ok(()) => fail(what, &format!("{error}; the next start looks through the store and repairs it")),
            Err(mark) => fail(what, &format!("{error}; and it could not be marked for repair: {mark}")),
        }
    }

    fn node(&self) -> anyhow::Result<Option<NodeMeta>> {
        Ok(self.node.get(format::NODE)?.map(|found| decode_node(&found)).transpose()?)
    }

    fn metas(&self) -> anyhow::Result<BTreeMap<ShardId, ReplicaMeta>> {
        let entries = self.metas.iter().map(|entry| {
            let (key, value) = entry.into_inner()?;
            let shard = ShardId(u32::from_be_bytes(key[..].try_into()?));
            Ok((shard, decode_meta(shard, &value)?))
        });
        entries.collect()
    }

    fn sums(&self) -> anyhow::Result<HashMap<ShardId, Digest>> {
        let mut digests: HashMap<ShardId, Digest> = HashMap::new();
        for entry in self.digests.iter() {
            let (key, value) = entry.into_inner()?;
            let (Some((shard, bucket)), value) = (key.split_at_checked(4), value) else { continue };
            let shard = ShardId(u32::from_be_bytes(shard.try_into()?));
            let digest = digests.entry(shard).or_default();
            let number = |at: usize| -> anyhow::Result<u64> {
                let bytes = value.get(at..at + 8).ok_or_else(|| anyhow::anyhow!("a stored digest is damaged"))?;
                Ok(u64::from_le_bytes(bytes.try_into()?))
            };
            match bucket.first() {
                Some(&255) => (digest.keys, digest.tombstones, digest.bytes) = (number(0)?, number(8)?, number(16)?),
                Some(&bucket) if usize::from(bucket) < BUCKETS => {
                    digest.sums[usize::from(bucket)] = u128::from(number(0)?) | (u128::from(number(8)?) << 64);
                }
                _ => {}
            }
        }
        Ok(digests)
    }
}

/// [`Store`] on disk.
pub struct FjallStore {
    files: Arc<Files>,
    overlay: Arc<Overlay>,
    digests: HashMap<ShardId, Digest>,
    seq: Seq,
    commits: Arc<mpsc::Sender<Order>>,
    thread: JoinHandle<()>,
}

impl FjallStore {
    /// Opens (or makes) the store in `dir`, and repairs it first if it was found damaged; `persisted` is called from the
    /// commit thread with the number of the last batch that is durable.
    ///
    /// # Errors
    /// When fjall cannot open the directory, or what is there is damaged where the ring cannot repair it.
    pub fn open(dir: &Path, persisted: impl Fn(Seq) + Send + 'static) -> anyhow::Result<FjallStore> {
        journal::check(dir)?;
        manifest::check(dir)?;
        rebuild::if_marked(dir)?;
        FjallStore::open_plain(dir, persisted)
    }

    fn open_plain(dir: &Path, persisted: impl Fn(Seq) + Send + 'static) -> anyhow::Result<FjallStore> {
        let files = Files::open(dir)?;
        let digests = match files.sums() {
            Ok(digests) => digests,
            Err(error) => {
                rebuild::mark(dir)?;
                return Err(error.context("the sums are damaged; start again: the store is repaired then"));
            }
        };
        let (files, overlay) = (Arc::new(files), Arc::new(Overlay::default()));
        let (commits, thread) = commit::start(files.clone(), overlay.clone(), persisted)?;
        Ok(FjallStore { files, overlay, digests, seq: 0, commits: Arc::new(commits), thread })
    }

    /// Lets go of the files; what was written and is not durable yet becomes it before.
    pub fn close(self) {
        let FjallStore { files, commits, thread, .. } = self;
        drop(commits);
        // A commit thread that fails ends the process.
        let _ = thread.join();
        drop(files);
    }

    /// Reads everything every `every`, to find damage before it is asked for, and seals anew what is of an older format.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn scrub(&self, every: Duration) -> std::io::Result<()> {
        scrub::watch(&self.files, Arc::downgrade(&self.commits), every)
    }

    /// A look at the bytes that are in memory and will need room on disk.
    pub fn pending(&self) -> impl Fn() -> u64 + Send + 'static {
        let db = self.files.db.clone();
        move || db.write_buffer_size()
    }

    fn stored(&self, shard: ShardId, key: &[u8]) -> Option<Record> {
        let place = format::record_key(shard, key);
        let found = self.files.records.get(&place);
        let bytes = found.unwrap_or_else(|error| self.files.rotten("cannot read a record", &error))?;
        Some(self.usable(&place, &bytes))
    }

    fn usable(&self, place: &[u8], bytes: &[u8]) -> Record {
        decode_record(place, bytes).unwrap_or_else(|error| self.files.rotten("cannot use a record", &error))
    }

    /// Notes the change of one key in the shard's digest; gives back what has to be written for it.
    fn count(&mut self, shard: ShardId, key: &[u8], before: Option<&Record>, after: Option<&Record>) -> usize {
        let digest = self.digests.entry(shard).or_default();
        let size = |record: &Record| (key.len() + record.value_bytes()) as u64;
        if let Some(before) = before {
            let (bucket, sum) = summand(key, &before.version);
            digest.sums[bucket] = digest.sums[bucket].wrapping_sub(sum);
            if before.is_live() {
                digest.keys -= 1;
                digest.bytes -= size(before);
            } else {
                digest.tombstones -= 1;
            }
        }
        if let Some(after) = after {
            let (bucket, sum) = summand(key, &after.version);
            digest.sums[bucket] = digest.sums[bucket].wrapping_add(sum);
            if after.is_live() {
                digest.keys += 1;
                digest.bytes += size(after);
            } else {
                digest.tombstones += 1;
            }
        }
        chord::shard::digest::bucket(key)
    }

    /// Visits the records of a shard in key order, from after `after`, as long as `visit` says to go on.
    fn walk(&self, shard: ShardId, after: Option<&[u8]>, mut visit: impl FnMut(Bytes, Record) -> bool) {
        let mut fresh = self.overlay.range(shard, after).into_iter().peekable();
        let from = format::record_key(shard, after.unwrap_or_default());
        let mut stored = (self.files.records.range(from..))
            .map(|entry| entry.into_inner().unwrap_or_else(|error| self.files.rotten("cannot read records", &error)))
            .take_while(|(key, _)| key.starts_with(&shard.0.to_be_bytes()))
            .filter(|(key, _)| after != Some(&key[4..]))
            .peekable();
        loop {
            let take_fresh = match (fresh.peek(), stored.peek()) {
                (Some((new, _)), Some((old, _))) if new == &old[4..] => {
                    stored.next();
                    continue;
                }
                (Some((new, _)), Some((old, _))) => new[..] < old[4..],
                (Some(_), None) => true,
                (None, Some(_)) => false,
                (None, None) => return,
            };
            let entry = if take_fresh {
                fresh.next().and_then(|(key, record)| Some((key, record?)))
            } else {
                stored.next().map(|(key, value)| (Bytes::copy_from_slice(&key[4..]), self.usable(&key, &value)))
            };
            if entry.is_some_and(|(key, record)| !visit(key, record)) {
                return;
            }
        }
    }

    fn set(&mut self, batch: &mut Batch, shard: ShardId, key: Bytes, record: Option<Record>) {
        let before = self.get(shard, &key);
        if before.is_none() && record.is_none() {
            return;
        }
        let bucket = self.count(shard, &key, before.as_ref(), record.as_ref());
        batch.touched.insert((shard, bucket as u8));
        if let Some(at_ms) = before.filter(Record::is_live).and_then(|before| before.expires_at_ms) {
            batch.expiries.push((format::expiry_key(at_ms, shard, &key), false));
        }
        if let Some(at_ms) = record.as_ref().filter(|record| record.is_live()).and_then(|record| record.expires_at_ms) {
            batch.expiries.push((format::expiry_key(at_ms, shard, &key), true));
        }
        self.overlay.put(self.seq, shard, key.clone(), record.clone());
        batch.records.push((shard, key, record));
    }
}

impl Store for FjallStore {
    fn node(&self) -> Option<NodeMeta> {
        if let Some(fresh) = self.overlay.node() {
            return Some(fresh);
        }
        self.files.node().unwrap_or_else(|error| fail("cannot read node metadata", &error))
    }

    fn metas(&self) -> Vec<(ShardId, ReplicaMeta)> {
        let fresh = self.overlay.metas();
        let mut metas = self.files.metas().unwrap_or_else(|error| fail("cannot read replica metadata", &error));
        metas.extend(fresh);
        metas.into_iter().collect()
    }

    fn get(&self, shard: ShardId, key: &[u8]) -> Option<Record> {
        match self.overlay.get(shard, key) {
            Some(record) => record,
            None => self.stored(shard, key),
        }
    }

    fn scan(&self, shard: ShardId, after: Option<&[u8]>, limit: usize, bytes_max: usize) -> Vec<(Bytes, Record)> {
        let (mut found, mut bytes) = (Vec::new(), 0);
        if limit == 0 {
            return found;
        }
        self.walk(shard, after, |key, record| {
            bytes += key.len() + record.value_bytes();
            found.push((key, record));
            found.len() < limit && bytes < bytes_max
        });
        found
    }

    fn versions(&self, shard: ShardId) -> Vec<(Bytes, Version)> {
        let mut versions = Vec::new();
        self.walk(shard, None, |key, record| {
            versions.push((key, record.version));
            true
        });
        versions
    }

    fn digest(&self, shard: ShardId) -> Digest {
        self.digests.get(&shard).cloned().unwrap_or_default()
    }

    fn expiring(&self, until_ms: u64, limit: usize) -> Vec<Expiry> {
        let end = until_ms.checked_add(1).map_or(Bound::Unbounded, |end| Bound::Excluded(end.to_be_bytes().to_vec()));
        let fresh = self.overlay.expiries(end.clone());
        let stored = self.files.expiries.range((Bound::<Vec<u8>>::Unbounded, end));
        let stored = stored.map(|entry| {
            entry.key().unwrap_or_else(|error| self.files.rotten("cannot read expiries", &error)).to_vec()
        });
        let mut places: Vec<Vec<u8>> = stored.filter(|place| !fresh.contains_key(place)).take(limit).collect();
        places.extend(fresh.into_iter().filter(|(_, present)| *present).map(|(place, _)| place));
        places.sort_unstable();
        places.truncate(limit);
        let expiry = |place: Vec<u8>| {
            let at_ms = u64::from_be_bytes(place.get(..8)?.try_into().ok()?);
            let shard = ShardId(u32::from_be_bytes(place.get(8..12)?.try_into().ok()?));
            Some(Expiry { at_ms, shard, key: Bytes::copy_from_slice(place.get(12..)?) })
        };
        places.into_iter().filter_map(expiry).collect()
    }

    fn write(&mut self, changes: Vec<Change>) -> Seq {
        self.seq += 1;
        let mut batch = Batch::new(self.seq);
        for change in changes {
            match change {
                Change::Put { shard, key, record } => self.set(&mut batch, shard, key, Some(record)),
                Change::Drop { shard, key } => self.set(&mut batch, shard, key, None),
                Change::Clear(shard) => {
                    for (key, _) in self.versions(shard) {
                        self.set(&mut batch, shard, key, None);
                    }
                }
                Change::Meta(shard, meta) => batch.metas.push((shard, meta)),
                Change::Node(meta) => batch.node = Some(meta),
            }
        }
        for (shard, bucket) in &batch.touched {
            let digest = self.digests.get(shard).cloned().unwrap_or_default();
            batch.sums.push((*shard, *bucket, digest.sums[usize::from(*bucket)]));
            batch.counts.insert(*shard, (digest.keys, digest.tombstones, digest.bytes));
        }
        self.overlay.add_rest(&batch);
        if self.commits.send(Order::Write(Box::new(batch))).is_err() {
            fail("the commit thread has ended", &"no more writes are possible");
        }
        self.seq
    }
}
