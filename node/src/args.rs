//! Flags, environment and file, in that order of weight.
use anyhow::{Context as _, bail};
use chord::{settings::Settings, time::Nanos};
use clap::{CommandFactory as _, FromArgMatches as _, Parser, ValueEnum};
use std::{net::SocketAddr, path::PathBuf, time::Duration};

/// A node of a Chord ring: stores keys durably, and answers for its part of the circle.
///
/// Every flag is also an environment variable (`--ring-name` is CHORD_RING_NAME) and a key of the TOML file
/// that --config names (`ring-name = "demo"`). A flag beats the environment, the environment beats the file.
/// Exit codes: 0 ended in good order, 1 failed, 2 wrong usage, 74 the disk failed.
#[derive(Parser, Debug, Clone)]
#[command(name = "chord-node", version)]
pub struct Args {
    /// TOML file with any of these settings.
    #[arg(long, env = "CHORD_CONFIG")]
    pub config: Option<PathBuf>,
    /// Stable name of this node; its trailing number is the ordinal.
    #[arg(long, env = "CHORD_NAME")]
    pub name: String,
    /// Name of the ring.
    #[arg(long, env = "CHORD_RING_NAME", default_value = "ring")]
    pub ring_name: String,
    /// Namespace of the ring.
    #[arg(long, env = "CHORD_NAMESPACE", default_value = "default")]
    pub namespace: String,
    /// Directory for the node's data; made if missing. One per node.
    #[arg(long, env = "CHORD_DATA_DIR")]
    pub data_dir: PathBuf,
    /// Where on the circle: evenly by ordinal, or by the hash of the name as in the Chord paper.
    #[arg(long, env = "CHORD_PLACEMENT", default_value = "balanced")]
    pub placement: Placement,
    /// Address to listen on for other nodes and the operator.
    #[arg(long, env = "CHORD_INTERNAL_ADDR", default_value = "0.0.0.0:7400")]
    pub internal_addr: SocketAddr,
    /// Address to listen on for applications and gateways.
    #[arg(long, env = "CHORD_CLIENT_ADDR", default_value = "0.0.0.0:7401")]
    pub client_addr: SocketAddr,
    /// Address to listen on for probes and metrics.
    #[arg(long, env = "CHORD_HTTP_ADDR", default_value = "0.0.0.0:9400")]
    pub http_addr: SocketAddr,
    /// host:port under which other nodes reach --internal-addr [default: that address].
    #[arg(long, env = "CHORD_ADVERTISE_INTERNAL")]
    pub advertise_internal: Option<String>,
    /// host:port under which applications reach --client-addr [default: that address].
    #[arg(long, env = "CHORD_ADVERTISE_CLIENT")]
    pub advertise_client: Option<String>,
    /// Failure domain; replicas of a shard are spread over different ones.
    #[arg(long, env = "CHORD_ZONE", default_value = "")]
    pub zone: String,
    /// Directory with tls.crt, tls.key and ca.crt; without it there is no TLS and no telling callers apart.
    #[arg(long, env = "CHORD_TLS_DIR")]
    pub tls_dir: Option<PathBuf>,
    /// Wait for an operator to say whether to found or join a ring.
    #[arg(long, env = "CHORD_MANAGED")]
    pub managed: bool,
    /// Join the ring of these members (internal host:port, separated by commas) if the directory is fresh.
    #[arg(long, env = "CHORD_JOIN", value_delimiter = ',')]
    pub join: Vec<String>,
    /// Found a ring if the directory is fresh.
    #[arg(long, env = "CHORD_BOOTSTRAP")]
    pub bootstrap: bool,
    /// What SIGTERM means: hand everything over and leave, or come back soon [default: leave; with --managed: restart].
    #[arg(long, env = "CHORD_ON_SIGTERM")]
    pub on_sigterm: Option<OnSigterm>,
    /// Most time for leaving or for calls under way after SIGTERM.
    #[arg(long, env = "CHORD_DRAIN_TIMEOUT", default_value = "25s", value_parser = duration)]
    pub drain_timeout: Duration,
    /// Replicas of each shard (1-7); counts when a ring is founded.
    #[arg(long, env = "CHORD_REPLICATION_FACTOR", default_value_t = 3)]
    pub replication_factor: usize,
    /// Number of shards, a power of two up to 65536; counts when a ring is founded.
    #[arg(long, env = "CHORD_SHARDS", default_value_t = 4096)]
    pub shards: u32,
    /// Longest successor list (1-32, at least the replication factor).
    #[arg(long, env = "CHORD_SUCCESSOR_LIST_LENGTH", default_value_t = 8)]
    pub successor_list_length: usize,
    /// Time between stabilizations.
    #[arg(long, env = "CHORD_STABILIZE_INTERVAL", default_value = "3s", value_parser = duration)]
    pub stabilize_interval: Duration,
    /// Time between repairs of the finger table.
    #[arg(long, env = "CHORD_FIX_FINGERS_INTERVAL", default_value = "3s", value_parser = duration)]
    pub fix_fingers_interval: Duration,
    /// Time between comparisons of replicas.
    #[arg(long, env = "CHORD_ANTI_ENTROPY_INTERVAL", default_value = "10m", value_parser = duration)]
    pub anti_entropy_interval: Duration,
    /// Time between looks through all that is stored, for damage.
    #[arg(long, env = "CHORD_SCRUB_INTERVAL", default_value = "24h", value_parser = duration)]
    pub scrub_interval: Duration,
    /// Silence after which a peer counts as dead for leadership.
    #[arg(long, env = "CHORD_SUSPECT_AFTER", default_value = "2500ms", value_parser = duration)]
    pub suspect_after: Duration,
    /// Silence after which a dead member's replicas are made anew elsewhere.
    #[arg(long, env = "CHORD_REPLACE_AFTER", default_value = "5m", value_parser = duration)]
    pub replace_after: Duration,
    /// error, warn, info, debug or trace, or a filter such as `chord_node=debug`.
    #[arg(long, env = "CHORD_LOG_LEVEL", default_value = "info")]
    pub log_level: String,
    /// Format of the log.
    #[arg(long, env = "CHORD_LOG_FORMAT", default_value = "json")]
    pub log_format: LogFormat,
}

