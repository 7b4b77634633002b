//! Writes the first files of the corpora: real messages of every kind, in the shape that each target reads. Run it when
//! the contracts have changed; what libFuzzer has found (names of 40 digits) stays as it is.
use chord::id::Id;
use chord_proto::v1;
use fuzz::{METHODS, RING_ID};
use prost::Message as _;
use std::{fs, path::Path};

type Bytes = Vec<u8>;

fn node(ordinal: u8) -> v1::NodeRef {
    v1::NodeRef {
        id: Id::of_ordinal(ordinal.into()).to_bytes().to_vec().into(),
        disk_uuid: vec![ordinal + 1; 16].into(),
        incarnation: 1,
        name: format!("n-{ordinal}"),
        internal_addr: format!("n-{ordinal}:7400"),
        client_addr: format!("n-{ordinal}:7401"),
        zone: "z".into(),
    }
}

fn member(ordinal: u8) -> v1::Member {
    let state = v1::MemberState::Serving.into();
    v1::Member { node: Some(node(ordinal)), state, reachable: true, revision: 1 }
}

fn key(member: u8) -> v1::MemberKey {
    let v1::NodeRef { id, disk_uuid, .. } = node(member);
    v1::MemberKey { id, disk_uuid }
}

fn op_id(number: u64) -> Option<v1::OpId> {
    Some(v1::OpId { client: vec![3; 16].into(), number, retry: number > 5, age_ms: 0 })
}

fn sized(message: &[u8]) -> Bytes {
    [&(message.len() as u16).to_le_bytes()[..], message].concat()
}

/// A call of `rpc`.
fn call(method: &str, how: u8, message: &[u8]) -> Bytes {
    let place = METHODS.iter().position(|path| path.ends_with(method)).expect("a method of the contracts");
    [&[place as u8, how][..], &sized(message)].concat()
}

