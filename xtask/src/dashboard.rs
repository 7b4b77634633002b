//! The dashboard, which the gateway's build embeds.
use crate::{
    paths,
    proc::{run, step},
};
use anyhow::{Context as _, Result};
use std::{
    fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

/// Where its sources are; none while there is no dashboard in the tree.
pub fn dir() -> Option<PathBuf> {
    Some(paths::root().join("gateway/dashboard")).filter(|dir| dir.join("package.json").is_file())
}

/// Installs its packages when the lock file changed.
pub fn install() -> Result<()> {
    let Some(dir) = dir() else { return Ok(()) };
    let stamp = dir.join("node_modules/.installed");
    if newest(&dir.join("package-lock.json")) > newest(&stamp) {
        step("installing the dashboard's packages", || {
            run("npm", ["ci", "--no-audit", "--no-fund"], 900).dir(&dir).quiet().context("is Node.js 20 installed?")
        })?;
        fs::write(stamp, "")?;
    }
    Ok(())
}

/// Builds `dist` when a source is newer.
pub fn build() -> Result<()> {
    let Some(dir) = dir() else { return Ok(()) };
    install()?;
    let sources = ["src", "public", "index.html", "package-lock.json", "vite.config.ts"];
    let changed = sources.iter().map(|name| newest(&dir.join(name))).max();
    if changed > Some(newest(&dir.join("dist/index.html"))) {
        step("building the dashboard", || run("npm", ["run", "build"], 600).dir(&dir).quiet())?;
    }
    Ok(())
}

/// Latest change of a file, or of any file below; the epoch if there is none.
fn newest(path: &Path) -> SystemTime {
    let own = fs::metadata(path).and_then(|data| data.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
    let below = fs::read_dir(path).into_iter().flatten().flatten().map(|entry| newest(&entry.path()));
    below.max().map_or(own, |latest| latest.max(own))
}
