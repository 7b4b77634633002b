//! The one model of the ring, merged from what each member says of itself. Pure: time comes in as an argument.
//!
//! Reading order: [`Model::describe`], [`Model::event`] and [`Model::lost`] take in; [`Model::publish`] gives out what
//! changed since it last did, numbered. What a node of the output looks like is [`build`].
mod build;
mod description;
mod journal;
mod operator;
mod transfer;

pub use build::share;
pub use description::{Description, id_of, name_of};

use crate::schema::{HexId, Millis, Node, NodeName, OperatorStatus, Ring, RingEvent};
use chord::member::{Member, MemberKey, NodeRef, View};
use chord_proto::v1;
use journal::Journal;
use std::collections::BTreeMap;
use transfer::Transfer;

/// What is known of one member.
#[derive(Debug)]
struct Heard {
    /// Its last word; `None`: others name it, itself was never heard.
    description: Option<Description>,
    /// Since when it is silent.
    stale_since: Option<Millis>,
    /// Why, until that was told.
    untold: Option<String>,
}

/// Votes of the other members: (reach it, do not).
type Votes = BTreeMap<MemberKey, (u32, u32)>;

/// See the module.
#[derive(Debug)]
pub struct Model {
    /// Names and numbers that stand in every [`Ring`]; its nodes and stats are those published last.
    ring: Ring,
    heard: BTreeMap<MemberKey, Heard>,
    view: View,
    votes: Votes,
    votes_due: bool,
    /// The ring is another one than published last.
    replaced: bool,
    journal: Journal,
    /// The operator's last word, with the number of the operator.
    operator: Option<(u64, OperatorStatus)>,
    transfer: Transfer,
}

/// What changed.
#[derive(Clone, PartialEq, Debug)]
pub struct Publication {
    /// Everything, as of now.
    pub ring: Ring,
    /// `None`: the ring is another one; only everything describes it.
    pub change: Option<Change>,
    /// What happened since the last publication.
    pub events: Vec<RingEvent>,
}

/// From one publication to the next.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Change {
    /// New or changed.
    pub nodes: Vec<Node>,
    pub removed: Vec<HexId>,
    /// Whether the operator said something new.
    pub operator: bool,
}

/// Why a description was not taken in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// The node waits to be told which ring to join.
    NotInRing,
    /// Members of the ring shown are heard, and this one is of another.
    AnotherRing,
    /// It left or was evicted.
    Gone,
}

impl Model {
    /// Of a ring of which nothing is known yet; `stream` names this run of the gateway.
    pub fn new(name: &str, namespace: &str, stream: &str) -> Model {
        let nodes = Vec::new();
        let stats = build::ring_stats(&nodes, &[]);
        let ring = Ring {
            ring_id: None,
            name: name.into(),
            namespace: namespace.into(),
            sequence: 0_u64.into(),
            stream: stream.into(),
            shards: 0_u64.into(),
            replication_factor: 0_u64.into(),
            generated_at: 0,
            converged: false,
            nodes,
            stats,
            operator: None,
        };
        Model {
            ring,
            heard: BTreeMap::new(),
            view: View::default(),
            votes: Votes::new(),
            votes_due: false,
            replaced: false,
            journal: Journal::default(),
            operator: None,
            transfer: Transfer::default(),
        }
    }

    /// The ring as published last.
    pub fn ring(&self) -> &Ring {
        &self.ring
    }

    /// Takes in what a member says of itself and of the others.
    ///
    /// # Errors
    /// When it does not belong to the ring shown. The ring shown changes only when no member of it is heard any more.
    pub fn describe(&mut self, description: Description, now: Millis) -> Result<(), Refused> {
        let key = description.node.key;
        let Some(ring_id) = description.ring_id.clone() else { return Err(Refused::NotInRing) };
        if self.ring.ring_id.as_ref().is_some_and(|known| *known != ring_id) {
            if self.is_any_fresh() {
                return Err(Refused::AnotherRing);
            }
            (self.heard, self.view, self.votes) = Default::default();
            (self.operator, self.transfer) = Default::default();
            self.replaced = true;
        }
        self.ring.ring_id = Some(ring_id);
        self.ring.shards = description.shards.into();
        self.ring.replication_factor = description.replication_factor.into();
        let known = self.heard.get(&key).and_then(|heard| heard.description.as_ref());
        if known.is_none_or(|known| known.members != description.members) {
            for (member, _) in &description.members {
                self.view.merge(member.clone());
            }
            let (node, state) = (description.node.clone(), description.state);
            self.view.merge(Member { node, revision: 0, state });
            self.votes_due = true;
        }
        if self.view.get(&key).is_some_and(|member| member.state.is_final()) {
            return Err(Refused::Gone);
        }
        let before = self.heard.get(&key).map(|heard| (heard.description.is_some(), heard.stale_since));
        if let Some((true, Some(since))) = before {
            let seconds = now.saturating_sub(since) / 1000;
            let text = format!("{} is heard again after {seconds} s", description.node.name);
            self.journal.observe(now, "fresh", &description.node, text);
        }
        let known = self.heard.get(&key).and_then(|heard| heard.description.as_ref());
        if known.is_some_and(|known| known.node.incarnation < description.node.incarnation) {
            let (name, start) = (&description.node.name, description.node.incarnation);
            let text = format!("{name} was started again, with version {}: start {start}", description.version);
            self.journal.observe(now, "restart", &description.node, text);
        }
        if let Some(said) = description.operator.clone() {
            self.take_word(said, now);
        }
        self.votes_due |= before.is_none_or(|(_, stale)| stale.is_some());
        self.heard.insert(key, Heard { description: Some(description), stale_since: None, untold: None });
        // Those it names that nobody spoke of before are silent from now on, until they speak.
        for member in self.view.current() {
            let silent = || Heard { description: None, stale_since: Some(now), untold: None };
            self.heard.entry(member.node.key).or_insert_with(silent);
        }
        Ok(())
    }

