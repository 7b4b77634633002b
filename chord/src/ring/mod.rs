//! The ring: Chord with Zave's corrections (ring.md 2.3), and what a real network needs besides (2.5).
//!
//! The ring is a hint: it proposes who holds what and finds its way in O(log N) hops. No data rests on
//! its being right. `successors` has the list and its one repair, `fingers` the table and routing,
//! `join`, `stabilize` and `lookup` the protocol steps, one file each; here they come together.
mod fingers;
mod join;
mod lookup;
mod stabilize;
mod successors;

use crate::{
    id::Id,
    io::{CallError, CallId, Output, Token},
    member::{Member, MemberKey, NodeRef, View},
    msg::{Neighbours, RingReply, RingRequest},
    rules::Rule,
    settings::Settings,
    time::{Nanos, Now},
};
use fingers::Fingers;
use join::Joining;
use lookup::{Forward, Walk};
use rand::{Rng, RngExt as _};
use stabilize::Round;
use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{Hash, Hasher},
};
pub use successors::cut;

/// Time for one question to a neighbour.
const CALL_TIMEOUT: Nanos = Nanos::from_millis(1000);
/// Pause before a joiner looks again whether its successor knows it.
const ANNOUNCE_PAUSE: Nanos = Nanos::from_millis(50);
/// Most questions of others that this node forwards at a time.
const FORWARDS_MAX: usize = 4096;

/// What is fixed when a ring is founded.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Genesis {
    /// Identity of the ring.
    pub ring_id: u128,
    /// Number of shards.
    pub shards: u32,
    /// Replicas per shard.
    pub replication_factor: usize,
}

/// The node around the ring, for one step.
pub struct RingEnv<'a> {
    /// Both clocks.
    pub now: Now,
    /// The only source of chance.
    pub rng: &'a mut dyn Rng,
    /// All members this node knows of: whom to rejoin through, and whom to probe.
    pub view: &'a View,
    /// Members the failure detector holds for dead.
    pub suspects: &'a BTreeSet<MemberKey>,
    /// Tunables.
    pub settings: &'a Settings,
    /// Set once the node is in a ring.
    pub genesis: Option<Genesis>,
    /// Number of the last call; shared with the rest of the node.
    pub calls: &'a mut u64,
    /// Outputs.
    pub out: &'a mut Vec<Output>,
}

impl RingEnv<'_> {
    fn call(&mut self, addr: &str, request: RingRequest) -> CallId {
        *self.calls += 1;
        let call = CallId(*self.calls);
        self.out.push(Output::Call { call, addr: addr.to_owned(), request, timeout: CALL_TIMEOUT });
        call
    }
    fn reply(&mut self, token: Token, reply: RingReply) {
        self.out.push(Output::Reply { token, reply });
    }
    /// `interval` from now, give or take a quarter.
    fn jittered(&mut self, interval: Nanos) -> Nanos {
        self.now.mono + Nanos(self.rng.random_range(interval.0 * 3 / 4..=interval.0 * 5 / 4))
    }
}

/// What the rest of the node should know.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum RingNews {
    /// A fresh node was adopted.
    Joined {
        /// The ring.
        genesis: Genesis,
        /// Its members.
        members: Vec<Member>,
    },
    /// No member will ever adopt this node; says why.
    JoinRefused(String),
    /// The first successor changed.
    Successor(Option<NodeRef>),
    /// The predecessor changed.
    Predecessor(Option<NodeRef>),
    /// All successors are lost.
    Rejoining,
    /// A traced lookup ended here.
    LookupDone {
        /// Contacts, including the owner.
        hops: u32,
    },
    /// A round of stabilization ended well.
    Stabilized,
}

/// What a question to a peer is for.
#[derive(Clone, Hash)]
enum Purpose {
    Stabilize(Round),
    Rectify { candidate: NodeRef },
    Probe,
    Notify,
    Join,
    Forward(Forward),
    Walk(Walk),
}

/// One node's part in the ring.
#[derive(Clone)]
pub struct Ring {
    me: NodeRef,
    member: bool,
    /// Its successor has named it as its predecessor since it joined (or there is no other member). Lookups end here only
    /// from then on, so that a successor that has not heard of its joiner yet is still right to name itself.
    announced: bool,
    /// Nearest first. Empty in a ring of one, and in an orphan: `founded` tells them apart.
    successors: Vec<NodeRef>,
    predecessor: Option<NodeRef>,
    /// Alone by right: it founded the ring, or re-formed it, and nobody has joined yet.
    alone: bool,
    /// Candidate for first successor, to be asked next.
    stab: Option<NodeRef>,
    /// Who notified last and was not looked at yet.
    rect: Option<NodeRef>,
    /// A step of its own is between send and apply.
    stabilizing: bool,
    fingers: Fingers,
    joining: Option<Joining>,
    calls: BTreeMap<CallId, Purpose>,
    misses: BTreeMap<MemberKey, u32>,
    forwards: usize,
    stabilize_at: Nanos,
    fingers_at: Nanos,
    probe_at: Nanos,
    news: Vec<RingNews>,
}

