//! The objects of a ring. Pure: the same spec gives the same bytes.
use crate::api::{
    ChordRing,
    spec::{LogFormat, Placement, PullPolicy, ServiceType, StorageType, TlsMode},
};
use k8s_openapi::{
    api::{
        apps::v1::{Deployment, StatefulSet},
        core::v1::{Service, ServiceAccount},
        networking::v1::NetworkPolicy,
        policy::v1::PodDisruptionBudget,
    },
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::{Resource as _, ResourceExt as _};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// Port between nodes.
pub const INTERNAL: u16 = 7400;
/// Port for applications.
pub const CLIENT: u16 = 7401;
/// Port for probes and metrics.
pub const HTTP: u16 = 9400;
/// Marks a pod template, without the operator's version in it.
pub const TEMPLATE_HASH: &str = "chordring.dev/template-hash";

/// A ring with its names.
pub struct Names<'a> {
    ring: &'a ChordRing,
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    image: String,
}

impl<'a> Names<'a> {
    /// `image`: used where the spec names none.
    pub fn new(ring: &'a ChordRing, image: &str) -> Names<'a> {
        let image = ring.spec.image.clone().unwrap_or_else(|| image.to_owned());
        Names { ring, name: ring.name_any(), namespace: ring.namespace().unwrap_or_default(), image }
    }

    /// internal host:port of a member.
    pub fn address(&self, ordinal: i32) -> String {
        format!("{0}-node-{ordinal}.{0}-nodes.{1}.svc:{INTERNAL}", self.name, self.namespace)
    }

    /// Name of a member's volume claim.
    pub fn claim(&self, ordinal: i32) -> String {
        format!("{}{ordinal}", self.claim_prefix())
    }

    /// What the names of all members' claims begin with.
    pub fn claim_prefix(&self) -> String {
        format!("data-{}-node-", self.name)
    }

    fn labels(&self, component: &str) -> Value {
        json!({
            "app.kubernetes.io/name": "chord",
            "app.kubernetes.io/instance": self.name,
            "app.kubernetes.io/component": component,
            "app.kubernetes.io/managed-by": "chord-operator",
        })
    }

    fn selector(&self, component: &str) -> Value {
        json!({
            "app.kubernetes.io/name": "chord",
            "app.kubernetes.io/instance": self.name,
            "app.kubernetes.io/component": component,
        })
    }

    /// As a label selector's text.
    pub fn selector_text(&self, component: &str) -> String {
        format!(
            "app.kubernetes.io/name=chord,app.kubernetes.io/instance={},app.kubernetes.io/component={component}",
            self.name
        )
    }

    fn meta(&self, name: String, component: &str) -> Value {
        let owner: Option<OwnerReference> = self.ring.controller_owner_ref(&());
        json!({ "name": name, "namespace": self.namespace, "labels": self.labels(component), "ownerReferences": [owner] })
    }

    fn object<T: DeserializeOwned>(&self, value: Value) -> T {
        // The values are written out below; the tests build every one of them.
        serde_json::from_value(value)
            .unwrap_or_else(|error| panic!("an object of a ring does not fit its type: {error}"))
    }

    /// ServiceAccounts of nodes and gateway. Neither may use the API.
    pub fn service_accounts(&self) -> Vec<ServiceAccount> {
        ["node", "gateway"]
            .map(|component| {
                self.object(json!({
                    "apiVersion": "v1", "kind": "ServiceAccount",
                    "metadata": self.meta(format!("{}-{component}", self.name), component),
                    "automountServiceAccountToken": false,
                }))
            })
            .into()
    }

    /// Headless for the members, one for applications, one for the gateway.
    pub fn services(&self) -> Vec<Service> {
        let port = |name: &str, port: u16| json!({ "name": name, "port": port, "targetPort": name, "protocol": "TCP" });
        let mut services = vec![
            json!({
                "apiVersion": "v1", "kind": "Service",
                "metadata": self.meta(format!("{}-nodes", self.name), "node"),
                "spec": {
                    "clusterIP": "None", "publishNotReadyAddresses": true, "selector": self.selector("node"),
                    "ports": [port("internal", INTERNAL), port("client", CLIENT), port("http", HTTP)],
                },
            }),
            json!({
                "apiVersion": "v1", "kind": "Service",
                "metadata": self.meta(self.name.clone(), "node"),
                "spec": { "selector": self.selector("node"), "ports": [port("client", CLIENT)] },
            }),
        ];
        if self.ring.spec.gateway.enabled {
            let kind = match self.ring.spec.gateway.service.r#type {
                ServiceType::ClusterIP => "ClusterIP",
                ServiceType::NodePort => "NodePort",
                ServiceType::LoadBalancer => "LoadBalancer",
            };
            services.push(json!({
                "apiVersion": "v1", "kind": "Service",
                "metadata": self.meta(format!("{}-gateway", self.name), "gateway"),
                "spec": {
                    "type": kind, "selector": self.selector("gateway"),
                    "ports": [{ "name": "http", "port": 80, "targetPort": "web", "protocol": "TCP" }],
                },
            }));
        }
        services.into_iter().map(|service| self.object(service)).collect()
    }

