//! REST and what guards it, over real connections.
mod common;

use chord_gateway::ws::Timing;
use chord_proto::v1::MemberState;
use common::{LONG, Reply, find, gateway, raw, request, ring_and_gateway};
use serde_json::Value;
use std::time::{Duration, Instant};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// It is a problem document that says something.
fn assert_problem(reply: &Reply, status: u16, needle: &str, what: &str) {
    assert_eq!(reply.status, status, "{what}: {reply:?}");
    assert_eq!(reply.headers["content-type"], "application/problem+json", "{what}");
    let problem = reply.json();
    assert_eq!(problem["status"], status, "{what}");
    assert!(problem["detail"].as_str().is_some_and(|text| text.contains(needle)), "{what}: {problem}");
}

#[tokio::test]
async fn every_document_is_there_and_agrees_with_the_others() -> anyhow::Result<()> {
    let (_ring, gateway) = ring_and_gateway(5, &[]).await?;
    let ring = gateway.ring().await?;
    assert_eq!((ring["name"].as_str(), ring["nodes"].as_array().map(Vec::len)), (Some("demo"), Some(5)));
    let shares: f64 = ring["nodes"].as_array().into_iter().flatten().filter_map(|it| it["ownedShare"].as_f64()).sum();
    assert!((shares - 1.0).abs() < 1e-9, "{shares}");
    assert_eq!(gateway.get("/api/v1/stats").await?.json(), ring["stats"]);
    assert_eq!(gateway.get("/api/v1/ring/nodes").await?.json()["nodes"].as_array().map(Vec::len), Some(5));
    let (node, id) = (&ring["nodes"][2], ring["nodes"][2]["id"].as_str().unwrap_or_default());
    assert_eq!(gateway.get(&format!("/api/v1/ring/nodes/{id}")).await?.json()["name"], node["name"]);

    let fingers = gateway.get(&format!("/api/v1/ring/nodes/{id}/fingers")).await?.json();
    assert_eq!(fingers["fingers"].as_array().map(Vec::len), Some(160));
    assert_eq!(fingers["folded"][0]["target"]["id"], node["successors"][0]);

    let lookup = gateway.get(&format!("/api/v1/lookup?key=hello&from={id}")).await?.json();
    let hops = lookup["hops"].as_array().expect("hops");
    assert_eq!((&hops[0]["node"]["id"], &lookup["from"]["id"]), (&node["id"], &node["id"]));
    assert_eq!(hops.last().map(|hop| &hop["node"]), Some(&lookup["owner"]));
    assert_eq!(lookup["target"], chord::id::Id::of_key(b"hello").to_string());
    let sought: Vec<f64> = hops[..hops.len() - 1].iter().filter_map(|hop| hop["interval"]["share"].as_f64()).collect();
    assert!(sought.is_sorted_by(|wide, narrow| wide > narrow), "the interval shrinks: {sought:?}");
    let target = lookup["target"].as_str().unwrap_or_default();
    let by_id = gateway.get(&format!("/api/v1/lookup?id={target}")).await?.json();
    assert_eq!((&by_id["owner"], &by_id["key"]), (&lookup["owner"], &Value::Null));

    let openapi = gateway.get("/api/v1/openapi.json").await?.json();
    assert!(openapi["paths"]["/lookup"]["get"].is_object(), "{openapi}");
    let head = gateway.request("HEAD", "/api/v1/ring", &[]).await?;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    Ok(())
}

