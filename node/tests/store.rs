//! `FjallStore`: what it shows before and after a restart, and what a crash leaves of it.
mod files;

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
use files::copy;
use std::{
    env, fs,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Command, Stdio},
    sync::mpsc::{Receiver, channel},
    time::Duration,
};

/// Longest time to wait for a batch to become durable.
const PATIENCE: Duration = Duration::from_secs(20);

fn open(dir: &Path) -> anyhow::Result<(FjallStore, Receiver<Seq>)> {
    let (sender, persisted) = channel();
    let store = FjallStore::open(dir, move |seq| {
        let _ = sender.send(seq);
    })?;
    Ok((store, persisted))
}

fn settle(persisted: &Receiver<Seq>, seq: Seq) -> anyhow::Result<()> {
    while persisted.recv_timeout(PATIENCE).context("the batch never became durable")? < seq {}
    Ok(())
}

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

/// Keys of one batch of the crash tests: all of them are there, or none.
const PER_BATCH: u64 = 5;

/// Batches that the writer of the crash test is ahead of the disk.
const AHEAD: u64 = 64;

fn batch(number: u64) -> Vec<Change> {
    let value = vec![number as u8; 300];
    (0..PER_BATCH)
        .map(|part| put(part as u32, &format!("{number:08}"), record(number, Some(&value), Some(number))))
        .collect()
}

/// How many batches a directory holds; an error when one is there in part, or one before it is missing.
fn whole_batches(dir: &Path) -> anyhow::Result<u64> {
    let (store, _persisted) = open(dir)?;
    let count = store.scan(ShardId(0), None, usize::MAX, usize::MAX).len() as u64;
    for shard in (0..PER_BATCH as u32).map(ShardId) {
        let found = store.scan(shard, None, usize::MAX, usize::MAX);
        ensure!(found.len() as u64 == count, "{shard:?} has {} batches, shard 0 has {count}", found.len());
        for (number, (key, record)) in (1..).zip(&found) {
            ensure!(*key == format!("{number:08}") && record.version.seq == number, "{key:?} is not batch {number}");
        }
        ensure!(store.digest(shard) == counted(&store, shard), "the digest of {shard:?} is out of step");
    }
    ensure!(
        store.expiring(u64::MAX, usize::MAX).len() as u64 == count * PER_BATCH,
        "the index of expiries is out of step"
    );
    Ok(count)
}

/// Not a test of its own: the process that [`killed_writer_loses_nothing_it_called_durable`] kills.
#[test]
fn writer() -> anyhow::Result<()> {
    let Some(dir) = env::var_os("CHORD_TEST_WRITER_DIR") else { return Ok(()) };
    let (mut store, persisted) = open(Path::new(&dir))?;
    let first = store.scan(ShardId(0), None, usize::MAX, usize::MAX).len() as u64;
    let (mut written, mut durable) = (0, 0);
    loop {
        // Enough ahead for group commits, not so much that memory fills.
        while written < durable + AHEAD {
            written = store.write(batch(first + written + 1));
        }
        durable = persisted.recv_timeout(PATIENCE)?;
        let mut out = std::io::stdout().lock();
        writeln!(out, "durable {}", first + durable)?;
        out.flush()?;
    }
}

#[test]
fn killed_writer_loses_nothing_it_called_durable() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let mut total = 0;
    for round in 0..12u64 {
        let mut child = Command::new(env::current_exe()?)
            .args(["--exact", "writer", "--nocapture", "--test-threads=1"])
            .env("CHORD_TEST_WRITER_DIR", dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let mut lines = BufReader::new(child.stdout.take().context("the child's output")?).lines();
        let mut durable = 0;
        // Killed after another number of reports each time, in the middle of whatever it does then.
        for _ in 0..1 + round * 7 {
            for line in lines.by_ref() {
                if let Some(number) = line?.rsplit("durable ").next().and_then(|number| number.parse().ok()) {
                    durable = number;
                    break;
                }
            }
        }
        child.kill()?;
        // What it still said before it died counts as well.
        for line in lines.map_while(Result::ok) {
            if let Some(number) = line.rsplit("durable ").next().and_then(|number| number.parse().ok()) {
                durable = number;
            }
        }
        child.wait()?;
        ensure!(durable > total, "round {round} made no progress");
        total = whole_batches(dir.path()).with_context(|| format!("after round {round}"))?;
        ensure!(total >= durable, "round {round}: {durable} batches were durable, {total} are there");
    }
    Ok(())
}

