//! Whom the ring proposes for each shard. A proposal: consensus disposes.
use crate::{
    id::{Id, successor},
    member::{Member, MemberKey},
    shard::config::ShardId,
};

/// The desired members of every shard, in successor order from its point.
#[derive(Clone, Default, PartialEq, Eq, Hash, Debug)]
pub struct Placement {
    desired: Vec<Vec<MemberKey>>,
}

impl Placement {
    /// The first `replication_factor` members clockwise from each shard's point, in different zones
    /// as far as there are any. `eligible` in any order.
    pub fn new<'a>(eligible: impl Iterator<Item = &'a Member>, shards: u32, replication_factor: usize) -> Placement {
        let mut ring: Vec<(Id, MemberKey, &str)> =
            eligible.map(|member| (member.node.id(), member.node.key, member.node.zone.as_str())).collect();
        ring.sort_unstable();
        // One id, one member: the view may show a wiped disk's old and new member for a moment.
        ring.dedup_by_key(|(id, _, _)| *id);
        let desired = (0..shards)
            .map(|shard| {
                let point = ShardId(shard).point(shards);
                let start = successor(&ring, point, |(id, _, _)| *id);
                let clockwise = || ring.iter().cycle().skip(start).take(ring.len());
                let mut zones: Vec<&str> = Vec::new();
                let mut chosen: Vec<(usize, MemberKey)> = Vec::new();
                for (place, (_, key, zone)) in clockwise().enumerate() {
                    if chosen.len() < replication_factor && (zone.is_empty() || !zones.contains(zone)) {
                        zones.push(zone);
                        chosen.push((place, *key));
                    }
                }
                for (place, (_, key, _)) in clockwise().enumerate() {
                    if chosen.len() < replication_factor && !chosen.iter().any(|(_, taken)| taken == key) {
                        chosen.push((place, *key));
                    }
                }
                chosen.sort_unstable_by_key(|(place, _)| *place);
                chosen.into_iter().map(|(_, key)| key).collect()
            })
            .collect();
        Placement { desired }
    }

    /// Desired members of a shard; empty when nobody is eligible.
    pub fn of(&self, shard: ShardId) -> &[MemberKey] {
        self.desired.get(shard.0 as usize).map_or(&[], Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::member::{Disk, MemberState, NodeRef};

    fn members(count: u32, zones: u32) -> Vec<Member> {
        (0..count)
            .map(|ordinal| Member {
                node: NodeRef {
                    key: MemberKey { id: Id::of_ordinal(ordinal), disk: Disk(u128::from(ordinal)) },
                    incarnation: 1,
                    name: format!("n-{ordinal}"),
                    internal_addr: String::new(),
                    client_addr: String::new(),
                    zone: if zones == 0 { String::new() } else { format!("z{}", ordinal % zones) },
                },
                revision: 1,
                state: MemberState::Serving,
            })
            .collect()
    }

    #[test]
    fn desired_set_is_the_successors_of_the_point() {
        let all = members(5, 0);
        let placement = Placement::new(all.iter(), 64, 3);
        let mut ids: Vec<Id> = all.iter().map(|member| member.node.id()).collect();
        ids.sort();
        for shard in (0..64).map(ShardId) {
            let point = shard.point(64);
            let first = ids.iter().position(|id| *id >= point).unwrap_or(0);
            let expected: Vec<Id> = (0..3).map(|i| ids[(first + i) % ids.len()]).collect();
            assert_eq!(placement.of(shard).iter().map(|key| key.id).collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn balanced_ids_spread_replicas_evenly_and_zones_are_distinct() {
        let all = members(6, 3);
        let placement = Placement::new(all.iter(), 4096, 3);
        for shard in (0..4096).map(ShardId) {
            let zones: std::collections::BTreeSet<&str> = placement
                .of(shard)
                .iter()
                .filter_map(|key| all.iter().find(|member| member.node.key == *key))
                .map(|member| member.node.zone.as_str())
                .collect();
            assert_eq!(zones.len(), 3, "shard {shard:?}");
        }
        let placement = Placement::new(members(8, 0).iter(), 4096, 3);
        let held = |member: &Member| (0..4096).filter(|s| placement.of(ShardId(*s)).contains(&member.node.key)).count();
        let counts: Vec<usize> = members(8, 0).iter().map(held).collect();
        assert!(counts.iter().all(|count| *count == 4096 * 3 / 8), "{counts:?}");
    }

    #[test]
    fn fewer_members_than_replicas_hold_everything() {
        let placement = Placement::new(members(2, 0).iter(), 16, 3);
        assert!((0..16).all(|shard| placement.of(ShardId(shard)).len() == 2));
    }
}