/// What a node does next, to the models: they fire any timer at any moment, and the numbers of calls say nothing.
impl Hash for Ring {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Ring { me, member, successors, predecessor, alone, stab, rect, stabilizing, fingers, joining, .. } = self;
        (me, member, successors, predecessor, alone, stab, rect, stabilizing, fingers, joining).hash(state);
        (self.announced, &self.misses, self.forwards).hash(state);
        self.calls.values().for_each(|purpose| purpose.hash(state));
    }
}

impl Ring {
    /// A node that is in no ring.
    pub fn new(me: NodeRef) -> Ring {
        let never = Nanos(u64::MAX);
        Ring {
            me,
            member: false,
            announced: false,
            successors: Vec::new(),
            predecessor: None,
            alone: false,
            stab: None,
            rect: None,
            stabilizing: false,
            fingers: Fingers::default(),
            joining: None,
            calls: BTreeMap::new(),
            misses: BTreeMap::new(),
            forwards: 0,
            stabilize_at: never,
            fingers_at: never,
            probe_at: never,
            news: Vec::new(),
        }
    }

    /// Makes a ring of one. Only genesis, and the smallest of a ring of orphans, may.
    pub fn found(&mut self, env: &mut RingEnv) {
        self.become_member(Vec::new(), None, env);
        (self.alone, self.announced) = (true, true);
    }

    /// Takes its place with pointers that are known to be right, as in simulations of large rings, which need not
    /// grow by one join after the other. `fingers`: index and node.
    pub fn settle(
        &mut self,
        predecessor: NodeRef,
        successors: Vec<NodeRef>,
        fingers: impl IntoIterator<Item = (u32, NodeRef)>,
        env: &mut RingEnv,
    ) {
        self.become_member(successors, Some(predecessor), env);
        self.announced = true;
        for (index, node) in fingers {
            self.fingers.set(index..=index, Some(node));
        }
    }

    fn become_member(&mut self, successors: Vec<NodeRef>, predecessor: Option<NodeRef>, env: &mut RingEnv) {
        self.member = true;
        (self.alone, self.announced) = (false, false);
        self.joining = None;
        (self.stab, self.rect, self.stabilizing) = (None, None, false);
        self.set_predecessor(predecessor);
        self.set_successors(successors);
        self.stabilize_at = env.now.mono;
        self.fingers_at = env.now.mono + Nanos(env.settings.fix_fingers_interval.0 / 10);
        self.probe_at = env.jittered(env.settings.probe_interval);
    }

    /// `first` and what follows it, as this node's successor list.
    fn list(&self, first: NodeRef, rest: &[NodeRef], env: &RingEnv) -> Vec<NodeRef> {
        let length = env.settings.successor_list_length;
        if !env.settings.holds(Rule::CutLists) {
            return std::iter::once(&first).chain(rest).take(length).cloned().collect();
        }
        cut(self.me.id(), first, rest, length)
    }

    fn set_successors(&mut self, successors: Vec<NodeRef>) {
        let before = self.successors.first().map(NodeRef::id);
        self.successors = successors;
        if !self.successors.is_empty() {
            self.alone = false;
        }
        if self.successors.first().map(NodeRef::id) != before {
            self.news.push(RingNews::Successor(self.successors.first().cloned()));
        }
    }

    fn set_predecessor(&mut self, predecessor: Option<NodeRef>) {
        let changed = predecessor.as_ref().map(|node| node.key) != self.predecessor.as_ref().map(|node| node.key);
        self.predecessor = predecessor;
        if changed {
            self.news.push(RingNews::Predecessor(self.predecessor.clone()));
        }
    }

    /// Answers a peer. Everything but `Gossip`, which is the node's.
    pub fn on_request(&mut self, token: Token, request: RingRequest, env: &mut RingEnv) {
        match request {
            RingRequest::FindSuccessor { target, hops, trace } => {
                self.on_find_successor(token, target, hops, trace, env);
            }
            RingRequest::GetPredecessor => env.reply(token, RingReply::GetPredecessor(self.predecessor.clone())),
            RingRequest::GetSuccessorList => env.reply(token, RingReply::GetSuccessorList(self.neighbours())),
            RingRequest::ClosestPrecedingFinger { target, avoid, as_owner } => {
                let reply = if self.answers_lookups() {
                    let (node, is_owner, via) = if as_owner {
                        self.nearest_owner(target, env.suspects, &avoid)
                    } else {
                        self.next_hop(target, env.suspects, &avoid)
                    };
                    RingReply::ClosestPrecedingFinger { node, is_owner, via }
                } else {
                    RingReply::Refused(NOT_A_MEMBER.into())
                };
                env.reply(token, reply);
            }
            RingRequest::GetFingerTable => {
                let fingers = self.fingers().into_iter().map(|(index, _, node)| (index, node)).collect();
                env.reply(token, RingReply::GetFingerTable(fingers));
            }
            RingRequest::Notify { from } => {
                self.on_notify(from, env);
                env.reply(token, RingReply::Notify);
            }
            RingRequest::Ping { .. } => {
                env.reply(token, RingReply::Ping { node: self.me.clone(), member: self.member });
            }
            RingRequest::Join { joiner } => {
                let reply = self.on_join(joiner, env);
                env.reply(token, reply);
            }
            RingRequest::Leave { from, predecessor, successors } => {
                self.on_leave(from, predecessor, successors, env);
                env.reply(token, RingReply::Leave);
            }
            RingRequest::Gossip { .. } => env.reply(token, RingReply::Refused("not the ring's to answer".into())),
        }
    }

