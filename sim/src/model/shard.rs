//! One shard on whole shipped nodes: every order in which what they say to each other may arrive, within a bound.
//!
//! A state is all nodes with their disks, what is on the wires, and what clients asked and were told. Timers stand
//! still unless the model fires them. The ring is still: it only proposed who should hold the shard.
use super::{
    host::{Act, Acts, Host, Letter, identity, print, still_settings},
    register::{Ask, FIRST, Register, Told, Value},
};
use crate::disk::Data;
use bytes::Bytes;
use chord::{
    io::{AdminAction, CallId, Input, Operation, Outcome, Retryable, Token},
    member::{Member, MemberKey, MemberState},
    msg::{RingReply, RingRequest, ShardKind, ShardMsg},
    rules::Rule,
    shard::{
        config::{Ballot, ShardId},
        record::{OpId, Version},
    },
    store::Store as _,
    time::Nanos,
};
use stateright::{
    Model, Property,
    semantics::{ConsistencyTester as _, LinearizabilityTester},
};
use std::{
    collections::{BTreeMap, VecDeque},
    hash::{Hash, Hasher},
    sync::Arc,
};

const SHARD: ShardId = ShardId(0);
const KEY: Bytes = Bytes::from_static(b"k");
/// How far a fired timer moves a node's clock: beyond every pause of a shard.
const TICK: Nanos = Nanos::from_millis(1200);

/// What must hold at every moment, beside the clients' histories.
const KEPT: &str = "acknowledged writes are on the disks of a majority of what lives";
const UNIQUE: &str = "configurations are unique";
const STAYS: &str = "no configuration counts on a member that has left";
const TRUE: &str = "members stand by what they said of themselves";
const SERIAL: &str = "clients have one operation at a time";

/// What changes after the first members came to rest, and who has heard of it when the exploration begins.
#[derive(Clone, Copy, Debug)]
pub struct Change {
    /// Who joins.
    pub joins: &'static [usize],
    /// Who is told to leave.
    pub leaves: &'static [usize],
    /// Who has heard of whom.
    pub heard: &'static [(usize, &'static [usize])],
}

/// What the operator wants of a member.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wish {
    /// That it leaves.
    Leave,
    /// That it stays after all.
    Stay,
}

/// Something a client does.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// Of which client; each has one operation at a time.
    pub client: u8,
    /// At which node.
    pub at: usize,
    /// What.
    pub ask: Ask,
    /// Where it is sent again, once, when the first attempt is not answered.
    pub again: Option<usize>,
}

/// What is explored.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Its name.
    pub name: &'static str,
    /// What it is about.
    pub about: &'static str,
    /// Nodes.
    pub nodes: usize,
    /// Members at first; the first of them founds the ring and leads the shard.
    pub members: &'static [usize],
    /// Replicas per shard.
    pub factor: usize,
    /// What the ring proposes anew.
    pub change: Change,
    /// What clients do, each at any moment after the earlier ones of the same client.
    pub requests: &'static [Request],
    /// Who may come to believe that whom is dead.
    pub suspects: &'static [(usize, usize)],
    /// Who may be asked to lead, as by a leader that is about to restart.
    pub handovers: &'static [usize],
    /// Timers fired, in all.
    pub ticks: u8,
    /// Sessions broken, in all: what is on the wire is lost.
    pub breaks: u8,
    /// Nodes that crash and start again, in all; then a sync takes a step of its own.
    pub crashes: u8,
    /// Disks lost, in all.
    pub wipes: u8,
    /// The first value's time ends, by the clock of these nodes.
    pub ends: &'static [usize],
    /// What the operator wants of whom, for each member in this order.
    pub wishes: &'static [(usize, Wish)],
    /// Whether what members say of themselves travels.
    pub rumors: bool,
    /// Whether the first answer to an operation that is sent again is lost.
    pub deaf: bool,
    /// Whether news of who holds and leads the shard travel; without them only requests and answers do.
    pub news: bool,
    /// Leaders compare the replicas with every tick, and tombstones may go after so many. No retry is older by then.
    pub compares: Option<u64>,
    /// The rule that the cores do without.
    pub without: Option<Rule>,
}

