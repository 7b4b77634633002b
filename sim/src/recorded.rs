//! Histories of real rings, as `chordctl history` prints them: one JSON object a line.
use crate::{
    history::{Facts, History, Kind, Op, Told},
    linearize,
};
use chord::shard::{config::Ballot, record::Version};
use serde::Deserialize;
use std::time::Duration;

/// Bound on how far wall clocks of members are off: they share a machine, or a time server.
pub const SKEW: Duration = Duration::from_millis(50);

#[derive(Deserialize)]
struct Line {
    client: usize,
    key: usize,
    operation: String,
    value: Option<u32>,
    ttl_ms: Option<u64>,
    expected: Option<String>,
    invoke_ns: u64,
    return_ns: Option<u64>,
    answer: Option<Answer>,
}

#[derive(Deserialize)]
struct Answer {
    found: Option<u32>,
    version: Option<String>,
    existed: Option<bool>,
    applied: Option<bool>,
}

/// `epoch.ballot.seq`.
fn version(text: &str) -> Result<Version, String> {
    let parts: Vec<u64> = text.split('.').filter_map(|part| part.parse().ok()).collect();
    match parts[..] {
        [epoch, ballot, seq] => Ok(Version { epoch, ballot: Ballot(ballot), seq }),
        _ => Err(format!("`{text}` is not a version")),
    }
}

impl Line {
    fn op(self) -> Result<(usize, Op), String> {
        let optional = |text: &Option<String>| text.as_deref().map(version).transpose();
        let value = || self.value.ok_or("no value");
        let kind = match self.operation.as_str() {
            "get" => Kind::Get,
            "put" | "put_ttl" => Kind::Put { value: value()?, ttl: self.ttl_ms.map(|ms| ms * 1_000_000) },
            "delete" => Kind::Delete,
            "cas" => Kind::Cas { expected: optional(&self.expected)?, value: value()? },
            other => return Err(format!("unknown operation `{other}`")),
        };
        let told = match &self.answer {
            None => None,
            Some(answer) => {
                let made = optional(&answer.version)?;
                Some(match kind {
                    Kind::Get => match (answer.found, made) {
                        (Some(found), Some(made)) => Told::Value(Some((found, made))),
                        (None, None) => Told::Value(None),
                        _ => return Err("a value without its version".into()),
                    },
                    Kind::Put { .. } => Told::Written(made.ok_or("no version")?),
                    Kind::Delete => Told::Deleted(answer.existed.ok_or("no `existed`")?),
                    Kind::Cas { .. } => {
                        Told::Compared { applied: answer.applied.ok_or("no `applied`")?, revision: made }
                    }
                })
            }
        };
        let ret = if told.is_some() { self.return_ns.ok_or("an answer without its time")? } else { u64::MAX };
        Ok((self.key, Op { client: self.client, kind, invoke: self.invoke_ns, ret, told }))
    }
}

/// Reads a history; lines that are no operation, such as messages, are not part of it.
///
/// # Errors
/// Which line makes no sense, and why; that there is no operation at all.
pub fn parse(text: &str) -> Result<History, String> {
    let mut history = History::default();
    for (number, line) in
        text.lines().enumerate().filter(|(_, line)| line.starts_with("{\"") && line.contains("\"invoke_ns\""))
    {
        let line: Line = serde_json::from_str(line).map_err(|error| format!("line {}: {error}", number + 1))?;
        let (key, op) = line.op().map_err(|error| format!("line {}: {error}", number + 1))?;
        history.keys.entry(key).or_default().push(op);
    }
    if history.keys.is_empty() { Err("there is no operation in it".into()) } else { Ok(history) }
}

/// Whether each key's answers can be explained by one order of its operations; `skew` bounds how far wall clocks were
/// off.
///
/// # Errors
/// The first key whose cannot, with the longest part that can.
pub fn check(history: &History, skew: Duration) -> Result<(), String> {
    let skew = u64::try_from(skew.as_nanos()).map_err(|_| "clocks that are centuries off".to_owned())?;
    for (key, ops) in &history.keys {
        let verdict = Facts::of(ops, skew).and_then(|facts| linearize::check(ops, &facts));
        verdict.map_err(|error| format!("key {key}: {error}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"connecting
{"client":0,"operation":"put","key":0,"value":1,"ttl_ms":null,"invoke_ns":10,"return_ns":20,"answer":{"version":"1.16.1"}}
{"client":1,"operation":"cas","key":0,"value":2,"expected":"1.16.1","invoke_ns":30,"return_ns":50,"answer":{"applied":true,"version":"1.16.2"}}
{"client":2,"operation":"get","key":0,"invoke_ns":35,"return_ns":45,"answer":{"found":1,"version":"1.16.1"}}
{"client":2,"operation":"delete","key":0,"invoke_ns":60}
{"client":0,"operation":"get","key":0,"invoke_ns":70,"return_ns":80,"answer":{"found":null}}
{"summary":{}}
"#;

    #[test]
    fn a_history_that_one_order_explains_is_good() {
        let history = parse(GOOD).expect("it is well-formed");
        assert_eq!(history.keys[&0].len(), 5);
        assert_eq!(check(&history, SKEW), Ok(()));
    }

    #[test]
    fn lost_and_stale_answers_are_found() {
        // The deletion was never sent: the value is lost.
        let lost: String =
            GOOD.lines().filter(|line| !line.contains("delete")).map(|line| format!("{line}\n")).collect();
        assert!(check(&parse(&lost).expect("it is well-formed"), SKEW).is_err());
        // A read that begins after the second write was answered gives the first.
        let stale = GOOD.replace(r#""invoke_ns":35,"return_ns":45"#, r#""invoke_ns":51,"return_ns":55"#);
        assert!(check(&parse(&stale).expect("it is well-formed"), SKEW).is_err());
    }

    #[test]
    fn what_makes_no_sense_is_named_with_its_line() {
        for (from, to) in [("1.16.2", "1.16"), ("\"cas\"", "\"swap\""), ("\"value\":1,", ""), ("\"return_ns\":20,", "")]
        {
            let error = parse(&GOOD.replace(from, to)).expect_err(to);
            assert!(error.starts_with("line "), "{error}");
        }
        assert!(parse("nothing\n").is_err());
    }
}
