//! What became of each mutant, kept between runs.
use super::list::Mutant;
use crate::paths;
use anyhow::Result;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs::{self, File},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io::Write as _,
    path::PathBuf,
};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    Unviable,
    Caught,
    Timeout,
    Missed,
}

impl Verdict {
    const ALL: [(Verdict, &str); 4] = [
        (Verdict::Unviable, "unviable"),
        (Verdict::Caught, "caught"),
        (Verdict::Timeout, "timeout"),
        (Verdict::Missed, "missed"),
    ];

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(verdict, _)| *verdict == self).map_or("", |(_, name)| name)
    }
}

/// Verdicts by file, its text and the mutant's name: a changed file is judged again.
pub struct Results {
    known: BTreeMap<String, Verdict>,
    file: File,
}

fn path() -> PathBuf {
    paths::cache().join("mutation/results.jsonl")
}

fn key(mutant: &Mutant, source: &str) -> String {
    let mut hasher = DefaultHasher::new();
    source.hash(&mut hasher);
    format!("{:016x} {} {}", hasher.finish(), mutant.name, mutant.replacement)
}

impl Results {
    pub fn open(fresh: bool) -> Result<Results> {
        if fresh && path().exists() {
            fs::remove_file(path())?;
        }
        let mut known = BTreeMap::new();
        for line in fs::read_to_string(path()).unwrap_or_default().lines() {
            // A run that was ended may leave half a line.
            let Ok(one) = serde_json::from_str::<Value>(line) else { continue };
            let verdict = Verdict::ALL.iter().find(|(_, name)| one["verdict"] == *name);
            if let (Some((verdict, _)), Some(key)) = (verdict, one["mutant"].as_str()) {
                known.insert(key.to_owned(), *verdict);
            }
        }
        fs::create_dir_all(paths::cache().join("mutation"))?;
        Ok(Results { known, file: File::options().append(true).create(true).open(path())? })
    }

    pub fn of(&self, mutant: &Mutant, source: &str) -> Option<Verdict> {
        self.known.get(&key(mutant, source)).copied()
    }

    pub fn note(&mut self, mutant: &Mutant, source: &str, verdict: Verdict, by: &str) -> Result<()> {
        let key = key(mutant, source);
        let line = json!({ "mutant": key, "verdict": verdict.name(), "by": by }).to_string();
        self.known.insert(key, verdict);
        Ok(self.file.write_all(format!("{line}\n").as_bytes())?)
    }
}
