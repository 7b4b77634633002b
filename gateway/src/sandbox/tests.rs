use super::{world::NODES_MAX, *};

/// Simulated time of these tests passes as fast as it can.
fn passes(sandbox: &mut Sandbox, seconds: u64) {
    let until = sandbox.world.now + seconds * 1_000_000_000;
    assert_eq!(sandbox.world.advance(until, Duration::from_secs(600), |_| false), Ok(true));
}

fn until(sandbox: &mut Sandbox, what: &str, is_so: impl Fn(&Sandbox) -> bool) {
    for _ in 0..300 {
        if is_so(sandbox) {
            return;
        }
        passes(sandbox, 1);
    }
    panic!("not within 300 simulated seconds: {what}\n{:#?}", sandbox.frame(Duration::ZERO));
}

fn at_rest(nodes: usize) -> Sandbox {
    let mut sandbox = Sandbox::new(nodes);
    until(&mut sandbox, "the ring has found together", |it| it.world.is_at_rest());
    sandbox.world.settling = false;
    sandbox
}

fn answers(sandbox: &mut Sandbox) -> Vec<String> {
    let log = sandbox.world.take_log();
    log.into_iter().filter(|entry| entry.title == "answer").map(|entry| entry.text).collect()
}

#[test]
fn a_ring_finds_together_and_keeps_keys_through_join_failure_and_leave() {
    let mut sandbox = at_rest(5);
    sandbox.command(Command::Fill { keys: 20 });
    until(&mut sandbox, "20 keys are led", |it| {
        it.world.nodes.iter().filter_map(|node| node.core.as_ref()).map(|core| core.status().keys_led).sum::<u64>()
            == 20
    });
    sandbox.command(Command::Add {});
    until(&mut sandbox, "the sixth serves", |it| it.world.nodes.len() == 6 && it.world.is_at_rest());
    sandbox.command(Command::Fail { node: 1 });
    until(&mut sandbox, "the five that are left are a ring", |it| it.world.is_ideal());
    sandbox.command(Command::Revive { node: 1 });
    until(&mut sandbox, "all six are at rest", |it| it.world.is_at_rest());
    sandbox.command(Command::Leave { node: 2 });
    until(&mut sandbox, "it is gone", |it| it.world.nodes[2].left && it.world.is_at_rest());
    answers(&mut sandbox);
    for number in 1..=20 {
        sandbox.command(Command::Get { key: format!("key-{number}") });
    }
    passes(&mut sandbox, 10);
    let mut found = answers(&mut sandbox);
    found.sort();
    let mut expected: Vec<String> = (1..=20).map(|number| format!("get “key-{number}”: “value {number}”")).collect();
    expected.sort();
    assert_eq!(found, expected);
}

#[test]
fn the_minority_of_a_partition_serves_nothing_and_the_ring_closes_when_it_heals() {
    let mut sandbox = at_rest(5);
    sandbox.command(Command::Put { key: "colour".into(), value: "green".into() });
    passes(&mut sandbox, 5);
    assert_eq!(answers(&mut sandbox), ["put “colour”: acknowledged by most replicas"]);
    sandbox.command(Command::Cut { nodes: vec![0, 1] });
    passes(&mut sandbox, 30);
    assert!(!sandbox.world.is_ideal(), "two sides are no ring");
    let led = |node: &usize| sandbox.world.nodes[*node].core.as_ref().map_or(0, |core| core.status().shards_led);
    let (few, most): (u32, u32) = ([0, 1].iter().map(led).sum(), [2, 3, 4].iter().map(led).sum());
    assert!(few > 0 && few < most, "each side leads what it has a majority of: {few}, {most}");
    assert_eq!(few + most, 64, "and gives up the rest");
    sandbox.command(Command::Heal {});
    until(&mut sandbox, "one ring again", |it| it.world.is_at_rest());
    sandbox.command(Command::Get { key: "colour".into() });
    passes(&mut sandbox, 10);
    assert_eq!(answers(&mut sandbox), ["get “colour”: “green”"]);
}

#[test]
fn a_step_ends_with_something_explained() {
    let mut sandbox = at_rest(3);
    for _ in 0..5 {
        sandbox.command(Command::Step {});
        while sandbox.stepping {
            sandbox.pass(Duration::ZERO, Duration::from_secs(60)).expect("a small world");
        }
        assert!(sandbox.world.has_log(), "{:?}", sandbox.frame(Duration::ZERO));
        let frame = sandbox.frame(Duration::ZERO);
        assert!(frame.speed == 0.0 && frame.log.iter().all(|entry| !entry.text.is_empty()));
    }
    let before = sandbox.world.now;
    assert_eq!(sandbox.pass(Duration::from_secs(1), Duration::from_secs(1)), Ok(false));
    assert_eq!(sandbox.world.now, before, "time stands between two steps");
}

#[test]
fn what_would_cost_too_much_or_makes_no_sense_is_refused_with_a_reason() {
    let mut sandbox = at_rest(2);
    let long = "k".repeat(KEY_BYTES_MAX + 1);
    for (command, reason) in [
        (Command::Put { key: long.clone(), value: String::new() }, "1 to 64 bytes"),
        (Command::Put { key: "k".into(), value: "v".repeat(VALUE_BYTES_MAX + 1) }, "0 to 256 bytes"),
        (Command::Get { key: String::new() }, "1 to 64 bytes"),
        (Command::Lookup { node: 0, key: long }, "1 to 64 bytes"),
        (Command::Fail { node: 99 }, "there is no node 99"),
        (Command::Leave { node: usize::MAX }, "there is no node"),
        (Command::Revive { node: 0 }, "runs"),
        (Command::Speed { factor: f64::NAN }, "0 to 8"),
    ] {
        sandbox.command(command.clone());
        let log = sandbox.world.take_log();
        let refused =
            log.iter().find(|entry| entry.title == "refused").unwrap_or_else(|| panic!("{command:?}: {log:?}"));
        assert!(refused.text.contains(reason), "{command:?}: {}", refused.text);
    }
    sandbox.keys = KEYS_MAX;
    sandbox.command(Command::Fill { keys: usize::MAX });
    assert!(sandbox.world.take_log()[0].text.contains("at most 1000 keys"));
    for _ in 0..NODES_MAX {
        sandbox.command(Command::Add {});
    }
    assert_eq!(sandbox.world.nodes.len(), NODES_MAX);
    assert_eq!(Sandbox::new(usize::MAX).world.nodes.len(), NODES_MAX);
}

#[test]
fn a_slice_of_work_is_short_however_much_there_is_to_do() {
    let mut sandbox = Sandbox::new(NODES_MAX);
    let mut before = 0;
    for _ in 0..100 {
        assert_eq!(sandbox.world.advance(u64::MAX / 2, Duration::ZERO, |_| false), Ok(false), "it is not done yet");
        assert!(sandbox.world.now >= before && sandbox.world.now < 60_000_000_000, "{}", sandbox.world.now);
        before = sandbox.world.now;
    }
}
