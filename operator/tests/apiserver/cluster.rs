//! A real etcd, kube-apiserver and kube-controller-manager on loopback, one for all tests of this binary.
use kube::{
    Api, Client, Config,
    api::{Patch, PatchParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::json;
use std::{
    net::TcpListener,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    time::Duration,
};
use tokio::sync::OnceCell;

/// May do everything.
pub const ADMIN: &str = "admin";
/// What an operator runs as: it may do what a Role or ClusterRole with the chart's rules lets it.
pub const OPERATOR: &str = "chord-operator";

/// The running control plane.
pub struct Cluster {
    pub dir: PathBuf,
    server: String,
    /// They end with this process, however it ends: see [`guarded`].
    _children: Vec<Child>,
}

/// A command whose process is killed when this one ends or drops it, by any signal too: the pipe closes then. In a
/// process group of its own: a signal to ours (Ctrl-C, `timeout`) must not end the watcher before its charge.
pub fn guarded(program: &Path) -> Command {
    let mut command = Command::new("sh");
    let script = "exec 3<&0; (cat <&3 >/dev/null; kill -9 $$) & exec \"$@\" 3<&- </dev/null";
    command.args(["-c", script, "sh"]).arg(program).stdin(Stdio::piped()).process_group(0);
    command
}

/// Removes a directory when this process has ended.
fn sweeper(dir: &Path) -> Child {
    let mut command = Command::new("sh");
    command
        .args(["-c", "cat >/dev/null; sleep 1; rm -rf \"$1\"", "sh"])
        .arg(dir)
        .stdin(Stdio::piped())
        .process_group(0);
    command.spawn().expect("it starts")
}

/// A port that is free now, below those that outgoing connections use: it stays free while its process restarts.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let base = (std::process::id() % 97) as u16 * 100;
    loop {
        let port = 10_000 + (base + NEXT.fetch_add(1, Ordering::Relaxed)) % 9_800;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Where the cluster's binaries are.
fn binary(name: &str) -> PathBuf {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = || {
        let base = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")));
        set("CHORD_CACHE_DIR").or_else(|| Some(base?.join("chord-operator"))).unwrap_or_default().join("cluster/bin")
    };
    let path = set("CHORD_KUBERNETES_BIN").unwrap_or_else(cache).join(name);
    assert!(path.is_file(), "{} is missing; make it: deploy/dev/cluster build", path.display());
    path
}

impl Cluster {
    /// The one control plane, started when first asked for.
    pub async fn get() -> &'static Cluster {
        static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();
        CLUSTER.get_or_init(Cluster::start).await
    }

    async fn start() -> Cluster {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let dir = tempfile::Builder::new().prefix("chord-apiserver-").tempdir().expect("a directory").keep();
        let file = |name: &str| dir.join(name).to_str().expect("UTF-8").to_owned();
        let log = |name: &str| std::fs::File::create(dir.join(name)).expect("a log");
        let (etcd_port, peer_port, port) = (free_port(), free_port(), free_port());
        let (etcd_url, peer_url) = (format!("http://127.0.0.1:{etcd_port}"), format!("http://127.0.0.1:{peer_port}"));
        let server = format!("https://127.0.0.1:{port}");
        let write = |name: &str, text: String| std::fs::write(dir.join(name), text).expect("it can be written");
        let key = rcgen::KeyPair::generate().expect("a key");
        write("sa.key", key.serialize_pem());
        write("sa.pub", key.public_key_pem());
        write("tokens", format!("{ADMIN},{ADMIN},1,system:masters\n{OPERATOR},{OPERATOR},2\n"));
        let cluster = |children| Cluster { dir: dir.clone(), server: server.clone(), _children: children };
        write("kubeconfig", serde_norway::to_string(&cluster(Vec::new()).kubeconfig(ADMIN)).expect("YAML"));

        let run = |name: &str, args: &[String]| {
            let mut command = guarded(&binary(name));
            let (out, err) = (log(&format!("{name}.out")), log(&format!("{name}.log")));
            command.args(args).stdout(out).stderr(err).spawn().expect("it starts")
        };
        let etcd = run(
            "etcd",
            &[
                format!("--data-dir={}", file("etcd")),
                "--unsafe-no-fsync".into(),
                format!("--listen-client-urls={etcd_url}"),
                format!("--advertise-client-urls={etcd_url}"),
                format!("--listen-peer-urls={peer_url}"),
                format!("--initial-advertise-peer-urls={peer_url}"),
                format!("--initial-cluster=default={peer_url}"),
            ],
        );
        let apiserver = run(
            "kube-apiserver",
            &[
                format!("--etcd-servers={etcd_url}"),
                format!("--secure-port={port}"),
                "--bind-address=127.0.0.1".into(),
                format!("--cert-dir={}", file("certs")),
                format!("--token-auth-file={}", file("tokens")),
                format!("--service-account-key-file={}", file("sa.pub")),
                format!("--service-account-signing-key-file={}", file("sa.key")),
                "--service-account-issuer=https://kubernetes.default.svc".into(),
                "--service-cluster-ip-range=10.96.0.0/16".into(),
                "--authorization-mode=RBAC".into(),
                // As strict as any cluster: owner references need the right to finalize, pods to be restricted.
                "--enable-admission-plugins=OwnerReferencesPermissionEnforcement".into(),
            ],
        );
        let mut cluster = cluster(vec![etcd, apiserver, sweeper(&dir)]);
        cluster.await_ready().await;
        let controllers = "statefulset-controller,garbage-collector-controller,deployment-controller,\
                           replicaset-controller,namespace-controller,persistentvolumeclaim-protection-controller";
        cluster._children.push(run(
            "kube-controller-manager",
            &[
                format!("--kubeconfig={}", file("kubeconfig")),
                "--leader-elect=false".into(),
                format!("--service-account-private-key-file={}", file("sa.key")),
                format!("--controllers={controllers}"),
                "--secure-port=0".into(),
                "--kube-api-qps=200".into(),
                "--kube-api-burst=300".into(),
            ],
        ));
        cluster.install_crd().await;
        cluster
    }

    fn kubeconfig(&self, user: &str) -> Kubeconfig {
        let value = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{ "name": "test", "cluster": { "server": self.server, "insecure-skip-tls-verify": true } }],
            "users": [{ "name": user, "user": { "token": user } }],
            "contexts": [{ "name": "test", "context": { "cluster": "test", "user": user } }],
        });
        serde_json::from_value(value).expect("a kubeconfig")
    }

    /// Writes a kubeconfig for a program; gives back where it is.
    pub fn kubeconfig_file(&self, user: &str) -> PathBuf {
        let path = self.dir.join(format!("kubeconfig-{user}"));
        std::fs::write(&path, serde_norway::to_string(&self.kubeconfig(user)).expect("YAML")).expect("it is written");
        path
    }

    /// How a user reaches the API.
    pub async fn config(&self, user: &str) -> Config {
        let options = KubeConfigOptions::default();
        Config::from_custom_kubeconfig(self.kubeconfig(user), &options).await.expect("a config")
    }

    pub async fn client(&self, user: &str) -> Client {
        Client::try_from(self.config(user).await).expect("a client")
    }

    async fn await_ready(&self) {
        let client = self.client(ADMIN).await;
        for _ in 0..600 {
            let request = http::Request::get("/readyz").body(Vec::new()).expect("a request");
            if client.request_text(request).await.is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let log = std::fs::read_to_string(self.dir.join("kube-apiserver.log")).unwrap_or_default();
        panic!(
            "kube-apiserver is not ready after two minutes:\n{}",
            log.lines().rev().take(20).collect::<Vec<_>>().join("\n")
        );
    }

    /// The committed CRD, as the chart installs it.
    async fn install_crd(&self) {
        use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
        let crds: Api<CustomResourceDefinition> = Api::all(self.client(ADMIN).await);
        let crd: CustomResourceDefinition =
            serde_norway::from_str(include_str!("../../../charts/chord-operator/files/crd.yaml")).expect("a CRD");
        let name = crd.metadata.name.clone().expect("it has a name");
        crds.patch(&name, &PatchParams::apply("test").force(), &Patch::Apply(&crd)).await.expect("the CRD is accepted");
        for _ in 0..300 {
            let established = crds.get(&name).await.expect("the CRD").status.is_some_and(|status| {
                status.conditions.iter().flatten().any(|one| one.type_ == "Established" && one.status == "True")
            });
            if established {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("the CRD is not established after thirty seconds");
    }
}
