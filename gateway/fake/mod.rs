//! A ring that is none: real `RingView` servers over one invented state. For tests, and for work on the dashboard.
#![allow(dead_code)] // Each user uses a part of it.
mod view;

use chord::id::Id;
use chord_proto::v1::{self, MemberState, ring_view_server::RingViewServer};
use rand::RngExt as _;
use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use tokio::{net::TcpListener, sync::broadcast};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Server, ServerTlsConfig};

pub const SHARDS: u32 = 256;
pub const REPLICAS: usize = 3;

/// One member of the invented ring.
pub struct Fake {
    pub node: v1::NodeRef,
    pub state: MemberState,
    pub revision: u64,
    /// Others see it as reachable.
    pub is_up: bool,
    /// It takes calls and never answers.
    pub is_hung: bool,
    pub stats: v1::NodeStats,
    pub started: Instant,
    server: Option<Life>,
}

/// A runtime of its own for each server: when it ends, so does every connection, as with a killed process.
struct Life(Option<tokio::runtime::Runtime>);

impl Drop for Life {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Fake {
    pub fn id(&self) -> Id {
        Id::from_slice(&self.node.id).expect("a fake has a proper id")
    }
    fn is_in_ring(&self) -> bool {
        self.is_up && matches!(self.state, MemberState::Joining | MemberState::Serving | MemberState::Leaving)
    }
}

/// What all fakes know.
pub struct World {
    pub ring_id: [u8; 16],
    pub members: BTreeMap<Id, Fake>,
    /// What an operator told all of them.
    pub operator: Option<v1::OperatorStatus>,
    next_ordinal: u32,
}

impl World {
    /// Ids on the circle, in order.
    pub fn circle(&self) -> Vec<Id> {
        self.members.iter().filter(|(_, fake)| fake.is_in_ring()).map(|(id, _)| *id).collect()
    }

    pub fn successor_of(&self, point: Id) -> Option<Id> {
        let circle = self.circle();
        circle.iter().find(|id| **id >= point).or(circle.first()).copied()
    }

    pub fn by_name(&mut self, name: &str) -> &mut Fake {
        self.members.values_mut().find(|fake| fake.node.name == name).expect("a fake of that name")
    }
}

/// See the module.
#[derive(Clone)]
pub struct FakeRing {
    world: Arc<Mutex<World>>,
    events: broadcast::Sender<(Id, v1::RingEvent)>,
    /// Between two descriptions of a watch.
    pace: Duration,
    tls: Option<ServerTlsConfig>,
}

impl FakeRing {
    /// Of `nodes` members called `demo-node-0` and so on, each with a server on loopback.
    pub fn start(nodes: u32, pace: Duration, tls: Option<ServerTlsConfig>) -> io::Result<FakeRing> {
        let world = World { ring_id: rand::random(), members: BTreeMap::new(), operator: None, next_ordinal: 0 };
        let (world, events) = (Arc::new(Mutex::new(world)), broadcast::channel(256).0);
        let ring = FakeRing { world, events, pace, tls };
        for _ in 0..nodes {
            ring.join(MemberState::Serving)?;
        }
        Ok(ring)
    }

