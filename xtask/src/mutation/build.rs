//! A copy of the core and the simulator, mutated and compiled.
use super::{
    list::{self, Mutant},
    schemata::{self, Schemata},
};
use crate::{paths, proc::run};
use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

const SWITCH: &str = include_str!("switch.rs");
/// Rounds of the compiler after which something else than a mutant must be wrong.
const ROUNDS_MAX: usize = 40;

pub struct Built {
    /// Switched ones.
    pub switched: BTreeSet<u32>,
    /// The compiler refuses them.
    pub unviable: BTreeSet<u32>,
    /// No switch can stand there; they need a build of their own.
    pub alone: BTreeSet<u32>,
    pub binaries: Vec<Binary>,
}

/// A program of tests.
#[derive(Clone)]
pub struct Binary {
    /// Package and target.
    pub name: String,
    pub program: PathBuf,
}

fn home() -> PathBuf {
    paths::cache().join("mutation")
}

/// The copy. Its packages' directories are where their tests run.
pub fn tree() -> PathBuf {
    home().join("tree")
}

fn write(path: &Path, text: &[u8]) -> Result<()> {
    // What has not changed keeps its time: cargo compiles only the rest.
    if fs::read(path).is_ok_and(|old| old == text) {
        return Ok(());
    }
    fs::create_dir_all(path.parent().context("no directory")?)?;
    fs::write(path, text).with_context(|| path.display().to_string())
}

fn copy(from: &Path, to: &Path, seen: &mut BTreeSet<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(from).with_context(|| from.display().to_string())? {
        let (path, to) = (entry.as_ref().map_or(PathBuf::new(), |entry| entry.path()), to.join(entry?.file_name()));
        if path.is_dir() {
            copy(&path, &to, seen)?;
        } else {
            seen.insert(to.clone());
            let in_core = path.starts_with(paths::root().join("chord/src"));
            if !in_core || !to.exists() {
                write(&to, &fs::read(&path)?)?;
            }
        }
    }
    Ok(())
}

