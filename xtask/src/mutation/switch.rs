//! Which mutant is in force, and which were reached: part of the mutated copy of the core, not of xtask.
use std::{
    env,
    fs::File,
    io::Write as _,
    sync::{
        LazyLock,
        atomic::{AtomicBool, Ordering},
    },
};

enum Mode {
    Original,
    Mutant(u32),
    /// Writes the number of every mutant that is reached, once.
    Record(File, Vec<AtomicBool>),
}

static MODE: LazyLock<Mode> = LazyLock::new(|| {
    if let Ok(path) = env::var("MUTANTS_REACHED") {
        let count = env::var("MUTANTS_COUNT").expect("MUTANTS_COUNT").parse().expect("a number");
        let reached = (0..count).map(|_| AtomicBool::new(false)).collect();
        return Mode::Record(File::options().append(true).open(path).expect("the list of reached mutants"), reached);
    }
    env::var("MUTANT").map_or(Mode::Original, |number| Mode::Mutant(number.parse().expect("a number")))
});

/// Whether this mutant is in force.
pub fn on(number: u32) -> bool {
    match &*MODE {
        Mode::Original => false,
        Mode::Mutant(active) => *active == number,
        Mode::Record(list, reached) => {
            if !reached[number as usize].swap(true, Ordering::Relaxed) {
                // One write for one line: threads and aborts tear none.
                let mut list: &File = list;
                list.write_all(format!("{number}\n").as_bytes()).expect("the list of reached mutants");
            }
            false
        }
    }
}
