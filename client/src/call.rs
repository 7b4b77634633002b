//! The operations on keys as requests: each knows its key, its op id and how to send itself.
use crate::ops::Attempted;
use bytes::Bytes;
use chord_proto::{MESSAGE_BYTES_MAX, v1, v1::kv_client::KvClient};
use std::{
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tonic::{Request, Status, transport::Channel};

/// A request on one key.
pub(crate) trait Call: Clone + Send + 'static {
    type Answer: Send + 'static;
    fn key(&self) -> &Bytes;
    /// Where the op id of a write is.
    fn op_id(&mut self) -> Option<&mut v1::OpId>;
    fn send(
        self,
        kv: KvClient<Channel>,
        timeout: Duration,
    ) -> impl Future<Output = Result<Self::Answer, Status>> + Send;
}

/// The service behind a channel.
pub(crate) fn kv(channel: Channel) -> KvClient<Channel> {
    KvClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX).max_encoding_message_size(MESSAGE_BYTES_MAX)
}

/// A request with its deadline for the node.
pub(crate) fn within<T>(message: T, timeout: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(timeout);
    request
}

macro_rules! call {
    ($request:ty, $answer:ty, $method:ident, |$it:ident| $op_id:expr) => {
        impl Call for $request {
            type Answer = $answer;
            fn key(&self) -> &Bytes {
                &self.key
            }
            fn op_id(&mut self) -> Option<&mut v1::OpId> {
                let $it = self;
                $op_id
            }
            async fn send(self, mut kv: KvClient<Channel>, timeout: Duration) -> Result<$answer, Status> {
                Ok(kv.$method(within(self, timeout)).await?.into_inner())
            }
        }
    };
}
call!(v1::GetRequest, v1::GetResponse, get, |_it| None);
call!(v1::PutRequest, v1::PutResponse, put, |it| it.op_id.as_mut());
call!(v1::DeleteRequest, v1::DeleteResponse, delete, |it| it.op_id.as_mut());
call!(v1::CompareAndSetRequest, v1::CompareAndSetResponse, compare_and_set, |it| it.op_id.as_mut());

/// Random, one per process.
static CLIENT: LazyLock<[u8; 16]> = LazyLock::new(|| uuid::Uuid::new_v4().into_bytes());
/// Operations so far.
static NUMBER: AtomicU64 = AtomicU64::new(0);

impl Attempted {
    /// A new write.
    pub(crate) fn begin() -> Attempted {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed) + 1;
        Attempted { client: *CLIENT, number, first: Instant::now() }
    }

    pub(crate) fn op_id(&self) -> v1::OpId {
        v1::OpId { client: Bytes::copy_from_slice(&self.client), number: self.number, retry: false, age_ms: 0 }
    }

    /// Milliseconds since the first attempt.
    pub(crate) fn age_ms(&self) -> u32 {
        u32::try_from(self.first.elapsed().as_millis()).unwrap_or(u32::MAX)
    }
}
