//! `verify`: reads back every key that a journal says was acknowledged.
use crate::{
    cli::{self, Global, Output},
    connect,
    failure::{Failure, Result},
    journal::{Journal, Known, Verdict},
    print,
};
use chord_client::{Client, Error};
use futures::StreamExt as _;
use indicatif::ProgressBar;
use serde_json::json;

/// Keys printed by name; the rest is counted.
const NAMED_MAX: u64 = 20;

pub async fn run(global: &Global, args: cli::Verify) -> Result {
    let keys = Journal::read(&args.journal).map_err(Failure::usage)?;
    let acknowledged = keys.values().filter(|known| known.acknowledged.is_some()).count();
    let client = connect::client(global).await?;
    let bar = ProgressBar::new(keys.len() as u64);
    let (mut lost, mut wrong, mut unread) = (0u64, 0u64, 0u64);
    let reads = keys.iter().map(|(key, known)| check(&client, key, known));
    let mut reads = futures::stream::iter(reads).buffer_unordered(args.concurrency as usize);
    while let Some((key, verdict)) = reads.next().await {
        bar.inc(1);
        let count = match &verdict {
            Ok(Verdict::Right) => continue,
            Ok(Verdict::Lost) => &mut lost,
            Ok(Verdict::Wrong) => &mut wrong,
            Err(_) => &mut unread,
        };
        *count += 1;
        if *count <= NAMED_MAX {
            let text = verdict
                .map_or_else(|error| format!("not read: {error}"), |verdict| format!("{verdict:?}").to_lowercase());
            bar.suspend(|| eprintln!("{key}: {text}"));
        }
    }
    bar.finish_and_clear();
    match global.output {
        Output::Json => {
            print::json(&json!({"acknowledged": acknowledged, "lost": lost, "wrong": wrong, "unread": unread}))
        }
        Output::Text => print::line(&format!("acknowledged {acknowledged}, lost {lost}, wrong {wrong}")),
    }
    if lost + wrong > 0 {
        return Err(Failure::negative(format!("{} keys are lost or wrong", lost + wrong)));
    }
    if unread > 0 {
        return Err(Failure::unavailable(format!(
            "{unread} keys could not be read; see `chordctl status`, then try again"
        )));
    }
    Ok(())
}

async fn check<'a>(client: &Client, key: &'a str, known: &Known) -> (&'a str, std::result::Result<Verdict, Error>) {
    let found = client.get(key.to_owned()).await;
    let verdict = found.map(|found| known.judge(found.as_ref().map(|found| (&found.value[..], found.version))));
    (key, verdict)
}
