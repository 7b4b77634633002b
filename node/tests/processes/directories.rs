//! Whose directory it is, and what the command line refuses.
use crate::files::copy;
use crate::support::{BINARY, Node, eventually, expect_all, get, put, put_all, ring, settled};
use anyhow::{Context as _, ensure};
use chord_node::store::format::FORMAT;
use chord_proto::v1;
use std::{fs, path::Path, process::Command};

async fn founded(root: &Path) -> anyhow::Result<Node> {
    let mut node = Node::new(root, "n-0", &["--bootstrap", "--replication-factor=1"])?;
    node.start()?;
    node.ready().await?;
    put(&node, "key", "value").await?;
    Ok(node)
}

/// Runs a node to its end, which must come by itself; gives its exit code and what it said.
fn refused(mut command: Command) -> anyhow::Result<(Option<i32>, String)> {
    let output = command.output()?;
    Ok((output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned()))
}

/// Names and contents of all files below a directory, lock files aside.
fn contents(dir: &Path) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.extend(contents(&entry.path())?);
        } else if entry.file_name() != "lock" {
            found.push((entry.path().display().to_string(), fs::read(entry.path())?));
        }
    }
    found.sort();
    Ok(found)
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_and_newer_directories_are_refused_and_left_alone() -> anyhow::Result<()> {
    let root = tempfile::tempdir()?;
    let mut node = founded(root.path()).await?;
    node.kill()?;
    let before = contents(&node.dir)?;
    let mut other_name = Node::new(root.path(), "n-1", &["--bootstrap"])?;
    other_name.dir.clone_from(&node.dir);
    let (code, said) = refused(other_name.command())?;
    ensure!(code == Some(1) && said.contains("belongs to node n-0"), "{code:?} {said}");
    let mut elsewhere = node.command();
    elsewhere.arg("--namespace=elsewhere");
    let (code, said) = refused(elsewhere)?;
    ensure!(code == Some(1) && said.contains("belongs to node n-0 of ring"), "{code:?} {said}");
    ensure!(contents(&node.dir)? == before, "a refused directory was changed");
    let identity = node.dir.join("identity.json");
    let known = fs::read_to_string(&identity)?;
    for (text, words) in [
        (known.replace(&format!("\"format\": {FORMAT}"), "\"format\": 99"), "use the newer version"),
        (String::new(), "damaged"),
        (known[..known.len() / 2].to_owned(), "damaged"),
    ] {
        fs::write(&identity, &text)?;
        let (code, said) = refused(node.command())?;
        ensure!(code == Some(1) && said.contains(words), "{code:?} {said}");
        ensure!(fs::read_to_string(&identity)? == text, "the refused file was changed");
    }
    fs::write(&identity, known)?;
    node.start()?;
    node.ready().await?;
    ensure!(get(&node, "key").await?.as_deref() == Some("value"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn second_process_on_a_directory_is_refused() -> anyhow::Result<()> {
    let root = tempfile::tempdir()?;
    let node = founded(root.path()).await?;
    let mut second = Node::new(root.path(), "n-0", &["--bootstrap"])?;
    second.dir.clone_from(&node.dir);
    let (code, said) = refused(second.command())?;
    ensure!(code == Some(1) && said.contains("another process uses"), "{code:?} {said}");
    ensure!(get(&node, "key").await?.as_deref() == Some("value"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn name_that_is_taken_is_refused_and_changes_nothing() -> anyhow::Result<()> {
    let root = tempfile::tempdir()?;
    let nodes = ring(root.path(), 2, &[]).await?;
    put(&nodes[0], "key", "value").await?;
    let join = format!("--join={}", nodes[0].internal);
    let mut second = Node::new(&root.path().join("elsewhere"), "n-1", &[join.as_str()])?;
    fs::create_dir_all(root.path().join("elsewhere"))?;
    second.start()?;
    eventually("the second n-1 is told why it may not join", async || {
        second.log().contains("belongs to n-1 with another data directory").then_some(()).context("not said yet")
    })
    .await?;
    ensure!(second.http("/readyz").await?.0 == 503);
    ensure!(second.status().await?.state() == v1::MemberState::Empty);
    settled(&nodes.iter().collect::<Vec<_>>(), 2).await?;
    ensure!(get(&nodes[1], "key").await?.as_deref() == Some("value"));
    Ok(())
}

/// Goal: of two processes with one identity only one stays, and it says which; nothing is lost. Method: a member's
/// directory is copied while it is stopped; then both run, at different addresses.
#[tokio::test(flavor = "multi_thread")]
async fn copy_of_a_directory_does_not_serve_beside_the_original() -> anyhow::Result<()> {
    let root = tempfile::tempdir()?;
    let mut nodes = ring(root.path(), 3, &[]).await?;
    put_all(&nodes.iter().collect::<Vec<_>>(), "key", 60).await?;
    nodes[2].kill()?;
    let elsewhere = root.path().join("elsewhere");
    copy(&nodes[2].dir, &elsewhere.join("n-2"))?;
    let join = format!("--join={}", nodes[0].internal);
    let mut twin = Node::new(&elsewhere, "n-2", &[join.as_str()])?;
    nodes[2].start()?;
    twin.start()?;
    let told = |node: &Node| node.log().contains("another process has the identity of n-2 and started later");
    // Both started as often as the other, so it is the addresses that decide.
    let loser = eventually("one of the two ends", async || match (nodes[2].has_ended()?, twin.has_ended()?) {
        (true, false) => Ok(0),
        (false, true) => Ok(1),
        (true, true) => anyhow::bail!("both have ended"),
        (false, false) => anyhow::bail!("both go on"),
    })
    .await?;
    let (stays, goes) = if loser == 0 { (&twin, &nodes[2]) } else { (&nodes[2], &twin) };
    ensure!(told(goes) && !told(stays), "{}", goes.log());
    stays.ready().await?;
    let ring = [&nodes[0], &nodes[1], stays];
    settled(&ring, 3).await?;
    expect_all(stays, "key", 60).await?;
    expect_all(&nodes[0], "key", 60).await
}

#[test]
fn wrong_usage_ends_with_code_2_and_a_sentence() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("node.toml");
    fs::write(&file, "ring-nmae = \"demo\"\n")?;
    let file = file.display().to_string();
    let data = dir.path().join("data").display().to_string();
    let base = ["--name=n-0", "--data-dir", &data];
    let table: &[(&[&str], &str)] = &[
        (&["--bootstrap", "--join=127.0.0.1:1"], "exactly one of"),
        (&["--bootstrap", "--shards=3"], "power of two"),
        (&["--bootstrap", "--drain-timeout=5"], "not a duration"),
        (&["--bootstrap", "--config", &file], "ring-nmae"),
        (&["--bootstrap", "--no-such-flag"], "--no-such-flag"),
        (&["--bootstrap", "--internal-addr=nowhere"], "--internal-addr"),
    ];
    for (flags, word) in table {
        let mut command = Command::new(BINARY);
        command.env_clear().args(base).args(*flags);
        let (code, said) = refused(command)?;
        ensure!(code == Some(2) && said.contains(word), "{flags:?}: {code:?} {said}");
    }
    ensure!(!Path::new(&data).exists(), "wrong usage must not leave a directory");
    let help = Command::new(BINARY).arg("--help").output()?;
    let text = String::from_utf8(help.stdout).context("help is text")?;
    ensure!(help.status.success() && text.contains("--ring-name") && text.contains("CHORD_RING_NAME"), "{text}");
    let version = Command::new(BINARY).arg("--version").output()?;
    ensure!(String::from_utf8_lossy(&version.stdout).contains(env!("CARGO_PKG_VERSION")));
    Ok(())
}
