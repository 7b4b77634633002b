//! Path length (Fig. 10) and what dead nodes do to it before anybody repairs anything (Table II).
use super::{
    Size,
    circle::{Circle, hashed},
    plot::{Line, plot},
    report::{Distribution, Figure, around, number, within},
};
use rand_chacha::ChaCha8Rng;

/// log2 of the number of nodes, and mean, 1st and 99th percentile of contacts by fingers only and with a successor
/// list, as reproduced for the design by an independent simulation.
type Known = (u32, (f64, f64, f64), (f64, f64, f64));
const KNOWN: [Known; 4] = [
    (6, (3.76, 0.0, 6.0), (2.17, 0.0, 4.0)),
    (10, (5.84, 2.0, 9.0), (3.84, 1.0, 6.0)),
    (12, (6.86, 3.0, 11.0), (4.71, 2.0, 8.0)),
    (14, (7.87, 4.0, 12.0), (5.63, 2.0, 9.0)),
];

/// Contacts of lookups of random keys by random nodes on ideal circles of 2^k nodes.
fn contacts(k: u32, list: usize, size: Size, rng: &mut ChaCha8Rng, wrong: &mut u64) -> Distribution {
    let count = 1 << k;
    // Small circles differ much from each other.
    let circles = if k < 9 { 40 } else { 2 };
    let lookups = (100 * count).min(size.pick(20_000, 80_000)) / circles;
    let mut values = Vec::new();
    for _ in 0..circles {
        let mut circle = Circle::new(hashed(count, rng), list, rng.clone());
        for _ in 0..lookups.max(200) {
            let (key, owner) = circle.draw();
            let walked = circle.walk(key);
            *wrong += u64::from(walked.owner != Some(owner));
            values.push(walked.contacts);
        }
    }
    Distribution::of(values)
}

/// Fig. 10.
pub fn path_length(size: Size, rng: &mut ChaCha8Rng) -> Figure {
    let mut figure = Figure::new(
        "Path length (SIGCOMM'01 Fig. 10)",
        "Contacts of a lookup, the owner among them and the node that begins not, on ideal circles of N hashed ids; each \
         contact is a `ClosestPrecedingFinger` answered by the shipped ring. *Fingers*: successor lists of one entry, \
         as in the paper. *List*: 2 log2 N entries (at most 32), which also shorten the way. Published: the mean is \
         about ½ log2 N without the last contact, so ½ log2 N + 1 here; with a list of r, ½ (log2 N − log2 r) + 1. \
         Bands: mean ±5 %, percentiles ±1 of the design's independent simulation where it has the size; else the mean \
         0.75..1.1 above ½ log2 N.",
        &["N", "½ log2 N + 1", "fingers: mean", "p1", "p99", "½ (log2 N − log2 r) + 1", "list: mean", "p1", "p99"],
    );
    let (mut fingers, mut lists, mut formula) = (Vec::new(), Vec::new(), Vec::new());
    let mut wrong = 0;
    for k in size.pick(vec![3, 6, 8, 10], (3..=14).collect()) {
        let known = KNOWN.iter().find(|known| known.0 == k);
        let list = (2 * k as usize).min(32);
        let half = f64::from(k) / 2.0;
        let with_list = (f64::from(k) - (list as f64).log2()) / 2.0 + 1.0;
        let mut cells = vec![(1 << k).to_string(), number(half + 1.0)];
        let mut measure = |list, known: Option<(f64, f64, f64)>, what: &str, figure: &mut Figure| {
            let found = contacts(k, list, size, rng, &mut wrong);
            let values = (found.mean(), found.percentile(0.01), found.percentile(0.99));
            match known {
                Some((mean, low, high)) => {
                    cells.push(figure.check(format!("mean by {what} at 2^{k}"), values.0, around(mean, 0.05)));
                    cells.push(figure.check(format!("p1 by {what} at 2^{k}"), values.1, within(low, 1.0)));
                    cells.push(figure.check(format!("p99 by {what} at 2^{k}"), values.2, within(high, 1.0)));
                }
                None if list == 1 && k > 5 => {
                    let band = half + 0.75..=half + 1.1;
                    cells.push(figure.check(format!("mean by {what} at 2^{k}"), values.0, band));
                    cells.extend([number(values.1), number(values.2)]);
                }
                None => cells.extend([values.0, values.1, values.2].map(number)),
            }
            if list == 1 {
                cells.push(number(with_list));
            }
            if k == 12 && list == 1 {
                let pdf = Line::measured("N = 4096, fingers only", found.shares());
                figure
                    .plots
                    .push(("path-length-pdf.svg", plot("Path length at 2^12 nodes", "contacts", "share", &[pdf])));
            }
            values
        };
        let one = measure(1, known.map(|known| known.1), "fingers", &mut figure);
        let two = measure(list, known.map(|known| known.2), "list", &mut figure);
        figure.row(cells);
        let x = f64::from(k);
        formula.push((x, half + 1.0));
        fingers.push((x, one));
        lists.push((x, two));
    }
    figure.check("lookups with a wrong owner".into(), wrong as f64, 0.0..=0.0);
    let of = |values: &[(f64, (f64, f64, f64))], pick: fn(&(f64, f64, f64)) -> f64| {
        values.iter().map(|(x, value)| (*x, pick(value))).collect::<Vec<_>>()
    };
    let lines = [
        Line::published("½ log2 N + 1", formula),
        Line::measured("fingers: mean", of(&fingers, |value| value.0)),
        Line::measured("fingers: p1", of(&fingers, |value| value.1)),
        Line::measured("fingers: p99", of(&fingers, |value| value.2)),
        Line::measured("with successor list: mean", of(&lists, |value| value.0)),
    ];
    figure.plots.insert(0, ("path-length.svg", plot("Path length", "log2 N", "contacts", &lines)));
    figure
}

