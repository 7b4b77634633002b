//! Rings over time: repair after simultaneous failures (Fig. 11), lookups under churn (Fig. 12, Table III), their
//! latency (Fig. 13), and ten minutes of churn among 10 000 nodes.
use super::{
    Size,
    network::{Network, SECOND},
    plot::{Line, plot},
    report::{Distribution, Figure, around, number},
};
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

/// Mean time between stabilizations in the papers, ns.
const ROUND: u64 = 30 * SECOND;

/// Who goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Going {
    Dying,
    Leaving,
}

/// What lookups met.
#[derive(Default)]
struct Met {
    lookups: f64,
    contacts: f64,
    silences: f64,
    /// Met a silent contact, or failed.
    touched: f64,
    failed: f64,
    failed_with_retry: f64,
    wrong: f64,
}

impl Met {
    fn of(network: &Network) -> Met {
        let mut met = Met::default();
        met.add(network);
        met
    }

    fn add(&mut self, network: &Network) {
        let count = |yes: bool| f64::from(u8::from(yes));
        for lookup in network.lookups.iter().filter(|lookup| lookup.over) {
            self.lookups += 1.0;
            self.contacts += f64::from(lookup.contacts);
            self.silences += f64::from(lookup.silences);
            self.touched += count(lookup.silences > 0 || lookup.failed_at_first);
            self.failed += count(lookup.failed_at_first);
            self.failed_with_retry += count(lookup.right.is_none());
            self.wrong += count(lookup.right == Some(false));
        }
    }

    fn per_lookup(&self, sum: f64) -> f64 {
        sum / self.lookups.max(1.0)
    }

    fn per_10_000(&self, sum: f64) -> f64 {
        10_000.0 * self.per_lookup(sum)
    }
}

/// As many nodes join as go, both as Poisson processes of `rate` per second; lookups come `lookups` times a second.
/// Returns after `seconds`.
fn churn(network: &mut Network, going: Going, rate: f64, lookups: f64, seconds: u64) {
    let end = network.now() + seconds * SECOND;
    let gap = |network: &mut Network, rate: f64| network.now() + network.gap(rate).max(1);
    let mut next = [rate, rate, lookups].map(|rate| if rate > 0.0 { gap(network, rate) } else { u64::MAX });
    loop {
        let at = next.into_iter().min().unwrap_or(end);
        if at >= end {
            break network.run_until(end);
        }
        network.run_until(at);
        if next[0] == at {
            network.join();
            next[0] = gap(network, rate);
        } else if next[1] == at {
            let node = network.somebody();
            match going {
                Going::Dying => network.kill(node),
                Going::Leaving => network.leave(node),
            }
            next[1] = gap(network, rate);
        } else {
            network.look_up();
            next[2] = gap(network, lookups);
        }
    }
}

/// The churn of the papers, at rest before and after the lookups, on `rings` rings one after the other.
fn under_churn(nodes: usize, going: Going, rate: f64, (lookups, rings): (u64, u32), rng: &mut ChaCha8Rng) -> Met {
    let mut met = Met::default();
    for _ in 0..rings {
        let mut network = Network::new(nodes, 20, ROUND, ChaCha8Rng::from_rng(rng));
        churn(&mut network, going, rate, 0.0, 300);
        // Some more per second than in the papers: they read, and hardly change anything.
        churn(&mut network, going, rate, 5.0, lookups / 5);
        network.run_until(network.now() + 60 * SECOND);
        met.add(&network);
    }
    met
}

