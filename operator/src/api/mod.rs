//! The resource `ChordRing`.
pub mod spec;
pub mod status;
pub mod validate;

pub use spec::{ChordRing, ChordRingSpec};
pub use status::ChordRingStatus;

/// Group of the resource, and prefix of labels and annotations of ours.
pub const GROUP: &str = "chordring.dev";
/// On a PVC: identity of the ring whose data it holds (32 hexadecimal digits).
pub const RING_ID: &str = "chordring.dev/ring-id";
/// On a PVC: the data directory on it (32 hexadecimal digits).
pub const DISK: &str = "chordring.dev/disk";
/// On a PVC: of a member that has left; kept for people, of no use to the ring.
pub const RETIRED: &str = "chordring.dev/retired";
/// On a ChordRing: take back a leave that is under way.
pub const ABORT_LEAVE: &str = "chordring.dev/abort-leave";
