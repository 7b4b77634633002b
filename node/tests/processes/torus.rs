//! What the Go implementation that this project started from loses or stumbles over, here with nothing lost and nobody
//! kept waiting: `docs/torus.md` has the table.
use crate::{
    load::{Load, all_there, client, fill},
    support::{Node, eventually, get, op_id, put, ring, settled},
};
use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use chord::{id::Id, shard::config::ShardId};
use chord_client::{Get, Put};
use chord_node::rpc::kv::FORWARDED;
use chord_proto::v1::{self, lookup_path_request::Target, ring_client::RingClient};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Balanced ids of five nodes stand on the circle in the order 0 4 2 1 3, of eight in the order 0 4 2 6 1 5 3 7: in
/// both, 4 and 2 are neighbours.
const NEIGHBOURS: [usize; 2] = [2, 4];

fn all(nodes: &[Node]) -> Vec<&Node> {
    nodes.iter().collect()
}

/// All but some.
fn rest<'a>(nodes: &'a [Node], gone: &[usize]) -> Vec<&'a Node> {
    nodes.iter().enumerate().filter(|(place, _)| !gone.contains(place)).map(|(_, node)| node).collect()
}

/// Starts `count` more nodes, that join through the first.
fn start_more(nodes: &mut Vec<Node>, root: &std::path::Path, count: usize) -> anyhow::Result<()> {
    let join = format!("--join={}", nodes[0].internal);
    for ordinal in nodes.len()..nodes.len() + count {
        let mut node = Node::new(root, &format!("n-{ordinal}"), &[join.as_str()])?;
        node.start()?;
        nodes.push(node);
    }
    Ok(())
}

/// Findings 1, 5, 6: an owner dies without warning, under load, and is back on its address two seconds later.
#[tokio::test(flavor = "multi_thread")]
async fn sigkill_of_one_of_five_and_its_return_on_the_same_address_lose_nothing() -> anyhow::Result<()> {
    let root = tempfile::tempdir()?;
    let mut nodes = ring(root.path(), 5, &[]).await?;
    let before = fill(&all(&nodes), "before", 200).await?;
    let load = Load::start(&rest(&nodes, &[3])).await?;
    load.goes_on(100).await?;
    nodes[3].kill()?;
    all_there(&nodes[0], &before).await?;
    load.goes_on(100).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    nodes[3].start()?;
    nodes[3].ready().await?;
    load.goes_on(100).await?;
    settled(&all(&nodes), 5).await?;
    let during = load.end().await?;
    for node in &nodes {
        all_there(node, &before).await?;
        all_there(node, &during).await?;
    }
    Ok(())
}

/// Finding 2: SIGTERM hands over. Also 15: neither an open stream nor an idle connection holds the process.
#[tokio::test(flavor = "multi_thread")]
async fn sigterm_of_one_of_five_under_load_loses_nothing_and_ends() -> anyhow::Result<()> {
    let root = tempfile::tempdir()?;
    let mut nodes = ring(root.path(), 5, &[]).await?;
    let before = fill(&all(&nodes), "before", 200).await?;
    let load = Load::start(&rest(&nodes, &[3])).await?;
    let mut watch = nodes[3].view()?.watch(v1::WatchRequest {}).await?.into_inner();
    let _idle = tokio::net::TcpStream::connect(&nodes[3].client).await?;
    load.goes_on(100).await?;
    nodes[3].terminate()?;
    let status = nodes[3].ended().await?;
    ensure!(status.success(), "{status}: {}", nodes[3].log());
    while watch.message().await.is_ok_and(|message| message.is_some()) {}
    load.goes_on(100).await?;
    let stay = rest(&nodes, &[3]);
    settled(&stay, 4).await?;
    let during = load.end().await?;
    for node in stay {
        all_there(node, &before).await?;
        all_there(node, &during).await?;
    }
    Ok(())
}

