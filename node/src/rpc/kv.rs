//! `Kv`: applications. Checks what comes in, runs it here or, once, at the node that leads the shard.
use super::convert::{self, from_version};
use crate::{driver::Driver, peers::Peers};
use bytes::Bytes;
use chord::{
    io::{Operation, Outcome, Retryable},
    member::NodeRef,
    shard::{config::ShardId, record::OpId},
    time::Nanos,
};
use chord_proto::{
    MESSAGE_BYTES_MAX,
    v1::{self, kv_client::KvClient, kv_server::Kv},
};
use std::{
    pin::pin,
    time::{Duration, Instant},
};
use tokio_stream::Stream;
use tonic::{Code, Request, Response, Status, Streaming, metadata::MetadataMap};
use tonic_types::{ErrorDetails, StatusExt as _};

type Answer<T> = Result<Response<T>, Status>;

/// Set on a call that another node has passed on: it is not passed on again.
pub const FORWARDED: &str = "chord-forwarded";
/// Time for an operation whose caller sets no deadline.
const TIME: Duration = Duration::from_secs(10);
/// Longest time for an operation.
const TIME_MAX: Duration = Duration::from_secs(60);
/// Time between two looks whether a node that was passed an operation is still taken for alive.
const LEADER_LOOK: Duration = Duration::from_millis(250);
/// Time after which a scan returns what it has found.
const PAGE_TIME: Duration = Duration::from_millis(500);
/// Most shards that a scan looks at together.
const SCAN_AHEAD_MAX: u32 = 64;
/// Most operations of one batch, and most under way of one pipeline.
const OPERATIONS_MAX: usize = 1000;

/// Serves applications.
#[derive(Clone)]
pub struct KvService {
    driver: Driver,
    peers: Peers,
}

/// How an operation was called.
#[derive(Clone, Copy)]
struct Call {
    until: Instant,
    forwarded: bool,
}

impl Call {
    fn of(metadata: &MetadataMap) -> Call {
        let time = metadata.get("grpc-timeout").and_then(|text| text.to_str().ok()).and_then(timeout).unwrap_or(TIME);
        Call { until: Instant::now() + time.min(TIME_MAX), forwarded: metadata.contains_key(FORWARDED) }
    }
    fn left(self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }
}

/// `grpc-timeout`: up to 8 digits and a unit.
fn timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > 8 {
        return None;
    }
    let value: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(value * 3600)),
        "M" => Some(Duration::from_secs(value * 60)),
        "S" => Some(Duration::from_secs(value)),
        "m" => Some(Duration::from_millis(value)),
        "u" => Some(Duration::from_micros(value)),
        "n" => Some(Duration::from_nanos(value)),
        _ => None,
    }
}

fn invalid(field: &str, why: &str) -> Status {
    let details = ErrorDetails::with_bad_request_violation(field, why);
    Status::with_error_details(Code::InvalidArgument, format!("{field}: {why}"), details)
}

fn retryable(op: Option<v1::OpId>) -> Result<Retryable, Status> {
    let op = op.ok_or_else(|| invalid("op_id", "is required; it makes retries safe"))?;
    let client = convert::u128_of("op_id.client", &op.client)
        .map_err(|_| invalid("op_id.client", "must be 16 random bytes, one value per client"))?;
    let age = Nanos::from_millis(u64::from(op.age_ms));
    Ok(Retryable { id: OpId { client, number: op.number }, retry: op.retry, age })
}

/// An operation on one key as the wire has it.
#[derive(Clone)]
enum Single {
    Get(v1::GetRequest),
    Put(v1::PutRequest),
    Delete(v1::DeleteRequest),
    CompareAndSet(v1::CompareAndSetRequest),
}

impl Single {
    fn of(operation: v1::Operation) -> Result<Single, Status> {
        use v1::operation::Kind;
        Ok(match operation.kind.ok_or_else(|| invalid("operation.kind", "is missing or unknown to this version"))? {
            Kind::Get(get) => Single::Get(get),
            Kind::Put(put) => Single::Put(put),
            Kind::Delete(delete) => Single::Delete(delete),
            Kind::CompareAndSet(cas) => Single::CompareAndSet(cas),
        })
    }