/// A client's operation.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Asked {
    Not,
    /// With the attempt that counts, whether it is answered, whether an attempt may have had effect, and since which
    /// tick.
    Open {
        attempt: u8,
        answered: bool,
        maybe: bool,
        since: u8,
    },
    Closed,
    /// Its client will never know.
    Lost,
}

/// What may happen next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// What is on the wire arrives.
    Deliver(u8, u8),
    /// A session breaks.
    Break(u8, u8),
    /// A node believes that another one is dead.
    Suspect(u8, u8),
    /// A node is asked to lead.
    Handover(u8),
    /// A client asks.
    Ask(u8),
    /// A client asks again, elsewhere.
    Again(u8),
    /// A node's timers fire.
    Tick(u8),
    /// A node's disk has caught up.
    Sync(u8),
    /// A node crashes, loses what is not durable, and starts again.
    Crash(u8),
    /// A node loses its disk, and a fresh one joins in its place.
    Wipe(u8),
    /// By a node's clock the first value has ended.
    End(u8),
    /// The operator tells a member to leave.
    Leave(u8),
    /// The operator tells a member to stay after all.
    Stay(u8),
    /// What a member last told another one of members arrives.
    Rumor(u8, u8),
}

/// All there is at one moment.
#[derive(Clone)]
pub struct State {
    hosts: Vec<Arc<Host>>,
    wires: BTreeMap<(u8, u8), Vec<Letter>>,
    rumors: BTreeMap<(u8, u8), Letter<RingRequest>>,
    asked: Vec<Asked>,
    history: LinearizabilityTester<u8, Register>,
    configs: BTreeMap<u64, Vec<MemberKey>>,
    /// Newest version of a write that was acknowledged.
    acknowledged: Version,
    wished: u8,
    suspected: u32,
    handed: u8,
    ended: u8,
    ticks: u8,
    breaks: u8,
    crashes: u8,
    wipes: u8,
    /// What does not hold, beside the history.
    wrong: Option<&'static str>,
}

impl Hash for State {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.hosts, &self.wires, &self.rumors, &self.asked, &self.history, &self.configs).hash(state);
        (self.acknowledged, self.wished).hash(state);
        (self.suspected, self.handed, self.ended, self.ticks, self.breaks, self.crashes, self.wipes, self.wrong)
            .hash(state);
    }
}

impl PartialEq for State {
    fn eq(&self, other: &State) -> bool {
        print(self) == print(other)
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} {:?}", self.asked, self.history)
    }
}

/// A question of the ring, while a scenario is prepared.
type Calls = VecDeque<(usize, CallId, String, RingRequest)>;

/// A scenario and how it begins.
pub struct Shard {
    scenario: Scenario,
    begin: Option<State>,
    acts: Acts,
    /// Revision of the first value.
    first: Version,
}

impl Shard {
    /// Prepares a scenario: founds the ring, lets the members join and writes the first value.
    pub fn new(scenario: Scenario) -> Shard {
        let mut shard = Shard { scenario, begin: None, acts: Acts::default(), first: Version::default() };
        let mut state = shard.prepare();
        shard.first = state.hosts[0].core.store().get(SHARD, &KEY).map(|record| record.revision).unwrap_or_default();
        state.acknowledged = shard.first;
        shard.begin = Some(state);
        shard
    }

    /// Whether what is written is durable at once: without crashes it makes no difference.
    fn syncs(&self) -> bool {
        self.scenario.crashes == 0
    }

