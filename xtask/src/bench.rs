//! `bench`: a ring of three processes with replication 3 and fsync on, beside a bare echo of the same messages; and a
//! gateway before it with many browsers.
mod browser;
mod process;
mod sockets;

use crate::{
    image,
    local::{self, NODES, Ports, Running},
    paths,
    proc::run,
};
use anyhow::{Context as _, Result, ensure};
use process::usage;
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

const IDLE: Duration = Duration::from_secs(20);
const PORTS: Ports = Ports { base: 17400, visitors: 17380, probes: 17381 };
const ECHO: &str = "127.0.0.1:17390";

#[derive(clap::Args)]
pub struct Options {
    /// Seconds per figure
    #[arg(long, default_value_t = 5)]
    pub seconds: u32,
    /// Bytes per value
    #[arg(long, default_value_t = 256)]
    pub value_size: u32,
    /// WebSockets held open at the gateway; 0: that part is left out
    #[arg(long, default_value_t = 10_000)]
    pub sockets: usize,
    /// Leaves out the page in Chromium
    #[arg(long)]
    pub no_browser: bool,
}

pub fn bench(options: &Options) -> Result<()> {
    let release = image::programs()?;
    let data = Data(std::env::var_os("BENCH_DIR").map_or_else(|| paths::cache().join("bench"), PathBuf::from));
    let _ = fs::remove_dir_all(&data.0);
    fs::create_dir_all(&data.0)?;
    let echo = echo(&release, &data.0, options)?;
    let ring = local::ring(&release, &data.0, PORTS)?;
    let endpoint = PORTS.client(0);
    let nodes = ring.children()?;
    ensure!(nodes.len() == usize::from(NODES), "expected {NODES} nodes, found {}", nodes.len());
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
    if options.sockets > 0 {
        sockets::bench(&release, &data.0, &nodes, options.sockets)?;
    }
    if !options.no_browser {
        browser::bench(&release, &data.0)?;
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

fn echo(release: &Path, data: &Path, options: &Options) -> Result<Figures> {
    eprintln!("==> measuring a bare echo");
    let mut command = Command::new(release.join("echo"));
    command.args(["serve", ECHO]);
    let _server = Running::start(command, &data.join("echo.log"))?;
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

/// The ring's data, gone when this goes out of scope.
struct Data(PathBuf);

impl Drop for Data {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