/// From now on, every fsync of this process fails.
fn break_the_disk() -> anyhow::Result<()> {
    use seccompiler::{SeccompAction, SeccompFilter};
    let rules = [libc::SYS_fsync, libc::SYS_fdatasync].map(|call| (call, Vec::new())).into();
    let failing = SeccompAction::Errno(libc::EIO as u32);
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, failing, env::consts::ARCH.try_into()?)?;
    let program: seccompiler::BpfProgram = filter.try_into()?;
    Ok(seccompiler::apply_filter_all_threads(&program)?)
}

/// Not a test of its own: the process of [`failed_fsync_ends_the_process_before_anything_is_called_durable`].
#[test]
fn writer_on_a_failing_disk() -> anyhow::Result<()> {
    let Some(dir) = env::var_os("CHORD_TEST_FAILING_DIR") else { return Ok(()) };
    let (mut store, persisted) = open(Path::new(&dir))?;
    for number in 1..=2 {
        let seq = store.write(batch(number));
        settle(&persisted, seq)?;
        println!("durable {number}");
        break_the_disk()?;
    }
    Ok(())
}

#[test]
fn failed_fsync_ends_the_process_before_anything_is_called_durable() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let output = Command::new(env::current_exe()?)
        .args(["--exact", "writer_on_a_failing_disk", "--nocapture", "--test-threads=1"])
        .env("CHORD_TEST_FAILING_DIR", dir.path())
        .output()?;
    let (said, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(said.contains("durable 1") && !said.contains("durable 2"), "{said}\n{complained}");
    ensure!(output.status.code() == Some(chord_node::store::EXIT_IO), "{}: {complained}", output.status);
    ensure!(complained.contains("cannot write to the data directory"), "{complained}");
    ensure!(whole_batches(dir.path())? >= 1, "what was durable before is gone");
    Ok(())
}

#[test]
fn torn_journal_gives_a_whole_prefix() -> anyhow::Result<()> {
    let (dir, copies) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let (mut store, persisted) = open(dir.path())?;
    let count = 20;
    for number in 1..=count {
        let seq = store.write(batch(number));
        settle(&persisted, seq)?;
    }
    // As a crash would find it: nothing is closed.
    copy(dir.path(), &copies.path().join("whole"))?;
    let journals = |dir: &Path| -> anyhow::Result<Vec<std::path::PathBuf>> {
        let files = fs::read_dir(dir)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>()?;
        Ok(files.into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "jnl")).collect())
    };
    let journal = journals(dir.path())?.pop().context("the store has a journal")?;
    let bytes = fs::read(&journal)?;
    let used = bytes.iter().rposition(|byte| *byte != 0).context("the journal is not empty")? + 1;
    ensure!(whole_batches(&copies.path().join("whole"))? == count);
    let mut seen = std::collections::BTreeSet::new();
    for cut in (1..=24).map(|part| used * part / 24).chain([used - 1, used - 2, used - 7]) {
        let torn = copies.path().join(format!("cut-{cut}"));
        copy(dir.path(), &torn)?;
        let name = journal.file_name().context("a file name")?;
        fs::OpenOptions::new().write(true).open(torn.join(name))?.set_len(cut as u64)?;
        seen.insert(whole_batches(&torn).with_context(|| format!("journal of {used} bytes cut at {cut}"))?);
        fs::remove_dir_all(&torn)?;
    }
    ensure!(seen.len() > 10 && seen.last() == Some(&count), "cuts left {seen:?} batches");
    drop(store);
    Ok(())
}
