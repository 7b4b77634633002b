//! All that is known when a pass decides: what Kubernetes has, and what the members say live.
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// State a member reports.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    Empty,
    Joining,
    Serving,
    Leaving,
    Left,
    Evicted,
}

impl State {
    /// Whether nobody may count on a member in this state any more.
    pub fn is_gone(self) -> bool {
        matches!(self, State::Left | State::Evicted)
    }
}

/// A member as another one lists it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listed {
    pub id: String,
    pub disk: String,
    pub name: String,
    pub state: State,
}

/// A member's own word, live.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Word {
    pub id: String,
    pub disk: String,
    pub incarnation: u64,
    pub state: State,
    /// Empty before it joined.
    pub ring_id: String,
    /// The membership it sees.
    pub members: Vec<Listed>,
    /// Id of its first successor.
    pub successor: Option<String>,
    pub shards_held: u32,
    pub under_replicated: u32,
    pub pending: u32,
    pub unavailable: u32,
    pub retiring: u32,
    pub keys: u64,
    pub bytes: u64,
    pub leave_blocked: String,
    pub internal_addr: String,
}

/// A pod of a member.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Pod {
    pub uid: String,
    pub terminating: bool,
    /// Why it does not run yet, in Kubernetes' words.
    pub waiting: Option<String>,
}

/// A member's volume claim.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Claim {
    pub uid: String,
    pub terminating: bool,
    /// Of a member that has left, and kept for people only.
    pub retired: bool,
    /// Ring whose data is on it, by annotation: intent.
    pub ring_id: Option<String>,
    /// Data directory on it, by annotation: intent.
    pub disk: Option<String>,
}

/// Everything one pass decides by.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct World {
    /// Name of the ring.
    pub ring: String,
    /// Of the ChordRing as it was looked at.
    pub resource_version: String,
    /// Members the spec asks for.
    pub desired: i32,
    pub replication_factor: i32,
    pub paused: bool,
    /// Whether volumes of members that left are deleted.
    pub prune: bool,
    pub persistent: bool,
    pub abort_leave: bool,
    /// The StatefulSet's replicas; `None`: there is none.
    pub replicas: Option<i32>,
    pub pods: BTreeMap<i32, Pod>,
    pub claims: BTreeMap<i32, Claim>,
    /// What each member said, or why it said nothing.
    pub words: BTreeMap<i32, Result<Word, String>>,
    /// Identity that the ring has or is to be founded with.
    pub ring_id: Option<String>,
    /// How long a leave has made no progress.
    pub leave_quiet: Duration,
    /// Whether the same evidence held at an earlier look, long enough ago.
    pub held_before: bool,
}

impl World {
    pub fn word(&self, ordinal: i32) -> Option<&Word> {
        self.words.get(&ordinal)?.as_ref().ok()
    }

    /// Ordinals whose member is in a state, lowest first.
    pub fn in_state(&self, state: State) -> Vec<i32> {
        let replicas = self.replicas.unwrap_or(0);
        (0..replicas).filter(|ordinal| self.word(*ordinal).is_some_and(|word| word.state == state)).collect()
    }

    /// Name of a member, and of its pod.
    pub fn name(&self, ordinal: i32) -> String {
        format!("{}-node-{ordinal}", self.ring)
    }

    /// Whether anybody counts on the member with this ordinal: a member lists it, or its claim is marked.
    pub fn is_counted_on(&self, ordinal: i32) -> bool {
        let name = self.name(ordinal);
        let listed = |listed: &Listed| listed.name == name && !listed.state.is_gone();
        self.words.values().flatten().any(|word| word.members.iter().any(listed))
            || self.claims.get(&ordinal).is_some_and(|claim| claim.ring_id.is_some())
    }

    /// Members that say nothing, and why not.
    pub fn silent(&self) -> Vec<(i32, String)> {
        let why = |ordinal: i32| match self.words.get(&ordinal) {
            Some(Ok(_)) => None,
            Some(Err(why)) => {
                let waiting = self.pods.get(&ordinal).and_then(|pod| pod.waiting.as_ref());
                Some((ordinal, waiting.unwrap_or(why).clone()))
            }
            None => Some((ordinal, "it was not asked".into())),
        };
        (0..self.replicas.unwrap_or(0)).filter_map(why).collect()
    }

    /// Evidence E2 and E3 (design: operator.md 3) that the ring is whole without `leaver`: every serving member
    /// answers, all see the same members, their successors form one circle, nothing is under-replicated or on the
    /// move. `Err` says what is missing.
    pub fn is_whole_without(&self, leaver: Option<&Word>) -> Result<(), String> {
        let serving: Vec<&Word> = self.words.values().flatten().filter(|word| word.state == State::Serving).collect();
        if serving.is_empty() {
            return Err("no member serves".into());
        }
        let ids: BTreeSet<&str> = serving.iter().map(|word| word.id.as_str()).collect();
        for word in &serving {
            let seen: BTreeSet<&str> = word
                .members
                .iter()
                .filter(|listed| !listed.state.is_gone())
                .filter(|listed| leaver.is_none_or(|leaver| leaver.disk != listed.disk))
                .map(|listed| listed.id.as_str())
                .collect();
            if seen != ids {
                return Err(format!("member {} sees {} members, {} serve", short(&word.id), seen.len(), ids.len()));
            }
            if let Some(leaver) = leaver
                && word.members.iter().any(|listed| listed.disk == leaver.disk && !listed.state.is_gone())
            {
                return Err(format!("member {} still counts on the one that left", short(&word.id)));
            }
        }
        self.is_one_circle(&serving)?;
        for (what, count) in [
            ("have too few copies", serving.iter().map(|word| u64::from(word.under_replicated)).sum::<u64>()),
            ("are on the move", serving.iter().map(|word| u64::from(word.pending)).sum()),
            ("have no leader", serving.iter().map(|word| u64::from(word.unavailable)).sum()),
        ] {
            if count > 0 {
                return Err(format!("{count} shards {what}"));
            }
        }
        Ok(())
    }

    fn is_one_circle(&self, serving: &[&Word]) -> Result<(), String> {
        let successor: BTreeMap<&str, &str> = serving
            .iter()
            .map(|word| (word.id.as_str(), word.successor.as_deref().unwrap_or(word.id.as_str())))
            .collect();
        let Some(start) = successor.keys().next().copied() else { return Ok(()) };
        let (mut at, mut seen) = (start, 0);
        loop {
            at = successor
                .get(at)
                .copied()
                .ok_or_else(|| format!("a successor pointer leads to {}, which does not serve", short(at)))?;
            seen += 1;
            if at == start {
                break;
            }
            if seen > successor.len() {
                return Err("successor pointers do not form a circle".into());
            }
        }
        if seen == successor.len() {
            Ok(())
        } else {
            Err(format!("the circle has {seen} of {} members", successor.len()))
        }
    }
}

fn short(id: &str) -> &str {
    id.get(..8).unwrap_or(id)
}
