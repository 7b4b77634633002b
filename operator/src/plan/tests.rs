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
                under_replicated: 0,
                pending: 0,
                unavailable: 0,
                retiring: 0,
                keys: 0,
                bytes: 0,
                leave_blocked: String::new(),
                internal_addr: format!("r-node-{ordinal}:7400"),
            };
            (*ordinal, Ok(word))
        });
        let held_before = self.evidence.replace(members.clone()).is_some_and(|before| before == members);
        World {
            ring: "r".into(),
            desired: self.desired,
            replication_factor: 3,
            prune: true,
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
                assert!(claim.disk.is_none(), "the volume of a member that left came back as ordinal {ordinal}");
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

    fn act(&mut self, step: Step) {
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
            Step::AbortLeave { ordinal } => self.nodes.get_mut(&ordinal).expect("a leaver").state = State::Serving,
            Step::RetireClaim { .. } | Step::Evict { .. } | Step::Wait { .. } | Step::Idle => {}
        }
    }

    fn is_settled(&self) -> bool {
        self.replicas == Some(self.desired)
            && self.nodes.len() as i32 == self.desired
            && self.nodes.values().all(|node| node.state == State::Serving)
            && self.claims.len() as i32 == self.desired
    }
}

proptest! {
    #[test]
    fn whatever_the_spec_does_the_ring_gets_there_and_no_promise_breaks(
        specs in proptest::collection::vec((3i32..9, 0usize..40), 1..6),
        crashes in proptest::collection::vec(any::<bool>(), 64),
    ) {
        let mut cluster = Cluster::default();
        let mut turn = 0;
        for (desired, passes) in specs.iter().copied().chain([(specs[0].0, 400)]) {
            cluster.desired = desired;
            for _ in 0..passes {
                turn += 1;
                let world = cluster.world();
                let step = plan(&world);
                prop_assert_eq!(check(&world, &step), Ok(()), "{:?}", step);
                // The operator dies before its step, or nothing is wrong; it remembers nothing either way.
                if crashes[turn % crashes.len()] {
                    cluster.evidence = None;
                } else {
                    cluster.act(step);
                }
                cluster.live();
                prop_assert!(cluster.founded <= 1);
            }
        }
        let world = cluster.world();
        prop_assert!(cluster.is_settled() || crashes.iter().filter(|crash| !**crash).count() < 8,
            "not settled: {:?} {:?}", plan(&world), cluster.replicas);
    }
}

#[test]
fn mark_on_a_claim_is_never_enough_to_shrink() {
    let mut cluster = Cluster { desired: 5, ..Cluster::default() };
    for _ in 0..200 {
        let step = plan(&cluster.world());
        cluster.act(step);
        cluster.live();
    }
    assert!(cluster.is_settled());
    cluster.desired = 3;
    let mut world = cluster.world();
    // Whatever objects claim: the member says that it serves, so it is asked to leave first.
    assert_eq!(plan(&world), Step::Leave { ordinal: 4 });
    world.held_before = true;
    assert!(check(&world, &Step::ShrinkStatefulSet { to: 4 }).is_err());
}

#[test]
fn lost_volume_evicts_the_old_member_and_joins_the_new_one() {
    let mut cluster = Cluster { desired: 3, ..Cluster::default() };
    for _ in 0..200 {
        let step = plan(&cluster.world());
        cluster.act(step);
        cluster.live();
    }
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
