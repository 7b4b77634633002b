//! Flags, environment and file, in that order of weight.
use anyhow::{Context as _, bail};
use clap::{CommandFactory as _, FromArgMatches as _, Parser, ValueEnum};
use std::{net::SocketAddr, path::PathBuf};

/// Read-only gateway of a Chord ring: REST, WebSocket and dashboard.
///
/// Every flag is also an environment variable (`--ring-name` is CHORD_RING_NAME) and a key of the TOML file
/// that --config names (`ring-name = "demo"`). A flag beats the environment, the environment beats the file.
/// Exit codes: 0 ended in good order, 1 failed, 2 wrong usage.
#[derive(Parser, Debug, Clone)]
#[command(name = "chord-gateway", version)]
pub struct Args {
    /// TOML file with any of these settings.
    #[arg(long, env = "CHORD_CONFIG")]
    pub config: Option<PathBuf>,
    /// Name of the ring.
    #[arg(long, env = "CHORD_RING_NAME", default_value = "ring")]
    pub ring_name: String,
    /// Namespace of the ring.
    #[arg(long, env = "CHORD_NAMESPACE", default_value = "default")]
    pub namespace: String,
    /// host:port of the client service of any members, separated by commas; names are resolved to all addresses.
    #[arg(long, env = "CHORD_ENDPOINTS", value_delimiter = ',', required = true)]
    pub endpoints: Vec<String>,
    /// Directory with tls.crt, tls.key and ca.crt of the role `gateway`, read again when they change; without it: no TLS.
    #[arg(long, env = "CHORD_TLS_DIR")]
    pub tls_dir: Option<PathBuf>,
    /// Address to listen on for visitors.
    #[arg(long, env = "CHORD_LISTEN", default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,
    /// Address to listen on for probes and metrics.
    #[arg(long, env = "CHORD_HTTP_ADDR", default_value = "0.0.0.0:9400")]
    pub http_addr: SocketAddr,
    /// Path below which everything is, when an Ingress serves it there.
    #[arg(long, env = "CHORD_BASE_PATH", default_value = "/")]
    pub base_path: String,
    /// Proxies in front that append the caller to X-Forwarded-For; without them set 0, or callers can pretend.
    #[arg(long, env = "CHORD_TRUSTED_HOPS", default_value_t = 0)]
    pub trusted_hops: usize,
    /// Requests each visitor's address may make per second in the long run.
    #[arg(long, env = "CHORD_REQUESTS_PER_SECOND", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub requests_per_second: u32,
    /// Requests it may make at once.
    #[arg(long, env = "CHORD_BURST", default_value_t = 40, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub burst: u32,
    /// WebSockets in all.
    #[arg(long, env = "CHORD_SOCKETS", default_value_t = 10_000)]
    pub sockets: usize,
    /// WebSockets of one visitor's address.
    #[arg(long, env = "CHORD_SOCKETS_PER_VISITOR", default_value_t = 64)]
    pub sockets_per_visitor: usize,
    /// Sandboxes in all: simulated rings to play with, which touch nothing of the real one; 0: none.
    #[arg(long, env = "CHORD_SANDBOXES", default_value_t = 32)]
    pub sandboxes: usize,
    /// Origins (https://host) besides its own whose pages may open the WebSocket, separated by commas.
    #[arg(long, env = "CHORD_ALLOWED_ORIGINS", value_delimiter = ',')]
    pub allowed_origins: Vec<String>,
    /// error, warn, info, debug or trace, or a filter such as `chord_gateway=debug`.
    #[arg(long, env = "CHORD_LOG_LEVEL", default_value = "info")]
    pub log_level: String,
    /// Format of the log.
    #[arg(long, env = "CHORD_LOG_FORMAT", default_value = "json")]
    pub log_format: LogFormat,
}

/// See `--log-format`.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogFormat {
    Json,
    Text,
}

impl Args {
    /// From the process's arguments, environment and file.
    ///
    /// # Errors
    /// A clap error for wrong usage, else what is wrong with the file or a value.
    pub fn from_process() -> anyhow::Result<Args> {
        let command = Args::command();
        let args = with_file(std::env::args().collect(), &command)?;
        Args::from_arg_matches(&command.get_matches_from(args))?.checked()
    }

