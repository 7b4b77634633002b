//! What crashes and rot leave of a `FjallStore`: everything that was called durable, no batch in part, nothing wrong.
mod files;
mod opened;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use chord::{
    id::Id,
    member::{Disk, Member, MemberKey, MemberState, NodeRef},
    shard::{
        config::{Ballot, Config, ReplicaMeta, ShardId},
        digest::{Digest, summand},
        record::{Record, Version},
    },
    store::{Change, NodeMeta, Store},
};
use chord_node::{
    identity::DataDir,
    store::{self, FjallStore},
};
use files::copy;
use opened::{PATIENCE, open, settle};
use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

/// Shards that every batch changes, alike.
const SHARDS: u32 = 5;
/// Keys of a shard.
const SLOTS: u64 = 61;
/// Every so many batches, all shards are cleared.
const CLEARED_EVERY: u64 = 97;
/// Batches that the writer is ahead of the disk: enough for group commits, not so many that memory fills.
const AHEAD: u64 = 24;

/// A number from the environment, for more than the tests ask.
fn number(name: &str, default: u64) -> u64 {
    env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} must be a number")))
}

/// A directory in memory, if there is one: what a flipped byte, a cut or the end of a process does is the same there,
/// and quicker to see.
fn in_memory() -> std::io::Result<tempfile::TempDir> {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir())
}

fn record(number: u64, bytes: usize) -> Record {
    let version = Version { epoch: 1, ballot: Ballot(16), seq: number };
    // Nothing that could be compressed to nothing.
    let value =
        (0..bytes as u64).map(|at| (number.wrapping_mul(at + 1).wrapping_mul(0x9e37_79b9) >> 8) as u8).collect();
    Record {
        version,
        revision: version,
        value: Some(value),
        expires_at_ms: Some(number),
        recent: vec![],
        forgotten: None,
    }
}

fn meta(number: u64) -> ReplicaMeta {
    let config = Config { epoch: 1, members: Vec::new() };
    ReplicaMeta { config, previous: Vec::new(), installed: true, promised: Ballot(number), seal: None, word: None }
}

/// Slot of a batch, and whether it removes the key there instead of writing it.
fn plan(number: u64) -> (String, bool) {
    (format!("{:02}", number % SLOTS), number % 7 == 3)
}

/// A batch that writes or removes one key in each shard, and replaces each shard's metadata.
fn batch(number: u64, bytes: usize) -> Vec<Change> {
    let (key, removes) = plan(number);
    let key = Bytes::from(key);
    let of_shard = |shard| {
        let clear = number.is_multiple_of(CLEARED_EVERY).then_some(Change::Clear(shard));
        let change = match removes {
            true => Change::Drop { shard, key: key.clone() },
            false => Change::Put { shard, key: key.clone(), record: record(number, bytes) },
        };
        clear.into_iter().chain([change, Change::Meta(shard, meta(number))])
    };
    (0..SHARDS).map(ShardId).flat_map(of_shard).collect()
}

/// What a shard holds after the batches up to `last`: key and the batch that wrote it.
fn expected(last: u64) -> BTreeMap<String, u64> {
    let mut records = BTreeMap::new();
    for number in (last / CLEARED_EVERY * CLEARED_EVERY).max(1)..=last {
        let (key, removes) = plan(number);
        if removes {
            records.remove(&key)
        } else {
            records.insert(key, number)
        };
    }
    records
}

/// The last batch that a store holds; an error when one is there in part, or one before it is missing.
fn last_batch(store: &FjallStore, bytes: usize) -> anyhow::Result<u64> {
    let metas = store.metas();
    let last = metas.first().map_or(0, |(_, meta)| meta.promised.0);
    ensure!(metas.iter().all(|(_, held)| *held == meta(last)), "the metadata are of several batches: {metas:?}");
    for shard in (0..SHARDS).map(ShardId) {
        holds(store, shard, last, bytes)?;
    }
    let ends: BTreeSet<u64> = store.expiring(u64::MAX, usize::MAX).iter().map(|expiry| expiry.at_ms).collect();
    ensure!(ends == expected(last).into_values().collect(), "the index of expiries is out of step");
    Ok(last)
}

