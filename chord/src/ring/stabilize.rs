//! Stabilization: the successor's pointers, twice if it has a closer predecessor, then a notify;
//! rectification of the predecessor; and the probe for a ring that split (ring.md 2.3, 2.5).
use super::{Purpose, Ring, RingEnv, RingNews, is_usable};
use crate::{
    id::between,
    io::CallError,
    member::NodeRef,
    msg::{Neighbours, RingReply, RingRequest},
    rules::Rule,
    time::Nanos,
};
use rand::RngExt as _;

/// Silences after which a neighbour counts as dead.
const MISSES_MAX: u32 = 2;

/// A question of stabilization on its way.
#[derive(Clone, Hash)]
pub(super) struct Round {
    /// Who was asked.
    asked: NodeRef,
    /// Whether it is a candidate rather than the first successor.
    candidate: bool,
    /// First successor when it was asked: a reply that comes after that changed is not applied.
    first: Option<crate::id::Id>,
}

impl Ring {
    /// One round: asks the candidate if there is one, else the first successor.
    pub(super) fn stabilize(&mut self, env: &mut RingEnv) {
        self.rectify(env);
        if self.stabilizing {
            return;
        }
        let Some(first) = self.successors.first().cloned() else {
            if self.alone {
                // A ring of one is stable, and closes through whoever notifies it.
                self.news.push(RingNews::Stabilized);
                match self.predecessor.clone() {
                    Some(predecessor) if is_usable(&predecessor, env) => self.set_successors(vec![predecessor]),
                    _ => self.set_predecessor(None),
                }
            } else {
                self.rejoin(env);
            }
            return;
        };
        let first_id = first.id();
        let (asked, candidate) = match self.stab.take() {
            Some(stab) if between(self.me.id(), stab.id(), first_id) => (stab, true),
            _ => (first, false),
        };
        let call = env.call(&asked.internal_addr, RingRequest::GetSuccessorList);
        self.calls.insert(call, Purpose::Stabilize(Round { asked, candidate, first: Some(first_id) }));
        self.stabilizing = true;
    }

    pub(super) fn on_stabilize_reply(&mut self, round: Round, result: Result<RingReply, CallError>, env: &mut RingEnv) {
        self.stabilizing = false;
        let late = self.successors.first().map(NodeRef::id) != round.first && env.settings.holds(Rule::LateReply);
        if !self.member || late {
            return;
        }
        let any = !env.settings.holds(Rule::OnlyMembersCount);
        match result {
            Ok(RingReply::GetSuccessorList(theirs)) if (theirs.node.key == round.asked.key && theirs.member) || any => {
                self.adopt(theirs, round.candidate, env);
            }
            // No answer yet is not death: the same question again at the next round.
            Err(CallError::Unreachable | CallError::Rejected) if !round.candidate => {
                let misses = self.misses.entry(round.asked.key).or_insert(0);
                *misses += 1;
                if *misses >= MISSES_MAX {
                    self.drop_first_successor(env);
                } else {
                    self.stabilize_at = env.now.mono;
                }
            }
            _ if round.candidate => self.notify_first(env),
            _ => self.drop_first_successor(env),
        }
    }

    /// Takes over the whole list of the first successor, or of a live candidate before it.
    fn adopt(&mut self, theirs: Neighbours, candidate: bool, env: &mut RingEnv) {
        let Neighbours { node, successors, predecessor, .. } = theirs;
        self.refresh(&node);
        let me = self.me.id();
        let first = node.id();
        self.announced |= predecessor.as_ref().is_some_and(|known| known.key == self.me.key);
        let successors: Vec<NodeRef> = successors.into_iter().filter(|node| is_usable(node, env)).collect();
        self.set_successors(self.list(node, &successors, env));
        self.news.push(RingNews::Stabilized);
        let closer =
            predecessor.filter(|closer| closer.id() != me && between(me, closer.id(), first) && is_usable(closer, env));
        match closer {
            Some(closer) if !candidate => {
                self.stab = Some(closer);
                self.stabilize(env);
            }
            Some(closer) => {
                // Closer still: at the next round, so that the work of one round stays bounded.
                self.stab = Some(closer);
                self.notify_first(env);
            }
            None => self.notify_first(env),
        }
    }

    pub(super) fn notify_first(&mut self, env: &mut RingEnv) {
        if let Some(first) = self.successors.first() {
            let addr = first.internal_addr.clone();
            let call = env.call(&addr, RingRequest::Notify { from: self.me.clone() });
            self.calls.insert(call, Purpose::Notify);
        }
    }

    /// The first successor is dead: goes on with the next, or rejoins when there is none.
    pub(super) fn drop_first_successor(&mut self, env: &mut RingEnv) {
        if self.successors.is_empty() {
            return;
        }
        let mut rest = self.successors.clone();
        let dead = rest.remove(0);
        self.misses.remove(&dead.key);
        self.fingers.forget(&dead.key);
        let orphan = rest.is_empty();
        self.set_successors(rest);
        if orphan {
            // An emptied list never means "I am a ring of one".
            self.set_predecessor(None);
            self.rect = None;
            if !env.settings.holds(Rule::OrphanRejoins) {
                return self.found(env);
            }
            self.rejoin(env);
        } else {
            self.notify_first(env);
            self.stabilize_at = env.now.mono + Nanos::from_millis(1);
        }
    }

