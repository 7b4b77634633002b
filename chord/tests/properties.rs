//! Algebra that the protocol leans on, for arbitrary values.
use bytes::Bytes;
use chord::{
    id::{BITS, Id, between, owns, successor},
    member::{Disk, Member, MemberKey, MemberState, NodeRef, View},
    ring::cut,
    shard::{
        config::{Ballot, ShardId},
        digest::{BUCKETS, Digest, bucket, summand},
        placement::Placement,
        record::{OpId, Version},
    },
};
use proptest::{collection::vec, prelude::*, sample::select};
use std::collections::{BTreeMap, BTreeSet};

/// Places of the small circle on which slow twins walk step by step.
const STEPS: u8 = 64;

/// Place `place` of the small circle, laid out over the whole one and turned by `turn`: neighbours are 2^154 apart.
fn on_circle(place: u8, turn: Id) -> Id {
    let mut bytes = [0; 20];
    bytes[0] = (place % STEPS) << 2;
    sum(Id::from_bytes(bytes), turn)
}

/// a + b modulo 2^160, bit by bit.
fn sum(a: Id, b: Id) -> Id {
    let set = |index: &u32| b.to_bytes()[19 - (*index / 8) as usize] >> (index % 8) & 1 == 1;
    (0..BITS).filter(set).fold(a, Id::plus_power_of_two)
}

fn id() -> impl Strategy<Value = Id> {
    // Random ones, and those at the seams of bytes and of the circle.
    prop_oneof![
        any::<[u8; 20]>().prop_map(Id::from_bytes),
        select(vec![Id::ZERO, Id::MAX, Id::from(1), Id::from(255), Id::from(256), Id::from(u64::MAX)]),
        any::<u32>().prop_map(Id::of_ordinal),
    ]
}

fn node(id: Id, disk: u128, zone: &str) -> NodeRef {
    NodeRef {
        key: MemberKey { id, disk: Disk(disk) },
        incarnation: 1,
        name: "n".into(),
        internal_addr: "n:1".into(),
        client_addr: String::new(),
        zone: zone.into(),
    }
}

fn state() -> impl Strategy<Value = MemberState> {
    use MemberState::{Evicted, Joining, Leaving, Left, Serving};
    select(vec![Joining, Serving, Leaving, Left, Evicted])
}

/// Entries of few members, so that they meet.
fn member() -> impl Strategy<Value = Member> {
    (0..4u64, 0..2u128, 1..4u64, 0..4u64, state(), select(vec!["a:1", "b:1"])).prop_map(
        |(id, disk, incarnation, revision, state, addr)| {
            let node = NodeRef { incarnation, internal_addr: addr.into(), ..node(Id::from(id), disk, "") };
            Member { node, revision, state }
        },
    )
}

fn view_of(members: &[Member]) -> View {
    let mut view = View::default();
    members.iter().for_each(|member| _ = view.merge(member.clone()));
    view
}

fn merged(into: &View, from: &View) -> View {
    let mut view = into.clone();
    from.iter().for_each(|member| _ = view.merge(member.clone()));
    view
}

fn version() -> impl Strategy<Value = Version> {
    (0..5u64, 0..40u64, 0..5u64).prop_map(|(epoch, ballot, seq)| Version { epoch, ballot: Ballot(ballot), seq })
}

