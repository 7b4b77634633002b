//! The documents as committed for the dashboard: Rust, examples and TypeScript say the same.
//!
//! `CHORD_UPDATE=1 cargo test -p chord-gateway --test contract` writes the examples anew.
use chord::id::Id;
use chord_gateway::schema::*;
use serde::Serialize;
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

fn id(ordinal: u32) -> HexId {
    HexId(Id::of_ordinal(ordinal))
}
fn name(ordinal: u32) -> NodeName {
    NodeName { id: id(ordinal), name: format!("demo-node-{ordinal}") }
}
fn count(value: u64) -> Count {
    Count(value)
}

fn node(ordinal: u32, predecessor: u32, successor: u32, owned_share: f64) -> Node {
    Node {
        id: id(ordinal),
        name: format!("demo-node-{ordinal}"),
        state: State::Serving,
        reachable: true,
        stale_since: None,
        incarnation: count(1),
        zone: "north".into(),
        client_addr: format!("demo-node-{ordinal}.demo-nodes.default.svc:7401"),
        predecessor: Some(id(predecessor)),
        successors: vec![id(successor), id(predecessor), id(ordinal)],
        owned_share,
        stats: Some(NodeStats {
            keys_leader: count(33_333),
            keys_replica: count(100_000),
            bytes: count(104_400_000),
            shards_leader: count(85),
            shards_replica: count(256),
            shards_under_replicated: count(0),
            shards_moving: count(0),
            gets: count(70_000),
            puts: count(40_000),
            deletes: count(500),
            ops_per_second: 1250.5,
            latency_p50_us: Some(count(240)),
            latency_p99_us: Some(count(1900)),
            lookups: count(200),
            lookup_hops_mean: Some(1.5),
            stabilize_rounds: count(400),
            keys_sent: count(12),
            keys_received: count(34),
        }),
        version: Some("0.1.0".into()),
        uptime_ms: Some(count(1_200_000)),
    }
}

fn ring() -> Ring {
    let mut silent = node(1, 2, 0, 0.25);
    (silent.stale_since, silent.reachable) = (Some(1_795_000_000_000), false);
    let unknown = Node {
        state: State::Joining,
        stale_since: Some(1_795_000_100_000),
        predecessor: None,
        successors: Vec::new(),
        owned_share: 0.0,
        stats: None,
        version: None,
        uptime_ms: None,
        ..node(3, 1, 0, 0.0)
    };
    Ring {
        ring_id: Some("00112233445566778899aabbccddeeff".into()),
        name: "demo".into(),
        namespace: "default".into(),
        sequence: count(41),
        stream: "0123456789abcdef".into(),
        shards: count(256),
        replication_factor: count(3),
        generated_at: 1_795_000_123_456,
        converged: false,
        nodes: vec![node(0, 1, 2, 0.5), node(2, 0, 1, 0.25), silent, unknown],
        stats: stats(),
        operator: Some(operator()),
    }
}

fn operator() -> OperatorStatus {
    let condition = |kind: &str, status: &str, reason: &str, message: &str| Condition {
        kind: kind.into(),
        status: status.into(),
        reason: reason.into(),
        message: message.into(),
        since: 1_795_000_090_000,
    };
    let joining = "shards are on their way to member 3";
    OperatorStatus {
        at: 1_795_000_123_000,
        wanted: count(5),
        members: count(4),
        serving: count(3),
        operation: Some(Operation { kind: "Join".into(), member: "demo-node-3".into(), progress: joining.into() }),
        conditions: vec![
            condition("Available", "True", "AsExpected", "every key can be read and written"),
            condition("Progressing", "True", "MemberJoining", joining),
            condition("Ready", "False", "MemberJoining", joining),
        ],
    }
}

fn stats() -> RingStats {
    RingStats {
        nodes: count(4),
        serving: count(3),
        reachable: count(3),
        stale: count(2),
        keys: count(99_999),
        bytes: count(313_200_000),
        load_max_mean: Some(1.0),
        shards_under_replicated: count(3),
        shards_moving: count(7),
        gets: count(210_000),
        puts: count(120_000),
        deletes: count(1500),
        ops_per_second: 2501.0,
        latency_p50_us_max: Some(count(240)),
        latency_p99_us_max: Some(count(1900)),
        lookups: count(600),
        lookup_hops_mean: Some(1.5),
        stabilize_rounds: count(1200),
        keys_sent: count(36),
        keys_received: count(102),
        converged: false,
        not_converged_because: Some("nothing is heard from demo-node-1".into()),
    }
}

