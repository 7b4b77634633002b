//! Messages of peers, answers and operations, in any order, as they come off the wire.
use bytes::Bytes;
use chord::{
    Core,
    id::Id,
    io::{AdminAction, AdminRequest, CallError, CallId, Input, Operation, Output, Retryable, Token},
    member::{Disk, Member, MemberKey, MemberState, NodeRef},
    msg::{RingReply, RingRequest},
    settings::Settings,
    shard::{config::ShardId, record::OpId},
    time::{Nanos, Now},
};
use chord_node::rpc::convert;
use chord_proto::v1;
use prost::Message;
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use sim::disk::{Disk as SimDisk, MemStore};
use std::{cell::RefCell, collections::VecDeque, rc::Rc};

/// Most outputs of one input: every peer, key and shard here is counted.
const OUTPUTS_MAX: usize = 10_000;
/// Most inputs of one run.
const STEPS_MAX: usize = 400;

fn node(ordinal: u32) -> NodeRef {
    NodeRef {
        key: MemberKey { id: Id::of_ordinal(ordinal), disk: Disk(u128::from(ordinal) + 1) },
        incarnation: 1,
        name: format!("n-{ordinal}"),
        internal_addr: format!("n-{ordinal}:7400"),
        client_addr: format!("n-{ordinal}:7401"),
        zone: String::new(),
    }
}

fn decoded<M: Message + Default, T, E>(bytes: &[u8], convert: impl FnOnce(M) -> Result<T, E>) -> Option<T> {
    convert(M::decode(bytes).ok()?).ok()
}

/// A member of a ring of three, whose other two are the fuzzer.
struct Victim {
    core: Core<MemStore>,
    disk: Rc<RefCell<SimDisk>>,
    rng: ChaCha8Rng,
    now: u64,
    tokens: u64,
    written: u64,
    calls: VecDeque<CallId>,
}

impl Victim {
    fn new() -> Victim {
        let me = node(0);
        let disk = Rc::new(RefCell::new(SimDisk::new(me.key)));
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let settings = Settings { shards: 4, ..Settings::default() };
        let core = Core::start(Now::default(), &mut rng, MemStore(disk.clone()), me, settings)
            .unwrap_or_else(|error| panic!("settings are right: {error}"));
        let mut victim = Victim { core, disk, rng, now: 0, tokens: 0, written: 0, calls: VecDeque::new() };
        victim.admin(AdminAction::Bootstrap { ring_id: 7 });
        let rumors =
            [1, 2].map(|ordinal| Member { node: node(ordinal), revision: 1, state: MemberState::Serving }).to_vec();
        victim.ask(RingRequest::Gossip { from: node(1), view_hash: 0, rumors, map_hash: 0 });
        victim
    }

    fn token(&mut self) -> Token {
        self.tokens += 1;
        Token(self.tokens)
    }

    fn ask(&mut self, request: RingRequest) {
        let token = self.token();
        self.step(Input::Ring { token, request });
    }

    fn admin(&mut self, action: AdminAction) {
        let token = self.token();
        self.step(Input::Admin { token, request: AdminRequest { operator_epoch: None, disk: None, action } });
    }

    fn step(&mut self, input: Input) {
        let mut out = Vec::new();
        let now = Now { mono: Nanos::from_millis(self.now), wall_ms: 1_000_000 + self.now };
        self.core.step(now, &mut self.rng, input, &mut out);
        let written = self.core.written();
        if written > self.written {
            self.written = written;
            self.disk.borrow_mut().sync(written);
            self.core.step(now, &mut self.rng, Input::Persisted(written), &mut out);
        }
        assert!(out.len() <= OUTPUTS_MAX, "{} outputs of one input", out.len());
        self.calls.extend(out.iter().filter_map(|output| match output {
            Output::Call { call, .. } => Some(*call),
            _ => None,
        }));
    }

