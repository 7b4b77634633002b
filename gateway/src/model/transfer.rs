//! Moves of shards, from when the first one is under way until all are in place. Pure.
use crate::schema::{Millis, Node};

/// Without any move for this long, it is over.
const QUIET_MS: u64 = 3000;

/// Whether shards move, and what has been moved.
#[derive(Default, Debug)]
pub struct Transfer(Option<Open>);

#[derive(Debug)]
struct Open {
    since: Millis,
    last: Millis,
    keys: u64,
}

impl Transfer {
    /// Looks at the members as they were and as they are; a sentence when a transfer begins or is over.
    pub fn look(&mut self, before: &[Node], nodes: &[Node], now: Millis) -> Option<String> {
        let moving: u64 = nodes.iter().filter_map(|node| node.stats.as_ref()).map(|stats| stats.shards_moving.0).sum();
        let received = received(before, nodes);
        let Some(open) = &mut self.0 else {
            let begins = moving > 0;
            self.0 = begins.then_some(Open { since: now, last: now, keys: received });
            return begins.then(|| format!("{moving} shards begin to move"));
        };
        open.keys += received;
        if moving > 0 {
            open.last = now;
        } else if now.saturating_sub(open.last) >= QUIET_MS {
            let (seconds, keys) = (open.last.saturating_sub(open.since).div_ceil(1000), open.keys);
            self.0 = None;
            return Some(format!("all shards are in place after {seconds} s; members received {keys} keys"));
        }
        None
    }
}

/// Keys received from one look to the next.
fn received(before: &[Node], nodes: &[Node]) -> u64 {
    let count = |node: &Node| node.stats.as_ref().map_or(0, |stats| stats.keys_received.0);
    let since = |node: &Node| {
        let same = |old: &&Node| old.id == node.id && old.incarnation == node.incarnation && old.stats.is_some();
        // One seen for the first time may have received them long ago, unless it is on its way in.
        let had = before.iter().find(same).map(count);
        had.map_or(0, |had| count(node).saturating_sub(had))
    };
    nodes.iter().map(since).sum()
}