fn rpc() -> Vec<(&'static str, Bytes)> {
    let put = |key: &'static str, number| v1::PutRequest {
        key: key.into(),
        value: "value".into(),
        ttl_ms: (number == 2).then_some(50),
        op_id: op_id(number),
    };
    let get = |key: &'static str| v1::GetRequest { key: key.into(), stale_ok: false };
    let delete = |key: &'static str| v1::DeleteRequest { key: key.into(), op_id: op_id(9) };
    let cas =
        v1::CompareAndSetRequest { key: "b".into(), value: Some("w".into()), op_id: op_id(3), ..Default::default() };
    use v1::operation::Kind;
    let operations =
        [Kind::Put(put("c", 4)), Kind::Get(get("c")), Kind::Delete(delete("c")), Kind::CompareAndSet(cas.clone())];
    let operations = operations.map(|kind| v1::Operation { kind: Some(kind) });
    let pipeline = operations.iter().enumerate().map(|(tag, operation)| {
        sized(&v1::PipelineRequest { tag: tag as u64, operation: Some(operation.clone()) }.encode_to_vec())
    });
    let kv = [
        call("Kv/Put", 0, &put("a", 1).encode_to_vec()),
        call("Kv/Put", 8, &put("b", 2).encode_to_vec()),
        call("Kv/Get", 0, &get("a").encode_to_vec()),
        call("Kv/CompareAndSet", 0, &cas.encode_to_vec()),
        call("Kv/Delete", 0, &delete("a").encode_to_vec()),
        call("Kv/Scan", 0, &v1::ScanRequest { limit: 10, ..Default::default() }.encode_to_vec()),
        call("Kv/ShardMap", 0, b""),
    ];
    let many = [
        call("Kv/Batch", 0, &v1::BatchRequest { operations: operations.to_vec() }.encode_to_vec()),
        call("Kv/Pipeline", 2, &pipeline.collect::<Vec<_>>().concat()),
        call(
            "Kv/Scan",
            0,
            &v1::ScanRequest { cursor: vec![0, 0, 0, 1, 1, b'a'].into(), keys_only: true, ..Default::default() }
                .encode_to_vec(),
        ),
    ];
    use v1::lookup_path_request::Target;
    let lookup = |target| v1::LookupPathRequest { target: Some(target) }.encode_to_vec();
    let view = [
        call("RingView/Describe", 0, b""),
        call("RingView/FingerTable", 0, b""),
        call("RingView/LookupPath", 0, &lookup(Target::Key("a".into()))),
        call("RingView/LookupPath", 0, &lookup(Target::Id(node(1).id))),
        call("RingView/Watch", 0, b""),
        call("Health/Check", 0, b"\x0a\x0bchord.v1.Kv"),
        call("Health/Watch", 0, b""),
        call("ServerReflectionInfo", 2, &[sized(b"\x3a\x01*"), sized(b"\x22\x0bchord.v1.Kv")].concat()),
    ];
    let target = node(2).id;
    let from = Some(node(1));
    let ring = [
        call("Ring/Ping", 0, &v1::PingRequest { from: from.clone() }.encode_to_vec()),
        call("Ring/Join", 0, &v1::JoinRequest { joiner: from.clone() }.encode_to_vec()),
        call("Ring/Notify", 0, &v1::NotifyRequest { from: from.clone() }.encode_to_vec()),
        call(
            "Ring/Gossip",
            0,
            &v1::GossipRequest { from: from.clone(), rumors: vec![member(1), member(2)], ..Default::default() }
                .encode_to_vec(),
        ),
        call(
            "Ring/FindSuccessor",
            0,
            &v1::FindSuccessorRequest { target: target.clone(), hops: 1, trace: true }.encode_to_vec(),
        ),
        call(
            "ClosestPrecedingFinger",
            0,
            &v1::ClosestPrecedingFingerRequest { target: target.clone(), avoid: vec![target], as_owner: true }
                .encode_to_vec(),
        ),
        call("Ring/GetSuccessorList", 0, b""),
        call("Ring/GetPredecessor", 0, b""),
        call("Ring/GetFingerTable", 0, b""),
        call(
            "Ring/Leave",
            0,
            &v1::LeaveRequest { from, predecessor: Some(node(0)), successors: vec![node(2)] }.encode_to_vec(),
        ),
    ];
    let own: prost::bytes::Bytes = vec![0xdd; 16].into();
    let (operator_epoch, disk_uuid) = (1, own.clone());
    let admin = [
        call("Admin/Status", 0, b""),
        call(
            "Admin/Report",
            0,
            &v1::ReportRequest { status: Some(v1::OperatorStatus { operator_epoch, at_ms: 1, ..Default::default() }) }
                .encode_to_vec(),
        ),
        call(
            "Admin/Join",
            0,
            &v1::AdminJoinRequest {
                operator_epoch,
                disk_uuid: disk_uuid.clone(),
                seeds: vec!["n-1:7400".into()],
                ..Default::default()
            }
            .encode_to_vec(),
        ),
        call(
            "Admin/Evict",
            0,
            &v1::EvictRequest { operator_epoch, id: node(1).id, disk_uuid: node(1).disk_uuid }.encode_to_vec(),
        ),
        call(
            "Admin/PrepareRestart",
            0,
            &v1::PrepareRestartRequest { operator_epoch, disk_uuid: disk_uuid.clone(), ttl_ms: 50 }.encode_to_vec(),
        ),
        call("Admin/Leave", 0, &v1::AdminLeaveRequest { operator_epoch, disk_uuid: disk_uuid.clone() }.encode_to_vec()),
        call("Admin/AbortLeave", 0, &v1::AbortLeaveRequest { operator_epoch, disk_uuid }.encode_to_vec()),
    ];
    let hello = v1::Hello {
        from: Some(node(1)),
        ring_id: RING_ID.to_be_bytes().to_vec().into(),
        to_disk_uuid: own,
        session: 1,
    };
    let mut frames = vec![v1::ShardFrame { hello: Some(hello), messages: Vec::new() }];
    frames
        .extend(shard_messages().chunks(6).map(|messages| v1::ShardFrame { hello: None, messages: messages.to_vec() }));
    let frames: Vec<Bytes> = frames.iter().map(|frame| sized(&frame.encode_to_vec())).collect();
    let shard = [call("Shard/Exchange", 2, &frames.concat()), call("Kv/Get", 0, &get("a").encode_to_vec())];
    let mixed = [ring[3].clone(), kv[0].clone(), shard[0].clone(), admin[5].clone(), kv[2].clone()];
    vec![
        ("kv", kv.concat()),
        ("many", many.concat()),
        ("view", view.concat()),
        ("ring", ring.concat()),
        ("admin", admin.concat()),
        ("shard", shard.concat()),
        ("mixed", mixed.concat()),
        ("other-port", [call("Kv/Get", 0x70, &get("a").encode_to_vec()), call("Kv/Get", 3, b"garbage")].concat()),
    ]
}

