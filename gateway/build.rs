//! Embeds `dashboard/dist` if it was built: a table of files, each with its hash and gzipped when that is smaller.
use sha2::{Digest as _, Sha256};
use std::{
    env,
    error::Error,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=build.rs");
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").ok_or("CARGO_MANIFEST_DIR is not set")?);
    let dist = root.join("dashboard/dist");
    let mut files = Vec::new();
    if dist.join("index.html").is_file() {
        println!("cargo:rerun-if-changed=dashboard/dist");
        walk(&dist, &mut files)?;
        files.sort();
    } else {
        // Its parent exists, and changes when it appears. (A path that does not exist would mean: build every time.)
        println!("cargo:rerun-if-changed=dashboard");
    }
    let mut table = String::from("&[\n");
    for (place, path) in files.iter().enumerate() {
        let bytes = fs::read(path)?;
        // A copy: `dist` may be built anew while this crate is compiled.
        fs::write(out.join(format!("{place}.raw")), &bytes)?;
        let name = path.strip_prefix(&dist)?.to_str().ok_or("a file's name is not UTF-8")?.replace('\\', "/");
        let hash: String = Sha256::digest(&bytes).iter().take(12).map(|byte| format!("{byte:02x}")).collect();
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(&bytes)?;
        let small = encoder.finish()?;
        let gzip = if small.len() + small.len() / 10 < bytes.len() {
            fs::write(out.join(format!("{place}.gz")), small)?;
            format!("Some(include_bytes!(concat!(env!(\"OUT_DIR\"), \"/{place}.gz\")))")
        } else {
            "None".into()
        };
        table += &format!(
            "    Asset {{ path: {name:?}, hash: {hash:?}, \
             bytes: include_bytes!(concat!(env!(\"OUT_DIR\"), \"/{place}.raw\")), gzip: {gzip} }},\n"
        );
    }
    fs::write(out.join("assets.rs"), table + "]\n")?;
    Ok(())
}

fn walk(directory: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            walk(&entry.path(), files)?;
        } else {
            files.push(entry.path());
        }
    }
    Ok(())
}