    /// Somebody might be the predecessor. The latest counts; only the sender may name itself.
    pub(super) fn on_notify(&mut self, from: NodeRef, env: &mut RingEnv) {
        if self.member && from.id() != self.me.id() {
            self.refresh(&from);
            self.rect = Some(from);
            self.rectify(env);
        }
    }

    /// Looks at who notified: a closer one is taken at once, another one if the present one is dead.
    fn rectify(&mut self, env: &mut RingEnv) {
        let Some(candidate) = self.rect.take() else { return };
        let me = self.me.id();
        match &self.predecessor {
            Some(known) if known.id() == candidate.id() => {
                // Another disk at the same place is another member, whose incarnations count anew.
                if candidate.key != known.key || candidate.incarnation >= known.incarnation {
                    self.set_predecessor(Some(candidate));
                }
            }
            Some(known) if !between(known.id(), candidate.id(), me) => {
                if !env.settings.holds(Rule::RectifyDead) {
                    return;
                }
                if is_usable(known, env) {
                    let addr = known.internal_addr.clone();
                    let call = env.call(&addr, RingRequest::Ping { from: self.me.clone() });
                    self.calls.insert(call, Purpose::Rectify { candidate });
                } else {
                    self.set_predecessor(Some(candidate));
                }
            }
            _ => self.set_predecessor(Some(candidate)),
        }
        if self.alone
            && let Some(predecessor) = self.predecessor.clone()
        {
            self.set_successors(vec![predecessor]);
        }
    }

    pub(super) fn on_rectify_reply(&mut self, candidate: NodeRef, result: Result<RingReply, CallError>) {
        let alive = match result {
            Ok(RingReply::Ping { node, member }) => {
                member && self.predecessor.as_ref().is_some_and(|known| known.key == node.key)
            }
            _ => false,
        };
        if !alive && self.member {
            self.set_predecessor(Some(candidate));
        }
    }

    /// Asks a member that ought to lie between this node and its successor whether it does: if it is
    /// in a ring, the ring had split (or this node has not heard of it yet).
    pub(super) fn probe(&mut self, env: &mut RingEnv) {
        let me = self.me.id();
        let until = self.successors.first().map_or(me, NodeRef::id);
        let missing: Vec<NodeRef> = env
            .view
            .current_between(me, until)
            .map(|member| &member.node)
            .filter(|node| is_usable(node, env))
            .cloned()
            .collect();
        if missing.is_empty() || self.stab.is_some() || !env.settings.holds(Rule::Probe) {
            return;
        }
        let candidate = &missing[env.rng.random_range(0..missing.len())];
        let call = env.call(&candidate.internal_addr, RingRequest::GetSuccessorList);
        self.calls.insert(call, Purpose::Probe);
    }

    pub(super) fn on_probe_reply(&mut self, result: Result<RingReply, CallError>, env: &mut RingEnv) {
        let Ok(RingReply::GetSuccessorList(Neighbours { node, member: true, .. })) = result else { return };
        if !self.member || node.id() == self.me.id() {
            return;
        }
        if self.alone {
            // Two rings of one, or one beside a ring: follow the other; its notify closes the circle.
            self.set_successors(vec![node]);
            self.notify_first(env);
        } else if self.stab.is_none() {
            self.stab = Some(node);
        }
        self.stabilize_at = env.now.mono;
    }

    /// A neighbour says goodbye: closes the gap without waiting for a timeout.
    pub(super) fn on_leave(
        &mut self,
        from: NodeRef,
        predecessor: Option<NodeRef>,
        successors: Vec<NodeRef>,
        env: &mut RingEnv,
    ) {
        if !self.member {
            return;
        }
        let me = self.me.id();
        self.fingers.forget(&from.key);
        if self.successors.iter().any(|node| node.key == from.key) {
            let was_first = self.successors.first().is_some_and(|first| first.key == from.key);
            let mut rest: Vec<NodeRef> = self.successors.iter().filter(|node| node.key != from.key).cloned().collect();
            if was_first {
                let theirs: Vec<NodeRef> = successors.into_iter().filter(|node| node.key != from.key).collect();
                if let Some((first, more)) = theirs.split_first().filter(|(first, _)| first.id() != me) {
                    rest = self.list(first.clone(), more, env);
                }
            }
            let empty = rest.is_empty();
            self.set_successors(rest);
            if empty {
                // The last other member left in good order: this one is alone by right.
                (self.alone, self.announced) = (true, true);
            }
        }
        if self.predecessor.as_ref().is_some_and(|known| known.key == from.key) {
            let next = predecessor.filter(|node| node.id() != me && node.key != from.key);
            self.set_predecessor(next);
        }
        self.stabilize_at = env.now.mono;
    }
}
