//! Joining, adopting a joiner, and rejoining when all successors are lost (ring.md 2.3, 2.5).
use super::{Genesis, Purpose, Ring, RingEnv, RingNews, is_usable};
use crate::{
    id::between,
    io::CallError,
    member::{MemberState, NodeRef},
    msg::{JoinReply, RingReply, RingRequest},
    rules::Rule,
    time::Nanos,
};
use rand::RngExt as _;
use std::{
    collections::BTreeSet,
    hash::{Hash, Hasher},
};

/// Pause between attempts; grows to the second one.
const PAUSE: (Nanos, Nanos) = (Nanos::from_millis(100), Nanos::from_millis(3000));

/// A node on its way into a ring, or back into it.
#[derive(Clone)]
pub(super) struct Joining {
    seeds: Vec<String>,
    expect: Option<u128>,
    /// Next attempt.
    pub at: Nanos,
    pause: Nanos,
    /// Whom the last answer pointed to.
    redirect: Option<String>,
    redirects: u32,
    /// Members that said they are orphans too, or do not answer, since this began.
    orphans: BTreeSet<String>,
    asked: Option<String>,
}

/// Without its times, like the ring around it.
impl Hash for Joining {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Joining { seeds, expect, redirect, redirects, orphans, asked, at: _, pause: _ } = self;
        (seeds, expect, redirect, redirects, orphans, asked).hash(state);
    }
}

impl Ring {
    /// Joins a ring through any of these, or of the members in the view; tries for ever.
    pub fn join(&mut self, seeds: Vec<String>, expect: Option<u128>, env: &mut RingEnv) {
        if let Some(joining) = &mut self.joining {
            joining.seeds = seeds;
            joining.expect = expect;
            return;
        }
        let (redirect, redirects, orphans, asked) = (None, 0, BTreeSet::new(), None);
        let (at, pause) = (env.now.mono, PAUSE.0);
        self.joining = Some(Joining { seeds, expect, at, pause, redirect, redirects, orphans, asked });
        self.join_step(env);
    }

    /// Finds back into the ring this node is a member of.
    pub fn rejoin(&mut self, env: &mut RingEnv) {
        if self.joining.is_none() {
            self.member = false;
            self.alone = false;
            self.news.push(RingNews::Rejoining);
            self.join(Vec::new(), env.genesis.map(|genesis| genesis.ring_id), env);
        }
    }

    /// Asks one candidate.
    pub(super) fn join_step(&mut self, env: &mut RingEnv) {
        let mine = self.me.internal_addr.clone();
        let known: Vec<NodeRef> =
            env.view.current().map(|member| member.node.clone()).filter(|node| node.key != self.me.key).collect();
        let Some(joining) = &mut self.joining else { return };
        if env.genesis.is_some() {
            // An orphan: with everybody else an orphan or dead, the smallest live one re-forms the ring.
            let heard: Vec<&NodeRef> =
                known.iter().filter(|node| joining.orphans.contains(&node.internal_addr)).collect();
            let smallest =
                known.iter().filter(|node| !env.suspects.contains(&node.key)).all(|node| self.me.id() < node.id());
            if heard.len() == known.len() && (smallest || known.is_empty()) {
                return self.found(env);
            }
        }
        let mut candidates: Vec<String> = joining.seeds.clone();
        candidates.extend(known.iter().map(|node| node.internal_addr.clone()));
        candidates.retain(|addr| *addr != mine);
        let fresh: Vec<String> = candidates.iter().filter(|addr| !joining.orphans.contains(*addr)).cloned().collect();
        if fresh.is_empty() {
            joining.orphans.clear();
        }
        let pool = if fresh.is_empty() { candidates } else { fresh };
        joining.at = env.now.mono
            + Nanos(joining.pause.0 * 3 / 4 + env.rng.random_range(0..=joining.pause.0 / 2))
            + super::CALL_TIMEOUT;
        let target = match joining.redirect.take() {
            Some(addr) => addr,
            None if pool.is_empty() => return,
            None => pool[env.rng.random_range(0..pool.len())].clone(),
        };
        joining.asked = Some(target.clone());
        let call = env.call(&target, RingRequest::Join { joiner: self.me.clone() });
        self.calls.retain(|_, purpose| !matches!(purpose, Purpose::Join));
        self.calls.insert(call, Purpose::Join);
    }