    fn operation(&self) -> Result<Operation, Status> {
        let key = |key: &Bytes| {
            let bounds = 1..=chord::settings::KEY_BYTES_MAX;
            let text = format!("must have 1 to {} bytes, not {}", bounds.end(), key.len());
            if bounds.contains(&key.len()) { Ok(key.clone()) } else { Err(invalid("key", &text)) }
        };
        let value = |value: &Bytes| {
            let max = chord::settings::VALUE_BYTES_MAX;
            let text = format!("must have at most {max} bytes, not {}", value.len());
            if value.len() <= max { Ok(value.clone()) } else { Err(invalid("value", &text)) }
        };
        let ttl = |ttl: Option<u64>| match ttl {
            Some(0) => Err(invalid("ttl_ms", "must be at least 1; leave it out for a value that stays")),
            other => Ok(other),
        };
        Ok(match self {
            Single::Get(get) => Operation::Get { key: key(&get.key)?, stale_ok: get.stale_ok },
            Single::Put(put) => Operation::Put {
                key: key(&put.key)?,
                value: value(&put.value)?,
                ttl_ms: ttl(put.ttl_ms)?,
                op: retryable(put.op_id.clone())?,
            },
            Single::Delete(delete) => {
                Operation::Delete { key: key(&delete.key)?, op: retryable(delete.op_id.clone())? }
            }
            Single::CompareAndSet(cas) => Operation::CompareAndSet {
                key: key(&cas.key)?,
                expected: cas.expected.map(convert::version),
                value: cas.value.as_ref().map(value).transpose()?,
                ttl_ms: ttl(cas.ttl_ms)?,
                op: retryable(cas.op_id.clone())?,
            },
        })
    }
}

/// A failure as a gRPC status that says what to do.
fn failure(outcome: Outcome) -> Status {
    match outcome {
        Outcome::NotLeader(_) | Outcome::Unavailable(_) => {
            let why =
                if let Outcome::Unavailable(why) = outcome { why } else { "another node leads the shard; ask again" };
            Status::unavailable(format!("nothing was changed: {why}"))
        }
        Outcome::Overloaded(after) => {
            let after = Duration::from_nanos(after.0);
            let details = ErrorDetails::with_retry_info(Some(after));
            Status::with_error_details(
                Code::ResourceExhausted,
                "too many requests; try again after the given time",
                details,
            )
        }
        Outcome::DiskFull => Status::resource_exhausted(
            "the data volume is nearly full: only deletes and reads are taken; delete keys, grow the volume or add members",
        ),
        Outcome::Invalid(why) => Status::invalid_argument(why),
        Outcome::Unknown(why) => Status::aborted(format!("outcome unknown, it takes effect once or never: {why}")),
        _ => Status::internal("the core gave another kind of answer than was asked for"),
    }
}

impl KvService {
    /// Over the core and the ways to other nodes.
    pub fn new(driver: Driver, peers: Peers) -> KvService {
        KvService { driver, peers }
    }

    async fn single(&self, single: Single, call: Call) -> Result<v1::operation_result::Kind, Status> {
        use v1::operation_result::Kind;
        let begun = Instant::now();
        let operation = single.operation()?;
        if call.left().is_zero() {
            return Err(Status::deadline_exceeded(
                "the deadline had passed before the request arrived; nothing was changed",
            ));
        }
        let kind = match &single {
            Single::Get(_) => "get",
            Single::Put(_) => "put",
            Single::Delete(_) => "delete",
            Single::CompareAndSet(_) => "compare_and_set",
        };
        let outcome = self.driver.operate(operation, call.left()).await;
        crate::latency::record(begun.elapsed());
        metrics::histogram!("chord_operation_seconds", "operation" => kind).record(begun.elapsed().as_secs_f64());
        Ok(match outcome {
            Outcome::Value(found) => {
                let (value, version, ttl_ms) = match found {
                    Some((value, version, ttl_ms)) => (Some(value), Some(from_version(&version)), ttl_ms),
                    None => (None, None, None),
                };
                Kind::Get(v1::GetResponse { value, version, ttl_ms })
            }
            Outcome::Written(version) => Kind::Put(v1::PutResponse { version: Some(from_version(&version)) }),
            Outcome::Deleted(existed) => Kind::Delete(v1::DeleteResponse { existed }),
            Outcome::Compared { applied, revision } => {
                Kind::CompareAndSet(v1::CompareAndSetResponse { applied, version: revision.as_ref().map(from_version) })
            }
            Outcome::NotLeader(Some(node)) if !call.forwarded => {
                return self.forward(single, node, call).await;
            }
            other => return Err(failure(other)),
        })
    }

