//! Lookups: forwarded hop by hop for others, walked step by step for people and for the fingers.
use super::{FORWARDS_MAX, NOT_A_MEMBER, Purpose, Ring, RingEnv, RingNews};
use crate::{
    id::Id,
    io::{CallError, Outcome, Output, Token},
    member::NodeRef,
    msg::{AVOIDED_MAX, Hop, RingReply, RingRequest, Via},
    time::Nanos,
};

/// Other pointers tried when a hop does not answer.
const RETRIES_MAX: usize = 3;

/// A question of somebody else that this node has passed on.
#[derive(Clone, Hash)]
pub(super) struct Forward {
    token: Token,
    target: Id,
    hops: u32,
    trace: bool,
    via: Via,
    since: Nanos,
    tried: Vec<Id>,
}

/// What a walk is for.
#[derive(Clone, Copy, Hash)]
pub(super) enum Goal {
    /// Somebody wants to see the way.
    Client(Token),
    /// A finger of this node.
    Finger(u32),
}

/// A lookup whose every hop this node asks itself: it goes round the silent ones, and every time is its own.
#[derive(Clone, Hash)]
pub(super) struct Walk {
    goal: Goal,
    target: Id,
    path: Vec<Hop>,
    since: Nanos,
    /// Who is being asked, and why.
    at: NodeRef,
    via: Via,
    /// Silent ones, at most [`AVOIDED_MAX`].
    avoid: Vec<Id>,
}

impl Walk {
    pub fn is_for_finger(&self) -> bool {
        matches!(self.goal, Goal::Finger(_))
    }
}

/// Most forwards of one lookup among so many members.
fn hops_max(members: usize) -> u32 {
    2 * members.max(2).ilog2() + 8
}

impl Ring {
    pub(super) fn on_find_successor(&mut self, token: Token, target: Id, hops: u32, trace: bool, env: &mut RingEnv) {
        let budget = hops_max(env.view.len());
        if !self.answers_lookups() || hops > budget || self.forwards >= FORWARDS_MAX {
            let why =
                if !self.answers_lookups() { NOT_A_MEMBER.into() } else { format!("no answer within {budget} hops") };
            return env.reply(token, RingReply::Refused(why));
        }
        let forward = Forward { token, target, hops, trace, via: Via::Start, since: env.now.mono, tried: Vec::new() };
        self.forwards += 1;
        self.forward(forward, env);
    }

    fn forward(&mut self, mut forward: Forward, env: &mut RingEnv) {
        let (next, is_owner, via) = self.next_hop(forward.target, env.suspects, &forward.tried);
        if is_owner {
            self.forwards = self.forwards.saturating_sub(1);
            let mine = next.id() == self.me.id();
            let predecessor = if mine { self.predecessor.as_ref().map(NodeRef::id) } else { Some(self.me.id()) };
            let mut path = Vec::new();
            if forward.trace {
                let elapsed_us = env.now.mono.since(forward.since).0 / 1000;
                path.push(Hop { node: self.me.clone(), via: Via::Start, elapsed_us });
                if !mine {
                    path.push(Hop { node: next.clone(), via: Via::Owner, elapsed_us });
                }
            }
            return env.reply(forward.token, RingReply::FindSuccessor { owner: next, predecessor, path });
        }
        let (target, hops, trace) = (forward.target, forward.hops + 1, forward.trace);
        let call = env.call(&next.internal_addr, RingRequest::FindSuccessor { target, hops, trace });
        forward.via = via;
        forward.tried.push(next.id());
        self.calls.insert(call, Purpose::Forward(forward));
    }

    pub(super) fn on_forward_reply(
        &mut self,
        forward: Forward,
        result: Result<RingReply, CallError>,
        env: &mut RingEnv,
    ) {
        match result {
            Ok(RingReply::FindSuccessor { owner, predecessor, mut path }) => {
                self.forwards = self.forwards.saturating_sub(1);
                if forward.trace {
                    if let Some(first) = path.first_mut() {
                        first.via = forward.via;
                    }
                    let elapsed_us = env.now.mono.since(forward.since).0 / 1000;
                    path.insert(0, Hop { node: self.me.clone(), via: Via::Start, elapsed_us });
                }
                env.reply(forward.token, RingReply::FindSuccessor { owner, predecessor, path });
            }
            Err(_) if forward.tried.len() <= RETRIES_MAX => self.forward(forward, env),
            Ok(RingReply::Refused(why)) => {
                self.forwards = self.forwards.saturating_sub(1);
                env.reply(forward.token, RingReply::Refused(why));
            }
            _ => {
                self.forwards = self.forwards.saturating_sub(1);
                env.reply(forward.token, RingReply::Refused("no live hop toward the identifier; ask again".into()));
            }
        }
    }

