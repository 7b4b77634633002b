//! Programs that the tests run, each with a time limit.
use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use std::{
    io::Write as _,
    path::PathBuf,
    process::{Command, Output, Stdio},
};

/// A finished program.
pub struct Done {
    /// Exit code; 124 when its time was up.
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Done {
    /// Standard output, or an error with everything it said.
    pub fn good(self) -> Result<String> {
        match self.code {
            0 => Ok(self.stdout),
            code => bail!("exit code {code}: {}{}", self.stdout, self.stderr),
        }
    }
}

fn done(output: Output) -> Done {
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Done { code: output.status.code().unwrap_or(-1), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// `program args`, at most `limit_s` seconds.
pub fn run(program: &str, args: &[&str], limit_s: u32) -> Result<Done> {
    let mut command = Command::new("timeout");
    command.arg("--kill-after=10").arg(limit_s.to_string()).arg(program).args(args).stdin(Stdio::null());
    Ok(done(command.output().with_context(|| format!("cannot run {program}"))?))
}

/// `kubectl args`, its output.
pub fn kubectl(args: &[&str]) -> Result<String> {
    run("kubectl", args, 180)?.good().with_context(|| format!("kubectl {}", args.join(" ")))
}

/// What `kubectl get args --output json` prints.
pub fn get(args: &[&str]) -> Result<Value> {
    let all = [&["get"], args, &["--output", "json"]].concat();
    Ok(serde_json::from_str(&kubectl(&all)?)?)
}

/// `kubectl apply` of a manifest.
pub fn apply(namespace: &str, manifest: &Value) -> Result<Done> {
    let mut command = Command::new("timeout");
    command.args(["60", "kubectl", "apply", "--namespace", namespace, "--filename", "-"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    child.stdin.take().context("no standard input")?.write_all(manifest.to_string().as_bytes())?;
    Ok(done(child.wait_with_output()?))
}

/// `chordctl args` on a ring, found through kubeconfig.
pub fn chordctl(namespace: &str, ring: &str, args: &[&str]) -> Result<Done> {
    run("chordctl", &[&["--namespace", namespace, "--ring", ring], args].concat(), 300)
}

/// `deploy/dev/cluster args`.
pub fn cluster(args: &[&str]) -> Result<String> {
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../deploy/dev/cluster");
    let script = script.to_str().context("the clone's path is not UTF-8")?;
    run(script, args, 180)?.good().with_context(|| format!("deploy/dev/cluster {}", args.join(" ")))
}

/// Fails unless KUBECONFIG names the development cluster: these tests end nodes and the operator.
pub fn on_the_development_cluster() -> Result<()> {
    let kubeconfig = std::env::var("KUBECONFIG").unwrap_or_default();
    let exports = cluster(&["env"])?;
    let own = exports.lines().any(|line| line == format!("export KUBECONFIG={kubeconfig}"));
    anyhow::ensure!(own, "these tests need the development cluster: run them with `cargo xtask e2e`");
    Ok(())
}
