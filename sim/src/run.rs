//! One run from its seed to its verdict.
use crate::{
    checks::{converged, describe},
    clock::SECOND,
    faults::Fault,
    history::Facts,
    linearize,
    swarm::Options,
    world::{Event, World},
};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;

/// Time for a fresh cluster to stand.
const BOOT_MAX: u64 = 60 * SECOND;
/// Time for a healed cluster to be as it should be.
const HEAL_MAX: u64 = 90 * SECOND;
/// Time for the last reads.
const READ_MAX: u64 = 30 * SECOND;

/// Which family of runs a seed is of.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Scenario {
    /// Sizes and faults as the seed draws them.
    Swarm,
    /// The same, and disks that do not keep what they should.
    Rot,
    /// `kill -9` of one of three under load: no operation may end with an unknown outcome.
    KillOne,
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Report {
    /// What it was.
    pub options: Options,
    /// What was wrong, if anything.
    pub failure: Option<String>,
    /// Equal for equal runs.
    pub hash: u64,
    /// How often each rare path was taken.
    pub sometimes: BTreeMap<&'static str, u64>,
    /// Operations answered, of unknown outcome, and without effect.
    pub operations: (u64, u64, u64),
    /// Simulated time between the end of faults and a cluster as it should be, ns.
    pub healing: u64,
    /// Events.
    pub steps: u64,
}

/// Runs a seed.
pub fn run(scenario: Scenario, seed: u64, verbose: bool) -> Report {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let options = match scenario {
        Scenario::Swarm => Options::of_seed(seed, &mut rng),
        Scenario::Rot => Options::with_rot(seed, &mut rng),
        Scenario::KillOne => Options::kill_one_of_three(seed, &mut rng),
    };
    let mut world = World::new(options, rng, verbose);
    let mut healing = 0;
    let verdict = drive(&mut world, &mut healing);
    if let Err(text) = verdict {
        world.watch.fail(text);
        if verbose {
            println!("{}", describe(&world));
        }
    }
    Report {
        failure: world.watch.failure,
        hash: world.trace.hash(),
        sometimes: world.trace.sometimes,
        operations: (world.clients.decided, world.clients.undecided.len() as u64, world.clients.failed),
        options: world.options,
        healing,
        steps: world.steps,
    }
}

fn drive(world: &mut World, healing: &mut u64) -> Result<(), String> {
    world.boot();
    wait(world, BOOT_MAX, "a fresh cluster does not come to rest", converged)?;
    world.start_clients();
    world.operator.faults_until = world.now + world.options.fault_time;
    let first = world.now + world.rng.random_range(0..=2 * world.options.fault_every);
    world.plan(first, Event::Fault(Fault::Next));
    world.run_until(world.operator.faults_until);
    world.trace.say(world.now, || "faults end".into());
    world.heal();
    let healed = world.now;
    // Under load at first, then without.
    world.run_until(healed + 2 * SECOND);
    world.clients.active = false;
    wait(world, HEAL_MAX, "the healed cluster does not come to rest", converged)?;
    *healing = world.now - healed;
    wait(world, READ_MAX, "clients are not answered", |world| {
        if world.clients.idle() { Ok(()) } else { Err("an operation is open".into()) }
    })?;
    world.start_last_reads();
    wait(world, READ_MAX, "the last reads are not answered", |world| {
        if world.clients.idle() { Ok(()) } else { Err("a read is open".into()) }
    })?;
    if world.options.all_decided
        && let Some(first) = world.clients.undecided.first()
    {
        return Err(format!(
            "{} operations ended with an unknown outcome; the first: {first}",
            world.clients.undecided.len()
        ));
    }
    for (key, ops) in &world.clients.history.keys {
        let facts = Facts::of(ops, world.options.skew).map_err(|text| format!("key-{key}: {text}"))?;
        linearize::check(ops, &facts).map_err(|text| format!("key-{key}: {text}"))?;
    }
    Ok(())
}

/// Runs until `reached` holds, for at most `most` ns.
///
/// # Errors
/// What is not reached and why, or what was wrong meanwhile.
pub fn wait(
    world: &mut World,
    most: u64,
    what: &str,
    reached: impl Fn(&World) -> Result<(), String>,
) -> Result<(), String> {
    let until = world.now + most;
    loop {
        world.run_until(world.now + SECOND / 4);
        if let Some(failure) = &world.watch.failure {
            return Err(failure.clone());
        }
        match reached(world) {
            Ok(()) => return Ok(()),
            Err(why) if world.now >= until => return Err(format!("{what}: {why}")),
            Err(_) => {}
        }
    }
}
