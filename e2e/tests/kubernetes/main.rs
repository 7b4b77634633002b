//! On the Kubernetes of `deploy/dev` with the operator installed: `cargo xtask e2e [NAME]`.
//!
//! One test at a time: they share the machine, and some end its nodes or the operator.
mod faults;
mod lifecycle;
mod matrix;
mod scale;
mod serve;

use serde_json::{Value, json};

/// Three members that ask for little, without a gateway.
fn small() -> Value {
    json!({"replicas": 3, "storage": {"size": "1Gi"}, "gateway": {"enabled": false}})
}
