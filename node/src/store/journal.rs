//! What fjall's recovery does not look for: a journal that is damaged before its end.
//!
//! Recovery takes whatever it cannot read for the torn end of the last write, and cuts the journal there. When a bit
//! has flipped further in front, that would drop batches that were called durable: a member that forgets what it gave
//! its word for. Only one batch is ever on its way to the disk, so nothing that was written after a torn one can follow
//! it. (Damage in the very last batch can look like a torn write, and is taken for one then.)
//!
//! Sectors of one write reach the disk in any order. Recovery refuses a last batch of which the end is there and the
//! middle is not, though nobody was told that it is durable; so that one is cut off here.
//!
//! The format is that of the version of fjall that `Cargo.toml` pins.
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};
use xxhash_rust::xxh3::xxh3_64;

/// Unit in which a disk writes.
const SECTOR: usize = 512;

/// Ends each batch.
const TRAILER: &[u8] = b"FJL\x03";
/// Kinds of entries.
const START: u8 = 1;
const ITEM: u8 = 2;
const END: u8 = 3;
const CLEAR: u8 = 4;

/// The journal cannot be what was written.
#[derive(Debug, thiserror::Error)]
#[error(
    "the journal {path} is damaged at byte {at}, and batches that were durable follow; \
     this member cannot know what it gave its word for: wipe its data directory and let the ring replace it"
)]
pub struct DamagedJournal {
    path: String,
    at: usize,
}

/// Looks through the journals of the store in `dir`.
///
/// # Errors
/// When they cannot be read, or one is damaged before its end.
pub fn check(dir: &Path) -> anyhow::Result<()> {
    let mut journals: Vec<(u64, PathBuf)> = Vec::new();
    if dir.exists() {
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            let number = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok());
            if let Some(number) = number.filter(|_| path.extension().is_some_and(|extension| extension == "jnl")) {
                journals.push((number, path));
            }
        }
    }
    journals.sort();
    let newest = journals.last().map(|(number, _)| *number);
    let mut last = None;
    for (number, path) in journals {
        let bytes = fs::read(&path)?;
        let bytes = &bytes[..written(&bytes)];
        let (whole, rest) = batches(bytes, &mut last);
        if rest.is_empty() {
            continue;
        }
        // Only the newest journal may end in the middle of a write.
        if Some(number) != newest || goes_on(rest) {
            return Err(DamagedJournal { path: path.display().to_string(), at: whole }.into());
        }
        if lacks_sectors(bytes, whole) {
            let journal = File::options().write(true).open(&path)?;
            journal.set_len(whole as u64)?;
            journal.sync_all()?;
        }
    }
    Ok(())
}

/// Bytes before the room that is set aside behind a journal's end.
fn written(bytes: &[u8]) -> usize {
    let room = bytes.rchunks(SECTOR).take_while(|sector| is_empty(sector)).map(<[u8]>::len).sum::<usize>();
    bytes[..bytes.len() - room].iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
}

fn is_empty(sector: &[u8]) -> bool {
    sector == &[0; SECTOR][..sector.len()]
}

/// Whether the torn write that begins at `from` has a sector that did not reach the disk.
fn lacks_sectors(bytes: &[u8], from: usize) -> bool {
    bytes.chunks(SECTOR).skip(from.div_ceil(SECTOR)).any(is_empty)
}

/// Reads whole batches, each with a higher number than the `last`; gives their length and the rest.
fn batches<'a>(bytes: &'a [u8], last: &mut Option<u64>) -> (usize, &'a [u8]) {
    let mut rest = bytes;
    while let Some((number, after)) = batch(rest).filter(|(number, _)| last.is_none_or(|last| last < *number)) {
        *last = Some(number);
        rest = after;
    }
    (bytes.len() - rest.len(), rest)
}

/// Whether a whole batch begins somewhere.
fn goes_on(rest: &[u8]) -> bool {
    (0..rest.len()).any(|at| batch(&rest[at..]).is_some())
}

/// One sound batch at the beginning: its number, and what follows it.
fn batch(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (head, items) = bytes.split_at_checked(13)?;
    let number = u64::from_le_bytes(head.get(5..)?.try_into().ok()?);
    if head[0] != START {
        return None;
    }
    let mut rest = items;
    for _ in 0..u32::from_le_bytes(head.get(1..5)?.try_into().ok()?) {
        rest = entry(rest)?;
    }
    let checksum = || xxh3_64(&items[..items.len() - rest.len()]).to_le_bytes();
    let (end, after) = rest.split_at_checked(9 + TRAILER.len())?;
    (end[0] == END && &end[9..] == TRAILER && end[1..9] == checksum()).then_some((number, after))
}

/// Skips an item: kind, value's kind, compression, keyspace (u64), lengths of the key (u16), of the value (u32) and of
/// the value as it is here (u32), key, value. Or the clearing of a keyspace (u64).
fn entry(bytes: &[u8]) -> Option<&[u8]> {
    match *bytes.first()? {
        ITEM => {
            let (head, rest) = bytes.split_at_checked(21)?;
            let key = u16::from_le_bytes(head.get(11..13)?.try_into().ok()?);
            let whole = u32::from_le_bytes(head.get(13..17)?.try_into().ok()?);
            let here = u32::from_le_bytes(head.get(17..)?.try_into().ok()?);
            let compressed = head[2] == 1;
            if !compressed && (head[2] != 0 || whole != here) {
                return None;
            }
            rest.get(usize::from(key) + here as usize..)
        }
        CLEAR => bytes.get(9..),
        _ => None,
    }
}
