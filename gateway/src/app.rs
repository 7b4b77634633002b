//! Puts the parts together: binds first, then serves until told to stop.
use crate::{
    api,
    args::{Args, LogFormat},
    assets::{Assets, EMBEDDED},
    guard::{Guard, guard},
    hub::Hub,
    limit::{Held, Rate},
    model::Model,
    observe::{self, Links, Source},
    probes,
    problem::Problem,
    serve::{Limits, serve},
    ws::Timing,
};
use anyhow::Context as _;
use axum::{
    Router,
    extract::Request,
    response::{IntoResponse as _, Redirect, Response},
};
use chord_client::net::Tls;
use http::{StatusCode, Uri};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpSocket},
    sync::Semaphore,
};
use tokio_util::{
    sync::CancellationToken,
    task::{AbortOnDropHandle, TaskTracker},
};
use tower::ServiceExt as _;

/// Requests under way at once.
const AT_ONCE_MAX: usize = 512;
/// Questions to members under way at once.
const ASKING_MAX: usize = 64;
/// Time for a request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for a request's head, and between two requests.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
/// Time without progress in sending.
const STALL_TIMEOUT: Duration = Duration::from_secs(20);
/// Connections besides the WebSockets.
const CONNECTIONS_MAX: usize = 4096;
/// Connections of one address.
const CONNECTIONS_EACH_MAX: usize = 256;
/// Connections the system holds until they are accepted.
const BACKLOG: u32 = 1024;
/// What the system buffers for a connection.
const SEND_BUFFER_BYTES: u32 = 128 << 10;
/// Time for what is under way after the signal to stop.
const DRAIN: Duration = Duration::from_secs(10);

/// What answers need.
pub struct Shared {
    pub hub: Arc<Hub>,
    pub links: Links,
    /// Begins and ends with `/`.
    pub base_path: String,
    pub allowed_origins: Vec<String>,
    /// WebSockets open.
    pub sockets: Held,
    /// Questions to members.
    pub asking: Semaphore,
    /// Rings to play with.
    pub sandboxes: Held,
    /// Whose world works; all share one thread.
    pub sandbox_turns: Semaphore,
    pub timing: Timing,
    pub shutdown: CancellationToken,
    /// What must end before the process does.
    pub tasks: TaskTracker,
}

impl Shared {
    /// As the flags say, with nobody here yet.
    pub fn new(
        args: &Args,
        hub: Arc<Hub>,
        links: Links,
        timing: Timing,
        shutdown: CancellationToken,
        tasks: TaskTracker,
    ) -> Shared {
        Shared {
            hub,
            links,
            base_path: args.base_path.clone(),
            allowed_origins: args.allowed_origins.clone(),
            sockets: Held::new(args.sockets_per_visitor, args.sockets),
            asking: Semaphore::new(ASKING_MAX),
            // A class may sit behind one address; even so something is left for others.
            sandboxes: Held::new(args.sandboxes.div_ceil(2), args.sandboxes),
            sandbox_turns: Semaphore::new(1),
            timing,
            shutdown,
            tasks,
        }
    }
}

/// A gateway that has bound its ports.
pub struct App {
    args: Args,
    source: Source,
    visitors: TcpListener,
    probes: TcpListener,
    timing: Timing,
}

impl App {
    /// Reads certificates and binds ports.
    ///
    /// # Errors
    /// Which of them failed.
    pub async fn build(args: Args) -> anyhow::Result<App> {
        let tls = args.tls_dir.as_deref().map(Tls::from_dir).transpose().context("--tls-dir")?;
        let source = Source { endpoints: args.endpoints.clone(), tls };
        let bind = |flag: &str, address: SocketAddr| {
            listen(address).with_context(|| format!("cannot listen on {flag} {address}"))
        };
        let (visitors, probes) = (bind("--listen", args.listen)?, bind("--http-addr", args.http_addr)?);
        Ok(App { args, source, visitors, probes, timing: Timing::default() })
    }

    /// With other times for WebSockets.
    #[must_use]
    pub fn timing(mut self, timing: Timing) -> App {
        self.timing = timing;
        self
    }

    /// Where visitors are served, and where probes.
    ///
    /// # Errors
    /// When the system does not know.
    pub fn addresses(&self) -> std::io::Result<(SocketAddr, SocketAddr)> {
        Ok((self.visitors.local_addr()?, self.probes.local_addr()?))
    }

    /// Until `shutdown`, and then until what is under way has ended, at most 10 s.
    ///
    /// # Errors
    /// When metrics cannot be set up.
    pub async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let App { args, source, visitors, probes, timing } = self;
        let stream = format!("{:016x}", rand::random::<u64>());
        let model = Model::new(&args.ring_name, &args.namespace, &stream);
        let hub = Arc::new(Hub::new(model.ring().clone()));
        let (links, tasks) = (Links::default(), TaskTracker::new());
        let shared = Arc::new(Shared::new(&args, hub.clone(), links.clone(), timing, shutdown.clone(), tasks.clone()));
        let _follow = source.tls.clone().map(|tls| AbortOnDropHandle::new(tokio::spawn(tls.follow())));
        let _observe = AbortOnDropHandle::new(tokio::spawn(observe::observe(source, model, hub, links)));