    fn settings(&self) -> chord::settings::Settings {
        let still = still_settings();
        let (anti_entropy_interval, retry_age_max, tombstone_min_age) = match self.scenario.compares {
            Some(ticks) => (Nanos::from_millis(500), Nanos(ticks * TICK.0), Nanos(ticks * TICK.0 + 1)),
            None => (still.anti_entropy_interval, still.retry_age_max, still.tombstone_min_age),
        };
        chord::settings::Settings {
            replication_factor: self.scenario.factor,
            successor_list_length: 8,
            anti_entropy_interval,
            retry_age_max,
            tombstone_min_age,
            without: self.scenario.without,
            ..still
        }
    }

    /// The first members at rest with the first value, then what the setup says.
    fn prepare(&self) -> State {
        let register = Register { value: Some(FIRST), mortal: !self.scenario.ends.is_empty() };
        let settings = self.settings();
        let host =
            |index| Arc::new(Host::start(identity(index, 0), Data::default(), Host::first_now(), settings.clone()));
        let mut state = State {
            hosts: (0..self.scenario.nodes).map(host).collect(),
            wires: BTreeMap::new(),
            rumors: BTreeMap::new(),
            asked: vec![Asked::Not; self.scenario.requests.len()],
            history: LinearizabilityTester::new(register),
            configs: BTreeMap::new(),
            acknowledged: Version::default(),
            wished: 0,
            suspected: 0,
            handed: 0,
            ended: 0,
            ticks: 0,
            breaks: 0,
            crashes: 0,
            wipes: 0,
            wrong: None,
        };
        let mut calls = Calls::new();
        for index in 0..self.scenario.nodes {
            self.step(&mut state, index, Input::Tick, true, Some(&mut calls));
        }
        let members = self.scenario.members;
        let join = AdminAction::Join { seeds: vec![members[0].to_string()], ring_id: None };
        self.admin(&mut state, members[0], AdminAction::Bootstrap { ring_id: 7 }, Some(&mut calls));
        for index in &members[1..] {
            self.admin(&mut state, *index, join.clone(), Some(&mut calls));
        }
        self.rest(&mut state, calls);
        let op = Retryable { id: OpId { client: 99, number: 1 }, retry: false, age: Nanos(0) };
        let ttl_ms = (!self.scenario.ends.is_empty()).then_some(3_600_000);
        let operation = Operation::Put { key: KEY, value: Bytes::from_static(&[FIRST]), ttl_ms, op };
        let input = Input::Client { token: Token(u64::MAX), operation, deadline: Nanos(u64::MAX) };
        self.step(&mut state, members[0], input, true, Some(&mut Calls::new()));
        self.rest(&mut state, Calls::new());
        let Change { joins, leaves, heard } = self.scenario.change;
        let mut calls = Calls::new();
        for index in joins {
            self.admin(&mut state, *index, join.clone(), Some(&mut calls));
            self.answer_calls(&mut state, &mut calls, false);
        }
        for index in leaves {
            self.admin(&mut state, *index, AdminAction::Leave, Some(&mut Calls::new()));
        }
        for (index, others) in heard {
            let own = |other: &usize| {
                let core = &state.hosts[*other].core;
                core.view().get(&core.me().key).cloned()
            };
            let rumors: Vec<Member> = others.iter().filter_map(own).collect();
            let from = state.hosts[others[0]].core.me().clone();
            let request = RingRequest::Gossip { from, view_hash: 0, rumors, map_hash: 0 };
            self.step(&mut state, *index, Input::Ring { token: Token(1), request }, true, None);
        }
        state
    }

    fn admin(&self, state: &mut State, index: usize, action: AdminAction, calls: Option<&mut Calls>) {
        let request = chord::io::AdminRequest { operator_epoch: None, disk: None, action };
        let sync = calls.is_some() || self.syncs();
        self.step(state, index, Input::Admin { token: Token(0), request }, sync, calls);
    }

