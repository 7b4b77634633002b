//! The journal of a load: what was sent, and what the ring acknowledged.
//!
//! One line per fact, fields separated by tabs, the last field a CRC-32 (8 hex digits) of what stands
//! before it, without the tab:
//! ```text
//! W <key> <seed> <size>     a write is about to be sent: its value is made of seed (16 hex digits) and size (bytes)
//! A <key> <seed> <version>  that write was acknowledged
//! N <key> <seed>            that write certainly had no effect
//! ```
//! A `W` without `A` or `N` has an unknown outcome: old or new value, both are right. The loader never
//! writes such a key again, so a key has at most one, its last. A process that dies leaves at most one
//! torn line at the end, which is cut off when the journal is opened again.
use chord_client::Version;
use std::{
    collections::HashMap,
    fs::{File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    path::Path,
    sync::{Mutex, PoisonError},
};

/// What can be written down.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fact {
    Sent { key: String, content: Content },
    Acknowledged { key: String, seed: u64, version: Version },
    NoEffect { key: String, seed: u64 },
}

/// What a value is made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Content {
    pub seed: u64,
    pub size: u32,
}

impl Content {
    /// The value: a stream of SplitMix64 from the seed.
    pub fn value(self) -> Vec<u8> {
        let size = self.size as usize;
        let mut value = Vec::with_capacity(size + 8);
        let mut state = self.seed;
        while value.len() < size {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut word = state;
            word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            value.extend_from_slice(&(word ^ (word >> 31)).to_le_bytes());
        }
        value.truncate(size);
        value
    }
}

/// What is known of one key.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Known {
    /// The last acknowledged write.
    pub acknowledged: Option<(Content, Version)>,
    /// A write whose outcome is unknown.
    pub open: Option<Content>,
}

/// Whether what a key holds is right.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    Right,
    /// Acknowledged, and absent.
    Lost,
    /// Another value than any it may hold.
    Wrong,
}

impl Known {
    /// Judges what was read. An acknowledged key must be there with that value, or with one whose outcome is open.
    pub fn judge(&self, found: Option<(&[u8], Version)>) -> Verdict {
        let Some((value, version)) = found else {
            return if self.acknowledged.is_some() { Verdict::Lost } else { Verdict::Right };
        };
        let is = |content: Content| content.size as usize == value.len() && content.value() == value;
        let is_acknowledged = self.acknowledged.is_some_and(|(content, v)| is(content) && v == version);
        let newer = self.acknowledged.is_none_or(|(_, acknowledged)| version > acknowledged);
        if is_acknowledged || (newer && self.open.is_some_and(is)) { Verdict::Right } else { Verdict::Wrong }
    }
}

/// All keys of a journal.
pub type Keys = HashMap<String, Known>;

/// An open journal.
pub struct Journal {
    file: Mutex<File>,
}

impl Journal {
    /// Opens or begins a journal to append to; says what it holds already. A torn end is cut off.
    pub fn open(path: &Path) -> Result<(Journal, Keys), String> {
        let fail = |error: io::Error| format!("journal {}: {error}", path.display());
        let mut options = OpenOptions::new();
        let mut file = options.read(true).write(true).create(true).truncate(false).open(path).map_err(fail)?;
        let mut text = Vec::new();
        file.read_to_end(&mut text).map_err(fail)?;
        let (keys, length) = parse(&text).map_err(|error| format!("journal {}: {error}", path.display()))?;
        file.set_len(length as u64).map_err(fail)?;
        file.seek(SeekFrom::End(0)).map_err(fail)?;
        Ok((Journal { file: Mutex::new(file) }, keys))
    }

    /// Reads a journal.
    pub fn read(path: &Path) -> Result<Keys, String> {
        let text = std::fs::read(path).map_err(|error| format!("journal {}: {error}", path.display()))?;
        parse(&text).map(|(keys, _)| keys).map_err(|error| format!("journal {}: {error}", path.display()))
    }

    /// Appends a line. It survives this process; a power cut, once `sync` is done.
    pub fn note(&self, fact: &Fact) -> io::Result<()> {
        let line = line(fact);
        self.file.lock().unwrap_or_else(PoisonError::into_inner).write_all(line.as_bytes())
    }

    /// Waits until the disk has it.
    pub fn sync(&self) -> io::Result<()> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner).sync_data()
    }
}

fn line(fact: &Fact) -> String {
    let body = match fact {
        Fact::Sent { key, content } => format!("W\t{key}\t{:016x}\t{}", content.seed, content.size),
        Fact::Acknowledged { key, seed, version } => format!("A\t{key}\t{seed:016x}\t{version}"),
        Fact::NoEffect { key, seed } => format!("N\t{key}\t{seed:016x}"),
    };
    format!("{body}\t{:08x}\n", crc32fast::hash(body.as_bytes()))
}

fn fact(line: &[u8]) -> Option<Fact> {
    let line = std::str::from_utf8(line).ok()?;
    let (body, sum) = line.rsplit_once('\t')?;
    (u32::from_str_radix(sum, 16).ok()? == crc32fast::hash(body.as_bytes())).then_some(())?;
    let fields: Vec<&str> = body.split('\t').collect();
    let seed = |text: &str| u64::from_str_radix(text, 16).ok();
    Some(match fields[..] {
        ["W", key, s, size] => {
            Fact::Sent { key: key.into(), content: Content { seed: seed(s)?, size: size.parse().ok()? } }
        }
        ["A", key, s, version] => {
            Fact::Acknowledged { key: key.into(), seed: seed(s)?, version: version.parse().ok()? }
        }
        ["N", key, s] => Fact::NoEffect { key: key.into(), seed: seed(s)? },
        _ => return None,
    })
}

