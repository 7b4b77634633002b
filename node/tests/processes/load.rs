//! Writers and readers that go on while something happens to the ring, and notice whatever it loses.
use crate::support::Node;
use anyhow::{Context as _, bail, ensure};
use chord_client::{Client, ClientSettings, Endpoints, Put};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::task::JoinHandle;

const WRITERS: usize = 4;
/// Keys of one writer, written over and over.
const KEYS: usize = 40;

/// A client that knows these nodes and has patience: several nodes share a core here.
pub async fn client(nodes: &[&Node]) -> anyhow::Result<Client> {
    let settings = ClientSettings { deadline: Duration::from_secs(45), ..ClientSettings::default() };
    Ok(Client::connect(Endpoints::new(nodes.iter().map(|node| &*node.client)), settings).await?)
}

/// Keys with the value that was acknowledged last.
pub type Written = BTreeMap<String, String>;

/// Writers under way. Each owns its keys, reads one back after every write, and ends at the first operation that fails
/// or tells something else than what was acknowledged.
pub struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
    writers: Vec<JoinHandle<anyhow::Result<Written>>>,
}

impl Load {
    pub async fn start(nodes: &[&Node]) -> anyhow::Result<Load> {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let client = client(nodes).await?;
        let writer = |number| tokio::spawn(write(client.clone(), number, stop.clone(), done.clone()));
        Ok(Load { writers: (0..WRITERS).map(writer).collect(), stop: stop.clone(), done: done.clone() })
    }

    /// Waits until so many more operations have succeeded, or a writer has ended.
    pub async fn goes_on(&self, more: usize) -> anyhow::Result<()> {
        let wanted = self.done.load(Ordering::Relaxed) + more;
        crate::support::eventually("the load goes on", async || {
            let done = self.done.load(Ordering::Relaxed);
            let ended = self.writers.iter().any(JoinHandle::is_finished);
            if done >= wanted || ended { Ok(()) } else { bail!("{done} of {wanted} operations") }
        })
        .await
    }

    /// Ends the load; an error when any operation failed, or told something wrong.
    pub async fn end(self) -> anyhow::Result<Written> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Written::new();
        for writer in self.writers {
            all.extend(writer.await??);
        }
        Ok(all)
    }
}

async fn write(
    client: Client,
    writer: usize,
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
) -> anyhow::Result<Written> {
    let mut written = Written::new();
    for round in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let key = format!("load-{writer}-{}", round % KEYS);
        let value = format!("{key} in round {round}");
        client.put(Put::new(key.clone(), value.clone())).await.with_context(|| format!("put {key}"))?;
        written.insert(key, value);
        let earlier = format!("load-{writer}-{}", (round * 7) % KEYS);
        let found = client.get(earlier.clone()).await.with_context(|| format!("get {earlier}"))?;
        let found = found.map(|found| String::from_utf8_lossy(&found.value).into_owned());
        ensure!(found.as_ref() == written.get(&earlier), "{earlier} is {found:?}, not {:?}", written.get(&earlier));
        done.fetch_add(2, Ordering::Relaxed);
    }
    Ok(written)
}

/// Writes `count` keys.
pub async fn fill(nodes: &[&Node], prefix: &str, count: usize) -> anyhow::Result<Written> {
    let client = client(nodes).await?;
    let mut written = Written::new();
    for number in 0..count {
        let (key, value) = (format!("{prefix}-{number}"), format!("value {number}"));
        client.put(Put::new(key.clone(), value.clone())).await.with_context(|| format!("put {key}"))?;
        written.insert(key, value);
    }
    Ok(written)
}

/// Reads back everything, as a client that knows only one node at first.
pub async fn all_there(node: &Node, written: &Written) -> anyhow::Result<()> {
    ensure!(!written.is_empty());
    let client = client(&[node]).await?;
    for (key, value) in written {
        let found = client.get(key.clone()).await.with_context(|| format!("get {key}"))?;
        let found = found.map(|found| String::from_utf8_lossy(&found.value).into_owned());
        ensure!(found.as_ref() == Some(value), "{key} is {found:?}, not {value}");
    }
    Ok(())
}