    /// Everything arrives and every timer fires, until each member serves and nothing is under way.
    fn rest(&self, state: &mut State, mut calls: Calls) {
        // Long enough for everybody to have looked round.
        let until = state.hosts[0].now.mono + Nanos::from_millis(3000);
        for _ in 0..10_000 {
            self.answer_calls(state, &mut calls, true);
            while let Some((from, to)) = state.wires.keys().next().copied() {
                self.deliver(state, from, to, true, Some(&mut calls));
            }
            if !calls.is_empty() {
                continue;
            }
            if state.hosts[0].now.mono >= until && self.is_at_rest(state) {
                return;
            }
            let next = state.hosts.iter().map(|host| host.core.next_deadline()).min().unwrap_or_default();
            for index in 0..self.scenario.nodes {
                let wait = next.since(state.hosts[index].now.mono);
                self.act(state, index, Act::Wait(wait, 0, true), Some(&mut calls));
            }
        }
        panic!("{}: the first members do not come to rest", self.scenario.name);
    }

    fn is_at_rest(&self, state: &State) -> bool {
        let members = || self.scenario.members.iter().map(|index| &state.hosts[*index].core);
        let held = self.scenario.factor.min(self.scenario.members.len());
        state.hosts[self.scenario.members[0]].leads
            && members().all(|core| {
                let (status, map) = (core.status(), core.shard_map());
                let settled =
                    map.first().is_some_and(|entry| entry.config.members.len() == held && entry.leader == Some(0));
                core.state() == MemberState::Serving
                    && status.shards_moving + status.shards_retiring + status.shards_pending == 0
                    && settled
            })
    }

    /// Answers the ring's questions, with or without gossip.
    fn answer_calls(&self, state: &mut State, calls: &mut Calls, gossip: bool) {
        while let Some((from, call, addr, request)) = calls.pop_front() {
            let heard = gossip || !matches!(request, RingRequest::Gossip { .. });
            let Ok(to) = addr.parse::<usize>() else { continue };
            if !heard {
                continue;
            }
            let mut more = Calls::new();
            let replies = self.step(state, to, Input::Ring { token: Token(1), request }, true, Some(&mut more));
            calls.extend(more);
            // A question that is passed on stays unanswered: only finger tables ask such.
            if let Some(reply) = replies {
                self.step(state, from, Input::CallDone { call, result: Ok(reply) }, true, Some(calls));
            }
        }
    }

    /// Gives a node an input. The reply to a question of the ring comes back, its own questions go to `calls`.
    fn step(
        &self,
        state: &mut State,
        index: usize,
        input: Input,
        sync: bool,
        calls: Option<&mut Calls>,
    ) -> Option<RingReply> {
        self.act(state, index, Act::Take(Box::new(input), sync), calls)
    }

    fn act(&self, state: &mut State, index: usize, act: Act, calls: Option<&mut Calls>) -> Option<RingReply> {
        let done = self.acts.act(&state.hosts[index], act);
        state.hosts[index] = done.host.clone();
        look_at_config(state, index);
        // Before the exploration everything is heard.
        let hears_news = self.scenario.news || calls.is_some();
        for (to, letter) in &done.letters {
            let target = state.hosts.iter().position(|host| host.core.me().key == *to);
            let is_news = matches!(
                letter.message.kind,
                ShardKind::MapUpdate { .. } | ShardKind::MapRequest { .. } | ShardKind::Retire { .. }
            );
            if let Some(target) = target.filter(|_| hears_news || !is_news) {
                state.wires.entry((index as u8, target as u8)).or_default().push(letter.clone());
            }
        }
        for (token, outcome) in &done.answers {
            self.on_answer(state, *token, outcome);
        }
        if let Some(calls) = calls {
            calls.extend(done.calls.iter().map(|(call, addr, request)| (index, *call, addr.clone(), request.clone())));
        } else {
            if self.scenario.rumors {
                self.spread(state, index, &done.calls);
            }
            self.look(state);
        }
        done.reply.clone()
    }

