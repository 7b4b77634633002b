//! docs/mutation.md, and the reasons of those that no test can catch.
use super::{list::Mutant, results::Verdict};
use crate::paths;
use anyhow::{Result, ensure};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
};

const PAGE: &str = "docs/mutation.md";
const HEAD: &str = include_str!("head.md");
const REASONS: &str = include_str!("reasons.txt");
/// Share of the viable mutants that may be missed.
const MISSED_PERCENT_MAX: f64 = 5.0;

/// Lines without indent are mutants, an indented one is the reason of those above it.
fn reasons(text: &str) -> Result<BTreeMap<&str, &str>> {
    let (mut reasons, mut waiting) = (BTreeMap::new(), Vec::new());
    for line in text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')) {
        if line.starts_with(' ') {
            reasons.extend(waiting.drain(..).map(|mutant| (mutant, line.trim())));
        } else {
            waiting.push(line.trim_end());
        }
    }
    ensure!(waiting.is_empty(), "reasons.txt: no reason for {waiting:?}");
    Ok(reasons)
}

#[derive(Default, Clone, Copy)]
struct Count {
    mutants: usize,
    unviable: usize,
    open: usize,
    survivors: usize,
    caught: usize,
    timeout: usize,
    missed: usize,
}

impl Count {
    fn add(&mut self, verdict: Option<Verdict>) {
        self.mutants += 1;
        *match verdict {
            None => &mut self.open,
            Some(Verdict::Survivor) => &mut self.survivors,
            Some(Verdict::Unviable) => &mut self.unviable,
            Some(Verdict::Caught) => &mut self.caught,
            Some(Verdict::Timeout) => &mut self.timeout,
            Some(Verdict::Missed) => &mut self.missed,
        } += 1;
    }

    /// Share of the viable ones that are missed as far as is known, survivors included.
    fn percent(&self) -> f64 {
        100.0 * (self.missed + self.survivors) as f64 / (self.mutants - self.unviable - self.open).max(1) as f64
    }

    fn row(&self, name: &str) -> String {
        let Count { mutants, unviable, open, survivors, caught, timeout, missed } = self;
        format!(
            "| {name} | {mutants} | {unviable} | {open} | {survivors} | {caught} | {timeout} | {missed} | {:.1} |\n",
            self.percent()
        )
    }
}

/// A mutant by the name that lasts, and what became of it.
pub struct Judged<'a> {
    pub mutant: &'a Mutant,
    pub name: String,
    pub verdict: Option<Verdict>,
}

fn line(name: &str) -> String {
    let (change, line) = name.trim_start_matches("chord/src/").split_once(" | ").unwrap_or((name, ""));
    format!("* {change}: `` {line} ``\n")
}

/// The page, and what is wrong.
fn page(judged: &[Judged], reasons: &BTreeMap<&str, &str>) -> (String, Vec<String>) {
    let mut files: BTreeMap<&str, Count> = BTreeMap::new();
    let mut all = Count::default();
    for one in judged {
        files.entry(&one.mutant.file).or_default().add(one.verdict);
        all.add(one.verdict);
    }
    let mut text =
        format!("{HEAD}\n| file | mutants | unviable | open | survivors | caught | timeout | missed | missed % |\n");
    text.push_str("|---|---|---|---|---|---|---|---|---|\n");
    for (file, count) in &files {
        text.push_str(&count.row(&format!("`{}`", file.trim_start_matches("chord/src/"))));
    }
    text.push_str(&all.row("**all**"));
    let missed: BTreeSet<&str> =
        judged.iter().filter(|one| one.verdict == Some(Verdict::Missed)).map(|one| one.name.as_str()).collect();
    let mut by_reason: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut wrong = Vec::new();
    for name in &missed {
        match reasons.get(name) {
            Some(reason) => by_reason.entry(reason).or_default().push(name),
            None => wrong.push(format!("missed, and no reason is given: {name}")),
        }
    }
    let listed: BTreeSet<&str> = judged.iter().map(|one| one.name.as_str()).collect();
    for name in reasons.keys().filter(|name| !missed.contains(*name)) {
        let what = if listed.contains(name) { "caught now" } else { "no mutant any more" };
        wrong.push(format!("reasons.txt has a stale line ({what}): {name}"));
    }
    text.push_str("\n## Missed, and why\n");
    for (reason, names) in by_reason {
        let _ = write!(text, "\n{reason}\n\n");
        text.extend(names.into_iter().map(line));
    }
    let (survivor, unexplained) = (Some(Verdict::Survivor), |one: &&Judged| !reasons.contains_key(one.name.as_str()));
    for (title, verdict) in [("Missed, and not looked at yet", Some(Verdict::Missed)), ("Survivors", survivor)] {
        let names: BTreeSet<&str> = judged
            .iter()
            .filter(|one| one.verdict == verdict)
            .filter(unexplained)
            .map(|one| one.name.as_str())
            .collect();
        if !names.is_empty() {
            let _ = write!(text, "\n## {title}\n\n");
            text.extend(names.into_iter().map(line));
        }
    }
    if all.survivors > 0 {
        wrong.push(format!("{} survive the quick tests and have not been judged by the long ones", all.survivors));
    }
    if all.open > 0 {
        wrong.push(format!("{} have not been judged", all.open));
    }
    if all.percent() >= MISSED_PERCENT_MAX {
        wrong.push(format!("{:.1} % are missed", all.percent()));
    }
    (text, wrong)
}

/// Writes the page; an error says what a person has to do.
pub fn write(mut judged: Vec<Judged>) -> Result<()> {
    let reasons = reasons(REASONS)?;
    // No longer test can change what has a reason.
    let explained = |one: &&mut Judged| reasons.contains_key(one.name.as_str());
    for one in judged.iter_mut().filter(explained).filter(|one| one.verdict == Some(Verdict::Survivor)) {
        one.verdict = Some(Verdict::Missed);
    }
    let (text, wrong) = page(&judged, &reasons);
    fs::write(paths::root().join(PAGE), text)?;
    ensure!(wrong.is_empty(), "{} to look at:\n{}", wrong.len(), wrong.join("\n"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mutation::list::{Position, Span};

    #[test]
    fn what_is_missed_without_a_reason_and_a_reason_without_a_mutant_are_named() {
        let span = || Span { start: Position { line: 1, column: 1 }, end: Position { line: 1, column: 2 } };
        let mutant = |number| Mutant {
            number,
            name: String::new(),
            file: "chord/src/id.rs".into(),
            span: span(),
            replacement: String::new(),
            genre: String::new(),
        };
        let (one, two, three) = (mutant(0), mutant(1), mutant(2));
        let judged = [
            Judged { mutant: &one, name: "a | x".into(), verdict: Some(Verdict::Missed) },
            Judged { mutant: &two, name: "b | y".into(), verdict: Some(Verdict::Missed) },
            Judged { mutant: &three, name: "c | z".into(), verdict: Some(Verdict::Caught) },
        ];
        let reasons = reasons("a | x\nc | z\n  the same\n").expect("each has one");
        let (text, wrong) = page(&judged, &reasons);
        assert!(text.contains("| `id.rs` | 3 | 0 | 0 | 0 | 1 | 0 | 2 | 66.7 |"), "{text}");
        assert_eq!(wrong.len(), 3, "{wrong:?}");
        assert!(wrong[0].contains("b | y") && wrong[1].contains("caught now") && wrong[2].contains("66.7"));
    }
}
