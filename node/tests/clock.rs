//! A node whose wall clock jumps: only times to live depend on it.
use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use chord::{
    Core,
    id::Id,
    io::{AdminAction, AdminRequest, Input, Operation, Outcome, Output, Retryable, Token},
    member::{Disk, MemberKey, NodeRef},
    settings::Settings,
    shard::record::{OpId, Version},
    store::Seq,
    time::{Nanos, Now},
};
use chord_node::store::FjallStore;
use rand::SeedableRng as _;
use rand_chacha::ChaCha12Rng;
use std::{
    sync::mpsc::{Receiver, channel},
    time::Duration,
};

const HOUR_MS: u64 = 3_600_000;

/// A ring of one node, whose clocks go as the test says.
struct Node {
    core: Core<FjallStore>,
    persisted: Receiver<Seq>,
    rng: ChaCha12Rng,
    now: Now,
    tokens: u64,
    _dir: tempfile::TempDir,
}

impl Node {
    fn found() -> anyhow::Result<Node> {
        let dir = tempfile::tempdir()?;
        let (sender, persisted) = channel();
        let store = FjallStore::open(dir.path(), move |seq| {
            let _ = sender.send(seq);
        })?;
        let me = NodeRef {
            key: MemberKey { id: Id::of_ordinal(0), disk: Disk(1) },
            incarnation: 0,
            name: "n-0".into(),
            internal_addr: "n-0:1".into(),
            client_addr: "n-0:2".into(),
            zone: String::new(),
        };
        let settings = Settings { replication_factor: 1, shards: 4, ..Settings::default() };
        let now = Now { mono: Nanos::from_millis(1000), wall_ms: 400_000 * HOUR_MS };
        let mut rng = ChaCha12Rng::seed_from_u64(7);
        let core = Core::start(now, &mut rng, store, me, settings).map_err(anyhow::Error::msg)?;
        let mut node = Node { core, persisted, rng, now, tokens: 0, _dir: dir };
        let action = AdminAction::Bootstrap { ring_id: 7 };
        node.step(Input::Admin { token: Token(0), request: AdminRequest { operator_epoch: None, disk: None, action } });
        Ok(node)
    }

    fn step(&mut self, input: Input) -> Vec<Output> {
        let mut out = Vec::new();
        self.core.step(self.now, &mut self.rng, input, &mut out);
        out
    }

    fn wall_jumps(&mut self, by_ms: i64) {
        self.now.wall_ms = self.now.wall_ms.saturating_add_signed(by_ms);
        self.step(Input::Tick);
    }

    /// Runs an operation to its end, while time goes on by a millisecond per step.
    fn run(&mut self, operation: Operation) -> anyhow::Result<Outcome> {
        self.tokens += 1;
        let token = Token(self.tokens);
        let deadline = self.now.mono + Nanos::from_millis(60_000);
        let mut out = self.step(Input::Client { token, operation, deadline });
        for _ in 0..10_000 {
            for output in out {
                match output {
                    Output::Client { token: answered, outcome } if answered == token => return Ok(outcome),
                    _ => {}
                }
            }
            self.now.mono = self.now.mono + Nanos::from_millis(1);
            out = match self.persisted.recv_timeout(Duration::from_millis(1)) {
                Ok(seq) => self.step(Input::Persisted(seq)),
                Err(_) => self.step(Input::Tick),
            };
        }
        bail!("no answer")
    }

    fn put(&mut self, key: &'static str, ttl_ms: Option<u64>) -> anyhow::Result<Version> {
        let op = Retryable { id: OpId { client: 1, number: self.tokens }, retry: false, age: Nanos(0) };
        let value = Bytes::from_static(b"value");
        match self.run(Operation::Put { key: Bytes::from_static(key.as_bytes()), value, ttl_ms, op })? {
            Outcome::Written(version) => Ok(version),
            other => bail!("{other:?}"),
        }
    }

    fn remaining(&mut self, key: &'static str) -> anyhow::Result<Option<Option<u64>>> {
        match self.run(Operation::Get { key: Bytes::from_static(key.as_bytes()), stale_ok: false })? {
            Outcome::Value(found) => Ok(found.map(|(_, _, ttl_ms)| ttl_ms)),
            other => bail!("{other:?}"),
        }
    }
}

/// Goal: whatever the wall clock does, nothing is lost but what has a time to live, and versions rise. Method: jumps of
/// hours and years in both directions, before the epoch and to the end of time.
#[test]
fn jumps_of_the_wall_clock_end_times_to_live_and_nothing_else() -> anyhow::Result<()> {
    let mut node = Node::found()?;
    let mut newest = node.put("stays", None)?;
    node.put("short", Some(60_000))?;
    node.wall_jumps(-(HOUR_MS as i64));
    let left = node.remaining("short")?.flatten().context("it lives on")?;
    ensure!(left > HOUR_MS, "a clock that went back gives it more time, not {left} ms");
    ensure!(node.remaining("stays")? == Some(None));
    node.wall_jumps(2 * HOUR_MS as i64);
    ensure!(node.remaining("short")?.is_none(), "its time is over");
    // Once over, it is over: nobody sees it come back.
    node.wall_jumps(-3 * HOUR_MS as i64);
    ensure!(node.remaining("short")?.is_none(), "it has come back");
    for jump in [i64::MIN, i64::MAX, i64::MAX, -(HOUR_MS as i64), i64::MIN, i64::MIN, HOUR_MS as i64] {
        node.wall_jumps(jump);
        ensure!(node.remaining("stays")? == Some(None), "lost by a jump of {jump} ms");
        let version = node.put("stays", None)?;
        ensure!(version > newest, "{version:?} is not above {newest:?}");
        newest = version;
    }
    Ok(())
}
