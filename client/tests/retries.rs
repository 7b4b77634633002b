//! The client against servers that lose answers, refuse, throttle and lead no more.
mod fake;

use chord_client::{
    Client, ClientSettings, CompareAndSet, Done, Endpoints, Error, Get, KEY_BYTES_MAX, Operation, Put, Scan,
    VALUE_BYTES_MAX,
};
use fake::{Fake, Fault, map};
use std::time::{Duration, Instant};
use tonic::Code;

const MS: Duration = Duration::from_millis(1);

fn settings() -> ClientSettings {
    ClientSettings { deadline: 5000 * MS, attempt_timeout: 300 * MS, ..ClientSettings::default() }
}

async fn client_with(fakes: &[&Fake], settings: ClientSettings) -> Client {
    Client::connect(Endpoints::new(fakes.iter().map(|fake| &*fake.address)), settings).await.unwrap()
}

async fn client(fakes: &[&Fake]) -> Client {
    client_with(fakes, settings()).await
}

/// Fakes that agree on who leads.
async fn ring(nodes: usize, leader: u32) -> Vec<Fake> {
    let fakes: Vec<Fake> = futures::future::join_all((0..nodes).map(|_| Fake::start())).await;
    lead(&fakes, leader);
    fakes
}

fn lead(fakes: &[Fake], leader: u32) {
    let addresses: Vec<&str> = fakes.iter().map(|fake| &*fake.address).collect();
    fakes.iter().for_each(|fake| fake.with(|state| state.map = map(&addresses, leader)));
}

#[tokio::test]
async fn a_write_whose_answer_is_lost_is_sent_again_with_its_op_id_and_takes_effect_once() {
    let fake = Fake::start().await;
    fake.fail([Fault::LoseAnswer, Fault::Refuse(Code::Aborted)]);
    let version = client(&[&fake]).await.put(Put::new("k", "v")).await.unwrap();
    assert_eq!(version.seq, 1, "the answer is that of the first attempt");
    let seen: Vec<_> = fake.with(|state| state.seen.iter().map(|seen| seen.op_id.clone().unwrap()).collect());
    assert_eq!(fake.with(|state| state.writes()), 1);
    assert_eq!(seen.iter().map(|op| op.retry).collect::<Vec<_>>(), [false, true, true]);
    assert!(seen.iter().all(|op| op.client == seen[0].client && op.number == seen[0].number && op.client.len() == 16));
    assert_eq!(seen[0].age_ms, 0);
    assert!(
        seen[1].age_ms >= 290 && seen[2].age_ms >= seen[1].age_ms,
        "ages are {} and {}",
        seen[1].age_ms,
        seen[2].age_ms
    );
}

#[tokio::test]
async fn op_ids_rise_and_are_never_shared() {
    let fake = Fake::start().await;
    let client = client(&[&fake]).await;
    for _ in 0..3 {
        client.put(Put::new("k", "v")).await.unwrap();
    }
    let numbers: Vec<u64> =
        fake.with(|state| state.seen.iter().map(|seen| seen.op_id.as_ref().unwrap().number).collect());
    assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "{numbers:?}");
    assert_eq!(fake.with(|state| state.writes()), 3);
}

#[tokio::test]
async fn a_write_that_was_only_refused_had_no_effect_and_says_so() {
    let fake = Fake::start().await;
    let client = client_with(&[&fake], ClientSettings { deadline: 500 * MS, ..settings() }).await;
    fake.with(|state| state.always = Some(Fault::Refuse(Code::Unavailable)));
    match client.put(Put::new("k", "v")).await {
        Err(Error::Unavailable { attempts, .. }) => assert!(attempts > 1),
        other => panic!("{other:?}"),
    }
    let retries = fake.with(|state| state.seen.iter().filter(|seen| seen.op_id.as_ref().unwrap().retry).count());
    assert_eq!(retries, 0, "none of the attempts may have taken effect");
}

#[tokio::test]
async fn an_unknown_outcome_is_told_by_resuming() {
    let fake = Fake::start().await;
    let client = client_with(&[&fake], ClientSettings { deadline: 700 * MS, ..settings() }).await;
    fake.fail([Fault::LoseAnswer]);
    fake.with(|state| state.always = Some(Fault::Refuse(Code::Unavailable)));
    let put = Put::new("k", "v");
    let Err(Error::OutcomeUnknown { attempted, .. }) = client.put(put.clone()).await else {
        panic!("the first attempt may have taken effect")
    };
    fake.with(|state| state.always = None);
    assert_eq!(client.put(put.resume(attempted)).await.unwrap().seq, 1);
    assert_eq!(fake.with(|state| state.writes()), 1);
    assert!(fake.with(|state| state.seen.last().unwrap().op_id.as_ref().unwrap().retry));
}

