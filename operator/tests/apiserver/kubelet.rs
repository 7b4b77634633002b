//! What a kubelet does, for the pods of one namespace: real `chord-node` processes on loopback, with the arguments of
//! their pods. A gateway's pod is ready without a process.
use crate::cluster::{free_port, guarded};
use chord_client::net::{Dial, Io};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Secret};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions},
};
use serde_json::json;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io,
    path::{Path, PathBuf},
    process::{Child, Command},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::OnceCell,
};

/// Time after SIGTERM until SIGKILL.
const GRACE: Duration = Duration::from_secs(20);

struct Process {
    child: Child,
    pod: String,
    terminated: Option<Instant>,
}

impl Process {
    fn signal(&self, signal: rustix::process::Signal) {
        if let Some(pid) = rustix::process::Pid::from_raw(self.child.id().cast_signed()) {
            // It may have ended by itself.
            let _ = rustix::process::kill_process(pid, signal);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.signal(rustix::process::Signal::KILL);
        let _ = self.child.wait();
    }
}

#[derive(Default)]
struct State {
    /// By the uid of the pod.
    processes: HashMap<String, Process>,
    /// By the pod's name: internal, client, http.
    ports: BTreeMap<String, [u16; 3]>,
    /// Pods whose process must not run.
    held: BTreeSet<String>,
    /// Claims, by uid, that came up as another disk.
    disks: HashMap<String, PathBuf>,
}

/// The kubelet of a namespace.
#[derive(Clone)]
pub struct Kubelet {
    client: Client,
    namespace: String,
    dir: PathBuf,
    state: Arc<Mutex<State>>,
}

/// Where `chord-node` is: `CHORD_TEST_BIN_DIR`, or else built as the client's tests do.
async fn chord_node() -> &'static PathBuf {
    static NODE: OnceCell<PathBuf> = OnceCell::const_new();
    let find = || async {
        if let Some(dir) = std::env::var_os("CHORD_TEST_BIN_DIR") {
            return PathBuf::from(dir).join("chord-node");
        }
        let built = tokio::process::Command::new(env!("CARGO"))
            .args(["build", "--locked", "--package", "chord-node", "--bin", "chord-node"])
            .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
            .status();
        let built = tokio::time::timeout(Duration::from_secs(1200), built).await.expect("it builds in time");
        assert!(built.expect("cargo runs").success(), "chord-node does not build");
        Path::new(env!("CARGO_BIN_EXE_chord-operator")).with_file_name("chord-node")
    };
    NODE.get_or_init(find).await
}

/// The answer to a GET, when it is 200.
pub async fn get(port: u16, path: &str) -> Option<String> {
    let ask = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok::<_, io::Error>(answer)
    };
    let answer = tokio::time::timeout(Duration::from_secs(2), ask).await.ok()?.ok()?;
    (answer.split(' ').nth(1) == Some("200")).then_some(answer)
}

