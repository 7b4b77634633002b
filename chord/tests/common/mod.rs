//! What the tests of one node have in common.
use chord::{
    id::Id,
    member::{Disk, MemberKey, NodeRef},
};

/// The node at a place of the circle, which is its address, too.
pub fn node(place: u64) -> NodeRef {
    NodeRef {
        key: MemberKey { id: Id::from(place), disk: Disk(u128::from(place)) },
        incarnation: 1,
        name: format!("n-{place}"),
        internal_addr: place.to_string(),
        client_addr: String::new(),
        zone: String::new(),
    }
}
