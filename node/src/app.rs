//! Builds a node, runs it, and ends it in good order.
use crate::{
    args::{Args, LogFormat, OnSigterm, Placement},
    disk,
    driver::{Clock, Command, Driver},
    http::{Probes, router},
    identity::DataDir,
    listen::{Door, connections},
    peers::Peers,
    recorder,
    rpc::{
        admin::AdminService,
        kv::KvService,
        peer::PeerService,
        roles::{Role, RolesLayer},
        told::Told,
        view::ViewService,
    },
    store::FjallStore,
};
use anyhow::Context as _;
use chord::{
    Core,
    id::Id,
    io::{AdminAction, AdminRequest, Input},
    member::{Disk, MemberKey, MemberState, NodeRef},
    time::Nanos,
};
use chord_client::net::{self, Tls};
use chord_proto::{
    DESCRIPTORS, MESSAGE_BYTES_MAX,
    v1::{
        admin_server::AdminServer, kv_server::KvServer, ring_server::RingServer, ring_view_server::RingViewServer,
        shard_server::ShardServer,
    },
};
use rand::SeedableRng as _;
use rand_chacha::ChaCha12Rng;
use std::{
    path::Path,
    time::{Duration, Instant},
};
use tokio::{net::TcpListener, sync::watch};
use tonic::{service::Routes, transport::Server};
use tonic_health::server::HealthReporter;

/// So long must nobody be there who could take the data before a leave gives up.
const NOBODY: Duration = Duration::from_secs(3);

/// A node whose sockets are bound and whose core runs.
pub struct App {
    args: Args,
    driver: Driver,
    internal: TcpListener,
    client: TcpListener,
    http: TcpListener,
    peers: Peers,
    tls: Option<Tls>,
    probes: Probes,
    me: NodeRef,
    _data: DataDir,
}

impl App {
    /// Opens the data directory, binds all sockets, starts the core.
    ///
    /// # Errors
    /// What is wrong and what to do about it; nothing is served then.
    pub async fn build(args: Args) -> anyhow::Result<App> {
        let data = DataDir::open(&args.data_dir, &args.name, &args.ring_name, &args.namespace)?;
        let bind = async |addr| TcpListener::bind(addr).await.with_context(|| format!("cannot listen on {addr}"));
        let (internal, client, http) =
            (bind(args.internal_addr).await?, bind(args.client_addr).await?, bind(args.http_addr).await?);
        let tls = args.tls_dir.as_deref().map(Tls::from_dir).transpose().context("cannot use --tls-dir")?;
        let metrics = recorder::install(recorder::UPKEEP)?;
        let id = match (args.placement, args.ordinal()) {
            (Placement::Balanced, Some(ordinal)) => Id::of_ordinal(ordinal),
            _ => Id::of_name(&args.name),
        };
        let advertise = |given: &Option<String>, listener: &TcpListener| -> anyhow::Result<String> {
            Ok(given.clone().map_or_else(|| listener.local_addr().map(|addr| addr.to_string()), Ok)?)
        };
        let me = NodeRef {
            key: MemberKey { id, disk: Disk(data.disk()?) },
            incarnation: 0,
            name: args.name.clone(),
            internal_addr: advertise(&args.advertise_internal, &internal)?,
            client_addr: advertise(&args.advertise_client, &client)?,
            zone: args.zone.clone(),
        };
        let (driver, commands) = Driver::new();
        let persisted = {
            let driver = driver.clone();
            move |seq| driver.send(Command::Input(Input::Persisted(seq)))
        };
        let store = FjallStore::open(&data.store(), persisted).context("cannot open the store in --data-dir")?;
        store.scrub(args.scrub_interval)?;
        let pending = store.pending();
        let mut rng = ChaCha12Rng::from_rng(&mut rand::rng());
        let clock = Clock::start();
        let core = Core::start(clock.now(), &mut rng, store, me, args.settings()).map_err(anyhow::Error::msg)?;
        let me = core.me().clone();
        let peers = Peers::new(tls.clone(), net::tcp(), driver.clone(), tokio::runtime::Handle::current());
        peers.set_me(me.clone());
        peers.set_ring_id(core.ring_id());
        tracing::info!(name = me.name, id = %me.id(), incarnation = me.incarnation, state = ?core.state(), "starting");
        driver.start(core, rng, clock, commands, peers.clone())?;
        let probes = Probes { driver: driver.clone(), metrics, tls: tls.clone() };
        tokio::spawn(disk::watch(args.data_dir.clone(), pending, driver.clone()));
        Ok(App { args, driver, internal, client, http, peers, tls, probes, me, _data: data })
    }

