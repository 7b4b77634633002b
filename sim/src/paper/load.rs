//! How evenly keys fall on nodes: hashed ids (Fig. 8), several virtual ids per node (Fig. 9), and the balanced ids
//! that the operator gives.
use super::{
    Size,
    circle::{hashed, key, member, node_ref},
    plot::{Line, plot},
    report::{Distribution, Figure, around, number, within},
};
use chord::{
    id::{Id, successor},
    shard::{config::ShardId, placement::Placement},
};
use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;

/// Nodes of Fig. 8 and 9.
const NODES: usize = 10_000;

/// Fig. 8.
pub fn load(size: Size, rng: &mut ChaCha8Rng) -> Figure {
    let mut figure = Figure::new(
        "Keys per node (SIGCOMM'01 Fig. 8)",
        "10 000 nodes at hashed ids, one each; keys belong to the first node at or after them; all runs together, the \
         greatest load per run. Published at 500 000 keys: mean 50, p99 4.6 × the mean, greatest 9.1 × (457), and nodes \
         without any key. Bands at 500 000 keys: p1 0..1, p99 232 ±5 %, the median run's greatest load 413..750, \
         1.6..2.2 % of the nodes without keys.",
        &[
            "keys",
            "mean",
            "p1",
            "p99",
            "p99 / mean",
            "greatest: least, median, most of the runs",
            "nodes without keys, %",
        ],
    );
    let runs = size.pick(4, 20);
    let (mut low, mut mean, mut high) = (Vec::new(), Vec::new(), Vec::new());
    for keys in size.pick(vec![500_000], vec![100_000, 250_000, 500_000, 750_000, 1_000_000]) {
        let (mut all, mut greatest) = (Vec::new(), Vec::new());
        for _ in 0..runs {
            let ids = hashed(NODES, rng);
            let mut counts = vec![0; NODES];
            (0..keys).for_each(|_| counts[successor(&ids, key(rng), |id| *id)] += 1);
            greatest.push(counts.iter().copied().max().unwrap_or(0));
            all.extend(counts);
        }
        let empty = 100.0 * all.iter().filter(|count| **count == 0).count() as f64 / all.len() as f64;
        let (all, greatest) = (Distribution::of(all), Distribution::of(greatest));
        let (p1, p99) = (all.percentile(0.01), all.percentile(0.99));
        let most = [0.0, 0.5, 1.0].map(|share| greatest.percentile(share));
        let text = most.map(number).join(", ");
        let mut cells = vec![keys.to_string(), number(all.mean())];
        if keys == 500_000 {
            cells.push(figure.check("p1".into(), p1, 0.0..=1.0));
            cells.push(figure.check("p99".into(), p99, around(232.0, 0.05)));
            cells.push(number(p99 / all.mean()));
            figure.check("the median run's greatest load".into(), most[1], 413.0..=750.0);
            cells.push(text);
            cells.push(figure.check("nodes without keys, %".into(), empty, 1.6..=2.2));
        } else {
            cells.extend([number(p1), number(p99), number(p99 / all.mean()), text, number(empty)]);
        }
        figure.row(cells);
        let x = keys as f64 / 1000.0;
        low.push((x, p1));
        mean.push((x, all.mean()));
        high.push((x, p99));
    }
    if mean.len() > 1 {
        let lines = [
            Line::measured("mean", mean),
            Line::measured("p1", low),
            Line::measured("p99", high),
            Line::published("p99, published", vec![(500.0, 230.0)]),
        ];
        figure.plots.push(("load.svg", plot("Keys per node", "thousand keys", "keys per node", &lines)));
    }
    figure
}

/// Virtual nodes, and p1 and p99 of the load in percent of the mean in the design's independent simulation.
const VIRTUAL: [(usize, f64, f64); 9] = [
    (1, 1.0, 458.0),
    (2, 7.0, 334.0),
    (5, 24.0, 238.0),
    (10, 39.0, 191.0),
    (20, 51.0, 165.0),
    (32, 58.0, 153.0),
    (64, 66.0, 141.0),
    (128, 71.0, 133.0),
    (256, 74.0, 129.0),
];