/// Finding 1, twice at once: two of three replicas are gone. What has no majority is not answered; it is never answered
/// wrongly; it is there again when the two are.
#[tokio::test(flavor = "multi_thread")]
async fn sigkill_of_two_neighbours_of_five_loses_nothing_and_tells_nothing_wrong() -> anyhow::Result<()> {
    let root = tempfile::tempdir()?;
    let mut nodes = ring(root.path(), 5, &[]).await?;
    let written = fill(&all(&nodes), "key", 300).await?;
    for neighbour in NEIGHBOURS {
        nodes[neighbour].kill()?;
    }
    let (mut answered, mut refused) = (0, 0);
    let mut kv = nodes[0].kv()?;
    for (key, value) in &written {
        let mut request = tonic::Request::new(v1::GetRequest { key: key.clone().into(), stale_ok: false });
        request.set_timeout(Duration::from_millis(100));
        match kv.get(request).await {
            Ok(answer) => {
                let found = answer.into_inner().value;
                ensure!(found.as_deref() == Some(value.as_bytes()), "{key} is {found:?}");
                answered += 1;
            }
            Err(_) => refused += 1,
        }
    }
    ensure!(answered > 0 && refused > 0, "{answered} answered, {refused} refused");
    for neighbour in NEIGHBOURS {
        nodes[neighbour].start()?;
    }
    for node in &nodes {
        all_there(node, &written).await?;
    }
    settled(&all(&nodes), 5).await
}

/// Findings 3 and 4: three join at once below the same successors while keys are written; reads never fail meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn three_joining_at_once_while_keys_are_written_lose_nothing() -> anyhow::Result<()> {
    let root = tempfile::tempdir()?;
    let mut nodes = ring(root.path(), 3, &[]).await?;
    let before = fill(&all(&nodes), "before", 200).await?;
    let load = Load::start(&all(&nodes)).await?;
    load.goes_on(50).await?;
    start_more(&mut nodes, root.path(), 3)?;
    // Read all the while: what moves is readable before, during and after.
    while settled_now(&nodes, 6).await.is_err() {
        all_there(&nodes[1], &before).await?;
    }
    load.goes_on(50).await?;
    let during = load.end().await?;
    for node in &nodes {
        all_there(node, &before).await?;
        all_there(node, &during).await?;
    }
    Ok(())
}

/// One look.
async fn settled_now(nodes: &[Node], count: usize) -> anyhow::Result<()> {
    for node in nodes {
        let status = node.status().await?;
        let serving = status.members.iter().filter(|member| member.state() == v1::MemberState::Serving).count();
        let open = status.shards_under_replicated + status.shards_pending + status.shards_unavailable;
        ensure!(serving == count && open == 0 && status.state() == v1::MemberState::Serving, "{}", node.name);
    }
    Ok(())
}

/// Finding 3, one after the other: each joins while the moves to the one before may still go on.
#[tokio::test(flavor = "multi_thread")]
async fn three_joining_one_after_the_other_while_keys_are_written_lose_nothing() -> anyhow::Result<()> {
    let root = tempfile::tempdir()?;
    let mut nodes = ring(root.path(), 3, &[]).await?;
    let before = fill(&all(&nodes), "before", 200).await?;
    let load = Load::start(&all(&nodes)).await?;
    for _ in 0..3 {
        load.goes_on(50).await?;
        start_more(&mut nodes, root.path(), 1)?;
        all_there(&nodes[1], &before).await?;
    }
    settled(&all(&nodes), 6).await?;
    let during = load.end().await?;
    for node in &nodes {
        all_there(node, &before).await?;
        all_there(node, &during).await?;
    }
    Ok(())
}

/// The three events of section 8 with eight nodes; and findings 14 and 16: with members dead, every lookup ends at the
/// owner after a bounded number of hops.
#[tokio::test(flavor = "multi_thread")]
async fn eight_nodes_lose_nothing_either() -> anyhow::Result<()> {
    let root = tempfile::tempdir()?;
    let mut nodes = ring(root.path(), 8, &[]).await?;
    let written = fill(&all(&nodes), "key", 300).await?;
    nodes[6].kill()?;
    all_there(&nodes[0], &written).await?;
    for node in rest(&nodes, &[6]) {
        for number in 0..20 {
            let target = Some(Target::Key(format!("key-{number}").into()));
            let path = eventually("the lookup ends", async || {
                Ok(node.view()?.lookup_path(v1::LookupPathRequest { target: target.clone() }).await?.into_inner())
            })
            .await?;
            ensure!(path.owner.is_some() && path.hops.len() <= 8, "from {}: {path:?}", node.name);
        }
    }
    nodes[6].start()?;
    nodes[6].ready().await?;
    nodes[5].terminate()?;
    let status = nodes[5].ended().await?;
    ensure!(status.success(), "{status}: {}", nodes[5].log());
    all_there(&nodes[0], &written).await?;
    settled(&rest(&nodes, &[5]), 7).await?;
    for neighbour in NEIGHBOURS {
        nodes[neighbour].kill()?;
    }
    for neighbour in NEIGHBOURS {
        nodes[neighbour].start()?;
    }
    for node in rest(&nodes, &[5]) {
        all_there(node, &written).await?;
    }
    Ok(())
}