/// One of every kind.
fn shard_messages() -> Vec<v1::ShardMessage> {
    use v1::shard_message::Kind;
    let version = Some(v1::Version { epoch: 1, ballot: 1, seq: 5 });
    let next = Some(v1::NextConfig { epoch: 2, members: vec![key(0), key(1)] });
    let record = v1::Record { key: "a".into(), version, value: Some("v".into()), ..Default::default() };
    let digest: prost::bytes::Bytes = vec![0; 16].into();
    let kinds = [
        Kind::Prepare(v1::Prepare {}),
        Kind::Promise(v1::Promise {
            seal: Some(v1::SealState { ballot: 1, next: next.clone() }),
            digest: digest.clone(),
        }),
        Kind::ReadKey(v1::ReadKey { key: "a".into() }),
        Kind::KeyState(v1::KeyState { key: "a".into(), record: Some(record.clone()) }),
        Kind::Write(v1::Write { record: Some(record.clone()) }),
        Kind::WriteAck(v1::WriteAck { key: "a".into(), version }),
        Kind::Confirm(v1::Confirm { number: 1 }),
        Kind::ConfirmAck(v1::ConfirmAck { number: 1 }),
        Kind::Seal(v1::Seal { next: next.clone() }),
        Kind::SealAck(v1::SealAck { digest: digest.clone() }),
        Kind::TransferRequest(v1::TransferRequest { round: 1, ..Default::default() }),
        Kind::TransferChunk(v1::TransferChunk { records: vec![record.clone()], round: 1, last: true }),
        Kind::Install(v1::Install {
            next,
            records: vec![record],
            last: true,
            digest,
            full: true,
            ..Default::default()
        }),
    ];
    kinds.into_iter().map(|kind| v1::ShardMessage { shard: 1, epoch: 1, ballot: 1, kind: Some(kind) }).collect()
}

fn description(ordinal: u8) -> v1::DescribeResponse {
    v1::DescribeResponse {
        node: Some(node(ordinal)),
        state: v1::MemberState::Serving.into(),
        ring_id: vec![7; 16].into(),
        predecessor: Some(node(2)),
        successors: vec![node(1), node(2)],
        members: vec![member(0), member(1), member(2)],
        stats: Some(v1::NodeStats { keys_leader: 5, lookups: 3, lookup_hops: 7, ..Default::default() }),
        version: "0.1.0".into(),
        shards: 4,
        replication_factor: 3,
        ..Default::default()
    }
}

fn told() -> Vec<(&'static str, Bytes)> {
    use v1::watch_response::Kind;
    let said = |kind| sized(&v1::WatchResponse { kind: Some(kind) }.encode_to_vec());
    let event =
        v1::RingEvent { at_ms: 5, kind: "join".into(), subject: Some(node(1)), shard: Some(1), message: "m".into() };
    let mut gone = description(1);
    gone.members[0].state = v1::MemberState::Left.into();
    let ring =
        [said(Kind::Description(description(0))), said(Kind::Description(description(1))), said(Kind::Event(event))];
    let silent = [ring[0].clone(), sized(b""), said(Kind::Description(gone))];
    vec![("ring", ring.concat()), ("silent", silent.concat())]
}

/// An answer of `client`: a status of 0 is followed by the message, another one by its details.
fn answer(status: u8, message: &[u8]) -> Bytes {
    [&[status][..], &sized(message)].concat()
}

fn client() -> Vec<(&'static str, Bytes)> {
    let config = |shard| v1::ShardConfig { shard, epoch: 1, members: vec![0, 1, 2], leader: Some(shard % 3) };
    let members = vec![member(0), member(1), member(2)];
    let map =
        v1::ShardMapResponse { ring_id: vec![7; 16].into(), shards: 4, configs: (0..4).map(config).collect(), members };
    let map = answer(0, &map.encode_to_vec());
    let version = Some(v1::Version { epoch: 1, ballot: 1, seq: 5 });
    let get = answer(0, &v1::GetResponse { value: Some("v".into()), version, ttl_ms: Some(5) }.encode_to_vec());
    let put = answer(0, &v1::PutResponse { version }.encode_to_vec());
    let cas = answer(0, &v1::CompareAndSetResponse { applied: true, version }.encode_to_vec());
    let delete = answer(0, &v1::DeleteResponse { existed: true }.encode_to_vec());
    let entry = v1::ScanEntry { key: "a".into(), value: "v".into(), version };
    let scan =
        answer(0, &v1::ScanResponse { entries: vec![entry], next_cursor: vec![0, 0, 0, 1, 0].into() }.encode_to_vec());
    use v1::operation_result::Kind;
    let result = |kind| v1::OperationResult { kind: Some(kind) };
    let results = vec![
        result(Kind::Put(v1::PutResponse { version })),
        result(Kind::Error(v1::OperationError { code: 10, message: "m".into() })),
    ];
    let batch = answer(0, &v1::BatchResponse { results }.encode_to_vec());
    let errors: Vec<Bytes> =
        [14, 10, 4, 8, 3, 7, 13].map(|status| answer(status, b"nothing was changed: why")).to_vec();
    vec![
        ("answers", [&map, &get, &put, &cas, &delete, &scan, &batch, &map].map(Clone::clone).concat()),
        ("errors", [map.clone(), errors.concat()].concat()),
        ("map-only", map),
    ]
}