fn events() -> Vec<RingEvent> {
    let join = RingEvent {
        number: count(7),
        at: 1_795_000_100_000,
        kind: "join".into(),
        reporter: Some(name(0)),
        subject: Some(name(3)),
        shard: None,
        message: "demo-node-3 is Joining".into(),
    };
    let lead = RingEvent { number: count(8), kind: "lead".into(), shard: Some(count(17)), ..join.clone() };
    let message = "nothing is heard from demo-node-1 any more: it does not answer".into();
    let stale = RingEvent { number: count(9), kind: "stale".into(), reporter: None, message, ..join.clone() };
    vec![join, lead, stale]
}

fn fingers() -> FingerTable {
    let start = |index| HexId(id(0).0.plus_power_of_two(index));
    let finger = |index: u32| {
        let target = match index {
            0..=157 => Some(name(2)),
            158 => None,
            _ => Some(name(1)),
        };
        Finger { index: index.into(), start: start(index), target }
    };
    let fold = |first: u32, last: u32, until, target| FoldedFinger {
        first: first.into(),
        last: last.into(),
        from: start(first),
        until,
        target,
    };
    let folded = vec![
        fold(0, 157, start(158), Some(name(2))),
        fold(158, 158, start(159), None),
        fold(159, 159, id(0), Some(name(1))),
    ];
    FingerTable { node: name(0), fingers: (0..160).map(finger).collect(), folded }
}

fn lookup() -> Lookup {
    let target = HexId(Id::of_key(b"hello"));
    let hop = |node, via: &str, elapsed_us, after, up_to, share| Hop {
        node,
        via: via.into(),
        elapsed_us: count(elapsed_us),
        interval: Interval { after, up_to, share },
    };
    Lookup {
        key: Some("hello".into()),
        target,
        from: name(1),
        hops: vec![
            hop(name(1), "start", 0, id(1), target, 0.675),
            hop(name(0), "finger 159", 412, id(0), target, 0.175),
            hop(name(2), "owner", 901, id(0), id(2), 0.25),
        ],
        elapsed_us: count(901),
        owner: name(2),
        shard: count(44),
        leader: Some(name(2)),
        replicas: vec![name(2), name(1), name(0)],
    }
}

/// Every document with the name of its example.
fn documents() -> BTreeMap<&'static str, Value> {
    fn json(document: &impl Serialize) -> Value {
        serde_json::to_value(document).expect("our documents serialize")
    }
    let (ring, events) = (ring(), events());
    let list = EventList { stream: ring.stream.clone(), oldest: count(7), newest: count(9), events: events.clone() };
    let delta = ServerMessage::Delta {
        sequence: count(42),
        generated_at: ring.generated_at + 500,
        converged: ring.converged,
        nodes: &ring.nodes[..1],
        removed: &[id(3)],
        stats: &ring.stats,
        operator: ring.operator.as_ref(),
        events: &events,
    };
    let problem = Problem {
        kind: "about:blank",
        title: "Bad Request",
        status: 400,
        detail: "`id` must be 40 hexadecimal digits".into(),
    };
    BTreeMap::from([
        ("ring", json(&ring)),
        ("nodes", json(&NodeList { nodes: ring.nodes.clone() })),
        ("node", json(&ring.nodes[0])),
        ("fingers", json(&fingers())),
        ("lookup", json(&lookup())),
        ("stats", json(&ring.stats)),
        ("events", json(&list)),
        ("snapshot", json(&ServerMessage::Snapshot { sequence: ring.sequence, ring: &ring })),
        ("delta", json(&delta)),
        ("problem", json(&problem)),
        ("openapi", json(&chord_gateway::api::openapi::describe("/"))),
    ])
}

