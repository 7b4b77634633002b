//! Clients: one operation at a time, sent again with the same op id until it is decided or its time is over.
use crate::{
    clock::{MS, SECOND},
    history::{History, Kind, Op, Told, Value},
    swarm::Options,
    world::{Event, World, index_of},
};
use bytes::Bytes;
use chord::{
    id::Id,
    io::{Operation, Outcome, Retryable},
    shard::{
        config::ShardId,
        record::{OpId, Version},
    },
    time::Nanos,
};
use rand::RngExt as _;
use std::collections::BTreeMap;

/// How an attempt ended, for the client.
#[derive(Debug)]
pub enum Reply {
    /// Nobody took it.
    NotSent,
    /// No answer in time.
    Timeout,
    /// The node's answer.
    Outcome(Outcome),
}

/// What an attempt asked for, for the checks.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Key.
    pub key: Bytes,
    /// Not the first attempt.
    pub retry: bool,
}

#[derive(Clone, Copy, Debug)]
enum What {
    One(usize, Kind),
    Scan(ShardId),
}

#[derive(Debug)]
struct Doing {
    what: What,
    number: u64,
    invoke: u64,
    until: u64,
    attempt: u64,
    attempts: u32,
    /// An attempt may have had effect.
    maybe: bool,
}

#[derive(Debug, Default)]
struct Client {
    doing: Option<Doing>,
    numbers: u64,
    /// Whom to ask about a shard.
    hints: BTreeMap<ShardId, usize>,
    /// Revision last seen of a key.
    seen: BTreeMap<usize, Option<Version>>,
}

/// All clients and what they saw.
#[derive(Debug)]
pub struct Clients {
    clients: Vec<Client>,
    /// What they saw.
    pub history: History,
    keys: Vec<Bytes>,
    shards: u32,
    values: Value,
    attempts: u64,
    /// Whether they go on after the operation they are at.
    pub active: bool,
    /// Whether everything is healed and each key is read once more.
    reading: bool,
    /// Keys to read at the end.
    last_reads: Vec<usize>,
    /// Operations whose outcome is unknown, in words.
    pub undecided: Vec<String>,
    /// Operations that were answered.
    pub decided: u64,
    /// Operations that had no effect because nobody served them.
    pub failed: u64,
}

impl Clients {
    /// Clients that do nothing yet.
    pub fn new(options: &Options) -> Clients {
        Clients {
            clients: (0..options.clients).map(|_| Client::default()).collect(),
            history: History::default(),
            keys: (0..options.keys).map(|key| Bytes::from(format!("key-{key}"))).collect(),
            shards: options.settings.shards,
            values: 0,
            attempts: 0,
            active: false,
            reading: false,
            last_reads: Vec::new(),
            undecided: Vec::new(),
            decided: 0,
            failed: 0,
        }
    }

    fn shard_of(&self, key: usize) -> ShardId {
        ShardId::of(Id::of_key(&self.keys[key]), self.shards)
    }

    /// What an attempt that is being answered asked for; `None` for scans and for attempts given up.
    pub fn asked(&self, client: usize, attempt: u64) -> Option<Asked> {
        let doing = self.clients[client].doing.as_ref().filter(|doing| doing.attempt == attempt)?;
        match doing.what {
            What::One(key, _) => Some(Asked { key: self.keys[key].clone(), retry: doing.attempts > 1 }),
            What::Scan(_) => None,
        }
    }

    /// Whether nobody is at anything.
    pub fn idle(&self) -> bool {
        self.last_reads.is_empty() && self.clients.iter().all(|client| client.doing.is_none())
    }
}

impl World {
    /// Lets the clients begin.
    pub fn start_clients(&mut self) {
        self.clients.active = true;
        for client in 0..self.clients.clients.len() {
            let at = self.now + self.rng.random_range(0..=100 * MS);
            self.plan(at, Event::Think { client });
        }
    }

    /// Lets every key be read once more.
    pub fn start_last_reads(&mut self) {
        self.clients.reading = true;
        self.clients.last_reads = (0..self.clients.keys.len()).collect();
        for client in 0..self.clients.clients.len() {
            self.plan(self.now, Event::Think { client });
        }
    }

    /// A client begins an operation.
    pub fn think(&mut self, client: usize) {
        if self.clients.clients[client].doing.is_some() {
            return;
        }
        let (what, budget) = if self.clients.active {
            (self.choose(client), self.options.retry_budget)
        } else {
            match self.clients.last_reads.pop() {
                Some(key) => (What::One(key, Kind::Get), 20 * SECOND),
                None => return,
            }
        };
        let state = &mut self.clients.clients[client];
        state.numbers += 1;
        let (number, now) = (state.numbers, self.now);
        state.doing =
            Some(Doing { what, number, invoke: now, until: now + budget, attempt: 0, attempts: 0, maybe: false });
        self.attempt(client);
    }

