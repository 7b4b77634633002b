//! Servers on this machine, for a while: a ring of processes, and a gateway before it.
use crate::proc::run;
use anyhow::{Context as _, Result, ensure};
use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// As long as a ring's own limit for becoming ready.
const START_LIMIT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(200);
pub const NODES: u16 = 3;

/// Ports of a ring and of the gateway before it.
#[derive(Clone, Copy)]
pub struct Ports {
    /// First port of the first node.
    pub base: u16,
    pub visitors: u16,
    pub probes: u16,
}

impl Ports {
    /// Where applications reach a node.
    pub fn client(&self, node: u16) -> String {
        format!("127.0.0.1:{}", self.base + 10 * node + 1)
    }

    /// Where a node serves its metrics.
    pub fn metrics(&self, node: u16) -> String {
        format!("127.0.0.1:{}", self.base + 10 * node + 2)
    }

    pub fn visitors(&self) -> String {
        format!("127.0.0.1:{}", self.visitors)
    }
}

/// Three nodes that can be written to, from the programs in `release`, with their data and logs in `dir`.
pub fn ring(release: &Path, dir: &Path, ports: Ports) -> Result<Running> {
    let log = dir.join("ring.log");
    let mut command = Command::new(release.join("chordctl"));
    command.args(["dev", "--no-gateway", "--nodes", &NODES.to_string(), "--base-port", &ports.base.to_string()]);
    command.arg("--data-dir").arg(dir).arg("--bin-dir").arg(release);
    let ring = Running::start(command, &log)?;
    let endpoint = ports.client(0);
    let ready = ["--endpoint", &endpoint, "--timeout", "2s", "put", "ready", "yes"];
    let begun = Instant::now();
    while !run(release.join("chordctl"), ready, 10).succeeds() {
        ensure!(begun.elapsed() < START_LIMIT, "the ring does not start: {}", fs::read_to_string(log)?);
        thread::sleep(POLL);
    }
    // The first alone takes writes before the others have joined.
    (0..NODES).try_for_each(|node| await_answer(&ports.metrics(node), "/readyz"))?;
    Ok(ring)
}

/// A gateway that has heard of the ring.
pub fn gateway(release: &Path, dir: &Path, ports: Ports, flags: &[String]) -> Result<Running> {
    let mut command = Command::new(release.join("chord-gateway"));
    let endpoints: Vec<String> = (0..NODES).map(|node| ports.client(node)).collect();
    let probes = format!("127.0.0.1:{}", ports.probes);
    command.args(["--ring-name=dev", "--log-format=text", "--endpoints", &endpoints.join(",")]);
    command.args(["--listen", &ports.visitors(), "--http-addr", &probes]).args(flags);
    let gateway = Running::start(command, &dir.join("gateway.log"))?;
    await_answer(&probes, "/readyz")?;
    Ok(gateway)
}

/// The answer to a GET, with its head.
pub fn get(address: &str, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Until anything but 503 is answered.
pub fn await_answer(address: &str, path: &str) -> Result<()> {
    let begun = Instant::now();
    loop {
        let last = get(address, path);
        if last.as_ref().is_ok_and(|answer| !answer.is_empty() && !answer.contains(" 503 ")) {
            return Ok(());
        }
        ensure!(begun.elapsed() < START_LIMIT, "{address}{path} is not ready: {last:?}");
        thread::sleep(POLL);
    }
}

/// A server that ends, with its children, when this goes out of scope.
pub struct Running(Child);

impl Running {
    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    pub fn start(mut command: Command, log: &Path) -> Result<Running> {
        let log = fs::File::create(log)?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        Ok(Running(command.spawn().with_context(|| format!("cannot start {command:?}"))?))
    }

    pub fn children(&self) -> Result<Vec<u32>> {
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
