//! The command line.
use chord_client::Version;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::{ffi::OsString, path::PathBuf, time::Duration};

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  the answer is no: key absent, expectation not met, keys lost or wrong
  2  wrong usage, or the ring refuses this request or caller
  3  the ring, or the way to it, is not available; it had no effect
  4  outcome unknown: a write may or may not take effect; read the key to see

The ring is found through kubeconfig (KUBECONFIG, ~/.kube/config, or the pod's own account) by --ring and
--namespace, or at --endpoint without Kubernetes.";

/// Reads, writes, inspects and tries out Chord rings.
#[derive(Parser, Debug)]
#[command(name = "chordctl", version, after_help = EXIT_CODES, max_term_width = 110)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// Where the ring is, and how to print.
#[derive(Args, Debug, Clone)]
pub struct Global {
    /// Name of the ChordRing
    #[arg(long, global = true, env = "CHORD_RING", value_name = "NAME", help_heading = "Ring")]
    pub ring: Option<String>,
    /// Its namespace [default: the context's]
    #[arg(long, short, global = true, env = "CHORD_NAMESPACE", help_heading = "Ring")]
    pub namespace: Option<String>,
    /// kubeconfig file
    #[arg(long, global = true, value_name = "FILE", help_heading = "Ring")]
    pub kubeconfig: Option<PathBuf>,
    /// Context in the kubeconfig
    #[arg(long, global = true, help_heading = "Ring")]
    pub context: Option<String>,
    /// host:port of a member's client service, instead of Kubernetes; may be repeated
    #[arg(
        long,
        global = true,
        env = "CHORD_ENDPOINTS",
        value_delimiter = ',',
        value_name = "HOST:PORT",
        help_heading = "Ring"
    )]
    pub endpoint: Vec<String>,
    /// Directory with tls.crt, tls.key and ca.crt, for --endpoint [default: no TLS]
    #[arg(long, global = true, env = "CHORD_TLS_DIR", value_name = "DIR", help_heading = "Ring")]
    pub tls_dir: Option<PathBuf>,
    /// Time for one operation with its retries, such as 500ms, 10s (at most 50s)
    #[arg(long, global = true, default_value = "10s", value_parser = duration)]
    pub timeout: Duration,
    /// How to print results
    #[arg(long, short, global = true, default_value = "text")]
    pub output: Output,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Output {
    Text,
    Json,
}

#[derive(Subcommand, Debug)]
pub enum Command {
    /// Write a key
    Put(Put),
    /// Read a key
    Get(Get),
    /// Delete a key
    Delete(Key),
    /// Write a key if its version is the expected one
    Cas(Cas),
    /// List keys, in the order of their shards
    Scan(Scan),
    /// Look a key up over the fingers, hop by hop
    Lookup(Lookup),
    /// Show members, keys per member and the health of shards
    Status,
    /// Write keys and keep a journal of what was acknowledged
    Load(Load),
    /// Read back every key that a journal says was acknowledged
    Verify(Verify),
    /// Run random operations and print each with its answer and times, for a checker of linearizability
    History(History),
    /// Measure gets and puts at several numbers of clients
    Bench(Bench),
    /// Run a ring of real nodes and a gateway on this machine
    Dev(Dev),
    /// Print a shell's completion script
    Completion {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Print the version
    Version,
}

#[derive(Args, Debug)]
pub struct Key {
    /// 1 to 1024 bytes
    pub key: OsString,
}

#[derive(Args, Debug)]
pub struct Put {
    /// 1 to 1024 bytes
    pub key: OsString,
    /// Up to 1 MiB
    #[arg(required_unless_present = "file", conflicts_with = "file")]
    pub value: Option<OsString>,
    /// Take the value from a file; - is standard input
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// The key is absent after so long, such as 60s
    #[arg(long, value_parser = duration)]
    pub ttl: Option<Duration>,
}

#[derive(Args, Debug)]
pub struct Get {
    /// 1 to 1024 bytes
    pub key: OsString,
    /// Print the value's bytes and nothing else, not even a line end
    #[arg(long)]
    pub raw: bool,
    /// Any replica may answer, perhaps with an old value
    #[arg(long)]
    pub stale_ok: bool,
}

#[derive(Args, Debug)]
pub struct Cas {
    #[command(flatten)]
    pub put: Put,
    /// Version as `get -o json` shows it, or `absent`
    #[arg(long, value_parser = expectation, value_name = "VERSION|absent")]
    pub expect: Expectation,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Expectation {
    Absent,
    Version(Version),
}

#[derive(Args, Debug)]
pub struct Scan {
    /// Most keys to list; 0 lists all
    #[arg(long, default_value_t = 100)]
    pub limit: u64,
    /// Leave the values out
    #[arg(long)]
    pub keys_only: bool,
    /// Go on where the last call ended: what it printed
    #[arg(long)]
    pub cursor: Option<String>,
}

#[derive(Args, Debug)]
pub struct Lookup {
    /// 1 to 1024 bytes
    pub key: OsString,
    /// Member to start from [default: any]
    #[arg(long, value_name = "MEMBER")]
    pub from: Option<String>,
}

#[derive(Args, Debug)]
pub struct Load {
    /// Number of different keys
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub keys: u64,
    /// Bytes per value
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(0..=1_048_576))]
    pub value_size: u32,
    /// Operations at a time
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u64).range(1..=4096))]
    pub concurrency: u64,
    /// Journal of writes; an existing one is continued (format: see `journal.rs`)
    #[arg(long, value_name = "FILE")]
    pub journal: PathBuf,
    /// Write the keys again and again for so long [default: each key once]
    #[arg(long, value_parser = duration)]
    pub duration: Option<Duration>,
    /// Share of operations that read a written key and check it, 0 to 1
    #[arg(long, default_value_t = 0.2, value_parser = share)]
    pub read_ratio: f64,
    /// Beginning of the keys' names: printable, without spaces
    #[arg(long, default_value = "load", value_parser = prefix)]
    pub prefix: String,
    /// Operations per second [default: as many as possible]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub rate: Option<u64>,
}

