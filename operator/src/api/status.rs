//! What the operator reports. All of it can be worked out anew at any time.
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// State of a ring.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct ChordRingStatus {
    /// Generation of the spec this is about.
    pub observed_generation: i64,
    /// Members.
    pub replicas: i32,
    /// Members that serve.
    pub ready_replicas: i32,
    /// Selects the members' pods.
    pub selector: String,
    /// The ring as its members report it.
    pub ring: RingStatus,
    /// What is under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation: Option<Operation>,
    /// Each member.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<MemberStatus>,
    /// The gateway.
    pub gateway: GatewayStatus,
    /// What holds and what does not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

impl ChordRingStatus {
    /// Whether the summary condition `Ready` holds.
    pub fn is_ready(&self) -> bool {
        self.conditions.iter().any(|condition| condition.type_ == types::READY && condition.status == "True")
    }
}

/// The ring as its members report it.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct RingStatus {
    /// Identity of the ring, 32 hexadecimal digits.
    pub id: String,
    /// Members on the circle.
    pub size: i32,
    /// Whether all members agree and their pointers form one circle.
    pub consistent: bool,
    /// Shards with fewer copies than wanted.
    pub under_replicated_shards: i64,
    /// Keys, rounded to two digits above a hundred so that it does not change all the time.
    pub keys: i64,
    /// Bytes, rounded likewise.
    pub bytes: i64,
}

/// What is under way.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct Operation {
    /// Join, Leave or Replace.
    pub r#type: String,
    /// Member it is about.
    pub member: String,
    /// How far it is.
    pub progress: String,
}

/// One member.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct MemberStatus {
    /// Name of the pod.
    pub name: String,
    /// Number in the name.
    pub ordinal: i32,
    /// Position on the circle, 40 hexadecimal digits.
    pub ring_id: String,
    /// Starts of the process over its data directory.
    pub incarnation: i64,
    /// Empty, Joining, Serving, Leaving, Left, Evicted or Unknown.
    pub state: String,
    /// Whether it serves.
    pub ready: bool,
    /// Why it is as it is.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// The gateway.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct GatewayStatus {
    /// Pods that are ready.
    pub ready_replicas: i32,
    /// Where it is inside the cluster.
    pub url: String,
}

/// Types of conditions.
pub mod types {
    pub const ACCEPTED: &str = "Accepted";
    pub const AVAILABLE: &str = "Available";
    pub const PROGRESSING: &str = "Progressing";
    pub const DEGRADED: &str = "Degraded";
    pub const RING_CONSISTENT: &str = "RingConsistent";
    pub const FULLY_REPLICATED: &str = "FullyReplicated";
    pub const CERTIFICATES_READY: &str = "CertificatesReady";
    pub const PAUSED: &str = "Paused";
    pub const READY: &str = "Ready";
}

/// Reasons of conditions: one fixed list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    WaitingForHealthyRing,
    WaitingForGateway,
    MemberJoining,
    MemberLeaving,
    WaitingForHandoff,
    VerifyingHandoff,
    ScalingStatefulSet,
    WaitingForPodDeletion,
    PruningStorage,
    ScaleUpDeferred,
    LeaveStalled,
    MemberLost,
    MemberStarting,
    PotentialDataLoss,
    OperatorCannotReachMembers,
    InvalidSpec,
    CertificatesMissing,
    Bootstrapping,
    Paused,
    AsExpected,
}

impl Reason {
    /// Whether somebody should look.
    pub fn is_alarming(self) -> bool {
        match self {
            Reason::LeaveStalled
            | Reason::MemberLost
            | Reason::PotentialDataLoss
            | Reason::OperatorCannotReachMembers
            | Reason::InvalidSpec
            | Reason::CertificatesMissing => true,
            Reason::WaitingForHealthyRing
            | Reason::WaitingForGateway
            | Reason::Bootstrapping
            | Reason::MemberStarting
            | Reason::MemberJoining
            | Reason::MemberLeaving
            | Reason::WaitingForHandoff
            | Reason::VerifyingHandoff
            | Reason::ScalingStatefulSet
            | Reason::WaitingForPodDeletion
            | Reason::PruningStorage
            | Reason::ScaleUpDeferred
            | Reason::Paused
            | Reason::AsExpected => false,
        }
    }
}