proptest! {
    #[test]
    fn between_is_a_walk_over_the_circle(a in 0..STEPS, b in 0..STEPS, c in 0..STEPS, turn in id()) {
        let mut met = false;
        let mut place = (a + 1) % STEPS;
        while place != c {
            met |= place == b;
            place = (place + 1) % STEPS;
        }
        // All the way round from a to a meets everybody else; the walk above ends before it begins only there.
        let [a, b, c] = [a, b, c].map(|place| on_circle(place, turn));
        prop_assert_eq!(between(a, b, c), met && b != a);
    }

    #[test]
    fn owned_ranges_of_a_ring_are_disjoint_and_cover_the_circle(ids in vec(id(), 1..9), key in id()) {
        let ids: Vec<Id> = ids.into_iter().collect::<BTreeSet<_>>().into_iter().collect();
        let before = |place: usize| ids[(place + ids.len() - 1) % ids.len()];
        let owners: Vec<usize> = (0..ids.len()).filter(|place| owns(before(*place), key, ids[*place])).collect();
        prop_assert_eq!(owners, vec![successor(&ids, key, |id| *id)]);
    }

    #[test]
    fn distances_around_add_up(a in id(), b in id(), c in id()) {
        prop_assert_eq!(sum(a, a.distance_to(b)), b);
        prop_assert_eq!(sum(a.distance_to(b), b.distance_to(a)), Id::ZERO);
        prop_assert_eq!(sum(a.distance_to(b), b.distance_to(c)), a.distance_to(c));
        // Between is nearer than, seen from a.
        prop_assert_eq!(between(a, b, c), b != a && b != c && (a == c || a.distance_to(b) < a.distance_to(c)));
    }

    #[test]
    fn finger_starts_lie_powers_of_two_away(me in id(), index in 0..BITS) {
        let away = me.distance_to(me.plus_power_of_two(index));
        prop_assert_eq!(away, Id::ZERO.plus_power_of_two(index));
        prop_assert_eq!(away.ilog2(), Some(index));
    }

    #[test]
    fn a_logarithm_is_the_highest_start_that_a_distance_reaches(distance in id()) {
        let reached = (0..BITS).rev().find(|index| Id::ZERO.plus_power_of_two(*index) <= distance);
        prop_assert_eq!(distance.ilog2(), reached);
    }

    #[test]
    fn ids_are_read_back_as_written(id in id()) {
        prop_assert_eq!(Id::from_hex(&id.to_string()), Some(id));
        prop_assert_eq!(Id::from_hex(&id.to_string().to_uppercase()), Some(id));
        prop_assert_eq!(Id::from_slice(&id.to_bytes()), Some(id));
    }

    #[test]
    fn no_other_text_is_an_id(id in id(), place in 0..40usize, odd in "[0-9a-gA-F+ -]|\\PC{0,2}", other in "\\PC{0,44}") {
        let mut text = id.to_string();
        text.replace_range(place..=place, &odd);
        let text = if place == 0 { other } else { text };
        let digits = text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        prop_assert_eq!(Id::from_hex(&text).is_some(), digits);
    }

    #[test]
    fn ordinals_keep_apart(a in any::<u32>(), b in any::<u32>()) {
        prop_assert_eq!(Id::of_ordinal(a) == Id::of_ordinal(b), a == b);
    }

    #[test]
    fn a_cut_list_is_the_longest_ordered_beginning(places in vec(0..STEPS, 1..12), me in 0..STEPS, turn in id(), length in 1..9usize) {
        let nodes: Vec<NodeRef> = places.iter().map(|place| node(on_circle(*place, turn), 0, "")).collect();
        let list = cut(on_circle(me, turn), nodes[0].clone(), &nodes[1..], length);
        // The slow twin counts steps from me.
        let steps = |place: u8| (place + STEPS - me) % STEPS;
        let mut expected = 0;
        let mut last = 0;
        for place in places.iter().take(length) {
            if steps(*place) <= last {
                break;
            }
            last = steps(*place);
            expected += 1;
        }
        prop_assert_eq!(&list[..], &nodes[..expected]);
    }

    #[test]
    fn a_cut_list_is_cut_no_further(ids in vec(id(), 1..12), me in id(), length in 1..9usize) {
        let nodes: Vec<NodeRef> = ids.iter().map(|id| node(*id, 0, "")).collect();
        let list = cut(me, nodes[0].clone(), &nodes[1..], length);
        if let Some((first, rest)) = list.split_first() {
            prop_assert_eq!(&cut(me, first.clone(), rest, length), &list);
            // What a successor hands on fits behind it: its own list, cut for the one before it.
            let handed = cut(first.id(), nodes[0].clone(), rest, length);
            let next = cut(me, first.clone(), &handed, length);
            prop_assert!(next.len() <= length && next.first() == Some(first));
        }
    }

    #[test]
    fn views_merge_in_any_order_to_the_same(a in vec(member(), 0..8), b in vec(member(), 0..8), c in vec(member(), 0..8)) {
        let [a, b, c] = [a, b, c].map(|members| view_of(&members));
        prop_assert_eq!(&merged(&a, &a), &a);
        prop_assert_eq!(merged(&a, &b), merged(&b, &a));
        prop_assert_eq!(merged(&merged(&a, &b), &c), merged(&a, &merged(&b, &c)));
        prop_assert_eq!(merged(&a, &b).hash() == a.hash(), merged(&a, &b) == a);
    }

    #[test]
    fn of_two_entries_at_most_one_supersedes_the_other(a in member(), b in member()) {
        let same = MemberKey { id: Id::ZERO, disk: Disk(0) };
        let [a, b] = [a, b].map(|member| Member { node: NodeRef { key: same, ..member.node }, ..member });
        prop_assert!(!(a.supersedes(&b) && b.supersedes(&a)));
        prop_assert_eq!(a == b, !a.supersedes(&b) && !b.supersedes(&a));
        prop_assert!(!a.state.is_final() || !b.supersedes(&a) || b.state.is_final(), "whoever is gone stays gone");
    }

    #[test]
    fn members_between_are_those_that_a_look_at_all_finds(members in vec(member(), 0..12), from in 0..5u64, to in 0..5u64) {
        let view = view_of(&members);
        let (from, to) = (Id::from(from), Id::from(to));
        let found: BTreeSet<MemberKey> = view.current_between(from, to).map(|member| member.node.key).collect();
        let all = view.current().map(|member| member.node.key).filter(|key| between(from, key.id, to));
        prop_assert_eq!(found, all.collect::<BTreeSet<_>>());
    }

    #[test]
    fn a_digest_kept_in_step_is_the_digest_made_anew(changes in vec((0..6u8, proptest::option::of(version())), 0..40)) {
        let mut records: BTreeMap<Bytes, Version> = BTreeMap::new();
        let mut kept = Digest::default();
        for (key, version) in changes {
            let key = Bytes::from(vec![key; 3]);
            if let Some(old) = records.remove(&key) {
                let (bucket, sum) = summand(&key, &old);
                kept.sums[bucket] = kept.sums[bucket].wrapping_sub(sum);
            }
            if let Some(version) = version {
                let (bucket, sum) = summand(&key, &version);
                kept.sums[bucket] = kept.sums[bucket].wrapping_add(sum);
                records.insert(key, version);
            }
        }
        let mut anew = Digest::default();
        for (key, version) in records.iter().rev() {
            let (at, sum) = summand(key, version);
            prop_assert_eq!(at, bucket(key));
            anew.sums[at] = anew.sums[at].wrapping_add(sum);
        }
        prop_assert_eq!(kept.root(), anew.root());
        prop_assert_eq!(kept, anew);
    }

    #[test]
    fn digests_differ_where_records_do(key in vec(any::<u8>(), 1..20), a in version(), b in version()) {
        prop_assert!(bucket(&key) < BUCKETS);
        prop_assert_eq!(summand(&key, &a) == summand(&key, &b), a == b);
    }

    #[test]
    fn every_shard_has_as_many_distinct_members_as_it_can(count in 1..12u32, zones in 0..4u32, factor in 1..6usize, bits in 0..8u32) {
        let members = members(count, zones);
        let shards = 1 << bits;
        let placement = Placement::new(members.iter(), shards, factor);
        for shard in (0..shards).map(ShardId) {
            let held: BTreeSet<&MemberKey> = placement.of(shard).iter().collect();
            prop_assert_eq!(held.len(), placement.of(shard).len());
            prop_assert_eq!(held.len(), factor.min(count as usize));
            let spread: BTreeSet<&str> =
                members.iter().filter(|member| held.contains(&member.node.key)).map(|member| &*member.node.zone).collect();
            let there = (zones.max(1) as usize).min(count as usize);
            prop_assert_eq!(spread.len(), there.min(factor), "copies are in as many zones as there are");
        }
    }

    #[test]
    fn only_shards_near_who_comes_or_goes_move(count in 2..12u32, out in any::<prop::sample::Index>(), factor in 1..4usize) {
        let members = members(count, 0);
        let gone = members[out.index(members.len())].node.key;
        let with = Placement::new(members.iter(), 256, factor);
        let without = Placement::new(members.iter().filter(|member| member.node.key != gone), 256, factor);
        for shard in (0..256).map(ShardId) {
            let stay: Vec<MemberKey> = with.of(shard).iter().copied().filter(|key| *key != gone).collect();
            // Who held it holds it still, in the same order; at most one comes in, and only for who went.
            prop_assert_eq!(&without.of(shard)[..stay.len()], &stay[..]);
            prop_assert!(without.of(shard).len() <= with.of(shard).len());
            if stay.len() == with.of(shard).len() {
                prop_assert_eq!(without.of(shard), with.of(shard));
            }
        }
    }

    #[test]
    fn a_point_lies_in_the_shard_whose_end_it_is_at_or_before(point in id(), bits in 0..17u32) {
        let shards = 1u32 << bits;
        let shard = ShardId::of(point, shards);
        prop_assert!(shard.0 < shards);
        prop_assert!(point <= shard.point(shards));
        prop_assert!(shard.0 == 0 || ShardId(shard.0 - 1).point(shards) < point);
    }

    #[test]
    fn ballots_of_different_members_never_meet(a in 0..1u64 << 40, mine in 0..7usize, other in 0..7usize) {
        let (one, two) = (Ballot(a).next_for(mine), Ballot(a).next_for(other));
        prop_assert!(one > Ballot(a) && one.index() == mine);
        prop_assert_eq!(one == two, mine == other);
    }

    #[test]
    fn operations_of_one_client_are_in_order(client in 0..2u128, other in 0..2u128, a in 0..4u64, b in 0..4u64) {
        let (one, two) = (OpId { client, number: a }, OpId { client: other, number: b });
        prop_assert_eq!(one.surpasses(&two), client == other && a > b);
    }
}

/// Balanced members, in `zones` zones if there are any.
fn members(count: u32, zones: u32) -> Vec<Member> {
    let zone = |ordinal: u32| if zones == 0 { String::new() } else { format!("z{}", ordinal % zones) };
    let node = |ordinal| node(Id::of_ordinal(ordinal), u128::from(ordinal), &zone(ordinal));
    (0..count).map(|ordinal| Member { node: node(ordinal), revision: 1, state: MemberState::Serving }).collect()
}
