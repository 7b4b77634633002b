//! `bench`: a ring of three processes with replication 3 and fsync on, beside a bare echo of the same messages.
use crate::{image, paths, proc::run};
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// Ticks of /proc/PID/stat in a second; Linux shows 100 to programs on every common architecture.
const TICKS_PER_SECOND: f64 = 100.0;
const IDLE: Duration = Duration::from_secs(20);
const BASE_PORT: u16 = 17400;
const ECHO: &str = "127.0.0.1:17390";
/// As long as the ring's own limit for becoming ready.
const START_LIMIT: Duration = Duration::from_secs(60);

#[derive(clap::Args)]
pub struct Options {
    /// Seconds per figure
    #[arg(long, default_value_t = 5)]
    pub seconds: u32,
    /// Bytes per value
    #[arg(long, default_value_t = 256)]
    pub value_size: u32,
}

pub fn bench(options: &Options) -> Result<()> {
    let release = image::programs()?;
    let data = Data(std::env::var_os("BENCH_DIR").map_or_else(|| paths::cache().join("bench"), PathBuf::from));
    let _ = fs::remove_dir_all(&data.0);
    fs::create_dir_all(&data.0)?;
    let echo = echo(&release, options)?;
    let mut command = Command::new(release.join("chordctl"));
    command.args(["dev", "--nodes", "3", "--no-gateway", "--base-port", &BASE_PORT.to_string()]);
    command.arg("--data-dir").arg(&data.0).arg("--bin-dir").arg(&release);
    let ring = Running::start(command, &data.0.join("ring.log"))?;
    let endpoint = format!("127.0.0.1:{}", BASE_PORT + 1);
    let ready = ["--endpoint", &endpoint, "--timeout", "2s", "put", "ready", "yes"];
    let begun = Instant::now();
    while !run(release.join("chordctl"), ready, 10).succeeds() {
        let log = data.0.join("ring.log");
        ensure!(begun.elapsed() < START_LIMIT, "the ring does not start: {}", fs::read_to_string(log)?);
        thread::sleep(Duration::from_millis(200));
    }
    let nodes = ring.children()?;
    ensure!(nodes.len() == 3, "expected three nodes, found {}", nodes.len());
    let (seconds, size) = (options.seconds.to_string(), options.value_size.to_string());
    eprintln!("==> measuring the ring");
    let args = ["--endpoint", &endpoint, "--output", "json", "bench", "--seconds", &seconds, "--value-size", &size];
    let (figures, busy) = usage(&nodes, || parse(&run(release.join("chordctl"), args, 600).read()?))?;
    eprintln!("==> measuring the idle ring with 10,000 keys");
    let ((), idle) = usage(&nodes, || {
        thread::sleep(IDLE);
        Ok(())
    })?;
    print(&figures, &echo, options);
    println!();
    println!("{:<12} {:>18} {:>14}", "per node", "CPU, % of a core", "memory, MiB");
    for (name, usage) in [("busy", busy), ("idle", idle)] {
        println!("{name:<12} {:>18.1} {:>14.1}", usage.cpu_percent, usage.memory_mib);
    }
    Ok(())
}

type Figures = BTreeMap<(String, u64), (f64, u64, u64)>;

/// From chordctl's and echo's output: (operation, clients) to (per second, p50, p99 in microseconds).
fn parse(json: &str) -> Result<Figures> {
    let all: Value = serde_json::from_str(json).with_context(|| format!("not JSON: {json}"))?;
    let figures = all["figures"].as_array().context("no figures")?;
    figures
        .iter()
        .map(|figure| {
            ensure!(figure["errors"].as_u64() == Some(0), "operations failed: {figure}");
            let name = figure["operation"].as_str().context("no operation")?;
            let number = |field: &str| figure[field].as_u64().with_context(|| format!("no {field}"));
            let rate = figure["operations_per_second"].as_f64().context("no rate")?;
            Ok(((name.to_owned(), number("clients")?), (rate, number("p50_us")?, number("p99_us")?)))
        })
        .collect()
}