/// Fig. 11.
pub fn repair(size: Size, rng: &mut ChaCha8Rng) -> Figure {
    let mut figure = Figure::new(
        "Simultaneous failures, repaired (SIGCOMM'01 Fig. 11)",
        "A share of the nodes dies at once; then the others repair the ring by stabilizing every 30 s, with successor \
         lists of 26, until every first successor and predecessor is the right one (the rest of the lists follows by one \
         entry a round); 3 rounds later, for the fingers, keys are looked up. \
         Published: as many lookups fail as keys were on dead nodes (almost exactly the share), and none besides. Lost \
         keys with 3 replicas are those whose three nodes all died within that one moment: the share cubed, as nothing \
         is replicated anew in between. Bands: share ±3 points; extra failures 0; 12 rounds for the ring.",
        &[
            "dead",
            "nodes",
            "keys lost, 1 replica, %",
            "keys lost, 3 replicas, %",
            "ring right after, s",
            "extra failures",
            "timeouts per lookup",
        ],
    );
    let nodes = size.pick(1_000, 10_000);
    let mut lost = Vec::new();
    for percent in size.pick(vec![30], vec![10, 20, 30, 40, 50]) {
        let mut network = Network::new(nodes, 26, ROUND, ChaCha8Rng::from_rng(rng));
        for _ in 0..nodes * percent / 100 {
            let node = network.somebody();
            network.kill(node);
        }
        let [one, three] = network.lost(size.pick(10_000, 1_000_000), nodes);
        let limit = 12 * ROUND;
        while network.astray(1) > 0 && network.now() < limit {
            network.run_until(network.now() + 5 * SECOND);
        }
        let repaired = network.now();
        // The fingers follow the ring.
        network.run_until(repaired + 3 * ROUND);
        churn(&mut network, Going::Dying, 0.0, size.pick(100.0, 500.0), 20);
        network.run_until(network.now() + 60 * SECOND);
        let met = Met::of(&network);
        let share = percent as f64;
        let cells = vec![
            format!("{percent} %"),
            nodes.to_string(),
            figure.check(format!("keys lost, 1 replica, with {percent} % dead"), one, share - 3.0..=share + 3.0),
            number(three),
            figure.check(
                format!("time until the ring is right with {percent} % dead"),
                (repaired / SECOND) as f64,
                0.0..=(limit / SECOND - 1) as f64,
            ),
            figure.check(format!("extra failures with {percent} % dead"), met.failed + met.wrong, 0.0..=0.0),
            number(met.per_lookup(met.silences)),
        ];
        figure.row(cells);
        lost.push((share, one));
    }
    if lost.len() > 1 {
        let published = Line::published("published: as many as died", lost.iter().map(|(x, _)| (*x, *x)).collect());
        let lines = [published, Line::measured("failed lookups", lost)];
        figure.plots.push(("repair.svg", plot("After repair", "dead nodes, %", "failed lookups, %", &lines)));
    }
    figure
}

/// Fig. 12.
pub fn failing_lookups(size: Size, rng: &mut ChaCha8Rng) -> Figure {
    let mut figure = Figure::new(
        "Lookups while nodes fail (SIGCOMM'01 Fig. 12)",
        "500 nodes, successor lists of 20, stabilization every 30 s; nodes join and die without a word at the rate given. \
         *As in the paper*: a lookup that meets one silent node has failed. *Shipped*: it goes round silent nodes, and \
         has failed when it finds no owner or a wrong one; *with retry*: a user tries up to five times more. Published: \
         about 5 contacts × 3 of 500 nodes = 3 % at 0.1 per second, slightly worse. Bands: as in the paper at most twice \
         that; wrong owners 0; with retry at most 2 of 10 000. Four rings with 10 000 lookups each per rate: the nodes that \
         happen to be dead are the same for many lookups of one ring.",
        &[
            "rate, 1/s",
            "published, %",
            "as in the paper, %",
            "shipped, %",
            "with retry, of 10 000",
            "wrong owners",
            "timeouts per lookup",
        ],
    );
    let (mut published, mut paper, mut shipped) = (Vec::new(), Vec::new(), Vec::new());
    for rate in size.pick(vec![0.1], vec![0.02, 0.04, 0.06, 0.08, 0.1]) {
        let met = under_churn(500, Going::Dying, rate, size.pick((2_000, 1), (10_000, 4)), rng);
        let line = 5.0 * 30.0 * rate / 500.0 * 100.0;
        let percent = |sum| 100.0 * met.per_lookup(sum);
        let cells = vec![
            number(rate),
            number(line),
            figure.check(format!("lookups that meet silence at {rate}"), percent(met.touched), 0.0..=2.0 * line),
            number(percent(met.failed)),
            figure.check(format!("failures with retry at {rate}"), met.per_10_000(met.failed_with_retry), 0.0..=2.0),
            figure.check(format!("wrong owners at {rate}"), met.wrong, 0.0..=0.0),
            number(met.per_lookup(met.silences)),
        ];
        figure.row(cells);
        published.push((rate, line));
        paper.push((rate, percent(met.touched)));
        shipped.push((rate, percent(met.failed)));
    }
    if paper.len() > 1 {
        let lines = [
            Line::published("published", published),
            Line::measured("as in the paper: one silent node is a failure", paper),
            Line::measured("shipped", shipped),
        ];
        let title = "Failed lookups while nodes join and die";
        figure.plots.push(("failing-lookups.svg", plot(title, "joins and deaths per second", "%", &lines)));
    }
    figure
}