/// Findings 7, 8: deletes reach every replica, and of writes and deletes in a row every replica keeps the last.
#[tokio::test(flavor = "multi_thread")]
async fn every_replica_has_the_last_of_writes_and_deletes() -> anyhow::Result<()> {
    let root = tempfile::tempdir()?;
    let mut nodes = ring(root.path(), 3, &[]).await?;
    let client = client(&all(&nodes)).await?;
    let race = |number: usize| {
        let client = client.clone();
        async move {
            let key = format!("key-{number}");
            for round in 0..5 {
                client.put(Put::new(key.clone(), format!("{round}"))).await?;
                client.delete(key.clone()).await?;
            }
            if number.is_multiple_of(2) {
                client.put(Put::new(key, "last")).await?;
            }
            anyhow::Ok(())
        }
    };
    futures::future::try_join_all((0..50).map(race)).await?;
    let holds = async |node: &Node| {
        let (_, metrics) = node.http("/metrics").await?;
        let held = metrics.lines().find(|line| line.starts_with("chord_keys_held"));
        ensure!(held == Some("chord_keys_held 25"), "{}: {held:?}", node.name);
        for number in 0..50usize {
            let key = Bytes::from(format!("key-{number}"));
            let found = node.kv()?.get(v1::GetRequest { key, stale_ok: true }).await?.into_inner().value;
            let expected = number.is_multiple_of(2).then_some(&b"last"[..]);
            ensure!(found.as_deref() == expected, "replica of key-{number} at {}: {found:?}", node.name);
        }
        Ok(())
    };
    for node in &nodes {
        eventually("every replica has the last state", async || holds(node).await).await?;
    }
    // Nor does a deleted key come back when those that led are gone.
    nodes[0].kill()?;
    for number in 0..50usize {
        let expected = number.is_multiple_of(2).then_some("last");
        ensure!(get(&nodes[1], &format!("key-{number}")).await?.as_deref() == expected, "key-{number}");
    }
    Ok(())
}

/// Finding 10: one shard of 12 MiB goes to a joiner, and from there to the next one.
#[tokio::test(flavor = "multi_thread")]
async fn shard_larger_than_a_message_moves() -> anyhow::Result<()> {
    let root = tempfile::tempdir()?;
    let mut nodes = ring(root.path(), 1, &[]).await?;
    let shard = ShardId::of(Id::of_key(b"large-0"), 64);
    let keys: Vec<String> = (0..)
        .map(|number| format!("large-{number}"))
        .filter(|key| ShardId::of(Id::of_key(key.as_bytes()), 64) == shard)
        .take(12)
        .collect();
    let value = |key: &str| key.bytes().cycle().take(1 << 20).collect::<Vec<u8>>();
    let writer = client(&all(&nodes)).await?;
    for key in &keys {
        writer.put(Put::new(key.clone(), value(key))).await?;
    }
    start_more(&mut nodes, root.path(), 1)?;
    nodes[1].ready().await?;
    settled(&all(&nodes), 2).await?;
    nodes[0].terminate()?;
    let status = nodes[0].ended().await?;
    ensure!(status.success(), "{status}: {}", nodes[0].log());
    let reader = client(&[&nodes[1]]).await?;
    for key in &keys {
        let found = reader.get(key.clone()).await?.with_context(|| format!("{key} is gone"))?;
        ensure!(found.value == value(key), "{key} is damaged");
    }
    Ok(())
}

