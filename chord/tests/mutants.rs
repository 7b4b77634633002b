//! Assertions that mutants of the small pure files survived without (`docs/mutation.md`).
use chord::{
    id::{Id, between, owns},
    member::{Disk, Member, MemberKey, MemberState, NodeRef, View},
    rules::Rule,
    settings::Settings,
    shard::{
        config::{Ballot, Config, ShardId},
        digest::{BUCKETS, Digest, bucket, summand},
        record::{OpId, Record, Version},
    },
    time::Nanos,
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
fn a_rule_is_in_force_unless_it_is_the_one_that_a_build_for_mutants_does_without() {
    let settings = Settings::default();
    assert!(Rule::ALL.iter().all(|rule| settings.holds(*rule)));
    #[cfg(feature = "mutants")]
    for without in Rule::ALL {
        let settings = Settings { without: Some(*without), ..Settings::default() };
        let missing: Vec<&Rule> = Rule::ALL.iter().filter(|rule| !settings.holds(**rule)).collect();
        assert_eq!(missing, [without]);
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

#[test]
fn keys_and_names_lie_where_the_first_bits_of_their_hash_say() {
    let cut = |bytes: &[u8]| Id::from_slice(&Sha256::digest(bytes)[..20]);
    assert_eq!(Some(Id::of_key(b"key")), cut(b"key"));
    assert_eq!(Some(Id::of_name("n-0")), cut(b"n-0"));
    assert_eq!(Id::from(7).to_bytes(), [&[0; 19][..], &[7]].concat()[..]);
    assert_eq!(format!("{:?}", id(0x0123_4567_89ab_cdef)), "01234567…");
    assert_eq!(format!("{:?}", Disk(0x0123_4567 << 96)), "01234567…");
}

#[test]
fn a_range_is_open_at_its_begin_and_closed_at_its_end() {
    for (from, to) in [(3, 9), (9, 3)] {
        assert!(owns(id(from), id(to), id(to)) && !owns(id(from), id(from), id(to)));
    }
    assert!(owns(id(3), id(3), id(3)) && owns(id(3), id(8), id(3)));
    assert!(owns(id(3), id(5), id(9)) && !owns(id(9), id(5), id(3)) && owns(id(9), id(2), id(3)));
}

#[test]
fn settings_out_of_bounds_are_named() {
    let seconds = |s: u64| Nanos::from_millis(1000 * s);
    let with = |change: &dyn Fn(&mut Settings)| {
        let mut settings = Settings::default();
        change(&mut settings);
        settings.validate()
    };
    let refused = |change: &dyn Fn(&mut Settings), what: &str| {
        let why = with(change).expect_err(what);
        assert!(why.contains(what), "{why}");
    };
    assert_eq!(with(&|_| ()), Ok(()));
    for factor in [0, 8] {
        refused(&|settings| settings.replication_factor = factor, "replication factor must be 1..=7");
    }
    for shards in [0, 3, 1 << 17] {
        refused(&|settings| settings.shards = shards, "shards must be a power of two");
    }
    for length in [0, 33] {
        refused(&|settings| settings.successor_list_length = length, "successor list length must be 1..=32");
    }
    refused(&|settings| settings.successor_list_length = 2, "must not be below the replication factor");
    assert_eq!(with(&|settings| settings.successor_list_length = 3), Ok(()));
    assert_eq!(with(&|settings| settings.shards = 65_536), Ok(()));
    refused(&|settings| settings.stabilize_interval = Nanos::from_millis(9), "at least 10 ms");
    refused(&|settings| settings.fix_fingers_interval = Nanos::from_millis(9), "at least 10 ms");
    let ten = Nanos::from_millis(10);
    assert_eq!(with(&|settings| (settings.stabilize_interval, settings.fix_fingers_interval) = (ten, ten)), Ok(()));
    refused(&|settings| settings.suspect_after = Nanos::from_millis(999), "twice the ping interval");
    assert_eq!(with(&|settings| settings.suspect_after = seconds(1)), Ok(()));
    refused(&|settings| settings.retry_age_max = seconds(120), "must outlive the oldest retry");
    assert_eq!(with(&|settings| settings.retry_age_max = Nanos(seconds(120).0 - 1)), Ok(()));
}

#[test]
fn the_time_between_is_never_negative_and_sums_never_wrap() {
    let (one, two) = (Nanos::from_millis(1), Nanos::from_millis(2));
    assert_eq!((two.since(one), one.since(two)), (one, Nanos(0)));
    assert_eq!((one + one, Nanos(u64::MAX) + one), (two, Nanos(u64::MAX)));
    assert_eq!((Nanos(2_999_999).as_millis(), Nanos::from_millis(3)), (2, Nanos(3_000_000)));
    assert_eq!(Nanos::from(std::time::Duration::from_micros(5)), Nanos(5_000));
}

#[test]
fn a_value_ends_with_the_millisecond_that_was_said() {
    let record = |value: Option<&'static [u8]>, expires_at_ms| Record {
        version: Version::default(),
        revision: Version::default(),
        value: value.map(bytes::Bytes::from_static),
        expires_at_ms,
        recent: vec![],
        forgotten: None,
    };
    let ends = record(Some(b"12345"), Some(10));
    assert!(!ends.has_ended(9) && ends.has_ended(10) && ends.has_ended(11));
    assert!(!record(Some(b""), None).has_ended(u64::MAX) && !record(None, Some(10)).has_ended(11));
    assert_eq!((ends.value_bytes(), record(None, None).value_bytes()), (5, 0));
    assert!(ends.is_live() && !record(None, None).is_live());
}

#[test]
fn operations_of_other_clients_surpass_nothing() {
    let op = |client, number| OpId { client, number };
    assert!(op(1, 2).surpasses(&op(1, 1)) && !op(1, 2).surpasses(&op(1, 2)) && !op(1, 1).surpasses(&op(1, 2)));
    assert!(!op(2, 2).surpasses(&op(1, 1)));
}

#[test]
fn views_count_everybody_and_hash_all_that_they_know() {
    let member = |n: u64, incarnation, revision, state| Member {
        node: NodeRef {
            key: MemberKey { id: id(n), disk: Disk(u128::from(n)) },
            incarnation,
            name: format!("n-{n}"),
            internal_addr: format!("h-{n}:1"),
            client_addr: String::new(),
            zone: String::new(),
        },
        revision,
        state,
    };
    let mut view = View::default();
    assert!(view.is_empty());
    assert_eq!(view.iter().count(), view.len());
    assert!(view.merge(member(1, 1, 1, MemberState::Serving)) && view.merge(member(2, 1, 1, MemberState::Left)));
    assert!(!view.is_empty());
    assert_eq!(view.len(), 2);
    assert_eq!(view.current().map(|member| member.node.id()).collect::<Vec<_>>(), [id(1)]);
    assert!(!view.merge(member(1, 1, 1, MemberState::Serving)), "nothing new");
    let one = |member: Member| {
        let mut view = View::default();
        view.merge(member);
        view.hash()
    };
    let mut moved = member(1, 1, 1, MemberState::Serving);
    moved.node.internal_addr = "h-9:1".into();
    let mut other_disk = member(1, 1, 1, MemberState::Serving);
    other_disk.node.key.disk = Disk(9);
    let different = [
        member(1, 1, 1, MemberState::Serving),
        member(2, 1, 1, MemberState::Serving),
        member(1, 2, 1, MemberState::Serving),
        member(1, 1, 2, MemberState::Serving),
        member(1, 1, 1, MemberState::Leaving),
        moved,
        other_disk,
    ];
    let hashes: std::collections::BTreeSet<u64> = different.clone().map(one).into();
    assert_eq!(hashes.len(), different.len(), "{hashes:?}");
    assert!(hashes.iter().all(|hash| hash.leading_zeros() < 32 && hash.trailing_zeros() < 32), "all 64 bits are used");
}