/// Percent dead; published path and timeouts; path and timeouts of the design's independent simulation.
type Dead = (usize, (f64, f64), (f64, f64));
const DEAD: [Dead; 6] = [
    (0, (3.84, 0.0), (3.83, 0.0)),
    (10, (4.03, 0.60), (3.99, 0.44)),
    (20, (4.22, 1.17), (4.20, 1.07)),
    (30, (4.44, 2.02), (4.41, 1.83)),
    (40, (4.69, 3.23), (4.73, 3.05)),
    (50, (5.09, 5.10), (5.25, 5.34)),
];

/// Table II.
pub fn simultaneous_failures(size: Size, rng: &mut ChaCha8Rng) -> Figure {
    let mut figure = Figure::new(
        "Lookups right after simultaneous failures (ToN'03 Table II)",
        "1000 nodes with successor lists of 20; a share of them dies at once and nothing is repaired; 10 000 lookups. Contacts that answer \
         (the owner among them), contacts that do not, and lookups that fail or name another node than the first live one \
         at or after the key. Published values are from memory. Bands: ±15 % of the design's independent simulation, and \
         no failure.",
        &["dead", "path, published", "path", "timeouts, published", "timeouts", "failed lookups"],
    );
    let (mut paths, mut timeouts) = (Vec::new(), Vec::new());
    let circles = size.pick(6, 40);
    for (percent, published, known) in DEAD {
        let (mut path, mut silent, mut lookups, mut failed) = (0.0, 0.0, 0.0, 0.0);
        for _ in 0..circles {
            let mut circle = Circle::new(hashed(1000, rng), 20, rng.clone());
            circle.kill(10 * percent);
            // Few per node: who finds a finger silent forgets it.
            for _ in 0..250 {
                let (key, owner) = circle.draw();
                let walked = circle.walk(key);
                lookups += 1.0;
                path += f64::from(walked.contacts);
                silent += f64::from(walked.timeouts);
                failed += f64::from(u8::from(walked.owner != Some(owner)));
            }
        }
        let (path, silent) = (path / lookups, silent / lookups);
        let cells = vec![
            format!("{percent} %"),
            number(published.0),
            figure.check(format!("path with {percent} % dead"), path, around(known.0, 0.15)),
            number(published.1),
            figure.check(format!("timeouts with {percent} % dead"), silent, around(known.1, 0.15)),
            figure.check(format!("failures with {percent} % dead"), failed, 0.0..=0.0),
        ];
        figure.row(cells);
        paths.push((percent as f64, path));
        timeouts.push((percent as f64, silent));
    }
    let published = |pick: fn(&(f64, f64)) -> f64| DEAD.iter().map(|row| (row.0 as f64, pick(&row.1))).collect();
    let lines = [
        Line::published("path, published", published(|row| row.0)),
        Line::measured("path", paths),
        Line::published("timeouts, published", published(|row| row.1)),
        Line::measured("timeouts", timeouts),
    ];
    let title = "Lookups after simultaneous failures";
    figure.plots.push(("simultaneous-failures.svg", plot(title, "dead nodes, %", "per lookup", &lines)));
    figure
}
