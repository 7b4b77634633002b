//! What is published, for any number of readers.
//!
//! Every frame is serialized once. A reader holds nothing but its place in the sequence and fetches what follows, so
//! a slow one costs no queue and holds up nobody: when the deltas it needs are gone, it is given a snapshot.
use crate::{
    model::Publication,
    schema::{Count, EventList, Ring, RingEvent, ServerMessage},
};
use arc_swap::ArcSwap;
use axum::extract::ws::Utf8Bytes;
use bytes::Bytes;
use serde::Serialize;
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};
use tokio::sync::watch;

/// Deltas kept for those who lag or come back: 2 minutes and more.
const DELTAS_MAX: usize = 256;
/// Their bytes.
const DELTA_BYTES_MAX: usize = 16 << 20;
/// Deltas one may lag behind before a snapshot is thought of.
const LAG_MAX: usize = 8;
/// Events kept.
const EVENTS_MAX: usize = 1000;

/// The ring as published, and its two texts, each made once when first asked for.
pub struct Published {
    pub ring: Ring,
    snapshot: OnceLock<Utf8Bytes>,
    document: OnceLock<Bytes>,
}

impl Published {
    fn new(ring: Ring) -> Arc<Published> {
        Arc::new(Published { ring, snapshot: OnceLock::new(), document: OnceLock::new() })
    }

    /// The ring as JSON.
    pub fn document(&self) -> Bytes {
        self.document.get_or_init(|| text(&self.ring).into()).clone()
    }

    fn snapshot(&self) -> Utf8Bytes {
        let make = || frame(&ServerMessage::Snapshot { sequence: self.ring.sequence, ring: &self.ring });
        self.snapshot.get_or_init(make).clone()
    }
}

#[derive(Default)]
struct Kept {
    /// Without gaps, ending with the newest.
    deltas: VecDeque<(u64, Utf8Bytes)>,
    delta_bytes: usize,
    events: VecDeque<RingEvent>,
}

/// See the module.
pub struct Hub {
    current: ArcSwap<Published>,
    kept: Mutex<Kept>,
    newest: watch::Sender<u64>,
}

/// A reader's place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// It has nothing.
    Start,
    /// It has everything up to this number.
    After(u64),
}

impl Hub {
    /// With a ring to begin with.
    pub fn new(ring: Ring) -> Hub {
        let newest = watch::Sender::new(ring.sequence.0);
        Hub { current: ArcSwap::new(Published::new(ring)), kept: Mutex::default(), newest }
    }

    /// Hands out a change.
    pub fn publish(&self, publication: Publication) {
        let Publication { ring, change, events } = publication;
        let sequence = ring.sequence.0;
        let delta = change.map(|change| {
            frame(&ServerMessage::Delta {
                sequence: ring.sequence,
                generated_at: ring.generated_at,
                converged: ring.converged,
                nodes: &change.nodes,
                removed: &change.removed,
                stats: &ring.stats,
                operator: ring.operator.as_ref().filter(|_| change.operator),
                events: &events,
            })
        });
        {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.events.extend(events);
            let forget = kept.events.len().saturating_sub(EVENTS_MAX);
            kept.events.drain(..forget);
            match delta {
                Some(delta) => {
                    kept.delta_bytes += delta.len();
                    kept.deltas.push_back((sequence, delta));
                }
                None => (kept.deltas, kept.delta_bytes) = Default::default(),
            }
            while kept.deltas.len() > DELTAS_MAX || kept.delta_bytes > DELTA_BYTES_MAX {
                let Some((_, oldest)) = kept.deltas.pop_front() else { break };
                kept.delta_bytes -= oldest.len();
            }
            // Inside the lock: whoever holds it sees deltas and ring of the same moment.
            self.current.store(Published::new(ring));
        }
        self.newest.send_replace(sequence);
    }

    /// The ring as of now.
    pub fn current(&self) -> Arc<Published> {
        self.current.load_full()
    }

    /// Tells when there is more.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    /// The frame that follows `place`, and the place after it; `None`: there is no more yet.
    pub fn next(&self, place: Place) -> Option<(Utf8Bytes, Place)> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let current = self.current();
        let newest = current.ring.sequence.0;
        if let Place::After(sequence) = place {
            if sequence == newest {
                return None;
            }
            let oldest = kept.deltas.front().map(|(number, _)| *number);
            let wanted = sequence.checked_add(1).zip(oldest).and_then(|(next, oldest)| next.checked_sub(oldest));
            let index = wanted.and_then(|index| usize::try_from(index).ok()).filter(|index| *index < kept.deltas.len());
            let mut following = kept.deltas.range(index.unwrap_or(kept.deltas.len())..);
            if let Some((number, delta)) = following.next().cloned() {
                let lag = following.len();
                let bytes: usize = delta.len() + following.map(|(_, delta)| delta.len()).sum::<usize>();
                drop(kept);
                // Far behind, one goes on with whatever is less.
                if lag < LAG_MAX || bytes <= current.snapshot().len() {
                    return Some((delta, Place::After(number)));
                }
            }
        }
        Some((current.snapshot(), Place::After(newest)))
    }

    /// The place of a reader that says it has everything of `stream` up to `sequence`.
    pub fn resume(&self, stream: Option<&str>, sequence: u64) -> Place {
        let current = self.current();
        let known = stream == Some(current.ring.stream.as_str()) && sequence <= current.ring.sequence.0;
        if known { Place::After(sequence) } else { Place::Start }
    }

    /// Kept events with a number above `since`.
    pub fn events(&self, since: u64) -> EventList {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        EventList {
            stream: self.current().ring.stream.clone(),
            oldest: kept.events.front().map_or(Count(0), |event| event.number),
            newest: kept.events.back().map_or(Count(0), |event| event.number),
            events: kept.events.iter().filter(|event| event.number.0 > since).cloned().collect(),
        }
    }
}

