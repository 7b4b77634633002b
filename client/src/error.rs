//! How an operation can fail, and what that says about its effect.
use crate::ops::Attempted;
use std::time::Duration;

/// Why an operation has no result. Only [`Error::OutcomeUnknown`] leaves open whether it took effect;
/// after every other error it did not, and will not.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The request itself is wrong. Correct it; sending it again as it is fails again.
    #[error("{0}")]
    InvalidArgument(String),
    /// The ring does not accept this caller. Check that the certificate belongs to this ring and
    /// namespace, carries a role that may do this, and has not expired.
    #[error("permission denied: {0}; check that the certificate is of this ring and has the role `client`")]
    PermissionDenied(String),
    /// Refused before any work because the ring has too much to do. Come back after `retry_after`, with less.
    #[error("the ring is overloaded ({message}); come back in {} ms", retry_after.as_millis())]
    Overloaded {
        /// How long to wait.
        retry_after: Duration,
        /// What the node says.
        message: String,
    },
    /// Refused because the disk of the key's leader is nearly full: reads and deletes go on. Delete keys, grow the
    /// volumes or add members.
    #[error("no room for it: {0}")]
    NoSpace(String),
    /// No member could do it within the deadline, and it had no effect. Try again later; if it stays so, look at
    /// `chordctl status`: a shard needs a majority of its replicas.
    #[error("no member could do it in {} ms ({attempts} attempts; the last: {message}); it had no effect, \
             try again, and see `chordctl status` if this stays so", waited.as_millis())]
    Unavailable {
        /// Attempts made.
        attempts: u32,
        /// Time they took.
        waited: Duration,
        /// What became of the last one.
        message: String,
    },
    /// A write was sent and its answer lost: it takes effect once, or never. Give `attempted` to the same operation
    /// (for example [`Put::resume`](crate::Put::resume)) within a minute of its first attempt to learn which, or
    /// read the key.
    #[error("outcome unknown: the write may or may not take effect ({attempts} attempts in {} ms; the last: \
             {message}); read the key to see", waited.as_millis())]
    OutcomeUnknown {
        /// Attempts made.
        attempts: u32,
        /// Time they took.
        waited: Duration,
        /// What became of the last one.
        message: String,
        /// Names the write, to send it again safely.
        attempted: Attempted,
    },
    /// A member's answer makes no sense to this client: their versions do not fit. Use the ring's own `chordctl`
    /// and library.
    #[error("unexpected answer: {0}; are client and ring of the same version?")]
    Protocol(String),
}
