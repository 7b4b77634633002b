//! Faults that seeds once found, each as the shortest story that shows it again if its fix is taken back.
use bytes::Bytes;
use chord::{
    io::{AdminAction, Operation, Outcome, Retryable},
    shard::{config::ShardId, record::OpId},
    time::Nanos,
};
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use sim::{
    checks::{converged, describe},
    clock::{MS, SECOND},
    run::wait,
    swarm::Options,
    world::{RING, World},
};

/// A ring of so many members at rest.
fn ring(nodes: usize, shards: u32) -> World {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut options = Options::scripted(nodes, &mut rng);
    options.settings.shards = shards;
    let mut world = World::new(options, rng, false);
    world.boot();
    settle(&mut world);
    world
}

/// Waits until everything is as it should be.
fn settle(world: &mut World) {
    if let Err(why) = wait(world, 60 * SECOND, "the cluster does not come to rest", converged) {
        panic!("{why}\n{}", describe(world));
    }
}

/// Runs in small steps until `reached`, for at most ten seconds.
fn until(world: &mut World, what: &str, reached: impl Fn(&World) -> bool) {
    let end = world.now + 10 * SECOND;
    while !reached(world) {
        assert!(world.now < end, "it never comes to this: {what}\n{}", describe(world));
        run(world, MS / 10);
    }
}

fn run(world: &mut World, time: u64) {
    world.run_until(world.now + time);
    assert_eq!(world.watch.failure, None, "{}", describe(world));
}

/// Asks a node, and waits for its answer.
fn ask(world: &mut World, node: usize, operation: Operation) -> Outcome {
    let token = world.ask_for(node, operation);
    until(world, "an answer", |world| world.nodes[node].said.contains_key(&token));
    world.nodes[node].said[&token].clone()
}

/// The node that leads a shard.
fn leader(world: &World, shard: ShardId) -> usize {
    let leads = |index: &usize| {
        let Some(core) = &world.nodes[*index].core else { return false };
        let map = core.shard_map();
        let entry = map.iter().find(|entry| entry.shard == shard);
        let leader = entry.and_then(|entry| entry.config.members.get(entry.leader? as usize));
        leader == Some(&core.me().key)
    };
    (0..world.nodes.len()).find(leads).expect("a ring at rest has a leader of each shard")
}

fn op(client: u128, number: u64) -> Retryable {
    Retryable { id: OpId { client, number }, retry: false, age: Nanos(0) }
}

fn put(key: &str, op: Retryable) -> Operation {
    Operation::Put { key: Bytes::copy_from_slice(key.as_bytes()), value: Bytes::from_static(b"1"), ttl_ms: None, op }
}

fn epoch(world: &World, node: usize) -> u64 {
    world.nodes[node].core.as_ref().map_or(0, |core| core.shard_map()[0].config.epoch)
}

/// Whether a node has a copy of the only shard for a configuration to come, or has sealed the present one.
fn has_sealed(world: &World, node: usize) -> bool {
    let disk = world.nodes[node].disk.borrow();
    let meta = disk.current.shards.get(&ShardId(0)).and_then(|data| data.meta.as_ref());
    meta.is_some_and(|meta| meta.seal.is_some() || meta.word.is_some())
}

#[test]
fn nobody_waits_for_an_evicted_member_to_lead() {
    let mut world = ring(4, 4);
    let lost = leader(&world, ShardId(0));
    let member = world.nodes[lost].me.key;
    world.lose_disk(lost);
    world.nodes[lost].removed = true;
    // Before anybody has noticed that it is silent.
    world.admin((lost + 1) % 4, AdminAction::Evict { member });
    settle(&mut world);
}

#[test]
fn nobody_waits_for_a_member_that_no_view_remembers() {
    let mut world = ring(4, 4);
    let lost = leader(&world, ShardId(0));
    for node in 0..4 {
        world.kill(node, true);
    }
    let key = world.nodes[lost].me.key;
    world.nodes[lost].removed = true;
    for node in (0..4).filter(|node| *node != lost) {
        // The configurations are remembered, the view of then is not.
        let mut disk = world.nodes[node].disk.borrow_mut();
        let kept = disk.durable.node.as_mut().expect("a member keeps what it knows of itself");
        kept.members.retain(|member| member.node.key != key);
        disk.crash(0);
        drop(disk);
        world.start(node);
    }
    settle(&mut world);
}

