//! Lookups: forwarded hop by hop for others, traced step by step for people.
use super::{FORWARDS_MAX, NOT_A_MEMBER, Purpose, Ring, RingEnv, RingNews};
use crate::{
    id::Id,
    io::{CallError, Outcome, Output, Token},
    member::{MemberKey, NodeRef},
    msg::{Hop, RingReply, RingRequest, Via},
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
    tried: Vec<MemberKey>,
}

/// A lookup that somebody watches: this node asks each hop itself, so that every time is its own.
#[derive(Clone, Hash)]
pub(super) struct Trace {
    token: Token,
    target: Id,
    path: Vec<Hop>,
    since: Nanos,
    /// Who is being asked, and why.
    at: NodeRef,
    via: Via,
    avoid: Vec<MemberKey>,
}

/// Most forwards of one lookup among so many members.
fn hops_max(members: usize) -> u32 {
    2 * members.max(2).ilog2() + 8
}

impl Ring {
    pub(super) fn on_find_successor(&mut self, token: Token, target: Id, hops: u32, trace: bool, env: &mut RingEnv) {
        let budget = hops_max(env.view.current().count());
        if !self.member || hops > budget || self.forwards >= FORWARDS_MAX {
            let why = if !self.member { NOT_A_MEMBER.into() } else { format!("no answer within {budget} hops") };
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
        forward.tried.push(next.key);
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
        if !self.member {
            let outcome = Outcome::Unavailable(NOT_A_MEMBER);
            return env.out.push(Output::Client { token, outcome });
        }
        let path = vec![Hop { node: self.me.clone(), via: Via::Start, elapsed_us: 0 }];
        let (node, is_owner, via) = self.next_hop(target, env.suspects, &[]);
        let trace = Trace { token, target, path, since: env.now.mono, at: node, via, avoid: Vec::new() };
        self.trace_step(trace, is_owner, env);
    }

    fn trace_step(&mut self, mut trace: Trace, is_owner: bool, env: &mut RingEnv) {
        if is_owner && trace.at.id() == self.me.id() {
            return self.trace_done(trace, env);
        }
        if trace.path.len() as u32 > hops_max(env.view.current().count()) {
            let outcome = Outcome::Unavailable("the lookup took too many hops; the ring is changing, ask again");
            return env.out.push(Output::Client { token: trace.token, outcome });
        }
        if is_owner {
            trace.via = Via::Owner;
        }
        let request = RingRequest::ClosestPrecedingFinger { target: trace.target };
        let call = env.call(&trace.at.internal_addr, request);
        self.calls.insert(call, Purpose::Trace(trace));
    }

    pub(super) fn on_trace_reply(&mut self, mut trace: Trace, result: Result<RingReply, CallError>, env: &mut RingEnv) {
        let elapsed_us = env.now.mono.since(trace.since).0 / 1000;
        match result {
            Ok(RingReply::ClosestPrecedingFinger { node, is_owner, via }) => {
                trace.path.push(Hop { node: trace.at.clone(), via: trace.via, elapsed_us });
                if is_owner && node.id() == trace.at.id() {
                    return self.trace_done(trace, env);
                }
                let asked = matches!(trace.via, Via::Owner);
                if asked || trace.path.iter().any(|hop| hop.node.id() == node.id()) {
                    // The presumed owner knows better, or the trail turns back: its word ends the lookup.
                    if trace.path.iter().any(|hop| hop.node.id() == node.id()) {
                        return self.trace_done(trace, env);
                    }
                }
                trace.at = node;
                trace.via = via;
                self.trace_step(trace, is_owner, env);
            }
            _ => {
                trace.avoid.push(trace.at.key);
                if trace.avoid.len() > RETRIES_MAX {
                    let outcome = Outcome::Unavailable("a hop of the lookup does not answer; ask again");
                    return env.out.push(Output::Client { token: trace.token, outcome });
                }
                // Back to the start, round the silent one.
                trace.path.truncate(1);
                let (node, is_owner, via) = self.next_hop(trace.target, env.suspects, &trace.avoid);
                (trace.at, trace.via) = (node, via);
                self.trace_step(trace, is_owner, env);
            }
        }
    }

    fn trace_done(&mut self, trace: Trace, env: &mut RingEnv) {
        let Trace { token, path, .. } = trace;
        self.news.push(RingNews::LookupDone { hops: path.len() as u32 });
        let Some(owner) = path.last().map(|hop| hop.node.clone()) else { return };
        env.out.push(Output::Client { token, outcome: Outcome::Path { hops: path, owner } });
    }
}
