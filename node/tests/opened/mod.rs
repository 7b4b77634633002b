//! A store whose commits can be waited for.
use anyhow::Context as _;
use chord::store::Seq;
use chord_node::store::FjallStore;
use std::{
    path::Path,
    sync::mpsc::{Receiver, channel},
    time::Duration,
};

/// Longest time to wait for a batch to become durable.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub fn open(dir: &Path) -> anyhow::Result<(FjallStore, Receiver<Seq>)> {
    let (sender, persisted) = channel();
    let store = FjallStore::open(dir, move |seq| {
        let _ = sender.send(seq);
    })?;
    Ok((store, persisted))
}

/// Waits until the batch is durable.
pub fn settle(persisted: &Receiver<Seq>, seq: Seq) -> anyhow::Result<()> {
    while persisted.recv_timeout(PATIENCE).context("the batch never became durable")? < seq {}
    Ok(())
}