/// Nodes of the prototype.
const SITES: [usize; 6] = [10, 20, 40, 80, 120, 180];

/// Fig. 13.
pub fn latency(size: Size, rng: &mut ChaCha8Rng) -> Figure {
    let mut figure = Figure::new(
        "Latency of lookups (SIGCOMM'01 Fig. 13)",
        "Iterative lookups in an ideal ring, fingers only; a message takes 15 to 45 ms, so a round trip 60 ms, the median \
         between the sites of the paper's prototype. A lookup takes a round trip per contact and nothing besides. \
         Published: medians of 180 to 285 ms up to 180 nodes. Bands: ±10 % of contacts × 60 ms for the mean; ±10 % of \
         285 ms for the median of 180 nodes. Not reproduced: ToN'03 Table IV, the latency when each finger is the nearest \
         by round trip of several candidates. The shipped core has no such choice: its finger is the first node at or \
         after the start.",
        &["nodes", "contacts", "contacts × RTT, ms", "mean, ms", "median, ms", "p5, ms", "p95, ms"],
    );
    let (mut expected, mut median) = (Vec::new(), Vec::new());
    for nodes in size.pick(vec![40, 180], SITES.to_vec()) {
        // Small circles differ much from each other.
        let (circles, seconds) = (size.pick(10, 40), size.pick(4, 10));
        let (mut contacts, mut took) = (0.0, Vec::new());
        for _ in 0..circles {
            let ring = Network::new(nodes, 1, ROUND, ChaCha8Rng::from_rng(rng));
            let mut network = ring.delayed((15_000_000, 45_000_000));
            churn(&mut network, Going::Dying, 0.0, 50.0, seconds);
            network.run_until(network.now() + 10 * SECOND);
            contacts += Met::of(&network).contacts;
            took.extend(network.lookups.iter().map(|lookup| (lookup.took / 1_000_000) as u32));
        }
        let took = Distribution::of(took);
        let mean = contacts / took.len().max(1) as f64;
        let middle = took.percentile(0.5);
        let cells = vec![
            nodes.to_string(),
            number(mean),
            number(60.0 * mean),
            figure.check(format!("mean latency of {nodes} nodes"), took.mean(), around(60.0 * mean, 0.1)),
            match nodes {
                180 => figure.check(format!("median latency of {nodes} nodes"), middle, around(285.0, 0.1)),
                _ => number(middle),
            },
            number(took.percentile(0.05)),
            number(took.percentile(0.95)),
        ];
        figure.row(cells);
        expected.push((nodes as f64, 60.0 * ((nodes as f64).log2() / 2.0 + 1.0)));
        median.push((nodes as f64, middle));
    }
    let lines = [Line::published("60 ms × (½ log2 N + 1)", expected), Line::measured("median", median)];
    figure.plots.push(("latency.svg", plot("Latency of lookups", "nodes", "ms", &lines)));
    figure
}

/// Rate; published path, timeouts, and failures per 10 000 lookups.
const CHURN: [(f64, f64, f64, f64); 8] = [
    (0.05, 3.90, 0.05, 0.0),
    (0.10, 3.83, 0.11, 0.0),
    (0.15, 3.84, 0.16, 2.0),
    (0.20, 3.81, 0.23, 5.0),
    (0.25, 3.83, 0.30, 6.0),
    (0.30, 3.91, 0.34, 8.0),
    (0.35, 3.94, 0.42, 16.0),
    (0.40, 4.06, 0.46, 15.0),
];

