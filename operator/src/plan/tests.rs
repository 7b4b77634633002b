//! A model of cluster and ring, driven by the planner: with crashes of the operator after any step, looks that are
//! out of date, and a spec that changes at any time, it must never break a promise and always get there.
use super::*;
use crate::{
    check::check,
    world::{Claim, Listed, Pod, Word},
};
use proptest::prelude::*;

#[derive(Clone)]
struct Node {
    disk: String,
    state: State,
    ring_id: String,
    /// Passes until what it is doing is done.
    busy: u32,
}

#[derive(Clone, Default)]
struct Cluster {
    desired: i32,
    replicas: Option<i32>,
    nodes: std::collections::BTreeMap<i32, Node>,
    claims: std::collections::BTreeMap<i32, Claim>,
    ring_id: Option<String>,
    departed: Vec<Listed>,
    made: u32,
    founded: u32,
    evidence: Option<Vec<Listed>>,
    /// Volumes of members that left stay.
    retain: bool,
    /// Members that cannot be reached, and for how many passes yet.
    silent: std::collections::BTreeMap<i32, u32>,
}

fn id(ordinal: i32) -> String {
    format!("{:040x}", ordinal.reverse_bits() as u32)
}

impl Cluster {
    fn members(&self) -> Vec<Listed> {
        let current = self.nodes.iter().filter(|(_, node)| !node.ring_id.is_empty()).map(|(ordinal, node)| Listed {
            id: id(*ordinal),
            disk: node.disk.clone(),
            name: format!("r-node-{ordinal}"),
            state: node.state,
        });
        current.chain(self.departed.iter().cloned()).collect()
    }

    fn world(&mut self) -> World {
        let members = self.members();
        let mut serving: Vec<String> = self
            .nodes
            .iter()
            .filter(|(_, node)| node.state == State::Serving)
            .map(|(ordinal, _)| id(*ordinal))
            .collect();
        serving.sort();
        let words = self.nodes.iter().map(|(ordinal, node)| {
            let own = id(*ordinal);
            let place = serving.iter().position(|other| *other == own);
            let successor = place.map(|place| serving[(place + 1) % serving.len()].clone());
            let word = Word {
                id: own,
                disk: node.disk.clone(),
                incarnation: 1,
                state: node.state,
                ring_id: node.ring_id.clone(),
                members: if node.ring_id.is_empty() { Vec::new() } else { members.clone() },
                successor,
                shards_held: u32::from(!matches!(node.state, State::Left | State::Empty)),
                internal_addr: format!("r-node-{ordinal}:7400"),
                ..empty_word(*ordinal)
            };
            let is_silent = self.silent.contains_key(ordinal);
            (*ordinal, if is_silent { Err("no answer in time".to_owned()) } else { Ok(word) })
        });
        let held_before = self.evidence.replace(members.clone()).is_some_and(|before| before == members);
        World {
            ring: "r".into(),
            desired: self.desired,
            replication_factor: 3,
            prune: !self.retain,
            persistent: true,
            replicas: self.replicas,
            pods: self.nodes.keys().map(|o| (*o, Pod { uid: o.to_string(), ..Pod::default() })).collect(),
            claims: self.claims.clone(),
            words: words.collect(),
            ring_id: self.ring_id.clone(),
            held_before,
            ..World::default()
        }
    }

    /// Kubernetes and the nodes do their part.
    fn live(&mut self) {
        let replicas = self.replicas.unwrap_or(0);
        self.nodes.retain(|ordinal, _| *ordinal < replicas);
        self.claims.retain(|_, claim| !claim.terminating);
        for ordinal in 0..replicas {
            if !self.claims.contains_key(&ordinal) {
                self.made += 1;
                let uid = format!("claim-{}", self.made);
                self.claims.insert(ordinal, Claim { uid, ..Claim::default() });
            }
            let claim = &self.claims[&ordinal];
            let disk = format!("disk of {}", claim.uid);
            self.nodes.entry(ordinal).or_insert_with(|| {
                assert!(
                    claim.disk.is_none() && !claim.retired,
                    "the volume of a member that left came back as ordinal {ordinal}"
                );
                Node { disk, state: State::Empty, ring_id: String::new(), busy: 0 }
            });
        }
        for node in self.nodes.values_mut() {
            node.busy = node.busy.saturating_sub(1);
            node.state = match node.state {
                State::Joining if node.busy == 0 => State::Serving,
                State::Leaving if node.busy == 0 => State::Left,
                state => state,
            };
        }
    }

