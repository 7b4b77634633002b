//! What a user may ask for. The CRD is generated from this file; its rules are in CEL there and again in `validate`.
use k8s_openapi::api::core::v1::{
    Affinity, LocalObjectReference, ResourceRequirements, Toleration, TopologySpreadConstraint,
};
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A Chord ring of pods: a durable, linearizable key-value store.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Default)]
#[kube(
    group = "chordring.dev",
    version = "v1alpha1",
    kind = "ChordRing",
    plural = "chordrings",
    shortname = "ring",
    category = "chord",
    namespaced,
    status = "crate::api::status::ChordRingStatus",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(name = "Desired", type_ = "integer", json_path = ".spec.replicas"),
    printcolumn(name = "Members", type_ = "integer", json_path = ".status.replicas"),
    printcolumn(name = "Ready", type_ = "integer", json_path = ".status.readyReplicas"),
    printcolumn(name = "Status", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "Gateway", type_ = "string", json_path = ".status.gateway.url"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "RF", type_ = "integer", json_path = ".spec.ring.replicationFactor", priority = 1),
    printcolumn(name = "Keys", type_ = "integer", json_path = ".status.ring.keys", priority = 1),
    printcolumn(name = "Image", type_ = "string", json_path = ".spec.image", priority = 1),
    doc = "A Chord ring of pods: a durable, linearizable key-value store.",
    validation = ("self.metadata.name.size() <= 47 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')", "metadata.name must have at most 47 characters, a-z, 0-9 and -, and begin with a letter: names of Services and labels of pods are made of it")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("self.replicas >= self.ring.replicationFactor", "spec.replicas must not be below spec.ring.replicationFactor: each key needs that many members"),
    validation = ("self.ring.successorListLength >= self.ring.replicationFactor", "spec.ring.successorListLength must not be below spec.ring.replicationFactor"),
    validation = ("self.tls.mode != 'Secret' || has(self.tls.secretName)", "spec.tls.secretName is required when spec.tls.mode is Secret: the Secret with tls.crt, tls.key and ca.crt of the authority"),
)]
pub struct ChordRingSpec {
    /// Image of the nodes and the gateway; default: the operator's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// When to pull the image.
    #[serde(default)]
    pub image_pull_policy: PullPolicy,
    /// Secrets for pulling the image.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub image_pull_secrets: Vec<LocalObjectReference>,
    /// Running, or Paused: status goes on, nothing else does.
    #[serde(default)]
    pub desired_state: DesiredState,
    /// Members of the ring.
    #[serde(default = "three")]
    #[schemars(range(min = 1, max = 512))]
    pub replicas: i32,
    /// The protocol's settings.
    #[serde(default)]
    pub ring: RingSpec,
    /// Volumes of the members.
    #[serde(default)]
    pub storage: StorageSpec,
    /// Resources of each node's container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    /// Where pods may run.
    #[serde(default)]
    pub scheduling: SchedulingSpec,
    /// Certificates.
    #[serde(default)]
    pub tls: TlsSpec,
    /// The read-only gateway with the dashboard.
    #[serde(default)]
    pub gateway: GatewaySpec,
    /// NetworkPolicies for nodes and gateway.
    #[serde(default)]
    pub network_policy: NetworkPolicySpec,
    /// PodDisruptionBudget for the nodes.
    #[serde(default)]
    pub pod_disruption_budget: DisruptionBudgetSpec,
    /// Logs of nodes and gateway.
    #[serde(default)]
    pub logging: LoggingSpec,
}

fn three() -> i32 {
    3
}

fn shards() -> i32 {
    4096
}

fn successors() -> i32 {
    8
}

fn three_seconds() -> String {
    "3s".into()
}

fn ten_minutes() -> String {
    "10m".into()
}

fn info() -> String {
    "info".into()
}

fn ten_gibibytes() -> String {
    "10Gi".into()
}

/// See `imagePullPolicy`.
#[derive(Serialize, Deserialize, schemars::JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum PullPolicy {
    /// Always.
    Always,
    /// If the node does not have it.
    #[default]
    IfNotPresent,
    /// Never.
    Never,
}

/// See `desiredState`.
#[derive(Serialize, Deserialize, schemars::JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum DesiredState {
    /// The operator brings the ring to what the spec says.
    #[default]
    Running,
    /// The operator only reports.
    Paused,
}