#[test]
fn the_committed_examples_are_what_the_gateway_serializes() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    for (name, document) in documents() {
        let path = directory.join(format!("{name}.json"));
        let text = format!("{document:#}\n");
        if std::env::var_os("CHORD_UPDATE").is_some() {
            fs::write(&path, &text).expect("testdata can be written");
        }
        let committed = fs::read(&path).ok().and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
        assert!(
            committed.as_ref() == Some(&document),
            "{} is out of date; run with CHORD_UPDATE=1 and look at the diff",
            path.display()
        );
    }
}

/// Fields of each `export interface` of schema.ts, inherited ones included.
fn interfaces(typescript: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut open: Option<String> = None;
    for line in typescript.lines() {
        if let Some(head) = line.strip_prefix("export interface ") {
            let words: Vec<&str> = head.trim_end_matches('{').split_whitespace().collect();
            let inherited = match words[..] {
                [_, "extends", parent] => found[parent].clone(),
                _ => BTreeSet::new(),
            };
            found.insert(words[0].to_owned(), inherited);
            open = Some(words[0].to_owned());
        } else if line == "}" {
            open = None;
        } else if let (Some(name), Some((field, _))) = (&open, line.trim().split_once(": "))
            && let field = field.trim_end_matches('?')
            && field.bytes().all(|byte| byte.is_ascii_alphanumeric())
        {
            found.get_mut(name).expect("it is open").insert(field.to_owned());
        }
    }
    found
}

fn keys(value: &Value) -> BTreeSet<String> {
    value.as_object().unwrap_or_else(|| panic!("{value} is an object")).keys().cloned().collect()
}

#[test]
fn the_typescript_types_have_the_fields_of_the_documents() {
    let typescript = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("dashboard/src/api/schema.ts"));
    let interfaces = interfaces(&typescript.expect("schema.ts is there"));
    let documents = documents();
    let at = |document: &str, pointer: &str| documents[document].pointer(pointer).cloned().expect(pointer);
    for (interface, value) in [
        ("Ring", at("ring", "")),
        ("RingStats", at("stats", "")),
        ("OperatorStatus", at("ring", "/operator")),
        ("Operation", at("ring", "/operator/operation")),
        ("Condition", at("ring", "/operator/conditions/0")),
        ("NodeList", at("nodes", "")),
        ("Node", at("node", "")),
        ("NodeStats", at("node", "/stats")),
        ("NodeName", at("fingers", "/node")),
        ("FingerTable", at("fingers", "")),
        ("Finger", at("fingers", "/fingers/0")),
        ("FoldedFinger", at("fingers", "/folded/0")),
        ("Lookup", at("lookup", "")),
        ("Hop", at("lookup", "/hops/0")),
        ("Interval", at("lookup", "/hops/0/interval")),
        ("EventList", at("events", "")),
        ("RingEvent", at("events", "/events/0")),
        ("Snapshot", at("snapshot", "")),
        ("Delta", at("delta", "")),
        ("Problem", at("problem", "")),
    ] {
        assert_eq!(interfaces[interface], keys(&value), "fields of {interface}");
    }
    let resume = serde_json::json!({ "type": "resume", "stream": "s", "sequence": 1 });
    assert_eq!(interfaces["Resume"], keys(&resume));
    assert!(serde_json::from_value::<ClientMessage>(resume).is_ok());
}

/// Every `$ref` below a value.
fn references(value: &Value) -> Vec<String> {
    match value {
        Value::Object(fields) => {
            let own = fields.get("$ref").and_then(Value::as_str).map(str::to_owned);
            own.into_iter().chain(fields.values().flat_map(references)).collect()
        }
        Value::Array(items) => items.iter().flat_map(references).collect(),
        _ => Vec::new(),
    }
}

#[test]
fn everything_the_description_refers_to_is_in_it() {
    let document = documents().remove("openapi").expect("a description");
    let references = references(&document);
    assert!(references.len() > 10, "{references:?}");
    for reference in references {
        let pointer = reference.strip_prefix('#').expect("a place in the same document");
        assert!(document.pointer(pointer).is_some(), "{reference} is nowhere");
    }
}

#[test]
fn numbers_fit_what_a_browser_holds_exactly() {
    assert_eq!(serde_json::to_string(&Count(u64::MAX)).expect("a number"), "9007199254740991");
    assert_eq!(serde_json::to_string(&Count(1 << 52)).expect("a number"), "4503599627370496");
}
