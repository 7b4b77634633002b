//! The simulated network: who is cut off from whom, and the sessions that carry messages about shards.
use chord::member::MemberKey;
use rand::{Rng, RngExt as _};
use std::collections::{BTreeMap, BTreeSet};

const MS: u64 = 1_000_000;
/// Silence after which a cut session is noticed.
const SILENCE: u64 = 1500 * MS;

/// Messages from one node to another, in order, until it breaks.
pub struct Session {
    pub number: u64,
    /// Whom the sender means.
    pub to: MemberKey,
    /// Lost what it carried; the sender hears of it later.
    pub broken: bool,
    /// Nothing overtakes this.
    last: u64,
}

#[derive(Default)]
pub struct Net {
    /// Nothing passes between these nodes and the others.
    pub side: BTreeSet<usize>,
    sessions: BTreeMap<(usize, usize), Session>,
    numbers: u64,
}

impl Net {
    pub fn is_cut(&self, a: usize, b: usize) -> bool {
        self.side.contains(&a) != self.side.contains(&b)
    }

    /// Slow enough that a message can be watched.
    pub fn latency(rng: &mut dyn Rng) -> u64 {
        rng.random_range(30 * MS..60 * MS)
    }

    /// The session from one node to another, opened if there is none; and when it breaks, if it cannot work.
    pub fn session(&mut self, from: usize, to: usize, key: MemberKey, up: bool) -> (&mut Session, Option<u64>) {
        let cut = self.is_cut(from, to);
        let known = self.sessions.get(&(from, to)).is_some_and(|session| session.to == key);
        let mut breaks = None;
        if !known {
            self.numbers += 1;
            let broken = cut || !up;
            breaks = broken.then_some(if cut { SILENCE } else { 40 * MS });
            self.sessions.insert((from, to), Session { number: self.numbers, to: key, broken, last: 0 });
        }
        (self.sessions.get_mut(&(from, to)).expect("it was there or has been put there"), breaks)
    }

    /// When a message that takes `latency` arrives.
    pub fn arrival(session: &mut Session, now: u64, latency: u64) -> u64 {
        session.last = session.last.max(now + latency);
        session.last
    }

    /// Whether a message of a session still arrives.
    pub fn carries(&self, from: usize, to: usize, number: u64) -> bool {
        self.sessions.get(&(from, to)).is_some_and(|session| session.number == number && !session.broken)
    }

    /// Ends a session that broke; whom its sender meant.
    pub fn end(&mut self, from: usize, to: usize, number: u64) -> Option<MemberKey> {
        self.sessions.get(&(from, to)).filter(|session| session.number == number)?;
        self.sessions.remove(&(from, to)).map(|session| session.to)
    }

    /// A node's process has ended: its own sessions end with it, those to it break. Senders and numbers of these.
    pub fn kill(&mut self, node: usize) -> Vec<(usize, u64)> {
        self.sessions.retain(|(from, _), _| *from != node);
        self.breaking(|_, to| to == node).into_iter().map(|(from, _, number)| (from, number)).collect()
    }

    /// Cuts some nodes off; sessions across break: (from, to, number), and when that is noticed.
    pub fn cut(&mut self, side: BTreeSet<usize>) -> (Vec<(usize, usize, u64)>, u64) {
        self.side = side;
        let side = self.side.clone();
        (self.breaking(|from, to| side.contains(&from) != side.contains(&to)), SILENCE)
    }

    fn breaking(&mut self, which: impl Fn(usize, usize) -> bool) -> Vec<(usize, usize, u64)> {
        let across = self.sessions.iter_mut().filter(|((from, to), session)| which(*from, *to) && !session.broken);
        across
            .map(|((from, to), session)| {
                session.broken = true;
                (*from, *to, session.number)
            })
            .collect()
    }
}