#[tokio::test]
async fn joins_leaves_and_deaths_are_seen_and_the_dead_hold_up_nobody() -> anyhow::Result<()> {
    let (ring, gateway) = ring_and_gateway(3, &[]).await?;
    let newcomer = ring.join(MemberState::Joining)?;
    gateway.until("joining", |seen| find(seen, &newcomer).is_some_and(|it| it["state"] == "Joining")).await?;
    ring.set_state(&newcomer, MemberState::Serving);
    gateway.until("serving", |seen| seen["stats"]["serving"] == 4 && seen["converged"] == true).await?;

    ring.kill("demo-node-1");
    let seen = gateway
        .until("stale", |seen| {
            find(seen, "demo-node-1").is_some_and(|it| it["staleSince"].is_u64() && it["reachable"] == false)
        })
        .await?;
    assert!(find(&seen, "demo-node-1").is_some_and(|it| it["stats"]["gets"].is_u64()), "its last word stays");
    let id = find(&seen, "demo-node-1").and_then(|it| it["id"].as_str()).unwrap_or_default().to_owned();
    let begun = Instant::now();
    let dead = gateway.get(&format!("/api/v1/lookup?key=k&from={id}")).await?;
    assert_problem(&dead, 502, "choose another node", "a lookup from a dead member");
    assert_eq!(gateway.get("/api/v1/lookup?key=k").await?.status, 200);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());

    ring.revive("demo-node-1").await?;
    gateway.until("fresh", |seen| find(seen, "demo-node-1").is_some_and(|it| it["staleSince"].is_null())).await?;
    ring.set_state(&newcomer, MemberState::Leaving);
    gateway.until("leaving", |seen| find(seen, &newcomer).is_some_and(|it| it["state"] == "Leaving")).await?;
    ring.set_state(&newcomer, MemberState::Left);
    gateway.until("gone", |seen| find(seen, &newcomer).is_none()).await?;

    let events = gateway.get("/api/v1/events").await?.json();
    let list = events["events"].as_array().cloned().unwrap_or_default();
    let numbers: Vec<u64> = list.iter().filter_map(|event| event["number"].as_u64()).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>(), "numbered without gaps");
    for kind in ["join", "suspect", "stale", "alive", "fresh", "leave"] {
        assert!(list.iter().any(|event| event["kind"] == kind), "{kind} in {events:#}");
    }
    let later = gateway.get(&format!("/api/v1/events?since={}", numbers.len() - 1)).await?.json();
    assert_eq!(later["events"].as_array().map(Vec::len), Some(1));
    Ok(())
}