    /// A message of a peer or an answer, of which only the kind is given. Whether it could be read.
    fn hear(&mut self, kind: u8, peer: u8, bytes: &[u8]) -> bool {
        let from = node(1 + u32::from(peer) % 2).key;
        let request = match kind % 16 {
            0..=4 => {
                let Some(message) = decoded(bytes, convert::shard_msg) else { return false };
                // What can be read is written as it was read.
                let wire = convert::from_shard_msg(&message);
                assert_eq!(convert::shard_msg(wire), Ok(message.clone()));
                self.step(Input::Shard { from, messages: vec![message] });
                return true;
            }
            5 => decoded(bytes, convert::find_successor),
            6 => decoded(bytes, convert::closest_request),
            7 => decoded(bytes, convert::gossip),
            8 => decoded(bytes, convert::leave),
            9 => decoded(bytes, convert::node).map(|joiner| RingRequest::Join { joiner }),
            10 => decoded(bytes, convert::node).map(|from| RingRequest::Notify { from }),
            11 => decoded(bytes, convert::node).map(|from| RingRequest::Ping { from }),
            12 => return self.answer(peer, bytes),
            13 => {
                self.operate(peer, bytes);
                return false;
            }
            14 => {
                self.admin(match peer % 4 {
                    0 => AdminAction::Leave,
                    1 => AdminAction::AbortLeave,
                    2 => AdminAction::PrepareRestart { ttl: Nanos::from_millis(500) },
                    _ => AdminAction::Evict { member: from },
                });
                return false;
            }
            _ => {
                self.step(match peer % 3 {
                    0 => Input::PeerDown { peer: from, refused: true },
                    1 => Input::DiskFull(bytes.is_empty()),
                    _ => Input::Tick,
                });
                return false;
            }
        };
        let Some(request) = request else { return false };
        self.ask(request);
        true
    }

    fn answer(&mut self, kind: u8, bytes: &[u8]) -> bool {
        let Some(call) = self.calls.pop_front() else { return false };
        let reply = match kind % 7 {
            0 => decoded(bytes, convert::find_successor_reply),
            1 => decoded(bytes, convert::neighbours).map(RingReply::GetSuccessorList),
            2 => decoded(bytes, convert::closest),
            3 => decoded(bytes, convert::join_reply).map(RingReply::Join),
            4 => decoded(bytes, |reply: v1::GossipResponse| convert::members(reply.members))
                .map(|members| RingReply::Gossip { members, map_differs: kind > 127 }),
            5 => decoded(bytes, convert::finger_table),
            _ => decoded(bytes, convert::node).map(|node| RingReply::Ping { node, member: kind > 127 }),
        };
        let came = reply.is_some();
        self.step(Input::CallDone { call, result: reply.ok_or(CallError::Rejected) });
        came
    }

    fn operate(&mut self, kind: u8, bytes: &[u8]) {
        let (key, value) = bytes.split_at(bytes.len().min(2));
        let (key, value) = (Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
        let id = OpId { client: u128::from(kind >> 4), number: self.tokens };
        let op = Retryable { id, retry: kind > 127, age: Nanos(0) };
        let operation = match kind % 6 {
            0 => Operation::Get { key, stale_ok: kind > 127 },
            1 => Operation::Put { key, value, ttl_ms: (kind > 127).then_some(50), op },
            2 => Operation::Delete { key, op },
            3 => Operation::CompareAndSet { key, expected: None, value: Some(value), ttl_ms: None, op },
            4 => Operation::Scan { shard: ShardId(u32::from(kind) >> 4), after: Some(key), limit: value.len() },
            _ => Operation::Lookup { target: Id::of_key(&key) },
        };
        let (token, deadline) = (self.token(), Nanos::from_millis(self.now + 100));
        self.step(Input::Client { token, operation, deadline });
    }
}

/// Runs a member on what the bytes say: kind, peer, time that passes (ms / 8), length, message; again and again.
pub fn core(data: &[u8]) -> bool {
    let mut victim = Victim::new();
    let (mut rest, mut heard) = (data, false);
    for _ in 0..STEPS_MAX {
        let Some((&[kind, peer, pause, length], after)) = rest.split_first_chunk() else { break };
        let (message, after) = after.split_at(after.len().min(usize::from(length)));
        victim.now += u64::from(pause) * 8;
        if pause > 64 {
            victim.step(Input::Tick);
        }
        heard |= victim.hear(kind, peer, message);
        rest = after;
    }
    heard
}