    /// Passes an operation on to the node that leads its shard.
    async fn forward(&self, single: Single, to: NodeRef, call: Call) -> Result<v1::operation_result::Kind, Status> {
        use v1::operation_result::Kind;
        let link = self.peers.link(&to.client_addr).map_err(Status::unavailable)?;
        let mut kv = KvClient::new(link.channel.clone())
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        let is_read = matches!(single, Single::Get(_));
        let answer = async move {
            match single {
                Single::Get(get) => kv.get(passed_on(get, call)).await.map(|r| Kind::Get(r.into_inner())),
                Single::Put(put) => kv.put(passed_on(put, call)).await.map(|r| Kind::Put(r.into_inner())),
                Single::Delete(delete) => {
                    kv.delete(passed_on(delete, call)).await.map(|r| Kind::Delete(r.into_inner()))
                }
                Single::CompareAndSet(cas) => {
                    kv.compare_and_set(passed_on(cas, call)).await.map(|r| Kind::CompareAndSet(r.into_inner()))
                }
            }
        };
        let Some(answer) = self.while_up(to, answer).await else {
            return Err(failure(match is_read {
                true => Outcome::Unavailable("the shard's leader went silent; ask again"),
                false => Outcome::Unknown("the shard's leader went silent; send it again"),
            }));
        };
        answer.map_err(|status| {
            // A connection that broke under way leaves open whether the write arrived there.
            let said = status.message().starts_with("nothing was changed") || link.is_refused();
            match status.code() {
                Code::Unavailable | Code::Unknown | Code::Cancelled | Code::Internal if !is_read && !said => {
                    failure(Outcome::Unknown("the connection to the shard's leader broke; send it again"))
                }
                Code::Unavailable | Code::Unknown | Code::Cancelled => {
                    failure(Outcome::Unavailable("the shard's leader does not answer; ask again"))
                }
                _ => status,
            }
        })
    }

    /// Waits for another node as long as this one takes it for alive. After that, asking again soon finds who leads
    /// then, while waiting on would last until the caller's deadline.
    async fn while_up<T>(&self, to: NodeRef, answer: impl Future<Output = T>) -> Option<T> {
        let mut answer = pin!(answer);
        loop {
            if let Ok(answer) = tokio::time::timeout(LEADER_LOOK, &mut answer).await {
                return Some(answer);
            }
            let node = to.clone();
            if self.driver.inspect(move |core| !core.is_reachable(&node)).await.unwrap_or(false) {
                return None;
            }
        }
    }

    /// Up to `limit` entries of one shard, and whether there is more after the last of them.
    async fn scan_shard(
        &self,
        shard: u32,
        after: Option<Bytes>,
        limit: usize,
        keys_only: bool,
        call: Call,
    ) -> Result<(Vec<v1::ScanEntry>, bool), Status> {
        let operation = Operation::Scan { shard: ShardId(shard), after: after.clone(), limit };
        match self.driver.operate(operation, call.left()).await {
            Outcome::Page(page, more) => {
                let entry = |(key, value, version)| {
                    let value = if keys_only { Bytes::new() } else { value };
                    v1::ScanEntry { key, value, version: Some(from_version(&version)) }
                };
                Ok((page.into_iter().map(entry).collect(), more))
            }
            Outcome::NotLeader(Some(node)) if !call.forwarded => {
                let cursor_there = cursor_bytes(shard, after.as_ref());
                let only = v1::ScanRequest { shard, cursor: cursor_there, limit: limit as u32, keys_only };
                let link = self.peers.link(&node.client_addr).map_err(Status::unavailable)?;
                let mut kv = KvClient::new(link.channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
                let page = self.while_up(node, kv.scan(passed_on(only, call))).await;
                let silent = Outcome::Unavailable("the shard's leader went silent; ask again");
                let page = page.unwrap_or_else(|| Err(failure(silent)))?.into_inner();
                let more = cursor(&page.next_cursor).is_some_and(|(next, _)| next == shard);
                Ok((page.entries, more))
            }
            other => Err(failure(other)),
        }
    }

    async fn result(&self, operation: v1::Operation, call: Call) -> v1::OperationResult {
        use v1::operation_result::Kind;
        let result = match Single::of(operation) {
            Ok(single) => self.single(single, call).await,
            Err(status) => Err(status),
        };
        let kind = result.unwrap_or_else(|status| {
            Kind::Error(v1::OperationError { code: status.code() as i32, message: status.message().to_owned() })
        });
        v1::OperationResult { kind: Some(kind) }
    }
}

/// A request for the leader: marked as passed on, with the time that is left.
fn passed_on<T>(message: T, call: Call) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert(FORWARDED, tonic::metadata::MetadataValue::from_static("1"));
    request.set_timeout(call.left());
    request
}

