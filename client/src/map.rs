//! The shard map: who leads and holds each key.
use chord::{id::Id, shard::config::ShardId};
use chord_proto::v1;

/// What is known of a ring's members and shards.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Map {
    pub ring_id: Vec<u8>,
    pub shards: u32,
    pub members: Vec<v1::Member>,
    /// By shard number.
    routes: Vec<Option<Route>>,
}

#[derive(Clone, Debug, PartialEq)]
struct Route {
    epoch: u64,
    /// Places in `Map::members`, the leader first when it is known.
    holders: Vec<usize>,
    leader_known: bool,
}

impl Map {
    /// Takes a node's answer; says what is wrong with it otherwise.
    pub fn from_answer(answer: v1::ShardMapResponse) -> Result<Map, String> {
        if !answer.shards.is_power_of_two() || answer.shards > 65_536 {
            return Err(format!("the node is not in a ring yet (it knows of {} shards)", answer.shards));
        }
        let mut routes = vec![None; answer.shards as usize];
        for config in answer.configs {
            let Some(slot) = routes.get_mut(config.shard as usize) else { continue };
            let mut holders: Vec<usize> = config.members.iter().map(|m| *m as usize).collect();
            if holders.iter().any(|m| *m >= answer.members.len()) {
                continue;
            }
            let leader = config.leader.map(|l| l as usize).filter(|l| *l < answer.members.len());
            if let Some(leader) = leader {
                holders.retain(|m| *m != leader);
                holders.insert(0, leader);
            }
            *slot = Some(Route { epoch: config.epoch, holders, leader_known: leader.is_some() });
        }
        Ok(Map { ring_id: answer.ring_id.to_vec(), shards: answer.shards, members: answer.members, routes })
    }

    /// Keeps what `old` knows better: newer configurations, and leaders this one does not know.
    /// Nothing is kept of another ring.
    pub fn merge(mut self, old: &Map) -> Map {
        if self.ring_id != old.ring_id || self.shards != old.shards {
            return self;
        }
        let id = |member: &v1::Member| member.node.as_ref().map(|node| (node.id.clone(), node.disk_uuid.clone()));
        let places: Vec<Option<usize>> =
            old.members.iter().map(|m| self.members.iter().position(|n| id(n) == id(m))).collect();
        for (route, before) in self.routes.iter_mut().zip(&old.routes) {
            let Some(before) = before else { continue };
            let better = route.as_ref().is_none_or(|now| {
                before.epoch > now.epoch || (before.epoch == now.epoch && before.leader_known && !now.leader_known)
            });
            let holders: Option<Vec<usize>> = before.holders.iter().map(|m| places[*m]).collect();
            if let (true, Some(holders)) = (better, holders) {
                *route = Some(Route { holders, ..before.clone() });
            }
        }
        self
    }

    /// Places in `members` of those who hold the key's shard, the leader (or the likeliest one) first.
    pub fn holders(&self, key: &[u8]) -> &[usize] {
        let shard = ShardId::of(Id::of_key(key), self.shards);
        self.routes[shard.0 as usize].as_ref().map_or(&[], |route| &route.holders)
    }

    /// Client address of a member, if it is one that can be asked.
    pub fn address(&self, member: usize) -> Option<&str> {
        let node = self.members[member].node.as_ref()?;
        (!node.client_addr.is_empty()).then_some(&*node.client_addr)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(epoch: u64, names: &[&str], holders: &[u32], leader: Option<u32>) -> v1::ShardMapResponse {
        let members = names.iter().map(|name| v1::Member {
            node: Some(v1::NodeRef {
                id: name.as_bytes().to_vec().into(),
                client_addr: format!("{name}:7401"),
                ..Default::default()
            }),
            ..Default::default()
        });
        v1::ShardMapResponse {
            ring_id: vec![1; 16].into(),
            shards: 1,
            members: members.collect(),
            configs: vec![v1::ShardConfig { shard: 0, epoch, members: holders.to_vec(), leader }],
        }
    }

    fn order(map: &Map) -> Vec<&str> {
        map.holders(b"k").iter().filter_map(|m| map.address(*m)).collect()
    }

    #[test]
    fn the_leader_comes_first_and_the_rest_keeps_its_order() {
        let map = Map::from_answer(answer(1, &["a", "b", "c", "d"], &[3, 1, 2], Some(2))).unwrap();
        assert_eq!(order(&map), ["c:7401", "d:7401", "b:7401"]);
    }

    #[test]
    fn keys_go_to_the_shard_of_their_hash() {
        let mut answer = answer(1, &["a", "b"], &[], None);
        answer.shards = 2;
        answer.configs = (0..2)
            .map(|shard| v1::ShardConfig { shard, epoch: 1, members: vec![shard], leader: Some(shard) })
            .collect();
        let map = Map::from_answer(answer).unwrap();
        for key in (0u8..32).map(|byte| [byte]) {
            let upper_half = Id::of_key(&key).top() >> 63;
            assert_eq!(map.holders(&key), [upper_half as usize]);
        }
    }

    #[test]
    fn an_older_answer_does_not_replace_a_newer_configuration() {
        let newer = Map::from_answer(answer(5, &["a", "b"], &[1], Some(1))).unwrap();
        let older = Map::from_answer(answer(4, &["x", "a", "b"], &[1], Some(1))).unwrap();
        assert_eq!(order(&older.clone().merge(&newer)), ["b:7401"], "and its places are translated");
        assert_eq!(order(&newer.merge(&older)), ["b:7401"]);
    }

    #[test]
    fn a_known_leader_survives_an_answer_that_knows_none() {
        let known = Map::from_answer(answer(5, &["a", "b"], &[0, 1], Some(1))).unwrap();
        let vague = Map::from_answer(answer(5, &["a", "b"], &[0, 1], None)).unwrap();
        assert_eq!(order(&vague.merge(&known)), ["b:7401", "a:7401"]);
    }

    #[test]
    fn another_ring_at_the_same_address_is_not_mixed_in() {
        let old = Map::from_answer(answer(9, &["a", "b"], &[1], Some(1))).unwrap();
        let mut other = answer(1, &["a", "b"], &[0], Some(0));
        other.ring_id = vec![2; 16].into();
        assert_eq!(order(&Map::from_answer(other).unwrap().merge(&old)), ["a:7401"]);
    }

    #[test]
    fn nonsense_is_refused_or_skipped() {
        let mut nothing = answer(1, &[], &[], None);
        nothing.shards = 0;
        assert!(Map::from_answer(nothing).is_err());
        let map = Map::from_answer(answer(1, &["a"], &[0, 7], Some(9))).unwrap();
        assert!(order(&map).is_empty(), "a holder that is no member");
    }
}
