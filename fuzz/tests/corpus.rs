//! Every target on its corpus, and on mutations of it.
use fuzz::{Mutator, TARGETS};
use std::{
    fs, panic,
    path::Path,
    sync::{Mutex, MutexGuard, Once, PoisonError},
    thread::{self, ThreadId},
    time::{Duration, Instant},
};

/// Seconds per target, unless `FUZZ_SECONDS` says otherwise.
const SECONDS: u64 = 3;
/// So many of a hundred inputs must get past the door: else mutations of this corpus show nothing.
const LET_IN_MIN: u64 = 5;

/// Panics of any thread: a task's or the core's would not reach the test by itself.
static PANICS: Mutex<Vec<(ThreadId, String)>> = Mutex::new(Vec::new());
/// Threads that run a target: others belong to no target in particular.
static RUNNING: Mutex<Vec<ThreadId>> = Mutex::new(Vec::new());

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn watch_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            lock(&PANICS).push((thread::current().id(), panic.to_string()));
            before(panic);
        }));
    });
    lock(&RUNNING).push(thread::current().id());
}

/// Of this thread's target, or of a thread that it may have started.
fn panicked() -> Option<String> {
    let (me, running) = (thread::current().id(), lock(&RUNNING));
    let mut panics = lock(&PANICS);
    let mine = panics.iter().position(|(thread, _)| *thread == me || !running.contains(thread));
    mine.map(|place| panics.remove(place).1)
}

fn run(name: &str) {
    let seconds = std::env::var("FUZZ_SECONDS")
        .map_or(SECONDS, |text| text.parse().unwrap_or_else(|_| panic!("FUZZ_SECONDS must be a number, not {text:?}")));
    let (_, target) = TARGETS.iter().find(|(known, _)| *known == name).expect("a target");
    watch_panics();
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let mut files: Vec<_> =
        fs::read_dir(&dir).expect("each target has a corpus").map(|file| file.expect("a file").path()).collect();
    files.sort();
    let corpus: Vec<Vec<u8>> = files.iter().map(|file| fs::read(file).expect("a file")).collect();
    let (mut mutator, mut count, mut let_in, mut slowest) = (Mutator::new(1), 0u64, 0u64, Duration::ZERO);
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(seconds) || count < corpus.len() as u64 {
        // First the corpus as it is.
        let input = corpus.get(count as usize).cloned().unwrap_or_else(|| mutator.next(&corpus));
        let at = Instant::now();
        let came = panic::catch_unwind(|| target(&input));
        slowest = slowest.max(at.elapsed());
        if let (Err(_), why) | (_, why @ Some(_)) = (&came, panicked()) {
            let path = std::env::temp_dir().join(format!("fuzz-{name}-{count}"));
            fs::write(&path, &input).expect("room for the input");
            let (path, dir, why) = (path.display(), dir.display(), why.unwrap_or_default());
            panic!("{name} failed ({why}); the input is {path}: fix it, and add it to {dir}");
        }
        let_in += u64::from(came.is_ok_and(|came| came));
        count += 1;
    }
    let share = let_in * 100 / count;
    println!("{name}: {count} inputs, {share} % let in, the slowest took {} ms", slowest.as_millis());
    assert!(share >= LET_IN_MIN, "only {share} % of the inputs of {name} get past the door: its corpus is out of date");
}

macro_rules! targets {
    ($($name:ident)*) => {
        $(#[test] fn $name() { run(stringify!($name)); })*

        #[test]
        fn every_target_is_run() {
            assert_eq!(TARGETS.map(|(name, _)| name), [$(stringify!($name)),*]);
        }
    };
}
targets!(client core gateway rpc spec store told words);
