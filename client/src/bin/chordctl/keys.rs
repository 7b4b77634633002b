//! Commands on keys.
use crate::{
    cli::{self, Expectation, Global, Output},
    connect,
    failure::{Failure, Result, local},
    print,
};
use chord_client::{CompareAndSet, Get, Put, Scan, VALUE_BYTES_MAX, Version};
use serde_json::{Map, Value, json};
use std::{ffi::OsString, io::Read as _, os::unix::ffi::OsStringExt as _, path::Path};

/// Entries asked for at a time.
const PAGE: u64 = 500;

pub async fn put(global: &Global, args: cli::Put) -> Result {
    let value = value(&args)?;
    let mut put = Put::new(args.key.into_vec(), value);
    if let Some(ttl) = args.ttl {
        put = put.ttl(ttl);
    }
    let version = connect::client(global).await?.put(put).await?;
    match global.output {
        Output::Text => print::line(&format!("written, version {version}")),
        Output::Json => print::json(&json!({"version": version.to_string()})),
    }
    Ok(())
}

pub async fn get(global: &Global, args: cli::Get) -> Result {
    let key = args.key.into_vec();
    let get = Get::new(key.clone());
    let get = if args.stale_ok { get.stale_ok() } else { get };
    let Some(found) = connect::client(global).await?.get(get).await? else {
        return Err(Failure::negative(format!("key `{}` is absent", print::readable(&key))));
    };
    match global.output {
        _ if args.raw => {
            use std::io::Write as _;
            let mut out = std::io::stdout();
            out.write_all(&found.value).and_then(|()| out.flush()).map_err(local("cannot write the value"))?;
        }
        Output::Text => print::line(&print::readable_lines(&found.value)),
        Output::Json => {
            let mut object = Map::new();
            print::field(&mut object, "key", &key);
            print::field(&mut object, "value", &found.value);
            object.insert("version".into(), json!(found.version.to_string()));
            if let Some(ttl) = found.ttl {
                object.insert("ttl_ms".into(), json!(ttl.as_millis() as u64));
            }
            print::json(&Value::Object(object));
        }
    }
    Ok(())
}

pub async fn delete(global: &Global, args: cli::Key) -> Result {
    let existed = connect::client(global).await?.delete(args.key.into_vec()).await?;
    match global.output {
        Output::Text => print::line(if existed { "deleted" } else { "was absent already" }),
        Output::Json => print::json(&json!({"existed": existed})),
    }
    Ok(())
}

pub async fn cas(global: &Global, args: cli::Cas) -> Result {
    let value = value(&args.put)?;
    let mut change = CompareAndSet::new(args.put.key.into_vec(), value);
    if let Expectation::Version(version) = args.expect {
        change = change.expect(version);
    }
    if let Some(ttl) = args.put.ttl {
        change = change.ttl(ttl);
    }
    let compared = connect::client(global).await?.compare_and_set(change).await?;
    let now = compared.version.map(|version: Version| version.to_string());
    if global.output == Output::Json {
        print::json(&json!({"applied": compared.applied, "version": now}));
    } else if compared.applied {
        print::line(&format!("written, version {}", now.as_deref().unwrap_or("unknown")));
    }
    match (compared.applied, now) {
        (true, _) => Ok(()),
        (false, Some(now)) => Err(Failure::negative(format!("not written: the key's version is {now}"))),
        (false, None) => Err(Failure::negative("not written: the key is absent")),
    }
}

pub async fn scan(global: &Global, args: cli::Scan) -> Result {
    let client = connect::client(global).await?;
    let mut cursor = args.cursor.as_deref().map(from_hex).transpose()?;
    let mut left = if args.limit == 0 { u64::MAX } else { args.limit };
    let mut objects = Vec::new();
    loop {
        let mut scan = Scan::new().limit(left.min(PAGE) as u32);
        scan = if args.keys_only { scan.keys_only() } else { scan };
        let page = client.scan(if let Some(cursor) = cursor { scan.after(cursor) } else { scan }).await?;
        left = left.saturating_sub(page.entries.len() as u64);
        for entry in &page.entries {
            match global.output {
                Output::Text if args.keys_only => print::line(&print::readable(&entry.key)),
                Output::Text => {
                    print::line(&format!("{}\t{}", print::readable(&entry.key), print::shortened(&entry.value)));
                }
                Output::Json => {
                    let mut object = Map::new();
                    print::field(&mut object, "key", &entry.key);
                    if !args.keys_only {
                        print::field(&mut object, "value", &entry.value);
                    }
                    object.insert("version".into(), json!(entry.version.to_string()));
                    objects.push(Value::Object(object));
                }
            }
        }
        cursor = page.next.map(|next| next.to_vec());
        if left == 0 || cursor.is_none() {
            break;
        }
    }
    let next = cursor.as_deref().map(to_hex);
    match (global.output, next) {
        (Output::Json, next) => print::json(&json!({"entries": objects, "next_cursor": next})),
        (Output::Text, Some(next)) => eprintln!("there is more: go on with --cursor {next}"),
        (Output::Text, None) => {}
    }
    Ok(())
}

fn value(args: &cli::Put) -> Result<Vec<u8>> {
    match (&args.value, &args.file) {
        (Some(value), _) => Ok(OsString::into_vec(value.clone())),
        (None, Some(file)) => read(file),
        (None, None) => Err(Failure::usage("give a VALUE or --file")),
    }
}

/// A file, or standard input for `-`; no more than a value may have, and one byte to notice it.
fn read(file: &Path) -> Result<Vec<u8>> {
    let mut value = Vec::new();
    let limit = VALUE_BYTES_MAX as u64 + 1;
    let done = if file == Path::new("-") {
        std::io::stdin().take(limit).read_to_end(&mut value)
    } else {
        std::fs::File::open(file).and_then(|file| file.take(limit).read_to_end(&mut value))
    };
    done.map_err(local(format!("cannot read {}", file.display())))?;
    Ok(value)
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Result<Vec<u8>> {
    let digits: Option<Vec<u32>> = text.chars().map(|c| c.to_digit(16)).collect();
    match digits {
        Some(digits) if !digits.is_empty() && digits.len().is_multiple_of(2) => {
            Ok(digits.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect())
        }
        _ => Err(Failure::usage("the cursor is not one that a scan has printed")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_survive_the_command_line() {
        let cursor = [0u8, 0, 0x0f, 0xff, 1, b'k'];
        assert_eq!(from_hex(&to_hex(&cursor)).unwrap(), cursor);
        for foreign in ["", "0", "zz", "0g", "ü0"] {
            assert!(from_hex(foreign).is_err(), "{foreign}");
        }
    }
}
