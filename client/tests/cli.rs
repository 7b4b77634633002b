//! `chordctl` as its users see it: output, messages and exit codes.
mod fake;

use fake::{Fake, Fault};
use std::{
    path::Path,
    process::{Output, Stdio},
    time::Duration,
};
use tokio::{io::AsyncWriteExt as _, process::Command};
use tonic::Code;

const CHORDCTL: &str = env!("CARGO_BIN_EXE_chordctl");

fn command(program: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    // No ring of the developer's own.
    for name in ["CHORD_RING", "CHORD_NAMESPACE", "CHORD_ENDPOINTS", "CHORD_TLS_DIR", "RUST_LOG"] {
        command.env_remove(name);
    }
    command.env("KUBECONFIG", "/nonexistent").env("HOME", "/nonexistent").args(args).kill_on_drop(true);
    command
}

/// Runs chordctl, with the endpoint when there is one.
async fn run(fake: Option<&Fake>, args: &[&str]) -> Output {
    let mut command = command(Path::new(CHORDCTL), args);
    if let Some(fake) = fake {
        command.args(["--endpoint", &fake.address]);
    }
    let run = command.stdin(Stdio::null()).output();
    tokio::time::timeout(Duration::from_secs(60), run).await.expect("it ends").unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn assert_run(output: &Output, code: i32, out: &str, err: &str) {
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{stdout}{stderr}");
    assert!(stdout.contains(out), "`{out}` is not in: {stdout}");
    assert!(stderr.contains(err), "`{err}` is not in: {stderr}");
}

#[tokio::test]
async fn keys_are_written_read_compared_and_deleted() {
    let fake = Fake::start().await;
    let ring = Some(&fake);
    assert_run(&run(ring, &["put", "colour", "green"]).await, 0, "written, version 1.16.1\n", "");
    assert_run(&run(ring, &["get", "colour"]).await, 0, "green\n", "");
    assert_eq!(run(ring, &["get", "colour", "--raw"]).await.stdout, b"green");
    assert_run(&run(ring, &["cas", "colour", "blue", "--expect", "1.16.1"]).await, 0, "written, version 1.16.2", "");
    assert_run(&run(ring, &["cas", "colour", "red", "--expect", "1.16.1"]).await, 1, "", "the key's version is 1.16.2");
    assert_run(&run(ring, &["cas", "other", "red", "--expect", "1.16.1"]).await, 1, "", "the key is absent");
    let found: serde_json::Value =
        serde_json::from_slice(&run(ring, &["get", "colour", "-o", "json"]).await.stdout).unwrap();
    assert_eq!(found, serde_json::json!({"key": "colour", "value": "blue", "version": "1.16.2"}));
    assert_run(&run(ring, &["delete", "colour"]).await, 0, "deleted", "");
    assert_run(&run(ring, &["delete", "colour"]).await, 0, "was absent already", "");
    assert_run(&run(ring, &["get", "colour"]).await, 1, "", "key `colour` is absent");
}

#[tokio::test]
async fn values_come_from_files_and_standard_input_byte_by_byte() {
    let fake = Fake::start().await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("value");
    let bytes: Vec<u8> = (0..=255).collect();
    std::fs::write(&file, &bytes).unwrap();
    let from_file = run(Some(&fake), &["put", "file", "--file", file.to_str().unwrap()]).await;
    assert_run(&from_file, 0, "written", "");
    assert_eq!(run(Some(&fake), &["get", "file", "--raw"]).await.stdout, bytes);
    let mut child = command(Path::new(CHORDCTL), &["put", "input", "--file", "-", "--endpoint", &fake.address])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"from a pipe").await.unwrap();
    assert!(child.wait().await.unwrap().success());
    assert_eq!(fake.with(|state| state.value("input").map(<[u8]>::to_vec)), Some(b"from a pipe".to_vec()));
    let missing = run(Some(&fake), &["put", "k", "--file", "/nonexistent"]).await;
    assert_run(&missing, 2, "", "cannot read /nonexistent");
    std::fs::write(&file, vec![0; (1 << 20) + 5]).unwrap();
    let large = run(Some(&fake), &["put", "k", "--file", file.to_str().unwrap()]).await;
    assert_run(&large, 2, "", "at most 1048576 (1 MiB) are allowed");
}

