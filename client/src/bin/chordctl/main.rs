//! `chordctl`, also installed as `kubectl-chord`: reads, writes, inspects and tries out rings.
mod bench;
mod cli;
mod connect;
mod dev;
mod failure;
mod history;
mod journal;
mod keys;
mod kubernetes;
mod load;
mod lookup;
mod print;
mod status;
mod supervise;
mod verify;

use clap::{CommandFactory as _, FromArgMatches as _};
use cli::{Cli, Command};
use std::{ffi::OsString, path::Path, process::ExitCode};

fn main() -> ExitCode {
    let name = invoked_name(std::env::args_os().next());
    let matches = command(name).get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    // A port-forward that breaks is retried; what cannot be hidden is this program's own error.
    let filter = std::env::var("RUST_LOG").unwrap_or_else(|_| "error,kube_client=off".into());
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::new(filter))
        .with_writer(std::io::stderr)
        .init();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: cannot start: {error}");
            return ExitCode::from(failure::Exit::Usage as u8);
        }
    };
    let done = runtime.block_on(run(cli, name));
    runtime.shutdown_background();
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {}", failure.message);
            ExitCode::from(failure.exit as u8)
        }
    }
}

async fn run(cli: Cli, name: &'static str) -> failure::Result {
    let global = &cli.global;
    match cli.command {
        Command::Put(args) => keys::put(global, args).await,
        Command::Get(args) => keys::get(global, args).await,
        Command::Delete(args) => keys::delete(global, args).await,
        Command::Cas(args) => keys::cas(global, args).await,
        Command::Scan(args) => keys::scan(global, args).await,
        Command::Lookup(args) => lookup::run(global, args).await,
        Command::Status => status::run(global).await,
        Command::Load(args) => load::run(global, args).await,
        Command::Verify(args) => verify::run(global, args).await,
        Command::History(args) => history::run(global, args).await,
        Command::Bench(args) => bench::run(global, args).await,
        Command::Dev(args) => dev::run(args, name).await,
        Command::Completion { shell } => {
            // The shell completes the file's name, which for a plugin of kubectl is `kubectl-chord`.
            let file = name.replace(' ', "-");
            clap_complete::generate(shell, &mut command(name), file, &mut std::io::stdout());
            Ok(())
        }
        Command::Version => {
            println!("{name} {}", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
    }
}

/// The command line under the name it was called by.
fn command(name: &'static str) -> clap::Command {
    Cli::command().name(name).bin_name(name)
}

fn invoked_name(program: Option<OsString>) -> &'static str {
    let program = program.unwrap_or_default();
    match Path::new(&program).file_stem().and_then(|stem| stem.to_str()) {
        Some("kubectl-chord" | "kubectl_chord") => "kubectl chord",
        _ => "chordctl",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_uses_the_name_it_was_called_by() {
        assert_eq!(invoked_name(Some("/usr/local/bin/kubectl-chord".into())), "kubectl chord");
        assert_eq!(invoked_name(Some("chordctl".into())), "chordctl");
        assert!(command("kubectl chord").render_help().to_string().contains("Usage: kubectl chord"));
    }
}
