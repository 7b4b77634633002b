//! Every target on its corpus, and on mutations of it.
use fuzz::{Mutator, TARGETS};
use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

/// Seconds per target, unless `FUZZ_SECONDS` says otherwise.
const SECONDS: u64 = 3;

#[test]
fn no_input_makes_anything_panic() {
    let seconds = std::env::var("FUZZ_SECONDS")
        .map_or(SECONDS, |text| text.parse().unwrap_or_else(|_| panic!("FUZZ_SECONDS must be a number, not {text:?}")));
    for (name, target) in TARGETS {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
        let mut files: Vec<_> =
            fs::read_dir(&dir).expect("each target has a corpus").map(|file| file.expect("a file").path()).collect();
        files.sort();
        let corpus: Vec<Vec<u8>> = files.iter().map(|file| fs::read(file).expect("a file")).collect();
        assert!(!corpus.is_empty(), "the corpus of {name} is empty");
        corpus.iter().for_each(|input| target(input));
        let (mut mutator, mut count, begun) = (Mutator::new(1), 0u64, Instant::now());
        while begun.elapsed() < Duration::from_secs(seconds) {
            let input = mutator.next(&corpus);
            let run = std::panic::catch_unwind(|| target(&input));
            if run.is_err() {
                let path = std::env::temp_dir().join(format!("fuzz-{name}-{count}"));
                fs::write(&path, &input).expect("room for the input");
                panic!("{name} failed; the input is {}: fix it, and add it to {}", path.display(), dir.display());
            }
            count += 1;
        }
        println!("{name}: {count} inputs");
    }
}
