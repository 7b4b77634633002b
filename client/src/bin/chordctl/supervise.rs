//! Keeps one process running: reports its death, starts it again, and stops it with grace.
use crate::failure::{Failure, Result, local};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    fs::OpenOptions,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    time::{Duration, Instant},
};
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

const BACKOFF_MIN: Duration = Duration::from_millis(500);
const BACKOFF_MAX: Duration = Duration::from_secs(15);
/// A process that ran so long gets the short wait again.
const STEADY: Duration = Duration::from_secs(30);
/// Time to stop by itself before it is killed.
const GRACE: Duration = Duration::from_secs(40);

/// When to stop.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    /// With grace.
    pub soon: CancellationToken,
    /// Without.
    pub now: CancellationToken,
}

/// What to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    pub name: String,
    pub path: PathBuf,
    pub args: Vec<String>,
    /// Both its outputs are appended here.
    pub log: PathBuf,
}

impl Program {
    /// Starts it, away from the terminal's Ctrl-C: it is stopped when we say so.
    pub fn start(&self) -> Result<Child> {
        let log = OpenOptions::new().create(true).append(true).open(&self.log);
        let log = log.map_err(local(format!("cannot write {}", self.log.display())))?;
        let other = log.try_clone().map_err(local("cannot use the log twice"))?;
        let mut command = Command::new(&self.path);
        // What is meant for chordctl (CHORD_TLS_DIR, for one) means something else to a node.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"CHORD_")) {
            command.env_remove(name);
        }
        command
            .args(&self.args)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(other)
            .process_group(0)
            .spawn()
            .map_err(local(format!("cannot run {}", self.path.display())))
    }

    /// Runs it until `stop`, then ends it with SIGTERM and waits. Returns whether it ended well.
    pub async fn keep(self, mut child: Child, stop: Stop) -> bool {
        let mut backoff = BACKOFF_MIN;
        loop {
            let begun = Instant::now();
            let ended = tokio::select! {
                ended = child.wait() => ended,
                () = stop.soon.cancelled() => return self.end(child, &stop.now).await,
            };
            backoff = next_backoff(backoff, begun.elapsed());
            let how = ended.map_or_else(|error| error.to_string(), |status| status.to_string());
            eprintln!(
                "{} ended ({how}); starting it again in {} ms, see {}",
                self.name,
                backoff.as_millis(),
                self.log.display()
            );
            loop {
                tokio::select! {
                    () = tokio::time::sleep(backoff) => {}
                    () = stop.soon.cancelled() => return true,
                }
                match self.start() {
                    Ok(again) => break child = again,
                    Err(Failure { message, .. }) => eprintln!("{}: {message}", self.name),
                }
                backoff = next_backoff(backoff, Duration::ZERO);
            }
        }
    }

    async fn end(&self, mut child: Child, now: &CancellationToken) -> bool {
        let pid = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
        // No process, no signal: it has ended by itself.
        if let Some(Err(error)) = pid.map(|pid| kill_process(pid, Signal::TERM)) {
            eprintln!("{}: cannot be told to stop: {error}", self.name);
        }
        let late = tokio::select! {
            status = child.wait() => return status.is_ok_and(|status: ExitStatus| status.success()),
            () = now.cancelled() => false,
            () = tokio::time::sleep(GRACE) => true,
        };
        if late {
            eprintln!("{} does not stop within {} s and is killed; its data is safe", self.name, GRACE.as_secs());
        }
        let _ = child.kill().await;
        false
    }
}

fn next_backoff(last: Duration, ran: Duration) -> Duration {
    if ran >= STEADY { BACKOFF_MIN } else { (last * 2).min(BACKOFF_MAX) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(dir: &std::path::Path, script: &str) -> Program {
        let args = vec!["-c".into(), script.into()];
        Program { name: "test".into(), path: "/bin/sh".into(), args, log: dir.join("log") }
    }

    #[test]
    fn waits_double_until_a_process_has_run_for_a_while() {
        assert_eq!(next_backoff(BACKOFF_MIN, Duration::from_secs(1)), BACKOFF_MIN * 2);
        assert_eq!(next_backoff(BACKOFF_MAX, Duration::from_secs(1)), BACKOFF_MAX);
        assert_eq!(next_backoff(BACKOFF_MAX, STEADY), BACKOFF_MIN);
    }

    #[tokio::test]
    async fn a_process_that_dies_is_started_again_and_stops_on_request() {
        let dir = tempfile::tempdir().unwrap();
        let script = format!(
            "echo life >> {0}/lives; test $(wc -l < {0}/lives) -lt 2 && exit 3; \
                              trap 'exit 0' TERM; touch {0}/second; while :; do sleep 0.05; done",
            dir.path().display()
        );
        let program = shell(dir.path(), &script);
        let stop = Stop::default();
        let kept = tokio::spawn(program.clone().keep(program.start().unwrap(), stop.clone()));
        let second = dir.path().join("second");
        let wait = async {
            while !second.exists() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), wait).await.expect("it is started a second time");
        stop.soon.cancel();
        assert!(kept.await.unwrap(), "SIGTERM ends it with code 0");
    }

    #[tokio::test]
    async fn a_process_that_takes_its_time_can_be_ended_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let program = shell(dir.path(), "trap '' TERM; while :; do sleep 0.05; done");
        let stop = Stop::default();
        let kept = tokio::spawn(program.clone().keep(program.start().unwrap(), stop.clone()));
        stop.soon.cancel();
        stop.now.cancel();
        let clean = tokio::time::timeout(GRACE / 2, kept).await.expect("nobody waits for it").unwrap();
        assert!(!clean);
    }
}