fn echo(release: &std::path::Path, options: &Options) -> Result<Figures> {
    eprintln!("==> measuring a bare echo");
    let mut command = Command::new(release.join("echo"));
    command.args(["serve", ECHO]);
    let _server = Running::start(command, &paths::cache().join("bench/echo.log"))?;
    let args = ["bench", ECHO, &options.seconds.to_string(), &options.value_size.to_string()];
    parse(&run(release.join("echo"), args, 600).read()?)
}

fn print(ring: &Figures, echo: &Figures, options: &Options) {
    println!("3 nodes, replication 3, fsync on, 10,000 keys, values of {} bytes; on loopback", options.value_size);
    let head = ["", "clients", "per second", "p50 us", "p99 us", "echo/s", "echo p50", "echo p99", "ring/echo"];
    println!("{}", row(&head.map(str::to_owned)));
    for ((name, clients), (rate, p50, p99)) in ring {
        let (bare, bare50, bare99) = echo.get(&(name.clone(), *clients)).copied().unwrap_or_default();
        let numbers = [*p50, *p99].map(|number| number.to_string());
        let [p50, p99] = numbers;
        println!(
            "{}",
            row(&[
                name.clone(),
                clients.to_string(),
                format!("{rate:.0}"),
                p50,
                p99,
                format!("{bare:.0}"),
                bare50.to_string(),
                bare99.to_string(),
                format!("{:.2}", rate / bare),
            ])
        );
    }
}

fn row(cells: &[String; 9]) -> String {
    cells.iter().map(|cell| format!("{cell:>11}")).collect()
}

struct Usage {
    /// Mean of the nodes.
    cpu_percent: f64,
    memory_mib: f64,
}

/// CPU of the processes while `work` runs, and their memory after it.
fn usage<T>(pids: &[u32], work: impl FnOnce() -> Result<T>) -> Result<(T, Usage)> {
    let ticks = || pids.iter().map(|pid| ticks(*pid)).sum::<Result<u64>>();
    let (before, begun) = (ticks()?, Instant::now());
    let done = work()?;
    let (seconds, count) = (begun.elapsed().as_secs_f64(), pids.len() as f64);
    let cpu_percent = (ticks()? - before) as f64 / TICKS_PER_SECOND / seconds / count * 100.0;
    let memory_kib = pids.iter().map(|pid| memory_kib(*pid)).sum::<Result<u64>>()?;
    Ok((done, Usage { cpu_percent, memory_mib: memory_kib as f64 / 1024.0 / count }))
}

/// User and system time of a process, fields 14 and 15 of its stat.
fn ticks(pid: u32) -> Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).with_context(|| format!("node {pid} has ended"))?;
    // The name, in brackets, may hold anything; after it comes field 3.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let number = |index: usize| fields.get(index).and_then(|text| text.parse::<u64>().ok());
    number(11).zip(number(12)).map(|(user, system)| user + system).context("unknown form of /proc/PID/stat")
}

fn memory_kib(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).context("no VmRSS in /proc/PID/status")
}

/// A server that ends, with its children, when this goes out of scope.
struct Running(Child);

impl Running {
    fn start(mut command: Command, log: &std::path::Path) -> Result<Running> {
        let log = fs::File::create(log)?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        Ok(Running(command.spawn().with_context(|| format!("cannot start {command:?}"))?))
    }

    fn children(&self) -> Result<Vec<u32>> {
        let mut all = Vec::new();
        // A child belongs to the thread that started it.
        for thread in fs::read_dir(format!("/proc/{}/task", self.0.id()))? {
            let text = fs::read_to_string(thread?.path().join("children"))?;
            all.extend(text.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
        }
        Ok(all)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // SIGTERM, on which `chordctl dev` ends its nodes.
        let _ = run("kill", [self.0.id().to_string()], 5).quiet();
        let _ = self.0.wait();
    }
}

/// The ring's data, gone when this goes out of scope.
struct Data(PathBuf);

impl Drop for Data {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
