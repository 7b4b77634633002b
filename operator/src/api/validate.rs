//! The rules of the CRD once more: the API server may have stored an object under older ones.
use super::spec::{ChordRingSpec, TlsMode};

/// What is wrong with a spec: field and rule, each.
pub fn problems(spec: &ChordRingSpec) -> Vec<String> {
    let ring = &spec.ring;
    let mut problems = Vec::new();
    let mut check = |ok: bool, text: String| {
        if !ok {
            problems.push(text);
        }
    };
    check((1..=512).contains(&spec.replicas), format!("spec.replicas must be 1 to 512, not {}", spec.replicas));
    check(
        (1..=7).contains(&ring.replication_factor),
        format!("spec.ring.replicationFactor must be 1 to 7, not {}", ring.replication_factor),
    );
    check(
        spec.replicas >= ring.replication_factor,
        "spec.replicas must not be below spec.ring.replicationFactor".into(),
    );
    check(
        ring.shards > 0 && ring.shards <= 65_536 && (ring.shards as u32).is_power_of_two(),
        format!("spec.ring.shards must be a power of two up to 65536, not {}", ring.shards),
    );
    check(
        (ring.replication_factor..=32).contains(&ring.successor_list_length),
        format!(
            "spec.ring.successorListLength must be at least the replication factor and at most 32, not {}",
            ring.successor_list_length
        ),
    );
    check(
        spec.tls.mode != TlsMode::Secret || spec.tls.secret_name.is_some(),
        "spec.tls.secretName is required when spec.tls.mode is Secret".into(),
    );
    problems
}
