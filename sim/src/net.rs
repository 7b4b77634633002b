//! The network between nodes: what it may do to a message, within the contract of `chord::io`.
//!
//! A session carries messages in order and none twice; it breaks, and then loses what was on its way
//! and tells the sender. A call ends exactly once: with its reply, late or never received, or an error.
use crate::clock::{MS, SECOND};
use chord::{member::MemberKey, msg::ShardMsg};
use rand::{Rng, RngExt as _};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// How long a silent connection takes to be noticed.
const KEEPALIVE: (u64, u64) = (SECOND, 3 * SECOND);

/// One direction between two processes.
#[derive(Debug)]
pub struct Session {
    /// Tells sessions of one pair apart.
    pub number: u64,
    /// Whom the sender means.
    pub to: MemberKey,
    /// With the time each arrives.
    pub queue: VecDeque<(u64, ShardMsg)>,
    /// Lost; the sender does not know yet, and what it sends is lost as well.
    pub broken: bool,
}

/// All links between machines.
#[derive(Debug, Default)]
pub struct Net {
    /// Least and most delay, ns.
    pub delay: (u64, u64),
    /// Share of calls and client messages that are lost.
    pub loss: f64,
    /// From whom to whom nothing gets through, with how many faults say so.
    cuts: BTreeMap<(usize, usize), u32>,
    /// Sessions by sender and receiver.
    pub sessions: BTreeMap<(usize, usize), Session>,
    numbers: u64,
}

impl Net {
    /// A network without faults.
    pub fn new(delay: (u64, u64)) -> Net {
        Net { delay, ..Net::default() }
    }

    /// Whether something sent now gets through.
    pub fn passes(&self, from: usize, to: usize, rng: &mut dyn Rng) -> bool {
        !self.is_cut(from, to) && !self.loses(rng)
    }

    /// Whether chance loses what is sent now.
    pub fn loses(&self, rng: &mut dyn Rng) -> bool {
        self.loss > 0.0 && rng.random_bool(self.loss)
    }

    /// Whether nothing gets through from one machine to another.
    pub fn is_cut(&self, from: usize, to: usize) -> bool {
        self.cuts.contains_key(&(from, to))
    }

    /// Cuts pairs, or takes such a cut back.
    pub fn cut(&mut self, pairs: &BTreeSet<(usize, usize)>, on: bool) {
        for pair in pairs {
            let count = self.cuts.entry(*pair).or_insert(0);
            *count = if on { *count + 1 } else { count.saturating_sub(1) };
            if *count == 0 {
                self.cuts.remove(pair);
            }
        }
    }

    /// Everything gets through.
    pub fn heal(&mut self) {
        self.cuts.clear();
        self.loss = 0.0;
    }

    /// How long a message takes.
    pub fn latency(&self, rng: &mut dyn Rng) -> u64 {
        let (least, most) = self.delay;
        // Mostly quick, now and then slow.
        if rng.random_bool(0.9) {
            rng.random_range(least..=least + (most - least) / 4)
        } else {
            rng.random_range(least..=most)
        }
    }

    /// When a connection that went silent now is given up.
    pub fn keepalive(rng: &mut dyn Rng) -> u64 {
        rng.random_range(KEEPALIVE.0..=KEEPALIVE.1)
    }

    /// Opens a session in place of the one before.
    pub fn open(&mut self, from: usize, to: usize, key: MemberKey) -> &mut Session {
        self.numbers += 1;
        let session = Session { number: self.numbers, to: key, queue: VecDeque::new(), broken: false };
        self.sessions.insert((from, to), session);
        self.sessions.get_mut(&(from, to)).expect("just inserted")
    }

    /// Puts a message on its way; says when to deliver, unless a delivery is planned already.
    pub fn post(session: &mut Session, message: ShardMsg, arrives: u64) -> Option<u64> {
        let arrives = session.queue.back().map_or(arrives, |(last, _)| arrives.max(*last));
        session.queue.push_back((arrives, message));
        (session.queue.len() == 1).then_some(arrives)
    }

    /// Sessions that end or begin at a machine.
    pub fn sessions_at(&self, node: usize) -> Vec<(usize, usize)> {
        self.sessions.keys().copied().filter(|(from, to)| *from == node || *to == node).collect()
    }

    /// Time until the sender of a broken session hears of it.
    pub fn news(rng: &mut dyn Rng) -> u64 {
        rng.random_range(MS..=10 * MS)
    }
}