    /// Serves until `shutdown` yields, then ends as `--on-sigterm` says. A second yield ends at once.
    ///
    /// # Errors
    /// When a server fails.
    pub async fn run(self, mut shutdown: watch::Receiver<u32>) -> anyhow::Result<()> {
        let App { args, driver, internal, client, http, peers, tls, probes, me, _data } = self;
        let (stop, _) = watch::channel(false);
        let stopped = || {
            let mut stop = stop.subscribe();
            async move {
                let _ = stop.wait_for(|stop| *stop).await;
            }
        };
        let door = |open_roles: Vec<Role>| Door {
            tls: tls.clone(),
            namespace: args.namespace.clone(),
            ring: args.ring_name.clone(),
            open_roles,
        };
        let Services { internal: for_peers, client: for_clients, health } =
            services(&driver, &peers, me.key, &args.data_dir, tls.as_ref())?;
        let internal_server = server()
            .add_routes(for_peers)
            .serve_with_incoming_shutdown(connections(internal, door(vec![Role::Node, Role::Operator])), stopped());
        let client_server = server()
            .add_routes(for_clients)
            .serve_with_incoming_shutdown(connections(client, door(vec![Role::Client])), stopped());
        let http_server = axum::serve(http, router(probes)).with_graceful_shutdown(stopped());
        let internal_server = tokio::spawn(internal_server);
        let client_server = tokio::spawn(client_server);
        tokio::spawn(http_server.into_future());
        if let Some(tls) = tls.clone() {
            tokio::spawn(tls.follow());
        }
        tokio::spawn(follow_state(driver.clone(), peers.clone(), health));
        begin(&args, &driver).await?;

        let first = shutdown.wait_for(|signals| *signals >= 1).await.map(|_| ());
        if first.is_ok() {
            tracing::info!(how = ?args.on_sigterm(), "ending");
            let again = shutdown.wait_for(|signals| *signals >= 2);
            tokio::select! {
                () = drain(&args, &driver) => {}
                _ = again => tracing::warn!("a second signal: ending at once"),
            }
        }
        let _ = stop.send(true);
        // Calls under way finish within what is left of the time; streams of peers end with the process.
        let rest = async {
            let _ = client_server.await;
            let _ = internal_server.await;
        };
        let _ = tokio::time::timeout(Duration::from_millis(1500).min(args.drain_timeout), rest).await;
        Ok(())
    }
}

/// What a node answers on its two ports for gRPC, whoever has accepted the connection.
pub struct Services {
    /// Nodes and the operator.
    pub internal: Routes,
    /// Applications, and those who look.
    pub client: Routes,
    /// Where both say whether the node serves.
    pub health: HealthReporter,
}

/// The services over a core; `data_dir`: whose volume is measured.
///
/// # Errors
/// Never for the descriptors of this build.
pub fn services(
    driver: &Driver,
    peers: &Peers,
    me: MemberKey,
    data_dir: &Path,
    tls: Option<&Tls>,
) -> anyhow::Result<Services> {
    let (health, health_service) = tonic_health::server::health_reporter();
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?;
    let peer = PeerService::new(driver.clone(), me);
    let told = Told::default();
    let admin = AdminService::new(driver.clone(), data_dir.to_owned(), tls.cloned(), told.clone());
    let internal = Routes::new(RingServer::new(peer.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX))
        .add_service(ShardServer::new(peer).max_decoding_message_size(4 * MESSAGE_BYTES_MAX))
        .add_service(AdminServer::new(admin))
        .add_service(health_service.clone())
        .add_service(reflection.clone());
    let kv = KvServer::new(KvService::new(driver.clone(), peers.clone()))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let client = Routes::new(kv)
        .add_service(RingViewServer::new(ViewService::new(driver.clone(), told)))
        .add_service(health_service)
        .add_service(reflection);
    Ok(Services { internal, client, health })
}

