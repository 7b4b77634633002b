//! `status`: what every member says of itself. An unreachable one is marked and never waited for long.
use crate::{
    cli::{Global, Output},
    connect,
    failure::{Failure, Result},
    print,
};
use chord::id::Id;
use chord_client::Client;
use chord_proto::v1::{
    DescribeRequest, DescribeResponse, Member, MemberState, NodeRef, NodeStats, StatusRequest, StatusResponse,
    admin_client::AdminClient, ring_view_client::RingViewClient,
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, time::Duration};

/// Longest wait for one member.
const PATIENCE: Duration = Duration::from_secs(3);

struct Row {
    node: NodeRef,
    /// As the members that answer see it.
    state: MemberState,
    description: Option<DescribeResponse>,
    status: Option<StatusResponse>,
    /// Why there is no description.
    trouble: String,
}

pub async fn run(global: &Global) -> Result {
    let client = connect::client(global).await?;
    let patience = PATIENCE.min(global.timeout);
    let mut rows = look(&client, client.members(), patience).await;
    // Members that the first answer did not know.
    let known: Vec<_> = rows.iter().map(|row| row.node.id.clone()).collect();
    let mut others: Vec<Member> =
        rows.iter().filter_map(|row| row.description.as_ref()).flat_map(|d| d.members.clone()).collect();
    others.retain(|member| member.node.as_ref().is_some_and(|node| !known.contains(&node.id)));
    others.sort_by(|a, b| a.node.as_ref().map(|n| &n.id).cmp(&b.node.as_ref().map(|n| &n.id)));
    others.dedup_by(|a, b| a.node.as_ref().map(|n| &n.id) == b.node.as_ref().map(|n| &n.id));
    rows.extend(look(&client, others, patience).await);
    rows.retain(|row| !matches!(row.state, MemberState::Left | MemberState::Evicted));
    rows.sort_by_key(|row| natural(&row.node.name));
    let (shards, ring_id) = client.ring();
    let summary = Summary::of(&rows);
    match global.output {
        Output::Json => print::json(&to_json(&rows, &summary, shards, &ring_id)),
        Output::Text => to_text(&rows, &summary, shards),
    }
    match summary.answering {
        0 => Err(Failure::unavailable("no member answers")),
        _ => Ok(()),
    }
}

async fn look(client: &Client, members: Vec<Member>, patience: Duration) -> Vec<Row> {
    let asked = members.into_iter().filter_map(|member| {
        let state = member.state();
        member.node.map(|node| ask(client, node, state, patience))
    });
    futures::future::join_all(asked).await
}

async fn ask(client: &Client, node: NodeRef, state: MemberState, patience: Duration) -> Row {
    let description = async {
        let mut view = RingViewClient::new(client.channel(&node.client_addr).map_err(|error| error.to_string())?);
        match tokio::time::timeout(patience, view.describe(DescribeRequest {})).await {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) => Err(status.message().to_owned()),
            Err(_) => Err(format!("no answer within {} s", patience.as_secs())),
        }
    };
    let status = async {
        let mut admin = AdminClient::new(client.channel(&node.internal_addr).ok()?);
        let asked = tokio::time::timeout(patience, admin.status(StatusRequest {})).await;
        Some(asked.ok()?.ok()?.into_inner())
    };
    let (description, status) = tokio::join!(description, status);
    let trouble = description.as_ref().err().cloned().unwrap_or_default();
    let description = description.ok();
    let state = description.as_ref().map_or(state, DescribeResponse::state);
    Row { node, state, description, status, trouble }
}

/// Figures over all members that answer.
#[derive(Default, Debug, PartialEq)]
struct Summary {
    members: usize,
    answering: usize,
    replication_factor: u32,
    keys: u64,
    led: u32,
    under_replicated: u32,
    pending: u32,
    unavailable: u32,
    balance_leader: f64,
    balance_replica: f64,
}

