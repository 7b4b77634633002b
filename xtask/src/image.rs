//! The container image, and the same programs for this machine.
use crate::{
    dashboard, paths,
    proc::{run, step},
};
use anyhow::{Context as _, Result};
use std::{
    fs,
    path::{Path, PathBuf},
};

const REPOSITORY: &str = "localhost/chord-operator";
const PROGRAMS: [&str; 4] = ["chord-node", "chord-gateway", "chord-operator", "chordctl"];
/// Always built together: another set of packages means other features, and all is compiled again.
const PACKAGES: [&str; 5] = ["chord-node", "chord-gateway", "chord-operator", "chord-client", "e2e"];

pub struct Image {
    /// Docker archive.
    pub tar: PathBuf,
    /// With a tag that changes whenever the content does, so that pods of an older one are replaced.
    pub name: String,
}

/// Builds what changed since the last call.
pub fn build() -> Result<Image> {
    dashboard::build()?;
    let release = step("building chord-node, chord-gateway, chord-operator, chordctl", programs)?;
    let context = paths::cache().join("image");
    let tar = context.with_extension("tar");
    fs::create_dir_all(&context)?;
    fs::create_dir_all(paths::bin())?;
    for name in PROGRAMS {
        link(&release.join(name), &context.join(name))?;
        link(&release.join(name), &paths::bin().join(name))?;
    }
    link(&release.join("chordctl"), &paths::bin().join("kubectl-chord"))?;
    fs::write(context.join("passwd"), "chord:x:65532:65532:chord:/:/\n")?;
    fs::copy(paths::root().join("deploy/Dockerfile"), context.join("Dockerfile"))?;
    let digest = digest(&context)?;
    let stamp = context.with_extension("digest");
    let name = format!("{REPOSITORY}:dev-{}", short(&digest)?);
    if !(tar.is_file() && fs::read_to_string(&stamp).is_ok_and(|old| old == digest)) {
        step("building the image", || pack(&context, &name, &tar))?;
        fs::write(&stamp, &digest)?;
    }
    Ok(Image { tar, name })
}

/// Static release builds; gives the directory of the programs.
pub fn programs() -> Result<PathBuf> {
    let host = run("rustc", ["--print", "host-tuple"], 30).read().context("is Rust installed (rustup.rs)?")?;
    let mut args = vec!["build", "--release", "--locked", "--target", &host];
    args.extend(PACKAGES.iter().flat_map(|name| ["--package", name]));
    run("cargo", args, 2400)
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .env("CARGO_TARGET_DIR", paths::target())
        .show()?;
    Ok(paths::target().join(&host).join("release"))
}

/// A hard link where possible; a running program keeps its old file.
fn link(from: &Path, to: &Path) -> Result<()> {
    let new = to.with_extension("new");
    let _ = fs::remove_file(&new);
    fs::hard_link(from, &new)
        .or_else(|_| fs::copy(from, &new).map(|_| ()))
        .and_then(|()| fs::rename(&new, to))
        .with_context(|| format!("cannot put {} to {}", from.display(), to.display()))?;
    // Renaming a link onto another link of the same file does nothing, and leaves both.
    let _ = fs::remove_file(&new);
    Ok(())
}

/// Of every file in the context, by name.
fn digest(context: &Path) -> Result<String> {
    let names = PROGRAMS.iter().chain(&["passwd", "Dockerfile"]);
    run("sha256sum", names, 60).dir(context).read()
}

/// 12 hexadecimal digits that stand for a text.
pub fn short(text: &str) -> Result<String> {
    let file = paths::cache().join("digest-input");
    fs::write(&file, text)?;
    let sum = run("sha256sum", [&file], 10).read()?;
    Ok(sum.chars().take(12).collect())
}

fn pack(context: &Path, name: &str, tar: &Path) -> Result<()> {
    let new = tar.with_extension("tar.new");
    let _ = fs::remove_file(&new); // buildah does not overwrite an archive
    run("buildah", ["bud", "--quiet", "--isolation", "chroot", "--layers=false", "--tag", name, "."], 300)
        .dir(context)
        .quiet()
        .context("is buildah installed? `make up` installs it through apt")?;
    run("buildah", ["push", "--quiet", name, &format!("docker-archive:{}:{name}", new.display())], 300).quiet()?;
    // The archive is all that is needed.
    run("buildah", ["rmi", name], 60).quiet()?;
    fs::rename(&new, tar)?;
    Ok(())
}