    fn choose(&mut self, client: usize) -> What {
        let keys = self.clients.keys.len();
        let count = self.clients.clients.len();
        let mut key = self.rng.random_range(0..keys);
        let writes = self.rng.random_range(0..100) < self.options.writes;
        if writes && self.options.owned_keys {
            key = (key / count) * count + client;
            if key >= keys {
                key = client;
            }
        }
        if !writes {
            if self.rng.random_bool(0.15) {
                return What::Scan(ShardId(self.rng.random_range(0..self.clients.shards)));
            }
            return What::One(key % keys, Kind::Get);
        }
        let mut value = || {
            self.clients.values += 1;
            self.clients.values
        };
        let seen = self.clients.clients[client].seen.get(&(key % keys)).copied();
        let kind = match (self.rng.random_range(0..10), seen) {
            (0..=1, _) => Kind::Delete,
            (2, _) => {
                let ttl = self.rng.random_range(1..=2500) * MS;
                Kind::Put { value: value(), ttl: Some(ttl) }
            }
            (3..=4, Some(expected)) => {
                let value = if self.rng.random_bool(0.2) { 0 } else { value() };
                Kind::Cas { expected, value }
            }
            _ => Kind::Put { value: value(), ttl: None },
        };
        What::One(key % keys, kind)
    }

    /// Sends a client's operation, for the first time or again.
    pub fn attempt(&mut self, client: usize) {
        let now = self.now;
        let clients = &mut self.clients;
        clients.attempts += 1;
        let attempt = clients.attempts;
        let Some(doing) = clients.clients[client].doing.as_mut() else { return };
        doing.attempt = attempt;
        doing.attempts += 1;
        let retry = doing.attempts > 1;
        let id = OpId { client: client as u128 + 1, number: doing.number };
        let op = Retryable { id, retry, age: if retry { Nanos(now - doing.invoke) } else { Nanos(0) } };
        let what = doing.what;
        let bytes = |value: Value| Bytes::from(value.to_string());
        let (shard, operation) = match what {
            What::Scan(shard) => (shard, Operation::Scan { shard, after: None, limit: 1000 }),
            What::One(key, kind) => {
                let name = clients.keys[key].clone();
                let operation = match kind {
                    Kind::Get => Operation::Get { key: name, stale_ok: false },
                    Kind::Put { value, ttl } => {
                        Operation::Put { key: name, value: bytes(value), ttl_ms: ttl.map(|ttl| ttl / MS), op }
                    }
                    Kind::Delete => Operation::Delete { key: name, op },
                    Kind::Cas { expected, value } => Operation::CompareAndSet {
                        key: name,
                        expected,
                        value: (value != 0).then(|| bytes(value)),
                        ttl_ms: None,
                        op,
                    },
                };
                (clients.shard_of(key), operation)
            }
        };
        let candidates: Vec<usize> = (0..self.nodes.len()).filter(|index| !self.nodes[*index].removed).collect();
        let node = match self.clients.clients[client].hints.get(&shard) {
            Some(node) if candidates.contains(node) => *node,
            _ => candidates[self.rng.random_range(0..candidates.len())],
        };
        let time = self.rng.random_range(300 * MS..=1000 * MS);
        self.plan(now + time, Event::Client { client, attempt, reply: Reply::Timeout });
        if !self.net.loses(&mut self.rng) {
            let at = now + self.net.latency(&mut self.rng);
            let life = self.nodes[node].life;
            self.plan(at, Event::Operate { node, life, client, attempt, operation, time });
        }
    }

