//! Every method of every service that a node has, in any order, with whatever bytes as its stream of messages.
use bytes::Bytes;
use chord::{
    Core,
    id::Id,
    io::{AdminAction, AdminRequest, Input},
    member::{Disk, MemberKey, NodeRef},
    settings::Settings,
    shard::{
        config::{ReplicaMeta, ShardId},
        digest::Digest,
        record::{Record, Version},
    },
    store::{Change, Expiry, NodeMeta, Seq, Store},
};
use chord_gateway::sandbox::store::MemStore;
use chord_node::{
    app::{Services, services},
    driver::{Clock, Command, Driver},
    peers::Peers,
    rpc::{
        kv::FORWARDED,
        roles::{Caller, Role, Roles, RolesLayer},
    },
};
use chord_proto::{DESCRIPTORS, v1};
use http::{Request, StatusCode, header};
use hyper::body::Body as _;
use prost::Message;
use rand::SeedableRng as _;
use rand_chacha::ChaCha12Rng;
use std::{
    future::poll_fn,
    io,
    pin::Pin,
    sync::{Arc, LazyLock},
    thread::JoinHandle,
    time::Duration,
};
use tokio::{runtime::Handle, time::timeout};
use tonic::service::Routes;
use tower::{Layer as _, ServiceExt as _};

/// Most calls of one run.
const CALLS_MAX: usize = 32;
/// Every call is answered within this, however busy the machine: the longest time that a method takes for itself is 10 s.
const ANSWER_MAX: Duration = Duration::from_secs(40);
/// Silence after which a stream that has begun is not listened to any more.
const QUIET: Duration = Duration::from_millis(5);
/// Most messages taken from a stream.
const MESSAGES_MAX: usize = 8;
/// Stands for the node's own disk, which no caller can guess: as another start of itself it would end the process.
const OWN_DISK: [u8; 16] = [0xdd; 16];
/// The ring it founded.
pub const RING_ID: u128 = 7;

/// Paths of all methods: those of the contracts, in their order, and what tonic adds.
pub static METHODS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let files = prost_types::FileDescriptorSet::decode(DESCRIPTORS).expect("our own descriptors");
    let services = files.file.iter().flat_map(|file| file.service.iter().map(move |service| (file.package(), service)));
    let mut methods: Vec<String> = services
        .flat_map(|(package, service)| {
            let path = move |method: &str| format!("/{package}.{}/{method}", service.name());
            service.method.iter().map(move |method| path(method.name()))
        })
        .collect();
    methods.extend(["Check", "Watch"].map(|method| format!("/grpc.health.v1.Health/{method}")));
    methods.push("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo".into());
    methods
});

/// A disk whose writes are durable at once.
struct Durable {
    memory: MemStore,
    driver: Driver,
}

impl Store for Durable {
    fn node(&self) -> Option<NodeMeta> {
        self.memory.node()
    }
    fn metas(&self) -> Vec<(ShardId, ReplicaMeta)> {
        self.memory.metas()
    }
    fn get(&self, shard: ShardId, key: &[u8]) -> Option<Record> {
        self.memory.get(shard, key)
    }
    fn scan(&self, shard: ShardId, after: Option<&[u8]>, limit: usize, bytes_max: usize) -> Vec<(Bytes, Record)> {
        self.memory.scan(shard, after, limit, bytes_max)
    }
    fn versions(&self, shard: ShardId) -> Vec<(Bytes, Version)> {
        self.memory.versions(shard)
    }
    fn digest(&self, shard: ShardId) -> Digest {
        self.memory.digest(shard)
    }
    fn expiring(&self, until_ms: u64, limit: usize) -> Vec<Expiry> {
        self.memory.expiring(until_ms, limit)
    }
    fn write(&mut self, changes: Vec<Change>) -> Seq {
        let written = self.memory.write(changes);
        self.driver.send(Command::Input(Input::Persisted(written)));
        written
    }
}

/// A node that founded a ring: its core's thread and its services, without sockets and disk.
struct Node {
    driver: Driver,
    core: JoinHandle<()>,
    internal: Roles<Routes>,
    client: Roles<Routes>,
    disk: [u8; 16],
}

impl Node {
    async fn start() -> Node {
        let disk = rand::random::<u128>();
        let me = NodeRef {
            key: MemberKey { id: Id::of_ordinal(0), disk: Disk(disk) },
            incarnation: 0,
            name: "n-0".into(),
            internal_addr: "n-0:7400".into(),
            client_addr: "n-0:7401".into(),
            zone: String::new(),
        };
        let (driver, commands) = Driver::new();
        let store = Durable { memory: MemStore::default(), driver: driver.clone() };
        let (mut rng, clock) = (ChaCha12Rng::seed_from_u64(1), Clock::start());
        let settings = Settings { shards: 4, ..Settings::default() };
        let core = Core::start(clock.now(), &mut rng, store, me, settings).expect("settings are right");
        let me = core.me().clone();
        // Nobody lives where the fuzzer says that peers live.
        let nobody = Arc::new(|_| -> chord_client::net::Dialling {
            Box::pin(async { Err(io::ErrorKind::ConnectionRefused.into()) })
        });
        let peers = Peers::new(None, nobody, driver.clone(), Handle::current());
        peers.set_me(me.clone());
        peers.set_ring_id(Some(RING_ID));
        let Services { internal, client, .. } =
            services(&driver, &peers, me.key, &std::env::temp_dir(), None).expect("our own descriptors");
        let core = driver.start(core, rng, clock, commands, peers).expect("a thread");
        let action = AdminAction::Bootstrap { ring_id: RING_ID };
        let founded = driver.admin(AdminRequest { operator_epoch: None, disk: None, action }).await;
        assert!(matches!(founded, Ok(Ok(()))), "{founded:?}");
        let (internal, client) = (RolesLayer.layer(internal), RolesLayer.layer(client));
        Node { driver, core, internal, client, disk: disk.to_be_bytes() }
    }

