//! What fjall's recovery does not look for: a journal that is damaged before its end.
//!
//! Recovery takes whatever it cannot read for the torn end of the last write, and cuts the journal there. When a bit
//! has flipped further in front, that would drop batches that were called durable: a member that forgets what it gave
//! its word for. Only one batch is ever on its way to the disk, so nothing that was written after a torn one can follow
//! it. (Damage in the very last batch looks like a torn write, and is taken for one.)
//!
//! The format is that of the version of fjall that `Cargo.toml` pins.
use std::{
    fs::{self, File},
    io::Read as _,
    path::{Path, PathBuf},
};

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
        let mut bytes = Vec::new();
        File::open(&path)?.read_to_end(&mut bytes)?;
        let (whole, rest) = batches(&bytes, &mut last);
        // Only the newest journal may end in the middle of a write.
        let torn = Some(number) == newest && !goes_on(rest);
        if !torn && rest.iter().any(|byte| *byte != 0) {
            return Err(DamagedJournal { path: path.display().to_string(), at: whole }.into());
        }
    }
    Ok(())
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

/// Whether a whole batch begins somewhere behind the end of another one.
fn goes_on(rest: &[u8]) -> bool {
    let ends = rest.windows(TRAILER.len()).enumerate().filter(|(_, window)| *window == TRAILER);
    ends.map(|(at, _)| &rest[at + TRAILER.len()..]).any(|after| batch(after).is_some())
}

/// One batch at the beginning: its number, and what follows it.
fn batch(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (head, mut rest) = bytes.split_at_checked(13)?;
    let number = u64::from_le_bytes(head.get(5..)?.try_into().ok()?);
    if head[0] != START {
        return None;
    }
    for _ in 0..u32::from_le_bytes(head.get(1..5)?.try_into().ok()?) {
        rest = entry(rest)?;
    }
    let (end, rest) = rest.split_at_checked(9 + TRAILER.len())?;
    (end[0] == END && &end[9..] == TRAILER).then_some((number, rest))
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
