//! What a member gave its word for when it took a copy.
use chord::{
    io::Input,
    member::{MemberState, NodeRef},
    msg::{ShardKind, ShardMsg},
    shard::config::{Ballot, Config, ReplicaMeta, Seal, ShardId},
    store::NodeMeta,
};
use sim::{
    disk::Data,
    model::host::{Act, Acts, Host, identity, still_settings},
};
use std::sync::Arc;

/// A later leader may have sealed with the word: an earlier one's leave to go, sent without knowing, does not take it
/// back, also when the copy that it was given for was lost in a restart.
#[test]
fn word_outlives_a_restart_and_an_earlier_leaders_retire() {
    let nodes: Vec<NodeRef> = (0..4).map(|index| identity(index, 0)).collect();
    let config = |epoch: u64, members: [usize; 3]| Config { epoch, members: members.map(|m| nodes[m].key).to_vec() };
    let member = |index: usize, state| chord::member::Member { node: nodes[index].clone(), revision: 1, state };
    let word = Seal { ballot: Ballot(33), next: config(2, [1, 2, 3]) };
    let empty = Config { epoch: 0, members: Vec::new() };
    let (promised, seal) = (Ballot::ZERO, Some(word.clone()));
    let meta = ReplicaMeta { config: empty, previous: Vec::new(), installed: false, promised, seal };
    let kept = NodeMeta {
        node: member(3, MemberState::Leaving),
        ring_id: Some(7),
        shards: 1,
        replication_factor: 3,
        operator_epoch: 0,
        members: (0..3).map(|index| member(index, MemberState::Serving)).collect(),
    };
    let mut disk = Data::default();
    disk.shards.entry(ShardId(0)).or_default().meta = Some(meta);
    disk.node = Some(kept);
    let host = Arc::new(Host::start(nodes[3].clone(), disk, Host::first_now(), still_settings()));
    let retire = |ballot: u64| {
        let kind = ShardKind::Retire { next: config(1, [0, 1, 2]) };
        let message = ShardMsg { shard: ShardId(0), epoch: 1, ballot: Ballot(ballot), kind };
        Act::Take(Box::new(Input::Shard { from: nodes[0].key, messages: vec![message] }), true)
    };
    let seal = |host: &Host| host.durable.shards[&ShardId(0)].meta.as_ref().and_then(|meta| meta.seal.clone());
    let acts = Acts::default();
    let after = acts.act(&host, retire(16)).host.clone();
    assert_eq!(seal(&after), Some(word), "the earlier leader did not know of it");
    assert_eq!(seal(&acts.act(&after, retire(33)).host), None, "its own leader knows that it is not needed");
}