/// Whether a shard is as the batches up to `last` left it.
fn holds(store: &FjallStore, shard: ShardId, last: u64, bytes: usize) -> anyhow::Result<()> {
    let found = store.scan(shard, None, usize::MAX, usize::MAX);
    let wanted = expected(last);
    ensure!(
        found.len() == wanted.len(),
        "{shard:?} has {} records after batch {last}, not {}",
        found.len(),
        wanted.len()
    );
    let mut digest = Digest::default();
    for ((key, held), (wanted, number)) in found.iter().zip(&wanted) {
        ensure!(key == wanted && *held == record(*number, bytes), "{shard:?}: {key:?} is not of batch {number}");
        ensure!(store.get(shard, key).as_ref() == Some(held), "{shard:?}: {key:?} differs when it is asked for alone");
        let (bucket, sum) = summand(key, &held.version);
        digest.sums[bucket] = digest.sums[bucket].wrapping_add(sum);
        digest.keys += 1;
        digest.bytes += (key.len() + held.value_bytes()) as u64;
    }
    ensure!(store.digest(shard) == digest, "the digest of {shard:?} is out of step");
    Ok(())
}

/// Opens a directory, looks, closes it.
fn examine(dir: &Path, bytes: usize) -> anyhow::Result<u64> {
    let (store, _persisted) = open(dir)?;
    let last = last_batch(&store, bytes);
    store.close();
    last
}

const WRITER_BYTES: usize = 300;

/// Not a test of its own: the process that [`killed_writer_loses_nothing_it_called_durable`] kills.
#[test]
fn writer() -> anyhow::Result<()> {
    let Some(dir) = env::var_os("CHORD_TEST_WRITER_DIR") else { return Ok(()) };
    let (mut store, persisted) = open(Path::new(&dir))?;
    let first = last_batch(&store, WRITER_BYTES)?;
    let (mut written, mut durable) = (0, 0);
    loop {
        while written < durable + AHEAD {
            written = store.write(batch(first + written + 1, WRITER_BYTES));
        }
        durable = persisted.recv_timeout(PATIENCE)?;
        let mut out = std::io::stdout().lock();
        writeln!(out, "durable {}", first + durable)?;
        out.flush()?;
    }
}

/// Goal: whatever a store called durable is there after a crash, and no batch in part. Method: a process that writes is
/// killed at another moment each time, while it writes, flushes or compacts; the next one goes on with its directory.
/// After so many kills it begins with an empty one, because everything that is there is read again after each.
#[test]
fn killed_writer_loses_nothing_it_called_durable() -> anyhow::Result<()> {
    const KILLS_PER_DIRECTORY: u64 = 100;
    let (mut dir, mut total) = (in_memory()?, 0);
    for round in 0..number("CHORD_KILLS", 50) {
        if round > 0 && round % KILLS_PER_DIRECTORY == 0 {
            println!("{round} kills; the last directory has {total} batches");
            (dir, total) = (in_memory()?, 0);
        }
        let mut child = Command::new(env::current_exe()?)
            .args(["--exact", "writer", "--nocapture", "--test-threads=1"])
            .env("CHORD_TEST_WRITER_DIR", dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let mut reports = BufReader::new(child.stdout.take().context("the child's output")?)
            .lines()
            .map_while(Result::ok)
            .filter_map(|line| line.rsplit("durable ").next()?.parse::<u64>().ok());
        let wanted = 1 + (round * 37 % 11) as usize;
        let mut durable = reports.by_ref().take(wanted).last().unwrap_or(0);
        std::thread::sleep(Duration::from_micros(round * 7919 % 3001));
        child.kill()?;
        // What it still said before it died counts as well.
        durable = reports.last().unwrap_or(durable);
        child.wait()?;
        ensure!(durable > total, "round {round} made no progress");
        total = examine(dir.path(), WRITER_BYTES).with_context(|| format!("after round {round}"))?;
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
        let seq = store.write(batch(number, WRITER_BYTES));
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
    ensure!(examine(dir.path(), WRITER_BYTES)? >= 1, "what was durable before is gone");
    Ok(())
}

/// Makes a store with some batches in `dir`, each with an fsync of its own, and leaves it as a crash would: nothing is
/// closed in `copied`.
fn crashed(root: &Path, count: u64, bytes: usize) -> anyhow::Result<PathBuf> {
    let (dir, copied) = (root.join("live"), root.join("crashed"));
    let (mut store, persisted) = open(&dir)?;
    for number in 1..=count {
        let seq = store.write(batch(number, bytes));
        settle(&persisted, seq)?;
    }
    copy(&dir, &copied)?;
    store.close();
    // Without the room that is set aside behind the journal's end, copies are quick.
    let (path, bytes) = journal(&copied)?;
    fs::write(path, bytes)?;
    Ok(copied)
}

/// The journal, without the room that was set aside behind its end.
fn journal(dir: &Path) -> anyhow::Result<(PathBuf, Vec<u8>)> {
    let files = fs::read_dir(dir)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>()?;
    let mut journals = files.into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "jnl"));
    let path = journals.next().context("the store has a journal")?;
    ensure!(journals.next().is_none(), "one journal is enough here");
    let mut bytes = fs::read(&path)?;
    bytes.truncate(bytes.iter().rposition(|byte| *byte != 0).context("the journal is not empty")? + 1);
    Ok((path, bytes))
}

