//! The finger tables that nodes make by themselves.
use super::{super::circle::fingers_of, *};
use rand::SeedableRng as _;

/// The fingers of one node: index and place.
type Table = Vec<(u32, Id)>;

/// All fingers of all nodes after some rounds of repair, and as they should be.
fn fingers(ids: Vec<Id>) -> (Vec<Table>, Vec<Table>) {
    let mut network = Network::of(ids, 0, 4, 3 * SECOND, ChaCha8Rng::seed_from_u64(1));
    network.run_until(30 * SECOND);
    let refs: Vec<NodeRef> = network.nodes.iter().map(|node| node.me.clone()).collect();
    let found = |node: &Node| {
        let fingers = node.ring.iter().flat_map(Ring::fingers);
        fingers.map(|(index, _, node)| (index, node.id())).collect()
    };
    let ideal = |place| fingers_of(&refs, place).map(|(index, node)| (index, node.id())).collect();
    (network.nodes.iter().map(found).collect(), (0..refs.len()).map(ideal).collect())
}

#[test]
fn repaired_fingers_are_ideal_at_hashed_ids() {
    let (found, ideal) = fingers((0..200).map(|number| name(1, number)).collect());
    assert_eq!(found, ideal);
}

#[test]
fn repaired_fingers_are_ideal_where_their_starts_are_nodes() {
    // Balanced ids lie powers of two apart: an owner is right at the start that was asked for.
    let (found, ideal) = fingers((0..256).map(Id::of_ordinal).collect());
    assert_eq!(found, ideal);
}
