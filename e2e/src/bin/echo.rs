//! What gRPC alone costs: a server that answers `Kv.Get` and `Kv.Put` without doing anything, and its load.
//! `cargo xtask bench` shows it beside a ring.
//!
//! `echo serve ADDRESS` · `echo bench ADDRESS SECONDS VALUE_BYTES`, which prints what `chordctl bench` prints.
use anyhow::{Context as _, Result, bail};
use chord_proto::v1::{
    BatchRequest, BatchResponse, CompareAndSetRequest, CompareAndSetResponse, DeleteRequest, DeleteResponse,
    GetRequest, GetResponse, OpId, PipelineRequest, PipelineResponse, PutRequest, PutResponse, ScanRequest,
    ScanResponse, ShardMapRequest, ShardMapResponse, Version,
    kv_client::KvClient,
    kv_server::{Kv, KvServer},
};
use std::time::{Duration, Instant};
use tonic::{
    Request, Response, Status, Streaming,
    transport::{Channel, Endpoint, Server},
};

/// As many connections as a client holds to one member.
const CONNECTIONS: usize = 2;
const CLIENTS: [usize; 3] = [1, 16, 64];
const CONNECT_TRIES: u32 = 50;

#[tokio::main]
async fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve", address] => {
            let echo = Echo { value: vec![7; 1 << 20] };
            Ok(Server::builder().tcp_nodelay(true).add_service(KvServer::new(echo)).serve(address.parse()?).await?)
        }
        ["bench", address, seconds, bytes] => {
            bench(address, Duration::from_secs(seconds.parse()?), bytes.parse()?).await
        }
        _ => bail!("usage: echo serve ADDRESS | echo bench ADDRESS SECONDS VALUE_BYTES"),
    }
}

struct Echo {
    value: Vec<u8>,
}

const VERSION: Version = Version { epoch: 1, ballot: 16, seq: 1_000_000 };

#[tonic::async_trait]
impl Kv for Echo {
    /// The length of the answer is the number that the key ends with.
    async fn get(&self, request: Request<GetRequest>) -> Result<Response<GetResponse>, Status> {
        let key = request.into_inner().key;
        let length = str::from_utf8(&key).ok().and_then(|key| key.rsplit('-').next()?.parse::<usize>().ok());
        let value =
            length.and_then(|length| self.value.get(..length)).ok_or_else(|| Status::invalid_argument("key"))?;
        Ok(Response::new(GetResponse { value: Some(value.to_vec().into()), version: Some(VERSION), ttl_ms: None }))
    }

    async fn put(&self, _: Request<PutRequest>) -> Result<Response<PutResponse>, Status> {
        Ok(Response::new(PutResponse { version: Some(VERSION) }))
    }

    async fn delete(&self, _: Request<DeleteRequest>) -> Result<Response<DeleteResponse>, Status> {
        Err(Status::unimplemented("echo"))
    }

    async fn compare_and_set(
        &self,
        _: Request<CompareAndSetRequest>,
    ) -> Result<Response<CompareAndSetResponse>, Status> {
        Err(Status::unimplemented("echo"))
    }

    async fn batch(&self, _: Request<BatchRequest>) -> Result<Response<BatchResponse>, Status> {
        Err(Status::unimplemented("echo"))
    }

    type PipelineStream = futures::stream::Empty<Result<PipelineResponse, Status>>;

    async fn pipeline(&self, _: Request<Streaming<PipelineRequest>>) -> Result<Response<Self::PipelineStream>, Status> {
        Err(Status::unimplemented("echo"))
    }

    async fn scan(&self, _: Request<ScanRequest>) -> Result<Response<ScanResponse>, Status> {
        Err(Status::unimplemented("echo"))
    }

    async fn shard_map(&self, _: Request<ShardMapRequest>) -> Result<Response<ShardMapResponse>, Status> {
        Err(Status::unimplemented("echo"))
    }
}

async fn bench(address: &str, time: Duration, bytes: usize) -> Result<()> {
    let mut channels = Vec::new();
    for _ in 0..CONNECTIONS {
        channels.push(connect(address).await?);
    }
    let mut figures = Vec::new();
    for clients in CLIENTS {
        for operation in ["get", "put"] {
            let until = Instant::now() + time;
            let workers = (0..clients)
                .map(|worker| load(KvClient::new(channels[worker % CONNECTIONS].clone()), operation, bytes, until))
                .map(tokio::spawn);
            let mut latencies: Vec<u64> = Vec::new();
            for worker in workers.collect::<Vec<_>>() {
                latencies.extend(worker.await??);
            }
            latencies.sort_unstable();
            let at = |share: f64| latencies.get((latencies.len() as f64 * share) as usize).copied().unwrap_or(0);
            figures.push(serde_json::json!({
                "operation": operation, "clients": clients, "operations": latencies.len(), "errors": 0,
                "operations_per_second": latencies.len() as f64 / time.as_secs_f64(), "p50_us": at(0.5), "p99_us": at(0.99),
            }));
        }
    }
    println!("{}", serde_json::json!({ "figures": figures }));
    Ok(())
}

async fn connect(address: &str) -> Result<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?.tcp_nodelay(true);
    for _ in 1..CONNECT_TRIES {
        if let Ok(channel) = endpoint.connect().await {
            return Ok(channel);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    endpoint.connect().await.with_context(|| format!("no server at {address}"))
}

/// Latencies in microseconds of one operation after the other.
async fn load(mut client: KvClient<Channel>, operation: &str, bytes: usize, until: Instant) -> Result<Vec<u64>> {
    let (mut latencies, mut number) = (Vec::new(), 0);
    let value = vec![7; bytes];
    while Instant::now() < until {
        let begun = Instant::now();
        let key = format!("bench-{bytes:08}").into_bytes();
        if operation == "get" {
            client.get(GetRequest { key: key.into(), stale_ok: false }).await?;
        } else {
            number += 1;
            let op_id = Some(OpId { client: vec![1; 16].into(), number, retry: false, age_ms: 0 });
            client.put(PutRequest { key: key.into(), value: value.clone().into(), ttl_ms: None, op_id }).await?;
        }
        latencies.push(begun.elapsed().as_micros() as u64);
    }
    Ok(latencies)
}