/// Keys, and the length of the whole lines. Only the end may be torn.
fn parse(text: &[u8]) -> Result<(Keys, usize), String> {
    let mut keys = Keys::new();
    let mut length = 0;
    for (number, line) in text.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let is_last = length + line.len() == text.len();
        let Some(fact) = line.strip_suffix(b"\n").and_then(fact) else {
            if is_last {
                return Ok((keys, length));
            }
            return Err(format!("line {} is damaged; it is no journal of `load`, or was changed", number + 1));
        };
        length += line.len();
        apply(&mut keys, fact).map_err(|why| format!("line {}: {why}", number + 1))?;
    }
    Ok((keys, length))
}

/// Takes a fact over.
pub fn apply(keys: &mut Keys, fact: Fact) -> Result<(), &'static str> {
    const NEVER_SENT: &str = "an outcome of a write that was not sent before";
    match fact {
        Fact::Sent { key, content } => {
            let known = keys.entry(key).or_default();
            if known.open.is_some() {
                return Err("a key is written although an earlier outcome is open");
            }
            known.open = Some(content);
        }
        Fact::Acknowledged { key, seed, version } => {
            let known = keys.get_mut(&key).ok_or(NEVER_SENT)?;
            let content = known.open.take_if(|content| content.seed == seed).ok_or(NEVER_SENT)?;
            known.acknowledged = Some((content, version));
        }
        Fact::NoEffect { key, seed } => {
            let known = keys.get_mut(&key).ok_or(NEVER_SENT)?;
            known.open.take_if(|content| content.seed == seed).ok_or(NEVER_SENT)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Content = Content { seed: 1, size: 20 };
    const SECOND: Content = Content { seed: 2, size: 20 };

    fn version(seq: u64) -> Version {
        Version { epoch: 1, ballot: 16, seq }
    }

    fn sent(content: Content) -> Fact {
        Fact::Sent { key: "k".into(), content }
    }

    fn acknowledged(seed: u64, seq: u64) -> Fact {
        Fact::Acknowledged { key: "k".into(), seed, version: version(seq) }
    }

    fn text(facts: &[Fact]) -> Vec<u8> {
        facts.iter().map(line).collect::<String>().into_bytes()
    }

    #[test]
    fn a_torn_end_is_cut_off_at_every_byte_and_the_journal_goes_on() {
        let whole = text(&[sent(FIRST), acknowledged(1, 1)]);
        let third = text(&[sent(SECOND)]);
        let dir = tempfile::tempdir().unwrap();
        for torn in 0..third.len() {
            let path = dir.path().join(format!("journal-{torn}"));
            std::fs::write(&path, [&whole[..], &third[..torn]].concat()).unwrap();
            let (journal, keys) = Journal::open(&path).unwrap();
            assert_eq!(keys["k"], Known { acknowledged: Some((FIRST, version(1))), open: None }, "torn at {torn}");
            journal.note(&sent(SECOND)).unwrap();
            journal.sync().unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), [&whole[..], &third[..]].concat());
            assert_eq!(Journal::read(&path).unwrap()["k"].open, Some(SECOND));
        }
    }

    #[test]
    fn damage_before_the_end_is_an_error_with_its_line() {
        let mut damaged = text(&[sent(FIRST), acknowledged(1, 1), sent(SECOND)]);
        damaged[3] ^= 1;
        assert!(parse(&damaged).unwrap_err().starts_with("line 1 "));
        assert!(parse(&text(&[acknowledged(1, 1), sent(FIRST)])).unwrap_err().starts_with("line 1:"));
    }

    #[test]
    fn an_open_outcome_may_be_old_or_new_and_nothing_else() {
        let (keys, _) = parse(&text(&[sent(FIRST), acknowledged(1, 5), sent(SECOND)])).unwrap();
        let known = &keys["k"];
        let judge = |content: Content, seq| known.judge(Some((&content.value(), version(seq))));
        assert_eq!(judge(FIRST, 5), Verdict::Right);
        assert_eq!(judge(SECOND, 6), Verdict::Right);
        assert_eq!(judge(SECOND, 4), Verdict::Wrong, "a later write cannot have an older version");
        assert_eq!(judge(FIRST, 6), Verdict::Wrong, "the acknowledged version is known");
        assert_eq!(judge(Content { seed: 3, size: 20 }, 6), Verdict::Wrong);
        assert_eq!(known.judge(None), Verdict::Lost);
    }

    #[test]
    fn a_key_that_was_never_acknowledged_cannot_be_lost() {
        let (keys, _) = parse(&text(&[sent(FIRST)])).unwrap();
        assert_eq!(keys["k"].judge(None), Verdict::Right);
        assert_eq!(keys["k"].judge(Some((&FIRST.value(), version(1)))), Verdict::Right);
        assert_eq!(keys["k"].judge(Some((&SECOND.value(), version(1)))), Verdict::Wrong);
        let no_effect = Fact::NoEffect { key: "k".into(), seed: 1 };
        let (keys, _) = parse(&text(&[sent(FIRST), no_effect])).unwrap();
        assert_eq!(keys["k"].judge(Some((&FIRST.value(), version(1)))), Verdict::Wrong, "it had no effect");
    }

    #[test]
    fn values_have_their_size_and_differ_by_seed() {
        for size in [0, 1, 7, 8, 9, 1024] {
            assert_eq!(Content { seed: 9, size }.value().len(), size as usize);
        }
        assert_ne!(FIRST.value(), SECOND.value());
    }
}
