//! One pass: observe, plan, check, report, act.
use crate::{
    act::act,
    api::{
        ChordRing,
        spec::DesiredState,
        status::{ChordRingStatus, Reason},
        validate::problems,
    },
    build::Names,
    check::check,
    members::Members,
    objects::Apis,
    observe::observe,
    plan::{Step, plan},
    report::{Report, name_of, told},
    secrets::ensure_certificates,
};
use anyhow::Context as _;
use chord_client::net::{Dial, Pems, tcp};
use chord_proto::v1;
use futures::{StreamExt as _, future::join_all};
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        apps::v1::{Deployment, StatefulSet},
        core::v1::{Pod, Service},
    },
};
use kube::{
    Api, Client, Resource, ResourceExt as _,
    api::{Patch, PatchParams},
    runtime::{
        Controller,
        controller::Action,
        events::{Event, EventType, Recorder, Reporter},
        reflector::ObjectRef,
        watcher,
    },
};
use serde_json::json;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::Mutex as AsyncMutex;

/// Field manager of what the operator reports.
const STATUS_MANAGER: &str = "chord-operator-status";
/// Time until the next look while something is under way.
const SOON: Duration = Duration::from_millis(1000);
/// Time until the next look at a ring that is as it should be.
const LATER: Duration = Duration::from_secs(15);
/// Keys and bytes are told no more often than this.
const RECOUNT: Duration = Duration::from_secs(30);

/// What outlives a pass. Nothing in it is needed for safety.
pub(crate) struct Memory {
    pub members: Members,
    /// The operator's own certificate in the ring.
    pub own: Option<Pems>,
    /// What the members' word was, and since when it has been that.
    pub evidence: Option<(String, Instant)>,
    /// The leave under way: whose disk and how many shards to go, and since when that is so.
    pub leave: Option<((String, u32), Instant)>,
    /// Generation whose objects the API refused, and why.
    refused: Option<(Option<i64>, String)>,
    /// When keys and bytes were last told.
    counted: Option<Instant>,
    /// What was applied, by kind and name, and what became of it.
    pub applied: HashMap<String, String>,
    last_step: String,
}

impl Memory {
    fn new(dial: Dial) -> Memory {
        Memory {
            members: Members::new(dial),
            own: None,
            evidence: None,
            leave: None,
            refused: None,
            counted: None,
            applied: HashMap::new(),
            last_step: String::new(),
        }
    }
}

/// The operator around the rings.
pub struct Context {
    pub(crate) client: Client,
    pub(crate) image: String,
    pub(crate) namespace: String,
    pub(crate) epoch: u64,
    pub(crate) dial: Dial,
    reporter: Reporter,
    rings: Mutex<HashMap<String, Arc<AsyncMutex<Memory>>>>,
}

