//! `lookup`: a real lookup over the fingers, beside the one-hop answer.
use crate::{
    cli::{self, Global, Output},
    connect,
    failure::{Failure, Result},
    print,
};
use chord::id::Id;
use chord_client::Client;
use chord_proto::v1::{
    LookupPathRequest, LookupPathResponse, NodeRef, lookup_path_request::Target, ring_view_client::RingViewClient,
};
use serde_json::json;
use std::os::unix::ffi::OsStringExt as _;

pub async fn run(global: &Global, args: cli::Lookup) -> Result {
    let key = args.key.into_vec();
    if !(1..=chord_client::KEY_BYTES_MAX).contains(&key.len()) {
        return Err(Failure::usage(format!("the key has {} bytes; a key has 1..=1024 bytes", key.len())));
    }
    let client = connect::client(global).await?;
    let starts = starts(&client, args.from.as_deref())?;
    let mut last = Failure::unavailable("no member is reachable; see `chordctl status`");
    for address in starts {
        let mut view = RingViewClient::new(client.channel(&address)?);
        let request = LookupPathRequest { target: Some(Target::Key(key.clone().into())) };
        match tokio::time::timeout(global.timeout, view.lookup_path(request)).await {
            Ok(Ok(answer)) => {
                show(global, &key, &answer.into_inner());
                return Ok(());
            }
            Ok(Err(status)) => last = Failure::unavailable(format!("{address}: {}", status.message())),
            Err(_) => last = Failure::unavailable(format!("{address} did not answer in time")),
        }
    }
    Err(last)
}

/// Client addresses to begin at, best first.
fn starts(client: &Client, from: Option<&str>) -> Result<Vec<String>> {
    let mut members = client.members();
    members.sort_by_key(|member| !member.reachable);
    let nodes: Vec<NodeRef> = members.into_iter().filter_map(|member| member.node).collect();
    let names: Vec<&str> = nodes.iter().map(|node| &*node.name).collect();
    let chosen: Vec<String> =
        nodes.iter().filter(|node| from.is_none_or(|from| node.name == from)).map(|n| n.client_addr.clone()).collect();
    match from {
        Some(from) if chosen.is_empty() => {
            Err(Failure::usage(format!("there is no member `{from}`; members are {}", names.join(", "))))
        }
        _ => Ok(chosen),
    }
}

fn show(global: &Global, key: &[u8], answer: &LookupPathResponse) {
    let name = |node: &Option<NodeRef>| node.as_ref().map_or_else(|| "unknown".to_owned(), |node| node.name.clone());
    let id = |bytes: &[u8]| Id::from_slice(bytes).map_or_else(String::new, |id| id.to_string());
    let replicas: Vec<&str> = answer.replicas.iter().map(|node| &*node.name).collect();
    if global.output == Output::Json {
        let hop = |hop: &chord_proto::v1::Hop| {
            let node_id = hop.node.as_ref().map(|node| id(&node.id));
            json!({"node": name(&hop.node), "id": node_id, "via": hop.via, "elapsed_us": hop.elapsed_us})
        };
        let mut object = serde_json::Map::new();
        print::field(&mut object, "key", key);
        object.insert("target".into(), json!(id(&answer.target)));
        object.insert("hops".into(), answer.hops.iter().map(hop).collect());
        object.insert("owner".into(), json!(name(&answer.owner)));
        object.insert("shard".into(), json!(answer.shard));
        object.insert("leader".into(), json!(answer.leader.as_ref().map(|node| &node.name)));
        object.insert("replicas".into(), json!(replicas));
        return print::json(&serde_json::Value::Object(object));
    }
    let row = |(number, hop): (usize, &chord_proto::v1::Hop)| {
        let node = hop.node.as_ref().map(|node| id(&node.id)).unwrap_or_default();
        vec![number.to_string(), name(&hop.node), node, hop.via.clone(), format!("{} us", hop.elapsed_us)]
    };
    let rows: Vec<_> = answer.hops.iter().enumerate().map(row).collect();
    print::line(&format!("key {}, identifier {}, shard {}", print::readable(key), id(&answer.target), answer.shard));
    print::line(print::table(&["HOP", "NODE", "ID", "VIA", "ELAPSED"], &rows).trim_end());
    print::line(&format!("owner on the ring: {}", name(&answer.owner)));
    print::line(&format!("one hop: leader {}, replicas {}", name(&answer.leader), replicas.join(", ")));
}
