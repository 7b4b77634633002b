//! Assertions that mutants of the small pure files survived without (`docs/mutation.md`).
use chord::{
    id::{Id, between},
    member::{Disk, MemberKey},
    shard::{
        config::{Ballot, Config, ShardId},
        digest::{BUCKETS, Digest, bucket, summand},
        record::Version,
    },
};
use sha2::{Digest as _, Sha256};

fn id(top: u64) -> Id {
    let mut bytes = [0; 20];
    bytes[..8].copy_from_slice(&top.to_be_bytes());
    Id::from_bytes(bytes)
}

#[test]
fn shards_share_the_circle_in_order_of_their_numbers() {
    assert_eq!(ShardId::of(id(u64::MAX), 1), ShardId(0));
    assert_eq!(ShardId(0).point(1), Id::from_bytes([0xff; 20]));
    for shard in 0..8u32 {
        let first = u64::from(shard) << 61;
        assert_eq!(ShardId::of(id(first), 8), ShardId(shard));
        let end = ShardId(shard).point(8);
        assert_eq!(end.to_bytes()[..8], (first | (u64::MAX >> 3)).to_be_bytes());
        assert_eq!(end.to_bytes()[8..], [0xff; 12]);
        assert_eq!(ShardId::of(end, 8), ShardId(shard));
    }
}

#[test]
fn ends_of_an_interval_are_not_in_it() {
    for (a, c) in [(3, 9), (9, 3)] {
        assert!(!between(id(a), id(a), id(c)) && !between(id(a), id(c), id(c)), "{a} {c}");
    }
    assert!(!between(id(3), id(3), id(3)) && between(id(3), id(4), id(3)));
}

#[test]
fn majorities_of_one_configuration_always_meet() {
    let member = |n: u64| MemberKey { id: id(n), disk: Disk(u128::from(n)) };
    for count in 1..=7u64 {
        let config = Config { epoch: 1, members: (0..count).map(member).collect() };
        let majority = config.majority() as u64;
        assert!(2 * majority > count && 2 * (majority - 1) <= count, "{majority} of {count}");
        assert_eq!(config.index_of(&member(count - 1)), Some(count as usize - 1));
        assert_eq!(config.index_of(&member(count)), None);
    }
}

#[test]
fn ballots_of_two_members_are_never_the_same_and_the_next_is_the_smallest_above() {
    assert_eq!(Ballot::ZERO.next_for(0), Ballot(16));
    assert_eq!(Ballot(33).next_for(2), Ballot(50));
    assert_eq!(Ballot(50).next_for(1), Ballot(65));
    for index in 0..7 {
        let next = Ballot(0x123).next_for(index);
        assert!(next > Ballot(0x123) && next.index() == index);
    }
}

#[test]
fn digests_are_what_every_version_of_the_program_takes_them_for() {
    let version = Version { epoch: 3, ballot: Ballot(0x21), seq: 9 };
    for key in [&b""[..], b"k", b"key-17", &[0xff; 40]] {
        let mut hash = 0xcbf2_9ce4_8422_2325u64;
        for byte in key {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        }
        assert_eq!(bucket(key), (hash >> 32) as usize % BUCKETS);
        let text = [&3u64.to_be_bytes()[..], &0x21u64.to_be_bytes(), &9u64.to_be_bytes(), key].concat();
        let whole: [u8; 16] = std::array::from_fn(|at| Sha256::digest(&text)[at]);
        assert_eq!(summand(key, &version), (bucket(key), u128::from_be_bytes(whole)));
    }
    let mut digest = Digest::default();
    (digest.sums[0], digest.sums[31]) = (u128::MAX, 5);
    assert_eq!(digest.root(), 4, "sums are modulo 2^128");
}
