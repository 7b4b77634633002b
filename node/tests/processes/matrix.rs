//! Every kind of operation under faults of processes, networks, clocks and volumes, with all answers checked for
//! linearizability: what pods that share one machine cannot show, and some of what they can.
//!
//! Two processes of `chordctl` per row: one writes and verifies a journal of acknowledged writes, the other records a
//! history of puts, gets, deletes, compare-and-sets, scans and times to live on ten contended keys.
use crate::{
    faults::{Full, Network, WallClock, Weather},
    support::{BINARY, Node, eventually, put_all, settled},
};
use anyhow::{Context as _, ensure};
use chord_proto::v1;
use sim::{
    live::{self, Load, Row},
    recorded::SKEW,
};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use tokio::{process::Command, runtime::Runtime, time::sleep};

/// How far the wall clock of one member jumps, either way.
const JUMP: Duration = Duration::from_secs(3600);
/// Volume of the member whose volume fills up, and what is left of it: half of what a node keeps free.
const VOLUME_MIB: (u32, u64) = (640, 96);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    Kill,
    KillAll,
    Freeze,
    Deaf,
    Apart,
    Slow,
    Lossy,
    Resets,
    Clock,
    Full,
    Wiped,
    Scale,
}

const fn row(name: &'static str, what: &'static str, seconds: u32, fault: Fault) -> Row<Fault> {
    Row { name, what, seconds, fault }
}

/// In `make test`.
const SHORT: &str = "deaf,clock,full";

const ROWS: [Row<Fault>; 12] = [
    row("kill", "`kill -9` of a process, started again after 2 s", 20, Fault::Kill),
    row("restart-all", "`kill -9` of all processes at once", 25, Fault::KillAll),
    row("freeze", "process frozen for 8 s (SIGSTOP)", 25, Fault::Freeze),
    row("deaf", "member gets no question but asks, until all shards take writes again and 5 s more", 30, Fault::Deaf),
    row("apart", "every member cut off from every other for 8 s", 30, Fault::Apart),
    row("slow", "20 to 80 ms on every way between members for 10 s", 20, Fault::Slow),
    row("lossy", "one piece in ten 0.2 to 1.6 s late, as after lost packets, for 12 s", 25, Fault::Lossy),
    row("resets", "every connection between members reset within 0.3 s, for 10 s", 25, Fault::Resets),
    row("clock", "wall clock of a member an hour ahead for 5 s, then an hour behind", 20, Fault::Clock),
    row("full", "volume of a member full for 10 s", 25, Fault::Full),
    row("wiped", "disk of a member wiped, the old member evicted", 30, Fault::Wiped),
    row("scale", "3 to 7 members, then four leave at once", 50, Fault::Scale),
];

#[test]
fn every_answer_is_right_whatever_happens_to_processes() -> anyhow::Result<()> {
    live::table(&ROWS, SHORT, |row| Runtime::new()?.block_on(run(row)))
}

/// The cells of a row; an error if anything acknowledged was lost, or an answer was wrong.
async fn run(row: &Row<Fault>) -> anyhow::Result<String> {
    let root = tempfile::tempdir()?;
    let mut ring = Ring::start(root.path(), row.fault).await?;
    let (journal, seconds) = (root.path().join("journal"), format!("{}s", row.seconds));
    let load = ["load", "--keys", "2000", "--value-size", "256", "--concurrency", "16", "--rate", "300"];
    let tail = ["--read-ratio", "0.3", "--duration", &seconds, "--output", "json", "--journal"];
    // Read from the first line on: a full pipe would stop the load.
    let load = tokio::spawn(printed(ring.chordctl(&[&load[..], &tail].concat()).arg(&journal).spawn()?));
    let history = tokio::spawn(printed(ring.chordctl(&["history", "--duration", &seconds]).spawn()?));
    sleep(Duration::from_secs(4)).await; // not a wait for anything: a stretch of undisturbed load
    ring.suffers(row.fault).await?;
    settled(&ring.nodes.iter().collect::<Vec<_>>(), 3).await.context("after the fault")?;
    let (report, history) = (load.await??, history.await??);
    let verified = printed(ring.chordctl(&["verify", "--journal"]).arg(&journal).spawn()?).await?;
    let load = Load::parse(&report, &verified)?;
    // Every time to live may end early or late by as much as the clocks differ; nothing else may.
    let skew = if row.fault == Fault::Clock { JUMP } else { SKEW };
    live::cells(&history, skew, &load)
}

/// What a process printed, which must end well within its time.
async fn printed(child: tokio::process::Child) -> anyhow::Result<String> {
    let output = tokio::time::timeout(Duration::from_secs(240), child.wait_with_output()).await??;
    let said = String::from_utf8_lossy(&output.stderr);
    let end: Vec<&str> = said.lines().rev().take(8).collect();
    ensure!(output.status.success(), "chordctl: {}: {end:#?}", output.status);
    Ok(String::from_utf8(output.stdout)?)
}

/// Three nodes that reach each other through networks that the test rules; the last one is the one to hurt.
struct Ring<'a> {
    root: &'a Path,
    nodes: Vec<Node>,
    networks: Vec<Network>,
    clock: Option<WallClock>,
}