/// Fig. 9.
pub fn virtual_nodes(size: Size, rng: &mut ChaCha8Rng) -> Figure {
    let mut figure = Figure::new(
        "Virtual nodes (SIGCOMM'01 Fig. 9)",
        "10 000 nodes with v hashed ids each, 1 000 000 keys, three runs together; load in percent of the mean. Published: p99 falls from \
         480 % at v = 1 to 160 % at v = 20, p1 rises from 0 to 50 %. Bands: ±5 % of the design's independent simulation, \
         at least ±2.",
        &["v", "p1, %", "p99, %"],
    );
    let (mut low, mut high) = (Vec::new(), Vec::new());
    for (count, p1, p99) in VIRTUAL.into_iter().filter(|(count, _, _)| *count <= size.pick(10, 256)) {
        let mut all = Vec::new();
        for _ in 0..3 {
            let run: u64 = rng.random();
            let id = |node: usize, place: usize| Id::of_name(&format!("{run:x}-{node}-{place}"));
            let mut ids: Vec<(Id, usize)> =
                (0..NODES).flat_map(|node| (0..count).map(move |place| (id(node, place), node))).collect();
            ids.sort_unstable();
            let mut counts = vec![0; NODES];
            (0..1_000_000).for_each(|_| counts[ids[successor(&ids, key(rng), |(id, _)| *id)].1] += 1);
            all.extend(counts);
        }
        let found = Distribution::of(all);
        let band = |middle: f64| within(middle, (0.05 * middle).max(2.0));
        let measured = (found.percentile(0.01), found.percentile(0.99));
        let cells = vec![
            count.to_string(),
            figure.check(format!("p1 at v = {count}"), measured.0, band(p1)),
            figure.check(format!("p99 at v = {count}"), measured.1, band(p99)),
        ];
        figure.row(cells);
        let x = (count as f64).log2();
        low.push((x, measured.0));
        high.push((x, measured.1));
    }
    let published = |points: [f64; 2]| vec![(0.0, points[0]), (20f64.log2(), points[1])];
    let lines = [
        Line::measured("p1", low),
        Line::published("p1, published", published([0.0, 50.0])),
        Line::measured("p99", high),
        Line::published("p99, published", published([480.0, 160.0])),
    ];
    figure.plots.push(("virtual-nodes.svg", plot("Virtual nodes", "log2 v", "load, % of the mean", &lines)));
    figure
}

/// Shards of the placement table.
const SHARDS: u32 = 16_384;

/// Greatest number of replicas on a member over the mean, as the shipped placement spreads them.
fn spread(ids: impl Iterator<Item = Id>) -> f64 {
    let members: Vec<_> = ids.enumerate().map(|(number, id)| member(node_ref(number, id))).collect();
    let placement = Placement::new(members.iter(), SHARDS, 3);
    let mut held = BTreeMap::new();
    for key in (0..SHARDS).flat_map(|shard| placement.of(ShardId(shard))) {
        *held.entry(*key).or_insert(0u32) += 1;
    }
    let most = held.values().copied().max().unwrap_or(0);
    f64::from(most) * members.len() as f64 / (3.0 * f64::from(SHARDS))
}

/// The balanced placement beside the hashed one.
pub fn placement(_: Size, rng: &mut ChaCha8Rng) -> Figure {
    let mut figure = Figure::new(
        "Replicas per node: balanced and hashed ids",
        "16 384 shards with 3 replicas each, placed by the shipped `Placement`; greatest number of replicas on a node \
         over the mean. *Balanced*: the bits of the ordinal reversed, as the operator names nodes. *Hashed*: mean of 20 \
         draws. Bands: the design's numbers ±0.01 for balanced ids.",
        &["nodes", "balanced, design", "balanced", "hashed"],
    );
    for (count, known) in [(5, 1.25), (100, 1.04), (768, 1.0), (1000, 1.3)] {
        let balanced = spread((0..count).map(Id::of_ordinal));
        let hashed: f64 = (0..20).map(|_| spread(hashed(count as usize, rng).into_iter())).sum();
        let checked = figure.check(format!("balanced at {count} nodes"), balanced, within(known, 0.01));
        figure.row(vec![count.to_string(), number(known), checked, number(hashed / 20.0)]);
    }
    figure
}
