//! `up` and its opposite: from a clone to a ring with a dashboard.
use crate::{
    image::{self, Image},
    kubernetes::Kubernetes,
    paths,
    proc::step,
};
use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use std::path::Path;

pub const NAMESPACE: &str = "chord-system";
const RELEASE: &str = "chord-operator";
const CHART: &str = "charts/chord-operator";
const SAMPLE: &str = "deploy/samples/demo.yaml";
/// Says on the operator's pods which sources they run.
const DIGEST: &str = "chordring.dev/dev-digest";

#[derive(clap::Args)]
pub struct Options {
    /// Nodes of the development cluster
    #[arg(long, default_value_t = 3)]
    pub nodes: u8,
    /// Image that the cluster of KUBECONFIG can pull; the development cluster gets the one built here
    #[arg(long, env = "IMAGE")]
    pub image: Option<String>,
}

pub fn up(options: &Options) -> Result<()> {
    let kubernetes = Kubernetes::find()?;
    install(&kubernetes, options)?;
    demo(&kubernetes)?;
    println!();
    println!("The ring `demo` is ready. Dashboard: {}", dashboard_url()?);
    println!("Next:");
    println!("  eval \"$(make -s env)\"");
    println!("  chordctl --ring demo put colour green");
    println!("  kubectl scale chordring/demo --replicas=5 && kubectl get chordring demo -w");
    Ok(())
}

/// Kubernetes with this tree's operator.
pub fn install(kubernetes: &Kubernetes, options: &Options) -> Result<()> {
    let name = match (kubernetes, &options.image) {
        (Kubernetes::Dev(_), None) => {
            step("starting Kubernetes", || Kubernetes::cluster(&["up", &options.nodes.to_string()], 3600).show())?;
            let Image { tar, name } = image::build()?;
            step("loading the image", || Kubernetes::cluster(&["load", &tar.display().to_string()], 600).show())?;
            name
        }
        (Kubernetes::Dev(_), Some(image)) => bail!("the development cluster cannot pull {image}; leave --image out"),
        (Kubernetes::Other, Some(image)) => image.clone(),
        (Kubernetes::Other, None) => bail!(
            "KUBECONFIG names another cluster. Push the image that `cargo xtask image` builds to a registry it can \
             pull from, and give --image; or unset KUBECONFIG to use the development cluster"
        ),
    };
    let digest = image::short(&format!("{name}{}", contents(&paths::root().join(CHART))?))?;
    if installed(kubernetes).is_some_and(|old| old == digest) {
        eprintln!("==> the operator is installed already");
        return Ok(());
    }
    let (repository, tag) = name.rsplit_once(':').context("--image must be REPOSITORY:TAG")?;
    let (repository, tag) = (format!("image.repository={repository}"), format!("image.tag={tag}"));
    let annotation = format!("podAnnotations.{}={digest}", DIGEST.replace('.', "\\."));
    let mut args = vec!["upgrade", "--install", RELEASE, CHART, "--namespace", NAMESPACE, "--create-namespace"];
    args.extend(["--wait", "--timeout", "3m", "--set-string", &repository, "--set-string", &tag]);
    args.extend(["--set-string", &annotation]);
    step("installing the operator", || kubernetes.run("helm", &args, 240).quiet())
}

/// Digest of the release that is deployed and whose operator is available.
fn installed(kubernetes: &Kubernetes) -> Option<String> {
    let status = kubernetes.run("helm", &["status", RELEASE, "--namespace", NAMESPACE, "--output", "json"], 30);
    let status: Value = serde_json::from_str(&status.read().ok()?).ok()?;
    (status.pointer("/info/status")? == "deployed").then_some(())?;
    let text = kubernetes.kubectl(&["get", "deployment", RELEASE, "-n", NAMESPACE, "-o", "json"]).read().ok()?;
    let deployment: Value = serde_json::from_str(&text).ok()?;
    let ready = deployment.pointer("/status/availableReplicas").and_then(Value::as_u64) >= Some(1);
    let annotations = deployment.pointer("/spec/template/metadata/annotations")?;
    annotations.get(DIGEST)?.as_str().filter(|_| ready).map(str::to_owned)
}