    /// Looks at or changes what is.
    pub fn with<T>(&self, look: impl FnOnce(&mut World) -> T) -> T {
        look(&mut self.world.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Address of a member.
    pub fn address(&self, name: &str) -> String {
        self.with(|world| world.by_name(name).node.client_addr.clone())
    }

    /// Adds the next member; its name.
    pub fn join(&self, state: MemberState) -> io::Result<String> {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?;
        let ordinal = self.with(|world| {
            world.next_ordinal += 1;
            world.next_ordinal - 1
        });
        let (id, name) = (Id::of_ordinal(ordinal), format!("demo-node-{ordinal}"));
        let node = v1::NodeRef {
            id: id.to_bytes().to_vec().into(),
            name: name.clone(),
            disk_uuid: rand::random::<[u8; 16]>().to_vec().into(),
            incarnation: 1,
            internal_addr: format!("127.0.0.1:{}", address.port() ^ 1),
            client_addr: address.to_string(),
            zone: ["north", "south", "west"][ordinal as usize % 3].into(),
        };
        let fake = Fake {
            node,
            state,
            revision: 1,
            is_up: true,
            is_hung: false,
            stats: v1::NodeStats::default(),
            started: Instant::now(),
            server: Some(self.serve(id, listener)?),
        };
        self.with(|world| world.members.insert(id, fake));
        self.tell(&name, "join", "joined the ring; its shards are on their way");
        Ok(name)
    }

    fn serve(&self, id: Id, listener: std::net::TcpListener) -> io::Result<Life> {
        let service = RingViewServer::new(view::View { id, ring: self.clone() });
        let mut server = Server::builder();
        if let Some(tls) = self.tls.clone() {
            server = server.tls_config(tls).map_err(io::Error::other)?;
        }
        listener.set_nonblocking(true)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        runtime.spawn(async move {
            let listener = TcpListener::from_std(listener).expect("a listener is a listener in any runtime");
            if let Err(error) = server.add_service(service).serve_with_incoming(TcpListenerStream::new(listener)).await
            {
                eprintln!("a fake's server ended: {error}");
            }
        });
        Ok(Life(Some(runtime)))
    }

    /// A member moves on in its life; `Left` ones end their server.
    pub fn set_state(&self, name: &str, state: MemberState) {
        self.with(|world| {
            let fake = world.by_name(name);
            (fake.state, fake.revision) = (state, fake.revision + 1);
            if matches!(state, MemberState::Left | MemberState::Evicted) {
                fake.server = None;
            }
        });
        let kind = if matches!(state, MemberState::Joining | MemberState::Serving) { "join" } else { "leave" };
        self.tell(name, kind, &format!("{name} is {state:?}"));
    }

    /// A member dies: its connections break and its port refuses.
    pub fn kill(&self, name: &str) {
        self.with(|world| {
            let fake = world.by_name(name);
            (fake.is_up, fake.server) = (false, None);
        });
        self.tell(name, "suspect", &format!("{name} does not answer"));
    }

    /// A killed member comes back at its address.
    pub async fn revive(&self, name: &str) -> io::Result<()> {
        let address: SocketAddr = self.address(name).parse().map_err(io::Error::other)?;
        // The dead one's connections may hold the port for a moment.
        let listener = loop {
            match std::net::TcpListener::bind(address) {
                Ok(listener) => break listener,
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Err(error) => return Err(error),
            }
        };
        let id = self.with(|world| world.by_name(name).id());
        let server = self.serve(id, listener)?;
        self.with(|world| {
            let fake = world.by_name(name);
            (fake.is_up, fake.server, fake.started) = (true, Some(server), Instant::now());
            fake.node.incarnation += 1;
        });
        self.tell(name, "alive", &format!("{name} answers again"));
        Ok(())
    }

    /// Every member that lives tells something about one.
    pub fn tell(&self, subject: &str, kind: &str, message: &str) {
        let (subject, tellers) = self.with(|world| (world.by_name(subject).node.clone(), world.circle()));
        let event = v1::RingEvent {
            at_ms: now_ms(),
            kind: kind.into(),
            subject: Some(subject),
            shard: None,
            message: message.into(),
        };
        for teller in tellers {
            let _ = self.events.send((teller, event.clone()));
        }
    }

    /// Lets `seconds` of work happen: `keys` spread over the circle, and operations on them.
    pub fn work(&self, keys: u64, operations_per_second: u64, seconds: f64) {
        let mut rng = rand::rng();
        self.with(|world| {
            let circle = world.circle();
            let arcs = circle.iter().zip(circle.iter().cycle().skip(circle.len().saturating_sub(1)));
            let shares: Vec<(Id, f64)> =
                arcs.map(|(id, before)| (*id, chord_gateway::model::share(*before, *id))).collect();
            for (id, share) in &shares {
                let Some(fake) = world.members.get_mut(id) else { continue };
                let stats = &mut fake.stats;
                let rate = operations_per_second as f64 * share * rng.random_range(0.6..1.4);
                let had = stats.keys_replica;
                stats.keys_leader = (keys as f64 * share) as u64;
                stats.keys_replica = stats.keys_leader * REPLICAS.min(shares.len()) as u64;
                stats.keys_received += stats.keys_replica.saturating_sub(had);
                stats.keys_sent += had.saturating_sub(stats.keys_replica);
                stats.bytes = stats.keys_replica * 1044;
                stats.shards_leader = (f64::from(SHARDS) * share) as u32;
                stats.shards_replica = stats.shards_leader * REPLICAS.min(shares.len()) as u32;
                stats.shards_moving = if fake.state == MemberState::Serving { 0 } else { rng.random_range(1..20) };
                stats.gets += (rate * seconds * 0.7) as u64;
                stats.puts += (rate * seconds * 0.28) as u64;
                stats.deletes += (rate * seconds * 0.02) as u64;
                stats.ops_per_second_milli = (rate * 1000.0) as u64;
                stats.latency_p50_us = rng.random_range(180..320);
                stats.latency_p99_us = rng.random_range(900..4200);
                let lookups = (rate * seconds * 0.05) as u64 + 1;
                stats.lookups += lookups;
                stats.lookup_hops += lookups + lookups * (shares.len().ilog2().max(1) as u64 + 1) / 2;
                stats.stabilize_rounds += 1;
            }
        });
    }
}

pub fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}
