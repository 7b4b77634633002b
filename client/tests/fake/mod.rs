//! A Kv server in this process that keeps keys in a map, knows op ids, and fails on request.
#![allow(dead_code, reason = "each test binary uses another part")]
use bytes::Bytes;
use chord_proto::v1::{self, kv_server::Kv, operation::Kind as Ask, operation_result::Kind as Answer};
use futures::{Stream, StreamExt as _};
use std::{
    collections::{BTreeMap, VecDeque},
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::task::AbortOnDropHandle;
use tonic::{Code, Request, Response, Status, Streaming, transport::Server};
use tonic_types::{ErrorDetails, StatusExt as _};

/// What goes wrong with one operation.
#[derive(Clone, Debug)]
pub enum Fault {
    /// It takes effect, and the answer never comes.
    LoseAnswer,
    /// It takes no effect, and the answer never comes.
    Hang,
    /// Refused with this code, without effect.
    Refuse(Code),
    /// Refused, with the time to come back.
    Overloaded(Duration),
    /// Answered late.
    Slow(Duration),
}

/// What arrived.
#[derive(Clone, PartialEq, Debug)]
pub struct Seen {
    pub key: Bytes,
    pub op_id: Option<v1::OpId>,
}

struct Stored {
    value: Bytes,
    seq: u64,
}

#[derive(Default)]
pub struct State {
    keys: BTreeMap<Bytes, Stored>,
    /// Outcomes by client and number.
    done: BTreeMap<(Bytes, u64), Answer>,
    seq: u64,
    pub faults: VecDeque<Fault>,
    /// After the queue is empty.
    pub always: Option<Fault>,
    pub seen: Vec<Seen>,
    pub batches: usize,
    pub map: v1::ShardMapResponse,
    pub maps_asked: usize,
    /// It does not answer questions for the map.
    pub is_silent: bool,
}

impl State {
    pub fn value(&self, key: &str) -> Option<&[u8]> {
        self.keys.get(key.as_bytes()).map(|stored| &stored.value[..])
    }
    pub fn set(&mut self, key: &str, value: &str) {
        self.seq += 1;
        let seq = self.seq;
        self.keys.insert(key.to_owned().into(), Stored { value: value.to_owned().into(), seq });
    }
    pub fn remove(&mut self, key: &str) {
        self.keys.remove(key.as_bytes());
    }
    /// Writes that took effect.
    pub fn writes(&self) -> u64 {
        self.seq
    }

    fn version(seq: u64) -> v1::Version {
        v1::Version { epoch: 1, ballot: 16, seq }
    }

    fn write(&mut self, key: Bytes, value: Option<Bytes>) -> u64 {
        self.seq += 1;
        match value {
            Some(value) => self.keys.insert(key, Stored { value, seq: self.seq }),
            None => self.keys.remove(&key),
        };
        self.seq
    }

    fn apply(&mut self, ask: Ask) -> Answer {
        let op = op_id(&ask).map(|op| (op.client, op.number));
        if let Some(answer) = op.as_ref().and_then(|op| self.done.get(op)) {
            return answer.clone();
        }
        let answer = match ask {
            Ask::Get(get) => {
                let found = self.keys.get(&get.key);
                Answer::Get(v1::GetResponse {
                    value: found.map(|stored| stored.value.clone()),
                    version: found.map(|stored| State::version(stored.seq)),
                    ttl_ms: None,
                })
            }
            Ask::Put(put) => {
                let seq = self.write(put.key, Some(put.value));
                Answer::Put(v1::PutResponse { version: Some(State::version(seq)) })
            }
            Ask::Delete(delete) => {
                let existed = self.keys.contains_key(&delete.key);
                self.write(delete.key, None);
                Answer::Delete(v1::DeleteResponse { existed })
            }
            Ask::CompareAndSet(cas) => {
                let now = self.keys.get(&cas.key).map(|stored| State::version(stored.seq));
                let applied = now == cas.expected;
                let version = if applied { Some(State::version(self.write(cas.key, cas.value))) } else { now };
                Answer::CompareAndSet(v1::CompareAndSetResponse { applied, version })
            }
        };
        if let Some(op) = op {
            self.done.insert(op, answer.clone());
        }
        answer
    }
}

fn op_id(ask: &Ask) -> Option<v1::OpId> {
    match ask {
        Ask::Get(_) => None,
        Ask::Put(put) => put.op_id.clone(),
        Ask::Delete(delete) => delete.op_id.clone(),
        Ask::CompareAndSet(cas) => cas.op_id.clone(),
    }
}

/// A running server; it ends when dropped.
pub struct Fake {
    pub address: String,
    pub state: Arc<Mutex<State>>,
    _server: AbortOnDropHandle<()>,
}

#[derive(Clone)]
struct Service(Arc<Mutex<State>>);

impl Fake {
    /// Starts a server that leads everything until told otherwise.
    pub async fn start() -> Fake {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let state = Arc::new(Mutex::new(State { map: map(&[&address], 0), ..State::default() }));
        let service = v1::kv_server::KvServer::new(Service(state.clone())).max_decoding_message_size(8 << 20);
        let server = Server::builder().add_service(service).serve_with_incoming(TcpListenerStream::new(listener));
        let server = AbortOnDropHandle::new(tokio::spawn(async move { server.await.unwrap() }));
        Fake { address, state, _server: server }
    }

    pub fn with<T>(&self, see: impl FnOnce(&mut State) -> T) -> T {
        see(&mut self.state.lock().unwrap())
    }

    pub fn fail(&self, faults: impl IntoIterator<Item = Fault>) {
        self.with(|state| state.faults.extend(faults));
    }
}

/// A map of one shard led by the member at `leader`.
pub fn map(addresses: &[&str], leader: u32) -> v1::ShardMapResponse {
    let member = |(number, address): (usize, &&str)| v1::Member {
        node: Some(v1::NodeRef {
            id: vec![number as u8; 20].into(),
            name: format!("node-{number}"),
            client_addr: address.to_string(),
            ..v1::NodeRef::default()
        }),
        state: v1::MemberState::Serving.into(),
        reachable: true,
        ..v1::Member::default()
    };
    v1::ShardMapResponse {
        ring_id: vec![9; 16].into(),
        shards: 1,
        members: addresses.iter().enumerate().map(member).collect(),
        configs: vec![v1::ShardConfig {
            shard: 0,
            epoch: 1,
            members: (0..addresses.len() as u32).collect(),
            leader: Some(leader),
        }],
    }
}

impl Service {
    async fn operate(&self, key: Bytes, ask: Ask) -> Result<Answer, Status> {
        let fault = {
            let mut state = self.0.lock().unwrap();
            state.seen.push(Seen { key, op_id: op_id(&ask) });
            state.faults.pop_front().or_else(|| state.always.clone())
        };
        match fault {
            None => {}
            Some(Fault::Slow(time)) => tokio::time::sleep(time).await,
            Some(Fault::Refuse(code)) => return Err(Status::new(code, "nothing was changed: as the test wants it")),
            Some(Fault::Overloaded(time)) => {
                let details = ErrorDetails::with_retry_info(Some(time));
                return Err(Status::with_error_details(Code::ResourceExhausted, "too many requests", details));
            }
            Some(Fault::Hang) => return std::future::pending().await,
            Some(Fault::LoseAnswer) => {
                self.0.lock().unwrap().apply(ask);
                return std::future::pending().await;
            }
        }
        Ok(self.0.lock().unwrap().apply(ask))
    }
}

macro_rules! one {
    ($self:ident, $request:ident, $kind:ident) => {{
        let ask = $request.into_inner();
        match $self.operate(ask.key.clone(), Ask::$kind(ask)).await? {
            Answer::$kind(answer) => Ok(Response::new(answer)),
            other => panic!("{other:?}"),
        }
    }};
}

#[tonic::async_trait]
impl Kv for Service {
    async fn get(&self, request: Request<v1::GetRequest>) -> Result<Response<v1::GetResponse>, Status> {
        one!(self, request, Get)
    }
    async fn put(&self, request: Request<v1::PutRequest>) -> Result<Response<v1::PutResponse>, Status> {
        one!(self, request, Put)
    }
    async fn delete(&self, request: Request<v1::DeleteRequest>) -> Result<Response<v1::DeleteResponse>, Status> {
        one!(self, request, Delete)
    }
    async fn compare_and_set(
        &self,
        request: Request<v1::CompareAndSetRequest>,
    ) -> Result<Response<v1::CompareAndSetResponse>, Status> {
        one!(self, request, CompareAndSet)
    }

    async fn batch(&self, request: Request<v1::BatchRequest>) -> Result<Response<v1::BatchResponse>, Status> {
        self.0.lock().unwrap().batches += 1;
        let mut results = Vec::new();
        for operation in request.into_inner().operations {
            let ask = operation.kind.unwrap();
            let key = match &ask {
                Ask::Get(ask) => ask.key.clone(),
                Ask::Put(ask) => ask.key.clone(),
                Ask::Delete(ask) => ask.key.clone(),
                Ask::CompareAndSet(ask) => ask.key.clone(),
            };
            let kind = self.operate(key, ask).await.unwrap_or_else(|status| {
                Answer::Error(v1::OperationError { code: status.code().into(), message: status.message().into() })
            });
            results.push(v1::OperationResult { kind: Some(kind) });
        }
        Ok(Response::new(v1::BatchResponse { results }))
    }

    type PipelineStream = Pin<Box<dyn Stream<Item = Result<v1::PipelineResponse, Status>> + Send>>;
    async fn pipeline(
        &self,
        request: Request<Streaming<v1::PipelineRequest>>,
    ) -> Result<Response<Self::PipelineStream>, Status> {
        let refused = request.into_inner().map(|_| Err(Status::unimplemented("not in this test")));
        Ok(Response::new(Box::pin(refused)))
    }

    /// The cursor is the last key.
    async fn scan(&self, request: Request<v1::ScanRequest>) -> Result<Response<v1::ScanResponse>, Status> {
        let request = request.into_inner();
        let state = self.0.lock().unwrap();
        let mut rest = state.keys.iter().filter(|(key, _)| **key > request.cursor);
        let entries: Vec<_> = rest
            .by_ref()
            .take(request.limit as usize)
            .map(|(key, stored)| v1::ScanEntry {
                key: key.clone(),
                value: if request.keys_only { Bytes::new() } else { stored.value.clone() },
                version: Some(State::version(stored.seq)),
            })
            .collect();
        let last = entries.last().map(|entry| entry.key.clone()).unwrap_or_default();
        let next_cursor = if rest.next().is_some() { last } else { Bytes::new() };
        Ok(Response::new(v1::ScanResponse { entries, next_cursor }))
    }

    async fn shard_map(&self, _: Request<v1::ShardMapRequest>) -> Result<Response<v1::ShardMapResponse>, Status> {
        let (map, is_silent) = {
            let mut state = self.0.lock().unwrap();
            state.maps_asked += 1;
            (state.map.clone(), state.is_silent)
        };
        if is_silent { std::future::pending().await } else { Ok(Response::new(map)) }
    }
}
