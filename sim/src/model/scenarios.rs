//! What is explored, and how far.
use super::{
    register::Ask,
    ring,
    shard::{Change, Request, Scenario, Wish},
};
use chord::rules::Rule;

const fn ask(client: u8, at: usize, ask: Ask) -> Request {
    Request { client, at, ask, again: None }
}

const STAYS: Change = Change { joins: &[], leaves: &[], heard: &[] };

const NONE: Scenario = Scenario {
    name: "",
    about: "",
    nodes: 3,
    members: &[0, 1, 2],
    factor: 3,
    change: STAYS,
    requests: &[],
    suspects: &[],
    handovers: &[],
    ticks: 0,
    breaks: 0,
    crashes: 0,
    wipes: 0,
    ends: &[],
    wishes: &[],
    rumors: false,
    deaf: false,
    news: false,
    compares: None,
    without: None,
};

/// All scenarios of a shard.
pub const SHARD: &[Scenario] = &[
    Scenario {
        name: "two-leaders",
        about: "two leaders; each writes and reads",
        requests: &[ask(1, 0, Ask::Put(b'b')), ask(2, 0, Ask::Get), ask(3, 1, Ask::Put(b'c')), ask(4, 1, Ask::Get)],
        suspects: &[(1, 0)],
        ..NONE
    },
    Scenario {
        name: "three-leaders",
        about: "three leaders",
        requests: &[ask(1, 0, Ask::Put(b'b')), ask(2, 1, Ask::Get), ask(3, 2, Ask::Get)],
        suspects: &[(1, 0)],
        handovers: &[2],
        ..NONE
    },
    Scenario {
        name: "move",
        about: "{0,1,2} to {1,2,3}",
        nodes: 4,
        members: &[0, 1, 2, 3],
        change: Change { joins: &[], leaves: &[0], heard: &[(1, &[0]), (2, &[0]), (3, &[0])] },
        requests: &[ask(1, 0, Ask::Put(b'b')), ask(2, 0, Ask::Get), ask(3, 1, Ask::Get)],
        ..NONE
    },
    Scenario {
        name: "rival-sealers",
        about: "{0,1,2} to {1,2,3} by two leaders",
        nodes: 4,
        members: &[0, 1, 2, 3],
        change: Change { joins: &[], leaves: &[0], heard: &[(1, &[0]), (2, &[0]), (3, &[0])] },
        requests: &[ask(1, 0, Ask::Put(b'b')), ask(2, 1, Ask::Get)],
        suspects: &[(1, 0)],
        ..NONE
    },
    Scenario {
        name: "disjoint",
        about: "{2,3} to {0,1}",
        nodes: 4,
        members: &[2, 3],
        factor: 2,
        change: Change { joins: &[0, 1], leaves: &[], heard: &[(0, &[1]), (1, &[0]), (2, &[0, 1]), (3, &[0, 1])] },
        requests: &[ask(1, 2, Ask::Put(b'b')), ask(2, 2, Ask::Get), ask(3, 0, Ask::Get)],
        suspects: &[(3, 2)],
        ..NONE
    },
    Scenario {
        name: "grow",
        about: "{0} to {0,1,2}",
        members: &[0],
        change: Change { joins: &[1, 2], leaves: &[], heard: &[(0, &[1, 2]), (1, &[2]), (2, &[1])] },
        requests: &[ask(1, 0, Ask::Put(b'b')), ask(2, 0, Ask::Get), ask(3, 1, Ask::Get)],
        suspects: &[(1, 0)],
        ticks: 1,
        ..NONE
    },
    Scenario {
        name: "shrink",
        about: "{0,1,2} to {0}",
        change: Change { joins: &[], leaves: &[1, 2], heard: &[(0, &[1, 2]), (1, &[2]), (2, &[1])] },
        requests: &[ask(1, 0, Ask::Put(b'b')), ask(2, 0, Ask::Get), ask(3, 1, Ask::Get)],
        suspects: &[(1, 0)],
        ..NONE
    },
    Scenario {
        name: "lost-session",
        about: "what is on the wire may be lost",
        requests: &[ask(1, 0, Ask::Put(b'b')), ask(2, 0, Ask::Scan), ask(3, 1, Ask::Get)],
        suspects: &[(1, 0)],
        breaks: 1,
        ..NONE
    },
    Scenario {
        name: "retries",
        about: "a compare-and-set is sent again to the next leader",
        requests: &[Request { client: 1, at: 0, ask: Ask::Cas(b'b'), again: Some(1) }, ask(2, 1, Ask::Get)],
        suspects: &[(1, 0)],
        ..NONE
    },
    Scenario {
        name: "expiry",
        about: "one clock is past the end of the first value, the other not",
        requests: &[ask(1, 0, Ask::Get), ask(2, 1, Ask::Get)],
        suspects: &[(1, 0)],
        ends: &[0],
        ..NONE
    },
    Scenario {
        name: "wiped-disk",
        about: "a disk is lost, and a fresh one comes in its place",
        requests: &[ask(1, 0, Ask::Put(b'b')), ask(2, 1, Ask::Get)],
        suspects: &[(1, 0)],
        wipes: 1,
        ..NONE
    },
    Scenario {
        name: "crash",
        about: "a node crashes before its disk has caught up",
        requests: &[ask(1, 0, Ask::Put(b'b')), ask(2, 1, Ask::Get)],
        suspects: &[(1, 0)],
        crashes: 1,
        ..NONE
    },
    Scenario {
        name: "tombstones",
        about: "a member misses a delete; the others compare",
        requests: &[ask(1, 0, Ask::Delete), ask(2, 2, Ask::Get)],
        suspects: &[(0, 2)],
        handovers: &[2],
        ticks: 2,
        breaks: 1,
        compares: Some(0),
        ..NONE
    },
    Scenario {
        name: "rival-configurations",
        about: "three leaders, two of which seal in favour of different configurations",
        nodes: 5,
        members: &[0, 1, 3, 4],
        change: Change { joins: &[2], leaves: &[3], heard: &[(0, &[3]), (1, &[2, 3]), (3, &[2])] },
        suspects: &[(1, 0)],
        handovers: &[3],
        ticks: 1,
        ..NONE
    },
    Scenario {
        name: "compare-and-set",
        about: "two leaders; each compares with the first value and sets",
        requests: &[ask(1, 0, Ask::Cas(b'b')), ask(2, 1, Ask::Cas(b'c')), ask(3, 1, Ask::Get)],
        suspects: &[(1, 0)],
        ..NONE
    },
    Scenario {
        name: "next-leader-writes",
        about: "{0,1,2} to {1,2,3} by one leader, while the next one writes",
        nodes: 4,
        members: &[0, 1, 2, 3],
        change: Change { joins: &[], leaves: &[0], heard: &[] },
        requests: &[ask(1, 1, Ask::Put(b'b')), ask(2, 2, Ask::Get)],
        suspects: &[(1, 0)],
        ticks: 1,
        ..NONE
    },
    Scenario {
        name: "old-leader-writes",
        about: "{0,1,2} to {0,1,3} by the next leader, while the one before writes",
        nodes: 4,
        members: &[0, 1, 2, 3],
        change: Change { joins: &[], leaves: &[2], heard: &[(1, &[2])] },
        requests: &[ask(1, 0, Ask::Put(b'b')), ask(2, 0, Ask::Get)],
        suspects: &[(1, 0)],
        ticks: 1,
        breaks: 1,
        ..NONE
    },
    Scenario {
        name: "late-retry",
        about: "a delete is sent again after its tombstone was seen everywhere",
        nodes: 2,
        members: &[0, 1],
        factor: 2,
        requests: &[Request { client: 1, at: 0, ask: Ask::Delete, again: Some(0) }, ask(2, 0, Ask::Get)],
        ticks: 4,
        compares: Some(1),
        deaf: true,
        ..NONE
    },
    Scenario {
        name: "change-of-mind",
        about: "a member is told to leave and to stay, and crashes before its disk has caught up",
        wishes: &[(1, Wish::Leave), (1, Wish::Stay)],
        rumors: true,
        ticks: 3,
        crashes: 1,
        ..NONE
    },
    Scenario {
        name: "leave",
        about: "a member leaves under load",
        nodes: 4,
        members: &[0, 1, 2, 3],
        requests: &[ask(1, 0, Ask::Put(b'b')), ask(2, 0, Ask::Get)],
        wishes: &[(1, Wish::Leave)],
        rumors: true,
        news: true,
        ticks: 3,
        ..NONE
    },
    Scenario {
        name: "newcomer-leaves",
        about: "{0,1,2} to {1,2,3} by one leader and the third, while the newcomer leaves",
        nodes: 4,
        members: &[0, 1, 2, 3],
        change: Change { joins: &[], leaves: &[0], heard: &[] },
        suspects: &[(1, 0)],
        handovers: &[2],
        wishes: &[(3, Wish::Leave)],
        news: true,
        ticks: 3,
        breaks: 2,
        ..NONE
    },
    Scenario {
        name: "given-up",
        about: "{0,1,2} to {0,2,3}, given up and begun anew, while the newcomer leaves",
        nodes: 4,
        members: &[0, 1, 2, 3],
        change: Change { joins: &[], leaves: &[1], heard: &[(0, &[1])] },
        wishes: &[(1, Wish::Stay), (1, Wish::Leave), (3, Wish::Leave)],
        rumors: true,
        news: true,
        ticks: 6,
        ..NONE
    },
];

