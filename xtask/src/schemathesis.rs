//! Schemathesis: thousands of requests made from the gateway's OpenAPI document, right and wrong ones, and every answer
//! compared with what the document says.
use crate::{
    image,
    local::{self, Ports},
    paths,
    proc::{run, step},
};
use anyhow::Result;
use std::{fs, path::PathBuf};

const VERSION: &str = "4.32.5";
const PORTS: Ports = Ports { base: 17500, visitors: 17580, probes: 17581 };
/// Of the requests, in all.
const SECONDS: &str = "30";
/// The same requests every time.
const SEED: &str = "1";

/// Whether all checks hold, against a gateway before a ring of three processes.
pub fn test() -> Result<bool> {
    let program = installed()?;
    let release = image::programs()?;
    let dir = paths::cache().join("schemathesis");
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir)?;
    let _ring = local::ring(&release, &dir, PORTS)?;
    // As many as it likes: what the limits do is tested elsewhere.
    let flags = ["--requests-per-second=1000000", "--burst=1000000"].map(str::to_owned);
    let _gateway = local::gateway(&release, &dir, PORTS, &flags)?;
    let document = format!("http://{}/api/v1/openapi.json", PORTS.visitors());
    let args = ["run", &document, "--checks=all", "--max-time", SECONDS, "--seed", SEED, "--no-color"];
    let good = run(program, args, 120).dir(&dir).each_line(|_| ())?;
    fs::remove_dir_all(&dir)?;
    Ok(good)
}

/// From PyPI, in an environment of its own.
fn installed() -> Result<PathBuf> {
    let home = paths::cache().join("python");
    let (bin, stamp) = (home.join("bin"), home.join(format!("schemathesis-{VERSION}")));
    if !stamp.is_file() {
        step("installing Schemathesis", || {
            let _ = fs::remove_dir_all(&home);
            let make = || run("python3", ["-m", "venv", &home.display().to_string()], 120).quiet();
            if make().is_err() {
                run("apt-get", ["update", "--quiet=2"], 300).quiet()?;
                let args = ["install", "--quiet=2", "--yes", "--no-install-recommends", "python3-venv"];
                run("apt-get", args, 600).env("DEBIAN_FRONTEND", "noninteractive").quiet()?;
                let _ = fs::remove_dir_all(&home);
                make()?;
            }
            let wanted = format!("schemathesis=={VERSION}");
            run(bin.join("pip"), ["install", "--quiet", "--disable-pip-version-check", &wanted], 600).quiet()?;
            Ok(fs::write(&stamp, "")?)
        })?;
    }
    Ok(bin.join("schemathesis"))
}