/// See `--placement`.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Placement {
    Balanced,
    Hashed,
}

/// See `--on-sigterm`.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum OnSigterm {
    Leave,
    Restart,
}

/// See `--log-format`.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogFormat {
    Json,
    Text,
}

/// A Go-style duration: `3s`, `500ms`, `10m`, `1h`, or several of them (`1m30s`).
///
/// # Errors
/// Says what a duration looks like.
pub fn duration(text: &str) -> Result<Duration, String> {
    let bad = || format!("`{text}` is not a duration; write for example 500ms, 3s, 10m or 1m30s");
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
        let (number, tail) = rest.split_at(digits);
        let unit_end = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, next) = tail.split_at(unit_end);
        let number: u64 = number.parse().map_err(|_| bad())?;
        let millis = match unit {
            "ms" => Some(number),
            "s" => number.checked_mul(1000),
            "m" => number.checked_mul(60_000),
            "h" => number.checked_mul(3_600_000),
            _ => None,
        };
        total += Duration::from_millis(millis.filter(|millis| *millis < 1 << 40).ok_or_else(bad)?);
        rest = next;
    }
    if text.is_empty() { Err(bad()) } else { Ok(total) }
}

/// Arguments with what a `--config` file says put before them, so that flags and environment win.
///
/// # Errors
/// When the file cannot be read, is not TOML, or has a key that is no setting.
pub fn with_file(args: Vec<String>, command: &clap::Command) -> anyhow::Result<Vec<String>> {
    let mut named = std::env::var("CHORD_CONFIG").ok();
    for (place, arg) in args.iter().enumerate() {
        if let Some(path) = arg.strip_prefix("--config=") {
            named = Some(path.to_owned());
        } else if arg == "--config" {
            named = args.get(place + 1).cloned();
        }
    }
    let Some(path) = named else { return Ok(args) };
    let text =
        std::fs::read_to_string(&path).with_context(|| format!("cannot read the file --config names, {path}"))?;
    let table: toml::Table = text.parse().with_context(|| format!("{path} is not TOML"))?;
    let mut merged: Vec<String> = args.iter().take(1).cloned().collect();
    for (key, value) in table {
        let known = command.get_arguments().find(|arg| arg.get_long() == Some(key.as_str()) && key != "config");
        let Some(known) = known else { bail!("{path}: `{key}` is not a setting; see --help for all of them") };
        let in_environment = known.get_env().is_some_and(|name| std::env::var_os(name).is_some());
        let on_line = args.iter().any(|arg| *arg == format!("--{key}") || arg.starts_with(&format!("--{key}=")));
        if in_environment || on_line {
            continue;
        }
        match value {
            toml::Value::Boolean(true) => merged.push(format!("--{key}")),
            toml::Value::Boolean(false) => {}
            toml::Value::String(text) => merged.push(format!("--{key}={text}")),
            toml::Value::Integer(number) => merged.push(format!("--{key}={number}")),
            toml::Value::Array(items) => {
                let items: Option<Vec<&str>> = items.iter().map(toml::Value::as_str).collect();
                let items = items.with_context(|| format!("{path}: `{key}` must be a list of texts"))?;
                merged.push(format!("--{key}={}", items.join(",")));
            }
            _ => bail!("{path}: `{key}` must be a text, a number, true, false or a list of texts"),
        }
    }
    merged.extend(args.into_iter().skip(1));
    Ok(merged)
}

impl Args {
    /// From the process's arguments, environment and file.
    ///
    /// # Errors
    /// A clap error for wrong usage, else what is wrong with the file.
    pub fn from_process() -> anyhow::Result<Args> {
        let command = Args::command();
        let args = with_file(std::env::args().collect(), &command)?;
        let args = Args::from_arg_matches(&command.get_matches_from(args))?;
        args.check()?;
        Ok(args)
    }

