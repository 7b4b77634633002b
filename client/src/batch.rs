//! Several independent operations in few calls: one per shard leader.
use crate::{
    call::{self, Call, Write},
    client::{self, Client},
    error::Error,
    inner::{self, Inner},
    ops::{CompareAndSet, Compared, Delete, Get, Put, Value, Version, check_key},
    pool::Peer,
    retry::{self, Attempts, Failure},
};
use chord_proto::v1::{self, operation::Kind as Ask, operation_result::Kind as Answer};
use futures::{StreamExt as _, stream::FuturesUnordered};
use std::{sync::Arc, time::Duration};
use tonic::{Code, Status};

/// Most operations in one call.
const OPERATIONS_MAX: usize = 1000;
/// Most bytes of keys and values in one call; a single operation always fits.
const BYTES_MAX: usize = 4 << 20;

/// An operation of a batch.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Operation {
    /// Read.
    Get(Get),
    /// Write.
    Put(Put),
    /// Delete.
    Delete(Delete),
    /// Write or delete under a condition.
    CompareAndSet(CompareAndSet),
}

/// What came of an [`Operation`], of the same kind.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Done {
    /// Value, if there is one.
    Get(Option<Value>),
    /// Version made.
    Put(Version),
    /// Whether there was a value.
    Delete(bool),
    /// Whether it was applied, and the version now.
    CompareAndSet(Compared),
}

/// An operation on its way.
struct Item {
    place: usize,
    ask: Ask,
    write: Option<Write>,
}

impl Client {
    /// Does several independent operations, in no order, and returns their results in the order given. They are sent
    /// to each shard leader together; what fails there is retried one by one. There is no transaction: some may
    /// succeed where others fail.
    ///
    /// Each result has the errors of the single operation.
    /// # Examples
    /// ```no_run
    /// # use chord_client::{Client, Done, Get, Operation, Put};
    /// # async fn f(client: Client) {
    /// let results = client.batch([Operation::Put(Put::new("a", "1")), Operation::Get(Get::new("b"))]).await;
    /// if let Ok(Done::Get(Some(found))) = &results[1] {
    ///     println!("b is {:?}", found.value);
    /// }
    /// # }
    /// ```
    pub async fn batch(&self, operations: impl IntoIterator<Item = Operation>) -> Vec<Result<Done, Error>> {
        let mut results = Vec::new();
        let mut groups: Vec<Group> = Vec::new();
        let mut single = Vec::new();
        for (place, operation) in operations.into_iter().enumerate() {
            results.push(Err(Error::Protocol("an operation without a result".into())));
            match Item::new(place, operation) {
                Err(error) => results[place] = Err(error),
                Ok(item) => match self.inner().leader(item.key()) {
                    Some(leader) => Group::add(&mut groups, leader, item),
                    None => single.push(item),
                },
            }
        }
        let inner = self.inner();
        let mut calls: FuturesUnordered<_> = groups.into_iter().map(|group| inner.send_group(group)).collect();
        while let Some((done, failed)) = calls.next().await {
            for (place, result) in done {
                results[place] = result;
            }
            single.extend(failed);
        }
        let mut retries: FuturesUnordered<_> = single.into_iter().map(|item| inner.alone(item)).collect();
        while let Some((place, result)) = retries.next().await {
            results[place] = result;
        }
        results
    }
}

/// Operations for one call.
struct Group {
    leader: Arc<Peer>,
    items: Vec<Item>,
    bytes: usize,
}

impl Group {
    fn add(groups: &mut Vec<Group>, leader: Arc<Peer>, item: Item) {
        let bytes = item.bytes();
        let fits = |group: &&mut Group| {
            let room = group.items.len() < OPERATIONS_MAX && group.bytes + bytes <= BYTES_MAX;
            room && Arc::ptr_eq(&group.leader, &leader)
        };
        match groups.iter_mut().rev().find(fits) {
            Some(group) => {
                group.bytes += bytes;
                group.items.push(item);
            }
            None => groups.push(Group { leader, items: vec![item], bytes }),
        }
    }
}

type Results = Vec<(usize, Result<Done, Error>)>;

impl Inner {
    /// Sends a group; returns the results, and what has to be sent again.
    async fn send_group(self: &Arc<Self>, group: Group) -> (Results, Vec<Item>) {
        group.items.iter().for_each(|_| self.budget.earn());
        let operations = group.items.iter().map(|item| v1::Operation { kind: Some(item.stamped()) }).collect();
        let timeout = self.settings.deadline.min(self.settings.attempt_timeout);
        let mut kv = call::kv(group.leader.channel());
        let sent = kv.batch(call::within(v1::BatchRequest { operations }, timeout));
        let answer = tokio::time::timeout(timeout, sent).await.unwrap_or_else(|_| Err(inner::timed_out(timeout)));
        match answer.map(|answer| answer.into_inner().results) {
            Ok(results) if results.len() == group.items.len() => {
                group.leader.answered();
                sort_out(group.items, results)
            }
            Ok(results) => {
                let text = format!("{} results for {} operations", results.len(), group.items.len());
                let lost = group.items.into_iter().map(Item::lost).collect();
                tracing::warn!(text, "a batch was answered wrongly");
                (Vec::new(), lost)
            }
            Err(status) => {
                let failure = retry::classify(&status);
                if matches!(failure, Failure::NotSent | Failure::Lost) {
                    self.avoid(&group.leader);
                }
                self.learn();
                sort_failed(group.items, &failure)
            }
        }
    }

