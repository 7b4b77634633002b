//! A data volume that fills up, and values whose time to live ends.
use crate::support::{Node, eventually, get, op_id, put, ring};
use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use chord_client::{Client, ClientSettings, Endpoints, Error, Put};
use chord_proto::v1;
use rand::{RngExt as _, SeedableRng as _};
use tonic::Code;

/// Goal: a volume that is nearly full refuses what makes it grow, with a sentence, and does everything else; the process
/// lives, and what was acknowledged is there after a restart of the ring's other half. Method: a small volume in memory,
/// filled through the API.
#[tokio::test(flavor = "multi_thread")]
async fn nearly_full_volume_refuses_growth_and_goes_on_with_everything_else() -> anyhow::Result<()> {
    let root = tempfile::tempdir()?;
    let mut node = Node::new(root.path(), "n-0", &["--bootstrap", "--replication-factor=1"])?.with_volume(576)?;
    node.start()?;
    node.ready().await?;
    put(&node, "small", "value").await?;
    let client = Client::connect(Endpoints::new([&*node.client]), ClientSettings::default()).await?;
    // Nothing that could be compressed.
    let mut random = rand_chacha::ChaCha12Rng::seed_from_u64(7);
    let value = Bytes::from((0..256 << 10).map(|_| random.random()).collect::<Vec<u8>>());
    let mut acknowledged = 0;
    let refusal = loop {
        ensure!(acknowledged < 2000, "the volume never fills up");
        match client.put(Put::new(format!("large-{acknowledged}"), value.clone())).await {
            Ok(_) => acknowledged += 1,
            Err(error) => break error,
        }
    };
    let Error::NoSpace(why) = &refusal else { bail!("{refusal:?}") };
    ensure!(why.contains("nearly full") && why.contains("delete keys"), "{why}");
    ensure!(acknowledged > 50, "full after {acknowledged}");
    let large = v1::PutRequest { key: Bytes::from_static(b"k"), value, ttl_ms: None, op_id: Some(op_id()) };
    let status = node.kv()?.put(large).await.err().context("a full volume took a write")?;
    ensure!(status.code() == Code::ResourceExhausted, "{status:?}");
    ensure!(node.log().contains("writes that grow the data are refused"), "{}", node.log());
    let evidence = node.status().await?;
    ensure!(evidence.disk_total_bytes == 576 << 20 && evidence.disk_free_bytes < 300 << 20, "{evidence:?}");
    // Reads, deletes, and the move of everything to another member go on.
    for number in 0..acknowledged {
        let found = client.get(format!("large-{number}")).await?;
        ensure!(found.is_some_and(|found| found.value.len() == 256 << 10), "large-{number}");
    }
    ensure!(client.delete("small").await?);
    ensure!(get(&node, "small").await?.is_none());
    let mut taker = Node::new(root.path(), "n-1", &[&format!("--join={}", node.internal)])?;
    taker.start()?;
    taker.ready().await?;
    node.terminate()?;
    let status = node.ended().await?;
    ensure!(status.success(), "{status}: {}", node.log());
    let client = Client::connect(Endpoints::new([&*taker.client]), ClientSettings::default()).await?;
    for number in 0..acknowledged {
        ensure!(client.get(format!("large-{number}")).await?.is_some(), "large-{number} is gone");
    }
    ensure!(client.get("small").await?.is_none(), "a deleted key came back");
    client.put(Put::new("small", "again")).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn values_whose_time_is_over_are_removed_without_being_asked_for() -> anyhow::Result<()> {
    let root = tempfile::tempdir()?;
    let nodes = ring(root.path(), 3, &[]).await?;
    let mut kv = nodes[0].kv()?;
    for number in 0..30 {
        let ttl_ms = (number % 3 != 0).then_some(300);
        let key = Bytes::from(format!("key-{number}"));
        kv.put(v1::PutRequest { key, value: Bytes::from_static(b"v"), ttl_ms, op_id: Some(op_id()) }).await?;
    }
    for node in &nodes {
        eventually("every replica keeps only what stays", async || {
            let (_, metrics) = node.http("/metrics").await?;
            let held = metrics.lines().find(|line| line.starts_with("chord_keys_held"));
            if held == Some("chord_keys_held 10") { Ok(()) } else { bail!("{}: {held:?}", node.name) }
        })
        .await?;
    }
    Ok(())
}