    fn security(&self) -> (Value, Value) {
        let pod = json!({
            "runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532,
            "fsGroupChangePolicy": "OnRootMismatch", "seccompProfile": { "type": "RuntimeDefault" },
        });
        let container = json!({
            "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": { "drop": ["ALL"] },
        });
        (pod, container)
    }

    fn pull_policy(&self) -> &'static str {
        match self.ring.spec.image_pull_policy {
            PullPolicy::Always => "Always",
            PullPolicy::IfNotPresent => "IfNotPresent",
            PullPolicy::Never => "Never",
        }
    }

    fn log_format(&self) -> &'static str {
        match self.ring.spec.logging.format {
            LogFormat::Json => "json",
            LogFormat::Text => "text",
        }
    }

    fn scheduling(&self, component: &str) -> Value {
        let scheduling = &self.ring.spec.scheduling;
        let spread = if scheduling.topology_spread_constraints.is_empty() {
            json!([{
                "maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": { "matchLabels": self.selector(component) },
            }])
        } else {
            json!(scheduling.topology_spread_constraints)
        };
        json!({
            "nodeSelector": scheduling.node_selector, "tolerations": scheduling.tolerations,
            "affinity": scheduling.affinity, "topologySpreadConstraints": spread,
            "priorityClassName": scheduling.priority_class_name,
        })
    }

    fn template(&self, component: &str, mut spec: Value) -> Value {
        if let (Some(spec), Value::Object(scheduling)) = (spec.as_object_mut(), self.scheduling(component)) {
            spec.extend(scheduling.into_iter().filter(|(_, value)| !value.is_null()));
            if !self.ring.spec.image_pull_secrets.is_empty() {
                spec.insert("imagePullSecrets".into(), json!(self.ring.spec.image_pull_secrets));
            }
        }
        let hash: String = Sha256::digest(spec.to_string()).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        json!({ "metadata": { "labels": self.labels(component), "annotations": { TEMPLATE_HASH: hash } }, "spec": spec })
    }

    fn tls(&self) -> bool {
        self.ring.spec.tls.mode != TlsMode::Disabled
    }

    /// The members' StatefulSet. Its replicas are the planner's to decide.
    pub fn stateful_set(&self, replicas: i32) -> StatefulSet {
        let spec = &self.ring.spec;
        let ring = &spec.ring;
        let (pod_security, container_security) = self.security();
        let placement = match ring.placement {
            Placement::Balanced => "balanced",
            Placement::Hashed => "hashed",
        };
        let host = format!("$(POD_NAME).{}-nodes.{}.svc", self.name, self.namespace);
        let mut args: Vec<String> = vec![
            "--managed".into(),
            "--name=$(POD_NAME)".into(),
            format!("--ring-name={}", self.name),
            format!("--namespace={}", self.namespace),
            "--data-dir=/data/node".into(),
            format!("--placement={placement}"),
            format!("--advertise-internal={host}:{INTERNAL}"),
            format!("--advertise-client={host}:{CLIENT}"),
            format!("--replication-factor={}", ring.replication_factor),
            format!("--shards={}", ring.shards),
            format!("--successor-list-length={}", ring.successor_list_length),
            format!("--stabilize-interval={}", ring.stabilize_interval),
            format!("--fix-fingers-interval={}", ring.fix_fingers_interval),
            format!("--anti-entropy-interval={}", ring.anti_entropy_interval),
            format!("--log-level={}", spec.logging.level),
            format!("--log-format={}", self.log_format()),
        ];
        let mut mounts = vec![json!({ "name": "data", "mountPath": "/data" })];
        let mut volumes = Vec::new();
        if self.tls() {
            args.push("--tls-dir=/etc/chord/tls".into());
            mounts.push(json!({ "name": "tls", "mountPath": "/etc/chord/tls", "readOnly": true }));
            volumes.push(json!({ "name": "tls", "secret": { "secretName": format!("{}-node-tls", self.name) } }));
        }
        let persistent = spec.storage.r#type == StorageType::Persistent;
        if !persistent {
            volumes.push(json!({ "name": "data", "emptyDir": { "sizeLimit": spec.storage.size } }));
        }
        let probe = |path: &str, period: u32, failures: u32| {
            json!({
                "httpGet": { "path": path, "port": "http" }, "periodSeconds": period, "failureThreshold": failures,
                "timeoutSeconds": 5,
            })
        };
        let resources = spec.resources.clone().map_or_else(
            || json!({ "requests": { "cpu": "50m", "memory": "64Mi" }, "limits": { "memory": "1Gi" } }),
            |resources| json!(resources),
        );
        let template = self.template(
            "node",
            json!({
                "serviceAccountName": format!("{}-node", self.name),
                "automountServiceAccountToken": false,
                "enableServiceLinks": false,
                "terminationGracePeriodSeconds": 60,
                "securityContext": pod_security,
                "volumes": volumes,
                "containers": [{
                    "name": "node", "image": self.image, "imagePullPolicy": self.pull_policy(),
                    "command": ["/chord-node"], "args": args,
                    "env": [{ "name": "POD_NAME", "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } } }],
                    "ports": [
                        { "name": "internal", "containerPort": INTERNAL, "protocol": "TCP" },
                        { "name": "client", "containerPort": CLIENT, "protocol": "TCP" },
                        { "name": "http", "containerPort": HTTP, "protocol": "TCP" },
                    ],
                    "resources": resources, "securityContext": container_security, "volumeMounts": mounts,
                    "startupProbe": probe("/livez", 1, 120),
                    "livenessProbe": probe("/livez", 10, 6),
                    "readinessProbe": probe("/readyz", 2, 2),
                }],
            }),
        );
        let claims = if persistent {
            let storage = &spec.storage;
            let mut claim = json!({
                "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": storage.size } },
            });
            if let Some(class) = &storage.storage_class_name {
                claim["storageClassName"] = json!(class);
            }
            json!([{ "metadata": { "name": "data", "labels": self.labels("node") }, "spec": claim }])
        } else {
            json!([])
        };
        self.object(json!({
            "apiVersion": "apps/v1", "kind": "StatefulSet",
            "metadata": self.meta(format!("{}-node", self.name), "node"),
            "spec": {
                "replicas": replicas,
                "serviceName": format!("{}-nodes", self.name),
                "podManagementPolicy": "Parallel",
                // Of a ring that is deleted; those of members that left are for the planner to prune.
                "persistentVolumeClaimRetentionPolicy": { "whenDeleted": spec.storage.retention.when_deleted, "whenScaled": "Retain" },
                "updateStrategy": { "type": "OnDelete" },
                "selector": { "matchLabels": self.selector("node") },
                "template": template,
                "volumeClaimTemplates": claims,
            },
        }))
    }

    /// The gateway's Deployment, if there is to be one.
    pub fn gateway(&self) -> Option<Deployment> {
        let gateway = &self.ring.spec.gateway;
        if !gateway.enabled {
            return None;
        }
        let (pod_security, container_security) = self.security();
        let mut args = vec![
            format!("--ring-name={}", self.name),
            format!("--namespace={}", self.namespace),
            format!("--endpoints={}-nodes.{}.svc:{CLIENT}", self.name, self.namespace),
            format!("--requests-per-second={}", gateway.rate_limit.requests_per_second),
            format!("--burst={}", gateway.rate_limit.burst),
            format!("--log-level={}", self.ring.spec.logging.level),
            format!("--log-format={}", self.log_format()),
        ];
        let (mut mounts, mut volumes) = (Vec::new(), Vec::new());
        if self.tls() {
            args.push("--tls-dir=/etc/chord/tls".into());
            mounts.push(json!({ "name": "tls", "mountPath": "/etc/chord/tls", "readOnly": true }));
            volumes.push(json!({ "name": "tls", "secret": { "secretName": format!("{}-gateway-tls", self.name) } }));
        }
        let resources = gateway.resources.clone().map_or_else(
            || json!({ "requests": { "cpu": "20m", "memory": "32Mi" }, "limits": { "memory": "512Mi" } }),
            |resources| json!(resources),
        );
        let probe = |path: &str, period: u32| json!({ "httpGet": { "path": path, "port": "http" }, "periodSeconds": period, "timeoutSeconds": 5 });
        let template = self.template(
            "gateway",
            json!({
                "serviceAccountName": format!("{}-gateway", self.name),
                "automountServiceAccountToken": false,
                "enableServiceLinks": false,
                "securityContext": pod_security,
                "volumes": volumes,
                "containers": [{
                    "name": "gateway", "image": self.image, "imagePullPolicy": self.pull_policy(),
                    "command": ["/chord-gateway"], "args": args,
                    "ports": [
                        { "name": "web", "containerPort": 8080, "protocol": "TCP" },
                        { "name": "http", "containerPort": HTTP, "protocol": "TCP" },
                    ],
                    "resources": resources, "securityContext": container_security, "volumeMounts": mounts,
                    "livenessProbe": probe("/livez", 10), "readinessProbe": probe("/readyz", 2),
                }],
            }),
        );
        Some(self.object(json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": self.meta(format!("{}-gateway", self.name), "gateway"),
            "spec": { "replicas": gateway.replicas, "selector": { "matchLabels": self.selector("gateway") }, "template": template },
        })))
    }

    /// One member may be away at a time; none of a single one would block every drain.
    pub fn disruption_budget(&self) -> Option<PodDisruptionBudget> {
        let spec = &self.ring.spec;
        (spec.pod_disruption_budget.enabled && spec.replicas > 1).then(|| {
            self.object(json!({
                "apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
                "metadata": self.meta(format!("{}-node", self.name), "node"),
                "spec": {
                    "maxUnavailable": 1, "unhealthyPodEvictionPolicy": "AlwaysAllow",
                    "selector": { "matchLabels": self.selector("node") },
                },
            }))
        })
    }

    /// Who may reach the nodes: each other and the operator on the internal port, anybody on the client port.
    pub fn network_policy(&self, operator_namespace: &str) -> Option<NetworkPolicy> {
        self.ring.spec.network_policy.enabled.then(|| {
            let operator = json!({
                "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": operator_namespace } },
                "podSelector": { "matchLabels": { "app.kubernetes.io/name": "chord-operator" } },
            });
            self.object(json!({
                "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
                "metadata": self.meta(format!("{}-node", self.name), "node"),
                "spec": {
                    "podSelector": { "matchLabels": self.selector("node") },
                    "policyTypes": ["Ingress"],
                    "ingress": [
                        { "from": [{ "podSelector": { "matchLabels": self.selector("node") } }, operator], "ports": [{ "port": INTERNAL, "protocol": "TCP" }] },
                        { "ports": [{ "port": CLIENT, "protocol": "TCP" }, { "port": HTTP, "protocol": "TCP" }] },
                    ],
                },
            }))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring() -> ChordRing {
        let spec = serde_json::from_value(json!({ "networkPolicy": { "enabled": true } })).expect("all defaults");
        let mut ring = ChordRing::new("demo", spec);
        ring.metadata.namespace = Some("ns".into());
        ring.metadata.uid = Some("u".into());
        ring
    }

    #[test]
    fn every_object_fits_its_type_and_is_the_same_each_time() {
        let ring = ring();
        let all = || {
            let names = Names::new(&ring, "image:1");
            serde_json::to_string(&(
                names.service_accounts(),
                names.services(),
                names.stateful_set(3),
                names.gateway(),
                names.disruption_budget(),
                names.network_policy("ops"),
            ))
            .expect("JSON")
        };
        assert_eq!(all(), all());
    }

    #[test]
    fn template_hash_depends_on_the_image_but_not_on_replicas() {
        let ring = ring();
        let hash = |image: &str, replicas| {
            let set = Names::new(&ring, image).stateful_set(replicas);
            set.spec.and_then(|spec| spec.template.metadata?.annotations?.remove(TEMPLATE_HASH)).expect("a hash")
        };
        assert_eq!(hash("image:1", 3), hash("image:1", 5));
        assert_ne!(hash("image:1", 3), hash("image:2", 3));
    }

    #[test]
    fn no_disruption_budget_for_a_single_member() {
        let mut ring = ring();
        ring.spec.replicas = 1;
        assert!(Names::new(&ring, "image:1").disruption_budget().is_none());
    }
}