macro_rules! one {
    ($self:ident, $request:ident, $kind:ident) => {{
        let call = Call::of($request.metadata());
        match $self.single(Single::$kind($request.into_inner()), call).await? {
            v1::operation_result::Kind::$kind(answer) => Ok(Response::new(answer)),
            _ => Err(Status::internal("the core gave another kind of answer than was asked for")),
        }
    }};
}

#[tonic::async_trait]
impl Kv for KvService {
    async fn get(&self, request: Request<v1::GetRequest>) -> Answer<v1::GetResponse> {
        one!(self, request, Get)
    }
    async fn put(&self, request: Request<v1::PutRequest>) -> Answer<v1::PutResponse> {
        one!(self, request, Put)
    }
    async fn delete(&self, request: Request<v1::DeleteRequest>) -> Answer<v1::DeleteResponse> {
        one!(self, request, Delete)
    }
    async fn compare_and_set(&self, request: Request<v1::CompareAndSetRequest>) -> Answer<v1::CompareAndSetResponse> {
        one!(self, request, CompareAndSet)
    }

    async fn batch(&self, request: Request<v1::BatchRequest>) -> Answer<v1::BatchResponse> {
        let call = Call::of(request.metadata());
        let operations = request.into_inner().operations;
        if operations.is_empty() || operations.len() > OPERATIONS_MAX {
            let text = format!("must be 1 to {OPERATIONS_MAX}, not {}", operations.len());
            return Err(invalid("operations", &text));
        }
        let results = operations.into_iter().map(|operation| self.result(operation, call));
        Ok(Response::new(v1::BatchResponse { results: futures::future::join_all(results).await }))
    }

    type PipelineStream = std::pin::Pin<Box<dyn Stream<Item = Result<v1::PipelineResponse, Status>> + Send>>;

    async fn pipeline(&self, request: Request<Streaming<v1::PipelineRequest>>) -> Answer<Self::PipelineStream> {
        use futures::StreamExt as _;
        let forwarded = request.metadata().contains_key(FORWARDED);
        let service = self.clone();
        let answers = request.into_inner().map(move |next| {
            let service = service.clone();
            async move {
                let v1::PipelineRequest { tag, operation } = next?;
                let call = Call { until: Instant::now() + TIME, forwarded };
                let operation = operation.unwrap_or_default();
                Ok(v1::PipelineResponse { tag, result: Some(service.result(operation, call).await) })
            }
        });
        Ok(Response::new(Box::pin(answers.buffer_unordered(OPERATIONS_MAX))))
    }

