//! Starts nodes, waits for what should become true, and stops what it started.
use anyhow::{Context as _, bail};
use bytes::Bytes;
use chord_client::net::{Link, Tls, link, tcp};
use chord_proto::v1::{self, admin_client::AdminClient, kv_client::KvClient, ring_view_client::RingViewClient};
use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tonic::{Code, Status, transport::Channel};

/// Longest wait for anything: generous, because eight of these tests may share two cores.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Pause between two looks.
pub const LOOK: Duration = Duration::from_millis(50);

/// The binary under test.
pub const BINARY: &str = env!("CARGO_BIN_EXE_chord-node");

/// Looks until `check` gives something.
pub async fn eventually<T>(what: &str, mut check: impl AsyncFnMut() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let begun = Instant::now();
    loop {
        match check().await {
            Ok(value) => return Ok(value),
            Err(error) if begun.elapsed() > PATIENCE => return Err(error.context(format!("waited in vain: {what}"))),
            Err(_) => tokio::time::sleep(LOOK).await,
        }
    }
}

/// A port that nobody uses now, and that stays free while its node is down: below those that the system gives to
/// connections, and each handed out once.
pub fn free_port() -> anyhow::Result<u16> {
    const PORTS: std::ops::Range<u32> = 12_000..17_000;
    static HANDED_OUT: AtomicU32 = AtomicU32::new(0);
    for _ in PORTS {
        // Another process of these tests begins elsewhere.
        let number = HANDED_OUT.fetch_add(1, Ordering::Relaxed).wrapping_add(std::process::id().wrapping_mul(331));
        let port = u16::try_from(PORTS.start + number % (PORTS.end - PORTS.start))?;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no port in {PORTS:?} is free")
}

/// A node process with its directory and ports, which stay the same over restarts.
pub struct Node {
    pub name: String,
    pub dir: PathBuf,
    pub internal: String,
    pub client: String,
    pub http: String,
    flags: Vec<String>,
    environment: Vec<(&'static str, PathBuf)>,
    tls: Option<Tls>,
    /// Mebibytes of the volume that its directory is on, when it has one of its own.
    volume_mib: Option<u32>,
    child: Option<Child>,
}

impl Node {
    /// A node that is not started yet. `flags` beside those that every test node has.
    pub fn new(root: &Path, name: &str, flags: &[&str]) -> anyhow::Result<Node> {
        let addr = || Ok::<_, anyhow::Error>(format!("127.0.0.1:{}", free_port()?));
        Ok(Node {
            name: name.to_owned(),
            dir: root.join(name),
            internal: addr()?,
            client: addr()?,
            http: addr()?,
            flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
            environment: Vec::new(),
            tls: None,
            volume_mib: None,
            child: None,
        })
    }

    /// Gives it other ports.
    pub fn moves(&mut self) -> anyhow::Result<()> {
        for addr in [&mut self.internal, &mut self.client, &mut self.http] {
            *addr = format!("127.0.0.1:{}", free_port()?);
        }
        Ok(())
    }

    /// With certificates from a directory; `tls` is what the test itself calls it with.
    #[must_use]
    pub fn with_tls(mut self, dir: &Path, tls: Tls) -> Node {
        self.flags.push(format!("--tls-dir={}", dir.display()));
        self.tls = Some(tls);
        self
    }

    /// With one more flag from its next start on.
    pub fn flag(&mut self, flag: String) {
        self.flags.push(flag);
    }

    /// With environment variables from its next start on.
    pub fn environment(&mut self, environment: impl IntoIterator<Item = (&'static str, PathBuf)>) {
        self.environment.extend(environment);
    }

    /// On a volume in memory of its own, that only the process sees and that is gone with it.
    pub fn with_volume(mut self, mib: u32) -> anyhow::Result<Node> {
        std::fs::create_dir_all(&self.dir)?;
        self.volume_mib = Some(mib);
        Ok(self)
    }

    pub fn command(&self) -> Command {
        let mut command = match self.volume_mib {
            None => Command::new(BINARY),
            Some(mib) => {
                let script = "mount -t tmpfs -o size=$0m tmpfs \"$1\" && shift && exec \"$@\"";
                let mut command = Command::new("unshare");
                command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script, &mib.to_string()]);
                command.arg(&self.dir).arg(BINARY);
                command
            }
        };
        command
            .env_clear()
            .arg(format!("--name={}", self.name))
            .arg(format!("--data-dir={}", self.dir.display()))
            .arg(format!("--internal-addr={}", self.internal))
            .arg(format!("--client-addr={}", self.client))
            .arg(format!("--http-addr={}", self.http))
            .args(["--ring-name=demo", "--shards=64", "--stabilize-interval=200ms", "--fix-fingers-interval=500ms"])
            .args(["--drain-timeout=40s", "--log-format=text", "--log-level=info"])
            // A test's own flag is above it.
            .env("CHORD_SUSPECT_AFTER", "1s")
            .args(&self.flags)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdout(Stdio::null());
        if self.volume_mib.is_some() {
            command.env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin");
        }
        command
    }

    pub fn start(&mut self) -> anyhow::Result<()> {
        let log = std::fs::File::options().create(true).append(true).open(self.dir.with_extension("log"))?;
        self.child = Some(self.command().stderr(log).spawn().context("cannot start the node")?);
        Ok(())
    }

    /// What the process said.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.with_extension("log")).unwrap_or_default()
    }

    pub fn pid(&self) -> anyhow::Result<u32> {
        Ok(self.child.as_ref().context("the node is not running")?.id())
    }

    pub fn kill(&mut self) -> anyhow::Result<()> {
        let mut child = self.child.take().context("the node is not running")?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    pub fn terminate(&self) -> anyhow::Result<()> {
        self.signal("TERM")
    }

    pub fn signal(&self, name: &str) -> anyhow::Result<()> {
        let done = Command::new("kill").args([&format!("-{name}"), &self.pid()?.to_string()]).status()?;
        if done.success() { Ok(()) } else { bail!("cannot signal {}", self.name) }
    }

    /// Open sockets of the process.
    pub fn sockets(&self) -> anyhow::Result<usize> {
        let files = std::fs::read_dir(format!("/proc/{}/fd", self.pid()?))?;
        let links = files.filter_map(|file| std::fs::read_link(file.ok()?.path()).ok());
        Ok(links.filter(|target| target.to_string_lossy().starts_with("socket:")).count())
    }

    /// Time that the process has computed.
    pub fn cpu(&self) -> anyhow::Result<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid()?))?;
        // The name, in brackets, may hold anything; after it comes field 3. User and system time are 14 and 15.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |index: usize| -> anyhow::Result<u64> { Ok(fields.get(index).context("a field")?.parse()?) };
        // Linux shows 100 ticks a second to programs on every common architecture.
        Ok(Duration::from_millis((ticks(11)? + ticks(12)?) * 10))
    }

    /// Waits until the process has ended by itself.
    pub async fn ended(&mut self) -> anyhow::Result<ExitStatus> {
        let name = self.name.clone();
        let child = self.child.as_mut().context("the node is not running")?;
        let status = eventually(&format!("{name} ends"), async || child.try_wait()?.context("still running")).await?;
        self.child = None;
        Ok(status)
    }

    /// Whether the process has ended by itself.
    pub fn has_ended(&mut self) -> anyhow::Result<bool> {
        Ok(self.child.as_mut().context("the node is not running")?.try_wait()?.is_some())
    }

    pub fn link(&self, addr: &str) -> anyhow::Result<Link> {
        link(addr, self.tls.clone(), tcp()).map_err(anyhow::Error::msg)
    }
    pub fn kv(&self) -> anyhow::Result<KvClient<Channel>> {
        let max = chord_proto::MESSAGE_BYTES_MAX;
        Ok(KvClient::new(self.link(&self.client)?.channel).max_decoding_message_size(max))
    }
    pub fn view(&self) -> anyhow::Result<RingViewClient<Channel>> {
        Ok(RingViewClient::new(self.link(&self.client)?.channel))
    }
    pub fn admin(&self) -> anyhow::Result<AdminClient<Channel>> {
        Ok(AdminClient::new(self.link(&self.internal)?.channel))
    }
    pub async fn status(&self) -> anyhow::Result<v1::StatusResponse> {
        Ok(self.admin()?.status(v1::StatusRequest {}).await?.into_inner())
    }

    /// Status line and body of an HTTP endpoint.
    pub async fn http(&self, path: &str) -> anyhow::Result<(u16, String)> {
        let mut stream = TcpStream::connect(&self.http).await?;
        stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: test\r\n\r\n").as_bytes()).await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        let (head, body) = text.split_once("\r\n\r\n").context("no HTTP answer")?;
        let code = head.split(' ').nth(1).context("no status")?.parse()?;
        Ok((code, body.to_owned()))
    }

    pub async fn ready(&self) -> anyhow::Result<()> {
        eventually(&format!("{} is ready; it said:\n{}", self.name, self.log()), async || {
            match self.http("/readyz").await? {
                (200, _) => Ok(()),
                (code, why) => bail!("{code} {why}"),
            }
        })
        .await
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() || std::env::var_os("CHORD_TEST_LOGS").is_some() {
            eprintln!("--- {} ---\n{}", self.name, self.log());
        }
    }
}