/// Where the batches of a journal end.
fn ends(journal: &[u8]) -> Vec<usize> {
    let trailer = b"FJL\x03";
    journal
        .windows(trailer.len())
        .enumerate()
        .filter(|(_, at)| at == trailer)
        .map(|(at, _)| at + trailer.len())
        .collect()
}

/// A copy of a directory that a test may spoil.
fn spoilt<T>(from: &Path, root: &Path, spoil: impl FnOnce(&Path) -> anyhow::Result<T>) -> anyhow::Result<PathBuf> {
    let dir = root.join("spoilt").join("store");
    if dir.exists() {
        fs::remove_dir_all(root.join("spoilt"))?;
    }
    copy(from, &dir)?;
    spoil(&dir)?;
    Ok(dir)
}

/// Goal: a journal that ends anywhere gives the batches before that, each whole. Method: cut at every length (in the
/// tests: at some, and at all around the ends of batches).
#[test]
fn journal_cut_anywhere_gives_a_whole_prefix() -> anyhow::Result<()> {
    let root = in_memory()?;
    let whole = crashed(root.path(), 9, 8)?;
    let (path, bytes) = journal(&whole)?;
    let name = path.file_name().context("a file name")?;
    let ends = ends(&bytes);
    let step = number("CHORD_CUT_STEP", 211) as usize;
    let mut seen = BTreeSet::new();
    for cut in 0..=bytes.len() {
        if cut % step != 0 && !ends.iter().any(|end| end.abs_diff(cut) < 3) {
            continue;
        }
        let dir = spoilt(&whole, root.path(), |dir| Ok(fs::write(dir.join(name), &bytes[..cut])?))?;
        let found = examine(&dir, 8).with_context(|| format!("journal of {} bytes cut at {cut}", bytes.len()))?;
        // The first batches of a journal make the keyspaces.
        let before = ends.iter().rev().take_while(|end| **end > cut).count() as u64;
        ensure!(found == 9u64.saturating_sub(before), "cut at {cut}: batch {found} is the last, {before} were cut off");
        seen.insert(found);
    }
    ensure!(seen.len() == 10, "cuts left {seen:?} batches");
    Ok(())
}