    /// What a node tells of members is on its way, the last word of each to each.
    fn spread(&self, state: &mut State, index: usize, calls: &[(CallId, String, RingRequest)]) {
        for (_, addr, request) in calls {
            let RingRequest::Gossip { rumors, .. } = request else { continue };
            if let (Ok(to), false) = (addr.parse::<u8>(), rumors.is_empty()) {
                state.rumors.insert((index as u8, to), Letter::new(request.clone()));
            }
        }
    }

    fn deliver(&self, state: &mut State, from: u8, to: u8, sync: bool, calls: Option<&mut Calls>) {
        let Some(messages) = state.wires.remove(&(from, to)) else { return };
        let messages = messages.iter().map(|letter| (*letter.message).clone()).collect();
        let from = state.hosts[usize::from(from)].core.me().key;
        self.step(state, usize::from(to), Input::Shard { from, messages }, sync, calls);
    }

    fn on_answer(&self, state: &mut State, token: Token, outcome: &Outcome) {
        let (index, attempt) = ((token.0 / 4) as usize, (token.0 % 4) as u8);
        let Some(request) = self.scenario.requests.get(index) else { return };
        let Asked::Open { attempt: counts, answered: false, maybe, since } = state.asked[index] else { return };
        if attempt != counts || (self.scenario.deaf && request.again.is_some() && attempt == 1) {
            return;
        }
        let value = |bytes: &Bytes| bytes.first().copied();
        let told = match outcome {
            Outcome::Value(found) => Some(Told::Value(found.as_ref().and_then(|(bytes, _, _)| value(bytes)))),
            Outcome::Page(page, _) => Some(Told::Value(page.first().and_then(|(_, bytes, _)| value(bytes)))),
            Outcome::Written(_) => Some(Told::Written),
            Outcome::Deleted(existed) => Some(Told::Deleted(*existed)),
            Outcome::Compared { applied, .. } => Some(Told::Compared(*applied)),
            _ => None,
        };
        let maybe = maybe || matches!(outcome, Outcome::Unknown(_));
        match told {
            Some(told) => {
                self.look_at_disks(state, attempt, outcome);
                self.close(state, index, Some(told));
            }
            None if request.again.is_some() && attempt == 1 => {
                state.asked[index] = Asked::Open { attempt, answered: true, maybe, since };
            }
            None => self.close(state, index, (!maybe).then_some(Told::Nothing)),
        }
    }

    /// An operation is over for its client; without an answer its outcome stays unknown.
    fn close(&self, state: &mut State, index: usize, told: Option<Told>) {
        state.asked[index] = if told.is_some() { Asked::Closed } else { Asked::Lost };
        if let Some(told) = told
            && state.history.on_return(self.scenario.requests[index].client, told).is_err()
        {
            state.wrong = Some(SERIAL);
        }
    }

    /// A write that is acknowledged is on the disks of a majority of its configuration at that very moment.
    fn look_at_disks(&self, state: &mut State, attempt: u8, outcome: &Outcome) {
        let version = match outcome {
            Outcome::Written(version) | Outcome::Compared { applied: true, revision: Some(version) } => *version,
            _ => return,
        };
        if attempt > 1 {
            return;
        }
        let Some(members) = state.configs.get(&version.epoch) else { return };
        let holds = |host: &&Arc<Host>| {
            members.contains(&host.core.me().key) && (host.epoch.0 > version.epoch || holds(&host.durable, version))
        };
        if state.hosts.iter().filter(holds).count() <= members.len() / 2 {
            state.wrong = Some(KEPT);
        }
        state.acknowledged = state.acknowledged.max(version);
    }

