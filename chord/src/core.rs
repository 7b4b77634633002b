//! `Core`: the one state machine that the shell, the simulator and the models drive.
use crate::{
    id::Id,
    io::{Input, Output},
    member::{MemberState, NodeRef, View},
    msg::{MapEntry, Neighbours},
    settings::Settings,
    store::{Seq, Store},
    time::{Nanos, Now},
};
use rand::Rng;

/// A node: ring, membership and shards.
///
/// # The caller's duties, in order
/// 1. Build it with [`Core::start`] from the store of the node's data directory.
/// 2. For each input, and whenever [`Core::next_deadline`] has come, call [`Core::step`] and carry out
///    the outputs in order.
/// 3. Whenever [`Core::written`] is ahead of what is durable, sync the store in the background and
///    report how far it got with [`Input::Persisted`]. One sync for many steps is the point of it.
/// 4. Answer each [`Output::Call`] with exactly one [`Input::CallDone`].
///
/// A failed sync must end the process: retrying it could call lost data durable.
pub struct Core<S: Store> {
    pub(crate) store: S,
    pub(crate) settings: Settings,
}

/// What a node is and holds, for the operator's evidence and for people.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Status {
    /// Shards in whose configuration this node is.
    pub shards_held: u32,
    /// Shards this node leads.
    pub shards_led: u32,
    /// Led shards with fewer reachable members than the replication factor (or the ring's size, if smaller).
    pub shards_under_replicated: u32,
    /// Led shards whose configuration is not the desired one yet.
    pub shards_pending: u32,
    /// Led shards that are being moved now.
    pub shards_moving: u32,
    /// Held shards without a known live leader.
    pub shards_unavailable: u32,
    /// Shards whose records this node still keeps as an ex-member.
    pub shards_retiring: u32,
    /// Live keys of led shards.
    pub keys_led: u64,
    /// Live keys of all held shards.
    pub keys_held: u64,
    /// Bytes of led shards.
    pub bytes_led: u64,
    /// Bytes of all held shards.
    pub bytes_held: u64,
    /// Why a leave does not go on; empty when it does.
    pub leave_blocked: String,
    /// Counters since the start of the process.
    pub counters: Counters,
}

/// Counters since the start of the process.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Reads answered.
    pub gets: u64,
    /// Writes and compare-and-sets acknowledged.
    pub puts: u64,
    /// Deletes acknowledged.
    pub deletes: u64,
    /// Lookups finished here.
    pub lookups: u64,
    /// Sum of their hops, contacts including the owner.
    pub lookup_hops: u64,
    /// Stabilization rounds.
    pub stabilize_rounds: u64,
    /// Records sent in moves.
    pub keys_sent: u64,
    /// Records received in moves.
    pub keys_received: u64,
    /// Elections won.
    pub elections: u64,
    /// Records re-committed or pushed by repair.
    pub repaired: u64,
    /// Expired keys turned into tombstones.
    pub expired: u64,
}

impl<S: Store> Core<S> {
    /// Wakes a node over its store. `me.incarnation` is ignored: it becomes the stored one plus one,
    /// durable before anything is sent.
    ///
    /// # Errors
    /// A sentence for people when the directory belongs to another node or ring size.
    pub fn start(now: Now, rng: &mut dyn Rng, store: S, me: NodeRef, settings: Settings) -> Result<Core<S>, String> {
        let _ = (now, rng, me);
        Ok(Core { store, settings })
    }

    /// Handles one input. Never blocks, never fails; work per call is bounded.
    pub fn step(&mut self, now: Now, rng: &mut dyn Rng, input: Input, out: &mut Vec<Output>) {
        let _ = (now, rng, input, out);
        todo!("core.rs is being written")
    }

    /// When to call [`Core::step`] with [`Input::Tick`] at the latest.
    pub fn next_deadline(&self) -> Nanos {
        todo!("core.rs is being written")
    }

    /// Number of the last batch written to the store.
    pub fn written(&self) -> Seq {
        todo!("core.rs is being written")
    }

    /// The node itself, with its present incarnation.
    pub fn me(&self) -> &NodeRef {
        todo!("core.rs is being written")
    }

    /// Where it stands in its life.
    pub fn state(&self) -> MemberState {
        todo!("core.rs is being written")
    }

    /// Identity of its ring, once it is in one.
    pub fn ring_id(&self) -> Option<u128> {
        todo!("core.rs is being written")
    }

    /// All members it knows.
    pub fn view(&self) -> &View {
        todo!("core.rs is being written")
    }

    /// Whether its failure detector holds a member for alive.
    pub fn is_reachable(&self, node: &NodeRef) -> bool {
        let _ = node;
        todo!("core.rs is being written")
    }

    /// Its ring pointers.
    pub fn neighbours(&self) -> Neighbours {
        todo!("core.rs is being written")
    }

    /// Finger table: (index, start, node), sorted by index.
    pub fn fingers(&self) -> Vec<(u32, Id, NodeRef)> {
        todo!("core.rs is being written")
    }

    /// Who holds each shard, as far as it knows, sorted by shard.
    pub fn shard_map(&self) -> Vec<MapEntry> {
        todo!("core.rs is being written")
    }

    /// What it is and holds.
    pub fn status(&self) -> Status {
        todo!("core.rs is being written")
    }

    /// Its settings, with number of shards and replication factor as fixed at genesis.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Its store.
    pub fn store(&self) -> &S {
        &self.store
    }
}
