//! How full the data volume is.
use crate::driver::{Command, Driver};
use chord::io::Input;
use std::{io, path::Path, time::Duration};

/// Share of the volume, in percent, from which people are warned.
const WARN: u64 = 80;
/// Share from which writes that make the data grow are refused: deletes and moves need the rest.
const REFUSE: u64 = 90;
/// A full volume is taken for usable again below this share.
const RESUME: u64 = 88;
/// Free bytes below which they are refused on small volumes too: the store needs room to move what it holds.
const RESERVE: u64 = 64 << 20;
/// So often that no volume fills up between two looks.
const LOOK: Duration = Duration::from_millis(200);

/// Free and total bytes of the volume that holds `dir`.
///
/// # Errors
/// When the system cannot tell.
pub fn space(dir: &Path) -> io::Result<(u64, u64)> {
    let volume = rustix::fs::statvfs(dir)?;
    Ok((volume.f_bavail * volume.f_frsize, volume.f_blocks * volume.f_frsize))
}

/// Watches the volume and tells the core. Never ends by itself.
pub async fn watch(dir: std::path::PathBuf, driver: Driver) {
    let (mut full, mut warned) = (false, false);
    loop {
        if let Ok((free, total)) = space(&dir)
            && total > 0
        {
            let used = (total - free) * 100 / total;
            metrics::gauge!("chord_disk_free_bytes").set(free as f64);
            metrics::gauge!("chord_disk_total_bytes").set(total as f64);
            if used >= WARN && !warned {
                tracing::warn!(used_percent = used, "the data volume fills up: grow it, delete keys or add members");
            }
            warned = used >= WARN;
            let (share, reserve) = if full { (RESUME, RESERVE + RESERVE / 8) } else { (REFUSE, RESERVE) };
            let now_full = used >= share || free < reserve;
            if now_full != full {
                full = now_full;
                tracing::warn!(
                    used_percent = used,
                    full,
                    "writes that grow the data are {}",
                    if full { "refused" } else { "taken again" }
                );
                driver.send(Command::Input(Input::DiskFull(full)));
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}
