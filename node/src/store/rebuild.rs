//! Repair of a store in which rot was found, at the start after.
//!
//! Everything that can be read goes into a fresh store, with sums and indexes made anew, and takes its place. A shard
//! of which a record is damaged is not held any more: this member keeps what it promised, serves nothing of the shard,
//! and says so; the leader brings the shard into a new configuration from the majority (`chord::shard`).
use super::{Files, FjallStore, format, scrub};
use anyhow::Context as _;
use chord::store::{Change, Store as _};
use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::mpsc,
};

/// Records written before the disk is waited for.
const CHUNK: usize = 1000;

/// Says that the store must be looked through before it is used.
fn mark_of(dir: &Path) -> PathBuf {
    dir.with_extension("check")
}

/// Has the store in `dir` looked through, and repaired where it must be, when it is opened next.
///
/// # Errors
/// When the mark cannot be written.
pub fn mark(dir: &Path) -> io::Result<()> {
    File::create(mark_of(dir))?.sync_all()?;
    sync_parent(dir)
}

fn sync_parent(dir: &Path) -> io::Result<()> {
    dir.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}

/// Does what [`mark`] asked for.
///
/// # Errors
/// When the store cannot be repaired here: says what to do.
pub(super) fn if_marked(dir: &Path) -> anyhow::Result<()> {
    let (fresh, old) = (dir.with_extension("new"), dir.with_extension("old"));
    // A swap that was begun: the fresh store is whole.
    if !dir.exists() && fresh.exists() && old.exists() {
        fs::rename(&fresh, dir)?;
        sync_parent(dir)?;
    }
    if dir.exists() && old.exists() {
        fs::remove_dir_all(&old)?;
    }
    if !mark_of(dir).exists() {
        return Ok(());
    }
    let advice = "the store is damaged where the ring cannot repair it: wipe this member's data directory and let the ring replace it";
    let files = Files::open(dir).context(advice)?;
    let damage = scrub::look(&files, |_, _, _| ()).context(advice)?;
    if damage.is_none() {
        tracing::info!("the store was looked through, and nothing is damaged");
    } else {
        let shards: Vec<u32> = damage.shards.iter().map(|shard| shard.0).collect();
        tracing::warn!(?shards, "rebuilding the store; these shards come back from the other members");
        if fresh.exists() {
            fs::remove_dir_all(&fresh)?;
        }
        copy(&files, &damage, &fresh).context("cannot rebuild the store; it needs as much room as the data")?;
        drop(files);
        fs::rename(dir, &old)?;
        fs::rename(&fresh, dir)?;
        sync_parent(dir)?;
        fs::remove_dir_all(&old)?;
    }
    fs::remove_file(mark_of(dir))?;
    Ok(sync_parent(dir)?)
}

fn copy(files: &Files, damage: &scrub::Damage, to: &Path) -> anyhow::Result<()> {
    let (sender, persisted) = mpsc::channel();
    let mut fresh = FjallStore::open_plain(to, move |seq| {
        let _ = sender.send(seq);
    })?;
    let mut write = |changes: Vec<Change>| -> anyhow::Result<()> {
        let seq = fresh.write(changes);
        while persisted.recv().context("the commit thread has ended")? < seq {}
        Ok(())
    };
    for (shard, mut meta) in files.metas()? {
        let mut changes = Vec::new();
        for entry in files.records.range(format::shard_range(shard)) {
            // What follows the damage is left out: the shard is replaced as a whole.
            let Ok((key, value)) = entry.into_inner() else { break };
            let Ok(record) = format::decode_record(&key, &value) else { break };
            changes.push(Change::Put { shard, key: bytes::Bytes::copy_from_slice(&key[4..]), record });
            if changes.len() == CHUNK {
                write(std::mem::take(&mut changes))?;
            }
        }
        meta.installed &= !damage.shards.contains(&shard);
        changes.push(Change::Meta(shard, meta));
        write(changes)?;
    }
    if let Some(node) = files.node()? {
        write(vec![Change::Node(node)])?;
    }
    fresh.close();
    Ok(())
}