/// Goal: a batch of which not all sectors reached the disk before the power went is gone as a whole, and nothing else
/// is. Method: each sector of the last batch is emptied.
#[test]
fn batch_that_lacks_a_sector_is_a_torn_one() -> anyhow::Result<()> {
    const SECTOR: usize = 512;
    let root = in_memory()?;
    let whole = crashed(root.path(), 2, 1500)?;
    let (path, bytes) = journal(&whole)?;
    let name = path.file_name().context("a file name")?;
    let last = ends(&bytes)[0].next_multiple_of(SECTOR)..bytes.len() - SECTOR;
    ensure!(last.len() > 8 * SECTOR, "the last batch is too small: {last:?}");
    for at in last.step_by(SECTOR) {
        let mut torn = bytes.clone();
        torn[at..at + SECTOR].fill(0);
        let dir = spoilt(&whole, root.path(), |dir| Ok(fs::write(dir.join(name), torn)?))?;
        let found = examine(&dir, 1500).with_context(|| format!("the sector at {at} is empty"))?;
        ensure!(found == 1, "the sector at {at} is empty, and batch {found} is the last");
    }
    Ok(())
}

/// What became of a store with a flipped byte.
#[derive(PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Found {
    Refused,
    Repaired,
    Whole,
}

/// Opens a store that was marked for a look: it is refused, or a shard of which anything is missing or wrong is not
/// held any more, and all others are whole.
fn after_rot(dir: &Path, last: u64, bytes: usize) -> anyhow::Result<Found> {
    store::mark(dir)?;
    let Ok((store, _persisted)) = open(dir) else { return Ok(Found::Refused) };
    let metas = store.metas();
    ensure!(metas.len() == SHARDS as usize, "shards are missing: {metas:?}");
    let mut found = Found::Whole;
    for (shard, held) in metas {
        ensure!(held == ReplicaMeta { installed: held.installed, ..meta(last) }, "{shard:?}: {held:?}");
        if held.installed {
            holds(&store, shard, last, bytes)?;
        } else {
            found = Found::Repaired;
        }
    }
    store.close();
    Ok(found)
}

/// Goal: one flipped byte of the journal is noticed wherever it is, or does no harm; but in the very last batch, which
/// looks like a torn write then. Method: each (in the tests: every so many) byte is flipped.
#[test]
fn rot_in_the_journal_is_never_taken_for_its_end() -> anyhow::Result<()> {
    let root = in_memory()?;
    let count = 9;
    let whole = crashed(root.path(), count, 8)?;
    let (path, bytes) = journal(&whole)?;
    let name = path.file_name().context("a file name")?;
    let ends = ends(&bytes);
    let mut seen = BTreeMap::new();
    for at in (0..ends[ends.len() - 2]).step_by(number("CHORD_FLIP_STEP", 173) as usize) {
        let mut rotten = bytes.clone();
        rotten[at] ^= 1 << (at % 8);
        let dir = spoilt(&whole, root.path(), |dir| Ok(fs::write(dir.join(name), &rotten)?))?;
        let found = after_rot(&dir, count, 8);
        let found = found.with_context(|| format!("byte {at} of {} is flipped", bytes.len()))?;
        ensure!(found != Found::Repaired, "byte {at}: no record on its own can be damaged in a journal");
        *seen.entry(found).or_insert(0) += 1;
    }
    ensure!(seen.get(&Found::Refused) > seen.get(&Found::Whole), "{seen:?}");
    Ok(())
}

