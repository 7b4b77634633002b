//! What browsers cost: a gateway with one and with many WebSockets, and a bare server with as many.
use super::{
    PORTS,
    process::{Usage, usage},
};
use crate::{
    local::{self, NODES, Running},
    proc::run,
};
use anyhow::{Context as _, Result};
use serde_json::Value;
use std::{
    io::{BufRead as _, BufReader, Lines, Write as _},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    thread,
    time::Duration,
};

const BARE: &str = "127.0.0.1:17382";
/// For each figure.
const WHILE: Duration = Duration::from_secs(10);
/// Everything the visitors do; their own limits are shorter.
const VISIT_LIMIT_S: &str = "600";
/// Operations per second of a busy ring, enough that every node's figures change all the time.
const BUSY_RATE: &str = "500";

/// What was measured with a number of sockets.
struct Figures {
    name: String,
    sockets: usize,
    /// KiB of the server for each.
    memory_kib: f64,
    /// Until all had their snapshot, ms.
    open_ms: u64,
    snapshot_ms: [u64; 3],
    idle: Load,
    busy: Load,
}

/// While deltas arrived.
struct Load {
    server: Usage,
    nodes: Usage,
    /// Calls of the nodes' RingView and messages they sent to watchers, per second, of all nodes.
    calls: f64,
    messages: f64,
    /// Deltas that all sockets got.
    deltas: u64,
    /// Mean of a delta.
    bytes: u64,
    delta_ms: [u64; 3],
    all_ms: [u64; 3],
    /// Snapshots for sockets that had fallen behind.
    behind: u64,
}

/// Prints the table; `nodes` are the ring's processes.
pub fn bench(release: &Path, data: &Path, nodes: &[u32], count: usize) -> Result<()> {
    let log = |name: &str| data.join(format!("{name}.log"));
    let mut figures = Vec::new();
    {
        let gateway = local::gateway(release, data, PORTS, &["--sockets".into(), count.to_string()])?;
        let visitors = PORTS.visitors();
        for count in [1, count] {
            let busy = || Running::start(busy(release, data), &log("busy"));
            figures.push(measure(release, "gateway", &gateway, nodes, (&visitors, "/api/v1/ws"), count, busy)?);
        }
    }
    // Frames as long as the gateway's, as often.
    let bytes = figures.last().map_or(0, |many| many.busy.bytes);
    let mut command = Command::new(release.join("sockets"));
    command.args(["serve", BARE, &bytes.to_string(), "500"]);
    let bare = Running::start(command, &log("bare"))?;
    local::await_answer(BARE, "/")?;
    figures.push(measure(release, "bare", &bare, nodes, (BARE, "/"), count, || Ok(()))?);
    print(&figures);
    Ok(())
}

/// Writes and reads for longer than it is measured.
fn busy(release: &Path, data: &Path) -> Command {
    let mut command = Command::new(release.join("chordctl"));
    command.args(["--endpoint", &PORTS.client(0), "load", "--duration", "600s"]);
    command.args(["--rate", BUSY_RATE, "--journal"]).arg(data.join("busy.journal"));
    command
}

/// Opens `count` sockets, waits until all have their snapshot, and looks on for a while, before and while `busy` runs.
fn measure<T>(
    release: &Path,
    name: &str,
    server: &Running,
    nodes: &[u32],
    (address, path): (&str, &str),
    count: usize,
    busy: impl FnOnce() -> Result<T>,
) -> Result<Figures> {
    eprintln!("==> {name} with {count} sockets");
    let pids = [server.pid()];
    let ((), before) = usage(&pids, || Ok(()))?;
    let (mut visitors, open) = Visitors::open(release, address, path, count)?;
    let mut load = || -> Result<Load> {
        visitors.figures()?;
        let asked = seen_by_nodes()?;
        let ((deltas, nodes), server) = usage(&pids, || {
            usage(nodes, || {
                thread::sleep(WHILE);
                visitors.figures()
            })
        })?;
        let seconds = WHILE.as_secs_f64();
        let [calls, messages] = std::array::from_fn(|index| asked[index]);
        let [calls_after, messages_after] = seen_by_nodes()?;
        Ok(Load {
            server,
            nodes,
            calls: (calls_after - calls) / seconds,
            messages: (messages_after - messages) / seconds,
            deltas: number(&deltas["deltas"])?,
            bytes: number(&deltas["bytes"])?,
            delta_ms: percentiles(&deltas["delta_ms"])?,
            all_ms: percentiles(&deltas["all_ms"])?,
            behind: number(&deltas["behind"])?,
        })
    };
    let idle = load()?;
    let working = busy()?;
    let busy = load()?;
    drop(working);
    Ok(Figures {
        name: name.to_owned(),
        sockets: count,
        memory_kib: (busy.server.memory_mib - before.memory_mib) * 1024.0 / count as f64,
        open_ms: number(&open["open_ms"])?,
        snapshot_ms: percentiles(&open["snapshot_ms"])?,
        idle,
        busy,
    })
}

