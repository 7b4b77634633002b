//! The operations on keys as requests: each knows its key, its op id and how to send itself.
use crate::ops::Attempted;
use bytes::Bytes;
use chord_proto::{MESSAGE_BYTES_MAX, v1, v1::kv_client::KvClient};
use std::{
    collections::HashSet,
    sync::{LazyLock, Mutex, MutexGuard, PoisonError},
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
static PROCESS: LazyLock<u128> = LazyLock::new(|| uuid::Uuid::new_v4().as_u128());
/// Writes on their way.
static OPEN: LazyLock<Mutex<Open>> = LazyLock::new(Mutex::default);

/// A ring remembers the last write on a key of each client. Writes of this process that are on one key at the same
/// time therefore go as different clients: the process's number and the lowest slot that is free for the key.
#[derive(Default)]
struct Open {
    slots: HashSet<(Bytes, u32)>,
    /// Writes so far.
    number: u64,
}

impl Open {
    fn lock() -> MutexGuard<'static, Open> {
        // Plain sets: whoever panicked left them whole.
        OPEN.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A write of this process, from its beginning to its end.
pub(crate) struct Write {
    pub attempted: Attempted,
    /// It was sent before, and may have taken effect.
    pub maybe: bool,
    /// What it holds open.
    place: Option<(Bytes, u32)>,
}

impl Write {
    /// A new write on a key, or another go at one.
    pub fn begin(key: &Bytes, resumed: Option<Attempted>) -> Write {
        let mut open = Open::lock();
        let slot_of = |attempted: Attempted| (attempted.client ^ *PROCESS) as u32;
        let is_free = |slot: &u32| !open.slots.contains(&(key.clone(), *slot));
        let slot = resumed.map(slot_of).or_else(|| (0..).find(is_free)).unwrap_or_default();
        let attempted = resumed.unwrap_or_else(|| {
            open.number += 1;
            Attempted { client: *PROCESS ^ u128::from(slot), number: open.number, first: Instant::now() }
        });
        let place = (key.clone(), slot);
        let mine = open.slots.insert(place.clone());
        Write { attempted, maybe: resumed.is_some(), place: mine.then_some(place) }
    }

    /// Its op id, when it is sent for the first time.
    pub fn op_id(&self) -> v1::OpId {
        let Attempted { client, number, .. } = self.attempted;
        v1::OpId { client: Bytes::copy_from_slice(&client.to_be_bytes()), number, retry: false, age_ms: 0 }
    }

    /// Says in an op id whether the write may have taken effect already, and how old it is.
    pub fn stamp(&self, op_id: &mut v1::OpId, maybe: bool) {
        op_id.retry = maybe;
        let age = if maybe { self.attempted.first.elapsed() } else { Duration::ZERO };
        op_id.age_ms = u32::try_from(age.as_millis()).unwrap_or(u32::MAX);
    }
}

impl Drop for Write {
    fn drop(&mut self) {
        if let Some(place) = &self.place {
            Open::lock().slots.remove(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: no two writes on one key are on their way as one client, and a client's number tells that its earlier
    /// writes have ended. Method: overlapping writes on two keys, one of which ends and is resumed.
    #[test]
    fn writes_on_one_key_at_a_time_go_as_different_clients() {
        let begin = |key: &'static [u8], resumed| Write::begin(&Bytes::from_static(key), resumed);
        let (first, other) = (begin(b"slots-a", None), begin(b"slots-b", None));
        let second = begin(b"slots-a", None);
        assert_eq!(first.attempted.client, other.attempted.client);
        assert_ne!(first.attempted.client, second.attempted.client);
        let ended = first.attempted;
        drop(first);
        let third = begin(b"slots-a", None);
        assert_eq!(third.attempted.client, ended.client);
        assert!(third.attempted.number > ended.number);
        // Somebody has gone on in its place: it stays the older one, and does not end what is under way.
        let resumed = begin(b"slots-a", Some(ended));
        assert_eq!(resumed.attempted, ended);
        drop(resumed);
        assert_ne!(begin(b"slots-a", None).attempted.client, third.attempted.client);
    }
}
