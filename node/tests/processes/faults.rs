//! Faults that a machine shared by all pods cannot show: of the network between two processes, of a wall clock, of a volume.
use crate::support::Node;
use anyhow::{Context as _, ensure};
use rand::RngExt as _;
use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    time::{Instant, sleep, sleep_until},
};

/// What the network before a node does with what comes to it and with its answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Weather {
    /// Carries everything at once.
    Clear,
    /// Every piece comes 20 to 80 ms late.
    Slow,
    /// One piece in ten comes 200 to 1600 ms late, as after one to three lost packets.
    Lossy,
    /// Carries nothing, and says nothing.
    Silent,
    /// Every connection is reset within 300 ms.
    Resets,
}

impl Weather {
    fn delay(self) -> Duration {
        let random = &mut rand::rng();
        Duration::from_millis(match self {
            Weather::Slow => random.random_range(20..=80),
            Weather::Lossy if random.random_range(0..10) == 0 => 200 << random.random_range(0..=3),
            _ => 0,
        })
    }
}

/// What the other members reach a node through.
pub struct Network {
    /// Its address.
    pub addr: String,
    weather: watch::Sender<Weather>,
}

impl Network {
    /// Before a node that listens, or will listen, on `node`.
    pub async fn before(node: &str) -> anyhow::Result<Network> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let addr = listener.local_addr()?.to_string();
        let (weather, watched) = watch::channel(Weather::Clear);
        let node = node.to_owned();
        // It ends with the runtime of its test.
        tokio::spawn(async move {
            while let Ok((from, _)) = listener.accept().await {
                tokio::spawn(connection(from, node.clone(), watched.clone()));
            }
        });
        Ok(Network { addr, weather })
    }

    pub fn set(&self, weather: Weather) {
        self.weather.send_replace(weather);
    }
}

async fn connection(from: TcpStream, node: String, mut weather: watch::Receiver<Weather>) {
    // Nobody listens: the caller's connection ends too, which is as near to a refusal as a program can come.
    let Ok(to) = TcpStream::connect(node).await else { return };
    let _ = (from.set_nodelay(true), to.set_nodelay(true));
    let ((from_read, from_write), (to_read, to_write)) = (from.into_split(), to.into_split());
    let watched = weather.clone();
    let reset = async {
        let _ = weather.wait_for(|weather| *weather == Weather::Resets).await;
        let age = Duration::from_millis(rand::rng().random_range(0..300));
        sleep(age).await;
    };
    tokio::select! {
        () = reset => {}
        () = carry(from_read, to_write, watched.clone()) => {}
        () = carry(to_read, from_write, watched) => {}
    }
}

/// Carries one direction, in order; each piece when its time has come.
async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut weather: watch::Receiver<Weather>,
) {
    let (sender, mut pieces) = mpsc::channel::<(Instant, Vec<u8>)>(256);
    let seen = weather.clone();
    let read = async move {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(count @ 1..) = from.read(&mut buffer).await {
            let due = Instant::now() + seen.borrow().delay();
            if sender.send((due, buffer[..count].to_vec())).await.is_err() {
                return;
            }
        }
    };
    let write = async {
        while let Some((due, piece)) = pieces.recv().await {
            sleep_until(due).await;
            let carries = weather.wait_for(|weather| *weather != Weather::Silent).await.is_ok();
            if !carries || to.write_all(&piece).await.is_err() {
                return;
            }
        }
        let _ = to.shutdown().await;
    };
    tokio::join!(read, write);
}

/// The wall clock of a process.
pub struct WallClock {
    file: File,
}

impl WallClock {
    /// Gives a node, from its next start on, a wall clock that can be moved. Needs a C compiler, as building this does.
    pub fn of(node: &mut Node, root: &Path) -> anyhow::Result<WallClock> {
        let (library, path) = (root.join("clock.so"), root.join(format!("{}.clock", node.name)));
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/processes/clock.c");
        let status = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(source).status();
        ensure!(status.context("there is no C compiler: install gcc")?.success(), "{source} does not compile");
        let file = File::options().create(true).truncate(true).read(true).write(true).open(&path)?;
        file.write_all_at(&[0; 16], 0)?;
        node.environment([("LD_PRELOAD", library), ("CHORD_TEST_CLOCK", path)]);
        Ok(WallClock { file })
    }

    /// Moves it for a while; an error if nobody looked at it meanwhile.
    pub async fn jumps(&self, seconds: i64, lasting: Duration) -> anyhow::Result<()> {
        let before = self.looks()?;
        self.file.write_all_at(&seconds.to_ne_bytes(), 0)?;
        sleep(lasting).await;
        self.file.write_all_at(&0i64.to_ne_bytes(), 0)?;
        ensure!(self.looks()? > before, "the process never looked at its wrong clock");
        Ok(())
    }

    fn looks(&self) -> anyhow::Result<i64> {
        let mut bytes = [0; 8];
        self.file.read_exact_at(&mut bytes, 8)?;
        Ok(i64::from_ne_bytes(bytes))
    }
}

/// Takes nearly all room of a node's volume until it is dropped.
pub struct Full(PathBuf);

impl Full {
    /// Leaves room for `left_mib` mebibytes.
    pub fn volume_of(node: &Node, left_mib: u64) -> anyhow::Result<Full> {
        // The volume is in the mount namespace of the process.
        let path = PathBuf::from(format!("/proc/{}/root{}", node.pid()?, node.dir.join("filler").display()));
        let mut file = File::create(&path).context("cannot reach the node's volume")?;
        let full = Full(path);
        let volume = rustix::fs::fstatvfs(&file)?;
        let free_mib = (volume.f_bavail * volume.f_frsize) >> 20;
        let block = vec![0; 1 << 20];
        for _ in left_mib..free_mib {
            file.write_all(&block)?;
        }
        Ok(full)
    }
}

impl Drop for Full {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
