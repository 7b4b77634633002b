//! How commands fail: a sentence for people and a code for scripts.
use chord_client::Error;
use std::fmt;

/// Codes of `chordctl`, as `--help` lists them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// The answer is no: absent key, unmet expectation, lost or wrong keys.
    Negative = 1,
    /// The command line, a file or the request is wrong.
    Usage = 2,
    /// The ring, or the way to it, is not available.
    Unavailable = 3,
    /// A write may or may not take effect.
    OutcomeUnknown = 4,
}

/// Why a command ends early.
#[derive(Debug)]
pub struct Failure {
    pub exit: Exit,
    pub message: String,
}

pub type Result<T = ()> = std::result::Result<T, Failure>;

impl Failure {
    pub fn negative(message: impl fmt::Display) -> Failure {
        Failure { exit: Exit::Negative, message: message.to_string() }
    }
    pub fn usage(message: impl fmt::Display) -> Failure {
        Failure { exit: Exit::Usage, message: message.to_string() }
    }
    pub fn unavailable(message: impl fmt::Display) -> Failure {
        Failure { exit: Exit::Unavailable, message: message.to_string() }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        let exit = match &error {
            Error::OutcomeUnknown { .. } => Exit::OutcomeUnknown,
            Error::InvalidArgument(_) | Error::PermissionDenied(_) => Exit::Usage,
            _ => Exit::Unavailable,
        };
        Failure { exit, message: error.to_string() }
    }
}

/// For what fails on this machine: `context` says what was tried.
pub fn local(context: impl fmt::Display) -> impl FnOnce(std::io::Error) -> Failure {
    move |error| Failure::usage(format!("{context}: {error}"))
}
