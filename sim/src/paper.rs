//! The figures of the Chord papers, from the shipped core: `cargo run --release -p sim -- paper`.
mod churn;
mod circle;
mod load;
mod network;
mod paths;
mod plot;
mod report;

use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
pub use report::Figure;
use std::{collections::BTreeMap, fs, io, path::Path, process::ExitCode, time::Instant};

/// How to run.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Some sizes of every figure only; writes nothing.
    #[arg(long)]
    quick: bool,
    /// Write nothing; fail when what is committed differs from what comes out.
    #[arg(long, conflicts_with = "quick")]
    check: bool,
    /// Only one figure: path, load, virtual, balanced, dead, repair, failing, churn, scale or
    /// latency; writes nothing.
    #[arg(long, conflicts_with = "check")]
    only: Option<String>,
}

/// How much is computed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Size {
    /// Some sizes of every figure, within a test's time.
    Quick,
    /// Everything, as committed.
    Full,
}

impl Size {
    fn pick<T>(self, quick: T, full: T) -> T {
        if self == Size::Quick { quick } else { full }
    }
}

/// One figure by its size and its own chance.
type Make = fn(Size, &mut ChaCha8Rng) -> Figure;

/// All figures in order, with a word to pick them by. Each has a seed of its own, so that a change of one leaves the
/// others as they are.
const FIGURES: [(&str, Make); 10] = [
    ("path", paths::path_length),
    ("load", load::load),
    ("virtual", load::virtual_nodes),
    ("balanced", load::placement),
    ("dead", paths::simultaneous_failures),
    ("repair", churn::repair),
    ("failing", churn::failing_lookups),
    ("churn", churn::churning),
    ("scale", churn::scale),
    ("latency", churn::latency),
];

/// Makes the figures that have `only` in their word, one after the other.
pub fn figures(size: Size, only: &str) -> impl Iterator<Item = Figure> {
    let seeded = FIGURES.into_iter().zip(0..).filter(move |((word, _), _)| word.contains(only));
    seeded.map(move |((_, make), seed)| make(size, &mut ChaCha8Rng::seed_from_u64(seed)))
}

/// What stands above the figures.
const HEAD: &str = "# The papers' figures, from the shipped core

Written by `cargo run --release -p sim -- paper`; do not edit. Every routing step is made by the state machine of \
`chord::ring` that the node runs: fingers, successor lists, next hops, walks round silent nodes, stabilization, joins \
and leaves. Same seeds, same text. A cell with a band in brackets is checked against it, and the command fails outside.

Sources: SIGCOMM'01 is Stoica et al., *Chord: A scalable peer-to-peer lookup service for internet applications*; ToN'03 \
its journal version. *Contacts* count the owner and not the node that begins; the papers count by one differently in \
places.
";

/// Runs the subcommand.
pub fn main(args: &Args) -> ExitCode {
    match run(args) {
        Ok(outside) if outside.is_empty() => ExitCode::SUCCESS,
        Ok(outside) => {
            outside.iter().for_each(|line| eprintln!("OUTSIDE: {line}"));
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("cannot read or write docs/paper.md and docs/paper/ (run this in the sources' folder): {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> io::Result<Vec<String>> {
    let size = if args.quick { Size::Quick } else { Size::Full };
    let (mut text, mut files, mut outside) = (HEAD.to_owned(), BTreeMap::new(), Vec::new());
    let mut since = Instant::now();
    println!("{} bytes per node of a ring of 10 000 nodes\n", churn::bytes_per_node());
    for figure in figures(size, args.only.as_deref().unwrap_or_default()) {
        let section = figure.markdown("paper");
        println!("{section}\n({:.1} s)\n", since.elapsed().as_secs_f64());
        since = Instant::now();
        text = text + "\n" + &section;
        outside.extend(figure.outside);
        files.extend(figure.plots.into_iter().map(|(name, svg)| (format!("paper/{name}"), svg)));
    }
    files.insert("paper.md".into(), text);
    let docs = Path::new("docs");
    for (name, content) in &files {
        let path = docs.join(name);
        if args.check && fs::read_to_string(&path)? != *content {
            outside.push(format!("docs/{name} differs from what comes out; run without --check and commit it"));
        } else if size == Size::Full && !args.check && args.only.is_none() {
            path.parent().map_or(Ok(()), fs::create_dir_all)?;
            fs::write(path, content)?;
        }
    }
    Ok(outside)
}
