//! Who may call what: one table, one layer, refused by default.
use chord_client::net::Tls;
use http::{Request, Response};
use std::{
    pin::Pin,
    task::{Context, Poll},
};
use tonic::{Status, body::Body};
use tower::{Layer, Service};
use x509_parser::{extensions::GeneralName, prelude::FromDer as _};

/// What a caller's certificate makes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Another node of the ring.
    Node,
    /// The operator.
    Operator,
    /// A gateway: looks, and nothing else.
    Gateway,
    /// An application.
    Client,
}

/// A caller as its connection showed it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Caller {
    /// Every role it may act in.
    pub roles: Vec<Role>,
}

use Role::{Client, Gateway, Node, Operator};

/// Path prefix (`/package.Service/` or with a method) and the roles that may call it; the first match counts.
const TABLE: &[(&str, &[Role])] = &[
    ("/chord.v1.Ring/", &[Node]),
    ("/chord.v1.Shard/", &[Node]),
    ("/chord.v1.Kv/", &[Node, Operator, Client]),
    ("/chord.v1.RingView/", &[Node, Operator, Gateway, Client]),
    ("/chord.v1.Admin/Status", &[Node, Operator, Client]),
    ("/chord.v1.Admin/", &[Operator]),
    ("/grpc.health.v1.Health/", &[Node, Operator, Gateway, Client]),
    ("/grpc.reflection.", &[Node, Operator, Gateway, Client]),
];

/// Whether a caller in one of `roles` may call `path`.
pub fn is_allowed(path: &str, roles: &[Role]) -> bool {
    let row = TABLE.iter().find(|(prefix, _)| path.starts_with(prefix));
    row.is_some_and(|(_, allowed)| roles.iter().any(|role| allowed.contains(role)))
}

/// The role a certificate gives in this ring; `None` for a certificate of another ring or none of ours.
///
/// It is the path of a URI SAN: `spiffe://chordring.dev/<namespace>/<ring>/<role>`.
pub fn role_of(certificate: &[u8], namespace: &str, ring: &str) -> Option<Role> {
    let (_, certificate) = x509_parser::certificate::X509Certificate::from_der(certificate).ok()?;
    let names = certificate.subject_alternative_name().ok()??;
    names.value.general_names.iter().find_map(|name| {
        let GeneralName::URI(uri) = name else { return None };
        let path = uri.strip_prefix("spiffe://chordring.dev/")?;
        match path.strip_prefix(namespace)?.strip_prefix('/')?.strip_prefix(ring)?.strip_prefix('/')? {
            "node" => Some(Node),
            "operator" => Some(Operator),
            "gateway" => Some(Gateway),
            "client" => Some(Client),
            _ => None,
        }
    })
}

/// End of the certificate in use, seconds since the Unix epoch.
pub fn expiry(tls: &Tls) -> Option<i64> {
    let identity = tls.current();
    let (_, certificate) = x509_parser::certificate::X509Certificate::from_der(&identity.leaf).ok()?;
    Some(certificate.validity().not_after.timestamp())
}

/// Refuses calls that the table does not allow.
#[derive(Clone, Copy, Default)]
pub struct RolesLayer;

impl<S> Layer<S> for RolesLayer {
    type Service = Roles<S>;
    fn layer(&self, inner: S) -> Roles<S> {
        Roles { inner }
    }
}

/// See [`RolesLayer`].
#[derive(Clone)]
pub struct Roles<S> {
    inner: S,
}

impl<S, B> Service<Request<B>> for Roles<S>
where
    S: Service<Request<B>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send,
    B: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let caller = request.extensions().get::<Caller>();
        let path = request.uri().path();
        if caller.is_some_and(|caller| is_allowed(path, &caller.roles)) {
            return Box::pin(self.inner.call(request));
        }
        let who = caller.map(|caller| format!("{:?}", caller.roles)).unwrap_or_default();
        tracing::warn!(path, roles = who, "refused a call");
        metrics::counter!("chord_refused_calls_total").increment(1);
        let status = Status::permission_denied(format!(
            "{path} is not open to the role of this certificate; see the table of roles in the documentation"
        ));
        Box::pin(async move { Ok(status.into_http()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gateway_may_look_and_nothing_else() {
        let open = ["/chord.v1.RingView/Describe", "/chord.v1.RingView/Watch", "/grpc.health.v1.Health/Check"];
        let closed = [
            "/chord.v1.Kv/Get",
            "/chord.v1.Kv/Put",
            "/chord.v1.Ring/Join",
            "/chord.v1.Shard/Exchange",
            "/chord.v1.Admin/Status",
            "/chord.v1.Admin/Leave",
            "/chord.v1.Unheard/Of",
            "/",
        ];
        assert!(open.iter().all(|path| is_allowed(path, &[Gateway])));
        assert!(closed.iter().all(|path| !is_allowed(path, &[Gateway])));
    }

    #[test]
    fn only_the_operator_administers() {
        for method in ["Join", "Leave", "AbortLeave", "PrepareRestart", "Evict"] {
            let path = format!("/chord.v1.Admin/{method}");
            assert!(is_allowed(&path, &[Operator]));
            assert!(!is_allowed(&path, &[Node]) && !is_allowed(&path, &[Client]) && !is_allowed(&path, &[]));
        }
    }
}