    async fn scan(&self, request: Request<v1::ScanRequest>) -> Answer<v1::ScanResponse> {
        let call = Call::of(request.metadata());
        let scan = request.into_inner();
        let limit = match scan.limit {
            0 => 100,
            limit if limit as usize <= OPERATIONS_MAX => limit as usize,
            limit => return Err(invalid("limit", &format!("must be at most {OPERATIONS_MAX}, not {limit}"))),
        };
        let (mut shard, mut after) = if scan.cursor.is_empty() {
            (scan.shard, None)
        } else {
            cursor(&scan.cursor).ok_or_else(|| invalid("cursor", "is not one that a scan has returned"))?
        };
        let shards = self.driver.inspect(|core| core.settings().shards).await;
        let shards = shards.map_err(|gone| Status::unavailable(gone.to_string()))?;
        if shard >= shards {
            return Err(invalid("shard", &format!("must be below {shards}, not {shard}")));
        }
        let (begun, mut entries, mut bytes, mut ahead) = (Instant::now(), Vec::new(), 0, 1);
        // Shards are small: a page gathers as many as fit.
        'page: while entries.len() < limit && bytes < MESSAGE_BYTES_MAX / 4 && shard < shards {
            // What was found so far is better than nothing.
            if begun.elapsed() > PAGE_TIME {
                break;
            }
            let looks = (shard..shards.min(shard + ahead)).map(|look| {
                let after = after.take();
                self.scan_shard(look, after, limit - entries.len(), scan.keys_only, call)
            });
            let pages = futures::future::try_join_all(looks.collect::<Vec<_>>()).await?;
            let (found, looked) = (pages.iter().map(|(page, _)| page.len()).sum::<usize>(), pages.len());
            for (mut page, mut more) in pages {
                more |= page.len() > limit - entries.len();
                page.truncate(limit - entries.len());
                after = page.last().map(|entry| entry.key.clone()).filter(|_| more);
                bytes += page.iter().map(|entry| entry.key.len() + entry.value.len()).sum::<usize>();
                entries.extend(page);
                if more {
                    break;
                }
                shard += 1;
                if entries.len() == limit || bytes >= MESSAGE_BYTES_MAX / 4 {
                    break 'page;
                }
            }
            // As many as should fill the page, from how full these were.
            let wanted = (limit - entries.len()) * looked / found.max(1);
            ahead = (wanted as u32).min(ahead * 2).clamp(1, SCAN_AHEAD_MAX);
            // For somebody who passed it on, one shard: the next may be led elsewhere.
            if call.forwarded {
                break;
            }
        }
        let next_cursor = if shard < shards { cursor_bytes(shard, after.as_ref()) } else { Bytes::new() };
        Ok(Response::new(v1::ScanResponse { entries, next_cursor }))
    }

    async fn shard_map(&self, _: Request<v1::ShardMapRequest>) -> Answer<v1::ShardMapResponse> {
        let map = self.driver.inspect(|core| {
            let members = core.view();
            let place: std::collections::HashMap<_, u32> =
                members.iter().zip(0..).map(|((member, _), index)| (member.node.key, index)).collect();
            let configs = core.shard_map().into_iter().map(|entry| v1::ShardConfig {
                shard: entry.shard.0,
                epoch: entry.config.epoch,
                members: entry.config.members.iter().filter_map(|key| place.get(key).copied()).collect(),
                leader: entry
                    .leader
                    .and_then(|leader| entry.config.members.get(leader as usize))
                    .and_then(|key| place.get(key).copied()),
            });
            v1::ShardMapResponse {
                ring_id: core.ring_id().map(convert::bytes_of).unwrap_or_default(),
                shards: core.settings().shards,
                configs: configs.collect(),
                members: members.iter().map(|(member, up)| convert::from_member(member, *up)).collect(),
            }
        });
        let map = map.await.map_err(|gone| Status::unavailable(gone.to_string()))?;
        if map.ring_id.is_empty() {
            return Err(Status::unavailable("this node is not a member of a ring yet; ask again, or another one"));
        }
        Ok(Response::new(map))
    }
}

/// Shard (u32 BE), whether a key follows, the key.
fn cursor_bytes(shard: u32, after: Option<&Bytes>) -> Bytes {
    let mut bytes = shard.to_be_bytes().to_vec();
    bytes.push(u8::from(after.is_some()));
    bytes.extend_from_slice(after.map(|after| &after[..]).unwrap_or_default());
    bytes.into()
}

fn cursor(bytes: &Bytes) -> Option<(u32, Option<Bytes>)> {
    let shard = u32::from_be_bytes(bytes.get(..4)?.try_into().ok()?);
    match bytes.get(4)? {
        0 if bytes.len() == 5 => Some((shard, None)),
        1 => Some((shard, Some(bytes.slice(5..)))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_come_back_and_others_are_refused() {
        let key = Bytes::from_static(b"k");
        assert_eq!(cursor(&cursor_bytes(7, None)), Some((7, None)));
        assert_eq!(cursor(&cursor_bytes(7, Some(&key))), Some((7, Some(key))));
        for bad in [&b""[..], b"abc", b"\0\0\0\x01", b"\0\0\0\x01\x02x", b"\0\0\0\x01\0x"] {
            assert_eq!(cursor(&Bytes::copy_from_slice(bad)), None);
        }
    }

    #[test]
    fn deadlines_are_read_in_every_unit() {
        assert_eq!(timeout("5S"), Some(Duration::from_secs(5)));
        assert_eq!(timeout("250m"), Some(Duration::from_millis(250)));
        assert_eq!(timeout("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        assert_eq!(timeout("18446744073709551615H"), None, "more digits than gRPC allows");
        assert_eq!(timeout("x"), None);
        assert_eq!(timeout(""), None);
    }
}
