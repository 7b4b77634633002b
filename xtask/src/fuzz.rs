//! `fuzz`: what strangers can send.
use crate::{check, paths, proc::Proc, proc::run, summary::Count};
use anyhow::Result;
use std::fs;

#[derive(clap::Args)]
pub struct Options {
    /// Seconds for each target
    #[arg(long, default_value_t = 60)]
    pub seconds: u64,
    /// With coverage: needs a nightly compiler and another build
    #[arg(long)]
    pub libfuzzer: bool,
    /// Only this target
    #[arg(long)]
    pub target: Option<String>,
}

const TARGETS: [&str; 8] = ["client", "core", "gateway", "rpc", "spec", "store", "told", "words"];
/// Targets that run at a time.
const AT_ONCE: u64 = 2;

/// Time for all targets, and for a build before them.
fn limit_s(seconds: u64) -> u32 {
    u32::try_from(3600 + seconds.saturating_mul(TARGETS.len() as u64)).unwrap_or(u32::MAX)
}

/// The test that runs each target on its corpus and on mutations of it, two at a time, of the build that all tests share.
fn mutations(seconds: u64, target: Option<&str>) -> Proc {
    let threads = format!("--test-threads={AT_ONCE}");
    let mut args = vec!["test", "--workspace", "--locked", "--test", "corpus", "--", "--nocapture", &threads];
    args.extend(target);
    check::cargo(&args, limit_s(seconds)).env("FUZZ_SECONDS", seconds.to_string())
}

/// A minute for each target.
pub fn stage(count: &mut Count) -> Result<bool> {
    mutations(60, None).each_line(|line| count.line(line))
}

pub fn fuzz(options: &Options) -> Result<()> {
    let limit_s = limit_s(options.seconds);
    if !options.libfuzzer {
        return mutations(options.seconds, options.target.as_deref()).show();
    }
    let (dir, target_dir) = (paths::root().join("fuzz/libfuzzer"), paths::cache().join("libfuzzer"));
    let rustc = dir.join("rustc.sh").display().to_string();
    // Naming the target keeps what runs while building apart from what is fuzzed.
    let programs = target_dir.join("programs");
    let artifacts = format!("--artifact-dir={}", programs.display());
    run("cargo", ["+nightly", "build", "--target", "host-tuple", "-Zunstable-options", &artifacts], limit_s)
        .dir(&dir)
        .env("CARGO_TARGET_DIR", target_dir.display().to_string())
        .env("RUSTC_WRAPPER", rustc)
        .show()?;
    for target in TARGETS.into_iter().filter(|name| options.target.as_ref().is_none_or(|only| only == name)) {
        // What is found goes to a directory of its own; `-set_cover_merge=1` picks what reaches new code.
        let found = paths::cache().join("corpus").join(target);
        fs::create_dir_all(&found)?;
        let seeds = paths::root().join("fuzz/corpus").join(target);
        let time = format!("-max_total_time={}", options.seconds);
        let args = [found.display().to_string(), seeds.display().to_string(), time, "-timeout=60".into()];
        run(programs.join(target), args, limit_s).show()?;
    }
    Ok(())
}