/// Settings of the protocol.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct RingSpec {
    /// Even arcs by ordinal, or the hash of the name as in the Chord paper. Immutable.
    #[x_kube(validation = ("self == oldSelf", "spec.ring.placement is immutable: ids of members cannot change"))]
    #[serde(default)]
    pub placement: Placement,
    /// Copies of each key. Immutable.
    #[schemars(range(min = 1, max = 7))]
    #[x_kube(validation = ("self == oldSelf", "spec.ring.replicationFactor is immutable in v1alpha1"))]
    #[serde(default = "three")]
    pub replication_factor: i32,
    /// Shards of the key space, a power of two. Immutable.
    #[schemars(range(min = 1, max = 65536))]
    #[x_kube(
        validation = ("self == oldSelf", "spec.ring.shards is immutable"),
        validation = ("self in [1,2,4,8,16,32,64,128,256,512,1024,2048,4096,8192,16384,32768,65536]", "spec.ring.shards must be a power of two")
    )]
    #[serde(default = "shards")]
    pub shards: i32,
    /// Successors each member keeps.
    #[schemars(range(min = 1, max = 32))]
    #[serde(default = "successors")]
    pub successor_list_length: i32,
    /// Time between stabilizations.
    #[x_kube(validation = ("duration(self) >= duration('100ms')", "spec.ring.stabilizeInterval must be at least 100ms"))]
    #[schemars(regex(pattern = r"^([0-9]+(ms|s|m|h))+$"))]
    #[serde(default = "three_seconds")]
    pub stabilize_interval: String,
    /// Time between repairs of the finger tables.
    #[x_kube(validation = ("duration(self) >= duration('100ms')", "spec.ring.fixFingersInterval must be at least 100ms"))]
    #[schemars(regex(pattern = r"^([0-9]+(ms|s|m|h))+$"))]
    #[serde(default = "three_seconds")]
    pub fix_fingers_interval: String,
    /// Time between comparisons of replicas.
    #[x_kube(validation = ("duration(self) >= duration('1s')", "spec.ring.antiEntropyInterval must be at least 1s"))]
    #[schemars(regex(pattern = r"^([0-9]+(ms|s|m|h))+$"))]
    #[serde(default = "ten_minutes")]
    pub anti_entropy_interval: String,
}

impl Default for RingSpec {
    fn default() -> RingSpec {
        RingSpec {
            placement: Placement::Balanced,
            replication_factor: three(),
            shards: shards(),
            successor_list_length: successors(),
            stabilize_interval: three_seconds(),
            fix_fingers_interval: three_seconds(),
            anti_entropy_interval: ten_minutes(),
        }
    }
}

/// See `ring.placement`.
#[derive(Serialize, Deserialize, schemars::JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Placement {
    /// Even arcs by ordinal.
    #[default]
    Balanced,
    /// SHA-256 of the name.
    Hashed,
}

/// Volumes of the members.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("self.type == oldSelf.type", "spec.storage.type is immutable"),
    validation = ("has(self.storageClassName) == has(oldSelf.storageClassName) && (!has(self.storageClassName) || self.storageClassName == oldSelf.storageClassName)", "spec.storage.storageClassName is immutable"),
    validation = ("self.size == oldSelf.size", "spec.storage.size cannot change yet: make a new ring and copy the keys"),
)]
pub struct StorageSpec {
    /// Persistent volumes, or directories that end with the pod.
    #[serde(default)]
    pub r#type: StorageType,
    /// Size of each volume.
    #[x_kube(validation = ("quantity(self).compareTo(quantity('16Mi')) >= 0", "spec.storage.size must be at least 16Mi"))]
    #[schemars(regex(pattern = r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$"))]
    #[serde(default = "ten_gibibytes")]
    pub size: String,
    /// Class of the volumes; default: the cluster's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[serde(default)]
    pub storage_class_name: Option<String>,
    /// What becomes of volumes.
    #[serde(default)]
    pub retention: Retention,
}

impl Default for StorageSpec {
    fn default() -> StorageSpec {
        let (r#type, retention) = (StorageType::Persistent, Retention::default());
        StorageSpec { r#type, size: ten_gibibytes(), storage_class_name: None, retention }
    }
}

/// See `storage.type`.
#[derive(Serialize, Deserialize, schemars::JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum StorageType {
    /// A volume per member that outlives its pod.
    #[default]
    Persistent,
    /// An emptyDir: a pod that is lost is a member that is lost.
    Ephemeral,
}

/// What becomes of volumes.
#[derive(Serialize, Deserialize, schemars::JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub struct Retention {
    /// Of a member that has left.
    pub when_scaled: Keep,
    /// Of a ring that is deleted.
    pub when_deleted: Keep,
}

impl Default for Retention {
    fn default() -> Retention {
        Retention { when_scaled: Keep::Delete, when_deleted: Keep::Retain }
    }
}

