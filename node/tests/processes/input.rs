//! What callers must not send: each gets its status code and a text that says what is wrong; nothing is lost.
use crate::support::{Node, get, op_id, put, ring};
use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use chord_proto::v1::{self, kv_client::KvClient, lookup_path_request::Target};
use std::time::Duration;
use tonic::{Code, Request, Status, transport::Channel};

type Kv = KvClient<Channel>;

async fn send_put(kv: &mut Kv, change: impl FnOnce(&mut v1::PutRequest)) -> Option<Status> {
    let (key, value) = (Bytes::from_static(b"good"), Bytes::from_static(b"bad"));
    let mut put = v1::PutRequest { key, value, ttl_ms: None, op_id: Some(op_id()) };
    change(&mut put);
    kv.put(put).await.err()
}

async fn send_scan(kv: &mut Kv, shard: u32, cursor: &'static [u8], limit: u32) -> Option<Status> {
    let cursor = Bytes::from_static(cursor);
    kv.scan(v1::ScanRequest { shard, cursor, limit, keys_only: false }).await.err()
}

async fn send_lookup(node: &Node, target: Option<Target>) -> anyhow::Result<Option<Status>> {
    Ok(node.view()?.lookup_path(v1::LookupPathRequest { target }).await.err())
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_is_refused_by_name_and_bound() -> anyhow::Result<()> {
    let root = tempfile::tempdir()?;
    let nodes = ring(root.path(), 1, &["--replication-factor=1"]).await?;
    let node = &nodes[0];
    put(node, "good", "value").await?;
    let mut kv = node.kv()?;
    let long = |length: usize| Bytes::from(vec![b'x'; length]);
    let no_op: v1::BatchRequest = v1::BatchRequest { operations: Vec::new() };
    let too_many = v1::BatchRequest { operations: vec![v1::Operation::default(); 1001] };
    let table: Vec<(&str, Option<Status>, &[&str])> = vec![
        ("empty key", send_put(&mut kv, |put| put.key = Bytes::new()).await, &["key", "1 to 1024"]),
        ("long key", send_put(&mut kv, |put| put.key = long(1025)).await, &["key", "1024", "1025"]),
        ("long value", send_put(&mut kv, |put| put.value = long((1 << 20) + 1)).await, &["value", "1048576"]),
        ("no time to live", send_put(&mut kv, |put| put.ttl_ms = Some(0)).await, &["ttl_ms", "at least 1"]),
        ("no op id", send_put(&mut kv, |put| put.op_id = None).await, &["op_id", "required"]),
        (
            "short client",
            send_put(&mut kv, |put| put.op_id = Some(v1::OpId { client: long(3), ..op_id() })).await,
            &["op_id.client", "16"],
        ),
        ("get of nothing", kv.get(v1::GetRequest::default()).await.err(), &["key"]),
        (
            "delete of nothing",
            kv.delete(v1::DeleteRequest { op_id: Some(op_id()), ..Default::default() }).await.err(),
            &["key"],
        ),
        (
            "compare-and-set of nothing",
            kv.compare_and_set(v1::CompareAndSetRequest { op_id: Some(op_id()), ..Default::default() }).await.err(),
            &["key"],
        ),
        ("empty batch", kv.batch(no_op).await.err(), &["operations", "1 to 1000"]),
        ("large batch", kv.batch(too_many).await.err(), &["operations", "1001"]),
        ("scan limit", send_scan(&mut kv, 0, b"", 1001).await, &["limit", "1000"]),
        ("scan shard", send_scan(&mut kv, 64, b"", 1).await, &["shard", "64"]),
        ("scan cursor", send_scan(&mut kv, 0, b"\xff\xff\xff\xffnonsense", 1).await, &["cursor"]),
        ("lookup of nothing", send_lookup(node, None).await?, &["target"]),
        ("lookup of an empty key", send_lookup(node, Some(Target::Key(Bytes::new()))).await?, &["key"]),
        ("lookup of a short id", send_lookup(node, Some(Target::Id(long(19)))).await?, &["id", "20"]),
    ];
    for (what, answer, words) in table {
        let status = answer.with_context(|| format!("{what} was taken"))?;
        ensure!(status.code() == Code::InvalidArgument, "{what}: {status:?}");
        for word in words {
            ensure!(status.message().contains(word), "{what}: `{}` lacks `{word}`", status.message());
        }
    }
    let old = v1::OpId { retry: true, age_ms: 120_000, ..op_id() };
    let status = send_put(&mut kv, |put| put.op_id = Some(old)).await.context("a retry too old was taken")?;
    ensure!(status.code() == Code::Aborted && status.message().contains("too old"), "{status:?}");
    ensure!(get(node, "good").await?.as_deref() == Some("value"), "refused writes must change nothing");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_operation_in_a_batch_fails_alone() -> anyhow::Result<()> {
    use v1::{operation::Kind, operation_result::Kind as Answer};
    let root = tempfile::tempdir()?;
    let nodes = ring(root.path(), 1, &["--replication-factor=1"]).await?;
    let (key, value) = (Bytes::from_static(b"k"), Bytes::from_static(b"v"));
    let put = v1::PutRequest { key: key.clone(), value, ttl_ms: None, op_id: Some(op_id()) };
    let operations = vec![
        v1::Operation { kind: Some(Kind::Put(put)) },
        v1::Operation { kind: None },
        v1::Operation { kind: Some(Kind::Get(v1::GetRequest::default())) },
    ];
    let results = nodes[0].kv()?.batch(v1::BatchRequest { operations }).await?.into_inner().results;
    let [first, second, third] = &results[..] else { bail!("three results, not {results:?}") };
    ensure!(matches!(first.kind, Some(Answer::Put(_))), "{first:?}");
    for refused in [second, third] {
        let Some(Answer::Error(error)) = &refused.kind else { bail!("taken: {refused:?}") };
        ensure!(error.code == Code::InvalidArgument as i32, "{error:?}");
    }
    ensure!(get(&nodes[0], "k").await?.as_deref() == Some("v"));
    Ok(())
}

/// A put of a later version of the protocol.
#[derive(Clone, PartialEq, prost::Message)]
struct LaterPut {
    #[prost(bytes = "bytes", tag = "1")]
    key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    value: Bytes,
    #[prost(message, optional, tag = "4")]
    op_id: Option<v1::OpId>,
    #[prost(string, tag = "900")]
    unheard_of: String,
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_fields_are_ignored_and_garbage_is_refused() -> anyhow::Result<()> {
    let root = tempfile::tempdir()?;
    let nodes = ring(root.path(), 1, &["--replication-factor=1"]).await?;
    let mut grpc = tonic::client::Grpc::new(nodes[0].link(&nodes[0].client)?.channel);
    grpc.ready().await?;
    let (key, value) = (Bytes::from_static(b"k"), Bytes::from_static(b"v"));
    let put = LaterPut { key, value, op_id: Some(op_id()), unheard_of: "of a later version".into() };
    let path = tonic::codegen::http::uri::PathAndQuery::from_static("/chord.v1.Kv/Put");
    let codec = tonic_prost::ProstCodec::<LaterPut, v1::PutResponse>::default();
    let answer = grpc.unary(Request::new(put), path.clone(), codec).await?.into_inner();
    ensure!(answer.version.is_some());
    ensure!(get(&nodes[0], "k").await?.as_deref() == Some("v"));
    // A message whose fields are of other kinds: a string where a message belongs.
    let codec = tonic_prost::ProstCodec::<OtherKinds, v1::PutResponse>::default();
    grpc.ready().await?;
    let status = grpc.unary(Request::new(OtherKinds { op_id: "\u{7f}\u{7f}".into() }), path, codec).await.err();
    let status = status.context("garbage was taken")?;
    ensure!(matches!(status.code(), Code::Internal | Code::InvalidArgument), "{status:?}");
    ensure!(get(&nodes[0], "k").await?.as_deref() == Some("v"));
    Ok(())
}

#[derive(Clone, PartialEq, prost::Message)]
struct OtherKinds {
    #[prost(string, tag = "4")]
    op_id: String,
}

#[tokio::test(flavor = "multi_thread")]
async fn request_after_its_deadline_is_not_worked_on() -> anyhow::Result<()> {
    let root = tempfile::tempdir()?;
    let nodes = ring(root.path(), 1, &["--replication-factor=1"]).await?;
    // Units beyond what gRPC allows must not hurt either.
    for timeout in ["0m", "1n", "99999999999999999999H", "18446744073709551615H", "soon", ""] {
        let put = v1::PutRequest {
            key: Bytes::from_static(b"late"),
            value: Bytes::from_static(b"v"),
            ttl_ms: None,
            op_id: Some(op_id()),
        };
        let mut request = Request::new(put);
        if let Ok(value) = timeout.parse() {
            request.metadata_mut().insert("grpc-timeout", value);
        }
        let answer = nodes[0].kv()?.put(request).await;
        if timeout == "0m" {
            let status = answer.err().context("a request after its deadline was taken")?;
            ensure!(matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled), "{status:?}");
        }
    }
    ensure!(nodes[0].http("/livez").await?.0 == 200);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn node_that_is_no_member_yet_takes_nothing() -> anyhow::Result<()> {
    let root = tempfile::tempdir()?;
    let mut node = Node::new(root.path(), "n-0", &["--managed"])?;
    node.start()?;
    crate::support::eventually("the node answers", async || match node.http("/readyz").await? {
        (503, why) if why.contains("waits") => Ok(()),
        other => bail!("{other:?}"),
    })
    .await?;
    ensure!(node.http("/livez").await?.0 == 200, "alive, though not ready");
    let status = send_put(&mut node.kv()?, |_| {}).await.context("an empty node took a write")?;
    ensure!(matches!(status.code(), Code::Unavailable | Code::FailedPrecondition), "{status:?}");
    let evidence = node.status().await?;
    ensure!(evidence.state() == v1::MemberState::Empty && evidence.ring_id.is_empty(), "{evidence:?}");
    // Another disk than the one that answers is refused; the right one founds a ring, and doing it again changes nothing.
    let disk = evidence.node.context("a node has an identity")?.disk_uuid;
    let join = |disk: &Bytes| v1::AdminJoinRequest {
        operator_epoch: 3,
        disk_uuid: disk.clone(),
        bootstrap_ring_id: Some(Bytes::from_static(b"sixteen bytes id")),
        seeds: Vec::new(),
        ring_id: Bytes::new(),
    };
    let mut admin = node.admin()?;
    let other = Bytes::from_static(b"another disk id!");
    let refused = admin.join(join(&other)).await.err().context("another disk was taken")?;
    ensure!(matches!(refused.code(), Code::Aborted | Code::FailedPrecondition), "{refused:?}");
    admin.join(join(&disk)).await?;
    admin.join(join(&disk)).await?;
    node.ready().await?;
    let older = v1::AdminLeaveRequest { operator_epoch: 2, disk_uuid: disk };
    let refused = admin.leave(older).await.err().context("an older operator was obeyed")?;
    ensure!(refused.code() == Code::Aborted, "{refused:?}");
    // With --managed, SIGTERM is a restart: it ends soon and comes back by itself.
    put(&node, "kept", "value").await?;
    node.terminate()?;
    ensure!(tokio::time::timeout(Duration::from_secs(15), node.ended()).await??.success());
    node.start()?;
    node.ready().await?;
    ensure!(get(&node, "kept").await?.as_deref() == Some("value"));
    Ok(())
}
