//! What an operation does to a key: a pure function of the key's committed record.
use crate::{
    io::{Operation, Outcome, Retryable},
    settings::{KEY_BYTES_MAX, Settings, VALUE_BYTES_MAX},
    shard::record::{RECENT_OPS_MAX, RecentOp, Record, Version},
};
use bytes::Bytes;

/// An operation on one key, as the shard's leader runs it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum KeyOp {
    Get,
    Put {
        value: Bytes,
        ttl_ms: Option<u64>,
        op: Retryable,
    },
    Delete {
        op: Retryable,
    },
    CompareAndSet {
        expected: Option<Version>,
        value: Option<Bytes>,
        ttl_ms: Option<u64>,
        op: Retryable,
    },
    /// Turn the record into a tombstone if its time has come.
    Expire,
    /// Settle the key among the replicas; raise its version when `bump`.
    Mend {
        bump: bool,
    },
}

/// What to do about it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// Answer, once a majority has confirmed that this node still leads.
    Answer(Outcome),
    /// Answer at once: it tells of something that is committed, or of nothing at all.
    Known(Outcome),
    /// Write this, then answer.
    Write(Draft, Outcome),
    /// The key's time to live has ended: write the tombstone, then look again.
    ExpireFirst(Draft),
    /// Nothing to do and nobody to answer.
    Done,
}

/// A record that has no version yet. Its revision, and that in the outcome, become the version unless `keep` is set.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Draft {
    pub value: Option<Bytes>,
    pub expires_at_ms: Option<u64>,
    pub by: Option<RecentOp>,
    /// Content does not change: keep this revision.
    pub keep: Option<Version>,
}

impl Draft {
    /// The record under `version`, after `before`. Operations up to `settled` are too old for any retry.
    pub fn into_record(self, version: Version, before: Option<&Record>, settled: Version) -> Record {
        let mut recent = before.map(|record| record.recent.clone()).unwrap_or_default();
        let mut forgotten = before.and_then(|record| record.forgotten).filter(|at| *at > settled);
        if let Some(mut by) = self.by {
            recent.retain(|op| op.made.is_none_or(|made| made > settled));
            by.made = Some(version);
            recent.push(by);
            if recent.len() > RECENT_OPS_MAX {
                let surpassed = |op: &RecentOp| recent.iter().any(|other| other.id.surpasses(&op.id));
                match recent.iter().position(surpassed) {
                    Some(oldest) => {
                        recent.remove(oldest);
                    }
                    None => {
                        recent.remove(0);
                        forgotten = Some(version);
                    }
                }
            }
        }
        let revision = self.keep.unwrap_or(version);
        Record { version, revision, value: self.value, expires_at_ms: self.expires_at_ms, recent, forgotten }
    }
}

impl KeyOp {
    /// Splits a client's operation into key and what to do; `None` for those that are not about one key.
    pub fn from_operation(operation: Operation) -> Option<(Bytes, KeyOp)> {
        match operation {
            Operation::Get { key, .. } => Some((key, KeyOp::Get)),
            Operation::Put { key, value, ttl_ms, op } => Some((key, KeyOp::Put { value, ttl_ms, op })),
            Operation::Delete { key, op } => Some((key, KeyOp::Delete { op })),
            Operation::CompareAndSet { key, expected, value, ttl_ms, op } => {
                Some((key, KeyOp::CompareAndSet { expected, value, ttl_ms, op }))
            }
            Operation::Scan { .. } | Operation::Lookup { .. } => None,
        }
    }

    fn retryable(&self) -> Option<&Retryable> {
        match self {
            KeyOp::Put { op, .. } | KeyOp::Delete { op } | KeyOp::CompareAndSet { op, .. } => Some(op),
            KeyOp::Get | KeyOp::Expire | KeyOp::Mend { .. } => None,
        }
    }

    /// Whether it makes the data grow.
    pub fn grows(&self) -> bool {
        matches!(self, KeyOp::Put { .. } | KeyOp::CompareAndSet { value: Some(_), .. })
    }
}