#[test]
fn nobody_hears_of_a_state_that_a_member_may_forget() {
    let mut world = ring(4, 4);
    world.nodes[3].stalled_until = world.now + 2 * SECOND;
    world.admin(3, AdminAction::Leave);
    // `Watch::on_view` sees what others believe.
    run(&mut world, SECOND);
    world.kill(3, true);
    world.nodes[3].stalled_until = 0;
    world.start(3);
    settle(&mut world);
}

#[test]
fn nobody_joins_a_ring_that_its_founder_may_forget() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let options = Options::scripted(3, &mut rng);
    let mut world = World::new(options, rng, false);
    world.nodes[0].stalled_until = SECOND;
    world.boot();
    run(&mut world, 900 * MS);
    world.kill(0, true);
    world.start(0);
    // The operator has not heard that the ring was founded, and asks for it again.
    world.admin(0, AdminAction::Bootstrap { ring_id: RING });
    settle(&mut world);
}

#[test]
fn a_member_does_not_leave_while_a_configuration_with_its_word_may_come() {
    // The one shard is held by n-0, n-2 and n-1; n-4 belongs between the first two.
    let mut world = ring(4, 1);
    let leads = leader(&world, ShardId(0));
    assert_eq!(leads, 0);
    let Outcome::Written(_) = ask(&mut world, 0, put("key", op(1, 1))) else { panic!("a put is applied") };
    let joins = world.add_node();
    world.start(joins);
    until(&mut world, "the joiner has its copy", |world| has_sealed(world, joins));
    // Its word is on the way; who gets it seals, but slowly: its own seal is long in getting to its disk.
    world.nodes[0].stalled_until = world.now + 3 * SECOND;
    world.ask_to_leave(joins);
    world.admin(joins, AdminAction::Leave);
    // `Watch::on_changes` sees a configuration that names a member which had left.
    settle(&mut world);
    assert!(world.nodes[joins].removed, "it has left in the end");
}

#[test]
fn a_seal_needs_the_records_of_a_majority_only() {
    let mut world = ring(4, 1);
    assert_eq!(leader(&world, ShardId(0)), 0);
    let before = epoch(&world, 0);
    let joins = world.add_node();
    world.start(joins);
    until(&mut world, "the joiner has its copy", |world| has_sealed(world, joins));
    // Its word is lost, and asked for again later. Each of the others misses one of two writes.
    world.cut([(joins, 0)].into(), 300 * MS);
    for (other, key) in [(1, "one"), (2, "two")] {
        let token = world.ask_for(0, put(key, op(1, other as u64)));
        world.break_session(0, other);
        until(&mut world, "a put is applied", |world| world.nodes[0].said.contains_key(&token));
    }
    // One of them answers nothing more after it has sealed; the other's seal gets to its disk only then.
    world.nodes[2].stalled_until = world.now + 2 * SECOND;
    until(&mut world, "one has sealed", |world| has_sealed(world, 1));
    world.cut([(0, 1)].into(), 10 * SECOND);
    until(&mut world, "both have sealed", |world| has_sealed(world, 2));
    world.nodes[2].stalled_until = world.now + 10 * MS;
    run(&mut world, 20 * MS);
    world.kill(1, true);
    run(&mut world, 5 * SECOND);
    assert_eq!(epoch(&world, 0), before + 1, "{}", describe(&world));
    world.start(1);
    settle(&mut world);
}

#[test]
fn a_late_first_attempt_changes_nothing_once_its_retry_was_answered() {
    let mut world = ring(3, 1);
    let key = Bytes::from_static(b"key");
    let delete = |op| Operation::Delete { key: key.clone(), op };
    assert!(matches!(ask(&mut world, 0, put("key", op(1, 1))), Outcome::Written(_)));
    assert_eq!(ask(&mut world, 0, delete(op(1, 2))), Outcome::Deleted(true));
    // Another client's first attempt is still on its way when its retry is told that there is nothing to delete.
    let retry = Retryable { retry: true, age: Nanos::from_millis(500), ..op(2, 1) };
    assert_eq!(ask(&mut world, 0, delete(retry)), Outcome::Deleted(false));
    assert!(matches!(ask(&mut world, 0, put("key", op(1, 3))), Outcome::Written(_)));
    assert_eq!(ask(&mut world, 0, delete(op(2, 1))), Outcome::Deleted(false));
    let read = ask(&mut world, 0, Operation::Get { key: key.clone(), stale_ok: false });
    assert!(matches!(read, Outcome::Value(Some(_))), "{read:?}");
}