/// Goal: one flipped byte of any file is noticed; what can be repaired is, and what is not noticed does no harm.
/// Method: bytes all over all files of a store whose records are in tables are flipped, one at a time.
#[test]
fn rot_anywhere_is_found_and_never_served() -> anyhow::Result<()> {
    let root = in_memory()?;
    // Enough for several tables.
    let (count, bytes) = (200, 12 << 10);
    let whole = crashed(root.path(), count, bytes)?;
    let mut files = vec![whole.clone()];
    let mut at = 0;
    while at < files.len() {
        if files[at].is_dir() {
            let dir = files.swap_remove(at);
            files.extend(
                fs::read_dir(dir)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>()?,
            );
        } else {
            at += 1;
        }
    }
    let mut seen = BTreeMap::new();
    for file in files.iter().filter(|file| file.extension().is_none_or(|extension| extension != "jnl")) {
        let sound = fs::read(file)?;
        let within = file.strip_prefix(&whole)?;
        let flips = number("CHORD_FLIPS", 6) as usize;
        for at in (0..flips).map(|flip| flip * sound.len() / flips + sound.len() / flips / 3) {
            let Some(byte) = sound.get(at) else { continue };
            let dir = spoilt(&whole, root.path(), |dir| {
                let mut rotten = sound.clone();
                rotten[at] = byte ^ 1 << (at % 8);
                Ok(fs::write(dir.join(within), rotten)?)
            })?;
            let found = after_rot(&dir, count, bytes).with_context(|| format!("byte {at} of {}", within.display()))?;
            *seen.entry(found).or_insert(0) += 1;
        }
    }
    println!("{seen:?}");
    ensure!(seen.contains_key(&Found::Repaired), "no flip hit a record: {seen:?}");
    Ok(())
}

/// Visits everything sealed in a store, and puts there what `change` makes of it.
fn each_sealed(dir: &Path, mut change: impl FnMut(&str, &[u8], &[u8]) -> Option<Vec<u8>>) -> anyhow::Result<()> {
    let db = fjall::Database::builder(dir).open()?;
    for name in ["records", "metas", "node"] {
        let keyspace = db.keyspace(name, fjall::KeyspaceCreateOptions::default)?;
        for entry in keyspace.iter() {
            let (key, sealed) = entry.into_inner()?;
            if let Some(changed) = change(name, &key, &sealed) {
                keyspace.insert(key, changed)?;
            }
        }
    }
    Ok(db.persist(fjall::PersistMode::SyncAll)?)
}

/// How many things are sealed as in format 1, and how many there are.
fn of_format_1(dir: &Path) -> anyhow::Result<(usize, usize)> {
    let (mut old, mut all) = (0, 0);
    each_sealed(dir, |_, _, sealed| {
        old += usize::from(sealed[0] == 1);
        all += 1;
        None
    })?;
    Ok((old, all))
}

/// Not a test of its own: the process that has a store sealed anew, and is killed for that.
#[test]
fn scrubber() -> anyhow::Result<()> {
    let Some(dir) = env::var_os("CHORD_TEST_SCRUBBER_DIR") else { return Ok(()) };
    let (store, _persisted) = open(Path::new(&dir))?;
    store.scrub(Duration::from_millis(1))?;
    println!("scrubbing");
    std::thread::sleep(PATIENCE);
    Ok(())
}