/// What no ring would take is answered at once.
pub(crate) fn refuse(key: &[u8], op: &KeyOp, settings: &Settings) -> Option<Outcome> {
    let invalid = |text: String| Some(Outcome::Invalid(text));
    if key.is_empty() || key.len() > KEY_BYTES_MAX {
        return invalid(format!("key must have 1 to {KEY_BYTES_MAX} bytes, not {}", key.len()));
    }
    if let KeyOp::Put { value, .. } | KeyOp::CompareAndSet { value: Some(value), .. } = op
        && value.len() > VALUE_BYTES_MAX
    {
        return invalid(format!("value must have at most {VALUE_BYTES_MAX} bytes, not {}", value.len()));
    }
    if let KeyOp::Put { ttl_ms: Some(0), .. } | KeyOp::CompareAndSet { ttl_ms: Some(0), .. } = op {
        return invalid("ttl must be at least 1 ms; leave it out for a value that stays".into());
    }
    if op.retryable().is_some_and(|op| op.age > settings.retry_age_max) {
        return Some(Outcome::Unknown("the retry is too old to be told from a new operation; read the key to see"));
    }
    None
}

/// Decides an operation on a key whose committed record is `record`, at wall-clock time `wall_ms`.
pub(crate) fn evaluate(op: &KeyOp, record: Option<&Record>, wall_ms: u64) -> Verdict {
    if let (Some(retryable), Some(record)) = (op.retryable(), record) {
        if let Some(done) = record.recent.iter().find(|recent| recent.id == retryable.id) {
            return Verdict::Known(repeated(op, done));
        }
        let mine = || record.recent.iter().filter(|recent| recent.id.client == retryable.id.client);
        let surpassed = mine().any(|recent| recent.id.surpasses(&retryable.id));
        let dropped = surpassed && record.recent.len() >= RECENT_OPS_MAX;
        let forgotten = retryable.retry && record.forgotten.is_some() && mine().next().is_none();
        if dropped || forgotten {
            return Verdict::Known(Outcome::Unknown(
                "too many operations on the key since the first attempt; read the key to see",
            ));
        }
    }
    let expired = record.is_some_and(|record| record.has_ended(wall_ms));
    let live = record.filter(|record| record.is_live() && !expired);
    let found = live.map(|record| record.revision);
    let tombstone = Draft { value: None, expires_at_ms: None, by: None, keep: None };
    let answer = |outcome| if expired { Verdict::ExpireFirst(tombstone.clone()) } else { Verdict::Answer(outcome) };
    let write = |value: &Option<Bytes>, ttl_ms: &Option<u64>, op: &Retryable, outcome| {
        let by = Some(RecentOp { id: op.id, made: None, found });
        let expires_at_ms = ttl_ms.map(|ttl_ms| wall_ms.saturating_add(ttl_ms));
        Verdict::Write(Draft { value: value.clone(), expires_at_ms, by, keep: None }, outcome)
    };
    // A retry that changes nothing is written down all the same: its first attempt may be on the way still, and
    // must not take effect after the client was told that there was none.
    let unchanged = |op: &Retryable, outcome| {
        if !op.retry || expired {
            return answer(outcome);
        }
        let draft = Draft {
            value: live.and_then(|record| record.value.clone()),
            expires_at_ms: live.and_then(|record| record.expires_at_ms),
            by: Some(RecentOp { id: op.id, made: None, found }),
            keep: record.map(|record| record.revision),
        };
        Verdict::Write(draft, outcome)
    };
    match op {
        KeyOp::Get => answer(Outcome::Value(live.and_then(|record| {
            let remaining = record.expires_at_ms.map(|expires_at_ms| expires_at_ms.saturating_sub(wall_ms));
            record.value.clone().map(|value| (value, record.revision, remaining))
        }))),
        KeyOp::Put { value, ttl_ms, op } => {
            write(&Some(value.clone()), ttl_ms, op, Outcome::Written(Version::default()))
        }
        KeyOp::Delete { op } if live.is_none() => unchanged(op, Outcome::Deleted(false)),
        KeyOp::Delete { op } => write(&None, &None, op, Outcome::Deleted(true)),
        KeyOp::CompareAndSet { expected, op, .. } if *expected != found => {
            unchanged(op, Outcome::Compared { applied: false, revision: found })
        }
        KeyOp::CompareAndSet { value: None, expected: None, op, .. } => {
            unchanged(op, Outcome::Compared { applied: true, revision: None })
        }
        KeyOp::CompareAndSet { value, ttl_ms, op, .. } => {
            let revision = value.is_some().then(Version::default);
            write(value, ttl_ms, op, Outcome::Compared { applied: true, revision })
        }
        KeyOp::Expire if expired => Verdict::ExpireFirst(tombstone),
        KeyOp::Mend { bump: true } => Verdict::Write(
            Draft {
                value: record.and_then(|record| record.value.clone()),
                expires_at_ms: record.and_then(|record| record.expires_at_ms),
                by: None,
                keep: record.map(|record| record.revision),
            },
            Outcome::Value(None),
        ),
        KeyOp::Expire | KeyOp::Mend { bump: false } => Verdict::Done,
    }
}