/// A ring of `count` nodes whose shards are all where they belong.
pub async fn ring(root: &Path, count: usize, flags: &[&str]) -> anyhow::Result<Vec<Node>> {
    let mut first = Node::new(root, "n-0", &[flags, &["--bootstrap"]].concat())?;
    first.start()?;
    let join = format!("--join={}", first.internal);
    let mut nodes = vec![first];
    for ordinal in 1..count {
        let mut node = Node::new(root, &format!("n-{ordinal}"), &[flags, &[join.as_str()]].concat())?;
        node.start()?;
        nodes.push(node);
    }
    for node in &nodes {
        node.ready().await?;
    }
    settled(nodes.iter().collect::<Vec<_>>().as_slice(), count).await?;
    Ok(nodes)
}

/// Waits until all `nodes` agree that there are `count` members and every shard is whole and in its place.
pub async fn settled(nodes: &[&Node], count: usize) -> anyhow::Result<()> {
    eventually("the ring settles", async || {
        for node in nodes {
            let status = node.status().await?;
            let current = status.members.iter().filter(|member| member.state() == v1::MemberState::Serving).count();
            let open = [status.shards_under_replicated, status.shards_pending, status.shards_unavailable];
            if current != count || open != [0; 3] {
                bail!("{}: {current} members serve, under-replicated/pending/unavailable {open:?}", node.name);
            }
        }
        Ok(())
    })
    .await
}

