//! The client: one method per operation, and how requests and answers are made of them.
use crate::{
    call::{self, Write},
    error::Error,
    inner::Inner,
    ops::{
        CompareAndSet, Compared, Delete, Entry, Get, Page, Put, Scan, Value, Version, check_key, check_ttl, check_value,
    },
    settings::{ClientSettings, Endpoints},
};
use bytes::Bytes;
use chord_proto::v1;
use std::{sync::Arc, time::Duration};
use tonic::transport::Channel;

/// A client of one ring. Clones share connections and what was learnt; one per process is enough.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

impl Client {
    /// Finds the ring.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for addresses and settings that make no sense; [`Error::Unavailable`] when no endpoint
    /// answers within the deadline, [`Error::PermissionDenied`] when one refuses this caller.
    pub async fn connect(endpoints: Endpoints, settings: ClientSettings) -> Result<Client, Error> {
        let client = Client { inner: Arc::new(Inner::new(endpoints, settings)?) };
        client.inner.first_look().await?;
        Ok(client)
    }

    /// Reads a key; `None` when it is absent. Linearizable unless the [`Get`] says otherwise.
    ///
    /// # Errors
    /// See [`Error`]; never [`Error::OutcomeUnknown`].
    /// # Examples
    /// ```no_run
    /// # use chord_client::{Client, Error, Get};
    /// # async fn f(client: Client) -> Result<(), Error> {
    /// let newest = client.get("colour").await?;
    /// let perhaps_older = client.get(Get::new("colour").stale_ok()).await?;
    /// # Ok(()) }
    /// ```
    pub async fn get(&self, get: impl Into<Get>) -> Result<Option<Value>, Error> {
        let Get { key, stale_ok } = get.into();
        check_key(&key)?;
        value(self.inner.execute(v1::GetRequest { key, stale_ok }, None).await?)
    }

    /// Stores a value under a key; returns once a majority of the shard's replicas has fsynced it.
    ///
    /// The version returned is newer than every version acknowledged for this key before the call.
    /// # Errors
    /// See [`Error`]. After [`Error::OutcomeUnknown`] it takes effect once or never; [`Put::resume`] tells which.
    /// # Examples
    /// ```no_run
    /// # use std::time::Duration; use chord_client::{Client, Error, Put};
    /// # async fn f(client: Client) -> Result<(), Error> {
    /// let put = Put::new("colour", "green").ttl(Duration::from_secs(60));
    /// let version = match client.put(put.clone()).await {
    ///     Err(Error::OutcomeUnknown { attempted, .. }) => client.put(put.resume(attempted)).await?,
    ///     other => other?,
    /// };
    /// # Ok(()) }
    /// ```
    pub async fn put(&self, put: Put) -> Result<Version, Error> {
        let (request, write) = put_request(put)?;
        version(self.inner.execute(request, Some(&write)).await?.version)
    }

    /// Deletes a key; says whether it had a value.
    ///
    /// # Errors
    /// See [`Error`].
    /// # Examples
    /// ```no_run
    /// # async fn f(client: chord_client::Client) -> Result<(), chord_client::Error> {
    /// let existed = client.delete("colour").await?;
    /// # Ok(()) }
    /// ```
    pub async fn delete(&self, delete: impl Into<Delete>) -> Result<bool, Error> {
        let (request, write) = delete_request(delete.into())?;
        Ok(self.inner.execute(request, Some(&write)).await?.existed)
    }

    /// Writes or deletes a key if its version is the expected one. That it is not is an answer, no error.
    ///
    /// # Errors
    /// See [`Error`].
    /// # Examples
    /// ```no_run
    /// # use chord_client::{Client, CompareAndSet, Error};
    /// # async fn f(client: Client) -> Result<(), Error> {
    /// let taken = client.compare_and_set(CompareAndSet::new("lock", "mine").expect_absent()).await?;
    /// if let (true, Some(version)) = (taken.applied, taken.version) {
    ///     client.compare_and_set(CompareAndSet::delete("lock").expect(version)).await?;
    /// }
    /// # Ok(()) }
    /// ```
    pub async fn compare_and_set(&self, change: CompareAndSet) -> Result<Compared, Error> {
        let (request, write) = compare_and_set_request(change)?;
        Ok(compared(self.inner.execute(request, Some(&write)).await?))
    }

