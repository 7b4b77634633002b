//! Clients: they ask somebody, follow hints, and are patient for a while.
use super::{Event, MS, World};
use crate::sandbox::{net::Net, words};
use chord::{
    io::{Input, Operation, Outcome},
    msg::RingRequest,
    time::Nanos,
};
use rand::RngExt as _;

/// Time a client tries.
const PATIENCE: u64 = 8000 * MS;

/// A client's operation until it is answered.
pub(super) struct Job {
    what: String,
    operation: Operation,
    since: u64,
    at: usize,
}

impl World {
    /// Begins an operation; it is asked of `at`, or of whoever runs.
    pub fn begin(&mut self, what: String, operation: Operation, at: Option<usize>) {
        self.jobs_begun += 1;
        let at = at.unwrap_or_else(|| self.somebody());
        self.jobs.insert(self.jobs_begun, Job { what, operation, since: self.now, at });
        self.plan(self.now, Event::Client { job: self.jobs_begun });
    }

    /// Whether a question is worth words: the steps of a lookup are only where somebody asked for one, and not those
    /// by which nodes repair their fingers.
    pub(super) fn is_news(&self, request: &RingRequest) -> bool {
        let RingRequest::ClosestPrecedingFinger { target, .. } = request else { return true };
        self.jobs.values().any(|job| job.operation == Operation::Lookup { target: *target })
    }

    fn somebody(&mut self) -> usize {
        let up: Vec<usize> = (0..self.nodes.len()).filter(|node| self.nodes[*node].core.is_some()).collect();
        if up.is_empty() { 0 } else { up[self.rng.random_range(0..up.len())] }
    }

    pub(super) fn attempt(&mut self, job: u64) {
        let Some(known) = self.jobs.get_mut(&job) else { return };
        if self.settling {
            // Its patience begins when there is somebody to ask.
            known.since = self.now;
            return self.plan(self.now + 300 * MS, Event::Client { job });
        }
        let (at, since) = (known.at, known.since);
        let mut operation = known.operation.clone();
        if let Operation::Put { op, .. } = &mut operation {
            (op.retry, op.age) = (self.now > since, Nanos(self.now - since));
        }
        if self.nodes.get(at).is_none_or(|node| node.core.is_none()) {
            return self.answered(job, Outcome::NotLeader(None));
        }
        let (token, deadline) = (self.token(at), Nanos(self.now) + Nanos::from_millis(3000));
        self.nodes[at].jobs.insert(token, job);
        self.step(at, Input::Client { token, operation, deadline });
    }

    pub(super) fn answered(&mut self, job: u64, outcome: Outcome) {
        let Some(known) = self.jobs.get_mut(&job) else { return };
        let again = matches!(outcome, Outcome::NotLeader(_) | Outcome::Unavailable(_) | Outcome::Overloaded(_));
        if again && self.now - known.since < PATIENCE {
            let next = match &outcome {
                Outcome::NotLeader(Some(leader)) => self.nodes.iter().position(|node| node.me.key == leader.key),
                _ => None,
            };
            let wait = if next.is_some() { Net::latency(&mut self.rng) } else { 300 * MS };
            let at = next.unwrap_or_else(|| self.somebody());
            if let Some(known) = self.jobs.get_mut(&job) {
                known.at = at;
            }
            return self.plan(self.now + wait, Event::Client { job });
        }
        let text = words::outcome(&known.what, &outcome);
        let at = known.at;
        self.jobs.remove(&job);
        self.say(None, Some(at), "answer", text);
    }
}