static OPERATIONS: AtomicU64 = AtomicU64::new(1);

/// A fresh operation id, as a client that does only this.
pub fn op_id() -> v1::OpId {
    let client = u128::from(OPERATIONS.fetch_add(1, Ordering::Relaxed));
    v1::OpId { client: Bytes::copy_from_slice(&client.to_be_bytes()), number: 1, retry: false, age_ms: 0 }
}

/// Whether the same operation may be sent again.
pub fn may_retry(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable | Code::Aborted | Code::DeadlineExceeded | Code::Cancelled | Code::ResourceExhausted
    )
}

/// Puts a key through a node, with retries of the same operation.
pub async fn put(node: &Node, key: &str, value: &str) -> anyhow::Result<v1::Version> {
    let mut op = op_id();
    let mut kv = node.kv()?;
    let begun = Instant::now();
    loop {
        let put = v1::PutRequest {
            key: Bytes::copy_from_slice(key.as_bytes()),
            value: Bytes::copy_from_slice(value.as_bytes()),
            ttl_ms: None,
            op_id: Some(op.clone()),
        };
        match kv.put(put).await {
            Ok(answer) => return answer.into_inner().version.context("a put has a version"),
            Err(status) if may_retry(&status) && begun.elapsed() < PATIENCE => {
                op.retry = true;
                op.age_ms = begun.elapsed().as_millis() as u32;
                tokio::time::sleep(LOOK).await;
            }
            Err(status) => return Err(anyhow::Error::new(status).context(format!("put {key} through {}", node.name))),
        }
    }
}

/// Reads a key through a node.
pub async fn get(node: &Node, key: &str) -> anyhow::Result<Option<String>> {
    let mut kv = node.kv()?;
    eventually(&format!("{key} can be read through {}", node.name), async || {
        let key = Bytes::copy_from_slice(key.as_bytes());
        let found = kv.get(v1::GetRequest { key, stale_ok: false }).await?.into_inner();
        Ok(found.value.map(|value| String::from_utf8_lossy(&value).into_owned()))
    })
    .await
}

/// Checks that `count` keys written by [`put_all`] are there.
pub async fn expect_all(node: &Node, prefix: &str, count: usize) -> anyhow::Result<()> {
    for number in 0..count {
        let key = format!("{prefix}-{number}");
        let found = get(node, &key).await?;
        if found.as_deref() != Some(key.as_str()) {
            bail!("{key} through {}: {found:?}", node.name);
        }
    }
    Ok(())
}

/// Writes `count` keys, each with itself as its value, through all nodes in turn.
pub async fn put_all(nodes: &[&Node], prefix: &str, count: usize) -> anyhow::Result<()> {
    for number in 0..count {
        let key = format!("{prefix}-{number}");
        put(nodes[number % nodes.len()], &key, &key).await?;
    }
    Ok(())
}
