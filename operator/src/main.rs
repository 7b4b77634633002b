//! `chord-operator`.
use anyhow::Context as _;
use axum::{Router, http::StatusCode, routing::get};
use chord_operator::{controller, lease::Election};
use clap::Parser;
use futures::FutureExt as _;
use kube::Client;
use metrics_util::MetricKindMask;
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::signal::unix::{SignalKind, signal};

/// Turns ChordRing resources into Chord rings of pods.
#[derive(Parser, Debug)]
#[command(name = "chord-operator", version)]
struct Args {
    /// Image of nodes and gateways where a ring names none.
    #[arg(long, env = "CHORD_IMAGE")]
    image: String,
    /// Namespaces to watch, separated by commas; none: all.
    #[arg(long, env = "CHORD_WATCH_NAMESPACES", value_delimiter = ',')]
    watch_namespaces: Vec<String>,
    /// The operator's own namespace.
    #[arg(long, env = "CHORD_NAMESPACE", default_value = "default")]
    namespace: String,
    /// This process among several, for leader election.
    #[arg(long, env = "CHORD_IDENTITY", default_value_t = default_identity())]
    identity: String,
    /// Address for probes and metrics.
    #[arg(long, env = "CHORD_HTTP_ADDR", default_value = "0.0.0.0:9400")]
    http_addr: SocketAddr,
    /// error, warn, info, debug or trace, or a filter.
    #[arg(long, env = "CHORD_LOG_LEVEL", default_value = "info")]
    log_level: String,
    /// json or text.
    #[arg(long, env = "CHORD_LOG_FORMAT", default_value = "json", value_parser = ["json", "text"])]
    log_format: String,
}

fn default_identity() -> String {
    std::env::var("HOSTNAME").unwrap_or_else(|_| uuid::Uuid::new_v4().to_string())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let filter = tracing_subscriber::EnvFilter::try_new(&args.log_level)
        .with_context(|| format!("--log-level `{}` is neither a level nor a filter", args.log_level))?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if args.log_format == "json" {
        log.json().flatten_event(true).with_current_span(false).with_span_list(false).init();
    } else {
        log.init();
    }
    let _ = rustls::crypto::ring::default_provider().install_default();
    let metrics = metrics_exporter_prometheus::PrometheusBuilder::new()
        // A ring that is deleted is not told of any more; others are at every pass.
        .idle_timeout(MetricKindMask::GAUGE, Some(Duration::from_secs(120)))
        .install_recorder()?;
    let client = Client::try_default().await.context("cannot find a Kubernetes API; run in a pod or set KUBECONFIG")?;

    let ready = Arc::new(AtomicBool::new(false));
    let is_ready = ready.clone();
    let router = Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/metrics", get(move || async move { metrics.render() }))
        .route(
            "/readyz",
            get(move || async move {
                if is_ready.load(Ordering::Relaxed) { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
            }),
        );
    let listener = tokio::net::TcpListener::bind(args.http_addr)
        .await
        .with_context(|| format!("cannot listen on {}", args.http_addr))?;
    tokio::spawn(axum::serve(listener, router).into_future());
    // One that waits for the lease is ready to take over.
    ready.store(true, Ordering::Relaxed);

    let (stop, stopped) = tokio::sync::watch::channel(false);
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        let _ = stop.send(true);
    });
    let until_stopped = || {
        let mut stopped = stopped.clone();
        async move {
            let _ = stopped.wait_for(|stopped| *stopped).await;
        }
    };

    let election = Election::new(client.clone(), &args.namespace, "chord-operator", args.identity.clone());
    let epoch = tokio::select! {
        epoch = election.win() => epoch?,
        () = until_stopped() => return Ok(()),
    };
    tracing::info!(epoch, identity = args.identity, "leads");
    let namespaces: Vec<String> = args.watch_namespaces.into_iter().filter(|name| !name.is_empty()).collect();
    let context = Arc::new(controller::Context::new(client, args.image, args.namespace, epoch));
    let until = until_stopped().shared();
    let run = controller::run(context, &namespaces, until);
    tokio::select! {
        () = run => {}
        () = election.keep() => anyhow::bail!("lost the lease; ending so that two operators never act at once"),
    }
    election.release().await;
    Ok(())
}
