//! What the tests of one node's shard have in common.
use chord::{
    member::{Member, MemberState},
    store::NodeMeta,
};
use sim::model::host::identity;

/// What node `me` keeps of itself and of the others, which serve, in a ring of so many with one shard.
pub fn kept(me: usize, state: MemberState, ring: usize, replication_factor: usize) -> NodeMeta {
    let member = |index, state| Member { node: identity(index, 0), revision: 1, state };
    NodeMeta {
        node: member(me, state),
        ring_id: Some(7),
        shards: 1,
        replication_factor,
        operator_epoch: 0,
        members: (0..ring).filter(|index| *index != me).map(|index| member(index, MemberState::Serving)).collect(),
    }
}
