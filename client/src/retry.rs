//! What a failed attempt means, and what to do next. Decisions only; see `client.rs` for the doing.
use crate::{call::Write, error::Error, ops::Attempted};
use std::{
    error::Error as _,
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// Bound of the first wait.
const BACKOFF_MIN: Duration = Duration::from_millis(10);
/// Wait when a node is overloaded and does not say for how long.
const OVERLOADED_WAIT: Duration = Duration::from_millis(100);

/// How an attempt failed.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Failure {
    /// No connection: nothing was sent.
    NotSent,
    /// The node says that it did nothing, and that another attempt may succeed.
    Refused,
    /// The node says that it did nothing, and when to come back.
    Overloaded(Duration),
    /// Sent, and no answer that tells what happened.
    Lost,
    /// The request can never succeed.
    Fatal(Error),
}

/// Reads a status. An error of the transport has a source; one that a node sent has none.
pub(crate) fn classify(status: &Status) -> Failure {
    if status.source().is_some() {
        return if is_connect_error(status) { Failure::NotSent } else { Failure::Lost };
    }
    let message = status.message().to_owned();
    match status.code() {
        Code::Unavailable | Code::FailedPrecondition => Failure::Refused,
        Code::ResourceExhausted => {
            // Without a time to come back it is not load that is too much, but data.
            let told = status.get_details_retry_info().map(|info| info.retry_delay.unwrap_or(OVERLOADED_WAIT));
            told.map_or(Failure::Fatal(Error::NoSpace(message)), Failure::Overloaded)
        }
        Code::InvalidArgument | Code::OutOfRange => Failure::Fatal(Error::InvalidArgument(message)),
        Code::PermissionDenied | Code::Unauthenticated => Failure::Fatal(Error::PermissionDenied(message)),
        Code::Unimplemented => Failure::Fatal(Error::Protocol(message)),
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::NotFound
        | Code::AlreadyExists
        | Code::Aborted
        | Code::Internal
        | Code::DataLoss => Failure::Lost,
    }
}

fn is_connect_error(status: &Status) -> bool {
    let mut source = status.source();
    while let Some(error) = source {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        source = error.source();
    }
    false
}

/// What an error and its causes say, without repeating each other.
pub(crate) fn describe(status: &Status) -> String {
    let mut text = match status.message() {
        "" => status.code().description().to_owned(),
        message => message.to_owned(),
    };
    let mut source = status.source();
    while let Some(error) = source {
        let cause = error.to_string();
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
        source = error.source();
    }
    text
}

/// What to do after a failed attempt.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Next {
    /// Wait at least this long.
    pub wait_min: Duration,
    /// And up to this much longer, at random.
    pub jitter: Duration,
    /// Whether other members should be preferred for a while.
    pub avoid: bool,
    /// Whether the shard map may be out of date.
    pub learn: bool,
}

/// The attempts of one operation so far.
#[derive(Default, Debug)]
pub(crate) struct Attempts {
    pub count: u32,
    /// What is written, unless it is a read.
    write: Option<Attempted>,
    /// The write may have taken effect.
    pub maybe: bool,
    overloaded: Option<Duration>,
    message: String,
}

impl Attempts {
    /// Of a write, or else of a read.
    pub fn of(write: Option<&Write>) -> Attempts {
        let maybe = write.is_some_and(|write| write.maybe);
        Attempts { write: write.map(|write| write.attempted), maybe, ..Attempts::default() }
    }

    /// Notes a failure; `Err` when there is no point in going on.
    pub fn failed(
        &mut self,
        failure: Failure,
        message: String,
        waited: Duration,
        backoff_max: Duration,
    ) -> Result<Next, Error> {
        self.count += 1;
        self.message = message;
        self.overloaded = None;
        let step = |avoid, learn, jitter| Ok(Next { wait_min: Duration::ZERO, jitter, avoid, learn });
        let backoff = (BACKOFF_MIN * 2u32.pow((self.count - 1).min(10))).min(backoff_max);
        match failure {
            Failure::NotSent => step(true, true, backoff),
            Failure::Refused => step(false, true, backoff),
            Failure::Overloaded(wait) => {
                self.overloaded = Some(wait);
                Ok(Next { wait_min: wait, jitter: backoff, avoid: false, learn: false })
            }
            Failure::Lost => {
                self.maybe |= self.write.is_some();
                step(true, true, backoff)
            }
            Failure::Fatal(error) if !self.maybe => Err(error),
            Failure::Fatal(_) => Err(self.give_up(waited)),
        }
    }

    /// The error of an operation whose time is over.
    pub fn give_up(&self, waited: Duration) -> Error {
        let message = if self.message.is_empty() { "no member is known".into() } else { self.message.clone() };
        match (self.write, self.overloaded) {
            (Some(attempted), _) if self.maybe => {
                Error::OutcomeUnknown { attempts: self.count, waited, message, attempted }
            }
            (_, Some(retry_after)) => Error::Overloaded { retry_after, message },
            _ => Error::Unavailable { attempts: self.count, waited, message },
        }
    }
}