    /// Reads a page of all keys. Each shard's part is a snapshot of that shard; keys that are there
    /// throughout the scan appear exactly once.
    ///
    /// # Errors
    /// See [`Error`]; [`Error::InvalidArgument`] for a limit outside 1..=1000 or a foreign cursor.
    /// # Examples
    /// ```no_run
    /// # use chord_client::{Client, Error, Scan};
    /// # async fn f(client: Client) -> Result<(), Error> {
    /// let mut scan = Scan::new().keys_only();
    /// loop {
    ///     let page = client.scan(scan.clone()).await?;
    ///     page.entries.iter().for_each(|entry| println!("{:?}", entry.key));
    ///     let Some(next) = page.next else { break };
    ///     scan = scan.after(next);
    /// }
    /// # Ok(()) }
    /// ```
    pub async fn scan(&self, scan: Scan) -> Result<Page, Error> {
        if !(1..=1000).contains(&scan.limit) {
            return Err(Error::InvalidArgument(format!("the limit is {}; a page has 1..=1000 entries", scan.limit)));
        }
        let request = v1::ScanRequest { shard: 0, cursor: scan.cursor, limit: scan.limit, keys_only: scan.keys_only };
        let answer = self
            .inner
            .anyone(|channel, timeout| {
                let request = request.clone();
                async move { Ok(call::kv(channel).scan(call::within(request, timeout)).await?.into_inner()) }
            })
            .await?;
        let entry = |e: v1::ScanEntry| Ok(Entry { key: e.key, value: e.value, version: version(e.version)? });
        Ok(Page {
            entries: answer.entries.into_iter().map(entry).collect::<Result<_, Error>>()?,
            next: (!answer.next_cursor.is_empty()).then_some(answer.next_cursor),
        })
    }

    /// Members as last learnt from the ring.
    pub fn members(&self) -> Vec<v1::Member> {
        self.inner.map(|map| map.members.clone()).unwrap_or_default()
    }

    /// Number of shards, and the ring's identity (16 bytes).
    pub fn ring(&self) -> (u32, Bytes) {
        self.inner.map(|map| (map.shards, Bytes::copy_from_slice(&map.ring_id))).unwrap_or_default()
    }

    /// Asks the ring for its members and shards now instead of when the need arises.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when none of some nodes answers.
    pub async fn refresh(&self) -> Result<(), Error> {
        self.inner.look().await.map_err(|message| Error::Unavailable { attempts: 1, waited: Duration::ZERO, message })
    }

    /// A channel to the client service at an address, for other services there (`RingView`).
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when the address is not host:port.
    pub fn channel(&self, address: &str) -> Result<Channel, Error> {
        self.inner.channel(address)
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }
}

pub(crate) fn put_request(put: Put) -> Result<(v1::PutRequest, Write), Error> {
    check_key(&put.key)?;
    check_value(&put.value)?;
    let ttl_ms = check_ttl(put.ttl)?;
    let write = Write::begin(&put.key, put.attempted);
    Ok((v1::PutRequest { key: put.key, value: put.value, ttl_ms, op_id: Some(write.op_id()) }, write))
}

pub(crate) fn delete_request(delete: Delete) -> Result<(v1::DeleteRequest, Write), Error> {
    check_key(&delete.key)?;
    let write = Write::begin(&delete.key, delete.attempted);
    Ok((v1::DeleteRequest { key: delete.key, op_id: Some(write.op_id()) }, write))
}

pub(crate) fn compare_and_set_request(it: CompareAndSet) -> Result<(v1::CompareAndSetRequest, Write), Error> {
    check_key(&it.key)?;
    check_value(it.value.as_deref().unwrap_or_default())?;
    let ttl_ms = check_ttl(it.ttl)?;
    let write = Write::begin(&it.key, it.attempted);
    let request = v1::CompareAndSetRequest {
        key: it.key,
        expected: it.expected.map(Into::into),
        value: it.value,
        ttl_ms,
        op_id: Some(write.op_id()),
    };
    Ok((request, write))
}

pub(crate) fn value(answer: v1::GetResponse) -> Result<Option<Value>, Error> {
    let Some(value) = answer.value else { return Ok(None) };
    Ok(Some(Value { value, version: version(answer.version)?, ttl: answer.ttl_ms.map(Duration::from_millis) }))
}

pub(crate) fn version(version: Option<v1::Version>) -> Result<Version, Error> {
    version.map(Into::into).ok_or_else(|| Error::Protocol("an answer without a version".into()))
}

pub(crate) fn compared(answer: v1::CompareAndSetResponse) -> Compared {
    Compared { applied: answer.applied, version: answer.version.map(Into::into) }
}