    /// The volume of a member is replaced by an empty one, if the ring can bear that now.
    fn lose_volume(&mut self, ordinal: i32) {
        let whole = self.nodes.values().all(|node| node.state == State::Serving)
            && self.departed.iter().all(|listed| listed.state.is_gone());
        let Some(node) = self.nodes.get_mut(&ordinal).filter(|_| whole) else { return };
        self.made += 1;
        let name = format!("r-node-{ordinal}");
        self.departed.push(Listed { id: id(ordinal), disk: node.disk.clone(), name, state: State::Serving });
        *node = Node { disk: format!("replaced {}", self.made), state: State::Empty, ring_id: String::new(), busy: 0 };
    }

    fn act(&mut self, step: Step) {
        let touches_members = !matches!(
            step,
            Step::PruneClaim { .. }
                | Step::RetireClaim { .. }
                | Step::MarkClaim { .. }
                | Step::ChooseRingId
                | Step::AdoptRingId { .. }
                | Step::Wait { .. }
                | Step::Idle
        );
        let counted_on = self.silent.keys().any(|ordinal| {
            self.nodes.get(ordinal).is_some_and(|node| !node.ring_id.is_empty() && !node.state.is_gone())
        });
        assert!(!(touches_members && counted_on), "{step:?} while a member is silent");
        let ring = self.ring_id.clone().unwrap_or_default();
        match step {
            Step::CreateStatefulSet { replicas } | Step::GrowStatefulSet { to: replicas } => {
                self.replicas = Some(replicas)
            }
            Step::ShrinkStatefulSet { to } => {
                let node = self.nodes[&to].clone();
                assert!(
                    matches!(node.state, State::Left | State::Empty),
                    "shrunk over a member that is {:?}",
                    node.state
                );
                if node.state == State::Left {
                    let (id, name) = (id(to), format!("r-node-{to}"));
                    self.departed.push(Listed { id, disk: node.disk, name, state: State::Left });
                }
                self.replicas = Some(to);
            }
            Step::PruneClaim { ordinal, uid } => {
                let claim = self.claims.get_mut(&ordinal).expect("a claim to prune");
                assert_eq!(claim.uid, uid, "another claim than the one that was seen");
                claim.terminating = true;
            }
            Step::MarkClaim { ordinal, ring_id, disk } => {
                let claim = self.claims.get_mut(&ordinal).expect("a claim to mark");
                (claim.ring_id, claim.disk) = (Some(ring_id), Some(disk));
            }
            Step::ChooseRingId => self.ring_id = Some("r1".into()),
            Step::AdoptRingId { ring_id } => self.ring_id = Some(ring_id),
            Step::Bootstrap { ring_id } => {
                let node = self.nodes.get_mut(&0).expect("member 0");
                if node.state == State::Empty {
                    self.founded += 1;
                    (node.state, node.ring_id) = (State::Serving, ring_id);
                }
            }
            Step::Join { ordinal, seeds } => {
                assert!(!seeds.is_empty());
                let busy =
                    self.nodes.values().filter(|node| matches!(node.state, State::Joining | State::Leaving)).count();
                assert_eq!(busy, 0, "two changes at a time");
                let node = self.nodes.get_mut(&ordinal).expect("a member to join");
                (node.state, node.ring_id, node.busy) = (State::Joining, ring, 3);
            }
            Step::Leave { ordinal } => {
                let node = self.nodes.get_mut(&ordinal).expect("a member to leave");
                (node.state, node.busy) = (State::Leaving, 3);
            }
            Step::DropAbortLeave => {}
            Step::AbortLeave { ordinal } => self.nodes.get_mut(&ordinal).expect("a leaver").state = State::Serving,
            Step::RetireClaim { ordinal, uid } => {
                let claim = self.claims.get_mut(&ordinal).expect("a claim to retire");
                assert_eq!(claim.uid, uid, "another claim than the one that was seen");
                claim.retired = true;
            }
            Step::Evict { disk, .. } => {
                assert!(self.nodes.values().all(|node| node.disk != disk), "a member that lives was evicted");
                let lost = self.departed.iter_mut().find(|listed| listed.disk == disk).expect("a member that is lost");
                lost.state = State::Evicted;
            }
            // People do what they are told to.
            Step::Wait { reason: Reason::ScaleUpDeferred, message } => {
                let replicas = self.replicas.unwrap_or(0);
                let named = |ordinal: &i32| message.ends_with(&format!("kubectl delete pvc data-r-node-{ordinal}"));
                self.claims.retain(|ordinal, _| *ordinal < replicas || !named(ordinal));
            }
            Step::Wait { .. } | Step::Idle => {}
        }
    }

