//! `dev`: a ring of real node processes and a gateway on loopback.
//!
//! Ctrl-C stops all of them gracefully and nobody leaves the ring: the data stays, and a second run resumes with it.
use crate::{
    cli,
    failure::{Failure, Result, local},
    supervise::{Program, Stop},
};
use chord_client::{Client, ClientSettings, Endpoints};
use std::{
    io,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
};

/// Ports from one node to the next.
const PORTS_PER_NODE: u16 = 10;
/// Time for a node to come up.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(100);

pub async fn run(args: cli::Dev, name: &str) -> Result {
    let plan = Plan::new(&args)?;
    plan.check_ports()?;
    std::fs::create_dir_all(&plan.dir).map_err(local(format!("cannot create {}", plan.dir.display())))?;
    let stop = Stop::default();
    let mut running = JoinSet::new();
    let signals = tokio::spawn(stop_on_signal(stop.clone()));
    let up = tokio::select! {
        up = plan.start(&mut running, &stop) => up,
        () = stop.soon.cancelled() => Ok(()),
    };
    if up.is_ok() && !stop.soon.is_cancelled() {
        plan.greet(name);
        stop.soon.cancelled().await;
    }
    stop.soon.cancel();
    let mut clean = true;
    while let Some(ended) = running.join_next().await {
        clean &= ended.unwrap_or(false);
    }
    signals.abort();
    up?;
    eprintln!(
        "all stopped{}; the data is in {}",
        if clean { "" } else { ", not all of them cleanly" },
        plan.dir.display()
    );
    Ok(())
}

async fn stop_on_signal(stop: Stop) {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut int), Ok(mut term)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) else {
        return;
    };
    for (token, text) in [
        (&stop.soon, "stopping all nodes; this takes some seconds (again: at once, which loses nothing either)"),
        (&stop.now, "killing all nodes; their data is safe"),
    ] {
        tokio::select! {
            _ = int.recv() => {}
            _ = term.recv() => {}
        }
        eprintln!("\n{text}");
        token.cancel();
    }
}

/// What runs where.
struct Plan {
    dir: PathBuf,
    base: u16,
    nodes: Vec<Program>,
    gateway: Option<Program>,
    gateway_port: u16,
}

impl Plan {
    fn new(args: &cli::Dev) -> Result<Plan> {
        let dir = std::path::absolute(&args.data_dir).map_err(local("cannot use the data directory"))?;
        let before = (0..=u16::from(u8::MAX)).rev().find(|node| dir.join(format!("node-{node}")).exists());
        if let Some(last) = before.filter(|last| *last >= args.nodes) {
            return Err(Failure::usage(format!(
                "{} holds the data of {} nodes; run with --nodes {} or choose another --data-dir",
                dir.display(),
                last + 1,
                last + 1
            )));
        }
        let bin = bin_dir(args)?;
        let node = program(&bin, "chord-node")?;
        let gateway = match args.no_gateway {
            true => None,
            false => Some(program(&bin, "chord-gateway")?),
        };
        let nodes = (0..args.nodes).map(|number| node_program(&node, &dir, args, number)).collect();
        let gateway = gateway.map(|path| gateway_program(path, &dir, args));
        Ok(Plan { dir, base: args.base_port, nodes, gateway, gateway_port: args.gateway_port })
    }

    /// Says now what a node would only say in its log.
    fn check_ports(&self) -> Result {
        let nodes = (0..self.nodes.len() as u16)
            .flat_map(|node| (0..3).map(move |port| self.base + node * PORTS_PER_NODE + port));
        for port in nodes.chain(self.gateway.as_ref().map(|_| self.gateway_port)) {
            if let Err(error) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
                return Err(Failure::usage(format!(
                    "port {port} cannot be used: {error}; if another `dev` runs, stop it, or choose --base-port or --gateway-port"
                )));
            }
        }
        Ok(())
    }

    async fn start(&self, running: &mut JoinSet<bool>, stop: &Stop) -> Result {
        let mut launch = |program: &Program| -> Result {
            let child = program.start()?;
            running.spawn(program.clone().keep(child, stop.clone()));
            Ok(())
        };
        eprintln!("starting {} nodes", self.nodes.len());
        let begun = Instant::now();
        // The first one founds the ring that the others join. In later runs it needs their help to be ready.
        let (first, others) = self.nodes.split_at(1);
        first.iter().try_for_each(&mut launch)?;
        self.wait_for(0, "/livez", begun).await?;
        others.iter().try_for_each(&mut launch)?;
        for number in 0..self.nodes.len() as u16 {
            self.wait_for(number, "/readyz", begun).await?;
        }
        self.gateway.iter().try_for_each(&mut launch)?;
        let endpoint = format!("127.0.0.1:{}", self.base + 1);
        let settings = ClientSettings { deadline: Duration::from_secs(30), ..ClientSettings::default() };
        let client = Client::connect(Endpoints::new([endpoint]), settings).await?;
        eprintln!("{} members after {:.1} s", client.members().len(), begun.elapsed().as_secs_f64());
        Ok(())
    }

    /// Polls a node's probe until it is good.
    async fn wait_for(&self, number: u16, path: &str, begun: Instant) -> Result {
        let port = self.base + number * PORTS_PER_NODE + 2;
        let mut last = String::new();
        while begun.elapsed() < READY_TIMEOUT {
            match probe(port, path).await {
                Ok(answer) if answer.contains(" 200 ") => return Ok(()),
                Ok(answer) => last = answer,
                Err(error) => last = error.to_string(),
            }
            tokio::time::sleep(POLL).await;
        }
        let log = self.nodes[usize::from(number)].log.display();
        Err(Failure::unavailable(format!(
            "node-{number} is not ready after {} s ({last}); see {log}",
            READY_TIMEOUT.as_secs()
        )))
    }

    fn greet(&self, name: &str) {
        let endpoint = format!("--endpoint 127.0.0.1:{}", self.base + 1);
        println!();
        if self.gateway.is_some() {
            println!("dashboard: http://127.0.0.1:{}/", self.gateway_port);
        }
        println!("data and logs: {}", self.dir.display());
        println!("try:");
        for command in
            ["put colour green", "get colour", "lookup colour", "status", "load --keys 10000 --journal load.journal"]
        {
            println!("  {name} {endpoint} {command}");
        }
        println!("Ctrl-C stops all; the same command finds the keys again");
    }
}

