//! The data directory: whose it is, and that only one process uses it.
use crate::store::format;
use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File, TryLockError},
    io::Write as _,
    path::{Path, PathBuf},
};

const FORMAT: u32 = format::FORMAT as u32;

/// Who a data directory belongs to. Written once, and again when its layout becomes a newer one.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    /// Version of the directory's layout.
    pub format: u32,
    /// Names the directory for life: 32 hexadecimal digits.
    pub disk: String,
    /// The node's stable name.
    pub name: String,
    /// The ring's name.
    pub ring: String,
    /// The ring's namespace.
    pub namespace: String,
}

/// A data directory in use by this process.
pub struct DataDir {
    /// Whose it is.
    pub identity: Identity,
    path: PathBuf,
    _lock: File,
}

impl DataDir {
    /// Opens a directory, or makes one of an empty or missing one.
    ///
    /// # Errors
    /// When another process uses it, it belongs to another node or ring, or its layout is newer. Nothing in it
    /// is changed then. (An older layout becomes this one: from here on, older versions refuse the directory.)
    pub fn open(path: &Path, name: &str, ring: &str, namespace: &str) -> anyhow::Result<DataDir> {
        let shown = path.display();
        fs::create_dir_all(path).with_context(|| format!("cannot make the data directory {shown}"))?;
        let lock =
            File::create(path.join("lock")).with_context(|| format!("cannot write to the data directory {shown}"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                bail!("another process uses the data directory {shown}; give each node its own --data-dir")
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).context(format!("cannot lock the data directory {shown}"));
            }
        }
        let file = path.join("identity.json");
        let identity = if file.exists() {
            let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
            let known: Identity = serde_json::from_str(&text).with_context(|| {
                format!("{} is damaged; restore it, or start with an empty directory", file.display())
            })?;
            if known.format > FORMAT {
                bail!(
                    "the data directory {shown} has format {}, this version knows up to {FORMAT}; use the newer version",
                    known.format
                );
            }
            if known.format < u32::from(format::OLDEST) {
                bail!(
                    "the data directory {shown} says format {}, which no version ever wrote; restore its identity.json",
                    known.format
                );
            }
            if (known.name.as_str(), known.ring.as_str(), known.namespace.as_str()) != (name, ring, namespace) {
                bail!(
                    "the data directory {shown} belongs to node {} of ring {}/{}, not to {name} of {namespace}/{ring}; \
                     give this node its own directory",
                    known.name,
                    known.namespace,
                    known.ring
                );
            }
            // The number comes first: this version reads both formats, an older one must not meet what this one writes.
            if known.format < FORMAT {
                tracing::info!(from = known.format, to = FORMAT, "the data directory takes a new format");
                let known = Identity { format: FORMAT, ..known };
                write_whole(path, &file, serde_json::to_string_pretty(&known)?.as_bytes())?;
                known
            } else {
                known
            }
        } else {
            if fs::read_dir(path)?.any(|entry| entry.is_ok_and(|entry| entry.file_name() == "store")) {
                bail!(
                    "the data directory {shown} has data but no identity.json; restore it, or start with an empty directory"
                );
            }
            let fresh = Identity {
                format: FORMAT,
                disk: uuid::Uuid::new_v4().simple().to_string(),
                name: name.to_owned(),
                ring: ring.to_owned(),
                namespace: namespace.to_owned(),
            };
            write_whole(path, &file, serde_json::to_string_pretty(&fresh)?.as_bytes())?;
            fresh
        };
        Ok(DataDir { identity, path: path.to_owned(), _lock: lock })
    }

    /// Where the store is.
    pub fn store(&self) -> PathBuf {
        self.path.join("store")
    }

    /// The disk's number.
    ///
    /// # Errors
    /// When the identity file was edited into something else.
    pub fn disk(&self) -> anyhow::Result<u128> {
        u128::from_str_radix(&self.identity.disk, 16).context("`disk` in identity.json is not 32 hexadecimal digits")
    }
}

/// Writes a file so that after a crash it is there whole or not at all.
fn write_whole(dir: &Path, path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let fresh = path.with_extension("new");
    let mut file = File::create(&fresh)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    File::open(dir)?.sync_all()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directory_keeps_its_identity_and_refuses_others() -> anyhow::Result<()> {
        let dir = tempfile::tempdir()?;
        let first = DataDir::open(dir.path(), "n-0", "demo", "default")?;
        let disk = first.disk()?;
        let error =
            DataDir::open(dir.path(), "n-0", "demo", "default").err().context("two processes on one directory")?;
        assert!(error.to_string().contains("another process"), "{error}");
        drop(first);
        let error = DataDir::open(dir.path(), "n-1", "demo", "default").err().context("a foreign directory")?;
        assert!(error.to_string().contains("belongs to node n-0"), "{error}");
        assert_eq!(DataDir::open(dir.path(), "n-0", "demo", "default")?.disk()?, disk);
        Ok(())
    }

    #[test]
    fn directory_of_another_format_is_refused_and_left_alone() -> anyhow::Result<()> {
        let dir = tempfile::tempdir()?;
        drop(DataDir::open(dir.path(), "n-0", "demo", "default")?);
        let file = dir.path().join("identity.json");
        let known = fs::read_to_string(&file)?;
        for (format, advice) in [(FORMAT + 1, "use the newer version"), (0, "which no version ever wrote")] {
            let other = known.replace(&format!("\"format\": {FORMAT}"), &format!("\"format\": {format}"));
            fs::write(&file, &other)?;
            let error = DataDir::open(dir.path(), "n-0", "demo", "default").err().context("another format")?;
            assert!(error.to_string().contains(advice), "{error}");
            assert_eq!(fs::read_to_string(&file)?, other);
        }
        Ok(())
    }
}
