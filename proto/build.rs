//! Compiles the `.proto` files without a system protoc, and keeps the descriptor set for reflection.
use prost::Message as _;
use std::{env, fs, path::PathBuf};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = ["admin", "kv", "ring", "shard", "types", "view"].map(|name| format!("chord/v1/{name}.proto"));
    println!("cargo:rerun-if-changed=chord");
    let descriptors = protox::compile(&files, ["."])?;
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure().bytes(".").compile_fds(descriptors)?;
    Ok(())
}
