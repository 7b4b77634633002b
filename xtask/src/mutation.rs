//! `mutation`: what the tests would miss if the core were wrong in one place.
//!
//! cargo-mutants says what to change; compiling the core once per mutant would take days. Here all mutants are compiled
//! at once, each behind a switch (mutant schemata), and a mutant costs the time of the tests that catch it.
mod build;
mod list;
mod page;
mod results;
mod schemata;
mod suite;

use crate::proc::step;
use anyhow::{Result, ensure};
use list::Mutant;
use page::Judged;
use results::{Results, Verdict};
use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};
use suite::{Effort, End, Test};

#[derive(clap::Args)]
pub struct Options {
    /// Only mutants with this in their names, which begin with the file; the page is not written then
    #[arg(long)]
    filter: Option<String>,
    /// Only tests with this in their names; survivors of these are named, and not judged
    #[arg(long)]
    tests: Option<String>,
    /// Judges all again, also those whose file has not changed
    #[arg(long)]
    fresh: bool,
    /// Only mutants that have no verdict yet, not those that were missed before
    #[arg(long)]
    new: bool,
    /// Mutants at a time
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Stops after the quick tests; survivors are named, and not judged
    #[arg(long)]
    quick: bool,
}

struct Work<'a> {
    sources: BTreeMap<&'a str, String>,
    results: Mutex<Results>,
}

impl Work<'_> {
    fn verdict(&self, mutant: &Mutant) -> Option<Verdict> {
        self.results.lock().unwrap_or_else(PoisonError::into_inner).of(mutant, &self.sources[mutant.file.as_str()])
    }

    fn note(&self, mutant: &Mutant, verdict: Verdict, by: &str) -> Result<()> {
        let mut results = self.results.lock().unwrap_or_else(PoisonError::into_inner);
        results.note(mutant, &self.sources[mutant.file.as_str()], verdict, by)
    }

    /// Runs those tests that reach each mutant until one fails; gives back what survives.
    fn judge<'m>(
        &self,
        what: &str,
        mutants: Vec<&'m Mutant>,
        tests: &[Test],
        effort: Effort,
        jobs: usize,
    ) -> Result<Vec<&'m Mutant>> {
        let (next, survivors) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        let worker = || -> Result<()> {
            while let Some(mutant) = mutants.get(next.fetch_add(1, Ordering::Relaxed)) {
                match first_failure(mutant, tests, effort)? {
                    Some((test, End::TimedOut)) => self.note(mutant, Verdict::Timeout, &test.shown())?,
                    Some((test, _)) => self.note(mutant, Verdict::Caught, &test.shown())?,
                    None => {
                        self.note(mutant, Verdict::Missed, what)?;
                        survivors.lock().unwrap_or_else(PoisonError::into_inner).push(*mutant);
                    }
                }
                let done = next.load(Ordering::Relaxed).min(mutants.len());
                if done % 100 == 0 {
                    eprintln!("    {what}: {done} of {}", mutants.len());
                }
            }
            Ok(())
        };
        thread::scope(|scope| {
            let workers: Vec<_> = (0..jobs).map(|_| scope.spawn(worker)).collect();
            workers
                .into_iter()
                .try_for_each(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        })?;
        Ok(survivors.into_inner().unwrap_or_else(PoisonError::into_inner))
    }
}

fn first_failure<'t>(mutant: &Mutant, tests: &'t [Test], effort: Effort) -> Result<Option<(&'t Test, End)>> {
    for test in tests.iter().filter(|test| test.reaches.contains(&mutant.number)) {
        let end = test.with(Some(mutant.number), effort)?;
        if end != End::Passed {
            return Ok(Some((test, end)));
        }
    }
    Ok(None)
}

pub fn mutation(options: &Options) -> Result<()> {
    let all = list::mutants()?;
    let wanted = |mutant: &&Mutant| options.filter.as_ref().is_none_or(|part| mutant.name.contains(part.as_str()));
    let sources = all.iter().map(|mutant| mutant.file.as_str()).map(|file| Ok((file, list::source(file)?)));
    let work = Work { sources: sources.collect::<Result<_>>()?, results: Mutex::new(Results::open(options.fresh)?) };

    let built = step("compiling the mutants", || build::build(&all))?;
    println!("{} mutants: {} unviable, {} alone", all.len(), built.unviable.len(), built.alone.len());
    for mutant in all.iter().filter(|mutant| built.unviable.contains(&mutant.number)) {
        work.note(mutant, Verdict::Unviable, "rustc")?;
    }
    // What was missed is judged again: the tests may have changed.
    let open = |mutant: &&Mutant| match work.verdict(mutant) {
        None => true,
        Some(verdict) => verdict == Verdict::Missed && !options.new,
    };
    let mut left: Vec<&Mutant> = all.iter().filter(wanted).filter(open).collect();
    left.retain(|mutant| built.switched.contains(&mutant.number));
    let part = options.tests.as_deref().unwrap_or_default();
    for effort in [Effort::Quick, Effort::Long] {
        if left.is_empty() {
            break;
        }
        let (what, jobs) = match effort {
            Effort::Quick => ("quick tests", options.jobs),
            Effort::Long => ("long tests", 1),
        };
        let tests =
            step(&format!("{what} without a mutant"), || suite::survey(&built.binaries, all.len(), effort, part))?;
        left = step(what, || work.judge(what, left, &tests, effort, jobs))?;
        if options.quick || options.tests.is_some() {
            let names: Vec<&str> = left.iter().map(|mutant| mutant.name.as_str()).collect();
            println!("{} survive the quick tests:\n{}", left.len(), names.join("\n"));
            return Ok(());
        }
    }
    let alone: Vec<&Mutant> =
        all.iter().filter(wanted).filter(open).filter(|mutant| built.alone.contains(&mutant.number)).collect();
    step("mutants that need a build of their own", || {
        alone.into_iter().try_for_each(|mutant| judge_alone(&work, mutant))
    })?;

    let judged: Vec<Judged> = all
        .iter()
        .filter_map(|mutant| {
            let name = mutant.lasting_name(&work.sources[mutant.file.as_str()]);
            work.verdict(mutant).map(|verdict| Judged { mutant, name, verdict })
        })
        .collect();
    ensure!(options.filter.is_some() || judged.len() == all.len(), "{} of {} are judged", judged.len(), all.len());
    page::write(&judged, options.filter.is_none())
}

fn judge_alone(work: &Work, mutant: &Mutant) -> Result<()> {
    let Some(binaries) = build::alone(mutant)? else { return work.note(mutant, Verdict::Unviable, "rustc") };
    for effort in [Effort::Quick, Effort::Long] {
        // The tests of the original told how long they take; here each has as long as the slowest.
        if let Some((test, end)) = suite::run_all(&binaries, effort)? {
            let verdict = if end == End::TimedOut { Verdict::Timeout } else { Verdict::Caught };
            return work.note(mutant, verdict, &test);
        }
    }
    work.note(mutant, Verdict::Missed, "")
}