    pub(super) fn on_join_reply(&mut self, result: Result<RingReply, CallError>, env: &mut RingEnv) {
        let Some(joining) = &mut self.joining else { return };
        let asked = joining.asked.take();
        match result {
            Ok(RingReply::Join(JoinReply::Accepted {
                predecessor,
                successors,
                ring_id,
                shards,
                replication_factor,
                members,
            })) => {
                let expected = joining.expect.or(env.genesis.map(|genesis| genesis.ring_id));
                if expected.is_some_and(|expected| expected != ring_id) {
                    let text = format!("that is ring {ring_id:032x}, not {:032x}", expected.unwrap_or_default());
                    self.news.push(RingNews::JoinRefused(text));
                    return self.pause(env);
                }
                let list = match successors.split_first() {
                    Some((first, rest)) => self.list(first.clone(), rest, env),
                    None => vec![predecessor.clone()],
                };
                self.become_member(list, Some(predecessor), env);
                if env.genesis.is_none() {
                    let genesis = Genesis { ring_id, shards, replication_factor };
                    self.news.push(RingNews::Joined { genesis, members });
                }
            }
            Ok(RingReply::Join(JoinReply::Redirect(node))) => {
                joining.redirects += 1;
                // Round and round means that the ring is changing: start again from a seed.
                if joining.redirects < 40 {
                    joining.redirect = Some(node.internal_addr);
                    self.join_step(env);
                } else {
                    joining.redirects = 0;
                    self.pause(env);
                }
            }
            Ok(RingReply::Join(JoinReply::Busy(millis))) => {
                joining.redirects += 1;
                joining.redirect = asked.filter(|_| joining.redirects % 8 != 0);
                joining.at = env.now.mono + Nanos::from_millis(u64::from(millis).clamp(10, 1000));
            }
            Ok(RingReply::Join(JoinReply::Refused(why))) => {
                self.news.push(RingNews::JoinRefused(why));
                self.pause(env);
            }
            Ok(_) => self.not_there(asked, env),
            Err(CallError::Refused | CallError::Unreachable | CallError::Rejected) => self.not_there(asked, env),
        }
    }

    /// That one is no member of the ring either, or does not answer.
    fn not_there(&mut self, asked: Option<String>, env: &mut RingEnv) {
        if let Some(joining) = &mut self.joining {
            joining.orphans.extend(asked);
        }
        self.pause(env);
    }

    fn pause(&mut self, env: &mut RingEnv) {
        let Some(joining) = &mut self.joining else { return };
        let pause = joining.pause;
        joining.pause = Nanos((pause.0 * 2).min(PAUSE.1.0));
        joining.at = env.now.mono + Nanos(pause.0 / 2 + env.rng.random_range(0..=pause.0));
    }

    /// Adopts a joiner that belongs right after this node, in the same step as it answers.
    pub(super) fn on_join(&mut self, joiner: NodeRef, env: &mut RingEnv) -> RingReply {
        let Some(genesis) = env.genesis.filter(|_| self.member) else {
            return RingReply::Refused(super::NOT_A_MEMBER.into());
        };
        RingReply::Join(self.adopt_joiner(joiner, genesis, env))
    }

    fn adopt_joiner(&mut self, joiner: NodeRef, genesis: Genesis, env: &mut RingEnv) -> JoinReply {
        let me = self.me.id();
        if let Some(why) = refusal(&joiner, &self.me, env) {
            return JoinReply::Refused(why);
        }
        let first = self.successors.first().filter(|first| first.id() != joiner.id());
        let mine = first.is_none_or(|first| between(me, joiner.id(), first.id()));
        if !mine {
            let (next, is_owner, _) = self.next_hop(joiner.id(), env.suspects, &[joiner.id()]);
            if next.id() != me && !(is_owner && next.id() == joiner.id()) {
                return JoinReply::Redirect(self.before(&joiner, next, is_owner));
            }
            // This node owns the joiner's place: whoever adopts it is the predecessor.
            let predecessor = self.predecessor.clone().filter(|node| node.id() != joiner.id() && is_usable(node, env));
            return predecessor.map_or(JoinReply::Busy(200), JoinReply::Redirect);
        }
        let others: Vec<NodeRef> =
            self.successors.iter().filter(|node| node.id() != joiner.id() && is_usable(node, env)).cloned().collect();
        let mut theirs = others.clone();
        if theirs.len() < env.settings.successor_list_length {
            theirs.push(self.me.clone());
        }
        if env.settings.holds(Rule::AdoptJoiner) || others.is_empty() {
            self.set_successors(self.list(joiner.clone(), &others, env));
        }
        if self.predecessor.is_none() {
            self.set_predecessor(Some(joiner));
        }
        self.stab = None;
        JoinReply::Accepted {
            predecessor: self.me.clone(),
            successors: theirs,
            ring_id: genesis.ring_id,
            shards: genesis.shards,
            replication_factor: genesis.replication_factor,
            members: env.view.iter().cloned().collect(),
        }
    }

    /// Whom to send a joiner to: the node before its place, where that is known.
    fn before(&self, joiner: &NodeRef, next: NodeRef, is_owner: bool) -> NodeRef {
        if !is_owner {
            return next;
        }
        let closest = self.successors.iter().filter(|node| between(self.me.id(), node.id(), joiner.id()));
        closest.max_by_key(|node| self.me.id().distance_to(node.id())).cloned().unwrap_or(next)
    }
}

/// Why this ring can never take a joiner, if so.
fn refusal(joiner: &NodeRef, me: &NodeRef, env: &RingEnv) -> Option<String> {
    if env.view.get(&joiner.key).is_some_and(|known| known.state.is_final()) {
        return Some(format!("{} has left this ring for good; give it an empty data directory", joiner.name));
    }
    let taken = |node: &NodeRef| node.id() == joiner.id() && node.key.disk != joiner.key.disk;
    if taken(me) {
        return Some(format!("the id of {} is taken by {}; names must differ", joiner.name, me.name));
    }
    let holder = env.view.current().find(|member| taken(&member.node) && member.state != MemberState::Empty)?;
    Some(format!(
        "the id of {} belongs to {} with another data directory (disk {:032x}); evict that member first, or give the \
         node its old directory",
        joiner.name, holder.node.name, holder.node.key.disk.0
    ))
}