impl Kubelet {
    pub fn new(client: Client, namespace: &str, dir: PathBuf) -> Kubelet {
        Kubelet { client, namespace: namespace.to_owned(), dir, state: Arc::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    fn ports(&self, pod: &str) -> [u16; 3] {
        *self.state().ports.entry(pod.to_owned()).or_insert_with(|| [free_port(), free_port(), free_port()])
    }

    /// Internal port of a member whose process runs, by the name it has in a cluster.
    fn port_of(&self, addr: &str) -> Option<u16> {
        let (pod, rest) = addr.split_once('.')?;
        let state = self.state();
        let running = state.processes.values().any(|process| process.pod == pod);
        let here = rest.split('.').nth(1) == Some(&self.namespace);
        state.ports.get(pod).filter(|_| running && here).map(|ports| ports[0])
    }

    /// Reaches the members that these look after.
    pub fn dial(kubelets: Vec<Kubelet>) -> Dial {
        Arc::new(move |addr| {
            let port = kubelets.iter().find_map(|kubelet| kubelet.port_of(&addr));
            Box::pin(async move {
                let port = port.ok_or_else(|| io::Error::other("no pod of this name runs"))?;
                Ok(Box::new(TcpStream::connect(("127.0.0.1", port)).await?) as Box<dyn Io>)
            })
        })
    }

    /// Client addresses of the members.
    pub fn endpoints(&self) -> Vec<String> {
        self.state().ports.values().map(|ports| format!("127.0.0.1:{}", ports[1])).collect()
    }

    /// kill -9, and no new process for this pod until `release`.
    pub fn hold(&self, pod: &str) {
        let mut state = self.state();
        state.held.insert(pod.to_owned());
        state.processes.retain(|_, process| process.pod != pod);
    }

    pub fn release(&self, pod: &str) {
        self.state().held.remove(pod);
    }

    /// kill -9; the process comes back at once.
    pub fn kill(&self, pod: &str) {
        self.hold(pod);
        self.release(pod);
    }

    /// kill -9, and the process comes back with an empty disk behind the same claim.
    pub fn lose_disk(&self, pod: &str, claim_uid: &str) {
        let fresh = self.dir.join(format!("{claim_uid}-again"));
        self.state().disks.insert(claim_uid.to_owned(), fresh);
        self.kill(pod);
    }

    /// Does what is to do, for ever.
    pub async fn run(self) {
        loop {
            if let Err(error) = self.pass().await {
                // Somebody else changed or deleted the pod; it is looked at again.
                eprintln!("kubelet: {error}");
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn pass(&self) -> kube::Result<()> {
        let all =
            self.pods().list(&ListParams::default().labels("app.kubernetes.io/managed-by=chord-operator")).await?;
        let uids: BTreeSet<String> = all.items.iter().filter_map(ResourceExt::uid).collect();
        self.state().processes.retain(|uid, _| uids.contains(uid));
        for pod in all.items {
            self.look_after(&pod).await?;
        }
        Ok(())
    }

    async fn look_after(&self, pod: &Pod) -> kube::Result<()> {
        let (name, uid) = (pod.name_any(), pod.uid().unwrap_or_default());
        let is_node = pod.labels().get("app.kubernetes.io/component").is_some_and(|component| component == "node");
        if pod.metadata.deletion_timestamp.is_some() {
            if self.has_ended(&uid) {
                let preconditions = Preconditions { uid: Some(uid), resource_version: None };
                let now = DeleteParams {
                    grace_period_seconds: Some(0),
                    preconditions: Some(preconditions),
                    ..DeleteParams::default()
                };
                self.pods().delete(&name, &now).await?;
            }
            return Ok(());
        }
        if pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_none()) {
            let binding = json!({
                "apiVersion": "v1", "kind": "Binding", "metadata": { "name": name },
                "target": { "apiVersion": "v1", "kind": "Node", "name": "test" },
            });
            let _: serde_json::Value =
                self.pods().create_subresource("binding", &name, &PostParams::default(), &binding).await?;
        }
        let ready = if is_node {
            if !self.is_running(&uid) && !self.state().held.contains(&name) {
                self.start(pod).await?;
            }
            self.is_running(&uid) && get(self.ports(&name)[2], "/readyz").await.is_some()
        } else {
            true
        };
        let was = pod.status.as_ref().and_then(|status| status.conditions.as_ref()).is_some_and(|conditions| {
            conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
        });
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        if was != ready || phase != Some("Running") {
            let status = json!({
                "phase": "Running",
                "conditions": [{ "type": "Ready", "status": if ready { "True" } else { "False" },
                                 "lastTransitionTime": jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string() }],
            });
            let patch = Patch::Strategic(json!({ "metadata": { "uid": uid }, "status": status }));
            self.pods().patch_status(&name, &PatchParams::default(), &patch).await?;
        }
        Ok(())
    }

    /// Asks a process to end; whether it has.
    fn has_ended(&self, uid: &str) -> bool {
        let mut state = self.state();
        let Some(process) = state.processes.get_mut(uid) else { return true };
        if process.terminated.is_none() {
            process.signal(rustix::process::Signal::TERM);
        }
        let since = *process.terminated.get_or_insert_with(Instant::now);
        let ended = process.child.try_wait().is_ok_and(|status| status.is_some()) || since.elapsed() >= GRACE;
        if ended {
            state.processes.remove(uid);
        }
        ended
    }

    fn is_running(&self, uid: &str) -> bool {
        let mut state = self.state();
        let runs = state.processes.get_mut(uid).is_some_and(|process| matches!(process.child.try_wait(), Ok(None)));
        if !runs {
            state.processes.remove(uid);
        }
        runs
    }

    /// Runs the container of a pod.
    async fn start(&self, pod: &Pod) -> kube::Result<()> {
        let (name, uid) = (pod.name_any(), pod.uid().unwrap_or_default());
        let spec = pod.spec.clone().unwrap_or_default();
        let volumes = spec.volumes.unwrap_or_default();
        let claim = volumes.iter().find_map(|volume| Some(volume.persistent_volume_claim.as_ref()?.claim_name.clone()));
        let data = match claim {
            Some(claim) => {
                let claims: Api<PersistentVolumeClaim> = Api::namespaced(self.client.clone(), &self.namespace);
                let uid = claims.get(&claim).await?.uid().unwrap_or_default();
                self.state().disks.get(&uid).cloned().unwrap_or_else(|| self.dir.join(&uid))
            }
            None => self.dir.join(format!("{uid}-data")),
        };
        let secret = volumes.iter().find_map(|volume| volume.secret.as_ref()?.secret_name.clone());
        let tls = match secret {
            Some(secret) => {
                let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
                let dir = self.dir.join(format!("{uid}-tls"));
                std::fs::create_dir_all(&dir).expect("a directory");
                for (file, bytes) in secrets.get(&secret).await?.data.unwrap_or_default() {
                    std::fs::write(dir.join(file), bytes.0).expect("it can be written");
                }
                Some(dir)
            }
            None => None,
        };
        let [internal, client, http] = self.ports(&name);
        // These name places in a container or a cluster; the rest is what the operator wrote.
        let ours = ["--data-dir=", "--advertise-internal=", "--advertise-client=", "--tls-dir="];
        let container = spec.containers.into_iter().next().unwrap_or_default();
        let args = container.args.unwrap_or_default().into_iter();
        let args = args.filter(|arg| !ours.iter().any(|own| arg.starts_with(own)));
        let log = std::fs::File::options().append(true).create(true).open(self.dir.join(format!("{name}.log")));
        let log = log.expect("a log");
        let mut command: Command = guarded(chord_node().await);
        command
            .args(args.map(|arg| arg.replace("$(POD_NAME)", &name)))
            .arg(format!("--data-dir={}", data.display()))
            .args([format!("--internal-addr=127.0.0.1:{internal}"), format!("--client-addr=127.0.0.1:{client}")])
            .args([format!("--http-addr=127.0.0.1:{http}"), format!("--advertise-internal=127.0.0.1:{internal}")])
            .arg(format!("--advertise-client=127.0.0.1:{client}"))
            .args(tls.map(|dir| format!("--tls-dir={}", dir.display())));
        let child = command.stdout(log.try_clone().expect("a log")).stderr(log).spawn().expect("chord-node starts");
        self.state().processes.insert(uid, Process { child, pod: name, terminated: None });
        Ok(())
    }

    /// Last lines of each node's log.
    pub fn logs(&self) -> String {
        let names: Vec<String> = self.state().ports.keys().cloned().collect();
        let tail = |name: String| {
            let text = std::fs::read_to_string(self.dir.join(format!("{name}.log"))).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            format!("---- {name}\n{}\n", lines[lines.len().saturating_sub(12)..].join("\n"))
        };
        names.into_iter().map(tail).collect()
    }
}