/// Fills the version of a write into its outcome.
pub(crate) fn with_version(outcome: Outcome, version: Version) -> Outcome {
    match outcome {
        Outcome::Written(_) => Outcome::Written(version),
        Outcome::Compared { applied: true, revision: Some(_) } => {
            Outcome::Compared { applied: true, revision: Some(version) }
        }
        other => other,
    }
}

fn repeated(op: &KeyOp, done: &RecentOp) -> Outcome {
    match op {
        KeyOp::Delete { .. } => Outcome::Deleted(done.found.is_some()),
        KeyOp::CompareAndSet { expected, .. } if *expected != done.found => {
            Outcome::Compared { applied: false, revision: done.found }
        }
        KeyOp::CompareAndSet { value, .. } => {
            Outcome::Compared { applied: true, revision: value.as_ref().and(done.made) }
        }
        KeyOp::Put { .. } | KeyOp::Get | KeyOp::Expire | KeyOp::Mend { .. } => {
            Outcome::Written(done.made.unwrap_or_default())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{shard::config::Ballot, shard::record::OpId, time::Nanos};

    fn op(number: u64, retry: bool) -> Retryable {
        Retryable { id: OpId { client: 7, number }, retry, age: Nanos(0) }
    }
    fn version(seq: u64) -> Version {
        Version { epoch: 1, ballot: Ballot(16), seq }
    }
    fn put(number: u64, retry: bool) -> KeyOp {
        KeyOp::Put { value: Bytes::from_static(b"v"), ttl_ms: None, op: op(number, retry) }
    }
    fn run(op: &KeyOp, before: Option<&Record>, seq: u64) -> Record {
        match evaluate(op, before, 1000) {
            Verdict::Write(draft, _) => draft.into_record(version(seq), before, Version::default()),
            other => panic!("expected a write, got {other:?}"),
        }
    }

    #[test]
    fn retry_of_a_put_is_answered_with_the_version_it_made_even_after_another_put() {
        let first = run(&put(1, false), None, 1);
        let second = run(&put(2, false), Some(&first), 2);
        assert_eq!(evaluate(&put(1, true), Some(&second), 1000), Verdict::Known(Outcome::Written(version(1))));
    }

    fn by(client: u128, number: u64, retry: bool) -> KeyOp {
        let op = Retryable { id: OpId { client, number }, retry, age: Nanos(0) };
        KeyOp::Put { value: Bytes::from_static(b"v"), ttl_ms: None, op }
    }
    fn is_unknown(op: &KeyOp, record: &Record) -> bool {
        matches!(evaluate(op, Some(record), 1000), Verdict::Known(Outcome::Unknown(_)))
    }

    #[test]
    fn retry_that_fell_out_of_the_window_is_never_applied_again() {
        let mut record = run(&put(1, false), None, 1);
        for number in 2..=(RECENT_OPS_MAX as u64 + 1) {
            record = run(&put(number, false), Some(&record), number);
        }
        assert!(is_unknown(&put(1, true), &record));
        // Nor is a first attempt that comes after its own retry.
        assert!(is_unknown(&put(1, false), &record));
        assert!(matches!(evaluate(&put(99, false), Some(&record), 1000), Verdict::Write(..)));
    }

    #[test]
    fn retry_of_an_operation_that_had_no_effect_is_applied_however_long_the_keys_history() {
        let mut record = run(&put(1, false), None, 1);
        for number in 2..=100 {
            record = run(&put(number, false), Some(&record), number);
        }
        // Operation 101 was lost with the leader that took it.
        assert!(matches!(evaluate(&put(101, true), Some(&record), 1000), Verdict::Write(..)));
        for client in 0..RECENT_OPS_MAX as u128 - 1 {
            record = run(&by(client + 100, 1, false), Some(&record), 200 + client as u64);
        }
        assert!(
            matches!(evaluate(&put(101, true), Some(&record), 1000), Verdict::Write(..)),
            "its client is remembered"
        );
        assert!(matches!(evaluate(&by(500, 1, true), Some(&record), 1000), Verdict::Write(..)), "nobody was forgotten");
    }

    #[test]
    fn forgotten_clients_are_unknown_only_as_long_as_they_may_retry() {
        let mut record = run(&by(1, 1, false), None, 1);
        for client in 2..=(RECENT_OPS_MAX as u128 + 1) {
            record = run(&by(client, 1, false), Some(&record), client as u64);
        }
        assert!(is_unknown(&by(1, 1, true), &record));
        assert!(is_unknown(&by(77, 1, true), &record), "it might have been");
        assert!(
            matches!(evaluate(&by(77, 1, false), Some(&record), 1000), Verdict::Write(..)),
            "a first attempt was not"
        );
        let Verdict::Write(draft, _) = evaluate(&by(78, 1, false), Some(&record), 1000) else {
            panic!("a first attempt")
        };
        let later = draft.into_record(version(300), Some(&record), version(299));
        assert_eq!((later.recent.len(), later.forgotten), (1, None), "what is older than any retry is dropped");
        assert!(matches!(evaluate(&by(77, 1, true), Some(&later), 1000), Verdict::Write(..)));
    }

    #[test]
    fn expired_value_becomes_a_tombstone_before_anybody_is_told() {
        let with_ttl = KeyOp::Put { value: Bytes::from_static(b"v"), ttl_ms: Some(500), op: op(1, false) };
        let record = run(&with_ttl, None, 1);
        assert!(matches!(evaluate(&KeyOp::Get, Some(&record), 1499), Verdict::Answer(Outcome::Value(Some(_)))));
        assert!(matches!(evaluate(&KeyOp::Get, Some(&record), 1500), Verdict::ExpireFirst(_)));
        assert!(matches!(evaluate(&KeyOp::Delete { op: op(2, false) }, Some(&record), 1500), Verdict::ExpireFirst(_)));
    }

    #[test]
    fn late_first_attempt_of_a_retry_that_changed_nothing_changes_nothing() {
        let delete = |retry| KeyOp::Delete { op: op(1, retry) };
        let gone = run(&delete(true), None, 1);
        let value = run(&put(2, false), Some(&gone), 2);
        assert_eq!(evaluate(&delete(false), Some(&value), 0), Verdict::Known(Outcome::Deleted(false)));
        let cas = |retry| {
            let value = Some(Bytes::from_static(b"w"));
            KeyOp::CompareAndSet { expected: None, value, ttl_ms: None, op: op(3, retry) }
        };
        let refused = run(&cas(true), Some(&value), 3);
        assert_eq!((refused.revision, &refused.value), (value.revision, &value.value), "clients see no change");
        let gone = run(&KeyOp::Delete { op: op(4, false) }, Some(&refused), 4);
        let told = Outcome::Compared { applied: false, revision: Some(value.revision) };
        assert_eq!(evaluate(&cas(false), Some(&gone), 0), Verdict::Known(told));
    }

    #[test]
    fn compare_and_set_applies_only_to_the_expected_revision() {
        let record = run(&put(1, false), None, 1);
        let cas = |expected| KeyOp::CompareAndSet { expected, value: None, ttl_ms: None, op: op(2, false) };
        let refused = Outcome::Compared { applied: false, revision: Some(version(1)) };
        assert_eq!(evaluate(&cas(None), Some(&record), 0), Verdict::Answer(refused));
        assert!(matches!(evaluate(&cas(Some(version(1))), Some(&record), 0), Verdict::Write(..)));
    }

    #[test]
    fn only_what_is_too_old_for_any_retry_is_dropped() {
        let first = run(&put(1, false), None, 1);
        let second = run(&put(2, false), Some(&first), 2);
        let Verdict::Write(draft, _) = evaluate(&put(3, false), Some(&second), 1000) else { panic!("a write") };
        let numbers = |settled| {
            let record = draft.clone().into_record(version(3), Some(&second), version(settled));
            record.recent.iter().map(|op| op.id.number).collect::<Vec<_>>()
        };
        assert_eq!((numbers(0), numbers(1), numbers(2)), (vec![1, 2, 3], vec![2, 3], vec![3]));
        let before = Record { forgotten: Some(version(2)), ..second.clone() };
        let forgotten = |settled| draft.clone().into_record(version(3), Some(&before), version(settled)).forgotten;
        assert_eq!((forgotten(1), forgotten(2), forgotten(3)), (Some(version(2)), None, None));
    }

    #[test]
    fn keys_values_and_retries_are_taken_up_to_their_bounds() {
        let settings = Settings::default();
        let invalid = |key: &[u8], op: &KeyOp| matches!(refuse(key, op, &settings), Some(Outcome::Invalid(_)));
        for (bytes, refused) in [(0, true), (1, false), (KEY_BYTES_MAX, false), (KEY_BYTES_MAX + 1, true)] {
            assert_eq!(invalid(&vec![b'k'; bytes], &KeyOp::Get), refused, "a key of {bytes} bytes");
        }
        for (bytes, refused) in [(0, false), (VALUE_BYTES_MAX, false), (VALUE_BYTES_MAX + 1, true)] {
            let (value, op) = (Bytes::from(vec![0; bytes]), op(1, false));
            let cas = KeyOp::CompareAndSet { expected: None, value: Some(value.clone()), ttl_ms: None, op };
            assert_eq!(invalid(b"k", &cas), refused, "a value of {bytes} bytes");
            assert_eq!(invalid(b"k", &KeyOp::Put { value, ttl_ms: None, op }), refused, "a value of {bytes} bytes");
        }
        let aged = |nanos| KeyOp::Delete { op: Retryable { age: Nanos(nanos), ..op(1, true) } };
        assert_eq!(refuse(b"k", &aged(settings.retry_age_max.0), &settings), None);
        let late = refuse(b"k", &aged(settings.retry_age_max.0 + 1), &settings);
        assert!(matches!(late, Some(Outcome::Unknown(_))), "it may have taken effect");
    }

    #[test]
    fn what_stores_a_value_grows_and_what_deletes_does_not() {
        let cas = |value| KeyOp::CompareAndSet { expected: None, value, ttl_ms: None, op: op(1, false) };
        assert!(put(1, false).grows() && cas(Some(Bytes::new())).grows());
        assert!(!KeyOp::Delete { op: op(1, false) }.grows() && !cas(None).grows() && !KeyOp::Get.grows());
    }
}
