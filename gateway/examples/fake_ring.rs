//! A real gateway before an invented ring, for work on the dashboard: figures move, members join, leave and die.
//!
//! `cargo run -p chord-gateway --example fake_ring -- --nodes 12 --listen 127.0.0.1:8090`
#[path = "../fake/mod.rs"]
mod fake;

use chord_gateway::{
    app::{App, log},
    args::{Args, LogFormat},
};
use chord_proto::v1::MemberState;
use clap::Parser as _;
use fake::FakeRing;
use std::{net::SocketAddr, time::Duration};
use tokio_util::sync::CancellationToken;

#[derive(clap::Parser)]
struct Cli {
    /// Members to begin with.
    #[arg(long, default_value_t = 12)]
    nodes: u32,
    /// Where the gateway listens.
    #[arg(long, default_value = "127.0.0.1:8090")]
    listen: SocketAddr,
    /// Where its probes listen.
    #[arg(long, default_value = "127.0.0.1:0")]
    http_addr: SocketAddr,
    /// Path below which it is served.
    #[arg(long, default_value = "/")]
    base_path: String,
    /// Keys in the invented ring.
    #[arg(long, default_value_t = 100_000)]
    keys: u64,
    /// Operations per second in it.
    #[arg(long, default_value_t = 4000)]
    operations: u64,
    /// Seconds between one join, leave or death and the next; 0: none.
    #[arg(long, default_value_t = 12)]
    churn: u64,
    /// Requests per second for each visitor.
    #[arg(long, default_value = "200")]
    requests_per_second: String,
    /// Sockets of one visitor.
    #[arg(long, default_value = "1000")]
    sockets_per_visitor: String,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    log("info", LogFormat::Text)?;
    let ring = FakeRing::start(cli.nodes.max(1), Duration::from_secs(1), None)?;
    let args = Args::parse_from([
        "fake_ring",
        "--ring-name=demo",
        &format!("--endpoints={}", ring.address("demo-node-0")),
        &format!("--listen={}", cli.listen),
        &format!("--http-addr={}", cli.http_addr),
        &format!("--base-path={}", cli.base_path),
        &format!("--requests-per-second={}", cli.requests_per_second),
        &format!("--burst={}", cli.requests_per_second),
        &format!("--sockets-per-visitor={}", cli.sockets_per_visitor),
    ]);
    let app = App::build(args.checked()?).await?;
    println!("dashboard: http://{}{}", app.addresses()?.0, cli.base_path);
    let working = ring.clone();
    tokio::spawn(async move {
        let mut timer = tokio::time::interval(Duration::from_secs(1));
        loop {
            timer.tick().await;
            working.work(cli.keys, cli.operations, 1.0);
        }
    });
    if cli.churn > 0 {
        tokio::spawn(churn(ring, Duration::from_secs(cli.churn)));
    }
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    tokio::spawn(async move {
        let _ = tokio::signal::ctrl_c().await;
        stop.cancel();
    });
    app.run(shutdown).await
}

/// Joins, leaves, and dies and comes back, in turn.
async fn churn(ring: FakeRing, pause: Duration) -> anyhow::Result<()> {
    loop {
        tokio::time::sleep(pause).await;
        let newcomer = ring.join(MemberState::Joining)?;
        tokio::time::sleep(pause / 2).await;
        ring.set_state(&newcomer, MemberState::Serving);

        tokio::time::sleep(pause).await;
        let victim = ring.with(|world| {
            let up: Vec<_> = world.members.values().filter(|it| it.is_up && it.state == MemberState::Serving).collect();
            up[rand::random_range(0..up.len())].node.name.clone()
        });
        ring.kill(&victim);
        tokio::time::sleep(pause).await;
        ring.revive(&victim).await?;

        tokio::time::sleep(pause).await;
        ring.set_state(&newcomer, MemberState::Leaving);
        tokio::time::sleep(pause / 2).await;
        ring.set_state(&newcomer, MemberState::Left);
    }
}
