//! Finds a ring through Kubernetes and reaches its members over port-forward streams, without a local port.
use crate::{
    cli::Global,
    failure::{Failure, Result},
};
use chord_client::{
    Endpoints,
    net::{Dial, Io, Pems, Tls},
};
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::{
    Api, Client, Config, ResourceExt as _,
    api::{ApiResource, DynamicObject, GroupVersionKind, ListParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use std::{io, sync::Arc, time::Duration};

const CLIENT_PORT: u16 = 7401;
/// Time to open a connection through API server and kubelet.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);

/// Members of `--ring`, with the client certificate that the operator made for it.
pub async fn endpoints(global: &Global) -> Result<Endpoints> {
    let Some(ring) = global.ring.clone() else {
        return Err(Failure::usage(
            "which ring? Give --ring NAME (and --namespace), or --endpoint HOST:PORT without Kubernetes",
        ));
    };
    let config = config(global).await?;
    let namespace = global.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
    let client =
        Client::try_from(config).map_err(|error| Failure::usage(format!("cannot use the kubeconfig: {error}")))?;
    let tls = tls(&client, &namespace, &ring).await?;
    let pods: Api<Pod> = Api::namespaced(client, &namespace);
    let addresses = addresses(&pods, &namespace, &ring).await?;
    let endpoints = Endpoints::new(addresses).dial(dial(pods, namespace, ring)).connect_timeout(CONNECT_TIMEOUT);
    Ok(match tls {
        Some(tls) => endpoints.tls(tls),
        None => endpoints,
    })
}

async fn config(global: &Global) -> Result<Config> {
    let options = KubeConfigOptions { context: global.context.clone(), ..KubeConfigOptions::default() };
    let hint = "set KUBECONFIG or give --kubeconfig, or reach a member without Kubernetes by --endpoint HOST:PORT";
    let wrong = |error: &dyn std::fmt::Display| Failure::usage(format!("no usable kubeconfig: {error}; {hint}"));
    match (&global.kubeconfig, &global.context) {
        (Some(file), _) => {
            let kubeconfig = Kubeconfig::read_from(file).map_err(|error| wrong(&error))?;
            Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(|error| wrong(&error))
        }
        (None, Some(_)) => Config::from_kubeconfig(&options).await.map_err(|error| wrong(&error)),
        (None, None) => Config::infer().await.map_err(|error| wrong(&error)),
    }
}

/// The ring's client certificate; none when its TLS is switched off.
async fn tls(client: &Client, namespace: &str, ring: &str) -> Result<Option<Tls>> {
    let gvk = GroupVersionKind::gvk("chordring.dev", "v1alpha1", "ChordRing");
    let rings: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &ApiResource::from_gvk(&gvk));
    let found = rings.get_opt(ring).await.map_err(|error| api("look at the ChordRing", &error))?;
    let Some(object) = found else {
        return Err(Failure::usage(format!(
            "there is no ChordRing `{ring}` in namespace `{namespace}`; see `kubectl get chordrings --all-namespaces`"
        )));
    };
    if object.data.pointer("/spec/tls/mode").and_then(|mode| mode.as_str()) == Some("Disabled") {
        return Ok(None);
    }
    let name = format!("{ring}-client-tls");
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let secret = secrets.get_opt(&name).await.map_err(|error| api(&format!("read Secret {name}"), &error))?;
    let Some(secret) = secret else {
        return Err(Failure::unavailable(format!(
            "Secret `{name}` does not exist yet; wait for the ring: kubectl wait --for=condition=Ready chordring/{ring} -n {namespace}"
        )));
    };
    let data = secret.data.unwrap_or_default();
    let part = |key: &str| {
        let bytes = data.get(key).map(|bytes| bytes.0.clone());
        bytes.ok_or_else(|| {
            Failure::unavailable(format!("Secret `{name}` has no {key}; the operator writes it, see its log"))
        })
    };
    let pems = Pems { certificate: part("tls.crt")?, key: part("tls.key")?, authority: part("ca.crt")? };
    Tls::from_pems(pems).map(Some).map_err(|error| Failure::unavailable(format!("Secret `{name}`: {error}")))
}

/// Advertised client addresses of the ring's running pods.
async fn addresses(pods: &Api<Pod>, namespace: &str, ring: &str) -> Result<Vec<String>> {
    let labels =
        format!("app.kubernetes.io/name=chord,app.kubernetes.io/instance={ring},app.kubernetes.io/component=node");
    let found =
        pods.list(&ListParams::default().labels(&labels)).await.map_err(|error| api("list the ring's pods", &error))?;
    let is_running = |pod: &&Pod| pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running");
    let address = |pod: &Pod| format!("{}.{ring}-nodes.{namespace}.svc:{CLIENT_PORT}", pod.name_any());
    let addresses: Vec<String> = found.items.iter().filter(is_running).map(address).collect();
    if addresses.is_empty() {
        return Err(Failure::unavailable(format!(
            "ring `{ring}` has no running pod; see `kubectl describe chordring {ring} -n {namespace}`"
        )));
    }
    Ok(addresses)
}

fn dial(pods: Api<Pod>, namespace: String, ring: String) -> Dial {
    let suffix = format!(".{ring}-nodes.{namespace}.svc");
    let suffix: Arc<str> = suffix.into();
    Arc::new(move |address: String| {
        let (pods, suffix) = (pods.clone(), suffix.clone());
        Box::pin(async move {
            let (pod, port) = pod_of(&address, &suffix).ok_or_else(|| {
                io::Error::new(
                    io::ErrorKind::NotFound,
                    format!("`{address}` is no pod of this ring, so it cannot be reached"),
                )
            })?;
            let mut forward = pods.portforward(pod, &[port]).await.map_err(io::Error::other)?;
            let stream = forward.take_stream(port).ok_or_else(|| io::Error::other("port-forward gave no stream"))?;
            Ok(Box::new(stream) as Box<dyn Io>)
        })
    })
}

/// Pod and port of an advertised address `<pod>.<ring>-nodes.<ns>.svc[.cluster.local]:<port>`.
fn pod_of<'a>(address: &'a str, suffix: &str) -> Option<(&'a str, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    let (pod, rest) = host.split_at(host.find('.')?);
    (rest == suffix || rest.strip_suffix(".cluster.local") == Some(suffix)).then_some(())?;
    Some((pod, port.parse().ok()?))
}

fn api(what: &str, error: &kube::Error) -> Failure {
    match error {
        kube::Error::Api(status) if status.code == 401 || status.code == 403 => {
            Failure::usage(format!("Kubernetes does not let you {what}: {}; ask for that permission", status.message))
        }
        kube::Error::Api(status) if status.code == 404 => {
            Failure::usage(format!("cannot {what}: {}; is chord-operator installed (helm list -A)?", status.message))
        }
        other => Failure::unavailable(format!("cannot {what}: {other}; is the cluster up (kubectl get nodes)?")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advertised_addresses_name_their_pod() {
        let suffix = ".demo-nodes.default.svc";
        assert_eq!(pod_of("demo-node-0.demo-nodes.default.svc:7401", suffix), Some(("demo-node-0", 7401)));
        let long = "demo-node-12.demo-nodes.default.svc.cluster.local:7400";
        assert_eq!(pod_of(long, suffix), Some(("demo-node-12", 7400)));
        for foreign in
            ["demo-node-0.other-nodes.default.svc:7401", "10.0.0.1:7401", "demo-node-0", "x.demo-nodes.default.svc:no"]
        {
            assert_eq!(pod_of(foreign, suffix), None, "{foreign}");
        }
    }
}
