//! Connections: gRPC channels with or without TLS, and certificates that are read again when they change.
use arc_swap::ArcSwap;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore, ServerConfig, server::WebPkiClientVerifier};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _};
use std::{
    fmt, io,
    path::{Path, PathBuf},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tonic::transport::{Channel, Endpoint, Uri};

/// How often the certificate files are looked at.
const LOOK: Duration = Duration::from_secs(3);
/// Time to open a connection.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Why certificates could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {path}: {source}; the directory must hold tls.crt, tls.key and ca.crt")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file does not hold what it should.
    #[error("{what} is not usable: {why}")]
    Invalid {
        /// Which of the three.
        what: &'static str,
        /// Why.
        why: String,
    },
}

/// PEM texts of one identity.
#[derive(Clone, PartialEq, Eq)]
pub struct Pems {
    /// Certificate chain.
    pub certificate: Vec<u8>,
    /// Private key.
    pub key: Vec<u8>,
    /// Certificates of the authority that both sides trust.
    pub authority: Vec<u8>,
}

impl fmt::Debug for Pems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pems(…)")
    }
}

impl Pems {
    /// Reads `tls.crt`, `tls.key` and `ca.crt` of a directory.
    ///
    /// # Errors
    /// Which file cannot be read, and why.
    pub fn read(dir: &Path) -> Result<Pems, TlsError> {
        let read = |name: &str| {
            let path = dir.join(name);
            std::fs::read(&path).map_err(|source| TlsError::Read { path, source })
        };
        Ok(Pems { certificate: read("tls.crt")?, key: read("tls.key")?, authority: read("ca.crt")? })
    }
}

/// One identity, ready to use on either side of a connection.
pub struct Identity {
    /// For outgoing connections.
    pub client: Arc<ClientConfig>,
    /// For incoming connections: the peer must show a certificate of the same authority.
    pub server: Arc<ServerConfig>,
    /// The leaf certificate, DER.
    pub leaf: CertificateDer<'static>,
    pems: Pems,
}

impl Identity {
    fn new(pems: Pems) -> Result<Identity, TlsError> {
        let invalid = |what: &'static str, why: &dyn fmt::Display| TlsError::Invalid { what, why: why.to_string() };
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&pems.certificate)
            .collect::<Result<_, _>>()
            .map_err(|error| invalid("tls.crt", &error))?;
        let leaf = chain.first().cloned().ok_or_else(|| invalid("tls.crt", &"it holds no certificate"))?;
        let key = || PrivateKeyDer::from_pem_slice(&pems.key).map_err(|error| invalid("tls.key", &error));
        let mut roots = RootCertStore::empty();
        for authority in CertificateDer::pem_slice_iter(&pems.authority) {
            let authority = authority.map_err(|error| invalid("ca.crt", &error))?;
            roots.add(authority).map_err(|error| invalid("ca.crt", &error))?;
        }
        let roots = Arc::new(roots);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut client = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| invalid("the TLS provider", &error))?
            .with_root_certificates(roots.clone())
            .with_client_auth_cert(chain.clone(), key()?)
            .map_err(|error| invalid("tls.key", &error))?;
        client.alpn_protocols = vec![b"h2".to_vec()];
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider.clone())
            .build()
            .map_err(|error| invalid("ca.crt", &error))?;
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| invalid("the TLS provider", &error))?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key()?)
            .map_err(|error| invalid("tls.key", &error))?;
        server.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Identity { client: Arc::new(client), server: Arc::new(server), leaf, pems })
    }
}

/// An identity that follows its files.
#[derive(Clone)]
pub struct Tls {
    current: Arc<ArcSwap<Identity>>,
    dir: Option<PathBuf>,
}

impl Tls {
    /// Takes `tls.crt`, `tls.key` and `ca.crt` from a directory.
    ///
    /// # Errors
    /// See [`TlsError`]; nothing is used of a set of files that does not fit together.
    pub fn from_dir(dir: &Path) -> Result<Tls, TlsError> {
        let identity = Identity::new(Pems::read(dir)?)?;
        Ok(Tls { current: Arc::new(ArcSwap::from_pointee(identity)), dir: Some(dir.to_owned()) })
    }

    /// Takes PEM texts.
    ///
    /// # Errors
    /// See [`TlsError`].
    pub fn from_pems(pems: Pems) -> Result<Tls, TlsError> {
        Ok(Tls { current: Arc::new(ArcSwap::from_pointee(Identity::new(pems)?)), dir: None })
    }

