//! `FjallStore`: what it shows before and after a restart, and what a crash leaves of it.
mod opened;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use chord::{
    shard::{
        config::{Ballot, Config, ReplicaMeta, ShardId},
        digest::{Digest, summand},
        record::{Record, Version},
    },
    store::{Change, Seq, Store},
};
use chord_node::store::FjallStore;
use opened::{PATIENCE, open, settle};

fn record(seq: u64, value: Option<&[u8]>, expires_at_ms: Option<u64>) -> Record {
    let version = Version { epoch: 1, ballot: Ballot(16), seq };
    let value = value.map(Bytes::copy_from_slice);
    Record { version, revision: version, value, expires_at_ms, recent: Vec::new(), forgotten: None }
}

fn put(shard: u32, key: &str, record: Record) -> Change {
    Change::Put { shard: ShardId(shard), key: Bytes::copy_from_slice(key.as_bytes()), record }
}

/// The slow twin of the digest that the store keeps in step.
fn counted(store: &FjallStore, shard: ShardId) -> Digest {
    let mut digest = Digest::default();
    for (key, record) in store.scan(shard, None, usize::MAX, usize::MAX) {
        let (bucket, sum) = summand(&key, &record.version);
        digest.sums[bucket] = digest.sums[bucket].wrapping_add(sum);
        if record.is_live() {
            digest.keys += 1;
            digest.bytes += (key.len() + record.value_bytes()) as u64;
        } else {
            digest.tombstones += 1;
        }
    }
    digest
}

fn keys(store: &FjallStore, shard: u32) -> Vec<String> {
    let found = store.scan(ShardId(shard), None, usize::MAX, usize::MAX);
    found.into_iter().map(|(key, _)| String::from_utf8_lossy(&key).into_owned()).collect()
}

fn ends(store: &FjallStore, until_ms: u64) -> Vec<(u64, String)> {
    let expiries = store.expiring(until_ms, 100).into_iter();
    expiries.map(|expiry| (expiry.at_ms, String::from_utf8_lossy(&expiry.key).into_owned())).collect()
}

/// Runs `check` on what is written: at once, when it is durable, and after the store was opened again.
fn at_every_stage(
    write: impl FnOnce(&mut FjallStore) -> Seq,
    check: impl Fn(&FjallStore) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let (mut store, persisted) = open(dir.path())?;
    let seq = write(&mut store);
    check(&store).context("at once")?;
    settle(&persisted, seq)?;
    check(&store).context("once durable")?;
    drop(store);
    // The commit thread lets go of the files a moment after its store.
    let begun = std::time::Instant::now();
    let (store, _persisted) = loop {
        match open(dir.path()) {
            Ok(opened) => break opened,
            Err(error) if begun.elapsed() > PATIENCE => return Err(error),
            Err(_) => std::thread::yield_now(),
        }
    };
    check(&store).context("after opening again")
}

#[test]
fn records_are_seen_in_order_at_every_stage() -> anyhow::Result<()> {
    let write = |store: &mut FjallStore| {
        store.write(vec![put(1, "b", record(1, Some(b"1"), None)), put(2, "a", record(2, Some(b"2"), None))]);
        store.write(vec![put(1, "a", record(3, Some(b"3"), None)), put(1, "b", record(4, None, None))]);
        store.write(vec![put(1, "c", record(5, Some(b"5"), None)), put(1, "d", record(6, Some(b"6"), None))]);
        store.write(vec![Change::Drop { shard: ShardId(1), key: Bytes::from_static(b"c") }])
    };
    at_every_stage(write, |store| {
        ensure!(keys(store, 1) == ["a", "b", "d"], "{:?}", keys(store, 1));
        ensure!(keys(store, 2) == ["a"] && keys(store, 3).is_empty());
        let after = store.scan(ShardId(1), Some(b"a"), 1, usize::MAX);
        ensure!(after.len() == 1 && after[0].0 == "b", "{after:?}");
        ensure!(store.scan(ShardId(1), None, 0, usize::MAX).is_empty());
        ensure!(store.scan(ShardId(1), None, 10, 1).len() == 1, "one record already exceeds the bytes");
        ensure!(store.get(ShardId(1), b"b") == Some(record(4, None, None)));
        ensure!(store.get(ShardId(1), b"c").is_none());
        ensure!(store.digest(ShardId(1)) == counted(store, ShardId(1)), "digest out of step");
        ensure!(store.digest(ShardId(1)).tombstones == 1);
        Ok(())
    })
}

#[test]
fn cleared_shard_is_empty_and_its_neighbours_are_not() -> anyhow::Result<()> {
    let write = |store: &mut FjallStore| {
        store.write((0..300).map(|n| put(7, &format!("{n:03}"), record(n, Some(b"v"), Some(9)))).collect());
        store.write(vec![put(6, "x", record(1, Some(b"v"), None)), put(8, "x", record(1, Some(b"v"), None))]);
        store.write(vec![Change::Clear(ShardId(7)), put(7, "new", record(1, Some(b"v"), Some(11)))])
    };
    at_every_stage(write, |store| {
        ensure!(keys(store, 7) == ["new"] && keys(store, 6) == ["x"] && keys(store, 8) == ["x"]);
        ensure!(store.digest(ShardId(7)) == counted(store, ShardId(7)), "digest out of step");
        ensure!(ends(store, 100) == [(11, "new".to_owned())], "{:?}", ends(store, 100));
        Ok(())
    })
}

#[test]
fn index_of_expiries_follows_the_records() -> anyhow::Result<()> {
    let write = |store: &mut FjallStore| {
        store.write(vec![
            put(1, "late", record(1, Some(b"v"), Some(500))),
            put(2, "soon", record(1, Some(b"v"), Some(20))),
        ]);
        store.write(vec![
            put(1, "stays", record(1, Some(b"v"), Some(10))),
            put(1, "stays", record(2, Some(b"v"), None)),
        ]);
        store.write(vec![put(1, "gone", record(1, Some(b"v"), Some(15)))]);
        store.write(vec![put(1, "moved", record(1, Some(b"v"), Some(16)))]);
        store.write(vec![put(1, "gone", record(2, None, None)), put(1, "moved", record(2, Some(b"v"), Some(30)))])
    };
    at_every_stage(write, |store| {
        ensure!(ends(store, 19).is_empty(), "{:?}", ends(store, 19));
        ensure!(ends(store, 20) == [(20, "soon".into())], "an end counts from its very millisecond");
        ensure!(ends(store, 30) == [(20, "soon".into()), (30, "moved".into())], "{:?}", ends(store, 30));
        ensure!(ends(store, u64::MAX).len() == 3);
        ensure!(store.expiring(u64::MAX, 1).len() == 1);
        Ok(())
    })
}

#[test]
fn metadata_is_replaced() -> anyhow::Result<()> {
    let meta = |epoch, promised| ReplicaMeta {
        config: Config { epoch, members: Vec::new() },
        previous: Vec::new(),
        installed: true,
        promised: Ballot(promised),
        seal: None,
        word: None,
    };
    let write = |store: &mut FjallStore| {
        store.write(vec![Change::Meta(ShardId(4), meta(1, 16)), Change::Meta(ShardId(2), meta(1, 17))]);
        store.write(vec![Change::Meta(ShardId(4), meta(2, 0))])
    };
    at_every_stage(write, |store| {
        let expected = vec![(ShardId(2), meta(1, 17)), (ShardId(4), meta(2, 0))];
        ensure!(store.metas() == expected, "{:?}", store.metas());
        ensure!(store.node().is_none());
        Ok(())
    })
}
