//! The rules of the CRD once more: the API server may have stored an object under older ones.
use super::spec::{ChordRingSpec, TlsMode};
use crate::duration;
use std::time::Duration;

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
    for (name, text, least) in [
        ("stabilizeInterval", &ring.stabilize_interval, Duration::from_millis(100)),
        ("fixFingersInterval", &ring.fix_fingers_interval, Duration::from_millis(100)),
        ("antiEntropyInterval", &ring.anti_entropy_interval, Duration::from_secs(1)),
    ] {
        check(
            duration(text).is_some_and(|value| value >= least),
            format!("spec.ring.{name} must be a duration of at least {}ms, not `{text}`", least.as_millis()),
        );
    }
    check(
        spec.tls.mode != TlsMode::Secret || spec.tls.secret_name.is_some(),
        "spec.tls.secretName is required when spec.tls.mode is Secret".into(),
    );
    problems
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn problems_of(spec: serde_json::Value) -> Vec<String> {
        problems(&serde_json::from_value(spec).expect("a spec"))
    }

    #[test]
    fn defaults_are_valid() {
        assert_eq!(problems_of(json!({})), Vec::<String>::new());
    }

    #[test]
    fn each_rule_names_its_field() {
        for (spec, field) in [
            (json!({ "replicas": 600 }), "spec.replicas"),
            (json!({ "replicas": 2 }), "spec.ring.replicationFactor"),
            (json!({ "ring": { "replicationFactor": 0 } }), "spec.ring.replicationFactor"),
            (json!({ "ring": { "shards": 48 } }), "spec.ring.shards"),
            (json!({ "ring": { "shards": -4 } }), "spec.ring.shards"),
            (json!({ "ring": { "successorListLength": 2 } }), "spec.ring.successorListLength"),
            (json!({ "ring": { "stabilizeInterval": "50ms" } }), "spec.ring.stabilizeInterval"),
            (json!({ "ring": { "fixFingersInterval": "soon" } }), "spec.ring.fixFingersInterval"),
            (json!({ "ring": { "antiEntropyInterval": "" } }), "spec.ring.antiEntropyInterval"),
            (json!({ "tls": { "mode": "Secret" } }), "spec.tls.secretName"),
        ] {
            let found = problems_of(spec.clone());
            assert!(found.len() == 1 && found[0].contains(field), "{spec}: {found:?}");
        }
    }
}
