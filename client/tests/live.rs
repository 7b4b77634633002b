//! `chordctl` with real node processes: `dev`, a load while a node is killed, and a second run that finds everything.
use std::{
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

const CHORDCTL: &str = env!("CARGO_BIN_EXE_chordctl");

/// Where `chord-node` is: `CHORD_TEST_BIN_DIR`, or else built beside chordctl, as `cargo build` would.
async fn bin_dir() -> PathBuf {
    if let Some(dir) = std::env::var_os("CHORD_TEST_BIN_DIR") {
        return dir.into();
    }
    let status = Command::new(env!("CARGO"))
        .args(["build", "--locked", "--package", "chord-node", "--bin", "chord-node"])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .status();
    let built = tokio::time::timeout(Duration::from_secs(1200), status).await.expect("it builds in time").unwrap();
    assert!(built.success(), "chord-node does not build");
    Path::new(CHORDCTL).parent().unwrap().to_owned()
}

struct Dev {
    child: Child,
    base: u16,
}

impl Dev {
    async fn start(bin: &Path, data: &Path, base: u16) -> Dev {
        let mut child = Command::new(CHORDCTL)
            .args(["dev", "--nodes", "3", "--no-gateway", "--base-port", &base.to_string(), "--data-dir"])
            .arg(data)
            .arg("--bin-dir")
            .arg(bin)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready = async {
            while let Some(line) = lines.next_line().await.unwrap() {
                if line.contains("Ctrl-C") {
                    return;
                }
            }
            panic!("dev ended before the ring was up");
        };
        tokio::time::timeout(Duration::from_secs(120), ready).await.expect("the ring comes up");
        Dev { child, base }
    }

    async fn run(&self, args: &[&str]) -> Output {
        let endpoints = format!("127.0.0.1:{},127.0.0.1:{}", self.base + 1, self.base + 11);
        let run = Command::new(CHORDCTL).args(args).args(["--endpoint", &endpoints]).kill_on_drop(true).output();
        tokio::time::timeout(Duration::from_secs(120), run).await.expect("it ends").unwrap()
    }

    /// Ctrl-C.
    async fn stop(mut self) {
        signal(self.child.id().unwrap(), rustix::process::Signal::INT);
        let ended = tokio::time::timeout(Duration::from_secs(60), self.child.wait()).await;
        assert!(ended.expect("all nodes stop").unwrap().success());
    }
}

fn signal(pid: u32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(pid.cast_signed()).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

/// The process that was started with this data directory.
fn node_pid(data: &Path) -> u32 {
    let wanted = data.to_str().unwrap();
    let is_it = |pid: &u32| {
        let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split('\0').next().is_some_and(|program| program.ends_with("chord-node"))
            && line.split('\0').any(|arg| arg == wanted)
    };
    let entries =
        std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    entries.into_iter().find(is_it).expect("the node runs")
}

fn last_line(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).lines().last().unwrap_or_default().to_owned()
}

/// Goal: nothing acknowledged is lost when a node dies without warning and all stop and start again, and a load
/// notices neither. Method: `dev`, a load, SIGKILL to one node in the middle, `verify`, Ctrl-C, `dev` again, `verify`.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_when_a_node_is_killed_and_the_ring_restarted() {
    let bin = bin_dir().await;
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("ring");
    let journal = dir.path().join("journal").to_str().unwrap().to_owned();
    // Below the ports that the system gives to connections, so that they are free again for the second run.
    let base = 20_000 + (std::process::id() % 400) as u16 * 30;
    let dev = Dev::start(&bin, &data, base).await;

    let load =
        ["load", "--keys", "100", "--concurrency", "8", "--duration", "12s", "--journal", &journal, "-o", "json"];
    let killing = async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        signal(node_pid(&data.join("node-1")), rustix::process::Signal::KILL);
    };
    let (loaded, ()) = tokio::join!(dev.run(&load), killing);
    let summary: serde_json::Value = serde_json::from_slice(&loaded.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&loaded.stderr)));
    let count = |name: &str| summary[name].as_u64().unwrap();
    assert_eq!((count("errors"), count("unknown"), count("wrong")), (0, 0, 0), "retries hide it: {summary}");
    assert!(count("writes") >= 100 && count("longest_gap_ms") < 5000, "{summary}");
    let verify = ["verify", "--journal", &journal];
    let verified = dev.run(&verify).await;
    assert_eq!(last_line(&verified), "acknowledged 100, lost 0, wrong 0");
    let status = dev.run(&["status", "-o", "json"]).await;
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!((&status["answering"], &status["keys"]), (&3.into(), &100.into()), "{status}");
    let lookup = dev.run(&["lookup", "load-00000001", "--from", "node-2"]).await;
    assert!(String::from_utf8_lossy(&lookup.stdout).contains("owner on the ring: node-"), "{lookup:?}");
    dev.stop().await;

    let dev = Dev::start(&bin, &data, base).await;
    let verified = dev.run(&verify).await;
    assert_eq!(last_line(&verified), "acknowledged 100, lost 0, wrong 0");
    dev.stop().await;
}
