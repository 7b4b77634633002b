//! A namespace with one ring, its kubelet, and operators that may do what the chart lets them.
use crate::{
    cluster::{ADMIN, Cluster, OPERATOR},
    kubelet::Kubelet,
};
use chord_client::{
    Client as ChordClient, ClientSettings, Endpoints,
    net::{Pems, Tls},
};
use chord_operator::{
    api::ChordRing,
    controller::{self, Context},
};
use k8s_openapi::{
    ByteString,
    api::{
        apps::v1::StatefulSet,
        core::v1::{Namespace, PersistentVolumeClaim, Secret},
        rbac::v1::{Role, RoleBinding},
    },
};
use kube::{
    Api, Client, Resource, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
    client::Body,
    core::NamespaceResourceScope,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::{
    fmt::Debug,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{sync::Notify, task::JoinHandle};

/// The ring's name in every namespace.
pub const RING: &str = "r";
/// Longest wait for anything, on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(90);

/// A namespace.
pub struct Space {
    pub cluster: &'static Cluster,
    pub client: Client,
    pub namespace: String,
    pub kubelet: Kubelet,
    task: JoinHandle<()>,
    epochs: AtomicU64,
}

/// An operator in this process.
pub struct Operator {
    task: JoinHandle<()>,
}

impl Operator {
    /// Ends at once, in the middle of whatever it does.
    pub async fn crash(mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The chart's rules.
pub fn rules() -> Value {
    serde_norway::from_str(include_str!("../../../charts/chord-operator/files/rules.yaml")).expect("rules")
}

/// A ring of this many members that moves fast and is cheap.
pub fn spec(replicas: i32) -> Value {
    json!({
        "replicas": replicas,
        "ring": { "shards": 16, "stabilizeInterval": "200ms", "fixFingersInterval": "1s" },
        "tls": { "mode": "Disabled" },
    })
}

impl Space {
    /// Makes a namespace that admits restricted pods only, in which the operator may do what the chart lets it.
    pub async fn new(name: &str) -> Space {
        let cluster = Cluster::get().await;
        let client = cluster.client(ADMIN).await;
        let namespaces: Api<Namespace> = Api::all(client.clone());
        let labels = json!({ "pod-security.kubernetes.io/enforce": "restricted" });
        let namespace = json!({ "metadata": { "name": name, "labels": labels } });
        let namespace: Namespace = serde_json::from_value(namespace).expect("a namespace");
        namespaces.create(&PostParams::default(), &namespace).await.expect("a namespace");
        let dir = cluster.dir.join(format!("space-{name}"));
        std::fs::create_dir_all(&dir).expect("a directory");
        let kubelet = Kubelet::new(client.clone(), name, dir);
        let task = tokio::spawn(kubelet.clone().run());
        let space = Space { cluster, client, namespace: name.to_owned(), kubelet, task, epochs: AtomicU64::new(1) };
        let leases = json!([{ "apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["get", "create", "update"] }]);
        for (name, rules) in [("chord-operator", rules()), ("chord-operator-leader", leases)] {
            space.make::<Role>(json!({ "metadata": { "name": name }, "rules": rules })).await;
            space
                .make::<RoleBinding>(json!({
                    "metadata": { "name": name },
                    "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name },
                    "subjects": [{ "kind": "User", "name": OPERATOR, "apiGroup": "rbac.authorization.k8s.io" }],
                }))
                .await;
        }
        space
    }

    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    async fn make<K>(&self, value: Value)
    where
        K: Resource<Scope = NamespaceResourceScope> + DeserializeOwned + serde::Serialize + Clone + Debug,
        K::DynamicType: Default,
    {
        let object: K = serde_json::from_value(value).expect("it fits its type");
        self.api().create(&PostParams::default(), &object).await.expect("it is made");
    }

    fn run(&self, client: Client, epoch: u64, others: &[&Space]) -> impl Future<Output = ()> + Send + use<> {
        let spaces = || others.iter().copied().chain([self]);
        let dial = Kubelet::dial(spaces().map(|space| space.kubelet.clone()).collect());
        let namespaces: Vec<String> = spaces().map(|space| space.namespace.clone()).collect();
        let context = Context::new(client, "chord:test".into(), "ops".into(), epoch).dial(dial);
        async move { controller::run(Arc::new(context), &namespaces, std::future::pending()).await }
    }

    async fn start(&self, others: &[&Space]) -> Operator {
        let epoch = self.epochs.fetch_add(1, Ordering::Relaxed);
        Operator { task: tokio::spawn(self.run(self.cluster.client(OPERATOR).await, epoch, others)) }
    }

    /// Starts an operator, with an epoch above all before.
    pub async fn operator(&self) -> Operator {
        self.start(&[]).await
    }

    /// Starts one that looks after another namespace as well.
    pub async fn operator_with(&self, other: &Space) -> Operator {
        self.start(&[other]).await
    }

    /// Runs an operator that dies instead of its n-th write to the API (from 0). Whether it came to that within
    /// `patience`.
    pub async fn operator_until_write(&self, n: i64, patience: Duration) -> bool {
        let (left, died) = (Arc::new(AtomicI64::new(n)), Arc::new(Notify::new()));
        let inner = self.cluster.client(OPERATOR).await;
        let told = died.clone();
        let service = tower::service_fn(move |request: http::Request<Body>| {
            let dies = *request.method() != http::Method::GET && left.fetch_sub(1, Ordering::Relaxed) <= 0;
            let (inner, told) = (inner.clone(), told.clone());
            async move {
                if dies {
                    told.notify_one();
                    std::future::pending::<()>().await;
                }
                inner.send(request).await
            }
        });
        let client = Client::new(service, "default");
        let epoch = self.epochs.fetch_add(1, Ordering::Relaxed);
        let operator = Operator { task: tokio::spawn(self.run(client, epoch, &[])) };
        let died = tokio::time::timeout(patience, died.notified()).await.is_ok();
        operator.crash().await;
        died
    }

    /// Applies the ring as a user would.
    pub async fn apply(&self, spec: Value) -> kube::Result<ChordRing> {
        let object = json!({ "apiVersion": "chordring.dev/v1alpha1", "kind": "ChordRing", "metadata": { "name": RING }, "spec": spec });
        self.api::<ChordRing>().patch(RING, &PatchParams::apply("user").force(), &Patch::Apply(&object)).await
    }

    /// `kubectl scale`.
    pub async fn scale(&self, replicas: i32) -> kube::Result<()> {
        let patch = json!({ "spec": { "replicas": replicas } });
        self.api::<ChordRing>().patch_scale(RING, &PatchParams::default(), &Patch::Merge(&patch)).await.map(drop)
    }

    pub async fn ring(&self) -> ChordRing {
        self.api::<ChordRing>().get(RING).await.expect("the ring")
    }

    /// Polls until `look` is content; fails with what it said last.
    pub async fn until<T>(&self, what: &str, look: impl AsyncFn() -> Result<T, String>) -> T {
        let started = std::time::Instant::now();
        loop {
            let why = match look().await {
                Ok(done) => return done,
                Err(why) => why,
            };
            if started.elapsed() > PATIENCE {
                let status = self.ring().await.status.map(|status| json!(status).to_string());
                panic!("not in time: {what}: {why}\n{}\n{}", status.unwrap_or_default(), self.kubelet.logs());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Until a condition of the present generation is so, with this reason.
    pub async fn condition(&self, kind: &str, status: &str, reason: &str) -> String {
        self.until(&format!("{kind} is {status}: {reason}"), async || {
            let ring = self.ring().await;
            let conditions = ring.status.unwrap_or_default().conditions;
            let found = conditions.into_iter().find(|condition| condition.type_ == kind).ok_or("not set")?;
            let fits = found.status == status
                && found.reason == reason
                && found.observed_generation == ring.metadata.generation;
            if fits { Ok(found.message) } else { Err(format!("{}: {}: {}", found.status, found.reason, found.message)) }
        })
        .await
    }

    /// Until the ring is ready with as many members as its spec says.
    pub async fn ready(&self) -> ChordRing {
        self.condition("Ready", "True", "AsExpected").await;
        let ring = self.ring().await;
        let status = ring.status.clone().unwrap_or_default();
        assert_eq!(
            (status.replicas, status.ready_replicas, status.ring.size),
            (ring.spec.replicas, ring.spec.replicas, ring.spec.replicas)
        );
        ring
    }

    pub async fn set_replicas(&self) -> i32 {
        let set = self.api::<StatefulSet>().get("r-node").await.expect("the StatefulSet");
        set.spec.and_then(|spec| spec.replicas).expect("it has replicas")
    }

    pub fn claims(&self) -> Api<PersistentVolumeClaim> {
        self.api()
    }

    /// Names and uids of the claims.
    pub async fn claim_uids(&self) -> Vec<(String, String)> {
        let all = self.claims().list(&ListParams::default()).await.expect("claims");
        all.items.iter().map(|claim| (claim.name_any(), claim.uid().unwrap_or_default())).collect()
    }

    /// A client of the ring, with its certificate when it has one.
    pub async fn chord(&self) -> ChordClient {
        let mut endpoints = Endpoints::new(self.kubelet.endpoints());
        if let Some(secret) = self.api::<Secret>().get_opt("r-client-tls").await.expect("an answer") {
            let data = secret.data.unwrap_or_default();
            let part = |name: &str| data.get(name).cloned().unwrap_or(ByteString(Vec::new())).0;
            let pems = Pems { certificate: part("tls.crt"), key: part("tls.key"), authority: part("ca.crt") };
            endpoints = endpoints.tls(Tls::from_pems(pems).expect("a usable certificate"));
        }
        ChordClient::connect(endpoints, ClientSettings::default()).await.expect("the ring is reached")
    }

    /// Deletes the ring as `kubectl delete` does.
    pub async fn delete(&self) {
        self.api::<ChordRing>().delete(RING, &DeleteParams::background()).await.expect("it is deleted");
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        self.task.abort();
    }
}