#[tokio::test]
async fn a_read_is_never_of_unknown_outcome() {
    let fake = Fake::start().await;
    let client = client_with(&[&fake], ClientSettings { deadline: 500 * MS, ..settings() }).await;
    fake.with(|state| state.always = Some(Fault::Hang));
    assert!(matches!(client.get("k").await, Err(Error::Unavailable { .. })));
}

#[tokio::test]
async fn operations_go_straight_to_the_leader() {
    let ring = ring(3, 2).await;
    let client = client(&[&ring[0]]).await;
    for number in 0..20 {
        client.put(Put::new(format!("k{number}"), "v")).await.unwrap();
    }
    assert_eq!(ring.iter().map(|fake| fake.with(|state| state.seen.len())).collect::<Vec<_>>(), [0, 0, 20]);
}

#[tokio::test]
async fn a_refusal_makes_the_client_learn_the_new_leader() {
    let ring = ring(2, 0).await;
    let client = client(&[&ring[0], &ring[1]]).await;
    client.put(Put::new("k", "1")).await.unwrap();
    ring[0].with(|state| state.always = Some(Fault::Refuse(Code::Unavailable)));
    lead(&ring, 1);
    let at_the_old_one = || ring[0].with(|state| state.seen.len());
    let settled = async {
        loop {
            let before = at_the_old_one();
            client.put(Put::new("k", "2")).await.expect("the retry goes elsewhere");
            if at_the_old_one() == before {
                return;
            }
        }
    };
    tokio::time::timeout(5000 * MS, settled).await.expect("the new map is learnt");
    let before = at_the_old_one();
    for value in 0..10 {
        client.put(Put::new("k", format!("{value}"))).await.unwrap();
    }
    assert_eq!(at_the_old_one(), before, "operations still go to the old leader");
    assert_eq!(ring[1].with(|state| state.value("k").map(<[u8]>::to_vec)), Some(b"9".to_vec()));
}

#[tokio::test]
async fn a_leader_nobody_listens_for_is_passed_over_at_once() {
    let mut ring = ring(2, 0).await;
    let client = client(&[&ring[0], &ring[1]]).await;
    client.put(Put::new("k", "1")).await.unwrap();
    drop(ring.remove(0));
    let begun = Instant::now();
    for _ in 0..20 {
        client.put(Put::new("k", "2")).await.unwrap();
    }
    assert!(begun.elapsed() < 1000 * MS, "it took {:?}", begun.elapsed());
}

#[tokio::test]
async fn a_silent_member_is_asked_by_no_operation_until_it_answers_a_probe() {
    let ring = ring(3, 1).await;
    let client = client(&[&ring[0]]).await;
    let silent = |is_silent: bool| {
        ring[1].with(|state| {
            state.is_silent = is_silent;
            state.always = is_silent.then_some(Fault::Hang);
            state.seen.clear();
        });
    };
    silent(true);
    let probes = ring[1].with(|state| state.maps_asked);
    // Long enough for two probes.
    let begun = Instant::now();
    while begun.elapsed() < 5500 * MS {
        client.put(Put::new("k", "v")).await.unwrap();
        tokio::time::sleep(20 * MS).await;
    }
    assert_eq!(ring[1].with(|state| state.seen.len()), 1, "the one that found out");
    assert!(ring[1].with(|state| state.maps_asked) > probes);
    silent(false);
    let mut rounds = 0..500;
    while ring[1].with(|state| state.seen.is_empty()) {
        assert!(rounds.next().is_some(), "it leads, and is back");
        client.put(Put::new("k", "v")).await.unwrap();
        tokio::time::sleep(20 * MS).await;
    }
}