    /// Does one operation on its own.
    async fn alone(self: &Arc<Self>, item: Item) -> (usize, Result<Done, Error>) {
        let (place, write) = (item.place, item.write.as_ref());
        let result = match item.ask {
            Ask::Get(ask) => self.execute(ask, None).await.and_then(|a| done(Answer::Get(a))),
            Ask::Put(ask) => self.execute(ask, write).await.and_then(|a| done(Answer::Put(a))),
            Ask::Delete(ask) => self.execute(ask, write).await.and_then(|a| done(Answer::Delete(a))),
            Ask::CompareAndSet(ask) => self.execute(ask, write).await.and_then(|a| done(Answer::CompareAndSet(a))),
        };
        (place, result)
    }
}

fn sort_out(items: Vec<Item>, results: Vec<v1::OperationResult>) -> (Results, Vec<Item>) {
    let (mut finished, mut again) = (Vec::new(), Vec::new());
    for (item, result) in items.into_iter().zip(results) {
        match result.kind {
            Some(Answer::Error(error)) => {
                match retry::classify(&Status::new(Code::from_i32(error.code), error.message)) {
                    // A part of a batch comes without details: alone it will say whether it is load or room.
                    Failure::Fatal(Error::NoSpace(_)) => again.push(item),
                    failure => {
                        let (done, retry) = sort_failed(vec![item], &failure);
                        finished.extend(done);
                        again.extend(retry);
                    }
                }
            }
            Some(answer) => finished.push((item.place, done(answer))),
            None => again.push(item.lost()),
        }
    }
    (finished, again)
}

fn sort_failed(items: Vec<Item>, failure: &Failure) -> (Results, Vec<Item>) {
    match failure {
        Failure::Lost => (Vec::new(), items.into_iter().map(Item::lost).collect()),
        Failure::NotSent | Failure::Refused | Failure::Overloaded(_) => (Vec::new(), items),
        // An earlier attempt under another deadline leaves the outcome open.
        Failure::Fatal(error) => {
            let result = |item: Item| {
                let fatal = Failure::Fatal(error.clone());
                let mut attempts = Attempts::of(item.write.as_ref());
                let failed = attempts.failed(fatal, error.to_string(), Duration::ZERO, Duration::ZERO);
                (item.place, Err(failed.err().unwrap_or_else(|| error.clone())))
            };
            (items.into_iter().map(result).collect(), Vec::new())
        }
    }
}

impl Item {
    fn new(place: usize, operation: Operation) -> Result<Item, Error> {
        let write = |ask, write| Item { place, ask, write: Some(write) };
        Ok(match operation {
            Operation::Get(get) => {
                check_key(&get.key)?;
                let ask = Ask::Get(v1::GetRequest { key: get.key, stale_ok: get.stale_ok });
                Item { place, ask, write: None }
            }
            Operation::Put(put) => client::put_request(put).map(|(ask, it)| write(Ask::Put(ask), it))?,
            Operation::Delete(delete) => client::delete_request(delete).map(|(ask, it)| write(Ask::Delete(ask), it))?,
            Operation::CompareAndSet(change) => {
                client::compare_and_set_request(change).map(|(ask, it)| write(Ask::CompareAndSet(ask), it))?
            }
        })
    }

    /// It may have taken effect: from now on it is a retry.
    fn lost(mut self) -> Item {
        if let Some(write) = &mut self.write {
            write.maybe = true;
        }
        self
    }

    fn key(&self) -> &[u8] {
        match &self.ask {
            Ask::Get(ask) => ask.key(),
            Ask::Put(ask) => ask.key(),
            Ask::Delete(ask) => ask.key(),
            Ask::CompareAndSet(ask) => ask.key(),
        }
    }

    fn bytes(&self) -> usize {
        let value = match &self.ask {
            Ask::Put(ask) => ask.value.len(),
            Ask::CompareAndSet(ask) => ask.value.as_ref().map_or(0, |value| value.len()),
            Ask::Get(_) | Ask::Delete(_) => 0,
        };
        self.key().len() + value + 64
    }

    fn stamped(&self) -> Ask {
        let mut ask = self.ask.clone();
        let op_id = match &mut ask {
            Ask::Get(ask) => ask.op_id(),
            Ask::Put(ask) => ask.op_id(),
            Ask::Delete(ask) => ask.op_id(),
            Ask::CompareAndSet(ask) => ask.op_id(),
        };
        if let (Some(op_id), Some(write)) = (op_id, &self.write) {
            write.stamp(op_id, write.maybe);
        }
        ask
    }
}

fn done(answer: Answer) -> Result<Done, Error> {
    Ok(match answer {
        Answer::Get(answer) => Done::Get(client::value(answer)?),
        Answer::Put(answer) => Done::Put(client::version(answer.version)?),
        Answer::Delete(answer) => Done::Delete(answer.existed),
        Answer::CompareAndSet(answer) => Done::CompareAndSet(client::compared(answer)),
        Answer::Error(error) => return Err(Error::Protocol(error.message)),
    })
}