    /// Whether anything but an error came back. Like a caller would, it does not wait for more than it has to.
    async fn call(&self, path: &str, how: How, message: &[u8]) -> bool {
        let internal = ["Ring", "Shard", "Admin"].map(|name| format!("/chord.v1.{name}/"));
        let is_internal = internal.iter().any(|service| path.starts_with(service)) != how.other_port();
        let (service, roles) = match is_internal {
            true => (&self.internal, vec![Role::Node, Role::Operator]),
            false => (&self.client, vec![Role::Client]),
        };
        let mut body = how.framed(message);
        if path.starts_with(&internal[1]) || path.starts_with(&internal[2]) {
            while let Some(at) = body.windows(OWN_DISK.len()).position(|part| part == OWN_DISK) {
                body[at..at + OWN_DISK.len()].copy_from_slice(&self.disk);
            }
        }
        let mut request = Request::post(path)
            .header(header::CONTENT_TYPE, "application/grpc")
            .header(header::TE, "trailers")
            .header("grpc-timeout", "20m");
        if how.forwarded() {
            request = request.header(FORWARDED, "1");
        }
        let mut request = request.body(axum::body::Body::from(body)).expect("a request");
        request.extensions_mut().insert(Caller { roles });
        let answer = timeout(ANSWER_MAX, service.clone().oneshot(request)).await;
        let Ok(answer) = answer.unwrap_or_else(|_| panic!("{path} did not answer"));
        assert_eq!(answer.status(), StatusCode::OK, "gRPC puts its errors elsewhere");
        let (mut body, mut messages) = (answer.into_body(), 0);
        while messages < MESSAGES_MAX {
            // Trailers are the end, as they are for HTTP: a stream that is asked for more after them has no end.
            let next = timeout(QUIET, poll_fn(|cx| Pin::new(&mut body).poll_frame(cx))).await;
            let Ok(Some(Ok(frame))) = next else { break };
            if !frame.is_data() {
                break;
            }
            messages += 1;
        }
        messages > 0
    }

    /// Whether the core lives and, if it must, serves.
    async fn check(&self, serves: bool) {
        let whole = How(0);
        assert!(self.call("/chord.v1.RingView/Describe", whole, b"").await, "the core is gone");
        let client = Bytes::copy_from_slice(&rand::random::<[u8; 16]>());
        let op_id = Some(v1::OpId { client, number: 1, ..v1::OpId::default() });
        let key = Bytes::from_static(b"afterwards");
        let put = v1::PutRequest { key: key.clone(), value: key.clone(), op_id, ttl_ms: None }.encode_to_vec();
        let get = v1::GetRequest { key, stale_ok: false }.encode_to_vec();
        for (method, message) in [("Put", put), ("Get", get)] {
            let mut served = false;
            // 20 ms may not be enough on a busy machine.
            for _ in 0..if serves { 200 } else { 1 } {
                served = served || self.call(&format!("/chord.v1.Kv/{method}"), whole, &message).await;
            }
            assert!(served || !serves, "{method} is not served any more");
        }
    }
}

/// How a call is made.
#[derive(Clone, Copy)]
struct How(u8);

impl How {
    /// As from another node.
    fn forwarded(self) -> bool {
        self.0 & 8 != 0
    }
    /// Not where the method is.
    fn other_port(self) -> bool {
        self.0 & 0x70 == 0x70
    }
    /// The stream: one message, several of which each has its length before it (u16 LE), or the bytes as they are.
    fn framed(self, bytes: &[u8]) -> Vec<u8> {
        let frame = |message: &[u8]| {
            let length = u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes();
            [&[self.0 >> 7][..], &length, message].concat()
        };
        match self.0 % 4 {
            0 | 1 => frame(bytes),
            2 => {
                let (mut rest, mut frames) = (bytes, Vec::new());
                while let Some((length, after)) = rest.split_first_chunk() {
                    let (message, after) = after.split_at(after.len().min(u16::from_le_bytes(*length).into()));
                    frames.extend(frame(message));
                    rest = after;
                }
                frames
            }
            _ => bytes.to_vec(),
        }
    }
}

/// Calls what the bytes say: method, how, length (u16 LE), messages; again and again. Afterwards the node lives; and
/// when only applications have called, it serves.
pub fn rpc(data: &[u8]) -> bool {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let node = Node::start().await;
        let (mut rest, mut answered, mut serves) = (data, false, true);
        for _ in 0..CALLS_MAX {
            let Some((&[method, how, low, high], after)) = rest.split_first_chunk() else { break };
            let (message, after) = after.split_at(after.len().min(u16::from_le_bytes([low, high]).into()));
            let path = &METHODS[usize::from(method) % METHODS.len()];
            answered |= node.call(path, How(how), message).await;
            serves &= !["Ring/", "Shard/", "Admin/"].iter().any(|service| path.contains(service));
            rest = after;
        }
        node.check(serves).await;
        node.driver.send(Command::Stop);
        let ended = tokio::task::spawn_blocking(move || node.core.join()).await;
        assert!(matches!(ended, Ok(Ok(()))), "the core's thread panicked");
        answered
    })
}