    /// The identity as of now.
    pub fn current(&self) -> Arc<Identity> {
        self.current.load_full()
    }

    /// Looks at the files every few seconds and takes them over when they changed and fit together.
    /// Connections that are open keep the identity they were opened with. Never ends by itself.
    pub async fn follow(self) {
        let Some(dir) = self.dir.clone() else { return std::future::pending().await };
        loop {
            tokio::time::sleep(LOOK).await;
            let fresh = match Pems::read(&dir) {
                Ok(pems) if pems == self.current.load().pems => continue,
                Ok(pems) => Identity::new(pems),
                Err(error) => Err(error),
            };
            match fresh {
                Ok(identity) => {
                    self.current.store(Arc::new(identity));
                    tracing::info!(dir = %dir.display(), "took over new certificates");
                }
                Err(error) => tracing::warn!(%error, "keeping the old certificates"),
            }
        }
    }
}

/// A byte stream to a peer.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A byte stream that is being opened.
pub type Dialling = Pin<Box<dyn Future<Output = io::Result<Box<dyn Io>>> + Send>>;

/// A way to open byte streams, for those who do not reach members by TCP.
pub type Dial = Arc<dyn Fn(String) -> Dialling + Send + Sync>;

/// Opens TCP connections.
pub fn tcp() -> Dial {
    Arc::new(|addr| {
        Box::pin(async move {
            let stream = TcpStream::connect(&addr).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn Io>)
        })
    })
}

/// A gRPC channel to one address, and what became of its last attempt to connect.
#[derive(Clone)]
pub struct Link {
    /// The channel; it connects when first used and again when it has to.
    pub channel: Channel,
    refused: Arc<AtomicBool>,
}

impl Link {
    /// Whether the last attempt to connect found nobody listening, or the name unknown.
    pub fn is_refused(&self) -> bool {
        self.refused.load(Ordering::Relaxed)
    }
}

/// A channel to `addr` (host:port). With `tls`, the server must show a certificate for the host.
///
/// # Errors
/// When `addr` is not host:port.
pub fn link(addr: &str, tls: Option<Tls>, dial: Dial) -> Result<Link, String> {
    link_within(addr, tls, dial, CONNECT_TIMEOUT)
}

/// As [`link`], with another time to open a connection.
///
/// # Errors
/// When `addr` is not host:port.
pub fn link_within(addr: &str, tls: Option<Tls>, dial: Dial, connect_timeout: Duration) -> Result<Link, String> {
    let host = addr.rsplit_once(':').map(|(host, _)| host.trim_matches(['[', ']']).to_owned());
    let host = host.filter(|host| !host.is_empty()).ok_or_else(|| format!("`{addr}` is not host:port"))?;
    let name = ServerName::try_from(host).map_err(|error| format!("`{addr}`: {error}"))?;
    let endpoint = Endpoint::from_shared(format!("http://{addr}"))
        .map_err(|error| format!("`{addr}` is not host:port: {error}"))?
        .connect_timeout(connect_timeout)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(Duration::from_secs(5))
        .keep_alive_timeout(Duration::from_secs(3))
        .keep_alive_while_idle(true)
        .initial_stream_window_size(4 << 20)
        .initial_connection_window_size(16 << 20);
    let refused = Arc::new(AtomicBool::new(false));
    let (addr, outcome) = (addr.to_owned(), refused.clone());
    let connector = tower::service_fn(move |_: Uri| {
        let (addr, tls, dial, name, outcome) = (addr.clone(), tls.clone(), dial.clone(), name.clone(), outcome.clone());
        async move {
            let opened = dial(addr).await;
            let gone = opened.as_ref().err().is_some_and(|error| {
                // A name that does not resolve comes without an OS error of its own.
                error.kind() == io::ErrorKind::ConnectionRefused || error.raw_os_error().is_none()
            });
            outcome.store(gone, Ordering::Relaxed);
            let stream = opened?;
            let Some(tls) = tls else { return Ok::<_, io::Error>(TokioIo::new(stream)) };
            let connector = tokio_rustls::TlsConnector::from(tls.current().client.clone());
            let stream: Box<dyn Io> = Box::new(connector.connect(name, stream).await?);
            Ok(TokioIo::new(stream))
        }
    });
    Ok(Link { channel: endpoint.connect_with_connector_lazy(connector), refused })
}
