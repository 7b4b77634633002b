//! What lies on disks, and words of flags: damaged, or another program's.
use chord_node::{
    args,
    identity::DataDir,
    rpc::roles::role_of,
    store::{format, journal},
};
use clap::CommandFactory as _;
use std::{fs, path::Path};

/// What is stored: the first byte says which kind, the rest is sealed as if it had been written so, because nothing
/// else gets past the checksum. What can be read is written as it was read.
pub fn store(data: &[u8]) -> bool {
    let Some((kind, body)) = data.split_first() else { return false };
    let sealed = [&[format::FORMAT][..], &crc32fast::hash(body).to_le_bytes(), body].concat();
    // As it is, a stranger's bytes are no record.
    let _ = format::decode_record(data);
    match kind % 5 {
        0 => {
            let Ok(record) = format::decode_record(&sealed) else { return false };
            assert_eq!(format::decode_record(&format::encode_record(&record)), Ok(record));
        }
        1 => {
            let Ok(meta) = format::decode_meta(&sealed) else { return false };
            assert_eq!(format::decode_meta(&format::encode_meta(&meta)), Ok(meta));
        }
        2 => {
            let Ok(node) = format::decode_node(&sealed) else { return false };
            assert_eq!(format::decode_node(&format::encode_node(&node)), Ok(node));
        }
        3 => return in_file("0.jnl", body, |dir| journal::check(dir).is_ok()),
        _ => return in_file("identity.json", body, |dir| DataDir::open(dir, "n-0", "ring", "default").is_ok()),
    }
    true
}

/// Looks at a directory with one file in it.
fn in_file(name: &str, bytes: &[u8], look: impl FnOnce(&Path) -> bool) -> bool {
    let dir = tempfile::tempdir().expect("a directory");
    fs::write(dir.path().join(name), bytes).expect("room for a file");
    look(dir.path())
}

/// Configuration files of node and gateway, histories of operations, durations, addresses, certificates: the first
/// byte says which.
pub fn words(data: &[u8]) -> bool {
    let Some((kind, body)) = data.split_first() else { return false };
    let text = String::from_utf8_lossy(body);
    match kind % 6 {
        0 | 1 => {
            let is_node = kind % 6 == 0;
            in_file("config", body, |dir| {
                let line =
                    ["program", "--config", &dir.join("config").display().to_string()].map(String::from).to_vec();
                if is_node {
                    let command = args::Args::command();
                    args::with_file(line, &command).is_ok_and(|args| command.try_get_matches_from(args).is_ok())
                } else {
                    use chord_gateway::args::{Args, with_file};
                    use clap::FromArgMatches as _;
                    let Ok(args) = with_file(line, &Args::command()) else { return false };
                    let Ok(matches) = Args::command().try_get_matches_from(args) else { return false };
                    Args::from_arg_matches(&matches).is_ok_and(|args| args.checked().is_ok())
                }
            })
        }
        2 => sim::recorded::parse(&text).is_ok(),
        3 => args::duration(&text).is_ok() | chord_operator::duration(&text).is_some(),
        4 => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            let _guard = runtime.enter();
            chord_client::net::link(&text, None, chord_client::net::tcp()).is_ok()
        }
        _ => role_of(body, "default", "ring").is_some(),
    }
}