fn gateway() -> Vec<(&'static str, Bytes)> {
    let frame = |first: u8, text: &str| [&[first, text.len() as u8][..], text.as_bytes()].concat();
    let with = |kind: u8, rest: &[u8]| [&[kind][..], rest].concat();
    let path = v1::LookupPathResponse {
        target: node(1).id,
        hops: vec![v1::Hop { node: Some(node(0)), via: "finger 3".into(), elapsed_us: 5 }],
        owner: Some(node(1)),
        shard: 1,
        leader: Some(node(1)),
        replicas: vec![node(1), node(2)],
    };
    let finger = v1::Finger { index: 3, start: node(1).id, node: Some(node(1)) };
    let fingers = v1::FingerTableResponse { fingers: vec![finger] };
    let play = "{\"type\":\"put\",\"key\":\"a\",\"value\":\"b\"}\n{\"type\":\"add\"}\n{\"type\":\"speed\",\"factor\":8}\n\
        {\"type\":\"fail\",\"node\":1}\n{\"type\":\"step\"}\n{\"type\":\"cut\",\"nodes\":[0]}\n{\"type\":\"heal\"}\n\
        {\"type\":\"lookup\",\"node\":0,\"key\":\"a\"}\n{\"type\":\"leave\",\"node\":2}\n{\"type\":\"revive\",\"node\":1}\n\
        {\"type\":\"fill\",\"keys\":5}\n{\"type\":\"get\",\"key\":\"a\"}\n{\"type\":\"reset\",\"nodes\":2}";
    let raw = "GET /api/v1/ring HTTP/1.1\r\nHost: demo\r\n\r\nHEAD / HTTP/1.1\r\nHost: demo\r\nAccept-Encoding: gzip\r\n\r\n\
        POST /api/v1/ring HTTP/1.1\r\nHost: demo\r\nContent-Length: 2\r\n\r\n{}";
    vec![
        ("ring", with(0, b"ring")),
        ("node", with(0, format!("ring/nodes/{}", Id::of_ordinal(0)).as_bytes())),
        ("events", with(0, b"events?since=3")),
        ("stats", with(0, b"stats")),
        ("lookup", with(0, b"lookup?keyBase64=YQ&from=00")),
        ("raw", with(1, raw.as_bytes())),
        (
            "socket",
            with(
                2,
                &[frame(0x81, "{\"type\":\"resume\",\"sequence\":1}"), frame(0x89, "ping"), frame(0x88, "")].concat(),
            ),
        ),
        (
            "playing",
            with(3, &[frame(0x81, "{\"type\":\"put\",\"key\":\"a\",\"value\":\"b\"}"), frame(0x88, "")].concat()),
        ),
        ("sandbox", with(4, play.as_bytes())),
        ("answers", with(5, &[answer(0, &path.encode_to_vec()), answer(0, &fingers.encode_to_vec())].concat())),
    ]
}

fn words() -> Vec<(&'static str, Bytes)> {
    let with = |kind: u8, text: &str| [&[kind][..], text.as_bytes()].concat();
    let line = "{\"client\":1,\"key\":0,\"operation\":\"get\",\"invoke_ns\":1,\"return_ns\":5,\"answer\":{}}\n";
    vec![
        (
            "node-config",
            with(0, "name = \"n-0\"\nring-name = \"demo\"\ndata-dir = \"data\"\nshards = 64\nbootstrap = true\n"),
        ),
        (
            "gateway-config",
            with(1, "ring-name = \"demo\"\nendpoints = [\"a:1\", \"b:2\"]\nburst = 7\nbase-path = \"/x\"\n"),
        ),
        ("history", with(2, line)),
        ("duration", with(3, "1m30s500ms")),
        ("address", with(4, "n-0.demo.svc:7400")),
        ("address-v6", with(4, "[::1]:7400")),
    ]
}

fn main() {
    let corpora = [("rpc", rpc()), ("told", told()), ("client", client()), ("gateway", gateway()), ("words", words())];
    for (target, seeds) in corpora {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
        fs::create_dir_all(&dir).expect("a directory");
        for (name, bytes) in seeds {
            fs::write(dir.join(name), bytes).expect("room for a seed");
        }
    }
}