    fn is_settled(&self) -> bool {
        self.replicas == Some(self.desired)
            && self.nodes.len() as i32 == self.desired
            && self.nodes.values().all(|node| node.state == State::Serving)
            && self.claims.keys().filter(|ordinal| !self.retain || **ordinal < self.desired).count() as i32
                == self.desired
            && self.departed.iter().all(|listed| listed.state.is_gone())
    }
}

/// What goes wrong in a pass.
#[derive(Clone, Copy, Debug)]
enum Fault {
    None,
    /// The operator dies before its step, and with it all that it remembers.
    Crash,
    /// A member cannot be reached for some passes.
    Silence(i32),
    /// The volume of a member is gone.
    Loss(i32),
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        12 => Just(Fault::None),
        8 => Just(Fault::Crash),
        2 => (0i32..8).prop_map(Fault::Silence),
        1 => (0i32..8).prop_map(Fault::Loss),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_the_ring_gets_there_and_no_promise_breaks(
        specs in proptest::collection::vec((3i32..9, 0usize..60), 1..6),
        faults in proptest::collection::vec(fault(), 97),
        retain in any::<bool>(),
    ) {
        let mut cluster = Cluster { retain, ..Cluster::default() };
        let mut turn = 0;
        // In the end nothing goes wrong any more, and all is as the last spec says.
        for (desired, passes, calm) in specs.iter().map(|(desired, passes)| (*desired, *passes, false)).chain([(specs[0].0, 400, true)]) {
            cluster.desired = desired;
            for _ in 0..passes {
                turn += 1;
                let fault = if calm { Fault::None } else { faults[turn % faults.len()] };
                match fault {
                    Fault::Silence(ordinal) => { cluster.silent.insert(ordinal, 4); }
                    Fault::Loss(ordinal) => cluster.lose_volume(ordinal),
                    Fault::None | Fault::Crash => {}
                }
                let world = cluster.world();
                let step = plan(&world);
                prop_assert_eq!(check(&world, &step), Ok(()), "{:?}", step);
                if matches!(fault, Fault::Crash) {
                    cluster.evidence = None;
                } else {
                    cluster.act(step);
                }
                cluster.live();
                cluster.silent.retain(|_, passes| { *passes -= 1; *passes > 0 });
                prop_assert!(cluster.founded <= 1);
            }
        }
        let world = cluster.world();
        prop_assert!(cluster.is_settled(), "not settled: {:?} of {:?} {:?}", plan(&world), cluster.replicas, cluster.departed);
    }
}

/// A ring of this many, all serving.
fn settled(desired: i32) -> Cluster {
    let mut cluster = Cluster { desired, ..Cluster::default() };
    for _ in 0..200 {
        let step = plan(&cluster.world());
        cluster.act(step);
        cluster.live();
    }
    assert!(cluster.is_settled());
    cluster
}

#[test]
fn as_many_lost_volumes_as_a_majority_of_copies_stop_everything() {
    let mut world = settled(5).world();
    for ordinal in [1, 3] {
        if let Some(Ok(word)) = world.words.get_mut(&ordinal) {
            (word.disk, word.state, word.ring_id) = (format!("fresh {ordinal}"), State::Empty, String::new());
            word.members.clear();
        }
    }
    let Step::Wait { reason: Reason::PotentialDataLoss, message } = plan(&world) else {
        panic!("{:?}", plan(&world));
    };
    assert!(message.contains("1, 3"), "{message}");
}

#[test]
fn leave_without_progress_is_said_with_the_way_out() {
    let mut cluster = settled(4);
    cluster.desired = 3;
    let step = plan(&cluster.world());
    assert_eq!(step, Step::Leave { ordinal: 3 });
    cluster.act(step);
    let mut world = cluster.world();
    assert!(matches!(plan(&world), Step::Wait { reason: Reason::WaitingForHandoff, .. }));
    world.leave_quiet = Duration::from_secs(660);
    let Step::Wait { reason: Reason::LeaveStalled, message } = plan(&world) else { panic!("{:?}", plan(&world)) };
    assert!(message.contains("11 minutes") && message.contains("chordring.dev/abort-leave"), "{message}");
    world.abort_leave = true;
    assert_eq!(plan(&world), Step::AbortLeave { ordinal: 3 });
}