    /// With the base path in its one form, `/` or `/a/b/`.
    ///
    /// # Errors
    /// Which value is wrong, and how it should be.
    pub fn checked(mut self) -> anyhow::Result<Args> {
        for endpoint in &self.endpoints {
            let port = endpoint.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port);
            if !port.is_some_and(|port| port.parse::<u16>().is_ok_and(|port| port > 0)) {
                bail!("--endpoints: `{endpoint}` is not host:port, for example demo.default.svc:7401");
            }
        }
        let bare = self.base_path.trim_matches('/');
        let is_plain = |part: &str| {
            !part.is_empty()
                && part != "."
                && part != ".."
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        };
        if !bare.is_empty() && !bare.split('/').all(is_plain) {
            let path = &self.base_path;
            bail!("--base-path: `{path}` is not a plain path of letters, digits, `-`, `_` and `.`, for example /ring");
        }
        self.base_path = if bare.is_empty() { "/".into() } else { format!("/{bare}/") };
        for origin in &mut self.allowed_origins {
            let bare = origin.trim_end_matches('/');
            if !bare.split_once("://").is_some_and(|(_, host)| !host.is_empty() && !host.contains('/')) {
                bail!("--allowed-origins: `{origin}` is not an origin, for example https://ops.example.com");
            }
            *origin = bare.to_owned();
        }
        if self.sockets_per_visitor == 0 || self.sockets == 0 {
            bail!("--sockets and --sockets-per-visitor must be at least 1");
        }
        Ok(self)
    }
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
            toml::Value::String(text) => merged.push(format!("--{key}={text}")),
            toml::Value::Integer(number) => merged.push(format!("--{key}={number}")),
            toml::Value::Array(items) => {
                let items: Option<Vec<&str>> = items.iter().map(toml::Value::as_str).collect();
                let items = items.with_context(|| format!("{path}: `{key}` must be a list of texts"))?;
                merged.push(format!("--{key}={}", items.join(",")));
            }
            _ => bail!("{path}: `{key}` must be a text, a number or a list of texts"),
        }
    }
    merged.extend(args.into_iter().skip(1));
    Ok(merged)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(more: &[&str]) -> anyhow::Result<Args> {
        let base = ["chord-gateway", "--ring-name=demo"];
        Args::try_parse_from(base.iter().chain(more))?.checked()
    }

    #[test]
    fn base_paths_have_one_form() -> anyhow::Result<()> {
        for (given, expected) in [("/", "/"), ("", "/"), ("ring", "/ring/"), ("/a/b", "/a/b/"), ("/a/b/", "/a/b/")] {
            let args = args(&["--endpoints=demo:7401", &format!("--base-path={given}")])?;
            assert_eq!(args.base_path, expected, "{given}");
        }
        Ok(())
    }

    #[test]
    fn wrong_settings_are_refused_with_what_to_do() {
        for (flags, needle) in [
            (&[][..], "--endpoints"),
            (&["--endpoints=demo"], "not host:port"),
            (&["--endpoints=:7401"], "not host:port"),
            (&["--endpoints=demo:0"], "not host:port"),
            (&["--endpoints=a:1,b"], "`b` is not host:port"),
            (&["--endpoints=a:1", "--base-path=/a b"], "plain path"),
            (&["--endpoints=a:1", "--base-path=/../x"], "plain path"),
            (&["--endpoints=a:1", "--allowed-origins=ops.example"], "not an origin"),
            (&["--endpoints=a:1", "--requests-per-second=0"], "1..=1000000"),
            (&["--endpoints=a:1", "--sockets=0"], "at least 1"),
            (&["--endpoints=a:1", "--allow-value-reads"], "unexpected argument"),
        ] {
            let error = args(flags).expect_err("refused").to_string();
            assert!(error.contains(needle), "{flags:?}: {error}");
        }
    }

    #[test]
    fn file_gives_way_to_flags_and_names_unknown_keys() -> anyhow::Result<()> {
        let file = tempfile::NamedTempFile::new()?;
        std::fs::write(file.path(), "endpoints = [\"a:1\", \"b:2\"]\nburst = 7\nring-name = \"other\"\n")?;
        let path = file.path().display().to_string();
        let line = |more: &[&str]| {
            ["chord-gateway", "--config", &path].iter().chain(more).map(|text| (*text).to_owned()).collect::<Vec<_>>()
        };
        let args = Args::try_parse_from(with_file(line(&["--burst=9"]), &Args::command())?)?;
        assert_eq!((args.burst, args.ring_name.as_str(), args.endpoints.len()), (9, "other", 2));
        std::fs::write(file.path(), "bursts = 64\n")?;
        let error = with_file(line(&[]), &Args::command()).expect_err("unknown key").to_string();
        assert!(error.contains("`bursts` is not a setting"), "{error}");
        Ok(())
    }
}