fn remove_others(dir: &Path, seen: &BTreeSet<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            remove_others(&path, seen)?;
        } else if !seen.contains(&path) {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

/// Copies all but the core's mutated files.
fn prepare() -> Result<()> {
    let (root, tree) = (paths::root(), tree());
    let mut seen = BTreeSet::from([tree.join("chord/src/mutation.rs")]);
    for part in ["chord", "sim", "docs"] {
        copy(&root.join(part), &tree.join(part), &mut seen)?;
        remove_others(&tree.join(part), &seen)?;
    }
    let manifest = fs::read_to_string(root.join("Cargo.toml"))?;
    let members = manifest.lines().find(|line| line.starts_with("members = ")).context("no members in Cargo.toml")?;
    write(&tree.join("Cargo.toml"), manifest.replace(members, "members = [\"chord\", \"sim\"]").as_bytes())?;
    if !tree.join("Cargo.lock").exists() {
        write(&tree.join("Cargo.lock"), &fs::read(root.join("Cargo.lock"))?)?;
    }
    write(&tree.join("chord/src/mutation.rs"), SWITCH.as_bytes())?;
    Ok(())
}

fn cargo(args: &[&str]) -> Result<(bool, Vec<Value>)> {
    let mut messages = Vec::new();
    // Lints are for people; a mutant may be as ugly as it likes.
    let cargo = run("cargo", args, 1800).dir(tree()).env("RUSTFLAGS", "--cap-lints=allow");
    let cargo = cargo.env("CARGO_TARGET_DIR", home().join("target")).env("CARGO_TERM_COLOR", "never");
    let done = cargo.quiet_lines(|line| messages.extend(serde_json::from_str(line).ok()))?;
    Ok((done, messages))
}

/// Puts every mutant into the copy that compiles there, then compiles the tests.
pub fn build(mutants: &[Mutant]) -> Result<Built> {
    prepare()?;
    let mut built =
        Built { switched: BTreeSet::new(), unviable: BTreeSet::new(), alone: BTreeSet::new(), binaries: vec![] };
    let mut keep_const = BTreeSet::new();
    let mut files: BTreeMap<&str, Vec<&Mutant>> = BTreeMap::new();
    for mutant in mutants {
        files.entry(&mutant.file).or_default().push(mutant);
    }
    for round in 0.. {
        ensure!(round < ROUNDS_MAX, "the mutated core does not compile");
        let mut written: BTreeMap<String, Schemata> = BTreeMap::new();
        for entry in core_files()? {
            let source = list::source(&entry)?;
            let mutants = files.get(entry.as_str()).map_or(&[][..], Vec::as_slice);
            let out = |number: &u32| built.unviable.contains(number) || built.alone.contains(number);
            let wanted: Vec<&Mutant> = mutants.iter().copied().filter(|mutant| !out(&mutant.number)).collect();
            let mut schemata = schemata::rewrite(&source, &wanted, &keep_const).with_context(|| entry.clone())?;
            built.unviable.extend(&schemata.unviable);
            built.alone.extend(&schemata.alone);
            if entry == "chord/src/lib.rs" {
                schemata.text.push_str("\n#[allow(missing_docs, clippy::all)]\npub mod mutation;\n");
            }
            write(&tree().join(&entry), schemata.text.as_bytes())?;
            written.insert(entry, schemata);
        }
        let (done, messages) =
            cargo(&["check", "--offline", "--package", "chord", "--features", "mutants", "--message-format=json"])?;
        if done {
            break;
        }
        let before = (built.unviable.len() + built.alone.len(), keep_const.len());
        for message in messages.iter().filter(|message| message["message"]["level"] == "error") {
            blame(&message["message"], &written, &mut built, &mut keep_const);
        }
        let after = (built.unviable.len() + built.alone.len(), keep_const.len());
        eprintln!("    round {round}: {} do not compile, {} have no place", built.unviable.len(), built.alone.len());
        if before == after {
            let errors = messages.iter().filter_map(|message| message["message"]["rendered"].as_str());
            bail!("errors that are no mutant's:\n{}", errors.take(5).collect::<String>());
        }
    }
    let out = |number: &u32| built.unviable.contains(number) || built.alone.contains(number);
    built.switched = mutants.iter().map(|mutant| mutant.number).filter(|number| !out(number)).collect();
    built.binaries = tests()?;
    Ok(built)
}

/// Compiles the tests of the copy as it stands.
pub fn tests() -> Result<Vec<Binary>> {
    let args = ["test", "--offline", "--package", "chord", "--package", "sim", "--lib", "--tests", "--no-run"];
    let (done, messages) = cargo(&[&args[..], &["--message-format=json"]].concat())?;
    ensure!(done, "the tests do not compile");
    let program = |message: &Value| {
        let path = PathBuf::from(message["executable"].as_str()?);
        let package = Path::new(message["manifest_path"].as_str()?).parent()?.file_name()?.to_str()?.to_owned();
        Some(Binary { name: format!("{package}/{}", message["target"]["name"].as_str()?), program: path })
    };
    Ok(messages.iter().filter_map(program).collect())
}

/// A mutant that no switch can express: its tests, compiled with it alone, or `None` if it does not compile.
pub fn alone(mutant: &Mutant) -> Result<Option<Vec<Binary>>> {
    for file in core_files()? {
        let source = list::source(&file)?;
        let text = if file == mutant.file { mutant.applied(&source) } else { source };
        write(&tree().join(&file), text.as_bytes())?;
    }
    let check = ["check", "--offline", "--package", "chord", "--features", "mutants", "--message-format=json"];
    if !cargo(&check)?.0 {
        return Ok(None);
    }
    tests().map(Some)
}

fn core_files() -> Result<Vec<String>> {
    let mut files = Vec::new();
    let mut dirs = vec![PathBuf::from("chord/src")];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(paths::root().join(&dir))? {
            let path = dir.join(entry?.file_name());
            if paths::root().join(&path).is_dir() {
                dirs.push(path);
            } else {
                files.push(path.to_string_lossy().into_owned());
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Takes out what an error of the compiler is about.
fn blame(error: &Value, written: &BTreeMap<String, Schemata>, built: &mut Built, keep_const: &mut BTreeSet<String>) {
    if error["code"]["code"] == "E0015" {
        // "cannot call non-const associated function `Nanos::from_millis` in constants"
        let name = error["message"].as_str().and_then(|text| text.split('`').nth(1));
        if let Some(name) = name.and_then(|path| path.rsplit("::").next()) {
            keep_const.insert(name.to_owned());
            return;
        }
    }
    let children = error["children"].as_array().into_iter().flatten().map(|child| &child["spans"]);
    let all = std::iter::once(&error["spans"]).chain(children).filter_map(Value::as_array).flatten();
    let spans: Vec<(&Schemata, usize)> = all
        .filter_map(|span| {
            let file = written.get(span["file_name"].as_str()?)?;
            Some((file, span["byte_start"].as_u64()? as usize))
        })
        .collect();
    if let Some(number) = spans.iter().find_map(|(file, at)| file.branch_at(*at)) {
        built.unviable.insert(number);
    } else if let Some(numbers) = spans.iter().find_map(|(file, at)| file.place_at(*at)) {
        built.alone.extend(numbers);
    }
}