    /// Looks an identifier up for somebody who wants to see how; ends in an [`Outcome::Path`].
    pub fn lookup(&mut self, token: Token, target: Id, env: &mut RingEnv) {
        if !self.answers_lookups() {
            let outcome = Outcome::Unavailable(NOT_A_MEMBER);
            return env.out.push(Output::Client { token, outcome });
        }
        self.walk_to(Goal::Client(token), target, env);
    }

    /// Walks to the owner of `target`, hop by hop.
    pub(super) fn walk_to(&mut self, goal: Goal, target: Id, env: &mut RingEnv) {
        let path = vec![Hop { node: self.me.clone(), via: Via::Start, elapsed_us: 0 }];
        let (at, via) = (self.me.clone(), Via::Start);
        let walk = Walk { goal, target, path, since: env.now.mono, at, via, avoid: Vec::new() };
        let next = self.next_hop(target, env.suspects, &[]);
        self.walk_on(walk, next, env);
    }

    /// The last contact has named who is next.
    fn walk_on(&mut self, mut walk: Walk, (node, is_owner, via): (NodeRef, bool, Via), env: &mut RingEnv) {
        let Some(last) = walk.path.last() else { return };
        if is_owner && node.id() == last.node.id() {
            return self.walk_ended(walk.goal, Ok(walk.path), env);
        }
        if is_owner && node.id() == self.me.id() {
            // Back here: all between the last contact and this node are silent.
            let elapsed_us = env.now.mono.since(walk.since).0 / 1000;
            walk.path.push(Hop { node, via: Via::Owner, elapsed_us });
            let nearest = self.nearest_owner(walk.target, env.suspects, &walk.avoid);
            return self.walk_on(walk, nearest, env);
        }
        // Who passed the question on may own it all the same, when whoever it thinks comes before it is silent.
        let turns_back = !is_owner && walk.path.iter().any(|hop| hop.node.id() == node.id());
        if turns_back || walk.path.len() as u32 > hops_max(env.view.len()) {
            let why = "the lookup took too many hops; the ring is changing, ask again";
            return self.walk_ended(walk.goal, Err(why), env);
        }
        (walk.at, walk.via) = (node, if is_owner { Via::Owner } else { via });
        self.walk_ask(walk, env);
    }

    fn walk_ask(&mut self, walk: Walk, env: &mut RingEnv) {
        let (target, avoid, as_owner) = (walk.target, walk.avoid.clone(), walk.via == Via::Owner);
        let request = RingRequest::ClosestPrecedingFinger { target, avoid, as_owner };
        let call = env.call(&walk.at.internal_addr, request);
        self.calls.insert(call, Purpose::Walk(walk));
    }

    pub(super) fn on_walk_reply(&mut self, mut walk: Walk, result: Result<RingReply, CallError>, env: &mut RingEnv) {
        if let Ok(RingReply::ClosestPrecedingFinger { node, is_owner, via }) = result {
            let elapsed_us = env.now.mono.since(walk.since).0 / 1000;
            walk.path.push(Hop { node: walk.at.clone(), via: walk.via, elapsed_us });
            return self.walk_on(walk, (node, is_owner, via), env);
        }
        // Silent, or no member any more: whoever named it is asked for another one.
        self.fingers.forget(&walk.at.key);
        if walk.avoid.len() == AVOIDED_MAX {
            return self.walk_ended(walk.goal, Err("many hops of the lookup do not answer; ask again"), env);
        }
        walk.avoid.push(walk.at.id());
        match walk.path.pop_if(|hop| hop.node.id() != self.me.id()) {
            Some(Hop { node, via, .. }) => {
                (walk.at, walk.via) = (node, via);
                self.walk_ask(walk, env);
            }
            None => {
                let next = self.next_hop(walk.target, env.suspects, &walk.avoid);
                self.walk_on(walk, next, env);
            }
        }
    }

    /// The last of the path is the owner; or there is no path, and why.
    fn walk_ended(&mut self, goal: Goal, found: Result<Vec<Hop>, &'static str>, env: &mut RingEnv) {
        match (goal, found) {
            (Goal::Finger(index), Ok(mut path)) => {
                let owner = path.pop();
                owner.into_iter().for_each(|hop| self.on_finger_found(index, hop.node, env));
            }
            // The rest of the table waits for the next round.
            (Goal::Finger(_), Err(_)) => {}
            (Goal::Client(token), Ok(path)) => {
                self.news.push(RingNews::LookupDone { hops: path.len() as u32 });
                let Some(owner) = path.last().map(|hop| hop.node.clone()) else { return };
                env.out.push(Output::Client { token, outcome: Outcome::Path { hops: path, owner } });
            }
            (Goal::Client(token), Err(why)) => {
                env.out.push(Output::Client { token, outcome: Outcome::Unavailable(why) });
            }
        }
    }
}