const RING_NONE: ring::Scenario = ring::Scenario {
    name: "",
    about: "",
    nodes: 3,
    members: 1,
    list: 2,
    fails: 0,
    starts: 0,
    leaves: 0,
    losses: 0,
    prompt: true,
    probes: true,
    one_ring: false,
    without: None,
};

/// All scenarios of the ring.
pub const RING: &[ring::Scenario] = &[
    ring::Scenario { name: "ring-2", about: "from one node", nodes: 2, fails: 3, starts: 4, ..RING_NONE },
    ring::Scenario { name: "ring-3", about: "from one node", fails: 2, starts: 4, ..RING_NONE },
    ring::Scenario {
        name: "ring-4",
        about: "from one node",
        nodes: 4,
        fails: 1,
        starts: 4,
        one_ring: true,
        ..RING_NONE
    },
    ring::Scenario {
        name: "ring-5",
        about: "from four nodes",
        nodes: 5,
        members: 4,
        fails: 2,
        starts: 2,
        one_ring: true,
        ..RING_NONE
    },
    ring::Scenario {
        name: "ring-6",
        about: "from five nodes",
        nodes: 6,
        members: 5,
        list: 3,
        fails: 2,
        starts: 2,
        one_ring: true,
        ..RING_NONE
    },
    ring::Scenario { name: "ring-joins", about: "joins alone", nodes: 4, starts: 3, one_ring: true, ..RING_NONE },
    ring::Scenario {
        name: "ring-late-joins",
        about: "joins alone, late replies",
        nodes: 4,
        members: 2,
        // Fewer join at once than a list is long.
        list: 3,
        starts: 2,
        prompt: false,
        one_ring: true,
        ..RING_NONE
    },
    ring::Scenario {
        name: "ring-leave",
        about: "leaves in good order",
        nodes: 4,
        members: 4,
        fails: 1,
        leaves: 2,
        ..RING_NONE
    },
    ring::Scenario {
        name: "ring-late-leave",
        about: "leaves in good order, late replies",
        members: 3,
        leaves: 1,
        prompt: false,
        one_ring: true,
        ..RING_NONE
    },
    ring::Scenario {
        name: "ring-late-3",
        about: "late and lost replies",
        fails: 1,
        starts: 3,
        losses: 2,
        prompt: false,
        ..RING_NONE
    },
    ring::Scenario {
        name: "ring-late-4",
        about: "late and lost replies",
        nodes: 4,
        members: 3,
        fails: 1,
        starts: 2,
        losses: 2,
        prompt: false,
        ..RING_NONE
    },
    ring::Scenario {
        name: "ring-lost",
        about: "two live members lose sight of each other",
        nodes: 2,
        members: 2,
        losses: 4,
        prompt: false,
        one_ring: true,
        ..RING_NONE
    },
    ring::Scenario { name: "ring-3-blind", about: "without probes", fails: 2, starts: 4, probes: false, ..RING_NONE },
    ring::Scenario {
        name: "ring-late-3-blind",
        about: "late and lost replies, without probes",
        members: 2,
        fails: 1,
        starts: 2,
        losses: 2,
        prompt: false,
        probes: false,
        ..RING_NONE
    },
];

/// A scenario of the ring by its name, without a rule.
///
/// # Panics
/// When there is none of that name.
pub fn ring(name: &str, without: Option<Rule>) -> ring::Scenario {
    let scenario = RING.iter().find(|scenario| scenario.name == name);
    let scenario = scenario.unwrap_or_else(|| panic!("there is no scenario {name}")).clone();
    ring::Scenario { without, ..scenario }
}

/// A scenario by its name, with cores that do without a rule.
///
/// # Panics
/// When there is none of that name.
pub fn shard(name: &str, without: Option<Rule>) -> Scenario {
    let scenario = SHARD.iter().find(|scenario| scenario.name == name);
    let scenario = scenario.unwrap_or_else(|| panic!("there is no scenario {name}")).clone();
    Scenario { without, ..scenario }
}
