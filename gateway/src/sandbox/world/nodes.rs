//! Nodes come, fail, leave and are cut off.
use super::{Event, MS, NODES_MAX, Node, World, settings};
use crate::sandbox::net::Net;
use chord::{
    Core,
    io::{AdminAction, CallError, Input},
};
use std::collections::BTreeSet;

/// Nodes that ever were.
const EVER_MAX: usize = 256;

impl World {
    /// One more node, which joins.
    ///
    /// # Errors
    /// Why there cannot be more.
    pub fn add(&mut self) -> Result<usize, String> {
        if self.nodes.iter().filter(|node| !node.left).count() >= NODES_MAX {
            return Err(format!("a sandbox has at most {NODES_MAX} nodes"));
        }
        if self.nodes.len() >= EVER_MAX {
            return Err(format!("{EVER_MAX} nodes were here already; begin anew"));
        }
        let node = self.make();
        self.start(node);
        Ok(node)
    }

    /// Starts a node's process: over an empty disk it joins, or founds the ring if it is the first.
    pub fn start(&mut self, index: usize) {
        let peers: Vec<String> = self.nodes.iter().filter(|node| node.core.is_some()).map(addr).collect();
        let now = self.clock();
        let Some(node) = self.nodes.get_mut(index).filter(|node| node.core.is_none() && !node.left) else { return };
        node.life += 1;
        (node.wake_at, node.synced, node.syncing) = (u64::MAX, 0, false);
        node.store.restart();
        match Core::start(now, &mut self.rng, node.store.clone(), node.me.clone(), settings()) {
            Ok(core) => node.core = Some(core),
            Err(why) => return self.say(Some(index), None, "does not start", why),
        }
        let is_fresh = node.core.as_ref().is_some_and(|core| core.ring_id().is_none());
        let action = match (is_fresh, peers.is_empty()) {
            (true, true) => Some(AdminAction::Bootstrap { ring_id: 1 }),
            (true, false) => Some(AdminAction::Join { seeds: peers, ring_id: None }),
            (false, _) => None,
        };
        self.step(index, Input::Tick);
        if let Some(action) = action {
            self.admin(index, action);
        }
    }

    /// Ends a node's process at once.
    pub fn fail(&mut self, index: usize) {
        let Some(node) = self.nodes.get_mut(index).filter(|node| node.core.is_some()) else { return };
        node.core = None;
        node.life += 1;
        node.calls.clear();
        let (callers, jobs) = (std::mem::take(&mut node.callers), std::mem::take(&mut node.jobs));
        for caller in callers.into_values() {
            let at = self.now + Net::latency(&mut self.rng);
            self.plan(at, Event::Done { caller, result: Err(CallError::Unreachable) });
        }
        for job in jobs.into_values() {
            self.plan(self.now + 300 * MS, Event::Client { job });
        }
        for (from, number) in self.net.kill(index) {
            let (life, at) = (self.nodes[from].life, self.now + Net::latency(&mut self.rng));
            self.plan(at, Event::Broken { from, life, to: index, number, refused: true });
        }
    }

    /// A node is asked to hand over and go.
    pub fn leave(&mut self, index: usize) {
        self.admin(index, AdminAction::Leave);
    }

    /// Cuts some nodes off from the others; none: everything passes.
    pub fn cut(&mut self, side: BTreeSet<usize>) {
        let (broken, after) = self.net.cut(side);
        for (from, to, number) in broken {
            let life = self.nodes[from].life;
            self.plan(self.now + after, Event::Broken { from, life, to, number, refused: false });
        }
    }
}

fn addr(node: &Node) -> String {
    node.me.internal_addr.clone()
}