impl Summary {
    fn of(rows: &[Row]) -> Summary {
        let stats: Vec<NodeStats> = rows.iter().filter_map(|row| row.description.as_ref()?.stats).collect();
        let statuses: Vec<&StatusResponse> = rows.iter().filter_map(|row| row.status.as_ref()).collect();
        let factor = rows.iter().filter_map(|row| row.description.as_ref()).map(|d| d.replication_factor).max();
        Summary {
            members: rows.len(),
            answering: rows.iter().filter(|row| row.description.is_some()).count(),
            replication_factor: factor.unwrap_or(0),
            keys: stats.iter().map(|s| s.keys_leader).sum(),
            led: stats.iter().map(|s| s.shards_leader).sum(),
            under_replicated: stats.iter().map(|s| s.shards_under_replicated).sum(),
            // What a leader has not begun to move is only in its status.
            pending: match statuses.len() == stats.len() {
                true => statuses.iter().map(|s| s.shards_pending).sum(),
                false => stats.iter().map(|s| s.shards_moving).sum(),
            },
            unavailable: statuses.iter().map(|s| s.shards_unavailable).max().unwrap_or(0),
            balance_leader: balance(stats.iter().map(|s| s.keys_leader)),
            balance_replica: balance(stats.iter().map(|s| s.keys_replica)),
        }
    }
}

/// Largest over mean; 1 is even. 0 when there is nothing.
fn balance(counts: impl Iterator<Item = u64> + Clone) -> f64 {
    let (members, sum, max) = (counts.clone().count(), counts.clone().sum::<u64>(), counts.max().unwrap_or(0));
    if sum == 0 { 0.0 } else { max as f64 * members as f64 / sum as f64 }
}

/// Names in the order of their numbers.
fn natural(name: &str) -> (String, u64, String) {
    let digits = name.len() - name.bytes().rev().take_while(u8::is_ascii_digit).count();
    (name[..digits].to_owned(), name[digits..].parse().unwrap_or(0), name.to_owned())
}

fn state_name(state: MemberState) -> String {
    state.as_str_name().trim_start_matches("MEMBER_STATE_").to_lowercase()
}

fn to_text(rows: &[Row], summary: &Summary, shards: u32) {
    let cells = |row: &Row| {
        let stats = row.description.as_ref().and_then(|d| d.stats);
        let number =
            |of: fn(&NodeStats) -> u64| stats.as_ref().map_or_else(|| "-".into(), |stats| of(stats).to_string());
        let state = if row.description.is_some() {
            state_name(row.state)
        } else {
            format!("unreachable ({})", state_name(row.state))
        };
        vec![
            row.node.name.clone(),
            state,
            number(|s| s.keys_leader),
            number(|s| s.keys_replica),
            number(|s| s.bytes / 1024),
            number(|s| u64::from(s.shards_leader)),
            number(|s| u64::from(s.shards_replica)),
            number(|s| s.ops_per_second_milli / 1000),
            number(|s| s.latency_p99_us),
            row.node.client_addr.clone(),
        ]
    };
    let headings = [
        "MEMBER",
        "STATE",
        "KEYS LED",
        "KEYS HELD",
        "KIB HELD",
        "SHARDS LED",
        "SHARDS HELD",
        "OPS/S",
        "P99 US",
        "ADDRESS",
    ];
    print::line(print::table(&headings, &rows.iter().map(cells).collect::<Vec<_>>()).trim_end());
    print::line("");
    print::line(&format!("{} of {} members answer; {} keys", summary.answering, summary.members, summary.keys));
    print::line(&format!(
        "balance, largest/mean: {:.2} of keys led, {:.2} of keys held",
        summary.balance_leader, summary.balance_replica
    ));
    print::line(&format!(
        "shards: {shards}, led {}, under-replicated {}, pending {}, without a leader {} (replication factor {})",
        summary.led, summary.under_replicated, summary.pending, summary.unavailable, summary.replication_factor
    ));
    for row in rows.iter().filter(|row| row.description.is_none()) {
        print::line(&format!("{} is unreachable: {}", row.node.name, row.trouble));
    }
    for (row, blocked) in rows.iter().filter_map(|row| Some((row, &row.status.as_ref()?.leave_blocked))) {
        if !blocked.is_empty() {
            print::line(&format!("{} cannot leave: {blocked}", row.node.name));
        }
    }
}