    /// Members hand the operator's word on at different times: the newest counts.
    fn take_word(&mut self, (epoch, said): (u64, OperatorStatus), now: Millis) {
        let known = self.operator.as_ref().map(|(epoch, known)| (*epoch, known.at));
        if known >= Some((epoch, said.at)) {
            return;
        }
        for news in operator::news(self.operator.as_ref().map(|(_, known)| known), &said) {
            let member = news.member.and_then(|name| self.view.current().find(|member| member.node.name == name));
            self.journal.note(now, news.kind, member.map(|member| named(&member.node)), news.message);
        }
        self.operator = Some((epoch, said));
    }

    /// The stream of a member broke.
    pub fn lost(&mut self, key: MemberKey, now: Millis, why: &str) {
        let Some(heard) = self.heard.get_mut(&key).filter(|heard| heard.stale_since.is_none()) else { return };
        heard.stale_since = Some(now);
        heard.untold = Some(why.to_owned());
        self.votes_due = true;
    }

    /// Something happened on a member.
    pub fn event(&mut self, reporter: MemberKey, event: v1::RingEvent) {
        let reporter = self.heard.get(&reporter).and_then(|heard| heard.description.as_ref());
        if let Some(reporter) = reporter {
            self.journal.report(&reporter.node, event);
        }
    }

    /// Whether any member is heard now.
    pub fn is_any_fresh(&self) -> bool {
        self.heard.values().any(|heard| heard.stale_since.is_none())
    }

    /// Members to listen to, with their addresses for applications.
    pub fn targets(&self) -> BTreeMap<MemberKey, NodeRef> {
        self.view.current().map(|member| (member.node.key, member.node.clone())).collect()
    }

    /// What changed since it was last called; `None`: nothing.
    pub fn publish(&mut self, now: Millis) -> Option<Publication> {
        let view = &self.view;
        self.heard.retain(|key, _| view.get(key).is_some_and(|member| !member.state.is_final()));
        // Only now: of one that left, the others may have said so in the meantime.
        for heard in self.heard.values_mut() {
            if let (Some(why), Some(description)) = (heard.untold.take(), &heard.description) {
                let text = format!("nothing is heard from {} any more: {why}", description.node.name);
                self.journal.observe(now, "stale", &description.node, text);
            }
        }
        if std::mem::take(&mut self.votes_due) {
            self.votes = self.count_votes();
        }
        let mut known: Vec<(&Member, &Heard)> = Vec::new();
        for member in self.view.current() {
            let Some(heard) = self.heard.get(&member.node.key) else { continue };
            match known.last_mut() {
                // A wiped disk comes back as another member at the same place: the one that is heard counts.
                Some(last) if last.0.node.id() == member.node.id() => {
                    if (heard.stale_since.is_none(), member.revision) >= (last.1.stale_since.is_none(), last.0.revision)
                    {
                        *last = (member, heard);
                    }
                }
                _ => known.push((member, heard)),
            }
        }
        let nodes = build::nodes(&known, &self.votes);
        let raw: Vec<v1::NodeStats> =
            known.iter().filter_map(|(_, heard)| heard.description.as_ref()).map(|it| it.stats).collect();
        let stats = build::ring_stats(&nodes, &raw);
        if let Some(text) = self.transfer.look(&self.ring.nodes, &nodes, now) {
            self.journal.note(now, "transfer", None, text);
        }
        let events = self.journal.take();
        let operator = self.operator.as_ref().map(|(_, said)| said.clone());
        let mut change = build::change(&self.ring.nodes, &nodes);
        change.operator = operator != self.ring.operator;
        let quiet = change == Change::default() && events.is_empty();
        if quiet && !self.replaced && stats == self.ring.stats {
            return None;
        }
        self.ring.sequence.0 += 1;
        self.ring.generated_at = now;
        self.ring.converged = stats.converged;
        (self.ring.nodes, self.ring.stats, self.ring.operator) = (nodes, stats, operator);
        let change = (!std::mem::take(&mut self.replaced)).then_some(change);
        Some(Publication { ring: self.ring.clone(), change, events })
    }

    /// What members that are heard say about whether they reach each other.
    fn count_votes(&self) -> Votes {
        let mut votes = Votes::new();
        for (voter, heard) in &self.heard {
            let Some(description) = heard.description.as_ref().filter(|_| heard.stale_since.is_none()) else {
                continue;
            };
            for (member, reachable) in description.members.iter().filter(|(member, _)| member.node.key != *voter) {
                let (yes, no) = votes.entry(member.node.key).or_default();
                *(if *reachable { yes } else { no }) += 1;
            }
        }
        votes
    }
}

/// A node in passing.
pub fn named(node: &NodeRef) -> NodeName {
    NodeName { id: HexId(node.id()), name: node.name.clone() }
}

#[cfg(test)]
mod tests;