fn bin_dir(args: &cli::Dev) -> Result<PathBuf> {
    if let Some(dir) = &args.bin_dir {
        return Ok(dir.clone());
    }
    let own = std::env::current_exe().map_err(local("cannot find my own file"))?;
    Ok(own.parent().unwrap_or(Path::new(".")).to_owned())
}

fn program(bin: &Path, name: &str) -> Result<PathBuf> {
    let path = bin.join(name);
    if path.is_file() {
        return Ok(path);
    }
    let hint = if name == "chord-gateway" { ", or do without it by --no-gateway" } else { "" };
    Err(Failure::usage(format!(
        "{} does not exist; build it, or name its directory by --bin-dir{hint}",
        path.display()
    )))
}

fn node_program(path: &Path, dir: &Path, args: &cli::Dev, number: u16) -> Program {
    let address = |node: u16, port: u16| format!("127.0.0.1:{}", args.base_port + node * PORTS_PER_NODE + port);
    let name = format!("node-{number}");
    let data = dir.join(&name);
    let exists = |node: u16| dir.join(format!("node-{node}")).exists();
    let others: Vec<String> = (0..args.nodes).filter(|node| *node != number).map(|node| address(node, 0)).collect();
    // Never found a second ring beside the one whose data is there.
    let founds = number == 0 && (exists(0) || !(1..args.nodes).any(exists));
    let mut flags = vec![
        ("--name", name.clone()),
        ("--ring-name", "dev".into()),
        ("--namespace", "default".into()),
        ("--data-dir", data.display().to_string()),
        ("--internal-addr", address(number, 0)),
        ("--client-addr", address(number, 1)),
        ("--http-addr", address(number, 2)),
        ("--advertise-internal", address(number, 0)),
        ("--advertise-client", address(number, 1)),
        ("--on-sigterm", "restart".into()),
        ("--log-format", "text".into()),
    ];
    if !founds {
        flags.push(("--join", others.join(",")));
    }
    let mut all: Vec<String> = flags.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]).collect();
    all.extend(founds.then(|| "--bootstrap".to_owned()));
    Program { path: path.to_owned(), args: all, log: dir.join(format!("{name}.log")), name }
}

fn gateway_program(path: PathBuf, dir: &Path, args: &cli::Dev) -> Program {
    let endpoints: Vec<String> =
        (0..args.nodes).map(|node| format!("127.0.0.1:{}", args.base_port + node * PORTS_PER_NODE + 1)).collect();
    let flags = [
        ("--ring-name", "dev".to_owned()),
        ("--namespace", "default".into()),
        ("--endpoints", endpoints.join(",")),
        ("--listen", format!("127.0.0.1:{}", args.gateway_port)),
        ("--http-addr", format!("127.0.0.1:{}", args.base_port + 9)),
        ("--log-format", "text".into()),
    ];
    let args = flags.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]).collect();
    Program { name: "gateway".into(), path, args, log: dir.join("gateway.log") }
}

/// Status line of an HTTP probe.
async fn probe(port: u16, path: &str) -> io::Result<String> {
    let ask = async {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
        stream
            .write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes())
            .await?;
        let mut answer = [0; 128];
        let length = stream.read(&mut answer).await?;
        let answer = String::from_utf8_lossy(&answer[..length]).into_owned();
        Ok(answer.lines().next().unwrap_or_default().to_owned())
    };
    tokio::time::timeout(Duration::from_secs(2), ask).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    fn args(dir: &Path, line: &str) -> cli::Dev {
        let command = format!("chordctl dev --data-dir {} {line}", dir.display());
        match cli::Cli::parse_from(command.split_whitespace()).command {
            cli::Command::Dev(dev) => dev,
            other => panic!("{other:?}"),
        }
    }

    fn founds(dir: &Path, number: u16) -> bool {
        let program = node_program(Path::new("chord-node"), dir, &args(dir, "--nodes 3"), number);
        let joins = program.args.iter().any(|arg| arg == "--join");
        let founds = program.args.iter().any(|arg| arg == "--bootstrap");
        assert_ne!(joins, founds, "a node does one of both");
        founds
    }

    #[test]
    fn only_the_first_node_of_an_empty_directory_or_of_the_same_ring_founds() {
        let dir = tempfile::tempdir().unwrap();
        assert!(founds(dir.path(), 0) && !founds(dir.path(), 1));
        std::fs::create_dir(dir.path().join("node-1")).unwrap();
        assert!(!founds(dir.path(), 0), "its disk is gone, but the ring lives on in the others");
        std::fs::create_dir(dir.path().join("node-0")).unwrap();
        assert!(founds(dir.path(), 0));
    }

    #[test]
    fn fewer_nodes_than_have_data_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("node-4")).unwrap();
        let refused = Plan::new(&args(dir.path(), "--nodes 3")).err().expect("four members would be missing");
        assert!(refused.message.contains("--nodes 5"), "{}", refused.message);
    }
}