    /// What must hold whatever happened: the configuration that lives counts on nobody who has left, a majority of it
    /// holds what was acknowledged, and nobody is believed to have said of itself what it does not know.
    fn look(&self, state: &mut State) {
        let is_there = |host: &&Arc<Host>, epoch: u64, members: &[MemberKey]| {
            host.epoch.1 && host.epoch.0 >= epoch && members.contains(&host.core.me().key)
        };
        let lives = state.configs.iter().rev().find(|(epoch, members)| {
            state.hosts.iter().filter(|host| is_there(host, **epoch, members)).count() > members.len() / 2
        });
        let mut wrong = None;
        if let Some((epoch, members)) = lives {
            let gone =
                |member: &MemberKey| state.hosts.iter().any(|host| host.has_left && host.core.me().key == *member);
            if state.configs.range(epoch..).any(|(_, members)| members.iter().any(gone)) {
                wrong = Some(STAYS);
            }
            let there = state.hosts.iter().filter(|host| is_there(host, *epoch, members));
            let lasts = self.scenario.wipes == 0 && self.scenario.compares.is_none();
            if lasts && there.filter(|host| holds(&host.durable, state.acknowledged)).count() <= members.len() / 2 {
                wrong = Some(KEPT);
            }
        }
        if self.scenario.rumors {
            let own = |key: &MemberKey| state.hosts.iter().find(|host| host.core.me().key == *key);
            let invented = |member: &Member| {
                let known = own(&member.node.key).and_then(|host| host.core.view().get(&member.node.key));
                known.is_some_and(|known| (known.revision, known.state) < (member.revision, member.state))
            };
            if state.hosts.iter().any(|host| host.core.view().iter().any(invented)) {
                wrong = Some(TRUE);
            }
        }
        state.wrong = state.wrong.or(wrong);
    }

    fn ask(&self, state: &mut State, index: usize, attempt: u8, at: usize) {
        let request = self.scenario.requests[index];
        let id = OpId { client: u128::from(request.client), number: index as u64 + 1 };
        // No node's clock has gone farther since the first attempt.
        let Asked::Open { since, .. } = state.asked[index] else { return };
        let age = Nanos(u64::from(state.ticks - since) * TICK.0);
        let op = Retryable { id, retry: attempt > 1, age };
        let bytes = |value: Value| Bytes::copy_from_slice(&[value]);
        let operation = match request.ask {
            Ask::Get => Operation::Get { key: KEY, stale_ok: false },
            Ask::Scan => Operation::Scan { shard: SHARD, after: None, limit: 10 },
            Ask::Put(value) => Operation::Put { key: KEY, value: bytes(value), ttl_ms: None, op },
            Ask::Delete => Operation::Delete { key: KEY, op },
            Ask::Cas(value) => {
                let expected = Some(self.first);
                Operation::CompareAndSet { key: KEY, expected, value: Some(bytes(value)), ttl_ms: None, op }
            }
        };
        let token = Token(index as u64 * 4 + u64::from(attempt));
        let input = Input::Client { token, operation, deadline: Nanos(u64::MAX) };
        self.step(state, at, input, self.syncs(), None);
    }
}

fn holds(disk: &Data, version: Version) -> bool {
    let record = disk.shards.get(&SHARD).and_then(|data| data.records.get(&KEY));
    record.is_some_and(|record| record.version >= version)
}

/// No two configurations of one number.
fn look_at_config(state: &mut State, index: usize) {
    let Some(config) = state.hosts[index].config.clone().filter(|config| !config.members.is_empty()) else { return };
    let known = state.configs.entry(config.epoch).or_insert_with(|| config.members.clone());
    if *known != config.members {
        state.wrong = Some(UNIQUE);
    }
}

