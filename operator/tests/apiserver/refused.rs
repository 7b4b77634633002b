//! What the API server or the operator refuses, and that it says which field and which rule.
use crate::space::{RING, Space, spec};
use chord_operator::api::ChordRing;
use kube::{
    Api,
    api::{ApiResource, DynamicObject, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

/// `value` with what `path` (dotted) leads to replaced.
fn with(mut value: Value, path: &str, new: Value) -> Value {
    let mut at = &mut value;
    for key in path.split('.') {
        at = &mut at[key];
    }
    *at = new;
    value
}

/// What a refusal says.
fn refusal(outcome: kube::Result<impl Sized>) -> String {
    match outcome {
        Ok(_) => panic!("it was accepted"),
        Err(kube::Error::Api(status)) => status.message,
        Err(other) => panic!("another error: {other}"),
    }
}

/// Goal: each rule of the resource refuses, at once, and names field and rule. Method: a table of bad values, each
/// alone in an otherwise good spec.
#[tokio::test(flavor = "multi_thread")]
async fn every_bad_value_is_refused_with_field_and_rule() {
    let space = Space::new("refused").await;
    let table: &[(&str, Value, &[&str])] = &[
        ("replicas", json!(0), &["spec.replicas", "greater than or equal to 1"]),
        ("replicas", json!(513), &["spec.replicas", "less than or equal to 512"]),
        ("replicas", json!("three"), &["spec.replicas", "integer"]),
        ("replicas", json!(2), &["spec.replicas must not be below spec.ring.replicationFactor"]),
        ("desiredState", json!("Stopped"), &["spec.desiredState", "Running"]),
        ("imagePullPolicy", json!("Sometimes"), &["spec.imagePullPolicy", "IfNotPresent"]),
        ("ring.replicationFactor", json!(0), &["spec.ring.replicationFactor", "greater than or equal to 1"]),
        ("ring.replicationFactor", json!(8), &["spec.ring.replicationFactor", "less than or equal to 7"]),
        ("ring.shards", json!(0), &["spec.ring.shards"]),
        ("ring.shards", json!(48), &["spec.ring.shards must be a power of two"]),
        ("ring.shards", json!(131_072), &["spec.ring.shards", "less than or equal to 65536"]),
        ("ring.successorListLength", json!(0), &["spec.ring.successorListLength"]),
        ("ring.successorListLength", json!(33), &["spec.ring.successorListLength", "less than or equal to 32"]),
        ("ring.successorListLength", json!(2), &["spec.ring.successorListLength must not be below"]),
        ("ring.placement", json!("Random"), &["spec.ring.placement", "Balanced"]),
        ("ring.stabilizeInterval", json!("50ms"), &["spec.ring.stabilizeInterval must be at least 100ms"]),
        ("ring.stabilizeInterval", json!("soon"), &["spec.ring.stabilizeInterval", "should match"]),
        ("ring.fixFingersInterval", json!("1ms"), &["spec.ring.fixFingersInterval must be at least 100ms"]),
        ("ring.fixFingersInterval", json!(3), &["spec.ring.fixFingersInterval", "string"]),
        ("ring.antiEntropyInterval", json!("10 m"), &["spec.ring.antiEntropyInterval", "should match"]),
        ("ring.antiEntropyInterval", json!("1ms"), &["spec.ring.antiEntropyInterval must be at least 1s"]),
        ("storage.type", json!("Tape"), &["spec.storage.type", "Persistent"]),
        ("storage.size", json!("much"), &["spec.storage.size", "should match"]),
        ("storage.size", json!("0Gi"), &["spec.storage.size must be at least"]),
        ("storage.retention.whenScaled", json!("Perhaps"), &["spec.storage.retention.whenScaled", "Retain"]),
        ("storage.retention.whenDeleted", json!("Perhaps"), &["spec.storage.retention.whenDeleted", "Retain"]),
        ("tls.mode", json!("Off"), &["spec.tls.mode", "Disabled"]),
        ("tls.mode", json!("Secret"), &["spec.tls.secretName is required"]),
        ("gateway.replicas", json!(0), &["spec.gateway.replicas", "greater than or equal to 1"]),
        ("gateway.replicas", json!(101), &["spec.gateway.replicas", "less than or equal to 100"]),
        ("gateway.service.type", json!("ExternalName"), &["spec.gateway.service.type", "ClusterIP"]),
        ("gateway.rateLimit.requestsPerSecond", json!(0), &["spec.gateway.rateLimit.requestsPerSecond"]),
        ("gateway.rateLimit.burst", json!(0), &["spec.gateway.rateLimit.burst"]),
        ("logging.level", json!("loud"), &["spec.logging.level"]),
        ("logging.format", json!("xml"), &["spec.logging.format", "Json"]),
    ];
    let raw: Api<DynamicObject> =
        Api::namespaced_with(space.client.clone(), &space.namespace, &ApiResource::erase::<ChordRing>(&()));
    for (path, bad, words) in table {
        let object = json!({
            "apiVersion": "chordring.dev/v1alpha1", "kind": "ChordRing",
            "metadata": { "name": RING }, "spec": with(spec(3), path, bad.clone()),
        });
        let object = serde_json::from_value(object).expect("an object");
        let message = refusal(raw.create(&PostParams::default(), &object).await);
        for word in *words {
            assert!(message.contains(word), "{path} = {bad}: `{message}` does not say `{word}`");
        }
    }
    let unknown = refusal(space.apply(with(spec(3), "replica", json!(3))).await);
    assert!(unknown.contains("spec.replica"), "{unknown}");
    let nothing = json!({ "apiVersion": "chordring.dev/v1alpha1", "kind": "ChordRing", "metadata": { "name": RING } });
    let nothing =
        refusal(raw.create(&PostParams::default(), &serde_json::from_value(nothing).expect("an object")).await);
    assert!(nothing.contains("spec: Required value"), "{nothing}");
    assert!(space.api::<ChordRing>().get_opt(RING).await.expect("an answer").is_none(), "a bad ring was stored");
}

/// Goal: what may not change later is refused then; also by `kubectl scale`, also with a name too long for its pods.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_change_is_refused_with_field_and_rule() {
    let space = Space::new("immutable").await;
    let first = with(spec(3), "storage.storageClassName", json!("fast"));
    space.apply(first.clone()).await.expect("it is accepted");
    for (path, new, words) in [
        ("ring.placement", json!("Hashed"), "spec.ring.placement is immutable"),
        ("ring.replicationFactor", json!(1), "spec.ring.replicationFactor is immutable"),
        ("ring.shards", json!(32), "spec.ring.shards is immutable"),
        ("storage.type", json!("Ephemeral"), "spec.storage.type is immutable"),
        ("storage.storageClassName", json!("slow"), "spec.storage.storageClassName is immutable"),
        ("storage.size", json!("20Gi"), "spec.storage.size cannot change yet"),
        ("tls.mode", json!("OperatorManaged"), "spec.tls.mode cannot change between Disabled and the others"),
    ] {
        let message = refusal(space.apply(with(first.clone(), path, new)).await);
        assert!(message.contains(words), "{path}: `{message}` does not say `{words}`");
    }
    let message = refusal(space.scale(2).await);
    assert!(message.contains("spec.replicas must not be below spec.ring.replicationFactor"), "{message}");

    // Pods of a StatefulSet carry its name in a label of at most 63 characters.
    let name = "r".repeat(50);
    let long = json!({ "apiVersion": "chordring.dev/v1alpha1", "kind": "ChordRing", "metadata": { "name": name }, "spec": spec(3) });
    let rings: Api<ChordRing> = space.api();
    let message = refusal(rings.patch(&name, &PatchParams::apply("user"), &Patch::Apply(&long)).await);
    assert!(message.contains("metadata.name"), "{message}");
}

/// Goal: everything has a default, so that `spec: {}` is a ring of three.
#[tokio::test(flavor = "multi_thread")]
async fn empty_spec_is_a_ring_of_three_with_everything_spelled_out() {
    let space = Space::new("defaults").await;
    let ring = space.apply(json!({})).await.expect("it is accepted");
    let stored = json!(ring.spec);
    for (path, value) in [
        ("/replicas", json!(3)),
        ("/desiredState", json!("Running")),
        ("/ring/placement", json!("Balanced")),
        ("/ring/replicationFactor", json!(3)),
        ("/ring/shards", json!(4096)),
        ("/ring/successorListLength", json!(8)),
        ("/ring/stabilizeInterval", json!("3s")),
        ("/ring/antiEntropyInterval", json!("10m")),
        ("/storage/type", json!("Persistent")),
        ("/storage/size", json!("10Gi")),
        ("/storage/retention/whenScaled", json!("Delete")),
        ("/storage/retention/whenDeleted", json!("Retain")),
        ("/tls/mode", json!("OperatorManaged")),
        ("/gateway/enabled", json!(true)),
        ("/gateway/replicas", json!(2)),
        ("/podDisruptionBudget/enabled", json!(true)),
        ("/networkPolicy/enabled", json!(false)),
    ] {
        assert_eq!(stored.pointer(path), Some(&value), "{path}");
    }
    // Stored so, not only filled in by this reader.
    let raw: Api<DynamicObject> =
        Api::namespaced_with(space.client.clone(), &space.namespace, &ApiResource::erase::<ChordRing>(&()));
    let raw = raw.get(RING).await.expect("the ring");
    assert_eq!(raw.data["spec"]["ring"]["shards"], json!(4096));
    space.scale(5).await.expect("a ring with only defaults can be scaled");
}