/// A pass failed; it is tried again.
#[derive(Debug, thiserror::Error)]
#[error("{0:#}")]
pub struct PassError(#[from] anyhow::Error);

impl Context {
    /// `image`: of rings that name none; `namespace`: the operator's own; `epoch`: from the Lease.
    pub fn new(client: Client, image: String, namespace: String, epoch: u64) -> Context {
        let reporter = Reporter { controller: "chord-operator".into(), instance: std::env::var("HOSTNAME").ok() };
        Context { client, image, namespace, epoch, dial: tcp(), reporter, rings: Mutex::default() }
    }

    /// Reaches members by `dial`, which is given `host:port`, instead of by TCP.
    #[must_use]
    pub fn dial(mut self, dial: Dial) -> Context {
        self.dial = dial;
        self
    }
}

/// Looks after the rings in these namespaces (none: in all) until `shutdown` ends.
pub async fn run(
    context: Arc<Context>,
    namespaces: &[String],
    shutdown: impl Future<Output = ()> + Clone + Send + Sync + 'static,
) {
    // Where only some namespaces are watched there is a Role in each: a watch of all would be refused.
    let scopes: Vec<Option<&String>> =
        if namespaces.is_empty() { vec![None] } else { namespaces.iter().map(Some).collect() };
    join_all(scopes.into_iter().map(|scope| watch(context.clone(), scope, shutdown.clone()))).await;
}

fn api<K>(client: &Client, namespace: Option<&String>) -> Api<K>
where
    K: Resource<Scope = NamespaceResourceScope>,
    K::DynamicType: Default,
{
    namespace.map_or_else(|| Api::all(client.clone()), |namespace| Api::namespaced(client.clone(), namespace))
}

async fn watch(
    context: Arc<Context>,
    namespace: Option<&String>,
    shutdown: impl Future<Output = ()> + Send + Sync + 'static,
) {
    let client = &context.client.clone();
    let ours = watcher::Config::default().labels("app.kubernetes.io/managed-by=chord-operator");
    let ring_of = |object: &Pod| {
        let ring = object.labels().get("app.kubernetes.io/instance")?;
        Some(ObjectRef::<ChordRing>::new(ring).within(&object.namespace()?))
    };
    Controller::new(api::<ChordRing>(client, namespace), watcher::Config::default())
        .owns(api::<StatefulSet>(client, namespace), ours.clone())
        .owns(api::<Deployment>(client, namespace), ours.clone())
        .owns(api::<Service>(client, namespace), ours.clone())
        .watches(api::<Pod>(client, namespace), ours, move |pod| ring_of(&pod))
        .graceful_shutdown_on(shutdown)
        .run(reconcile, on_error, context)
        .for_each(|result| async move {
            if let Err(error) = result {
                tracing::debug!(%error, "pass ended with an error");
            }
        })
        .await;
}

fn on_error(ring: Arc<ChordRing>, error: &PassError, _: Arc<Context>) -> Action {
    tracing::warn!(ring = name_of(&ring), %error, "pass failed; it is tried again");
    metrics::counter!("chord_operator_pass_errors_total").increment(1);
    Action::requeue(Duration::from_secs(3))
}

async fn reconcile(ring: Arc<ChordRing>, context: Arc<Context>) -> Result<Action, PassError> {
    metrics::counter!("chord_operator_passes_total").increment(1);
    let key = ring.uid().unwrap_or_default();
    let apis = Apis::new(&context, &ring.namespace().unwrap_or_default());
    // Live: the watch does not show this operator's own writes at once, and would choose a ring's identity twice.
    let live = apis.rings.get_opt(&ring.name_any()).await.context("cannot look at the ChordRing")?;
    let Some(live) = live.filter(|live| live.uid() == ring.uid() && live.metadata.deletion_timestamp.is_none()) else {
        context.rings.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
        return Ok(Action::await_change());
    };
    let fresh = || Arc::new(AsyncMutex::new(Memory::new(context.dial.clone())));
    let memory = context.rings.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_insert_with(fresh).clone();
    let mut memory = memory.lock().await;
    Ok(pass(&live, &apis, &context, &mut memory).await?)
}

async fn pass(ring: &ChordRing, apis: &Apis, context: &Context, memory: &mut Memory) -> anyhow::Result<Action> {
    let names = Names::new(ring, &context.image);
    let generation = ring.metadata.generation;
    memory.refused.take_if(|(of, _)| *of != generation);
    let mut problems = problems(&ring.spec);
    problems.extend(memory.refused.iter().map(|(_, why)| why.clone()));
    let may_change = problems.is_empty() && ring.spec.desired_state != DesiredState::Paused;
    let certificates = ensure_certificates(ring, &names, apis, memory, may_change).await.err();
    if may_change
        && certificates.is_none()
        && let Err(error) = apis.apply_all(ring, &names, &context.namespace, memory).await
    {
        let why = refusal(error)?;
        memory.refused = Some((generation, why.clone()));
        problems.push(why);
    }
    let world = observe(ring, &names, apis, memory).await?;
    let step = match &certificates {
        _ if !problems.is_empty() => Step::Wait { reason: Reason::InvalidSpec, message: problems.join("; ") },
        Some(error) => Step::Wait { reason: Reason::CertificatesMissing, message: format!("{error:#}") },
        None => plan(&world),
    };
    check(&world, &step).map_err(|why| anyhow::anyhow!("planned {step:?}, which may not be: {why}"))?;
    let gateway_ready = apis.gateway_ready(&names).await?;
    let certificates = certificates.map(|error| format!("{error:#}"));
    let recount = memory.counted.is_none_or(|at| at.elapsed() >= RECOUNT);
    if recount {
        memory.counted = Some(Instant::now());
    }
    let report = Report {
        ring,
        names: &names,
        world: &world,
        step: &step,
        problems: &problems,
        certificates,
        gateway_ready,
        recount,
    };
    let status = report.status();
    measure(ring, &status);
    if ring.status.as_ref() != Some(&status) {
        // Applied, not merged: what is no longer in it must go, too.
        let object = json!({
            "apiVersion": ChordRing::api_version(&()), "kind": ChordRing::kind(&()),
            "metadata": { "name": names.name }, "status": status,
        });
        let params = PatchParams::apply(STATUS_MANAGER).force();
        apis.rings
            .patch_status(&names.name, &params, &Patch::Apply(&object))
            .await
            .context("cannot report the status")?;
    }
    announce(ring, context, memory, &step).await;
    let answering = world.words.iter().filter(|(_, word)| word.is_ok()).map(|(ordinal, _)| names.address(*ordinal));
    let request = v1::ReportRequest { status: Some(told(ring, &status, context.epoch)) };
    memory.members.report(answering, request).await;
    if let Err(error) = act(&names, apis, context.epoch, memory, &world, &step).await {
        if !matches!(step, Step::CreateStatefulSet { .. }) {
            return Err(error);
        }
        memory.refused = Some((generation, refusal(error)?));
    }
    let calm = matches!(step, Step::Idle) && status.is_ready();
    Ok(Action::requeue(if calm { LATER } else { SOON }))
}

/// What the API server will not take, whenever it is asked, is a problem of the spec; anything else is an error.
fn refusal(error: anyhow::Error) -> anyhow::Result<String> {
    let refused = error.chain().find_map(|cause| match cause.downcast_ref::<kube::Error>() {
        Some(kube::Error::Api(status)) if status.code == 422 => Some(status.message.clone()),
        _ => None,
    });
    refused.ok_or(error)
}

/// The ring's numbers for Prometheus. A ring that is gone is no longer told of, and ends there by itself.
fn measure(ring: &ChordRing, status: &ChordRingStatus) {
    let labels = [("namespace", ring.namespace().unwrap_or_default()), ("ring", ring.name_any())];
    metrics::gauge!("chord_operator_ring_desired_members", &labels).set(f64::from(ring.spec.replicas));
    metrics::gauge!("chord_operator_ring_members", &labels).set(f64::from(status.replicas));
    metrics::gauge!("chord_operator_ring_serving_members", &labels).set(f64::from(status.ready_replicas));
    metrics::gauge!("chord_operator_ring_ready", &labels).set(f64::from(u8::from(status.is_ready())));
    for kind in ["Join", "Leave", "Replace"] {
        let now = status.operation.as_ref().is_some_and(|operation| operation.r#type == kind);
        let [namespace, name] = labels.clone();
        let labels = [namespace, name, ("type", kind.to_owned())];
        metrics::gauge!("chord_operator_ring_operation", &labels).set(f64::from(u8::from(now)));
    }
}

/// Tells people when the step is another one than before.
async fn announce(ring: &ChordRing, context: &Context, memory: &mut Memory, step: &Step) {
    if step.is_bookkeeping() {
        return;
    }
    let (reason, note) = step.tell();
    let gist = format!("{reason:?} {}", gist(&note));
    if memory.last_step == gist {
        return;
    }
    memory.last_step = gist;
    let reason_text = format!("{reason:?}");
    tracing::info!(ring = name_of(ring), reason = reason_text, "{note}");
    let type_ = if reason.is_alarming() { EventType::Warning } else { EventType::Normal };
    let event = Event { type_, reason: reason_text, note: Some(note), action: "Reconcile".into(), secondary: None };
    // A recorder counts repeats by reason alone, and would tell of the first member only: each has its own.
    let recorder = Recorder::new(context.client.clone(), context.reporter.clone());
    // People miss a line; the ring does not.
    if let Err(error) = recorder.publish(&event, &ring.object_ref(&())).await {
        tracing::debug!(%error, "cannot publish an event");
    }
}

/// A sentence without its counts, but with its members: a count that goes down is progress, another member is news.
fn gist(note: &str) -> String {
    let mut after_noun = false;
    let keep = |word: &&str| {
        let kept = after_noun || !word.starts_with(|c: char| c.is_ascii_digit());
        after_noun = matches!(*word, "member" | "pod");
        kept
    };
    note.split(' ').filter(keep).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::gist;

    #[test]
    fn counts_are_no_news_but_members_are() {
        let leaving = |member: u32, shards: u32| gist(&format!("member {member} hands over, {shards} shards to go"));
        assert_eq!(leaving(3, 100), leaving(3, 7));
        assert_ne!(leaving(3, 100), leaving(4, 100));
    }
}
