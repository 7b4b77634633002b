//! One pass: observe, plan, check, act, report.
use crate::{
    api::{
        ABORT_LEAVE, ChordRing, DISK, RING_ID,
        spec::{DesiredState, Keep, StorageType, TlsMode},
        validate::problems,
    },
    build::Names,
    certificates::{Authority, must_renew, node_names},
    check::check,
    members::{Members, unhex},
    plan::{Step, plan},
    report::{Report, name_of},
    world::{Claim, Pod as SeenPod, World},
};
use anyhow::Context as _;
use chord_client::net::{Pems, Tls};
use chord_proto::v1;
use futures::StreamExt as _;
use jiff::Timestamp;
use k8s_openapi::{
    ByteString,
    api::{
        apps::v1::{Deployment, StatefulSet},
        core::v1::{PersistentVolumeClaim, Pod, Secret, Service, ServiceAccount},
        networking::v1::NetworkPolicy,
        policy::v1::PodDisruptionBudget,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api, Client, Resource, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams, Preconditions},
    runtime::{
        Controller,
        controller::Action,
        events::{Event, EventType, Recorder, Reporter},
        reflector::ObjectRef,
        watcher,
    },
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;
use std::{
    collections::{BTreeMap, HashMap},
    fmt::Debug,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::Mutex as AsyncMutex;

/// Field manager of everything the operator applies.
const MANAGER: &str = "chord-operator";
/// Field manager of what it reports.
const STATUS_MANAGER: &str = "chord-operator-status";
/// Time until the next look while something is under way.
const SOON: Duration = Duration::from_millis(1000);
/// Time until the next look at a ring that is as it should be.
const LATER: Duration = Duration::from_secs(15);

/// What outlives a pass. Nothing in it is needed for safety.
#[derive(Default)]
struct Memory {
    members: Members,
    tls_of: Option<Vec<u8>>,
    /// What the members' word was, and since when it has been that.
    evidence: Option<(String, Instant)>,
    last_step: String,
    applied: HashMap<String, String>,
}

/// The operator around the rings.
pub struct Context {
    client: Client,
    image: String,
    namespace: String,
    epoch: u64,
    recorder: Recorder,
    rings: Mutex<HashMap<String, Arc<AsyncMutex<Memory>>>>,
}

/// A pass failed; it is tried again.
#[derive(Debug, thiserror::Error)]
#[error("{0:#}")]
pub struct PassError(#[from] anyhow::Error);

/// Runs the controller until `shutdown` ends.
///
/// # Errors
/// When the API cannot be used at all.
pub async fn run(
    client: Client,
    namespaces: Vec<String>,
    image: String,
    namespace: String,
    epoch: u64,
    shutdown: impl Future<Output = ()> + Send + Sync + 'static,
) -> anyhow::Result<()> {
    let reporter = Reporter { controller: "chord-operator".into(), instance: std::env::var("HOSTNAME").ok() };
    let recorder = Recorder::new(client.clone(), reporter);
    let rings = Mutex::default();
    let context = Arc::new(Context { client: client.clone(), image, namespace, epoch, recorder, rings });
    let one = namespaces.first().filter(|_| namespaces.len() == 1).cloned();
    fn api<K>(client: &Client, one: Option<&String>) -> Api<K>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        one.map_or_else(|| Api::all(client.clone()), |namespace| Api::namespaced(client.clone(), namespace))
    }
    let one = one.as_ref();
    let ours = watcher::Config::default().labels("app.kubernetes.io/managed-by=chord-operator");
    let by_label = |object: &Pod| {
        let ring = object.labels().get("app.kubernetes.io/instance")?;
        Some(ObjectRef::<ChordRing>::new(ring).within(&object.namespace()?))
    };
    Controller::new(api::<ChordRing>(&client, one), watcher::Config::default())
        .owns(api::<StatefulSet>(&client, one), ours.clone())
        .owns(api::<Deployment>(&client, one), ours.clone())
        .owns(api::<Service>(&client, one), ours.clone())
        .watches(api::<Pod>(&client, one), ours, move |pod| by_label(&pod))
        .graceful_shutdown_on(shutdown)
        .run(reconcile, on_error, context)
        .for_each(|result| async move {
            if let Err(error) = result {
                tracing::debug!(%error, "pass ended with an error");
            }
        })
        .await;
    Ok(())
}

fn on_error(ring: Arc<ChordRing>, error: &PassError, _: Arc<Context>) -> Action {
    tracing::warn!(ring = name_of(&ring), %error, "pass failed; it is tried again");
    metrics::counter!("chord_operator_pass_errors_total").increment(1);
    Action::requeue(Duration::from_secs(3))
}

async fn reconcile(ring: Arc<ChordRing>, context: Arc<Context>) -> Result<Action, PassError> {
    metrics::counter!("chord_operator_passes_total").increment(1);
    let key = name_of(&ring);
    if ring.metadata.deletion_timestamp.is_some() {
        context.rings.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
        return Ok(Action::await_change());
    }
    let memory = context.rings.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default().clone();
    let mut memory = memory.lock().await;
    Ok(pass(&ring, &context, &mut memory).await?)
}

async fn pass(ring: &ChordRing, context: &Context, memory: &mut Memory) -> anyhow::Result<Action> {
    let names = Names::new(ring, &context.image);
    let problems = problems(&ring.spec);
    let mut certificates = None;
    let mut world = World::default();
    let mut step = Step::Wait { reason: crate::api::status::Reason::InvalidSpec, message: problems.join("; ") };
    let apis = Apis::new(context, &names.namespace);
    if problems.is_empty() {
        if ring.spec.desired_state != DesiredState::Paused {
            match ensure_certificates(ring, &names, &apis, memory).await {
                Ok(()) => apis.apply_all(ring, &names, &context.namespace, memory).await?,
                Err(error) => certificates = Some(format!("{error:#}")),
            }
        }
        if certificates.is_none() {
            world = observe(ring, &names, &apis, memory).await?;
            step = plan(&world);
            check(&world, &step).map_err(|why| anyhow::anyhow!("planned {step:?}, which may not be: {why}"))?;
        }
    }
    let gateway_ready = apis.gateway_ready(&names).await?;
    let report = Report { ring, names: &names, world: &world, step: &step, problems: &problems, certificates, gateway_ready };
    let status = report.status();
    let ready = status.conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
    if ring.status.as_ref() != Some(&status) {
        let patch = json!({ "status": status });
        let rings: Api<ChordRing> = Api::namespaced(context.client.clone(), &names.namespace);
        let params = PatchParams { field_manager: Some(STATUS_MANAGER.into()), ..PatchParams::default() };
        rings.patch_status(&names.name, &params, &Patch::Merge(&patch)).await.context("cannot report the status")?;
    }
    announce(ring, context, memory, &step).await;
    act(ring, &names, &apis, context, memory, &world, &step).await?;
    let calm = matches!(step, Step::Idle) && ready;
    Ok(Action::requeue(if calm { LATER } else { SOON }))
}

/// Tells people when the step is another one than before.
async fn announce(ring: &ChordRing, context: &Context, memory: &mut Memory, step: &Step) {
    let (reason, note) = match step {
        Step::Wait { reason, message } => (format!("{reason:?}"), message.clone()),
        step => {
            let text = format!("{step:?}");
            (text.split([' ', '{']).next().unwrap_or_default().to_owned(), text)
        }
    };
    // A count that goes down is progress, not news.
    let gist: String = note.chars().filter(|c| !c.is_ascii_digit()).collect();
    let gist = format!("{reason}: {gist}");
    if memory.last_step == gist {
        return;
    }
    memory.last_step = gist;
    tracing::info!(ring = name_of(ring), reason, "{note}");
    let stalled = reason == "LeaveStalled" || reason == "OperatorCannotReachMembers" || reason == "MemberLost";
    let type_ = if stalled { EventType::Warning } else { EventType::Normal };
    let event = Event { type_, reason, note: Some(note), action: "Reconcile".into(), secondary: None };
    // People miss a line; the ring does not.
    if let Err(error) = context.recorder.publish(&event, &ring.object_ref(&())).await {
        tracing::debug!(%error, "cannot publish an event");
    }
}

struct Apis {
    sets: Api<StatefulSet>,
    deployments: Api<Deployment>,
    services: Api<Service>,
    accounts: Api<ServiceAccount>,
    secrets: Api<Secret>,
    claims: Api<PersistentVolumeClaim>,
    pods: Api<Pod>,
    budgets: Api<PodDisruptionBudget>,
    policies: Api<NetworkPolicy>,
    rings: Api<ChordRing>,
}

impl Apis {
    fn new(context: &Context, namespace: &str) -> Apis {
        let client = || context.client.clone();
        Apis {
            sets: Api::namespaced(client(), namespace),
            deployments: Api::namespaced(client(), namespace),
            services: Api::namespaced(client(), namespace),
            accounts: Api::namespaced(client(), namespace),
            secrets: Api::namespaced(client(), namespace),
            claims: Api::namespaced(client(), namespace),
            pods: Api::namespaced(client(), namespace),
            budgets: Api::namespaced(client(), namespace),
            policies: Api::namespaced(client(), namespace),
            rings: Api::namespaced(client(), namespace),
        }
    }

    /// Everything that does not depend on the members.
    async fn apply_all(&self, ring: &ChordRing, names: &Names<'_>, own: &str, memory: &mut Memory) -> anyhow::Result<()> {
        for account in names.service_accounts() {
            apply(&self.accounts, &account, memory).await?;
        }
        for service in names.services() {
            apply(&self.services, &service, memory).await?;
        }
        match names.disruption_budget() {
            Some(budget) => apply(&self.budgets, &budget, memory).await?,
            None => remove(&self.budgets, &format!("{}-node", names.name)).await?,
        }
        match names.network_policy(own) {
            Some(policy) => apply(&self.policies, &policy, memory).await?,
            None => remove(&self.policies, &format!("{}-node", names.name)).await?,
        }
        match names.gateway() {
            Some(gateway) => apply(&self.deployments, &gateway, memory).await?,
            None => {
                remove(&self.deployments, &format!("{}-gateway", names.name)).await?;
                remove(&self.services, &format!("{}-gateway", names.name)).await?;
            }
        }
        // Its template follows the spec; its replicas are changed by steps alone.
        if let Some(set) = self.sets.get_opt(&format!("{}-node", ring.name_any())).await? {
            let replicas = set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(0);
            apply(&self.sets, &names.stateful_set(replicas), memory).await?;
        }
        Ok(())
    }

    async fn gateway_ready(&self, names: &Names<'_>) -> anyhow::Result<i32> {
        let gateway = self.deployments.get_opt(&format!("{}-gateway", names.name)).await?;
        Ok(gateway.and_then(|gateway| gateway.status?.ready_replicas).unwrap_or(0))
    }
}

/// Applies an object unless the same was applied before and it is still as it was then.
async fn apply<K>(api: &Api<K>, object: &K, memory: &mut Memory) -> anyhow::Result<()>
where
    K: Resource<DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned,
{
    let name = object.name_any();
    let key = format!("{}/{name}", K::kind(&()));
    let wanted = serde_json::to_string(object)?;
    let live = api.get_opt(&name).await?;
    let generation = live.as_ref().map(|live| format!("{:?} {:?}", live.uid(), live.meta().generation));
    let mark = |generation: &Option<String>| format!("{generation:?} {wanted}");
    if generation.is_some() && memory.applied.get(&key) == Some(&mark(&generation)) {
        return Ok(());
    }
    let applied = api
        .patch(&name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(object))
        .await
        .with_context(|| format!("cannot apply {key}"))?;
    let generation = Some(format!("{:?} {:?}", applied.uid(), applied.meta().generation));
    memory.applied.insert(key, mark(&generation));
    Ok(())
}

async fn remove<K>(api: &Api<K>, name: &str) -> anyhow::Result<()>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    if api.get_opt(name).await?.is_some() {
        api.delete(name, &DeleteParams::default()).await?;
    }
    Ok(())
}

fn pems_of(secret: &Secret) -> Option<Pems> {
    let data = secret.data.as_ref()?;
    let part = |name: &str| data.get(name).map(|bytes| bytes.0.clone());
    Some(Pems { certificate: part("tls.crt")?, key: part("tls.key")?, authority: part("ca.crt")? })
}

fn secret(ring: &ChordRing, name: &str, data: BTreeMap<String, ByteString>) -> Secret {
    let metadata = ObjectMeta {
        name: Some(name.to_owned()),
        namespace: ring.namespace(),
        owner_references: ring.controller_owner_ref(&()).map(|owner| vec![owner]),
        labels: Some(BTreeMap::from([
            ("app.kubernetes.io/name".into(), "chord".into()),
            ("app.kubernetes.io/instance".into(), ring.name_any()),
            ("app.kubernetes.io/managed-by".into(), "chord-operator".into()),
        ])),
        ..ObjectMeta::default()
    };
    Secret { metadata, data: Some(data), type_: Some("kubernetes.io/tls".into()), ..Secret::default() }
}

/// Makes the authority once, keeps the leaves fresh, and gives the operator its own identity in the ring.
async fn ensure_certificates(
    ring: &ChordRing,
    names: &Names<'_>,
    apis: &Apis,
    memory: &mut Memory,
) -> anyhow::Result<()> {
    let (name, namespace) = (&names.name, &names.namespace);
    let authority_name = match ring.spec.tls.mode {
        TlsMode::Disabled => {
            if memory.tls_of.take().is_some() {
                memory.members.set_tls(None);
            }
            return Ok(());
        }
        TlsMode::OperatorManaged => format!("{name}-ca"),
        TlsMode::Secret => ring.spec.tls.secret_name.clone().unwrap_or_default(),
    };
    let authority = match apis.secrets.get_opt(&authority_name).await? {
        Some(kept) => {
            let data = kept.data.unwrap_or_default();
            let text = |key: &str| -> anyhow::Result<String> {
                let bytes = data.get(key).with_context(|| format!("Secret {authority_name} has no {key}"))?;
                Ok(String::from_utf8(bytes.0.clone())?)
            };
            Authority::load(&text("tls.crt")?, &text("tls.key")?)?
        }
        None if ring.spec.tls.mode == TlsMode::Secret => {
            anyhow::bail!("there is no Secret {authority_name}; make it, with tls.crt and tls.key of the authority")
        }
        None => {
            let fresh = Authority::make(name)?;
            let data = BTreeMap::from([
                ("tls.crt".to_owned(), ByteString(fresh.certificate.clone().into_bytes())),
                ("tls.key".to_owned(), ByteString(fresh.key.clone().into_bytes())),
            ]);
            // Created, never applied over: a second authority would cut running members off.
            apis.secrets.create(&kube::api::PostParams::default(), &secret(ring, &authority_name, data)).await?;
            fresh
        }
    };
    for (role, server_names) in [("node", node_names(namespace, name)), ("gateway", Vec::new()), ("client", Vec::new())] {
        let leaf_name = format!("{name}-{role}-tls");
        let kept = apis.secrets.get_opt(&leaf_name).await?;
        if must_renew(kept.as_ref().and_then(pems_of).as_ref(), &authority, Timestamp::now()) {
            let pems = authority.leaf(namespace, name, role, &server_names)?;
            let data = BTreeMap::from([
                ("tls.crt".to_owned(), ByteString(pems.certificate)),
                ("tls.key".to_owned(), ByteString(pems.key)),
                ("ca.crt".to_owned(), ByteString(pems.authority)),
            ]);
            let fresh = secret(ring, &leaf_name, data);
            apis.secrets.patch(&leaf_name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(&fresh)).await?;
        }
    }
    if memory.tls_of.as_deref() != Some(authority.certificate.as_bytes()) {
        let pems = authority.leaf(namespace, name, "operator", &[])?;
        memory.members.set_tls(Some(Tls::from_pems(pems)?));
        memory.tls_of = Some(authority.certificate.into_bytes());
    }
    Ok(())
}

fn ordinal_of(name: &str, prefix: &str) -> Option<i32> {
    name.strip_prefix(prefix)?.parse().ok()
}

/// Live looks at objects and members.
async fn observe(ring: &ChordRing, names: &Names<'_>, apis: &Apis, memory: &mut Memory) -> anyhow::Result<World> {
    let name = &names.name;
    let set = apis.sets.get_opt(&format!("{name}-node")).await?;
    let set = set.filter(|set| set.metadata.deletion_timestamp.is_none());
    let replicas = set.as_ref().map(|set| set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(0));
    let selector = ListParams::default().labels(&names.selector_text("node"));
    let pods = apis.pods.list(&selector).await?;
    let pods = pods.items.into_iter().filter_map(|pod| {
        let ordinal = ordinal_of(&pod.name_any(), &format!("{name}-node-"))?;
        let terminating = pod.metadata.deletion_timestamp.is_some();
        Some((ordinal, SeenPod { uid: pod.uid()?, terminating }))
    });
    let claims = apis.claims.list(&selector).await?;
    let claims = claims.items.into_iter().filter_map(|claim| {
        let ordinal = ordinal_of(&claim.name_any(), &format!("data-{name}-node-"))?;
        let annotation = |key: &str| claim.annotations().get(key).cloned();
        let terminating = claim.metadata.deletion_timestamp.is_some();
        Some((ordinal, Claim { uid: claim.uid()?, terminating, ring_id: annotation(RING_ID), disk: annotation(DISK) }))
    });
    let words = memory.members.ask(names, 0..replicas.unwrap_or(0)).await;
    let spec = &ring.spec;
    let mut world = World {
        desired: spec.replicas,
        replication_factor: spec.ring.replication_factor,
        paused: spec.desired_state == DesiredState::Paused,
        prune: spec.storage.retention.when_scaled == Keep::Delete && spec.storage.r#type == StorageType::Persistent,
        persistent: spec.storage.r#type == StorageType::Persistent,
        abort_leave: ring.annotations().contains_key(ABORT_LEAVE),
        replicas,
        pods: pods.collect(),
        claims: claims.collect(),
        words,
        ring_id: ring.annotations().get(RING_ID).cloned(),
        held_before: false,
    };
    // The evidence counts when it has been the same for two stabilizations.
    let gist: Vec<_> = world
        .words
        .values()
        .map(|word| {
            word.as_ref().map(|word| (&word.disk, word.state, &word.members, &word.successor, word.under_replicated))
        })
        .collect();
    let gist = format!("{gist:?}");
    let stabilize = crate::duration(&spec.ring.stabilize_interval).unwrap_or(Duration::from_secs(3));
    match &memory.evidence {
        Some((known, since)) if *known == gist => world.held_before = since.elapsed() >= 2 * stabilize,
        _ => memory.evidence = Some((gist, Instant::now())),
    }
    Ok(world)
}

/// Carries one step out; whatever cannot be undone goes with a precondition.
async fn act(
    ring: &ChordRing,
    names: &Names<'_>,
    apis: &Apis,
    context: &Context,
    memory: &mut Memory,
    world: &World,
    step: &Step,
) -> anyhow::Result<()> {
    let set_name = format!("{}-node", names.name);
    let annotate = |key: &str, value: &str| json!({ "metadata": { "annotations": { key: value } } });
    match step {
        Step::Wait { .. } | Step::Idle => {}
        Step::CreateStatefulSet { replicas } => {
            apis.sets.create(&kube::api::PostParams::default(), &names.stateful_set(*replicas)).await?;
        }
        Step::GrowStatefulSet { to } | Step::ShrinkStatefulSet { to } => {
            let live = apis.sets.get(&set_name).await?;
            if live.spec.as_ref().and_then(|spec| spec.replicas) != world.replicas {
                anyhow::bail!("the StatefulSet changed since it was looked at");
            }
            // With the resourceVersion, so that it fails if anybody else changes it meanwhile.
            let patch = json!({
                "metadata": { "resourceVersion": live.resource_version() }, "spec": { "replicas": to },
            });
            apis.sets.patch(&set_name, &PatchParams::default(), &Patch::Merge(&patch)).await?;
            memory.evidence = None;
        }
        Step::PruneClaim { ordinal, uid } => {
            let params = DeleteParams {
                preconditions: Some(Preconditions { uid: Some(uid.clone()), resource_version: None }),
                ..DeleteParams::default()
            };
            apis.claims.delete(&format!("data-{}-node-{ordinal}", names.name), &params).await?;
        }
        Step::MarkClaim { ordinal, ring_id, disk } => {
            let patch = json!({ "metadata": { "annotations": { RING_ID: ring_id, DISK: disk } } });
            let claim = format!("data-{}-node-{ordinal}", names.name);
            apis.claims.patch(&claim, &PatchParams::default(), &Patch::Merge(&patch)).await?;
        }
        Step::ChooseRingId => {
            let ring_id = uuid::Uuid::new_v4().simple().to_string();
            apis.rings.patch(&names.name, &PatchParams::default(), &Patch::Merge(&annotate(RING_ID, &ring_id))).await?;
        }
        Step::AdoptRingId { ring_id } => {
            apis.rings.patch(&names.name, &PatchParams::default(), &Patch::Merge(&annotate(RING_ID, ring_id))).await?;
        }
        Step::Bootstrap { ring_id } => {
            let disk = world.word(0).map(|word| word.disk.clone()).unwrap_or_default();
            let request = v1::AdminJoinRequest {
                operator_epoch: context.epoch,
                disk_uuid: unhex(&disk).into(),
                bootstrap_ring_id: Some(unhex(ring_id).into()),
                ..v1::AdminJoinRequest::default()
            };
            memory.members.join(&names.address(0), request).await?;
        }
        Step::Join { ordinal, seeds } => {
            let disk = world.word(*ordinal).map(|word| word.disk.clone()).unwrap_or_default();
            let request = v1::AdminJoinRequest {
                operator_epoch: context.epoch,
                disk_uuid: unhex(&disk).into(),
                bootstrap_ring_id: None,
                seeds: seeds.clone(),
                ring_id: unhex(world.ring_id.as_deref().unwrap_or_default()).into(),
            };
            memory.members.join(&names.address(*ordinal), request).await?;
        }
        Step::Leave { ordinal } | Step::AbortLeave { ordinal } => {
            let disk = world.word(*ordinal).map(|word| word.disk.clone()).unwrap_or_default();
            let addr = names.address(*ordinal);
            if matches!(step, Step::Leave { .. }) {
                memory.members.leave(&addr, context.epoch, &disk).await?;
            } else {
                memory.members.abort_leave(&addr, context.epoch, &disk).await?;
                let patch = json!({ "metadata": { "annotations": { ABORT_LEAVE: null } } });
                apis.rings.patch(&names.name, &PatchParams::default(), &Patch::Merge(&patch)).await?;
            }
        }
        Step::Evict { through, id, disk } => {
            memory.members.evict(&names.address(*through), context.epoch, id, disk).await?;
        }
    }
    if !matches!(step, Step::Wait { .. } | Step::Idle) {
        tracing::info!(ring = name_of(ring), ?step, "done");
        metrics::counter!("chord_operator_steps_total").increment(1);
    }
    Ok(())
}
