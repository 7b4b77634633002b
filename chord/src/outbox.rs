//! Where a step puts what it wants done; holds back what reveals a write that is not durable yet.
use crate::{io::Output, msg::ShardMsg, store::Seq};
use std::collections::VecDeque;

/// A thing to do, for the shell or for this very node.
#[derive(Clone, Hash, Debug)]
pub(crate) enum Out {
    Shell(Output),
    /// A message from the node to itself: a leader is also a replica.
    Local(ShardMsg),
}

/// Outputs of a node in order.
#[derive(Clone, Hash, Debug, Default)]
pub(crate) struct Outbox {
    ready: VecDeque<Out>,
    held: VecDeque<(Seq, Out)>,
    written: Seq,
    persisted: Seq,
    /// Nothing at all leaves before this batch is durable: the start of a new incarnation.
    floor: Seq,
}

impl Outbox {
    /// Number of the last batch written.
    pub fn written(&self) -> Seq {
        self.written
    }

    /// A batch was written; what is durable-only from here on waits for it.
    pub fn on_written(&mut self, seq: Seq) {
        assert!(seq > self.written, "batches are numbered in rising order");
        self.written = seq;
    }

    /// Batches up to `seq` are durable.
    pub fn on_persisted(&mut self, seq: Seq) {
        self.persisted = self.persisted.max(seq);
        while let Some((_, out)) = self.held.pop_front_if(|(seq, _)| *seq <= self.persisted) {
            self.ready.push_back(out);
        }
    }

    /// Lets nothing out until everything written so far is durable.
    pub fn hold_until_written(&mut self) {
        self.floor = self.written;
    }

    /// To be done at once.
    pub fn push(&mut self, out: Out) {
        if self.persisted < self.floor {
            self.push_durable(out);
        } else {
            self.ready.push_back(out);
        }
    }

    /// To be done once everything written so far is durable.
    pub fn push_durable(&mut self, out: Out) {
        if self.written <= self.persisted {
            self.ready.push_back(out);
        } else {
            self.held.push_back((self.written, out));
        }
    }

    /// The next thing that may be done.
    pub fn pop(&mut self) -> Option<Out> {
        self.ready.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::{Outcome, Token};

    fn out(number: u64) -> Out {
        Out::Shell(Output::Client { token: Token(number), outcome: Outcome::Value(None) })
    }

    fn popped(outbox: &mut Outbox) -> Vec<u64> {
        let number = |out| match out {
            Out::Shell(Output::Client { token, .. }) => Some(token.0),
            _ => None,
        };
        std::iter::from_fn(|| outbox.pop()).filter_map(number).collect()
    }

    #[test]
    fn nothing_leaves_before_the_incarnation_is_durable_and_then_only_words_wait() {
        let mut outbox = Outbox::default();
        outbox.on_written(1);
        outbox.hold_until_written();
        outbox.push(out(1));
        outbox.push_durable(out(2));
        assert_eq!(popped(&mut outbox), []);
        outbox.on_persisted(1);
        assert_eq!(popped(&mut outbox), [1, 2]);
        outbox.on_written(2);
        outbox.push_durable(out(3));
        outbox.push(out(4));
        assert_eq!(popped(&mut outbox), [4], "what reveals no write does not wait for it");
        outbox.on_persisted(2);
        assert_eq!(popped(&mut outbox), [3]);
    }
}
