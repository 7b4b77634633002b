//! Other programs, none without a time limit.
use anyhow::{Context as _, Result, bail};
use std::{
    ffi::{OsStr, OsString},
    io::{self, BufRead as _, IsTerminal as _},
    path::Path,
    process::{Command, ExitStatus, Stdio},
    time::Instant,
};

/// What `timeout` exits with when time is up.
const TIMED_OUT: i32 = 124;

/// A command line with a time limit.
pub struct Proc {
    command: Command,
    shown: String,
    limit_s: u32,
}

/// `program` with `args`, found with `paths::search_path`, in the clone's root.
pub fn run<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(program: impl AsRef<OsStr>, args: I, limit_s: u32) -> Proc {
    let args: Vec<OsString> = args.into_iter().map(|arg| arg.as_ref().to_owned()).collect();
    let name = Path::new(program.as_ref()).file_name().unwrap_or(program.as_ref()).to_string_lossy().into_owned();
    let shown = args.iter().fold(name, |line, arg| format!("{line} {}", arg.to_string_lossy()));
    // The limit's own process group makes sure that children's children end too; at a terminal Ctrl-C must reach them.
    let mut command = Command::new("timeout");
    if io::stdin().is_terminal() {
        command.arg("--foreground");
    }
    command.arg("--kill-after=10").arg(limit_s.to_string()).arg(program).args(args);
    command.current_dir(crate::paths::root()).env("PATH", crate::paths::search_path());
    Proc { command, shown, limit_s }
}

impl Proc {
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Proc {
        self.command.env(name, value);
        self
    }

    pub fn dir(mut self, dir: impl AsRef<Path>) -> Proc {
        self.command.current_dir(dir);
        self
    }

    /// Runs it with its output shown.
    pub fn show(mut self) -> Result<()> {
        let status = self.command.status().with_context(|| format!("cannot run {}", self.shown))?;
        self.judge(status, "")
    }

    /// Runs it; its output appears only in the error.
    pub fn quiet(self) -> Result<()> {
        self.read().map(|_| ())
    }

    /// Runs it and gives its standard output.
    pub fn read(mut self) -> Result<String> {
        let output =
            self.command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {}", self.shown))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
        self.judge(output.status, &[text(&output.stdout), text(&output.stderr)].join("\n"))?;
        Ok(text(&output.stdout))
    }

    /// Whether it succeeds.
    pub fn succeeds(self) -> bool {
        self.read().is_ok()
    }

    /// Runs it with its output shown, and hands on each line of standard output. Whether it succeeded.
    pub fn each_line(self, mut line: impl FnMut(&str)) -> Result<bool> {
        self.lines(|text| {
            println!("{text}");
            line(text);
        })
    }

    /// As `each_line`, for output that only a program reads.
    pub fn quiet_lines(mut self, line: impl FnMut(&str)) -> Result<bool> {
        self.command.stderr(Stdio::null());
        self.lines(line)
    }

    fn lines(mut self, mut line: impl FnMut(&str)) -> Result<bool> {
        let mut child = self.command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let child = child.as_mut().map_err(|error| anyhow::anyhow!("cannot run {}: {error}", self.shown))?;
        for text in io::BufReader::new(child.stdout.take().context("no standard output")?).split(b'\n') {
            line(&String::from_utf8_lossy(&text?));
        }
        let status = child.wait()?;
        if status.code() == Some(TIMED_OUT) {
            println!("{}: stopped after {} s", self.shown, self.limit_s);
        }
        Ok(status.success())
    }

    fn judge(&self, status: ExitStatus, output: &str) -> Result<()> {
        match status.code() {
            Some(0) => Ok(()),
            Some(TIMED_OUT) => bail!("{}: not done after {} s\n{output}", self.shown, self.limit_s),
            _ => bail!("{}: {status}\n{output}", self.shown),
        }
    }
}

/// Says what begins, does it, and says how long it took.
pub fn step<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    eprintln!("==> {what}");
    let begun = Instant::now();
    let done = work().with_context(|| format!("failed: {what}"))?;
    eprintln!("    {what}: {:.1} s", begun.elapsed().as_secs_f64());
    Ok(done)
}
