//! A `ChordRing` that somebody wrote.
use chord_operator::{
    api::{ChordRing, ChordRingSpec, ChordRingStatus, validate},
    build::Names,
};

/// A whole resource, or its spec or status alone. Whatever is accepted can be built.
pub fn spec(data: &[u8]) -> bool {
    let whole = serde_json::from_slice::<ChordRing>(data);
    let is_status = serde_json::from_slice::<ChordRingStatus>(data).is_ok();
    let spec = whole.map(|ring| ring.spec).or_else(|_| serde_json::from_slice::<ChordRingSpec>(data));
    let Ok(spec) = spec else { return is_status };
    if validate::problems(&spec).is_empty() {
        let replicas = spec.replicas;
        let mut ring = ChordRing::new("demo", spec);
        ring.metadata.namespace = Some("default".into());
        ring.metadata.uid = Some("uid".into());
        let names = Names::new(&ring, "image");
        let built = (names.stateful_set(replicas), names.gateway(), names.disruption_budget(), names.services());
        let _ = (serde_json::to_string(&built).expect("objects are JSON"), names.network_policy("operator"));
    }
    true
}