/// Table III.
pub fn churning(size: Size, rng: &mut ChaCha8Rng) -> Figure {
    let mut figure = Figure::new(
        "Lookups while nodes join and leave (ToN'03 Table III)",
        "1000 nodes, successor lists of 20, stabilization every 30 s (here ±25 %, there 15..45 s); nodes join and leave \
         in good order at the rate given, 10 000 lookups. Failures per 10 000 lookups, wrong owners among them; *with \
         retry*: a user tries up to five times more. Published values are from memory. Bands: path ±15 %, timeouts at \
         most 1.5 × the published; failures at most twice the published (at most 2 where it is 0); with retry at most 2, \
         and no wrong owner.",
        &[
            "rate, 1/s",
            "path, published",
            "path",
            "timeouts, published",
            "timeouts",
            "failures, published",
            "failures",
            "with retry",
            "wrong owners",
        ],
    );
    let mut lines = [Vec::new(), Vec::new()];
    for (rate, path, timeouts, failures) in CHURN {
        if size == Size::Quick && rate != 0.4 {
            continue;
        }
        let met = under_churn(1000, Going::Leaving, rate, size.pick((2_000, 1), (10_000, 1)), rng);
        let most = (2.0f64 * failures).max(2.0);
        let cells = vec![
            number(rate),
            number(path),
            figure.check(format!("path at {rate}"), met.per_lookup(met.contacts), around(path, 0.15)),
            number(timeouts),
            figure.check(format!("timeouts at {rate}"), met.per_lookup(met.silences), 0.0..=1.5 * timeouts),
            number(failures),
            figure.check(format!("failures at {rate}"), met.per_10_000(met.failed), 0.0..=most),
            figure.check(format!("failures with retry at {rate}"), met.per_10_000(met.failed_with_retry), 0.0..=2.0),
            figure.check(format!("wrong owners at {rate}"), met.wrong, 0.0..=0.0),
        ];
        figure.row(cells);
        lines[0].push((rate, timeouts));
        lines[1].push((rate, met.per_lookup(met.silences)));
    }
    if lines[0].len() > 1 {
        let [published, measured] = lines;
        let lines = [Line::published("published", published), Line::measured("measured", measured)];
        let title = "Timeouts per lookup under churn";
        figure.plots.push(("churn-timeouts.svg", plot(title, "joins and leaves per second", "per lookup", &lines)));
    }
    figure
}

/// Time after churn in which the lists fill up again, by one entry a round.
const REST: u64 = 180 * SECOND;

/// 10 000 nodes.
pub fn scale(size: Size, rng: &mut ChaCha8Rng) -> Figure {
    let mut figure = Figure::new(
        "Ten minutes of churn among 10 000 nodes",
        "Successor lists of 8, stabilization and finger repair every 10 s; two nodes join and two die every second; ten \
         lookups a second. Steps of ring state machines; lookups as above. The steps per second and bytes per node are \
         printed when this runs. Bands: with retry no failure, no wrong owner, every member's pointers right three minutes after the end.",
        &[
            "nodes",
            "simulated, s",
            "steps",
            "lookups",
            "path",
            "timeouts",
            "failures, of 10 000",
            "with retry",
            "wrong owners",
            "not right at the end",
        ],
    );
    let (nodes, seconds) = size.pick((1_000, 30), (10_000, 600));
    let mut network = Network::new(nodes, 8, 10 * SECOND, ChaCha8Rng::from_rng(rng));
    let since = cpu_seconds();
    churn(&mut network, Going::Dying, 2.0, 10.0, seconds);
    network.run_until(network.now() + REST);
    let took = cpu_seconds() - since;
    println!("{} steps in {took:.1} s of one core: {:.0} a second", network.events, network.events as f64 / took);
    let met = Met::of(&network);
    let cells = vec![
        nodes.to_string(),
        (seconds + REST / SECOND).to_string(),
        network.events.to_string(),
        number(met.lookups),
        number(met.per_lookup(met.contacts)),
        number(met.per_lookup(met.silences)),
        number(met.per_10_000(met.failed)),
        figure.check("failures with retry".into(), met.failed_with_retry, 0.0..=0.0),
        figure.check("wrong owners".into(), met.wrong, 0.0..=0.0),
        figure.check("members that are not right at the end".into(), network.astray(usize::MAX) as f64, 0.0..=0.0),
    ];
    figure.row(cells);
    figure
}

/// Bytes of memory per node of a ring of 10 000 as it is shipped; meant for a process that has not freed much yet. 0
/// where the system does not tell.
pub fn bytes_per_node() -> u64 {
    let before = resident_bytes();
    let network = Network::new(10_000, 8, 3 * SECOND, ChaCha8Rng::seed_from_u64(0));
    let bytes = resident_bytes().saturating_sub(before) / 10_000;
    drop(network);
    bytes
}

fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok()).map_or(0, |pages| pages * 4096)
}

/// Time this process has had a core, s; 0 where the system does not tell.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    after_name.split_whitespace().nth(11).and_then(|ticks| ticks.parse::<f64>().ok()).map_or(0.0, |ticks| ticks / 100.0)
}
