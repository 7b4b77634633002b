//! What the process counts and measures, for `/metrics`.
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use std::time::Duration;

/// Upper ends of the buckets of all durations, seconds.
const BUCKETS: [f64; 14] = [0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0];

/// A sample takes memory until it is in its bucket: time between looks.
pub const UPKEEP: Duration = Duration::from_secs(5);

/// Takes the process's metrics from now on. A task of the present runtime puts samples into their buckets every
/// `upkeep`, also when nobody ever asks for the metrics; they would be kept one by one until then.
///
/// # Errors
/// When something else takes them already.
pub fn install(upkeep: Duration) -> anyhow::Result<PrometheusHandle> {
    let metrics = PrometheusBuilder::new().set_buckets(&BUCKETS)?.install_recorder()?;
    let handle = metrics.clone();
    tokio::spawn(async move {
        let mut timer = tokio::time::interval(upkeep);
        loop {
            timer.tick().await;
            handle.run_upkeep();
        }
    });
    Ok(metrics)
}
