//! From the command line to a client.
use crate::{
    cli::Global,
    failure::{Failure, Result},
    kubernetes,
};
use chord_client::{Client, ClientSettings, Endpoints, Error, net::Tls};
use std::time::Duration;

/// Where the ring is, by flags or through Kubernetes.
pub async fn endpoints(global: &Global) -> Result<Endpoints> {
    if global.endpoint.is_empty() {
        if global.tls_dir.is_some() {
            return Err(Failure::usage(
                "--tls-dir needs --endpoint; through Kubernetes the ring's own certificates are used",
            ));
        }
        return kubernetes::endpoints(global).await;
    }
    let endpoints = Endpoints::new(&global.endpoint[..]);
    Ok(match &global.tls_dir {
        Some(dir) => endpoints.tls(Tls::from_dir(dir).map_err(Failure::usage)?),
        None => endpoints,
    })
}

/// A client as the flags want it.
pub async fn client(global: &Global) -> Result<Client> {
    client_with(global, ClientSettings::default()).await
}

/// The same, with other settings; the deadline is always the flag's.
pub async fn client_with(global: &Global, settings: ClientSettings) -> Result<Client> {
    let mut settings = ClientSettings { deadline: global.timeout, ..settings };
    if global.endpoint.is_empty() {
        // Over port-forward an answer passes the API server and the kubelet.
        settings.attempt_timeout = Duration::from_secs(4);
    }
    let connected = Client::connect(endpoints(global).await?, settings).await;
    let is_plain = !global.endpoint.is_empty() && global.tls_dir.is_none();
    connected.map_err(|error| {
        let unreachable = matches!(error, Error::Unavailable { .. });
        let mut failure = Failure::from(error);
        if unreachable && is_plain {
            failure.message.push_str("; it was tried without TLS: if the ring uses it, give --tls-dir");
        }
        failure
    })
}
