//! Rings that work, lose a process, and shrink.
use crate::{
    load,
    support::{eventually, expect_all, get, may_retry, op_id, put, put_all, ring, settled},
};
use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use chord_proto::v1::{self, lookup_path_request::Target};
use std::time::Duration;
use tokio_stream::StreamExt as _;

#[tokio::test(flavor = "multi_thread")]
async fn killed_member_comes_back_with_everything() -> anyhow::Result<()> {
    let root = tempfile::tempdir()?;
    let mut nodes = ring(root.path(), 3, &[]).await?;
    let [a, b, c] = &mut nodes[..] else { bail!("three nodes") };
    put_all(&[a, b, c], "before", 60).await?;
    expect_all(b, "before", 60).await?;
    b.kill()?;
    put_all(&[a, c], "without", 40).await?;
    expect_all(c, "before", 60).await?;
    expect_all(a, "without", 40).await?;
    b.start()?;
    b.ready().await?;
    settled(&[a, b, c], 3).await?;
    expect_all(b, "before", 60).await?;
    expect_all(b, "without", 40).await?;
    // The majority now includes it: what it says it has must be there without one of the others.
    a.kill()?;
    expect_all(b, "without", 40).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn member_that_comes_back_at_another_address_is_found_there() -> anyhow::Result<()> {
    let root = tempfile::tempdir()?;
    let mut nodes = ring(root.path(), 3, &[]).await?;
    put_all(&nodes.iter().collect::<Vec<_>>(), "before", 30).await?;
    nodes[1].kill()?;
    nodes[1].moves()?;
    nodes[1].start()?;
    nodes[1].ready().await?;
    settled(&nodes.iter().collect::<Vec<_>>(), 3).await?;
    put_all(&[&nodes[0]], "after", 30).await?;
    // Only with it is there a majority.
    nodes[2].kill()?;
    expect_all(&nodes[1], "before", 30).await?;
    expect_all(&nodes[0], "after", 30).await
}

#[tokio::test(flavor = "multi_thread")]
async fn whole_ring_killed_at_once_loses_nothing() -> anyhow::Result<()> {
    let root = tempfile::tempdir()?;
    let mut nodes = ring(root.path(), 3, &[]).await?;
    let all: Vec<_> = nodes.iter().collect();
    put_all(&all, "key", 60).await?;
    nodes.iter_mut().try_for_each(|node| node.kill())?;
    nodes.iter_mut().try_for_each(|node| node.start())?;
    for node in &nodes {
        node.ready().await?;
    }
    expect_all(&nodes[2], "key", 60).await
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_hands_over_one_then_two_neighbours_at_once() -> anyhow::Result<()> {
    let root = tempfile::tempdir()?;
    let mut nodes = ring(root.path(), 6, &[]).await?;
    let all: Vec<_> = nodes.iter().collect();
    put_all(&all, "key", 120).await?;
    nodes[5].terminate()?;
    let status = nodes[5].ended().await?;
    ensure!(status.success(), "{status}: {}", nodes[5].log());
    let rest: Vec<_> = nodes[..5].iter().collect();
    settled(&rest, 5).await?;
    expect_all(&nodes[0], "key", 120).await?;
    // Balanced ids of five nodes stand on the circle in the order 0 4 2 1 3: 4 and 2 are neighbours.
    nodes[4].terminate()?;
    nodes[2].terminate()?;
    for leaver in [4, 2] {
        let status = nodes[leaver].ended().await?;
        ensure!(status.success(), "{status}: {}", nodes[leaver].log());
    }
    let rest: Vec<_> = [0, 1, 3].map(|stays| &nodes[stays]).into();
    settled(&rest, 3).await?;
    expect_all(&nodes[1], "key", 120).await?;
    // The directory of one that left never serves again.
    nodes[5].start()?;
    eventually("the one that left says so", async || match nodes[5].http("/readyz").await? {
        (503, why) if why.contains("left the ring") => Ok(()),
        other => bail!("{other:?}"),
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_node_answers_for_the_whole_ring() -> anyhow::Result<()> {
    let root = tempfile::tempdir()?;
    let nodes = ring(root.path(), 3, &[]).await?;
    let version = put(&nodes[0], "colour", "green").await?;
    for node in &nodes {
        ensure!(get(node, "colour").await?.as_deref() == Some("green"));
        let map = node.kv()?.shard_map(v1::ShardMapRequest {}).await?.into_inner();
        ensure!(map.shards == 64 && map.configs.len() == 64 && map.members.len() == 3, "{map:?}");
        let description = node.view()?.describe(v1::DescribeRequest {}).await?.into_inner();
        ensure!(description.members.len() == 3 && description.state() == v1::MemberState::Serving);
        let target = Some(Target::Key(Bytes::from_static(b"colour")));
        let path = node.view()?.lookup_path(v1::LookupPathRequest { target }).await?.into_inner();
        ensure!(path.owner.is_some() && path.leader.is_some() && path.replicas.len() == 3, "{path:?}");
        eventually("the finger table is whole", async || {
            let fingers = node.view()?.finger_table(v1::FingerTableRequest {}).await?.into_inner().fingers;
            ensure!(fingers.len() == 160, "{} fingers", fingers.len());
            Ok(())
        })
        .await?;
        let mut watch = node.view()?.watch(v1::WatchRequest {}).await?.into_inner();
        let first = watch.next().await.transpose()?;
        ensure!(matches!(first, Some(v1::WatchResponse { kind: Some(v1::watch_response::Kind::Description(_)) })));
        let (code, metrics) = node.http("/metrics").await?;
        ensure!(code == 200 && metrics.contains("chord_shards_held 64"), "{metrics}");
        ensure!(node.http("/livez").await?.0 == 200);
    }
    let key = Bytes::from_static(b"colour");
    let cas = |expected, op_id| v1::CompareAndSetRequest {
        key: key.clone(),
        expected: Some(expected),
        value: Some(Bytes::from_static(b"blue")),
        ttl_ms: None,
        op_id: Some(op_id),
    };
    let mut kv = nodes[1].kv()?;
    ensure!(kv.compare_and_set(cas(version, crate::support::op_id())).await?.into_inner().applied);
    ensure!(!kv.compare_and_set(cas(version, crate::support::op_id())).await?.into_inner().applied);
    let delete = v1::DeleteRequest { key: key.clone(), op_id: Some(crate::support::op_id()) };
    ensure!(nodes[2].kv()?.delete(delete).await?.into_inner().existed);
    ensure!(get(&nodes[0], "colour").await?.is_none());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn scan_crosses_shards_and_nodes_and_values_expire() -> anyhow::Result<()> {
    let root = tempfile::tempdir()?;
    let nodes = ring(root.path(), 3, &[]).await?;
    let all: Vec<_> = nodes.iter().collect();
    put_all(&all, "key", 150).await?;
    let mut kv = nodes[1].kv()?;
    let (mut found, mut cursor) = (std::collections::BTreeSet::new(), Bytes::new());
    loop {
        let page = v1::ScanRequest { shard: 0, cursor, limit: 40, keys_only: true };
        let page = kv.scan(page).await?.into_inner();
        ensure!(page.entries.len() <= 40);
        for entry in page.entries {
            ensure!(entry.value.is_empty() && found.insert(entry.key.clone()), "{:?} came twice", entry.key);
        }
        cursor = page.next_cursor;
        if cursor.is_empty() {
            break;
        }
    }
    ensure!(found.len() == 150, "the scan found {} of 150", found.len());
    let short = v1::PutRequest {
        key: Bytes::from_static(b"short"),
        value: Bytes::from_static(b"lived"),
        ttl_ms: Some(1500),
        op_id: Some(crate::support::op_id()),
    };
    kv.put(short).await?;
    ensure!(get(&nodes[2], "short").await?.as_deref() == Some("lived"));
    eventually("the value expires", async || match get(&nodes[0], "short").await? {
        None => Ok(()),
        Some(value) => bail!("still {value}"),
    })
    .await
}

/// Goal: deleted keys are in nobody's way. Method: pages of one entry through shards that hold mostly tombstones.
#[tokio::test(flavor = "multi_thread")]
async fn scan_in_small_pages_gets_past_deleted_keys() -> anyhow::Result<()> {
    let root = tempfile::tempdir()?;
    let nodes = ring(root.path(), 2, &[]).await?;
    let client = crate::load::client(&[&nodes[0]]).await?;
    for number in 0..200 {
        client.put(chord_client::Put::new(format!("key-{number}"), "value")).await?;
        if number % 40 != 0 {
            client.delete(format!("key-{number}")).await?;
        }
    }
    let (mut found, mut scan) = (std::collections::BTreeSet::new(), chord_client::Scan::new().limit(1));
    loop {
        let page = client.scan(scan.clone()).await?;
        ensure!(page.entries.len() <= 1);
        found.extend(page.entries.into_iter().map(|entry| String::from_utf8_lossy(&entry.key).into_owned()));
        let Some(next) = page.next else { break };
        scan = scan.after(next);
    }
    ensure!(found == [0, 40, 80, 120, 160].map(|number| format!("key-{number}")).into(), "{found:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn whole_ring_ended_at_once_ends_soon_and_keeps_its_keys() -> anyhow::Result<()> {
    let root = tempfile::tempdir()?;
    let mut nodes = ring(root.path(), 3, &[]).await?;
    put_all(&nodes.iter().collect::<Vec<_>>(), "key", 30).await?;
    nodes.iter().try_for_each(|node| node.terminate())?;
    let begun = std::time::Instant::now();
    for node in &mut nodes {
        let status = node.ended().await?;
        ensure!(status.success(), "{status}: {}", node.log());
    }
    // Well below --drain-timeout, which is 40 s here.
    ensure!(begun.elapsed() < std::time::Duration::from_secs(20), "{:?}", begun.elapsed());
    nodes.iter_mut().try_for_each(|node| node.start())?;
    // One that was told first may have handed everything over, and left: the keys are with the others then.
    let client = load::client(&nodes.iter().collect::<Vec<_>>()).await?;
    for number in 0..30 {
        let key = format!("key-{number}");
        let found = client.get(key.clone()).await.with_context(|| format!("get {key}"))?;
        ensure!(found.is_some_and(|found| found.value == key), "{key} is gone");
    }
    Ok(())
}

/// Whoever asks another member than the leader need not wait for its deadline when the leader goes silent.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_passed_on_comes_back_when_the_leader_goes_silent() -> anyhow::Result<()> {
    let root = tempfile::tempdir()?;
    let nodes = ring(root.path(), 3, &[]).await?;
    nodes[2].signal("STOP")?;
    let mut answers = tokio::task::JoinSet::new();
    for number in 0..64 {
        let (mut kv, key) = (nodes[0].kv()?, Bytes::from(format!("key-{number}")));
        answers.spawn(async move {
            let put = v1::PutRequest { key: key.clone(), value: key.clone(), ttl_ms: None, op_id: Some(op_id()) };
            let get = v1::GetRequest { key, stale_ok: false };
            let within = Duration::from_secs(50);
            let (mut put, mut get) = (tonic::Request::new(put), tonic::Request::new(get));
            put.set_timeout(within);
            get.set_timeout(within);
            let mut reader = kv.clone();
            let (put, get) = tokio::join!(kv.put(put), reader.get(get));
            [put.err(), get.err()]
        });
    }
    let mut silent = [0, 0];
    while let Some(answer) = answers.join_next().await {
        for (count, status) in silent.iter_mut().zip(answer?) {
            let Some(status) = status else { continue };
            ensure!(may_retry(&status) && status.message().contains("the shard's leader went silent"), "{status:?}");
            *count += 1;
        }
    }
    ensure!(silent.iter().all(|count| *count > 0), "none of the keys was led by the silent one: {silent:?}");
    Ok(())
}