    /// The end of a call; false when it was not the ring's.
    pub fn on_call_done(&mut self, call: CallId, result: Result<RingReply, CallError>, env: &mut RingEnv) -> bool {
        let Some(purpose) = self.calls.remove(&call) else { return false };
        match purpose {
            Purpose::Stabilize(round) => self.on_stabilize_reply(round, result, env),
            Purpose::Rectify { candidate } => self.on_rectify_reply(candidate, result),
            Purpose::Probe => self.on_probe_reply(result, env),
            // Whether the successor took the word is seen in its own.
            Purpose::Notify if !self.announced => {
                self.stabilize_at = self.stabilize_at.min(env.now.mono + ANNOUNCE_PAUSE);
            }
            Purpose::Notify => {}
            Purpose::Join => self.on_join_reply(result, env),
            Purpose::Forward(forward) => self.on_forward_reply(forward, result, env),
            Purpose::Walk(walk) => self.on_walk_reply(walk, result, env),
        }
        true
    }

    /// A peer is dead: act at once where it matters.
    pub fn on_peer_down(&mut self, peer: &MemberKey, env: &mut RingEnv) {
        self.fingers.forget(peer);
        if self.successors.first().is_some_and(|first| first.key == *peer) && !self.stabilizing {
            self.drop_first_successor(env);
        }
    }

    /// Does what is due.
    pub fn tick(&mut self, env: &mut RingEnv) {
        let now = env.now.mono;
        if self.joining.as_ref().is_some_and(|joining| joining.at <= now) {
            self.join_step(env);
        }
        if !self.member {
            return;
        }
        if self.stabilize_at <= now {
            self.stabilize_at = env.jittered(env.settings.stabilize_interval);
            self.stabilize(env);
        }
        if self.fingers_at <= now {
            self.fingers_at = env.jittered(env.settings.fix_fingers_interval);
            self.fix_fingers(env);
        }
        if self.probe_at <= now {
            self.probe_at = env.jittered(env.settings.probe_interval);
            self.probe(env);
        }
    }

    /// When `tick` has something to do.
    pub fn next_deadline(&self) -> Nanos {
        let joining = self.joining.as_ref().map_or(Nanos(u64::MAX), |joining| joining.at);
        let ring = self.stabilize_at.min(self.fingers_at).min(self.probe_at);
        if self.member { joining.min(ring) } else { joining }
    }

    /// Stops being a member; tells the neighbours so that they need no timeout.
    pub fn depart(&mut self, env: &mut RingEnv) {
        let neighbours: Vec<NodeRef> = self.predecessor.iter().chain(self.successors.first()).cloned().collect();
        for neighbour in neighbours {
            let request = RingRequest::Leave {
                from: self.me.clone(),
                predecessor: self.predecessor.clone(),
                successors: self.successors.clone(),
            };
            let call = env.call(&neighbour.internal_addr, request);
            self.calls.insert(call, Purpose::Notify);
        }
        self.member = false;
        self.successors.clear();
        self.predecessor = None;
        self.joining = None;
    }

    /// Its pointers.
    pub fn neighbours(&self) -> Neighbours {
        Neighbours {
            node: self.me.clone(),
            member: self.member,
            successors: self.successors.clone(),
            predecessor: self.predecessor.clone(),
            busy: false,
        }
    }

    /// Whether it is on the circle (or on its way back to it after losing all successors).
    pub fn is_member(&self) -> bool {
        self.member
    }

    /// Whether lookups may pass through this node and end here: it is on the circle, and its successor knows it.
    pub fn answers_lookups(&self) -> bool {
        self.member && self.announced
    }

    /// Finger table: (index, start, node), sorted by index.
    pub fn fingers(&self) -> Vec<(u32, Id, NodeRef)> {
        self.fingers.iter(self.me.id()).collect()
    }

    /// What is new since the last call.
    pub fn take_news(&mut self) -> Vec<RingNews> {
        std::mem::take(&mut self.news)
    }

    /// A node is known under a new incarnation or address: use that from now on.
    fn refresh(&mut self, node: &NodeRef) {
        let known = self.successors.iter_mut().chain(self.predecessor.as_mut()).chain(self.stab.as_mut());
        for known in known.filter(|known| known.key == node.key && known.incarnation < node.incarnation) {
            *known = node.clone();
        }
        self.misses.remove(&node.key);
    }
}

/// Said to those who ask a node that is in no ring.
const NOT_A_MEMBER: &str = "this node is not a member of a ring yet; ask another one";

/// Whether a node may be pointed to: alive as far as known, and neither left nor replaced by another disk.
fn is_usable(node: &NodeRef, env: &RingEnv) -> bool {
    !env.suspects.contains(&node.key) && env.view.get(&node.key).is_none_or(|member| !member.state.is_final())
}
