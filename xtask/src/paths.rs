//! Where things are: the clone, and outside of it the cache that survives a fresh one.
use std::{env, path::PathBuf};

/// The clone's root, as cargo says it now: a program from a shared cache may have been compiled in another clone.
pub fn root() -> PathBuf {
    let own = env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    own.parent().map_or(own.clone(), PathBuf::from)
}

/// `CHORD_CACHE_DIR`, or `chord-operator` in the user's cache directory.
pub fn cache() -> PathBuf {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("CHORD_CACHE_DIR").unwrap_or_else(|| {
        let base = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")));
        base.unwrap_or_else(env::temp_dir).join("chord-operator")
    })
}

/// Cargo's, of every build that a task starts.
pub fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| cache().join("target"), PathBuf::from)
}

/// Programs for this machine: chordctl, kubectl-chord, and the servers that `chordctl dev` runs.
pub fn bin() -> PathBuf {
    cache().join("bin")
}

/// Programs of the development cluster: kubectl, helm, Kubernetes itself.
pub fn cluster_bin() -> PathBuf {
    cache().join("cluster/bin")
}

/// PATH with both in front.
pub fn search_path() -> String {
    let old = env::var("PATH").unwrap_or_default();
    format!("{}:{}:{old}", bin().display(), cluster_bin().display())
}
