//! The tests that judge the mutants: each a process of its own, with limits.
use super::{
    build::{self, Binary},
    results::Verdict,
};
use anyhow::{Context as _, Result, ensure};
use std::{
    collections::BTreeSet,
    fs,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// Address space of one test, in KiB: a mutant that collects without end is caught by it.
const MEMORY_KIB_MAX: u64 = 4 << 20;
/// Most processor time of the original on which a limit is founded.
const ORIGINAL_MAX: Duration = Duration::from_secs(400);
/// A mutant may take this many times the processor time of the original.
const SLOWER: u32 = 10;
/// Longest time without any processor time to speak of: it waits for something that never comes.
const STUCK: Duration = Duration::from_secs(60);

/// How much of the tests that are driven by seeds and samples.
#[derive(Clone, Copy, PartialEq)]
pub enum Effort {
    Quick,
    Long,
}

impl Effort {
    fn environment(self) -> [(&'static str, &'static str); 3] {
        match self {
            Effort::Quick => [("SEEDS", "2"), ("TRANSITIONS", "1000"), ("PROPTEST_CASES", "64")],
            Effort::Long => [("SEEDS", "20"), ("TRANSITIONS", "10000"), ("PROPTEST_CASES", "256")],
        }
    }

    /// What a mutant is that passes.
    pub fn survived(self) -> Verdict {
        match self {
            Effort::Quick => Verdict::Survivor,
            Effort::Long => Verdict::Missed,
        }
    }

    fn left_out(self) -> impl Iterator<Item = &'static str> {
        let long: &[&str] = if self == Effort::Quick { &LONG } else { &[] };
        NO_JUDGES.iter().chain(long).copied()
    }
}

/// No judges: a page of docs with traces in it differs after every change, and a wrong core is as repeatable as a right
/// one.
const NO_JUDGES: [&str; 2] = ["every_mutant_is_caught_as_the_docs_say", "same_seed_same_run"];

/// Tests whose time no variable shortens.
const LONG: [&str; 4] = [
    "the_papers_figures_come_out_of_the_shipped_core",
    "seeds_that_once_failed_do_not_fail_again",
    "repaired_fingers_are_ideal_at_hashed_ids",
    "repaired_fingers_are_ideal_where_their_starts_are_nodes",
];

#[derive(Clone)]
pub struct Test {
    pub binary: Binary,
    pub name: String,
    /// Processor time of the original.
    pub took: Duration,
    /// Mutants that it reaches.
    pub reaches: BTreeSet<u32>,
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub enum End {
    Passed,
    Failed,
    TimedOut,
}

fn command(binary: &Binary, effort: Effort) -> Command {
    let mut command = Command::new("sh");
    let limited = format!("ulimit -v {MEMORY_KIB_MAX}; exec \"$0\" \"$@\"");
    command.args(["-c", &limited]).arg(&binary.program).envs(effort.environment());
    let package = binary.name.split('/').next().unwrap_or_default();
    command.env("CARGO_MANIFEST_DIR", build::tree().join(package)).current_dir(build::tree().join(package));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// How a process ended, and its processor time: the clock on the wall would judge the machine's other work as well.
fn wait(mut child: Child, limit: Duration) -> Result<(End, Duration)> {
    let (mut used, mut moved) = (Duration::ZERO, Instant::now());
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok((if status.success() { End::Passed } else { End::Failed }, used));
        }
        let now = processor_time(child.id()).unwrap_or(used);
        if now > used {
            (used, moved) = (now, Instant::now());
        }
        if used > limit || moved.elapsed() > STUCK {
            child.kill()?;
            child.wait()?;
            return Ok((End::TimedOut, used));
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

/// What all threads of a process have used so far, to a hundredth of a second (proc(5), `stat`).
fn processor_time(process: u32) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name, in parentheses, may hold spaces.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |field: usize| fields.get(field)?.parse::<u64>().ok();
    Some(Duration::from_millis(10 * (ticks(11)? + ticks(12)?)))
}

impl Test {
    fn only(&self, effort: Effort) -> Command {
        let mut command = command(&self.binary, effort);
        command.args(["--exact", &self.name, "--test-threads=1"]);
        command
    }

    pub fn with(&self, mutant: Option<u32>, effort: Effort) -> Result<End> {
        let mut command = self.only(effort);
        if let Some(number) = mutant {
            command.env("MUTANT", number.to_string());
        }
        Ok(wait(command.spawn()?, self.took * SLOWER + Duration::from_secs(5))?.0)
    }

    pub fn shown(&self) -> String {
        format!("{} {}", self.binary.name, self.name)
    }
}

/// All tests of the original: how long each takes, and which mutants it reaches. The fastest come first.
pub fn survey(binaries: &[Binary], mutants: usize, effort: Effort, part: &str) -> Result<Vec<Test>> {
    let list = build::tree().join("reached");
    let mut tests = Vec::new();
    for binary in binaries {
        let listed = command(binary, effort).args(["--list", "--format=terse"]).stdout(Stdio::piped()).output()?;
        for name in String::from_utf8_lossy(&listed.stdout).lines().filter_map(|line| line.strip_suffix(": test")) {
            if !name.contains(part) || effort.left_out().any(|other| name.ends_with(other)) {
                continue;
            }
            let (binary, name) = (binary.clone(), name.to_owned());
            let mut test = Test { binary, name, took: Duration::ZERO, reaches: BTreeSet::new() };
            fs::write(&list, "")?;
            let mut command = test.only(effort);
            command.env("MUTANTS_REACHED", &list).env("MUTANTS_COUNT", mutants.to_string());
            let (end, took) = wait(command.spawn()?, ORIGINAL_MAX)?;
            ensure!(end == End::Passed, "{} fails without a mutant: {end:?}", test.shown());
            test.took = took;
            for line in fs::read_to_string(&list)?.lines() {
                test.reaches.insert(line.parse().with_context(|| format!("reached: {line:?}"))?);
            }
            eprintln!("    {}: {:.2} s, reaches {}", test.shown(), test.took.as_secs_f64(), test.reaches.len());
            tests.push(test);
        }
    }
    tests.sort_by_key(|test| test.took);
    Ok(tests)
}

/// The first test of these programs that fails, however long the others take.
pub fn run_all(binaries: &[Binary], effort: Effort) -> Result<Option<(String, End)>> {
    for binary in binaries {
        let mut command = command(binary, effort);
        for name in effort.left_out() {
            command.args(["--skip", name]);
        }
        let (end, _) = wait(command.spawn()?, ORIGINAL_MAX)?;
        if end != End::Passed {
            return Ok(Some((binary.name.clone(), end)));
        }
    }
    Ok(None)
}
