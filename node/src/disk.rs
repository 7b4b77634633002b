//! How full the data volume is.
use crate::driver::{Command, Driver};
use chord::io::Input;
use std::{io, path::Path, time::Duration};

/// Share of the volume, in percent, from which people are warned.
const WARN: u64 = 80;
/// Share that stays free for deletes and moves: writes that make the data grow are refused before.
const RESERVE_PERCENT: u64 = 10;
/// On volumes where that is less, so many bytes, but a third of the volume at most: the store rewrites up to this much
/// in one go, and cannot go on when there is no room for that.
const RESERVE_BYTES: u64 = 192 << 20;
/// A full volume is taken for usable again when it has so much more room, in percent.
const RESUME_PERCENT: u64 = 2;
/// So often that no volume fills up between two looks.
const LOOK: Duration = Duration::from_millis(200);

/// Whether writes that make the data grow have to be refused. `pending` bytes in memory will need room as well.
fn is_full(free: u64, total: u64, pending: u64, was_full: bool) -> bool {
    let reserve = (total / 100 * RESERVE_PERCENT).max(RESERVE_BYTES.min(total / 3));
    let resume = if was_full { total / 100 * RESUME_PERCENT } else { 0 };
    free < reserve + resume + pending
}

/// Free and total bytes of the volume that holds `dir`, as far as this process may use it: what is reserved for others
/// is part of neither, as `df` counts.
///
/// # Errors
/// When the system cannot tell.
pub fn space(dir: &Path) -> io::Result<(u64, u64)> {
    let volume = rustix::fs::statvfs(dir)?;
    let used = volume.f_blocks.saturating_sub(volume.f_bfree);
    Ok((volume.f_bavail * volume.f_frsize, (used + volume.f_bavail) * volume.f_frsize))
}

/// Watches the volume and tells the core. `pending`: bytes that the store holds in memory. Never ends by itself.
pub async fn watch(dir: std::path::PathBuf, pending: impl Fn() -> u64, driver: Driver) {
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
            let now_full = is_full(free, total, pending(), full);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_for_one_rewrite_stays_free_on_every_volume() {
        let (mib, gib) = (1 << 20, 1 << 30);
        assert!(is_full(99 * gib, 1000 * gib, 0, false) && !is_full(101 * gib, 1000 * gib, 0, false));
        assert!(is_full(191 * mib, gib, 0, false) && !is_full(193 * mib, gib, 0, false));
        assert!(is_full(99 * mib, 300 * mib, 0, false) && !is_full(101 * mib, 300 * mib, 0, false));
        assert!(is_full(193 * mib, gib, 2 * mib, false), "what is in memory will be written");
        assert!(is_full(101 * gib, 1000 * gib, 0, true) && !is_full(121 * gib, 1000 * gib, 0, true));
    }
}