impl Model for Shard {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        self.begin.iter().cloned().collect()
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        let scenario = &self.scenario;
        let leading: Vec<bool> = state.hosts.iter().map(|host| host.leads).collect();
        for (index, request) in scenario.requests.iter().enumerate() {
            let earlier = scenario.requests[..index].iter().zip(&state.asked);
            let free = earlier.filter(|(other, _)| other.client == request.client).all(|(_, a)| *a == Asked::Closed);
            match (state.asked[index], request.again) {
                (Asked::Not, _) if free && leading[request.at] => actions.push(Action::Ask(index as u8)),
                (Asked::Open { attempt: 1, .. }, Some(again)) if leading[again] => {
                    actions.push(Action::Again(index as u8));
                }
                _ => {}
            }
        }
        for (from, to) in state.wires.keys().copied() {
            actions.push(Action::Deliver(from, to));
            if state.breaks < scenario.breaks {
                actions.push(Action::Break(from, to));
            }
        }
        for (bit, (by, of)) in scenario.suspects.iter().enumerate() {
            if state.suspected & (1 << bit) == 0 {
                actions.push(Action::Suspect(*by as u8, *of as u8));
            }
        }
        for index in scenario.handovers.iter().filter(|index| state.handed & (1 << **index) == 0) {
            actions.push(Action::Handover(*index as u8));
        }
        let next = |node: usize| {
            let mut open = scenario.wishes.iter().enumerate().filter(|(_, (of, _))| *of == node);
            open.find(|(bit, _)| state.wished & (1 << bit) == 0).map(|(_, (_, wish))| *wish)
        };
        for node in 0..scenario.nodes {
            match next(node) {
                Some(Wish::Leave) => actions.push(Action::Leave(node as u8)),
                Some(Wish::Stay) => actions.push(Action::Stay(node as u8)),
                None => {}
            }
        }
        actions.extend(state.rumors.keys().map(|(from, to)| Action::Rumor(*from, *to)));
        for index in scenario.ends.iter().filter(|index| state.ended & (1 << **index) == 0) {
            actions.push(Action::End(*index as u8));
        }
        for index in 0..scenario.nodes as u8 {
            if state.ticks < scenario.ticks {
                actions.push(Action::Tick(index));
            }
            if state.hosts[usize::from(index)].is_unsynced() {
                actions.push(Action::Sync(index));
            }
            if state.crashes < scenario.crashes {
                actions.push(Action::Crash(index));
            }
            if state.wipes < scenario.wipes && index > 0 {
                actions.push(Action::Wipe(index));
            }
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        let state = &mut next;
        match action {
            Action::Deliver(from, to) => self.deliver(state, from, to, self.syncs(), None),
            Action::Break(from, to) => {
                state.breaks += 1;
                self.break_session(state, from, to);
            }
            Action::Suspect(by, of) => {
                let bit = self.scenario.suspects.iter().position(|pair| *pair == (by.into(), of.into()))?;
                state.suspected |= 1 << bit;
                let peer = state.hosts[usize::from(of)].core.me().key;
                self.step(state, by.into(), Input::PeerDown { peer, refused: true }, self.syncs(), None);
            }
            Action::Handover(to) => {
                state.handed |= 1 << to;
                let epoch = state.hosts[usize::from(to)].config.as_ref()?.epoch;
                let message = ShardMsg { shard: SHARD, epoch, ballot: Ballot::ZERO, kind: ShardKind::Handover };
                let from = state.hosts[usize::from(to == 0)].core.me().key;
                self.step(state, to.into(), Input::Shard { from, messages: vec![message] }, self.syncs(), None);
            }
            Action::Ask(index) => {
                let request = self.scenario.requests[usize::from(index)];
                state.history.on_invoke(request.client, request.ask).ok()?;
                state.asked[usize::from(index)] =
                    Asked::Open { attempt: 1, answered: false, maybe: false, since: state.ticks };
                self.ask(state, index.into(), 1, request.at);
            }
            Action::Again(index) => {
                let at = self.scenario.requests[usize::from(index)].again?;
                let Asked::Open { answered, maybe, since, .. } = state.asked[usize::from(index)] else { return None };
                // An attempt that was given up may have had effect.
                let maybe = maybe || !answered;
                state.asked[usize::from(index)] = Asked::Open { attempt: 2, answered: false, maybe, since };
                self.ask(state, index.into(), 2, at);
            }
            Action::Tick(index) => {
                state.ticks += 1;
                self.act(state, index.into(), Act::Wait(TICK, 0, self.syncs()), None);
            }
            Action::Sync(index) => {
                self.act(state, index.into(), Act::Sync, None);
            }
            Action::Crash(index) => {
                state.crashes += 1;
                let host = &state.hosts[usize::from(index)];
                self.restart(state, index, host.core.me().clone(), host.durable.clone());
            }
            Action::Wipe(index) => {
                state.wipes += 1;
                self.restart(state, index, identity(index.into(), 1), Data::default());
                let mut calls = Calls::new();
                let join = AdminAction::Join { seeds: vec!["0".into()], ring_id: None };
                self.admin(state, index.into(), join, Some(&mut calls));
                self.answer_calls(state, &mut calls, true);
            }
            Action::End(index) => {
                state.ended |= 1 << index;
                self.act(state, index.into(), Act::Wait(Nanos(0), 7_200_000, self.syncs()), None);
            }
            Action::Leave(node) => self.wish(state, node, Wish::Leave, AdminAction::Leave)?,
            Action::Stay(node) => self.wish(state, node, Wish::Stay, AdminAction::AbortLeave)?,
            Action::Rumor(from, to) => {
                let request = (*state.rumors.remove(&(from, to))?.message).clone();
                self.step(state, to.into(), Input::Ring { token: Token(1), request }, self.syncs(), None);
            }
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Shard>> {
        vec![
            Property::always("linearizable", |_, state: &State| state.history.is_consistent()),
            Property::always(KEPT, |_, state: &State| state.wrong != Some(KEPT)),
            Property::always(UNIQUE, |_, state: &State| state.wrong != Some(UNIQUE)),
            Property::always(STAYS, |_, state: &State| state.wrong != Some(STAYS)),
            Property::always(TRUE, |_, state: &State| state.wrong != Some(TRUE)),
            Property::always(SERIAL, |_, state: &State| state.wrong != Some(SERIAL)),
            Property::sometimes("all clients are done", |_, state: &State| {
                state.asked.iter().all(|asked| *asked == Asked::Closed)
            }),
        ]
    }
}

impl Shard {
    fn wish(&self, state: &mut State, node: u8, wish: Wish, action: AdminAction) -> Option<()> {
        let open = |bit: &usize| state.wished & (1 << bit) == 0;
        let mut bits = (0..self.scenario.wishes.len()).filter(open);
        let bit = bits.find(|bit| self.scenario.wishes[*bit] == (usize::from(node), wish))?;
        state.wished |= 1 << bit;
        self.admin(state, node.into(), action, None);
        Some(())
    }

    /// What is on a wire is lost, and the sender hears of it.
    fn break_session(&self, state: &mut State, from: u8, to: u8) {
        if state.wires.remove(&(from, to)).is_some() {
            let peer = state.hosts[usize::from(to)].core.me().key;
            self.step(state, from.into(), Input::PeerDown { peer, refused: false }, self.syncs(), None);
        }
    }

    /// A process ends and another one starts, over `disk`.
    fn restart(&self, state: &mut State, index: u8, me: chord::member::NodeRef, disk: Data) {
        state.wires.retain(|(from, _), _| *from != index);
        state.rumors.retain(|(from, to), _| *from != index && *to != index);
        for from in 0..self.scenario.nodes as u8 {
            self.break_session(state, from, index);
        }
        let now = Host::first_now();
        let wall_ms = state.hosts[usize::from(index)].now.wall_ms;
        let now = chord::time::Now { wall_ms, ..now };
        state.hosts[usize::from(index)] = Arc::new(Host::start(me, disk, now, self.settings()));
        self.step(state, index.into(), Input::Tick, true, None);
    }
}