    fn check(&self) -> anyhow::Result<()> {
        let ways = [self.managed, !self.join.is_empty(), self.bootstrap].into_iter().filter(|way| *way).count();
        if ways != 1 {
            bail!("give exactly one of --managed, --join and --bootstrap: who decides which ring this node is in?");
        }
        if self.placement == Placement::Balanced && self.ordinal().is_none() {
            bail!(
                "--placement balanced needs a --name that ends in a number, such as node-0; or use --placement hashed"
            );
        }
        self.settings().validate().map_err(anyhow::Error::msg)?;
        let advertised = [
            ("internal", self.internal_addr, &self.advertise_internal),
            ("client", self.client_addr, &self.advertise_client),
        ];
        for (port, listen, advertise) in advertised {
            if listen.ip().is_unspecified() && advertise.is_none() {
                bail!(
                    "--{port}-addr {listen} is every address: say with --advertise-{port} host:port how others reach it"
                );
            }
        }
        Ok(())
    }

    /// The number at the end of the name.
    pub fn ordinal(&self) -> Option<u32> {
        let digits = self.name.len() - self.name.trim_end_matches(|c: char| c.is_ascii_digit()).len();
        self.name.get(self.name.len() - digits..)?.parse().ok()
    }

    /// What SIGTERM means.
    pub fn on_sigterm(&self) -> OnSigterm {
        self.on_sigterm.unwrap_or(if self.managed { OnSigterm::Restart } else { OnSigterm::Leave })
    }

    /// For the core.
    pub fn settings(&self) -> Settings {
        let defaults = Settings::default();
        let suspect_after = Nanos::from(self.suspect_after);
        Settings {
            replication_factor: self.replication_factor,
            shards: self.shards,
            successor_list_length: self.successor_list_length,
            stabilize_interval: Nanos::from(self.stabilize_interval),
            fix_fingers_interval: Nanos::from(self.fix_fingers_interval),
            anti_entropy_interval: Nanos::from(self.anti_entropy_interval),
            suspect_after,
            ping_interval: Nanos(defaults.ping_interval.0.min(suspect_after.0 / 4)),
            replace_after: Nanos::from(self.replace_after),
            moves_in_flight_max: 64,
            ..defaults
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(more: &[&str]) -> anyhow::Result<Args> {
        let name = if more.iter().any(|flag| flag.starts_with("--name")) { "--zone=z" } else { "--name=n-3" };
        let base = ["chord-node", name, "--data-dir=d", "--advertise-internal=n-3:7400", "--advertise-client=n-3:7401"];
        let args = Args::try_parse_from(base.iter().chain(more))?;
        args.check()?;
        Ok(args)
    }

    #[test]
    fn durations_are_go_style() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1m30s"), Ok(Duration::from_secs(90)));
        for bad in ["", "3", "s", "-1s", "3 s", "3d", "99999999999999999999s"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn wrong_settings_are_refused_with_what_to_do() {
        for (flags, needle) in [
            (&[][..], "exactly one of"),
            (&["--bootstrap", "--managed"], "exactly one of"),
            (&["--bootstrap", "--name=x"], "ends in a number"),
            (&["--bootstrap", "--shards=100"], "power of two"),
            (&["--bootstrap", "--replication-factor=9"], "1..=7"),
            (&["--bootstrap", "--successor-list-length=2"], "replication factor"),
            (&["--bootstrap", "--stabilize-interval=soon"], "not a duration"),
        ] {
            let error = args(flags).expect_err("refused").to_string();
            assert!(error.contains(needle), "{flags:?}: {error}");
        }
        assert!(args(&["--bootstrap"]).is_ok());
        let silent = Args::parse_from(["chord-node", "--name=n-3", "--data-dir=d", "--bootstrap"]);
        let error = silent.check().expect_err("nobody could reach it").to_string();
        assert!(error.contains("--advertise-internal"), "{error}");
    }

    #[test]
    fn file_gives_way_to_flags_and_names_unknown_keys() -> anyhow::Result<()> {
        let file = tempfile::NamedTempFile::new()?;
        std::fs::write(file.path(), "shards = 64\nbootstrap = true\nring-name = \"other\"\n")?;
        let path = file.path().display().to_string();
        let line = |more: &[&str]| {
            let base = ["chord-node", "--config", &path, "--name", "n-0", "--data-dir", "d"];
            base.iter().chain(more).map(|text| (*text).to_owned()).collect::<Vec<_>>()
        };
        let args = Args::try_parse_from(with_file(line(&["--shards=128"]), &Args::command())?)?;
        assert_eq!((args.shards, args.bootstrap, args.ring_name.as_str()), (128, true, "other"));
        std::fs::write(file.path(), "shard = 64\n")?;
        let error = with_file(line(&[]), &Args::command()).expect_err("unknown key").to_string();
        assert!(error.contains("`shard` is not a setting"), "{error}");
        Ok(())
    }
}
