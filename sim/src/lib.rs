//! A deterministic simulator that drives whole clusters of shipped cores, the models, and the papers' figures.
//!
//! A run is made by a seed alone: sizes, settings, faults and every delay are drawn from it, so that a failure
//! is replayed by its number. First everything may fail, and safety is checked at every step; then everything
//! is healed, and the cluster must come to rest with every answer ever given explained by one order.
pub mod checks;
pub mod clock;
pub mod disk;
pub mod faults;
pub mod history;
pub mod linearize;
pub mod live;
pub mod model;
pub mod mutants;
pub mod net;
pub mod paper;
pub mod recorded;
pub mod run;
pub mod swarm;
pub mod trace;
pub mod workload;
pub mod world;

pub use run::{Report, Scenario, run};