fn frame(message: &ServerMessage) -> Utf8Bytes {
    text(message).into()
}

fn text(document: &impl Serialize) -> String {
    serde_json::to_string(document).expect("our documents have text keys and no failing serializer")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Change, Model};

    fn ring(sequence: u64) -> Ring {
        Ring { sequence: sequence.into(), ..Model::new("demo", "default", "s1").ring().clone() }
    }

    fn delta(sequence: u64) -> Publication {
        let change = Some(Change { nodes: Vec::new(), removed: Vec::new(), operator: false });
        Publication { ring: ring(sequence), change, events: Vec::new() }
    }

    fn kind_and_sequence(frame: &Utf8Bytes) -> (String, u64) {
        let value: serde_json::Value = serde_json::from_str(frame).expect("JSON");
        (value["type"].as_str().expect("type").to_owned(), value["sequence"].as_u64().expect("sequence"))
    }

    #[test]
    fn a_reader_gets_a_snapshot_then_every_delta_and_then_waits() {
        let hub = Hub::new(ring(0));
        hub.publish(delta(1));
        let (first, place) = hub.next(Place::Start).expect("a snapshot");
        assert_eq!(kind_and_sequence(&first), ("snapshot".into(), 1));
        assert!(hub.next(place).is_none());
        hub.publish(delta(2));
        hub.publish(delta(3));
        let (second, place) = hub.next(place).expect("a delta");
        let (third, place) = hub.next(place).expect("a delta");
        assert_eq!(kind_and_sequence(&second), ("delta".into(), 2));
        assert_eq!(kind_and_sequence(&third), ("delta".into(), 3));
        assert!(hub.next(place).is_none());
    }

    #[test]
    fn who_lags_too_far_gets_a_snapshot_and_no_gap() {
        let hub = Hub::new(ring(0));
        for sequence in 1..=DELTAS_MAX as u64 + 10 {
            hub.publish(delta(sequence));
        }
        let newest = DELTAS_MAX as u64 + 10;
        let (frame, place) = hub.next(Place::After(9)).expect("something");
        assert_eq!(kind_and_sequence(&frame), ("snapshot".into(), newest));
        assert!(hub.next(place).is_none());
        let (frame, _) = hub.next(Place::After(newest - 1)).expect("the newest delta");
        assert_eq!(kind_and_sequence(&frame), ("delta".into(), newest));
    }

    #[test]
    fn who_lags_far_gets_whatever_is_less() {
        let many = |sequence| {
            let event = RingEvent {
                number: sequence,
                at: 1,
                kind: "join".into(),
                reporter: None,
                subject: None,
                shard: None,
                message: "m".repeat(500),
            };
            Publication { events: vec![event], ..delta(sequence.0) }
        };
        let hub = Hub::new(ring(0));
        (1..=LAG_MAX as u64).for_each(|sequence| hub.publish(many(Count(sequence))));
        let kind = |place| kind_and_sequence(&hub.next(place).expect("something").0).0;
        assert_eq!(kind(Place::After(0)), "delta");
        hub.publish(many(Count(LAG_MAX as u64 + 1)));
        assert_eq!(kind(Place::After(0)), "snapshot");
        assert_eq!(kind(Place::After(1)), "delta");
    }

    #[test]
    fn another_ring_is_a_snapshot_for_everybody() {
        let hub = Hub::new(ring(0));
        hub.publish(delta(1));
        hub.publish(Publication { change: None, ..delta(2) });
        let (frame, _) = hub.next(Place::After(1)).expect("something");
        assert_eq!(kind_and_sequence(&frame), ("snapshot".into(), 2));
    }

    #[test]
    fn resuming_needs_the_same_stream_and_a_number_that_was_given_out() {
        let hub = Hub::new(ring(0));
        hub.publish(delta(1));
        assert_eq!(hub.resume(Some("s1"), 1), Place::After(1));
        assert_eq!(hub.resume(Some("s1"), 2), Place::Start);
        assert_eq!(hub.resume(Some("s2"), 1), Place::Start);
        assert_eq!(hub.resume(None, 1), Place::Start);
        assert_eq!(hub.resume(Some("s1"), u64::MAX), Place::Start);
    }
}
