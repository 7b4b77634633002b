//! Writes with a journal, from this machine or from a pod, and the proof that nothing acknowledged was lost.
use crate::{
    await_condition,
    pod::Pod,
    ring::{NAME, Ring},
    tool,
};
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use std::{
    fs,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// What `chordctl load` says at its end.
#[derive(Debug)]
pub struct Report {
    pub writes: u64,
    pub reads: u64,
    /// Operations that failed for good, after all retries.
    pub errors: u64,
    /// Writes whose outcome stayed unknown.
    pub unknown: u64,
    /// Reads that did not give what was acknowledged.
    pub wrong: u64,
    /// The slowest write with its retries: how long the worst hit part of the ring took no writes.
    pub slowest_put: Duration,
}

impl Report {
    fn parse(json: &str) -> Result<Report> {
        let all: Value = serde_json::from_str(json.trim()).with_context(|| format!("not a report: {json}"))?;
        let number =
            |pointer: &str| all.pointer(pointer).and_then(Value::as_u64).with_context(|| format!("no {pointer}"));
        let report = Report {
            writes: number("/writes")?,
            reads: number("/reads")?,
            errors: number("/errors")?,
            unknown: number("/unknown")?,
            wrong: number("/wrong")?,
            slowest_put: Duration::from_micros(number("/put/max_us")?),
        };
        println!("    {report:?}");
        Ok(report)
    }

    /// That clients noticed nothing: no error got past their retries, and every read was right.
    pub fn assert_unnoticed(&self) {
        assert!(self.writes > 0 && self.reads > 0, "the load did nothing: {self:?}");
        assert_eq!((self.errors, self.unknown, self.wrong), (0, 0, 0), "{self:?}");
    }
}

/// `chordctl load` in the background, on this machine, through kubeconfig.
pub struct Load {
    child: Child,
    journal: String,
}

impl Load {
    /// Writes `keys` keys of 1 KiB once, and waits for it.
    pub fn fill(ring: &Ring, journal: &str, keys: u64) -> Result<Report> {
        let begun = Instant::now();
        let path = path(ring, journal);
        let keys = keys.to_string();
        let args = ["--output", "json", "load", "--keys", &keys, "--value-size", "1024", "--concurrency", "32"];
        let args = [&args[..], &["--prefix", journal, "--journal", &path]].concat();
        let done =
            tool::run("chordctl", &[&["--namespace", &ring.namespace, "--ring", NAME], &args[..]].concat(), 1800)?;
        let report = Report::parse(&done.good()?)?;
        println!("    {keys} keys of 1 KiB written in {:.1} s", begun.elapsed().as_secs_f64());
        Ok(report)
    }

    /// Writes and reads until `stop`.
    pub fn start(ring: &Ring, journal: &str) -> Result<Load> {
        let mut command = Command::new("chordctl");
        command.args(["--namespace", &ring.namespace, "--ring", NAME, "--output", "json", "--timeout", "50s", "load"]);
        command.args(["--keys", "1000", "--value-size", "1024", "--concurrency", "8", "--rate", "200"]);
        command.args([
            "--duration",
            "2h",
            "--read-ratio",
            "0.5",
            "--prefix",
            journal,
            "--journal",
            &path(ring, journal),
        ]);
        let log = fs::File::create(ring.dir.join(format!("{journal}.log")))?;
        let child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).spawn().context("cannot run chordctl")?;
        Ok(Load { child, journal: journal.to_owned() })
    }

    /// Interrupts it, as Ctrl-C does; it must end cleanly.
    pub fn stop(mut self, ring: &Ring) -> Result<Report> {
        tool::run("kill", &["-INT", &self.child.id().to_string()], 5)?.good()?;
        let status = await_condition("the load stops", 90, || Ok(self.child.try_wait()?))?;
        let output = std::io::read_to_string(self.child.stdout.take().context("no output")?)?;
        let log = fs::read_to_string(ring.dir.join(format!("{}.log", self.journal)))?;
        ensure!(status.success(), "chordctl load: {status}: {output}{log}");
        Report::parse(&output)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // Only when a test fails before `stop`.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn path(ring: &Ring, journal: &str) -> String {
    ring.dir.join(format!("{journal}.journal")).display().to_string()
}

/// Reads every key that the journal says was acknowledged.
pub fn verify(ring: &Ring, journal: &str) -> Result<()> {
    let done = ring.chordctl(&["--timeout", "50s", "verify", "--journal", &path(ring, journal)])?.good()?;
    all_right(&done).map(|_| ())
}

/// The last line of what `chordctl verify` said; an error if a key was lost or wrong.
fn all_right(verified: &str) -> Result<String> {
    let last = verified.lines().last().unwrap_or_default();
    println!("    {last}");
    ensure!(last.ends_with("lost 0, wrong 0"), "{verified}");
    Ok(last.to_owned())
}

/// Load from a pod inside the cluster for a fixed time, then `verify` in the same pod.
///
/// Its figures do not have the API server's port-forward in them. The pod runs on `machine`, which must stay up.
pub struct InCluster<'a>(Pod<'a>);

impl<'a> InCluster<'a> {
    /// Starts it, and returns once it writes.
    pub fn start(ring: &'a Ring, name: &'a str, machine: &str, seconds: u32) -> Result<InCluster<'a>> {
        let duration = format!("{seconds}s");
        let load = ["load", "--keys", "3000", "--value-size", "256", "--concurrency", "24", "--rate", "400"];
        let tail = ["--read-ratio", "0.3", "--prefix", name, "--duration", &duration, "--journal", "/journal/j"];
        let verify = ["verify", "--journal", "/journal/j"];
        let pod = Pod::run(ring, name, machine, &[&["--output", "json"], &load[..], &tail].concat(), &verify)?;
        await_condition(&format!("load pod {name} runs"), 60, || pod.first_runs())?;
        Ok(InCluster(pod))
    }

    /// Waits for its end; gives what it did and what `verify` says. An error if a key was lost or wrong.
    pub fn finish(self) -> Result<(Report, String)> {
        self.0.ended()?;
        let log = self.0.first_logs()?;
        let begin = log.lines().position(|line| line == "{").with_context(|| format!("no report: {log}"))?;
        let report = Report::parse(&log.lines().skip(begin).collect::<Vec<_>>().join("\n"))?;
        Ok((report, all_right(&self.0.logs()?)?))
    }
}