#[derive(Args, Debug)]
pub struct Verify {
    /// Journal that `load` wrote
    #[arg(long, value_name = "FILE")]
    pub journal: PathBuf,
    /// Reads at a time
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=4096))]
    pub concurrency: u64,
}

#[derive(Args, Debug)]
pub struct History {
    /// How long
    #[arg(long, default_value = "30s", value_parser = duration)]
    pub duration: Duration,
    /// Number of different keys: few, so that clients meet
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub keys: u64,
    /// Clients, each with one operation at a time
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=256))]
    pub clients: u64,
    /// Operations per second, at most
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub rate: u64,
    /// Beginning of the keys' names: printable, without spaces; no other program may write them
    #[arg(long, default_value = "history", value_parser = prefix)]
    pub prefix: String,
}

#[derive(Args, Debug)]
pub struct Bench {
    /// Numbers of clients, each with one operation at a time
    #[arg(long, value_delimiter = ',', default_value = "1,16,64", value_parser = clap::value_parser!(u64).range(1..=4096))]
    pub clients: Vec<u64>,
    /// Seconds per figure
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    pub seconds: u64,
    /// Number of different keys
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub keys: u64,
    /// Bytes per value
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(0..=1_048_576))]
    pub value_size: u32,
    /// HTTP/2 connections per member
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=16))]
    pub connections: u64,
}

#[derive(Args, Debug)]
pub struct Dev {
    /// Number of nodes
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=32))]
    pub nodes: u16,
    /// Where the nodes keep their data and logs; a second run finds its keys there
    #[arg(long, default_value = "chord-dev", value_name = "DIR")]
    pub data_dir: PathBuf,
    /// Port of the gateway and its dashboard
    #[arg(long, default_value_t = 8080)]
    pub gateway_port: u16,
    /// First port of node 0; node i has ten ports from here + 10 i
    #[arg(long, default_value_t = 7400, value_parser = clap::value_parser!(u16).range(1024..=60000))]
    pub base_port: u16,
    /// Directory of chord-node and chord-gateway [default: that of chordctl]
    #[arg(long, value_name = "DIR")]
    pub bin_dir: Option<PathBuf>,
    /// Run no gateway
    #[arg(long)]
    pub no_gateway: bool,
}

/// A duration such as `500ms`, `60s`, `5m`, `1h`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let ms = match unit {
        "ms" => Some(1),
        "s" => Some(1000),
        "m" => Some(60_000),
        "h" => Some(3_600_000),
        "d" => Some(86_400_000),
        _ => None,
    };
    match (number.parse::<u64>().ok(), ms) {
        (Some(number), Some(ms)) if number > 0 => {
            number.checked_mul(ms).map(Duration::from_millis).ok_or_else(|| "is too long".into())
        }
        _ => Err("must be a whole number above 0 with its unit: ms, s, m, h or d; for example 60s".into()),
    }
}

fn expectation(text: &str) -> Result<Expectation, String> {
    if text == "absent" {
        return Ok(Expectation::Absent);
    }
    text.parse().map(Expectation::Version).map_err(|error: String| format!("{error}, or `absent`"))
}

fn share(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|share| (0.0..=1.0).contains(share)).ok_or_else(|| "must be between 0 and 1".into())
}

fn prefix(text: &str) -> Result<String, String> {
    let good = (1..=900).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    good.then(|| text.to_owned()).ok_or_else(|| "must be 1 to 900 printable ASCII characters without spaces".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn durations_need_a_unit_and_are_above_zero() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        for text in ["", "5", "s", "0s", "-1s", "1.5s", "1 s", "99999999999999999999s", "18446744073709551615d"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_expectation_is_a_version_or_absent() {
        assert_eq!(expectation("absent"), Ok(Expectation::Absent));
        let version = Version { epoch: 1, ballot: 16, seq: 3 };
        assert_eq!(expectation("1.16.3"), Ok(Expectation::Version(version)));
        assert!(expectation("none").is_err());
    }
}