#[tokio::test]
async fn every_kind_of_failure_has_its_exit_code() {
    let fake = Fake::start().await;
    let ring = Some(&fake);
    assert_run(&run(ring, &["get", ""]).await, 2, "", "the key is empty");
    assert_run(&run(ring, &["put", "k"]).await, 2, "", "required");
    assert_run(&run(ring, &["put", "k", "v", "--ttl", "0s"]).await, 2, "", "whole number above 0");
    assert_run(&run(ring, &["cas", "k", "v", "--expect", "7"]).await, 2, "", "or `absent`");
    assert_run(&run(ring, &["get", "k", "--timeout", "2h"]).await, 2, "", "the deadline must be 1 ms..=50 s");
    assert_run(&run(ring, &["scan", "--cursor", "xyz"]).await, 2, "", "not one that a scan has printed");
    assert_run(
        &run(ring, &["get", "k", "--tls-dir", "/nonexistent"]).await,
        2,
        "",
        "must hold tls.crt, tls.key and ca.crt",
    );
    fake.fail([Fault::Refuse(Code::PermissionDenied)]);
    assert_run(&run(ring, &["get", "k"]).await, 2, "", "has the role `client`");
    fake.with(|state| state.always = Some(Fault::Refuse(Code::Unavailable)));
    assert_run(&run(ring, &["put", "k", "v", "--timeout", "300ms"]).await, 3, "", "it had no effect");
    fake.with(|state| state.always = Some(Fault::Refuse(Code::Aborted)));
    assert_run(&run(ring, &["put", "k", "v", "--timeout", "300ms"]).await, 4, "", "outcome unknown");
    assert_run(&run(ring, &["get", "k", "--timeout", "300ms"]).await, 3, "", "attempts");
}

#[tokio::test]
async fn without_endpoint_the_way_to_the_ring_is_explained() {
    assert_run(&run(None, &["get", "k"]).await, 2, "", "Give --ring NAME");
    assert_run(&run(None, &["get", "k", "--ring", "demo"]).await, 2, "", "set KUBECONFIG or give --kubeconfig");
    assert_run(&run(None, &["get", "k", "--tls-dir", "x"]).await, 2, "", "--tls-dir needs --endpoint");
    let nobody = run(None, &["get", "k", "--endpoint", "127.0.0.1:1", "--timeout", "300ms"]).await;
    assert_run(&nobody, 3, "", "127.0.0.1:1");
    assert_run(&nobody, 3, "", "if the ring uses it, give --tls-dir");
}

#[tokio::test]
async fn scans_page_and_go_on_where_they_ended() {
    let fake = Fake::start().await;
    fake.with(|state| (0..7).for_each(|number| state.set(&format!("k{number}"), "v")));
    let first = run(Some(&fake), &["scan", "--limit", "5", "--keys-only"]).await;
    assert_run(&first, 0, "k0\nk1\nk2\nk3\nk4\n", "there is more: go on with --cursor ");
    let cursor = text(&first.stderr).split_whitespace().last().unwrap().to_owned();
    let rest = run(Some(&fake), &["scan", "--limit", "5", "--cursor", &cursor]).await;
    assert_eq!((text(&rest.stdout).as_str(), text(&rest.stderr).as_str()), ("k5\tv\nk6\tv\n", ""));
    let all = run(Some(&fake), &["scan", "--limit", "0", "-o", "json"]).await;
    let all: serde_json::Value = serde_json::from_slice(&all.stdout).unwrap();
    assert_eq!((all["entries"].as_array().unwrap().len(), &all["next_cursor"]), (7, &serde_json::Value::Null));
}