#[tokio::test]
async fn a_member_that_hangs_is_marked_and_asking_it_ends_in_time() -> anyhow::Result<()> {
    let (ring, gateway) = ring_and_gateway(3, &[]).await?;
    let seen = gateway.ring().await?;
    let id = find(&seen, "demo-node-2").and_then(|it| it["id"].as_str()).unwrap_or_default().to_owned();
    ring.with(|world| world.by_name("demo-node-2").is_hung = true);
    let asking = gateway.get(&format!("/api/v1/ring/nodes/{id}/fingers")).await?;
    assert_problem(&asking, 504, "did not answer in time", "fingers of a hung member");
    ring.with(|world| world.by_name("demo-node-2").is_hung = false);
    assert_eq!(gateway.get(&format!("/api/v1/ring/nodes/{id}/fingers")).await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn before_a_ring_is_seen_it_is_not_ready_and_after_it_stays_ready() -> anyhow::Result<()> {
    // A port that refuses, until the ring is there.
    let ring = common::fake::FakeRing::start(1, Duration::from_millis(50), None)?;
    let name = "demo-node-0";
    ring.kill(name);
    let gateway = gateway(&ring.address(name), &[], Timing::default()).await?;
    let ready = || request(gateway.probes, "GET", "/readyz", &[]);
    assert_eq!(ready().await?.status, 503);
    assert_eq!(request(gateway.probes, "GET", "/livez", &[]).await?.status, 200);
    let empty = gateway.ring().await?;
    assert_eq!((&empty["ringId"], empty["nodes"].as_array().map(Vec::len)), (&Value::Null, Some(0)));
    assert_problem(&gateway.get("/api/v1/lookup?key=k").await?, 503, "no member", "a lookup without a ring");

    ring.revive(name).await?;
    gateway
        .until("seen", |seen| seen["stats"]["stale"] == 0 && seen["nodes"].as_array().is_some_and(|it| it.len() == 1))
        .await?;
    assert_eq!(ready().await?.status, 200);
    ring.kill(name);
    gateway.until("stale", |seen| seen["stats"]["stale"] == 1).await?;
    assert_eq!(ready().await?.status, 200, "old data is better than none");
    let metrics = request(gateway.probes, "GET", "/metrics", &[]).await?.body;
    assert!(metrics.contains("chord_gateway_requests_total"), "{metrics}");
    Ok(())
}

#[tokio::test]
async fn nothing_but_get_and_head_is_answered() -> anyhow::Result<()> {
    let (_ring, gateway) = ring_and_gateway(1, &[]).await?;
    for method in ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "BREW"] {
        for path in ["/", "/api/v1/ring", "/api/v1/ws", "/api/v1/lookup?key=k", "/nothing"] {
            // CONNECT names an authority in place of a path.
            let path = if method == "CONNECT" { "example.com:80" } else { path };
            let reply = gateway.request(method, path, &[]).await?;
            assert_problem(&reply, 405, "use GET or HEAD", &format!("{method} {path}"));
            assert_eq!(reply.headers["allow"], "GET, HEAD");
        }
    }
    Ok(())
}

#[tokio::test]
async fn malformed_and_oversized_requests_are_refused_with_what_to_do() -> anyhow::Result<()> {
    let (_ring, gateway) = ring_and_gateway(2, &[]).await?;
    let (long_key, stranger) = ("k".repeat(1025), "ab".repeat(20));
    let key_at_bound = "%41".repeat(1024);
    assert_eq!(gateway.get(&format!("/api/v1/lookup?key={key_at_bound}")).await?.status, 200);
    for (path, status, needle) in [
        ("/api/v1/nothing", 404, "openapi.json"),
        ("/api/v2/ring", 404, "openapi.json"),
        ("/api/v1/keys/k", 404, "openapi.json"),
        ("/assets/nothing.js", 404, "no such file"),
        ("/api/v1/ring?verbose=1", 400, "`verbose`"),
        ("/api/v1/ring/nodes?x", 400, "`x`"),
        ("/api/v1/stats?x=1", 400, "`x`"),
        ("/api/v1/ring/nodes/12", 400, "40 hexadecimal digits"),
        (&format!("/api/v1/ring/nodes/{}", "zz".repeat(20)) as &str, 400, "40 hexadecimal digits"),
        (&format!("/api/v1/ring/nodes/{stranger}"), 404, "no member"),
        (&format!("/api/v1/ring/nodes/{stranger}/fingers"), 404, "no member"),
        (&format!("/api/v1/lookup?key=k&from={stranger}"), 404, "no member"),
        ("/api/v1/lookup?key=k&from=1", 400, "`from`"),
        ("/api/v1/lookup", 400, "exactly one of"),
        ("/api/v1/lookup?key=", 400, "1 to 1024"),
        (&format!("/api/v1/lookup?key={long_key}"), 400, "1025 bytes"),
        ("/api/v1/lookup?key=%ff", 400, "not UTF-8"),
        ("/api/v1/lookup?keyBase64=*", 400, "base64"),
        ("/api/v1/lookup?id=12", 400, "40 hexadecimal digits"),
        ("/api/v1/lookup?key=k&value=1", 400, "`value`"),
        ("/api/v1/events?since=-1", 400, "whole number"),
        ("/api/v1/ws?sequence=x", 400, "whole number"),
        ("/api/v1/ws", 426, "WebSocket"),
        (&format!("/api/v1/lookup?key={}", "k".repeat(5000)), 414, "4096"),
    ] {
        let what = path.get(..path.len().min(80)).unwrap_or(path);
        assert_problem(&gateway.get(path).await?, status, needle, what);
    }
    for header in ["Content-Length: 5", "Transfer-Encoding: chunked"] {
        let reply = gateway.get_with("/api/v1/ring", &[header]).await?;
        assert_problem(&reply, 413, "no body", header);
    }
    let big = format!("X-Big: {}", "x".repeat(20_000));
    assert_eq!(gateway.get_with("/api/v1/ring", &[&big]).await?.status, 431);
    let many: Vec<String> = (0..100).map(|n| format!("X-{n}: 1")).collect();
    assert_eq!(
        gateway.get_with("/api/v1/ring", &many.iter().map(String::as_str).collect::<Vec<_>>()).await?.status,
        431
    );
    assert_eq!(raw(gateway.address, "nonsense\r\n\r\n").await?.status, 400);
    Ok(())
}

#[tokio::test]
async fn a_visitor_that_asks_too_often_is_told_how_long_to_wait_and_others_are_not() -> anyhow::Result<()> {
    let flags = ["--requests-per-second=1", "--burst=5", "--trusted-hops=1"];
    let ring = common::fake::FakeRing::start(1, Duration::from_millis(50), None)?;
    let gateway = gateway(&ring.address("demo-node-0"), &flags, Timing::default()).await?;
    let ask = async |from: &str| gateway.get_with("/api/v1/stats", &[from]).await;
    for _ in 0..5 {
        assert_eq!(ask("X-Forwarded-For: 192.0.2.1").await?.status, 200);
    }
    let mut refused = 0;
    for _ in 0..5 {
        let reply = ask("X-Forwarded-For: 6.6.6.6, 192.0.2.1").await?;
        if reply.status != 200 {
            assert_problem(&reply, 429, "Retry-After", "too often");
            assert!(reply.headers["retry-after"].parse::<u64>().is_ok_and(|wait| wait >= 1), "{reply:?}");
            refused += 1;
        }
    }
    assert!(refused >= 3, "an invented entry makes no new visitor: {refused} of 5 refused");
    assert_eq!(ask("X-Forwarded-For: 192.0.2.2").await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn a_classroom_behind_one_address_can_open_the_page_and_a_flood_of_files_is_refused() -> anyhow::Result<()> {
    let ring = common::fake::FakeRing::start(1, Duration::from_millis(50), None)?;
    let flags = ["--requests-per-second=1", "--burst=5", "--base-path=/ring"];
    let gateway = gateway(&ring.address("demo-node-0"), &flags, Timing::default()).await?;
    for file in 0..60 {
        assert_eq!(gateway.get("/ring/").await?.status, 200, "file {file}");
    }
    assert_eq!(gateway.get("/ring/api/v1/stats").await?.status, 200, "files take nothing from answers");
    let mut refused = 0;
    for _ in 0..100 {
        refused += u32::from(gateway.get("/ring/").await?.status == 429);
    }
    assert!(refused > 0, "160 files at once, and none was refused");
    Ok(())
}

#[tokio::test]
async fn every_answer_has_the_headers_that_protect_its_reader() -> anyhow::Result<()> {
    let (_ring, gateway) = ring_and_gateway(1, &[]).await?;
    for path in ["/", "/api/v1/ring", "/api/v1/nothing", "/api/v1/lookup"] {
        let reply = gateway.get(path).await?;
        let policy = &reply.headers["content-security-policy"];
        assert!(policy.contains("default-src 'self'") && policy.contains("frame-ancestors 'none'"), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("referrer-policy", "no-referrer"),
            ("cross-origin-resource-policy", "same-origin"),
        ] {
            assert_eq!(reply.headers.get(name).map(String::as_str), Some(value), "{path}");
        }
        assert!(!reply.headers.contains_key("access-control-allow-origin"), "{path}");
    }
    let foreign = gateway.get_with("/api/v1/ring", &["Origin: https://evil.example"]).await?;
    assert!(!foreign.headers.keys().any(|name| name.starts_with("access-control")), "{foreign:?}");
    Ok(())
}

#[tokio::test]
async fn below_a_path_everything_is_there_and_nothing_elsewhere() -> anyhow::Result<()> {
    let (_ring, gateway) = ring_and_gateway(2, &["--base-path=/tools/ring"]).await?;
    assert_eq!(gateway.ring().await?["nodes"].as_array().map(Vec::len), Some(2));
    for path in ["/tools/ring", "/"] {
        let reply = gateway.get(path).await?;
        assert_eq!((reply.status, reply.headers["location"].as_str()), (308, "/tools/ring/"), "{path}");
    }
    for path in ["/tools/ring/", "/tools/ring/nodes/abc"] {
        let page = gateway.get(path).await?;
        assert!(page.status == 200 && page.body.contains("<base href=\"/tools/ring/\">"), "{page:?}");
    }
    assert_problem(&gateway.get("/api/v1/ring").await?, 404, "/tools/ring/", "outside");
    let openapi = gateway.get("/tools/ring/api/v1/openapi.json").await?.json();
    assert_eq!(openapi["servers"][0]["url"], "/tools/ring/api/v1");
    let (mut socket, ring) = (gateway.socket("", None).await?, gateway.ring().await?);
    assert_eq!(common::next(&mut socket).await?["ring"]["ringId"], ring["ringId"]);
    Ok(())
}

#[tokio::test]
async fn who_sends_a_head_byte_by_byte_is_let_go() -> anyhow::Result<()> {
    let (_ring, gateway) = ring_and_gateway(1, &[]).await?;
    let mut stream = TcpStream::connect(gateway.address).await?;
    stream.write_all(b"GET /api/v1/ring HTTP/1.1\r\nHost: x\r\n").await?;
    let (mut reading, mut writing) = stream.into_split();
    let trickle = tokio::spawn(async move {
        while writing.write_all(b"X-A: b\r\n").await.is_ok() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
    let mut answer = Vec::new();
    let ended = tokio::time::timeout(LONG, reading.read_to_end(&mut answer)).await;
    assert!(ended.is_ok(), "the connection is still open after {LONG:?}");
    trickle.abort();
    Ok(())
}