    /// A client hears how its attempt ended.
    pub fn on_reply(&mut self, client: usize, attempt: u64, reply: Reply) {
        let Some(doing) = self.clients.clients[client].doing.as_mut().filter(|doing| doing.attempt == attempt) else {
            return;
        };
        let what = doing.what;
        let shard = match what {
            What::Scan(shard) => shard,
            What::One(key, _) => self.clients.shard_of(key),
        };
        let told = |told| Some(vec![(None, told)]);
        let mut wait = 20 * MS;
        let mut hint = None;
        let mut maybe = false;
        let answers: Option<Vec<(Option<usize>, Told)>> = match &reply {
            Reply::NotSent => None,
            Reply::Timeout => {
                maybe = true;
                None
            }
            Reply::Outcome(outcome) => match outcome {
                Outcome::Value(found) => {
                    told(Told::Value(found.as_ref().map(|(bytes, rev, _)| (value_of(bytes), *rev))))
                }
                Outcome::Written(revision) => told(Told::Written(*revision)),
                Outcome::Deleted(existed) => told(Told::Deleted(*existed)),
                Outcome::Compared { applied, revision } => {
                    told(Told::Compared { applied: *applied, revision: *revision })
                }
                Outcome::Page(page, false) => {
                    let of = |key: &usize| self.clients.shard_of(*key) == shard;
                    let keys = (0..self.clients.keys.len()).filter(of);
                    let found = |key: usize| page.iter().find(|(name, _, _)| *name == self.clients.keys[key]);
                    Some(
                        keys.map(|key| {
                            let seen = found(key).map(|(_, bytes, revision)| (value_of(bytes), *revision));
                            (Some(key), Told::Value(seen))
                        })
                        .collect(),
                    )
                }
                Outcome::NotLeader(node) => {
                    hint = node.as_ref().and_then(|node| index_of(&node.internal_addr));
                    wait = 5 * MS;
                    None
                }
                Outcome::Unknown(why) => {
                    maybe = true;
                    self.trace.sometimes(if why.contains("too many operations") {
                        "retry too late to be told"
                    } else {
                        "leader deposed during a write"
                    });
                    None
                }
                Outcome::DiskFull => {
                    self.trace.sometimes("write refused: disk full");
                    None
                }
                Outcome::Unavailable(_) | Outcome::Overloaded(_) => None,
                Outcome::Page(..) | Outcome::Path { .. } | Outcome::Invalid(_) => {
                    return self.watch.fail(format!("client {client} was told {reply:?}"));
                }
            },
        };
        let text = format!("{:?} by client {client}, last told {reply:?}", what);
        let state = &mut self.clients.clients[client];
        let Some(doing) = state.doing.as_mut() else { return };
        doing.maybe |= maybe;
        match answers {
            Some(answers) => {
                let doing = state.doing.take().expect("looked at just now");
                if doing.attempts > 1 {
                    self.trace.sometimes("retry answered");
                }
                self.clients.decided += 1;
                self.record(client, &doing, answers);
            }
            None => {
                match hint {
                    Some(node) => {
                        state.hints.insert(shard, node);
                    }
                    None => {
                        state.hints.remove(&shard);
                    }
                }
                let at = self.now + self.rng.random_range(wait / 2..=wait * 3);
                let state = &mut self.clients.clients[client];
                if let Some(doing) = state.doing.as_mut().filter(|doing| at < doing.until) {
                    // What this attempt may still be told does not count any more.
                    doing.attempt = 0;
                    return self.plan(at, Event::Again { client });
                }
                let Some(doing) = state.doing.take() else { return };
                self.give_up(client, &doing, &text);
            }
        }
        let at = self.now + self.rng.random_range(0..=self.options.think);
        self.plan(at, Event::Think { client });
    }

    fn give_up(&mut self, client: usize, doing: &Doing, text: &str) {
        let What::One(key, kind) = doing.what else { return };
        if self.clients.reading {
            self.watch.fail(format!("a key cannot be read after everything is healed: {text}"));
        }
        if doing.maybe && kind != Kind::Get {
            self.clients.undecided.push(text.to_owned());
            let op = Op { client, kind, invoke: doing.invoke, ret: u64::MAX, told: None };
            self.clients.history.keys.entry(key).or_default().push(op);
        } else {
            self.clients.failed += 1;
        }
    }

    fn record(&mut self, client: usize, doing: &Doing, answers: Vec<(Option<usize>, Told)>) {
        for (which, told) in answers {
            let (key, kind) = match (doing.what, which) {
                (What::One(key, kind), _) => (key, kind),
                (What::Scan(_), Some(key)) => (key, Kind::Get),
                (What::Scan(_), None) => continue,
            };
            let seen = match told {
                Told::Value(found) => Some(found.map(|(_, revision)| revision)),
                Told::Written(revision) => Some(Some(revision)),
                Told::Deleted(_) => Some(None),
                Told::Compared { revision, .. } => Some(revision),
            };
            if let Some(seen) = seen {
                self.clients.clients[client].seen.insert(key, seen);
            }
            let op = Op { client, kind, invoke: doing.invoke, ret: self.now, told: Some(told) };
            self.clients.history.keys.entry(key).or_default().push(op);
        }
    }
}

fn value_of(bytes: &Bytes) -> Value {
    std::str::from_utf8(bytes).ok().and_then(|text| text.parse().ok()).unwrap_or(Value::MAX)
}
