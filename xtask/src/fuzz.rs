//! `fuzz`: what strangers can send.
use crate::{check, proc::run};
use anyhow::Result;

#[derive(clap::Args)]
pub struct Options {
    /// Seconds for each target
    #[arg(long, default_value_t = 60)]
    pub seconds: u64,
    /// With coverage: needs a nightly compiler, cargo-fuzz, and an instrumented build of everything
    #[arg(long)]
    pub libfuzzer: bool,
}

const TARGETS: [&str; 4] = ["core", "gateway", "spec", "store"];

pub fn fuzz(options: &Options) -> Result<()> {
    let limit_s = 3600 + u32::try_from(options.seconds).unwrap_or(u32::MAX / 8) * 5;
    if !options.libfuzzer {
        let args = ["test", "--release", "--locked", "--package", "fuzz", "--", "--nocapture"];
        return check::cargo(&args, limit_s).env("FUZZ_SECONDS", options.seconds.to_string()).show();
    }
    for target in TARGETS {
        let corpus = format!("fuzz/corpus/{target}");
        let time = format!("-max_total_time={}", options.seconds);
        let args =
            ["+nightly", "fuzz", "run", "--sanitizer=none", "--fuzz-dir=fuzz/libfuzzer", target, &corpus, "--", &time];
        run("cargo", args, limit_s).show()?;
    }
    Ok(())
}