/// The sample ring; one that exists is left as it is, so that `up` does not undo a scale.
pub fn demo(kubernetes: &Kubernetes) -> Result<()> {
    if kubernetes.get("chordring/demo").is_none() {
        step("applying deploy/samples/demo.yaml", || kubernetes.kubectl(&["apply", "--filename", SAMPLE]).quiet())?;
    }
    let wait = ["wait", "--for=condition=Ready", "chordring/demo", "--timeout=300s"];
    step("waiting for the ring", || kubernetes.run("kubectl", &wait, 310).quiet()).map_err(|error| {
        let _ = kubernetes.kubectl(&["describe", "chordring/demo"]).show();
        let _ = kubernetes.kubectl(&["get", "pods,persistentvolumeclaims", "--output", "wide"]).show();
        error.context("see above; the operator's log: kubectl logs -n chord-system deploy/chord-operator")
    })?;
    step("waiting for the gateway", || gateway(kubernetes))
}

/// A ring stays ready while its gateway is replaced by the one of a newer operator.
fn gateway(kubernetes: &Kubernetes) -> Result<()> {
    let image = "jsonpath={.spec.template.spec.containers[0].image}";
    let get = ["get", "deployment", RELEASE, "--namespace", NAMESPACE, "--output", image];
    let new = format!("--for={image}={}", kubernetes.kubectl(&get).read()?);
    kubernetes.run("kubectl", &["wait", &new, "deployment/demo-gateway", "--timeout=60s"], 70).quiet()?;
    kubernetes.run("kubectl", &["rollout", "status", "deployment/demo-gateway", "--timeout=120s"], 130).quiet()
}

pub fn down() -> Result<()> {
    let kubernetes = Kubernetes::find()?;
    if let Kubernetes::Dev(_) = kubernetes {
        return Kubernetes::cluster(&["down"], 120).show();
    }
    let delete = ["delete", "chordring/demo", "--ignore-not-found", "--timeout=120s"];
    step("deleting the ring", || kubernetes.run("kubectl", &delete, 130).quiet())?;
    step("uninstalling the operator", || {
        kubernetes.run("helm", &["uninstall", RELEASE, "-n", NAMESPACE, "--ignore-not-found", "--wait"], 200).quiet()
    })
}

pub fn env() -> Result<()> {
    if let Kubernetes::Dev(kubeconfig) = Kubernetes::find()? {
        println!("export KUBECONFIG='{}'", kubeconfig.display());
    }
    println!("export PATH='{}:{}':\"$PATH\"", paths::bin().display(), paths::cluster_bin().display());
    Ok(())
}

/// Where a browser on this machine finds the demo's dashboard.
pub fn dashboard_url() -> Result<String> {
    let kubernetes = Kubernetes::find()?;
    let service = kubernetes.get("service/demo-gateway").context("there is no ring `demo`: run `make up`")?;
    let port = &service["spec"]["ports"][0];
    let host = service.pointer("/status/loadBalancer/ingress/0");
    if let Some(host) = host.and_then(|ingress| ingress["ip"].as_str().or(ingress["hostname"].as_str())) {
        return Ok(format!("http://{host}:{}/", port["port"]));
    }
    let Some(port) = port["nodePort"].as_u64() else {
        bail!("Service demo-gateway has no address outside; run: kubectl port-forward service/demo-gateway 8080:80");
    };
    let nodes = kubernetes.get("nodes").context("cannot list the nodes")?;
    let nodes = nodes["items"].as_array().cloned().unwrap_or_default();
    let address = nodes.iter().filter(|node| is_ready(node)).find_map(|node| {
        let addresses = node["status"]["addresses"].as_array()?;
        addresses.iter().find(|address| address["type"] == "InternalIP")?["address"].as_str()
    });
    Ok(format!("http://{}:{port}/", address.context("no Kubernetes node is ready")?))
}

fn is_ready(node: &Value) -> bool {
    let conditions = node["status"]["conditions"].as_array();
    conditions.is_some_and(|all| all.iter().any(|one| one["type"] == "Ready" && one["status"] == "True"))
}

/// Every file below, name and text.
fn contents(dir: &Path) -> Result<String> {
    let mut entries = std::fs::read_dir(dir)?.collect::<Result<Vec<_>, _>>()?;
    entries.sort_by_key(|entry| entry.path());
    entries.into_iter().try_fold(String::new(), |all, entry| {
        let path = entry.path();
        let text = if path.is_dir() { contents(&path)? } else { std::fs::read_to_string(&path)? };
        Ok(format!("{all}{}\n{text}", path.display()))
    })
}
