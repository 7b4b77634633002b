//! The mutants, as cargo-mutants lists them.
use crate::{
    paths,
    proc::{run, step},
};
use anyhow::{Context as _, Result};
use serde_json::Value;
use std::{fs, ops::Range, path::PathBuf};

const VERSION: &str = "27.1.0";

pub struct Position {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
}

pub struct Span {
    pub start: Position,
    pub end: Position,
}

pub struct Mutant {
    /// Its switch.
    pub number: u32,
    /// With file, line and column.
    pub name: String,
    pub file: String,
    /// What is replaced.
    pub span: Span,
    pub replacement: String,
    pub genre: String,
}

impl Mutant {
    pub fn range(&self, source: &str) -> Range<usize> {
        offset(source, &self.span.start)..offset(source, &self.span.end)
    }

    /// The source with this mutant alone.
    pub fn applied(&self, source: &str) -> String {
        let range = self.range(source);
        format!("{} {} {}", &source[..range.start], self.replacement, &source[range.end..])
    }

    /// A name that stays when lines move: without the position, with the line's text instead.
    pub fn lasting_name(&self, source: &str) -> String {
        let position = format!("{}:{}:{}: ", self.file, self.span.start.line, self.span.start.column);
        let change = self.name.strip_prefix(&position).unwrap_or(&self.name);
        let line = source.lines().nth(self.span.start.line - 1).unwrap_or_default().trim();
        format!("{}: {change} | {line}", self.file)
    }
}

fn offset(source: &str, position: &Position) -> usize {
    let line: usize = source.split_inclusive('\n').take(position.line - 1).map(str::len).sum();
    let rest = source.get(line..).unwrap_or_default();
    line + rest.char_indices().nth(position.column - 1).map_or(rest.len(), |(at, _)| at)
}

fn program() -> Result<PathBuf> {
    let tools = paths::cache().join("tools");
    let program = tools.join("bin/cargo-mutants");
    if !program.is_file() {
        step("installing cargo-mutants", || {
            let at = format!("cargo-mutants@{VERSION}");
            let root = tools.display().to_string();
            run("cargo", ["install", "--locked", "--root", &root, &at], 1800).quiet()
        })?;
    }
    Ok(program)
}

/// All mutants of the core. Those of `chord::fuzzing` and the like have no place here: all of the core ships.
pub fn mutants() -> Result<Vec<Mutant>> {
    let args = ["mutants", "--list", "--json", "--package", "chord", "--no-shuffle", "--colors", "never"];
    let text = run(program()?, args, 300).read()?;
    let all: Vec<Value> = serde_json::from_str(&text).context("cargo mutants --list --json")?;
    all.iter().enumerate().map(|(number, one)| parse(number, one)).collect()
}

fn parse(number: usize, one: &Value) -> Result<Mutant> {
    let text = |name: &str| one[name].as_str().map(str::to_owned).with_context(|| format!("no {name} in {one}"));
    let position = |end: &str| -> Result<Position> {
        let at = |what: &str| one["span"][end][what].as_u64().with_context(|| format!("no {what} in {one}"));
        Ok(Position { line: at("line")? as usize, column: at("column")? as usize })
    };
    Ok(Mutant {
        number: u32::try_from(number)?,
        name: text("name")?,
        file: text("file")?,
        span: Span { start: position("start")?, end: position("end")? },
        replacement: text("replacement")?,
        genre: text("genre")?,
    })
}

/// A file of the clone.
pub fn source(file: &str) -> Result<String> {
    fs::read_to_string(paths::root().join(file)).with_context(|| file.to_owned())
}