/// Findings 11, 12: a node that has joined nothing answers every question about the ring, or refuses; it does not die.
#[tokio::test(flavor = "multi_thread")]
async fn questions_before_joining_are_refused_and_harmless() -> anyhow::Result<()> {
    let root = tempfile::tempdir()?;
    let mut node = Node::new(root.path(), "n-0", &["--managed"])?;
    node.start()?;
    eventually("the node answers", async || node.status().await).await?;
    let mut ring = RingClient::new(node.link(&node.internal)?.channel);
    let me = node.status().await?.node.context("a node has an identity")?;
    let target = Bytes::from_static(&[7; 20]);
    let fingers = ring.get_finger_table(v1::GetFingerTableRequest {}).await?.into_inner().fingers;
    ensure!(fingers.is_empty(), "{fingers:?}");
    let ask = v1::FindSuccessorRequest { target: target.clone(), hops: 0, trace: false };
    let answers = [
        ("find_successor", ring.find_successor(ask).await.err()),
        (
            "closest",
            ring.closest_preceding_finger(v1::ClosestPrecedingFingerRequest { target, ..Default::default() })
                .await
                .err(),
        ),
        ("join", ring.join(v1::JoinRequest { joiner: Some(v1::NodeRef { name: "n-1".into(), ..me }) }).await.err()),
    ];
    for (what, refused) in answers {
        let status = refused.with_context(|| format!("{what} was answered by a node in no ring"))?;
        ensure!(matches!(status.code(), tonic::Code::FailedPrecondition | tonic::Code::Unavailable), "{status:?}");
    }
    let mut view = node.view()?;
    let _ = view.finger_table(v1::FingerTableRequest {}).await;
    let _ = view.describe(v1::DescribeRequest {}).await;
    let target = Some(Target::Key(Bytes::from_static(b"key")));
    ensure!(view.lookup_path(v1::LookupPathRequest { target }).await.is_err());
    ensure!(node.kv()?.shard_map(v1::ShardMapRequest {}).await.is_err());
    ensure!(node.http("/livez").await?.0 == 200, "{}", node.log());
    Ok(())
}

/// Waits until a node holds so many members for silent.
async fn sees_silent_member(node: &Node) -> anyhow::Result<()> {
    eventually("silence is noticed", async || {
        let description = node.view()?.describe(v1::DescribeRequest {}).await?.into_inner();
        let silent = description.members.iter().filter(|member| !member.reachable).count();
        if silent == 1 { Ok(()) } else { bail!("{silent} members are silent for {}", node.name) }
    })
    .await
}

/// Finding 13: a member that is there but says nothing holds up neither the others nor their clients.
#[tokio::test(flavor = "multi_thread")]
async fn silent_member_does_not_stall_the_others() -> anyhow::Result<()> {
    let root = tempfile::tempdir()?;
    let nodes = ring(root.path(), 3, &[]).await?;
    let before = fill(&all(&nodes), "before", 60).await?;
    let load = Load::start(&rest(&nodes, &[1])).await?;
    load.goes_on(50).await?;
    nodes[1].signal("STOP")?;
    // All this happens while it is silent: it could never happen if it had to be waited for.
    load.goes_on(200).await?;
    all_there(&nodes[2], &before).await?;
    for node in rest(&nodes, &[1]) {
        sees_silent_member(node).await?;
    }
    nodes[1].signal("CONT")?;
    settled(&all(&nodes), 3).await?;
    let during = load.end().await?;
    all_there(&nodes[1], &before).await?;
    all_there(&nodes[1], &during).await
}

/// Finding 19: the HTTP port is for probes and metrics; there is no way to read or write through it.
#[tokio::test(flavor = "multi_thread")]
async fn http_port_gives_no_way_to_the_data() -> anyhow::Result<()> {
    let root = tempfile::tempdir()?;
    let nodes = ring(root.path(), 1, &["--replication-factor=1"]).await?;
    put(&nodes[0], "key", "value").await?;
    for method in ["GET", "POST", "PUT", "DELETE", "PATCH"] {
        for path in
            ["/", "/api/keys", "/api/keys/key", "/keys/key", "/v1/kv/key", "/chord.v1.Kv/Put", "/readyz", "/metrics"]
        {
            let mut stream = tokio::net::TcpStream::connect(&nodes[0].http).await?;
            let head = format!("{method} {path} HTTP/1.0\r\nHost: test\r\nContent-Length: 5\r\n\r\nwrong");
            stream.write_all(head.as_bytes()).await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            let code = answer.split(' ').nth(1).context("a status")?.to_owned();
            let probe = method == "GET" && ["/readyz", "/metrics"].contains(&path);
            ensure!(probe == (code == "200") && ["200", "404", "405"].contains(&&*code), "{method} {path}: {answer}");
            ensure!(!answer.contains("value") || probe, "{method} {path}: {answer}");
        }
    }
    ensure!(get(&nodes[0], "key").await?.as_deref() == Some("value"));
    Ok(())
}

/// A key whose shard a node leads.
async fn key_led_by(node: &Node) -> anyhow::Result<Bytes> {
    let mut kv = node.kv()?;
    for number in 0..1000 {
        let key = Bytes::from(format!("key-{number}"));
        let mut request = tonic::Request::new(v1::GetRequest { key: key.clone(), stale_ok: false });
        // So it is not passed on.
        request.metadata_mut().insert(FORWARDED, tonic::metadata::MetadataValue::from_static("1"));
        if kv.get(request).await.is_ok() {
            return Ok(key);
        }
    }
    bail!("{} leads no shard of 1000 keys", node.name)
}