#[test]
fn a_wish_to_abort_does_not_wait_for_the_next_leave() {
    let mut cluster = settled(4);
    cluster.desired = 3;
    let mut world = cluster.world();
    world.abort_leave = true;
    assert_eq!(plan(&world), Step::DropAbortLeave);
    world.abort_leave = false;
    assert_eq!(plan(&world), Step::Leave { ordinal: 3 });
}

/// cass-operator 261: judged left from a view that is behind.
#[test]
fn one_peer_that_still_lists_the_leaver_keeps_its_pod() {
    let mut cluster = settled(4);
    cluster.desired = 3;
    cluster.nodes.get_mut(&3).expect("a member").state = State::Left;
    let mut world = cluster.world();
    world.held_before = true;
    if let Some(Ok(leaver)) = world.words.get_mut(&3) {
        leaver.shards_held = 0;
    }
    assert_eq!(plan(&world), Step::ShrinkStatefulSet { to: 3 });
    let lagging = world.words.get_mut(&1).and_then(|word| word.as_mut().ok()).expect("a member");
    let listed = lagging.members.iter_mut().find(|listed| listed.name == "r-node-3").expect("it is listed");
    listed.state = State::Leaving;
    assert!(matches!(plan(&world), Step::Wait { reason: Reason::VerifyingHandoff, .. }));
    assert!(check(&world, &Step::ShrinkStatefulSet { to: 3 }).is_err());
}

/// Scylla 1189: a spec that is raised during a leave waits for it; scylla 1293: the ordinal then starts empty.
#[test]
fn spec_raised_during_a_leave_waits_and_the_ordinal_starts_empty() {
    let mut cluster = settled(4);
    cluster.desired = 3;
    let step = plan(&cluster.world());
    cluster.act(step);
    cluster.desired = 5;
    let before = cluster.nodes[&3].disk.clone();
    assert!(matches!(plan(&cluster.world()), Step::Wait { reason: Reason::WaitingForHandoff, .. }));
    for _ in 0..200 {
        let step = plan(&cluster.world());
        cluster.act(step);
        cluster.live();
    }
    assert!(cluster.is_settled());
    assert_ne!(cluster.nodes[&3].disk, before);
}

/// elassandra 17: a kept volume is never attached to a new member.
#[test]
fn kept_volume_defers_growth() {
    let mut world = settled(3).world();
    world.prune = false;
    world.claims.insert(3, Claim { uid: "kept".into(), retired: true, ..Claim::default() });
    world.desired = 4;
    assert!(matches!(plan(&world), Step::Wait { reason: Reason::ScaleUpDeferred, .. }));
}

#[test]
fn mark_on_a_claim_is_never_enough_to_shrink() {
    let mut cluster = settled(5);
    cluster.desired = 3;
    let mut world = cluster.world();
    // Whatever objects claim: the member says that it serves, so it is asked to leave first.
    assert_eq!(plan(&world), Step::Leave { ordinal: 4 });
    world.held_before = true;
    assert!(check(&world, &Step::ShrinkStatefulSet { to: 4 }).is_err());
}

#[test]
fn lost_volume_evicts_the_old_member_and_joins_the_new_one() {
    let mut cluster = settled(3);
    let old = cluster.nodes[&1].disk.clone();
    let mut world = cluster.world();
    if let Some(Ok(word)) = world.words.get_mut(&1) {
        (word.disk, word.state, word.ring_id, word.members) = ("fresh".into(), State::Empty, String::new(), Vec::new());
    }
    assert_eq!(plan(&world), Step::Evict { through: 0, id: id(1), disk: old });
}

#[test]
fn ring_over_kept_volumes_is_never_founded_anew() {
    let mut world =
        World { desired: 3, replication_factor: 3, persistent: true, replicas: Some(3), ..World::default() };
    world.claims.insert(1, Claim { ring_id: Some("old".into()), ..Claim::default() });
    for ordinal in 0..3 {
        world.words.insert(ordinal, Ok(Word { state: State::Empty, ring_id: String::new(), ..empty_word(ordinal) }));
    }
    assert!(matches!(plan(&world), Step::Wait { reason: Reason::WaitingForHealthyRing, .. }));
}

fn empty_word(ordinal: i32) -> Word {
    Word {
        id: id(ordinal),
        disk: format!("d{ordinal}"),
        incarnation: 1,
        state: State::Empty,
        ring_id: String::new(),
        members: Vec::new(),
        successor: None,
        shards_held: 0,
        under_replicated: 0,
        pending: 0,
        unavailable: 0,
        retiring: 0,
        keys: 0,
        bytes: 0,
        leave_blocked: String::new(),
        internal_addr: String::new(),
    }
}
