//! What happened, numbered. Members tell each other's joins and losses N times over; here each stands once.
use super::{description::cut, name_of, named};
use crate::schema::{Millis, NodeName, RingEvent};
use chord::member::NodeRef;
use chord_proto::v1;
use std::collections::VecDeque;

/// The same news of several members within this time is one event.
const SAME_WITHIN_MS: u64 = 10_000;
/// Events looked at for that.
const RECENT_MAX: usize = 256;
/// Events waiting for the next publication; more are dropped, oldest first.
const PENDING_MAX: usize = 512;
/// Kinds that every member tells about another one.
const TOLD_BY_ALL: [&str; 4] = ["join", "leave", "suspect", "alive"];

#[derive(Debug, Default)]
pub struct Journal {
    newest: u64,
    recent: VecDeque<RingEvent>,
    pending: VecDeque<RingEvent>,
}

impl Journal {
    /// Takes in what a member tells.
    pub fn report(&mut self, reporter: &NodeRef, event: v1::RingEvent) {
        let subject = event.subject.and_then(|node| name_of("subject", node).ok());
        let event = RingEvent {
            number: 0_u64.into(),
            at: event.at_ms,
            kind: cut(event.kind),
            reporter: Some(named(reporter)),
            subject,
            shard: event.shard.map(Into::into),
            message: cut(event.message),
        };
        let same = |other: &RingEvent| {
            other.kind == event.kind
                && other.subject == event.subject
                && (other.message == event.message || matches!(event.kind.as_str(), "suspect" | "alive"))
                && other.at.abs_diff(event.at) < SAME_WITHIN_MS
        };
        if TOLD_BY_ALL.contains(&event.kind.as_str()) && self.recent.iter().rev().any(same) {
            return;
        }
        self.push(event);
    }

    /// Takes in what the gateway itself notices.
    pub fn observe(&mut self, at: Millis, kind: &str, subject: &NodeRef, message: String) {
        self.note(at, kind, Some(named(subject)), message);
    }

    /// Likewise, about a member or about none.
    pub fn note(&mut self, at: Millis, kind: &str, subject: Option<NodeName>, message: String) {
        let kind = kind.into();
        self.push(RingEvent { number: 0_u64.into(), at, kind, reporter: None, subject, shard: None, message });
    }

    /// Events since it was last called.
    pub fn take(&mut self) -> Vec<RingEvent> {
        self.pending.drain(..).collect()
    }

    fn push(&mut self, mut event: RingEvent) {
        self.newest += 1;
        event.number = self.newest.into();
        for (queue, most) in [(&mut self.recent, RECENT_MAX), (&mut self.pending, PENDING_MAX)] {
            queue.push_back(event.clone());
            if queue.len() > most {
                queue.pop_front();
            }
        }
    }
}