/// Bounds retries to a share of operations, with room for a burst.
pub(crate) struct Budget {
    /// Hundredths of a retry.
    left: AtomicI64,
    max: i64,
    share: i64,
}

impl Budget {
    pub fn new((burst, percent): (u32, u32)) -> Budget {
        let max = i64::from(burst) * 100;
        Budget { left: AtomicI64::new(max), max, share: i64::from(percent) }
    }
    /// An operation began.
    pub fn earn(&self) {
        // A lost race loses a hundredth of a retry.
        let left = self.left.load(Ordering::Relaxed);
        if left < self.max {
            self.left.store((left + self.share).min(self.max), Ordering::Relaxed);
        }
    }
    /// Takes one retry, if there is one.
    pub fn spend(&self) -> bool {
        self.left.try_update(Ordering::Relaxed, Ordering::Relaxed, |left| (left >= 100).then_some(left - 100)).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    const MAX: Duration = Duration::from_millis(400);

    fn write() -> Option<Attempted> {
        Some(Attempted { client: 7, number: 1, first: Instant::now() })
    }

    fn after(failures: &[Failure], write: Option<Attempted>) -> Error {
        let mut attempts = Attempts { write, ..Attempts::default() };
        for failure in failures {
            if let Err(error) = attempts.failed(failure.clone(), "why".into(), Duration::ZERO, MAX) {
                return error;
            }
        }
        attempts.give_up(Duration::ZERO)
    }

    /// The decision table: only a write that was sent and not answered leaves its outcome open, whatever follows.
    #[test]
    fn outcome_is_unknown_only_after_a_write_was_lost() {
        use Failure::{Lost, NotSent, Overloaded, Refused};
        let wait = Duration::from_millis(5);
        let denied = || Failure::Fatal(Error::PermissionDenied("no".into()));
        for (failures, outcome) in [
            (vec![NotSent, Refused], "unavailable"),
            (vec![Lost], "unknown"),
            (vec![Lost, Refused, NotSent], "unknown"),
            (vec![Lost, Overloaded(wait)], "unknown"),
            (vec![Lost, denied()], "unknown"),
            (vec![Refused, denied()], "denied"),
            (vec![Refused, Overloaded(wait)], "overloaded"),
            (vec![Overloaded(wait), Refused], "unavailable"),
        ] {
            let name = |error| match error {
                Error::OutcomeUnknown { .. } => "unknown",
                Error::Unavailable { .. } => "unavailable",
                Error::Overloaded { .. } => "overloaded",
                Error::PermissionDenied(_) => "denied",
                _ => "other",
            };
            assert_eq!(name(after(&failures, write())), outcome, "{failures:?}");
            assert_ne!(name(after(&failures, None)), "unknown", "a read has no effect: {failures:?}");
        }
    }

    #[test]
    fn statuses_of_nodes_and_of_the_transport_are_told_apart() {
        assert_eq!(classify(&Status::unavailable("between configurations")), Failure::Refused);
        assert_eq!(classify(&Status::failed_precondition("not a member")), Failure::Refused);
        assert_eq!(classify(&Status::deadline_exceeded("")), Failure::Lost);
        assert_eq!(classify(&Status::internal("")), Failure::Lost);
        assert!(matches!(classify(&Status::invalid_argument("x")), Failure::Fatal(Error::InvalidArgument(_))));
        let full = Status::resource_exhausted("the data volume is nearly full");
        assert!(matches!(classify(&full), Failure::Fatal(Error::NoSpace(_))));
        let connect = tonic::ConnectError("refused".into());
        assert_eq!(classify(&Status::from_error(Box::new(connect))), Failure::NotSent);
        let broken = std::io::Error::other("broken pipe");
        assert_eq!(classify(&Status::from_error(Box::new(broken))), Failure::Lost);
        let details = tonic_types::ErrorDetails::with_retry_info(Some(Duration::from_millis(70)));
        let status = Status::with_error_details(Code::ResourceExhausted, "busy", details);
        assert_eq!(classify(&status), Failure::Overloaded(Duration::from_millis(70)));
    }

    #[test]
    fn waits_double_up_to_their_bound() {
        let mut attempts = Attempts::default();
        let jitters: Vec<u128> = (0..8)
            .map(|_| attempts.failed(Failure::Refused, String::new(), Duration::ZERO, MAX).unwrap().jitter)
            .map(|jitter| jitter.as_millis())
            .collect();
        assert_eq!(jitters, [10, 20, 40, 80, 160, 320, 400, 400]);
    }

    #[test]
    fn a_budget_allows_a_burst_and_then_a_share() {
        let budget = Budget::new((3, 10));
        assert_eq!((0..5).filter(|_| budget.spend()).count(), 3);
        (0..20).for_each(|_| budget.earn());
        assert_eq!((0..5).filter(|_| budget.spend()).count(), 2);
    }
}
