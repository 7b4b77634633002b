//! What a member gave its word for when it took a copy.
mod common;

use chord::{
    io::Input,
    member::{MemberState, NodeRef},
    msg::{ShardKind, ShardMsg},
    shard::config::{Ballot, Config, ReplicaMeta, Seal, ShardId},
};
use sim::{
    disk::Data,
    model::host::{Act, Acts, Host, identity, still_settings},
};
use std::sync::Arc;

/// A member that still holds an earlier configuration keeps its word on disk as well.
#[test]
fn word_of_a_member_that_holds_an_earlier_configuration_is_durable() {
    let nodes: Vec<NodeRef> = (0..4).map(|index| identity(index, 0)).collect();
    let config = |epoch: u64, members: [usize; 3]| Config { epoch, members: members.map(|m| nodes[m].key).to_vec() };
    let held = config(1, [0, 1, 3]);
    let word = Seal { ballot: Ballot(33), next: config(3, [1, 2, 3]) };
    let host = follower(&nodes, MemberState::Serving, held.clone(), true, None);
    let take = |epoch: u64, ballot: u64, kind: ShardKind| {
        let message = ShardMsg { shard: ShardId(0), epoch, ballot: Ballot(ballot), kind };
        Act::Take(Box::new(Input::Shard { from: nodes[1].key, messages: vec![message] }), true)
    };
    let (next, attempt, records, part, digest) = (word.next.clone(), 1, Vec::new(), 0, 0);
    let copy = ShardKind::Install { next, attempt, records, part, last: true, digest, pre_copy: true, full: true };
    let acts = Acts::default();
    let after = acts.act(&host, take(2, 33, copy)).host.clone();
    let meta = |host: &Host| host.durable.shards[&ShardId(0)].meta.clone();
    let kept = meta(&after).map(|meta| (meta.config, meta.installed, meta.word));
    assert_eq!(kept, Some((held, true, Some(word.clone()))), "beside what it holds");
    let restarted = Arc::new(Host::start(nodes[3].clone(), after.durable.clone(), Host::first_now(), still_settings()));
    let retire = ShardKind::Retire { next: config(2, [0, 1, 2]) };
    let retired = acts.act(&restarted, take(2, 16, retire)).host.clone();
    let kept = meta(&retired).map(|meta| (meta.config, meta.installed, meta.word));
    assert_eq!(kept, Some((config(2, [0, 1, 2]), false, Some(word))), "what it held is let go, its word is not");
}

/// A later leader may have sealed with the word: an earlier one's leave to go, sent without knowing, does not take it
/// back, also when the copy that it was given for was lost in a restart.
#[test]
fn word_outlives_a_restart_and_an_earlier_leaders_retire() {
    let nodes: Vec<NodeRef> = (0..4).map(|index| identity(index, 0)).collect();
    let config = |epoch: u64, members: [usize; 3]| Config { epoch, members: members.map(|m| nodes[m].key).to_vec() };
    let word = Seal { ballot: Ballot(33), next: config(2, [1, 2, 3]) };
    let empty = Config { epoch: 0, members: Vec::new() };
    let host = follower(&nodes, MemberState::Leaving, empty, false, Some(word.clone()));
    let retire = |ballot: u64| {
        let kind = ShardKind::Retire { next: config(1, [0, 1, 2]) };
        let message = ShardMsg { shard: ShardId(0), epoch: 1, ballot: Ballot(ballot), kind };
        Act::Take(Box::new(Input::Shard { from: nodes[0].key, messages: vec![message] }), true)
    };
    let given = |host: &Host| host.durable.shards[&ShardId(0)].meta.as_ref().and_then(|meta| meta.word.clone());
    let acts = Acts::default();
    let after = acts.act(&host, retire(16)).host.clone();
    assert_eq!(given(&after), Some(word), "the earlier leader did not know of it");
    assert_eq!(given(&acts.act(&after, retire(33)).host), None, "its own leader knows that it is not needed");
}

/// Node 3 of these, with what it keeps of one shard.
fn follower(nodes: &[NodeRef], state: MemberState, config: Config, installed: bool, word: Option<Seal>) -> Arc<Host> {
    let meta = ReplicaMeta { config, previous: Vec::new(), installed, promised: Ballot::ZERO, seal: None, word };
    let mut disk = Data::default();
    disk.shards.entry(ShardId(0)).or_default().meta = Some(meta);
    disk.node = Some(common::kept(3, state, 4, 3));
    Arc::new(Host::start(nodes[3].clone(), disk, Host::first_now(), still_settings()))
}