fn server() -> Server<tower::layer::util::Stack<RolesLayer, tower::layer::util::Identity>> {
    Server::builder()
        .http2_keepalive_interval(Some(Duration::from_secs(10)))
        .http2_keepalive_timeout(Some(Duration::from_secs(10)))
        .max_concurrent_streams(Some(4096))
        .initial_stream_window_size(4 << 20)
        .initial_connection_window_size(16 << 20)
        .layer(RolesLayer)
}

/// Outside of Kubernetes the flags say which ring a fresh node founds or joins.
async fn begin(args: &Args, driver: &Driver) -> anyhow::Result<()> {
    let state = driver.inspect(|core| core.state()).await?;
    if state != MemberState::Empty || args.managed {
        return Ok(());
    }
    let action = if args.bootstrap {
        AdminAction::Bootstrap { ring_id: uuid::Uuid::new_v4().as_u128() }
    } else {
        AdminAction::Join { seeds: args.join.clone(), ring_id: None }
    };
    let done = driver.admin(AdminRequest { operator_epoch: None, disk: None, action }).await?;
    done.map_err(|error| anyhow::anyhow!("{error:?}"))
}

/// Keeps what depends on the member's state in step with it.
async fn follow_state(driver: Driver, peers: Peers, health: HealthReporter) {
    let mut timer = tokio::time::interval(Duration::from_millis(200));
    loop {
        timer.tick().await;
        let Ok((state, ring_id)) = driver.inspect(|core| (core.state(), core.ring_id())).await else { return };
        peers.set_ring_id(ring_id);
        let ready = matches!(state, MemberState::Serving | MemberState::Leaving);
        let status = if ready { tonic_health::ServingStatus::Serving } else { tonic_health::ServingStatus::NotServing };
        health.set_service_status("", status).await;
        health.set_service_status("chord.v1.Kv", status).await;
        health.set_service_status("chord.v1.RingView", status).await;
    }
}

/// Whether any other member could take what this one holds.
fn others_stay(core: &dyn crate::driver::Inspect) -> bool {
    let me = core.me().key;
    core.view().iter().any(|(member, _)| member.node.key != me && member.state.is_eligible())
}

/// Hands over what can be handed over, within the time there is. Serves all the while.
async fn drain(args: &Args, driver: &Driver) {
    let (action, done): (_, fn(MemberState, u32) -> bool) = match args.on_sigterm() {
        OnSigterm::Leave => (AdminAction::Leave, |state, _| state.is_final()),
        OnSigterm::Restart => {
            (AdminAction::PrepareRestart { ttl: Nanos::from(args.drain_timeout) }, |_, shards_led| shards_led == 0)
        }
    };
    let wait = async {
        match driver.admin(AdminRequest { operator_epoch: None, disk: None, action }).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return tracing::warn!(?error, "nothing is handed over; the data stays on this disk"),
            Err(_) => return,
        }
        let mut nobody_since = None;
        let look = || driver.inspect(|core| (core.state(), core.status().shards_led, others_stay(core)));
        while let Ok((state, led, others_stay)) = look().await {
            if done(state, led) {
                // Time for the last word to reach the others.
                return tokio::time::sleep(Duration::from_millis(300)).await;
            }
            // When the whole ring ends, nobody can take anything: waiting longer would change nothing.
            let since = *nobody_since.get_or_insert_with(Instant::now);
            if others_stay {
                nobody_since = None;
            } else if since.elapsed() > NOBODY {
                return tracing::warn!("no other member stays: the data stays on this disk, start again to have it");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    // A restart waits only for leadership: without anybody to take it there is no point in waiting long.
    let most = match args.on_sigterm() {
        OnSigterm::Leave => args.drain_timeout,
        OnSigterm::Restart => args.drain_timeout.min(Duration::from_secs(3)),
    };
    if tokio::time::timeout(most, wait).await.is_err() {
        tracing::warn!("the time to hand over is up; what was not handed over stays on this disk");
    }
}

/// Starts logging.
///
/// # Errors
/// When `--log-level` is not a filter.
pub fn log(level: &str, format: LogFormat) -> anyhow::Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_new(level)
        .with_context(|| format!("--log-level `{level}` is neither a level nor a filter"))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Json => builder.json().flatten_event(true).init(),
        LogFormat::Text => builder.init(),
    }
    Ok(())
}