/// `sockets hold` at work.
struct Visitors {
    child: Child,
    ask: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Visitors {
    fn open(release: &Path, address: &str, path: &str, count: usize) -> Result<(Visitors, Value)> {
        let mut command = Command::new("timeout");
        command.arg(VISIT_LIMIT_S).arg(release.join("sockets")).args(["hold", address, path, &count.to_string()]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("cannot start sockets")?;
        let ask = child.stdin.take().context("no standard input")?;
        let lines = BufReader::new(child.stdout.take().context("no standard output")?).lines();
        let mut visitors = Visitors { child, ask, lines };
        let open = visitors.read()?;
        Ok((visitors, open))
    }

    /// Since it was last asked.
    fn figures(&mut self) -> Result<Value> {
        writeln!(self.ask)?;
        self.read()
    }

    fn read(&mut self) -> Result<Value> {
        let line = self.lines.next().context("the visitors' program ended; it says above why")??;
        serde_json::from_str(&line).with_context(|| format!("not JSON: {line}"))
    }
}

impl Drop for Visitors {
    fn drop(&mut self) {
        let _ = run("kill", [self.child.id().to_string()], 5).quiet();
        let _ = self.child.wait();
    }
}

fn number(value: &Value) -> Result<u64> {
    value.as_u64().with_context(|| format!("not a number: {value}"))
}

fn percentiles(value: &Value) -> Result<[u64; 3]> {
    let all = value.as_array().context("no percentiles")?.iter().map(number).collect::<Result<Vec<_>>>()?;
    all.try_into().ok().context("not three percentiles")
}

/// Calls that look at the ring, and messages of watches, as all nodes count them.
fn seen_by_nodes() -> Result<[f64; 2]> {
    let mut sums = [0.0, 0.0];
    for node in 0..NODES {
        let metrics = local::get(&PORTS.metrics(node), "/metrics")?;
        for (sum, name) in sums.iter_mut().zip(["chord_view_calls_total", "chord_view_messages_total"]) {
            let values = metrics.lines().filter(|line| line.starts_with(name));
            *sum += values.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>();
        }
    }
    Ok(sums)
}

fn print(figures: &[Figures]) {
    println!();
    let bytes = figures.iter().map(|figures| figures.busy.bytes).max().unwrap_or(0);
    println!(
        "WebSockets at a gateway before that ring, deltas of {bytes} bytes, and at a bare server; clients on the same machine"
    );
    let head = ["KiB each", "open s", "snap p50", "snap p99", "ms max"];
    println!("{:<9}{:>8}{}", "", "sockets", cells(&head.map(str::to_owned)));
    for Figures { name, sockets, memory_kib, open_ms, snapshot_ms, .. } in figures {
        let [p50, p99, max] = snapshot_ms.map(|ms| ms.to_string());
        // Of one socket the difference is chance.
        let memory = if *sockets > 1 { format!("{memory_kib:.1}") } else { "-".into() };
        let open = format!("{:.2}", *open_ms as f64 / 1000.0);
        println!("{name:<9}{sockets:>8}{}", cells(&[memory, open, p50, p99, max]));
    }
    println!();
    let head = ["p50 ms", "p99 ms", "all p50", "all max", "per s", "behind", "CPU %", "node CPU%", "calls/s", "news/s"];
    println!("{:<9}{:>8}{:>6}{}", "deltas", "sockets", "ring", cells(&head.map(str::to_owned)));
    for Figures { name, sockets, idle, busy, .. } in figures {
        for (state, load) in [("idle", idle), ("busy", busy)] {
            let ([p50, p99, _], [all, _, all_max]) = (load.delta_ms, load.all_ms);
            let whole = [p50, p99, all, all_max].map(|ms| ms.to_string());
            let rate = format!("{:.1}", load.deltas as f64 / WHILE.as_secs_f64());
            let [server, nodes] = [load.server, load.nodes].map(|usage| format!("{:.1}", usage.cpu_percent));
            let asked = [load.calls, load.messages].map(|rate| format!("{rate:.1}"));
            let rest = [rate, load.behind.to_string(), server, nodes];
            println!("{name:<9}{sockets:>8}{state:>6}{}{}{}", cells(&whole), cells(&rest), cells(&asked));
        }
    }
    let [one, many, bare] = figures else { return };
    println!();
    println!(
        "{} sockets / 1: calls of the nodes {:.2}, their news {:.2}; gateway / bare: memory {:.2}, CPU {:.2}, deltas' p99 {:.2}",
        many.sockets,
        ratio(many.idle.calls, one.idle.calls),
        ratio(many.idle.messages, one.idle.messages),
        many.memory_kib / bare.memory_kib,
        many.busy.server.cpu_percent / bare.busy.server.cpu_percent,
        ratio(many.idle.delta_ms[1] as f64, bare.idle.delta_ms[1] as f64),
    );
}

/// Of nothing to nothing: one.
fn ratio(part: f64, whole: f64) -> f64 {
    if part == whole { 1.0 } else { part / whole }
}

fn cells(cells: &[String]) -> String {
    cells.iter().map(|cell| format!("{cell:>10}")).collect()
}
