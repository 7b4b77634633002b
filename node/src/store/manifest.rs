//! What else fjall's recovery does not look for: a damaged manifest.
//!
//! Each keyspace is a directory with a file that lists its tables, and a file `current` that names it with its
//! checksum. Recovery does not compare that checksum: of a list in which a bit has flipped it panics, or loses a table.
//!
//! The format is that of the version of lsm-tree that `Cargo.lock` pins with fjall.
use std::{
    fs, io,
    path::{Path, PathBuf},
};
use xxhash_rust::xxh3::xxh3_128;

/// A manifest cannot be what was written.
#[derive(Debug, thiserror::Error)]
#[error(
    "the list of tables in {} is damaged; this member cannot know what it gave its word for: \
     wipe its data directory and let the ring replace it", .0.display()
)]
pub struct DamagedManifest(PathBuf);

/// Looks at the manifests of the store in `dir`.
///
/// # Errors
/// When they cannot be read, or one is damaged.
pub fn check(dir: &Path) -> anyhow::Result<()> {
    let keyspaces = match fs::read_dir(dir.join("keyspaces")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        keyspaces => keyspaces?,
    };
    for keyspace in keyspaces {
        let keyspace = keyspace?.path();
        match fs::read(keyspace.join("current")) {
            // It was being made when the process ended: nothing is in it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            current => {
                if !is_sound(&keyspace, &current?)? {
                    return Err(DamagedManifest(keyspace).into());
                }
            }
        }
    }
    Ok(())
}

/// Whether the manifest is what `current` says: its number (u64 LE), its checksum (u128 LE), the checksum's kind (0).
fn is_sound(keyspace: &Path, current: &[u8]) -> io::Result<bool> {
    let Some((number, checksum)) = current.split_first_chunk() else { return Ok(false) };
    match fs::read(keyspace.join(format!("v{}", u64::from_le_bytes(*number)))) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        manifest => Ok([&xxh3_128(&manifest?).to_le_bytes()[..], &[0]].concat() == checksum),
    }
}