/// Behind the name of a service may be anybody, also the member that is gone.
#[tokio::test]
async fn endpoints_are_for_when_no_member_can_be_reached() {
    let seed = Fake::start().await;
    let ring = ring(3, 0).await;
    let addresses: Vec<&str> = ring.iter().map(|fake| &*fake.address).collect();
    seed.with(|state| state.map = map(&addresses, 0));
    let client = client_with(&[&seed], ClientSettings { deadline: 2000 * MS, ..settings() }).await;
    let fail = |fault: Fault| ring.iter().for_each(|fake| fake.with(|state| state.always = Some(fault.clone())));
    fail(Fault::Refuse(Code::Unavailable));
    match client.put(Put::new("k", "v")).await {
        Err(Error::Unavailable { attempts, .. }) => assert!(attempts > 6, "more than a round: {attempts}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(seed.with(|state| state.seen.len()), 0);
    fail(Fault::Hang);
    client.put(Put::new("k", "v")).await.unwrap();
    assert_eq!(seed.with(|state| state.writes()), 1);
}

#[tokio::test]
async fn the_map_is_asked_for_seldom_however_many_operations_fail() {
    let fake = Fake::start().await;
    let client = client_with(&[&fake], ClientSettings { deadline: 1000 * MS, ..settings() }).await;
    fake.with(|state| state.always = Some(Fault::Refuse(Code::Unavailable)));
    let failing = (0..50).map(|number| {
        let client = client.clone();
        async move { client.get(format!("k{number}")).await.is_err() }
    });
    assert!(futures::future::join_all(failing).await.into_iter().all(|failed| failed));
    let asked = fake.with(|state| state.maps_asked);
    assert!((2..=12).contains(&asked), "asked {asked} times in a second");
}

#[tokio::test]
async fn an_overloaded_ring_is_left_alone_for_as_long_as_it_says() {
    let fake = Fake::start().await;
    let client = client(&[&fake]).await;
    fake.fail([Fault::Overloaded(400 * MS)]);
    let begun = Instant::now();
    client.put(Put::new("k", "v")).await.unwrap();
    assert!(begun.elapsed() >= 400 * MS);
    assert_eq!(fake.with(|state| state.seen.len()), 2);
    fake.fail([Fault::Overloaded(60_000 * MS)]);
    match client.put(Put::new("k", "v")).await {
        Err(Error::Overloaded { retry_after, .. }) => assert_eq!(retry_after, 60_000 * MS),
        other => panic!("{other:?}"),
    }
    assert_eq!(fake.with(|state| state.seen.len()), 3, "there is no point in trying before");
}

#[tokio::test]
async fn what_can_never_succeed_is_not_retried() {
    let fake = Fake::start().await;
    let client = client(&[&fake]).await;
    fake.fail([Fault::Refuse(Code::PermissionDenied), Fault::Refuse(Code::InvalidArgument)]);
    assert!(matches!(client.put(Put::new("k", "v")).await, Err(Error::PermissionDenied(_))));
    assert!(matches!(client.put(Put::new("k", "v")).await, Err(Error::InvalidArgument(_))));
    assert_eq!(fake.with(|state| state.seen.len()), 2);
}

#[tokio::test]
async fn bad_input_is_refused_before_anything_is_sent() {
    let fake = Fake::start().await;
    let client = client(&[&fake]).await;
    let long = vec![b'k'; KEY_BYTES_MAX + 1];
    let refused = [
        client.get("").await.err(),
        client.get(long.clone()).await.err(),
        client.delete(long).await.err(),
        client.put(Put::new("k", vec![0; VALUE_BYTES_MAX + 1])).await.err(),
        client.put(Put::new("k", "v").ttl(Duration::from_nanos(1))).await.err(),
        client.compare_and_set(CompareAndSet::new("", "v")).await.err(),
        client.scan(Scan::new().limit(1001)).await.err(),
        client.batch([Operation::Get(Get::new(""))]).await.remove(0).err(),
    ];
    for error in refused {
        assert!(matches!(error, Some(Error::InvalidArgument(_))), "{error:?}");
    }
    assert!(fake.with(|state| state.seen.is_empty()));
    let largest = Put::new(vec![b'k'; KEY_BYTES_MAX], vec![0; VALUE_BYTES_MAX]);
    client.put(largest).await.expect("the bounds themselves are allowed");
}

#[tokio::test]
async fn a_hedged_read_does_not_wait_for_a_slow_member() {
    let ring = ring(2, 0).await;
    ring.iter().for_each(|fake| fake.with(|state| state.set("k", "v")));
    let client = client_with(
        &[&ring[0]],
        ClientSettings { hedge_after: Some(50 * MS), attempt_timeout: 5000 * MS, ..settings() },
    )
    .await;
    ring[0].fail([Fault::Slow(3000 * MS)]);
    let begun = Instant::now();
    assert_eq!(&client.get("k").await.unwrap().unwrap().value[..], b"v");
    assert!(begun.elapsed() < 1000 * MS, "it took {:?}", begun.elapsed());
    assert_eq!(ring[1].with(|state| state.seen.len()), 1);
}

#[tokio::test]
async fn reads_are_not_hedged_unless_asked_for() {
    let ring = ring(2, 0).await;
    let client = client_with(&[&ring[0]], ClientSettings { attempt_timeout: 5000 * MS, ..settings() }).await;
    ring[0].fail([Fault::Slow(400 * MS)]);
    assert_eq!(client.get("k").await, Ok(None));
    assert_eq!(ring[1].with(|state| state.seen.len()), 0);
}

#[tokio::test]
async fn compare_and_set_tells_the_version_it_found() {
    let fake = Fake::start().await;
    let client = client(&[&fake]).await;
    let made = client.compare_and_set(CompareAndSet::new("k", "1").expect_absent()).await.unwrap();
    assert!(made.applied);
    let again = client.compare_and_set(CompareAndSet::new("k", "2").expect_absent()).await.unwrap();
    assert_eq!((again.applied, again.version), (false, made.version));
    let gone = client.compare_and_set(CompareAndSet::delete("k").expect(made.version.unwrap())).await.unwrap();
    assert!(gone.applied);
    assert_eq!(client.get("k").await, Ok(None));
}

#[tokio::test]
async fn a_batch_is_one_call_and_its_failures_are_retried_alone() {
    let fake = Fake::start().await;
    let client = client(&[&fake]).await;
    // The second of the three is refused once.
    fake.fail([Fault::Slow(MS), Fault::Refuse(Code::Unavailable)]);
    let operations = ["a", "b", "c"].map(|key| Operation::Put(Put::new(key, "v")));
    let results = client.batch(operations).await;
    assert!(results.iter().all(|result| matches!(result, Ok(Done::Put(_)))), "{results:?}");
    assert_eq!(fake.with(|state| (state.batches, state.writes(), state.seen.len())), (1, 3, 4));
}

#[tokio::test]
async fn a_batch_whose_answer_is_lost_takes_effect_once() {
    let fake = Fake::start().await;
    let client = client(&[&fake]).await;
    // The second one takes effect, but the answer to the whole call never comes.
    fake.fail([Fault::Slow(MS), Fault::LoseAnswer]);
    let operations = ["a", "b", "c"].map(|key| Operation::Put(Put::new(key, "v")));
    let results = client.batch(operations).await;
    assert!(results.iter().all(|result| matches!(result, Ok(Done::Put(_)))), "{results:?}");
    assert_eq!(fake.with(|state| state.writes()), 3);
    let retries = fake.with(|state| state.seen.iter().filter(|seen| seen.op_id.as_ref().unwrap().retry).count());
    assert_eq!(retries, 3, "each is sent again, and says so");
}

#[tokio::test]
async fn pages_of_a_scan_hold_every_key_once() {
    let fake = Fake::start().await;
    let client = client(&[&fake]).await;
    let keys: Vec<String> = (0..25).map(|number| format!("k{number:02}")).collect();
    fake.with(|state| keys.iter().for_each(|key| state.set(key, "v")));
    let (mut found, mut scan) = (Vec::new(), Scan::new().limit(10).keys_only());
    loop {
        let page = client.scan(scan.clone()).await.unwrap();
        assert!(page.entries.len() <= 10 && page.entries.iter().all(|entry| entry.value.is_empty()));
        found.extend(page.entries.into_iter().map(|entry| String::from_utf8(entry.key.to_vec()).unwrap()));
        let Some(next) = page.next else { break };
        scan = scan.after(next);
    }
    assert_eq!(found, keys);
}

#[tokio::test]
async fn connecting_to_nobody_says_whom_it_asked() {
    let gone = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().to_string()
    };
    let settings = ClientSettings { deadline: 500 * MS, ..settings() };
    match Client::connect(Endpoints::new([&*gone]), settings.clone()).await {
        Err(Error::Unavailable { message, .. }) => assert!(message.contains(&gone), "{message}"),
        other => panic!("{:?}", other.err()),
    }
    for wrong in ["", "nohost", ":7401"] {
        let refused = Client::connect(Endpoints::new([wrong]), settings.clone()).await.err();
        assert!(matches!(refused, Some(Error::InvalidArgument(_))), "{wrong}: {refused:?}");
    }
    let nowhere: [&str; 0] = [];
    assert!(matches!(Client::connect(Endpoints::new(nowhere), settings).await.err(), Some(Error::InvalidArgument(_))));
}