/// Has a store scrubbed for some time by a process that is killed then.
fn scrubbed(dir: &Path, time: Duration) -> anyhow::Result<()> {
    let mut child = Command::new(env::current_exe()?)
        .args(["--exact", "scrubber", "--nocapture", "--test-threads=1"])
        .env("CHORD_TEST_SCRUBBER_DIR", dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut said = BufReader::new(child.stdout.take().context("the child's output")?).lines().map_while(Result::ok);
    let begun = said.any(|line| line.ends_with("scrubbing"));
    std::thread::sleep(time);
    child.kill()?;
    child.wait()?;
    ensure!(begun, "the store was not opened");
    Ok(())
}

/// Goal: a directory that the first version wrote serves on, in the new format. Method: one that it did write, with a
/// journal and metadata, is opened and scrubbed.
#[test]
fn directory_of_format_1_is_read_and_sealed_anew() -> anyhow::Result<()> {
    let root = in_memory()?;
    let archive = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/format-1.tar.gz");
    let tar = Command::new("tar").arg("xzf").arg(archive).arg("-C").arg(root.path()).status()?;
    ensure!(tar.success(), "tar: {tar}");
    let home = root.path().join("format-1");
    for begun in 0..2 {
        let data = DataDir::open(&home, "n-0", "demo", "default")?;
        ensure!(data.identity.format == 2, "an older version would not refuse {:?}", data.identity);
        ensure!(of_format_1(&data.store())? == (if begun == 0 { 46 } else { 0 }, 46));
        ensure!(examine(&data.store(), 8)? == 9);
        let key = MemberKey { id: Id::of_ordinal(0), disk: Disk(data.disk()?) };
        let [internal_addr, client_addr] = ["n-0:1", "n-0:2"].map(str::to_owned);
        let node = NodeRef { key, incarnation: 3, name: "n-0".into(), internal_addr, client_addr, zone: "a".into() };
        let node = Member { node, revision: 7, state: MemberState::Serving };
        let members = vec![node.clone()];
        let node = NodeMeta { node, ring_id: Some(1), shards: 5, replication_factor: 3, operator_epoch: 2, members };
        let (store, _persisted) = open(&data.store())?;
        ensure!(store.node() == Some(node), "{:?}", store.node());
        store.close();
        let mut rounds = 1..100;
        while of_format_1(&data.store())?.0 > 0 {
            let round = rounds.next().context("it is never sealed anew")?;
            scrubbed(&data.store(), Duration::from_millis(20 * round))?;
        }
    }
    Ok(())
}

/// Goal: sealing anew may end at any moment, and what was sealed anew is found when it rots. Method: a store of format 1
/// is scrubbed by processes that are killed, later each time, until nothing old is left; then bits flip.
#[test]
fn killed_while_sealing_anew_loses_nothing() -> anyhow::Result<()> {
    let root = in_memory()?;
    // Enough for several chunks of the scrub.
    let (count, bytes) = (CLEARED_EVERY - 1, 20_000);
    let dir = crashed(root.path(), count, bytes)?;
    each_sealed(&dir, |_, _, sealed| {
        let body = &sealed[5..];
        Some([&[1][..], &crc32fast::hash(body).to_le_bytes(), body].concat())
    })?;
    let (mut left, all) = of_format_1(&dir)?;
    ensure!(left == all && all > 200, "{left} of {all} are of format 1");
    let mut seen = BTreeSet::new();
    let mut rounds = 1..200;
    while left > 0 {
        let round = rounds.next().with_context(|| format!("{left} of {all} are never sealed anew"))?;
        scrubbed(&dir, Duration::from_millis(30 * round))?;
        ensure!(examine(&dir, bytes)? == count, "round {round} lost batches");
        let before = std::mem::replace(&mut left, of_format_1(&dir)?.0);
        ensure!(left <= before, "round {round}: {before} were old, and {left} are");
        seen.insert(left);
    }
    ensure!(seen.iter().any(|left| (1..all).contains(left)), "no process was killed on its way: {seen:?}");

    for (at, bit) in [(0, 1), (0, 2), (1, 1), (5, 1), (40, 128), (15_000, 16)] {
        let dir = spoilt(&dir, root.path(), |dir| {
            let mut hit = false;
            each_sealed(dir, |keyspace, _, sealed| {
                (keyspace == "records" && !std::mem::replace(&mut hit, true)).then(|| {
                    let mut rotten = sealed.to_vec();
                    rotten[at] ^= bit;
                    rotten
                })
            })
        })?;
        let found = after_rot(&dir, count, bytes)?;
        ensure!(found == Found::Repaired, "byte {at} of a record is flipped: {found:?}");
    }
    Ok(())
}

/// Goal: what is sound but under the key of something else is damage. Method: a record, and replica metadata, take the
/// place of another.
#[test]
fn what_is_under_another_key_is_never_served() -> anyhow::Result<()> {
    let root = in_memory()?;
    let whole = crashed(root.path(), 9, 8)?;
    for (spoils, expected) in [("records", Found::Repaired), ("metas", Found::Refused)] {
        let dir = spoilt(&whole, root.path(), |dir| {
            let mut first = None;
            each_sealed(dir, |keyspace, _, sealed| {
                (keyspace == spoils).then(|| first.get_or_insert_with(|| sealed.to_vec()).clone())
            })
        })?;
        let found = after_rot(&dir, 9, 8)?;
        ensure!(found == expected, "{spoils}: {found:?}");
    }
    Ok(())
}
