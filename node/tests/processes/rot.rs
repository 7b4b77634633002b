//! A disk that does not keep what was written.
use crate::support::{Node, eventually, ring, settled};
use anyhow::{Context as _, ensure};
use bytes::Bytes;
use chord_client::{Client, ClientSettings, Endpoints, Put};
use rand::{RngExt as _, SeedableRng as _};
use std::{fs, path::PathBuf};

const KEYS: usize = 120;

fn value(number: usize) -> Bytes {
    // Nothing that could be compressed.
    let mut random = rand_chacha::ChaCha12Rng::seed_from_u64(number as u64);
    Bytes::from((0..64 << 10).map(|_| random.random()).collect::<Vec<u8>>())
}

/// The largest table of records below a node's directory.
fn table(node: &Node) -> anyhow::Result<PathBuf> {
    let (mut largest, mut open) = ((0, PathBuf::new()), vec![node.dir.join("store")]);
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                open.push(entry.path());
            } else if entry.path().extension().is_none_or(|extension| extension != "jnl") {
                largest = largest.max((entry.metadata()?.len(), entry.path()));
            }
        }
    }
    ensure!(largest.0 > 1 << 20, "no records are in tables yet: {largest:?}");
    Ok(largest.1)
}

async fn expect_values(node: &Node) -> anyhow::Result<()> {
    let client = Client::connect(Endpoints::new([&*node.client]), ClientSettings::default()).await?;
    for number in 0..KEYS {
        let found = client.get(format!("key-{number}")).await?.with_context(|| format!("key-{number} is gone"))?;
        ensure!(found.value == value(number), "key-{number} is damaged");
    }
    Ok(())
}

async fn metric(node: &Node, name: &str) -> anyhow::Result<u64> {
    let (_, metrics) = node.http("/metrics").await?;
    let line = metrics.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("no {name}"))?;
    Ok(line.trim().parse()?)
}

/// Goal: rot is found, never served, and repaired from the others. Method: a byte of one member's records is flipped
/// while it is stopped. Its scrub finds that and ends it; the next start gives up the copies concerned and gets them
/// back. Then another member goes, so that what was repaired is needed.
#[tokio::test(flavor = "multi_thread")]
async fn rot_is_found_and_repaired_from_the_majority() -> anyhow::Result<()> {
    let root = tempfile::tempdir()?;
    let mut nodes = ring(root.path(), 3, &["--scrub-interval=1s", "--replace-after=1h"]).await?;
    let client = Client::connect(Endpoints::new([&*nodes[0].client]), ClientSettings::default()).await?;
    for number in 0..KEYS {
        client.put(Put::new(format!("key-{number}"), value(number))).await?;
    }
    for node in &nodes {
        eventually("every member holds all", async || {
            let held = metric(node, "chord_keys_held").await?;
            ensure!(held == KEYS as u64, "{held} keys at {}", node.name);
            Ok(())
        })
        .await?;
    }
    nodes[2].kill()?;
    let path = table(&nodes[2])?;
    let mut bytes = fs::read(&path)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    fs::write(&path, bytes)?;
    nodes[2].start()?;
    let status = nodes[2].ended().await?;
    let said = nodes[2].log();
    ensure!(status.code() == Some(chord_node::store::EXIT_IO), "{status}: {said}");
    ensure!(said.contains("the next start looks through the store and repairs it"), "{said}");
    expect_values(&nodes[0]).await?;
    nodes[2].start()?;
    nodes[2].ready().await?;
    ensure!(nodes[2].log().contains("these shards come back from the other members"), "{}", nodes[2].log());
    settled(&nodes.iter().collect::<Vec<_>>(), 3).await?;
    eventually("the repaired member holds all again", async || {
        let held = metric(&nodes[2], "chord_keys_held").await?;
        ensure!(held == KEYS as u64, "{held} keys");
        Ok(())
    })
    .await?;
    nodes[0].kill()?;
    expect_values(&nodes[2]).await
}