fn to_json(rows: &[Row], summary: &Summary, shards: u32, ring_id: &[u8]) -> Value {
    let member = |row: &Row| {
        let stats = row.description.as_ref().and_then(|d| d.stats).unwrap_or_default();
        let description = row.description.as_ref();
        let admin = row.status.as_ref().map(|s| {
            json!({"shards_pending": s.shards_pending, "shards_unavailable": s.shards_unavailable,
                   "shards_retiring": s.shards_retiring, "disk_free_bytes": s.disk_free_bytes,
                   "disk_total_bytes": s.disk_total_bytes, "leave_blocked": s.leave_blocked})
        });
        let answers = json!({
            "keys_leader": stats.keys_leader, "keys_replica": stats.keys_replica, "bytes": stats.bytes,
            "shards_leader": stats.shards_leader, "shards_replica": stats.shards_replica,
            "shards_under_replicated": stats.shards_under_replicated, "shards_moving": stats.shards_moving,
            "ops_per_second": stats.ops_per_second_milli as f64 / 1000.0,
            "latency_p50_us": stats.latency_p50_us, "latency_p99_us": stats.latency_p99_us,
            "uptime_ms": description.map(|d| d.uptime_ms), "version": description.map(|d| &d.version),
        });
        json!({
            "name": row.node.name, "id": Id::from_slice(&row.node.id).map(|id| id.to_string()),
            "state": state_name(row.state), "reachable": description.is_some(), "zone": row.node.zone,
            "client_addr": row.node.client_addr, "internal_addr": row.node.internal_addr,
            "incarnation": row.node.incarnation,
            "trouble": (!row.trouble.is_empty()).then_some(&row.trouble),
            "stats": description.map(|_| answers), "admin": admin,
        })
    };
    let by_state = rows.iter().fold(BTreeMap::<String, u32>::new(), |mut counts, row| {
        *counts.entry(state_name(row.state)).or_default() += 1;
        counts
    });
    json!({
        "ring_id": ring_id.iter().map(|byte| format!("{byte:02x}")).collect::<String>(),
        "members": rows.iter().map(member).collect::<Vec<_>>(), "states": by_state,
        "answering": summary.answering, "keys": summary.keys, "shards": shards, "shards_led": summary.led,
        "replication_factor": summary.replication_factor,
        "shards_under_replicated": summary.under_replicated, "shards_pending": summary.pending,
        "shards_unavailable": summary.unavailable,
        "balance": {"keys_leader_max_over_mean": summary.balance_leader, "keys_replica_max_over_mean": summary.balance_replica},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn balance_is_the_largest_over_the_mean() {
        assert_eq!(balance([10, 10, 10].into_iter()), 1.0);
        assert_eq!(balance([30, 0, 0].into_iter()), 3.0);
        assert_eq!(balance([0, 0].into_iter()), 0.0);
        assert_eq!(balance(std::iter::empty()), 0.0);
    }

    #[test]
    fn the_tenth_member_comes_after_the_second() {
        let mut names = ["demo-node-10", "demo-node-2", "demo-node-0", "x"];
        names.sort_by_key(|name| natural(name));
        assert_eq!(names, ["demo-node-0", "demo-node-2", "demo-node-10", "x"]);
    }

    #[test]
    fn a_member_that_does_not_answer_counts_as_member_only() {
        let stats = |keys_leader| NodeStats { keys_leader, shards_under_replicated: 1, ..NodeStats::default() };
        let row = |description| Row {
            node: NodeRef::default(),
            state: MemberState::Serving,
            description,
            status: None,
            trouble: String::new(),
        };
        let answering = |keys| Some(DescribeResponse { stats: Some(stats(keys)), ..DescribeResponse::default() });
        let summary = Summary::of(&[row(answering(10)), row(answering(30)), row(None)]);
        assert_eq!((summary.members, summary.answering, summary.keys, summary.under_replicated), (3, 2, 40, 2));
        assert_eq!(summary.balance_leader, 1.5);
    }
}