        // Behind proxies all connections come from them.
        let each = if args.trusted_hops == 0 { CONNECTIONS_EACH_MAX } else { usize::MAX };
        let limits = |each| Limits {
            connections: Held::new(each, CONNECTIONS_MAX),
            head_timeout: HEAD_TIMEOUT,
            stall_timeout: STALL_TIMEOUT,
        };
        let probing = probes::router(shared.clone(), metrics_handle()?);
        tokio::spawn(serve(probes, probing, limits(CONNECTIONS_MAX), shutdown.clone(), tasks.clone()));
        allow_files(args.sockets + 2 * CONNECTIONS_MAX);
        tracing::info!(listen = %visitors.local_addr()?, base_path = args.base_path, ring = args.ring_name, "serving");
        serve(visitors, router(shared, &args), limits(each), shutdown, tasks.clone()).await;

        tracing::info!("told to stop");
        tasks.close();
        if tokio::time::timeout(DRAIN, tasks.wait()).await.is_err() {
            tracing::warn!(left = tasks.len(), "ended with connections still open");
        }
        Ok(())
    }
}

/// Every connection is an open file, and many systems allow 1024 until one asks for more.
fn allow_files(wanted: usize) {
    let (wanted, limit) = (wanted as u64, getrlimit(Resource::Nofile));
    let maximum = limit.maximum.unwrap_or(u64::MAX);
    if limit.current.is_none_or(|current| current >= wanted) {
        return;
    }
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted.min(maximum)), ..limit }) {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
    if maximum < wanted {
        tracing::warn!(maximum, wanted, "fewer open files are allowed (ulimit -n) than visitors might need");
    }
}

/// The system would buffer megabytes for each visitor that does not read, and thousands may come.
fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// All that visitors may ask, below the base path.
pub fn router(shared: Arc<Shared>, args: &Args) -> Router {
    let rate = Rate { per_second: args.requests_per_second, burst: args.burst };
    let guarding = Arc::new(Guard::new(&args.base_path, rate, args.trusted_hops, AT_ONCE_MAX, REQUEST_TIMEOUT));
    let assets = Arc::new(Assets::new(EMBEDDED, &args.base_path));
    let base_path = args.base_path.clone();
    let inner = Router::new()
        .nest("/api/v1", api::router(shared))
        .route("/api/{*rest}", axum::routing::any(api::unknown))
        .fallback(async move |request: Request| assets.answer(request.uri(), request.headers()));
    let outer = async move |mut request: Request| -> Response {
        match below(&base_path, request.uri()) {
            Below::Inside(uri) => {
                *request.uri_mut() = uri;
                inner.oneshot(request).await.unwrap_or_else(|never| match never {})
            }
            Below::Root => Redirect::permanent(&base_path).into_response(),
            Below::Outside => {
                let detail = format!("everything is below {base_path}");
                Problem::new(StatusCode::NOT_FOUND, detail).into_response()
            }
        }
    };
    Router::new().fallback(outer).layer(axum::middleware::from_fn_with_state(guarding, guard))
}

/// Where a path is.
#[derive(PartialEq, Eq, Debug)]
enum Below {
    /// Below the base path: the rest.
    Inside(Uri),
    /// The base path without its last `/`, or the root.
    Root,
    Outside,
}

fn below(base_path: &str, uri: &Uri) -> Below {
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let inside = path.strip_prefix(base_path).and_then(|rest| format!("/{rest}").parse().ok());
    match inside {
        Some(uri) => Below::Inside(uri),
        None if uri.path() == "/" || uri.path() == base_path.trim_end_matches('/') => Below::Root,
        None => Below::Outside,
    }
}

/// One recorder for the process, however many gateways run in it.
fn metrics_handle() -> anyhow::Result<PrometheusHandle> {
    static HANDLE: OnceLock<Result<PrometheusHandle, String>> = OnceLock::new();
    let install = || PrometheusBuilder::new().install_recorder().map_err(|error| error.to_string());
    HANDLE.get_or_init(install).clone().map_err(|error| anyhow::anyhow!("metrics: {error}"))
}

/// Sets up the log, on standard error.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_taken_off_their_base() {
        let at = |base, path: &str| below(base, &path.parse().expect("a path"));
        let inside = |path: &str| Below::Inside(path.parse().expect("a path"));
        assert_eq!(at("/", "/api/v1/ring?a=b"), inside("/api/v1/ring?a=b"));
        assert_eq!(at("/x/y/", "/x/y/api/v1/ring?a=b"), inside("/api/v1/ring?a=b"));
        assert_eq!(at("/x/y/", "/x/y/"), inside("/"));
        assert_eq!(at("/x/y/", "/x/y"), Below::Root);
        assert_eq!(at("/x/y/", "/"), Below::Root);
        assert_eq!(at("/x/y/", "/x/yz"), Below::Outside);
        assert_eq!(at("/x/y/", "/api/v1/ring"), Below::Outside);
    }
}