#[tokio::test]
async fn load_journals_what_verify_then_finds_or_misses() {
    let fake = Fake::start().await;
    let dir = tempfile::tempdir().unwrap();
    let journal = dir.path().join("journal");
    let journal = journal.to_str().unwrap();
    // Two outcomes stay unknown: the answer is lost and the deadline passes.
    fake.fail([Fault::LoseAnswer, Fault::Hang]);
    let load = ["load", "--keys", "50", "--value-size", "100", "--concurrency", "4", "--journal", journal];
    let loaded = run(Some(&fake), &[&load[..], &["--timeout", "1s", "-o", "json"]].concat()).await;
    assert_run(&loaded, 0, "", "outcome unknown");
    let summary: serde_json::Value = serde_json::from_slice(&loaded.stdout).unwrap();
    let unknown = summary["unknown"].as_u64().unwrap();
    assert!((1..=2).contains(&unknown), "{summary}");
    assert_eq!(summary["writes"].as_u64().unwrap(), 50 - unknown, "{summary}");
    assert!(summary["longest_gap_ms"].is_u64() && summary["put"]["p99_us"].as_u64() > Some(10), "{summary}");
    let verify = ["verify", "--journal", journal];
    let good = format!("acknowledged {}, lost 0, wrong 0\n", 50 - unknown);
    assert_run(&run(Some(&fake), &verify).await, 0, &good, "");
    // A key that is gone, and one with another value.
    let keys = fake.with(|state| {
        (0..50).map(|n| format!("load-{n:08}")).filter(|key| state.value(key).is_some()).collect::<Vec<_>>()
    });
    let acknowledged: Vec<&String> = keys
        .iter()
        .filter(|key| {
            let text = std::fs::read_to_string(journal).unwrap();
            text.contains(&format!("A\t{key}\t"))
        })
        .collect();
    fake.with(|state| {
        state.remove(acknowledged[0]);
        state.set(acknowledged[1], "another value");
    });
    let bad = format!("acknowledged {}, lost 1, wrong 1\n", 50 - unknown);
    let found = run(Some(&fake), &verify).await;
    assert_run(&found, 1, &bad, &format!("{}: lost", acknowledged[0]));
    assert!(text(&found.stdout).ends_with(&bad), "it is the last line");
    // A second load continues the same journal: nothing is left to write.
    let again = run(Some(&fake), &[&load[..], &["-o", "json", "--read-ratio", "0"]].concat()).await;
    assert_run(&again, 0, "\"writes\": 0", "");
    let damaged = run(Some(&fake), &["verify", "--journal", CHORDCTL]).await;
    assert_run(&damaged, 2, "", "is damaged");
}

#[tokio::test]
async fn an_interrupt_ends_a_load_cleanly() {
    let fake = Fake::start().await;
    let dir = tempfile::tempdir().unwrap();
    let journal = dir.path().join("journal");
    let path = journal.to_str().unwrap();
    let args =
        ["load", "--keys", "100", "--duration", "10m", "--journal", path, "--endpoint", &fake.address, "-o", "json"];
    let child = command(Path::new(CHORDCTL), &args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let pid = child.id().unwrap().cast_signed();
    let begun = async {
        while fake.with(|state| state.writes()) < 200 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), begun).await.expect("it writes every key more than once");
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), rustix::process::Signal::INT).unwrap();
    let ended =
        tokio::time::timeout(Duration::from_secs(30), child.wait_with_output()).await.expect("it ends").unwrap();
    assert_run(&ended, 0, "longest_gap_ms", "ending");
    assert_run(&run(Some(&fake), &["verify", "--journal", path]).await, 0, "acknowledged 100, lost 0, wrong 0", "");
}

#[tokio::test]
async fn bench_reports_every_number_of_clients() {
    let fake = Fake::start().await;
    let args = ["bench", "--clients", "1,4", "--seconds", "1", "--keys", "20", "--value-size", "10", "-o", "json"];
    let output = run(Some(&fake), &args).await;
    assert_run(&output, 0, "", "");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let figures = report["figures"].as_array().unwrap();
    let named: Vec<_> =
        figures.iter().map(|f| (f["operation"].as_str().unwrap(), f["clients"].as_u64().unwrap())).collect();
    assert_eq!(named, [("get", 1), ("put", 1), ("get", 4), ("put", 4)]);
    for figure in figures {
        let number = |name: &str| figure[name].as_u64().unwrap();
        assert!(figure["operations_per_second"].as_f64().unwrap() > 1.0 && number("errors") == 0, "{figure}");
        assert!(number("p50_us") > 1 && number("p50_us") <= number("p99_us"), "{figure}");
    }
}

#[tokio::test]
async fn it_is_kubectl_chord_when_called_so() {
    let dir = tempfile::tempdir().unwrap();
    let plugin = dir.path().join("kubectl-chord");
    std::os::unix::fs::symlink(CHORDCTL, &plugin).unwrap();
    let help = command(&plugin, &["put", "--help"]).output().await.unwrap();
    assert_run(&help, 0, "Usage: kubectl chord put", "");
    let version = command(&plugin, &["version"]).output().await.unwrap();
    assert_run(&version, 0, &format!("kubectl chord {}", env!("CARGO_PKG_VERSION")), "");
    assert_run(&run(None, &["--help"]).await, 0, "outcome unknown: a write may or may not take effect", "");
    for shell in ["bash", "zsh", "fish"] {
        assert_run(&run(None, &["completion", shell]).await, 0, "chordctl", "");
    }
}
