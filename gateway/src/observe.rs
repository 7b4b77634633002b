//! Listens to every member at once. A slow or dead one costs nothing but its own task.
mod discover;
mod follow;

use crate::{
    hub::Hub,
    model::{Description, Model, Refused},
    schema::Millis,
};
use arc_swap::ArcSwap;
use chord::{
    id::Id,
    member::{MemberKey, NodeRef},
};
use chord_client::net::{self, Tls};
use chord_proto::v1;
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::{sync::mpsc, time::MissedTickBehavior};
use tokio_util::task::AbortOnDropHandle;
use tonic::transport::Channel;

/// Changes are gathered for this long before they are handed out.
const PUBLISH_EVERY: Duration = Duration::from_millis(500);
/// What listeners have said and the model has not taken in yet; then they wait.
const INPUTS_MAX: usize = 1024;

/// Where the ring is.
#[derive(Clone)]
pub struct Source {
    /// host:port of `RingView` of any members; names are resolved to all addresses.
    pub endpoints: Vec<String>,
    pub tls: Option<Tls>,
}

/// Connections to the members, for questions to one of them.
#[derive(Clone, Default)]
pub struct Links(Arc<ArcSwap<BTreeMap<Id, Channel>>>);

impl Links {
    /// To a member, if it is one.
    pub fn get(&self, id: Id) -> Option<Channel> {
        self.0.load().get(&id).cloned()
    }
}

impl FromIterator<(Id, Channel)> for Links {
    fn from_iter<I: IntoIterator<Item = (Id, Channel)>>(channels: I) -> Links {
        Links(Arc::new(ArcSwap::from_pointee(channels.into_iter().collect())))
    }
}

/// What listeners say.
enum Input {
    /// Some member, found at an endpoint.
    Discovered(Description),
    /// The member listened to.
    Described(MemberKey, Description),
    Event(MemberKey, v1::RingEvent),
    Lost(MemberKey, String),
}

/// A listener at work; it ends when this is dropped.
struct Listener {
    address: String,
    channel: Channel,
    _task: AbortOnDropHandle<()>,
}

struct Observer {
    source: Source,
    model: Model,
    listeners: BTreeMap<MemberKey, Listener>,
    inputs: mpsc::Sender<Input>,
    links: Links,
    /// Whether any member is heard; discovery rests meanwhile.
    is_heard: Arc<AtomicBool>,
}

/// Keeps `hub` and `links` as the ring is, for ever; the hub's ring is the one `model` begins with.
pub async fn observe(source: Source, model: Model, hub: Arc<Hub>, links: Links) {
    let (inputs, mut said) = mpsc::channel(INPUTS_MAX);
    let is_heard = Arc::new(AtomicBool::new(false));
    let discovery = discover::discover(source.clone(), inputs.clone(), is_heard.clone());
    let _discovery = AbortOnDropHandle::new(tokio::spawn(discovery));
    let mut observer = Observer { source, model, listeners: BTreeMap::new(), inputs, links, is_heard };
    let mut tick = tokio::time::interval(PUBLISH_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            // The sender kept here never closes.
            Some(input) = said.recv() => observer.take(input, now_ms()),
            _ = tick.tick() => observer.tick(&hub),
        }
    }
}

impl Observer {
    fn take(&mut self, input: Input, now: Millis) {
        match input {
            // Those that are listened to speak for themselves.
            Input::Discovered(description) if self.listeners.contains_key(&description.node.key) => {}
            Input::Discovered(description) => {
                let (name, ring) = (description.node.name.clone(), description.ring_id.clone());
                match self.model.describe(description, now) {
                    Ok(()) => tracing::info!(node = name, ring, "found the ring"),
                    Err(why) => tracing::debug!(node = name, ?why, "found a node, but not of this ring"),
                }
            }
            Input::Described(key, description) => match self.model.describe(description, now) {
                Ok(()) => {}
                Err(Refused::Gone) => tracing::debug!(?key, "it has left"),
                Err(why) => {
                    self.model.lost(key, now, "it answers for another ring or none");
                    tracing::debug!(?key, ?why, "not taken in");
                }
            },
            Input::Event(key, event) => self.model.event(key, event),
            Input::Lost(key, why) => self.model.lost(key, now, &why),
        }
    }

    fn tick(&mut self, hub: &Hub) {
        if let Some(publication) = self.model.publish(now_ms()) {
            let stats = &publication.ring.stats;
            metrics::gauge!("chord_gateway_members").set(stats.nodes.0 as f64);
            metrics::gauge!("chord_gateway_members_stale").set(stats.stale.0 as f64);
            metrics::gauge!("chord_gateway_converged").set(f64::from(u8::from(stats.converged)));
            metrics::counter!("chord_gateway_publications_total").increment(1);
            hub.publish(publication);
        }
        self.is_heard.store(self.model.is_any_fresh(), Ordering::Relaxed);
        self.reconcile();
    }

    /// One listener for each member, at its present address.
    fn reconcile(&mut self) {
        let targets = self.model.targets();
        let wanted = |key: &MemberKey, listener: &Listener| {
            targets.get(key).map(|node| &node.client_addr) == Some(&listener.address)
        };
        let before = self.listeners.len();
        self.listeners.retain(|key, listener| wanted(key, listener));
        let mut changed = self.listeners.len() != before;
        for (key, node) in targets {
            if !self.listeners.contains_key(&key) {
                self.listen(key, node);
                changed = true;
            }
        }
        if changed {
            let channels = self.listeners.iter().map(|(key, listener)| (key.id, listener.channel.clone()));
            self.links.0.store(Arc::new(channels.collect()));
        }
    }

    fn listen(&mut self, key: MemberKey, node: NodeRef) {
        let address = node.client_addr.clone();
        match net::link(&address, self.source.tls.clone(), net::tcp()) {
            Ok(link) => {
                let channel = link.channel;
                let task = tokio::spawn(follow::follow(key, channel.clone(), self.inputs.clone()));
                let _task = AbortOnDropHandle::new(task);
                self.listeners.insert(key, Listener { address, channel, _task });
            }
            // Tried again with the next tick: rare, and the address may be corrected.
            Err(error) => tracing::debug!(node = node.name, error, "its address is not usable"),
        }
    }
}

/// Milliseconds since the Unix epoch.
pub fn now_ms() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A wait that doubles from one failure to the next, random so that many do not come at once.
struct Backoff {
    failures: u32,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(250);
    const MAX: Duration = Duration::from_secs(5);

    fn new() -> Backoff {
        Backoff { failures: 0 }
    }

    fn succeeded(&mut self) {
        self.failures = 0;
    }

    fn next(&mut self) -> Duration {
        let bound = Backoff::FIRST.saturating_mul(1 << self.failures.min(8)).min(Backoff::MAX);
        self.failures = self.failures.saturating_add(1);
        bound.mul_f64(rand::random_range(0.5..1.0))
    }
}

/// The innermost reason of a failed call, which is the one that helps.
fn reason(status: &tonic::Status) -> String {
    let mut innermost: &dyn std::error::Error = status;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    if std::ptr::addr_eq(innermost, status) { status.message().to_owned() } else { innermost.to_string() }
}
