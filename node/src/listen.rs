//! Accepts connections, with TLS where there is any, and finds out in which role the caller comes.
use crate::rpc::roles::{Caller, Role, role_of};
use chord_client::net::{Io, Tls};
use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;

/// Most connections to one port at a time.
const CONNECTIONS_MAX: usize = 4096;
/// Time for a TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// An accepted connection.
pub struct Connection {
    stream: Box<dyn Io>,
    caller: Caller,
    _permit: OwnedSemaphorePermit,
}

impl Connected for Connection {
    type ConnectInfo = Caller;
    fn connect_info(&self) -> Caller {
        self.caller.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// How callers of one port are told apart.
#[derive(Clone)]
pub struct Door {
    /// Certificates; `None`: everybody comes in `open_roles`.
    pub tls: Option<Tls>,
    /// Namespace of the ring.
    pub namespace: String,
    /// Name of the ring.
    pub ring: String,
    /// Roles of everybody where there are no certificates.
    pub open_roles: Vec<Role>,
}

/// Connections of a listener, each with its caller's roles.
pub fn connections(listener: TcpListener, door: Door) -> ReceiverStream<io::Result<Connection>> {
    let (accepted, stream) = mpsc::channel(64);
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    tokio::spawn(async move {
        while let Ok(permit) = permits.clone().acquire_owned().await {
            let stream = tokio::select! {
                stream = listener.accept() => stream,
                () = accepted.closed() => return,
            };
            match stream {
                Ok((stream, _)) => {
                    let (door, accepted) = (door.clone(), accepted.clone());
                    tokio::spawn(async move {
                        if let Some((stream, caller)) = door.greet(stream).await {
                            let _ = accepted.send(Ok(Connection { stream, caller, _permit: permit })).await;
                        }
                    });
                }
                Err(error) => {
                    // Out of descriptors, mostly: others must close first.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    });
    ReceiverStream::new(stream)
}

impl Door {
    async fn greet(self, stream: TcpStream) -> Option<(Box<dyn Io>, Caller)> {
        let _ = stream.set_nodelay(true);
        let Some(tls) = &self.tls else {
            return Some((Box::new(stream), Caller { roles: self.open_roles }));
        };
        let acceptor = tokio_rustls::TlsAcceptor::from(tls.current().server.clone());
        let stream = match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => stream,
            // Anything else is no verdict of TLS: the caller went away.
            Ok(Err(error)) if error.kind() == io::ErrorKind::InvalidData => {
                tracing::info!(%error, "refused a connection: no certificate of this ring's authority, or an expired one");
                metrics::counter!("chord_refused_connections_total").increment(1);
                return None;
            }
            Ok(Err(_)) | Err(_) => return None,
        };
        let leaf = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let role = leaf.and_then(|leaf| role_of(leaf, &self.namespace, &self.ring));
        let roles = role.into_iter().collect();
        Some((Box::new(stream), Caller { roles }))
    }
}