/// Keep or not.
#[derive(Serialize, Deserialize, schemars::JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Delete it.
    Delete,
    /// Keep it.
    Retain,
}

/// Where pods may run.
#[derive(Serialize, Deserialize, schemars::JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct SchedulingSpec {
    /// Labels a machine must have.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that do not matter.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<Toleration>,
    /// Affinity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// Spread; default: evenly over machines where that is possible.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub topology_spread_constraints: Vec<TopologySpreadConstraint>,
    /// Priority class.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority_class_name: Option<String>,
}

/// Certificates.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("(self.mode == 'Disabled') == (oldSelf.mode == 'Disabled')", "spec.tls.mode cannot change between Disabled and the others: running members would not talk to restarted ones"))]
pub struct TlsSpec {
    /// Who makes certificates.
    #[serde(default)]
    pub mode: TlsMode,
    /// Secret with the authority (`tls.crt`, `tls.key`), for mode Secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[serde(default)]
    pub secret_name: Option<String>,
}

/// See `tls.mode`.
#[derive(Serialize, Deserialize, schemars::JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum TlsMode {
    /// The operator makes an authority and certificates, and renews them.
    #[default]
    OperatorManaged,
    /// The authority comes from a Secret; the operator makes certificates with it.
    Secret,
    /// None: whoever reaches a port may use it.
    Disabled,
}

/// The gateway.
#[derive(Serialize, Deserialize, schemars::JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct GatewaySpec {
    /// Whether there is one.
    pub enabled: bool,
    /// Pods of it.
    #[schemars(range(min = 1, max = 100))]
    pub replicas: i32,
    /// Resources of its container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    /// Its Service.
    pub service: ServiceSpec,
    /// Requests per visitor.
    pub rate_limit: RateLimit,
}

impl Default for GatewaySpec {
    fn default() -> GatewaySpec {
        let (service, rate_limit) = (ServiceSpec::default(), RateLimit::default());
        GatewaySpec { enabled: true, replicas: 2, resources: None, service, rate_limit }
    }
}

/// Service of the gateway.
#[derive(Serialize, Deserialize, schemars::JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceSpec {
    /// Kind of Service.
    pub r#type: ServiceType,
}

/// See `gateway.service.type`.
#[derive(Serialize, Deserialize, schemars::JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ServiceType {
    /// Inside the cluster.
    #[default]
    ClusterIP,
    /// On a port of every machine.
    NodePort,
    /// Through a load balancer.
    LoadBalancer,
}

/// Requests per visitor's address.
#[derive(Serialize, Deserialize, schemars::JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub struct RateLimit {
    /// Sustained.
    #[schemars(range(min = 1, max = 100000))]
    pub requests_per_second: i32,
    /// At once.
    #[schemars(range(min = 1, max = 100000))]
    pub burst: i32,
}

impl Default for RateLimit {
    fn default() -> RateLimit {
        RateLimit { requests_per_second: 20, burst: 40 }
    }
}

/// NetworkPolicies: off by default, as many clusters have their own.
#[derive(Serialize, Deserialize, schemars::JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Default)]
#[serde(default)]
pub struct NetworkPolicySpec {
    /// Whether they are made.
    pub enabled: bool,
}

/// PodDisruptionBudget: on by default.
#[derive(Serialize, Deserialize, schemars::JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(default)]
pub struct DisruptionBudgetSpec {
    /// Whether it is made.
    pub enabled: bool,
}

impl Default for DisruptionBudgetSpec {
    fn default() -> DisruptionBudgetSpec {
        DisruptionBudgetSpec { enabled: true }
    }
}

/// Logs.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct LoggingSpec {
    /// error, warn, info, debug or trace, or directives such as chord_node=debug,info.
    #[x_kube(validation = ("self in ['error', 'warn', 'info', 'debug', 'trace'] || self.matches('^[a-z0-9_:]+=[a-z]+(,[a-z0-9_:=]+)*$')", "spec.logging.level must be error, warn, info, debug or trace, or directives such as chord_node=debug,info"))]
    #[serde(default = "info")]
    pub level: String,
    /// Json or Text.
    #[serde(default)]
    pub format: LogFormat,
}

impl Default for LoggingSpec {
    fn default() -> LoggingSpec {
        LoggingSpec { level: info(), format: LogFormat::Json }
    }
}

/// See `logging.format`.
#[derive(Serialize, Deserialize, schemars::JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// One JSON object a line.
    #[default]
    Json,
    /// For people.
    Text,
}