impl Ring<'_> {
    async fn start(root: &Path, fault: Fault) -> anyhow::Result<Ring<'_>> {
        let mut ring = Ring { root, nodes: Vec::new(), networks: Vec::new(), clock: None };
        for ordinal in 0..3 {
            let mut node = ring.node(ordinal).await?;
            if ordinal == 2 && fault == Fault::Clock {
                ring.clock = Some(WallClock::of(&mut node, root)?);
            }
            if ordinal == 2 && fault == Fault::Full {
                node = node.with_volume(VOLUME_MIB.0)?;
            }
            node.start()?;
            ring.nodes.push(node);
        }
        for node in &ring.nodes {
            node.ready().await?;
        }
        settled(&ring.nodes.iter().collect::<Vec<_>>(), 3).await?;
        Ok(ring)
    }

    /// One more node, behind a network of its own.
    async fn node(&mut self, ordinal: usize) -> anyhow::Result<Node> {
        let join = self.networks.first().map(|first| format!("--join={}", first.addr));
        let mut node = Node::new(self.root, &format!("n-{ordinal}"), &[join.as_deref().unwrap_or("--bootstrap")])?;
        let network = Network::before(&node.internal).await?;
        node.flag(format!("--advertise-internal={}", network.addr));
        self.networks.push(network);
        Ok(node)
    }

    /// A client that knows the first three.
    fn chordctl(&self, args: &[&str]) -> Command {
        let program = PathBuf::from(BINARY).with_file_name("chordctl");
        let mut command = Command::new(program);
        let endpoints: Vec<&str> = self.nodes.iter().take(3).map(|node| &*node.client).collect();
        command.args(["--timeout", "50s", "--endpoint", &endpoints.join(",")]).args(args);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command
    }

    async fn weather(&self, networks: &[Network], weather: Weather, seconds: u64) {
        networks.iter().for_each(|network| network.set(weather));
        sleep(Duration::from_secs(seconds)).await;
        networks.iter().for_each(|network| network.set(Weather::Clear));
    }

    async fn suffers(&mut self, fault: Fault) -> anyhow::Result<()> {
        match fault {
            Fault::Kill => {
                self.nodes[2].kill()?;
                sleep(Duration::from_secs(2)).await;
                self.nodes[2].start()?;
            }
            Fault::KillAll => {
                self.nodes.iter_mut().try_for_each(Node::kill)?;
                self.nodes.iter_mut().try_for_each(Node::start)?;
            }
            Fault::Freeze => {
                self.nodes[2].signal("STOP")?;
                sleep(Duration::from_secs(8)).await;
                self.nodes[2].signal("CONT")?;
            }
            Fault::Deaf => {
                self.networks[2].set(Weather::Silent);
                // It still asks, and answers clients: the others must not take that for a leader that can lead.
                put_all(&[&self.nodes[0]], "meanwhile", 64).await?;
                self.weather(&self.networks[2..], Weather::Silent, 5).await;
            }
            Fault::Apart => self.weather(&self.networks, Weather::Silent, 8).await,
            Fault::Slow => self.weather(&self.networks, Weather::Slow, 10).await,
            Fault::Lossy => self.weather(&self.networks, Weather::Lossy, 12).await,
            Fault::Resets => self.weather(&self.networks, Weather::Resets, 10).await,
            Fault::Clock => {
                let (clock, hour) = (self.clock.as_ref().context("its clock")?, JUMP.as_secs().cast_signed());
                clock.jumps(hour, Duration::from_secs(5)).await?;
                clock.jumps(-hour, Duration::from_secs(5)).await?;
            }
            Fault::Full => {
                let full = Full::volume_of(&self.nodes[2], VOLUME_MIB.1)?;
                sleep(Duration::from_secs(10)).await;
                let said = self.nodes[2].log();
                ensure!(said.contains("writes that grow the data are refused"), "the volume was never full: {said}");
                drop(full);
            }
            Fault::Wiped => self.wipe().await?,
            Fault::Scale => self.scale().await?,
        }
        Ok(())
    }

    /// What the operator does when a volume is lost.
    async fn wipe(&mut self) -> anyhow::Result<()> {
        let lost = self.nodes[2].status().await?.node.context("it has an identity")?;
        self.nodes[2].kill()?;
        fs::remove_dir_all(&self.nodes[2].dir)?;
        let evict = v1::EvictRequest { operator_epoch: 1, id: lost.id, disk_uuid: lost.disk_uuid };
        self.nodes[0].admin()?.evict(evict).await?;
        self.nodes[2].start()?;
        self.nodes[2].ready().await
    }

    async fn scale(&mut self) -> anyhow::Result<()> {
        for ordinal in 3..7 {
            let mut node = self.node(ordinal).await?;
            node.start()?;
            self.nodes.push(node);
        }
        settled(&self.nodes.iter().collect::<Vec<_>>(), 7).await?;
        let mut leaving = self.nodes.split_off(3);
        leaving.iter().try_for_each(Node::terminate)?;
        for node in &mut leaving {
            let status = node.ended().await?;
            ensure!(status.success(), "{} left: {status}: {}", node.name, node.log());
        }
        eventually("three are left", async || settled(&self.nodes.iter().collect::<Vec<_>>(), 3).await).await
    }
}