/// Finding 22: what is asked of a node beyond its bounds is refused with a time to come back, and is not done later.
#[tokio::test(flavor = "multi_thread")]
async fn more_than_a_node_can_hold_is_refused_with_a_time_to_come_back() -> anyhow::Result<()> {
    use tonic_types::StatusExt as _;
    let root = tempfile::tempdir()?;
    // What it takes for alive and does not answer keeps all that is sent under way at once.
    let nodes = ring(root.path(), 3, &["--suspect-after=60s"]).await?;
    let key = key_led_by(&nodes[0]).await?;
    nodes[1].signal("STOP")?;
    nodes[2].signal("STOP")?;
    let kvs = [nodes[0].kv()?, nodes[0].kv()?];
    let mut answers = tokio::task::JoinSet::new();
    for number in 0..5000 {
        let mut kv = kvs[number % kvs.len()].clone();
        let put =
            v1::PutRequest { key: key.clone(), value: Bytes::from_static(b"v"), ttl_ms: None, op_id: Some(op_id()) };
        answers.spawn(async move {
            let mut request = tonic::Request::new(put);
            request.set_timeout(Duration::from_secs(20));
            kv.put(request).await
        });
    }
    let refused = async {
        while let Some(answer) = answers.join_next().await {
            if let Err(status) = answer?
                && status.code() == tonic::Code::ResourceExhausted
            {
                return Ok(status);
            }
        }
        bail!("nothing was refused")
    };
    let status = refused.await?;
    let after = status.get_details_retry_info().and_then(|info| info.retry_delay);
    ensure!(after.is_some_and(|after| after < Duration::from_secs(5)), "{status:?}");
    answers.shutdown().await;
    nodes[1].signal("CONT")?;
    nodes[2].signal("CONT")?;
    settled(&all(&nodes), 3).await?;
    put(&nodes[0], "key", "value").await?;
    Ok(())
}

/// Connections: members that come and go leave no open connections behind.
#[tokio::test(flavor = "multi_thread")]
async fn connections_to_members_that_are_gone_are_dropped() -> anyhow::Result<()> {
    let root = tempfile::tempdir()?;
    let mut nodes = ring(root.path(), 1, &["--replication-factor=1"]).await?;
    put(&nodes[0], "key", "value").await?;
    let before = nodes[0].sockets()?;
    start_more(&mut nodes, root.path(), 3)?;
    settled(&all(&nodes), 4).await?;
    ensure!(nodes[0].sockets()? > before, "members are connected");
    for node in &mut nodes[1..] {
        node.terminate()?;
        let status = node.ended().await?;
        ensure!(status.success(), "{status}: {}", node.log());
    }
    // Those of this test's own calls aside.
    eventually("all connections to them are closed", async || {
        let now = nodes[0].sockets()?;
        if now <= before + 4 { Ok(()) } else { bail!("{now} sockets, {before} before they came") }
    })
    .await?;
    ensure!(get(&nodes[0], "key").await?.as_deref() == Some("value"));
    Ok(())
}

/// Idle CPU: Go spends half a core per node on 10,000 keys that nobody uses. This is the debug build, on intervals that
/// are fifteen times shorter than the defaults.
#[tokio::test(flavor = "multi_thread")]
async fn idle_ring_with_keys_uses_little_cpu() -> anyhow::Result<()> {
    let root = tempfile::tempdir()?;
    let nodes = ring(root.path(), 3, &[]).await?;
    let client = client(&all(&nodes)).await?;
    let puts =
        (0..2000).map(|number| Put::new(format!("key-{number}"), vec![7; 100])).map(chord_client::Operation::Put);
    for result in client.batch(puts).await {
        result?;
    }
    ensure!(client.get(Get::new("key-1999")).await?.is_some());
    settled(&all(&nodes), 3).await?;
    drop(client);
    let before: Vec<Duration> = nodes.iter().map(Node::cpu).collect::<Result<_, _>>()?;
    let idle = Duration::from_secs(6);
    tokio::time::sleep(idle).await;
    for (node, before) in nodes.iter().zip(before) {
        let used = node.cpu()? - before;
        ensure!(used < idle / 5, "{} used {used:?} of {idle:?}", node.name);
    }
    Ok(())
}
