//! Certificates: who may call what, who may not call at all, and how they are replaced.
use crate::support::{LOOK, Node, eventually, put};
use anyhow::{Context as _, bail, ensure};
use bytes::{Buf, BufMut};
use chord_client::net::{Pems, Tls, link, tcp};
use chord_node::rpc::roles::{Role, is_allowed};
use chord_proto::{DESCRIPTORS, v1};
use prost::Message as _;
use prost_types::FileDescriptorSet;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType, date_time_ymd};
use std::{fs, path::Path};
use tonic::{
    Code, Request, Status,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};

/// An authority of its own.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> anyhow::Result<Authority> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key)?.pem();
        Ok(Authority { pem, issuer: Issuer::new(params, key) })
    }

    /// A leaf for `path` of `spiffe://chordring.dev/`; `expired`: its time ended long ago.
    fn leaf(&self, path: &str, expired: bool) -> anyhow::Result<Pems> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(vec!["localhost".into(), "127.0.0.1".into()])?;
        params.subject_alt_names.push(SanType::URI(format!("spiffe://chordring.dev/{path}").try_into()?));
        if expired {
            (params.not_before, params.not_after) = (date_time_ymd(2001, 1, 1), date_time_ymd(2002, 1, 1));
        }
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Pems {
            certificate: certificate.pem().into_bytes(),
            key: key.serialize_pem().into_bytes(),
            authority: self.pem.clone().into_bytes(),
        })
    }
}

fn write(dir: &Path, pems: &Pems) -> anyhow::Result<()> {
    fs::create_dir_all(dir)?;
    fs::write(dir.join("ca.crt"), &pems.authority)?;
    fs::write(dir.join("tls.key"), &pems.key)?;
    Ok(fs::write(dir.join("tls.crt"), &pems.certificate)?)
}

/// One ready node with TLS, called with the operator's certificate.
async fn node(root: &Path, authority: &Authority, replication_factor: u8) -> anyhow::Result<Node> {
    let certificates = root.join("tls");
    write(&certificates, &authority.leaf("default/demo/node", false)?)?;
    let operator = Tls::from_pems(authority.leaf("default/demo/operator", false)?)?;
    let factor = format!("--replication-factor={replication_factor}");
    let mut node = Node::new(root, "n-0", &["--bootstrap", &factor])?.with_tls(&certificates, operator);
    node.start()?;
    node.ready().await?;
    Ok(node)
}

/// Sends an empty message and takes whatever comes.
#[derive(Default)]
struct Raw;
impl Codec for Raw {
    type Encode = ();
    type Decode = ();
    type Encoder = Raw;
    type Decoder = Raw;
    fn encoder(&mut self) -> Raw {
        Raw
    }
    fn decoder(&mut self) -> Raw {
        Raw
    }
}
impl Encoder for Raw {
    type Item = ();
    type Error = Status;
    fn encode(&mut self, (): (), out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put_slice(&[]);
        Ok(())
    }
}
impl Decoder for Raw {
    type Item = ();
    type Error = Status;
    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<()>, Status> {
        from.advance(from.remaining());
        Ok(Some(()))
    }
}

/// What a call of `path` without content comes to.
async fn call(addr: &str, tls: Tls, path: &str) -> anyhow::Result<Code> {
    let channel = link(addr, Some(tls), tcp()).map_err(anyhow::Error::msg)?.channel;
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await?;
    let answer = grpc.server_streaming(Request::new(()), path.parse()?, Raw).await;
    Ok(answer.err().map_or(Code::Ok, |status| status.code()))
}

/// Paths of all RPCs of all services, from their descriptions.
fn all_paths() -> anyhow::Result<Vec<String>> {
    let files = FileDescriptorSet::decode(DESCRIPTORS)?.file;
    let mut paths = Vec::new();
    for file in &files {
        for service in &file.service {
            for method in &service.method {
                paths.push(format!("/{}.{}/{}", file.package(), service.name(), method.name()));
            }
        }
    }
    Ok(paths)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_rpc_is_open_to_its_roles_and_to_no_other() -> anyhow::Result<()> {
    let root = tempfile::tempdir()?;
    let authority = Authority::new()?;
    let node = node(root.path(), &authority, 1).await?;
    put(&node, "key", "value").await?;
    let paths = all_paths()?;
    ensure!(paths.len() >= 29, "only {paths:?}");
    let roles = [
        ("default/demo/node", Some(Role::Node)),
        ("default/demo/operator", Some(Role::Operator)),
        ("default/demo/gateway", Some(Role::Gateway)),
        ("default/demo/client", Some(Role::Client)),
        // Other rings, other namespaces, other words, and paths that only begin like ours.
        ("default/other/operator", None),
        ("elsewhere/demo/operator", None),
        ("default/demo/root", None),
        ("default/demo/operator/more", None),
        ("default/demo2/node", None),
    ];
    for (name, role) in roles {
        let tls = Tls::from_pems(authority.leaf(name, false)?)?;
        for path in &paths {
            let internal = ["/chord.v1.Ring/", "/chord.v1.Shard/", "/chord.v1.Admin/"];
            let here =
                if internal.iter().any(|service| path.starts_with(service)) { &node.internal } else { &node.client };
            let code = call(here, tls.clone(), path).await.with_context(|| format!("{name} calls {path}"))?;
            let open = role.is_some_and(|role| is_allowed(path, &[role]));
            ensure!((code != Code::PermissionDenied) == open, "{name} calls {path}: {code:?}, open: {open}");
            ensure!(code != Code::Unimplemented, "{path} is not served");
        }
    }
    // The table itself, spelled out where it matters most: what a gateway may call changes nothing.
    for path in &paths {
        let looks = path.starts_with("/chord.v1.RingView/");
        ensure!(is_allowed(path, &[Role::Gateway]) == looks, "{path}");
    }
    ensure!(crate::support::get(&node, "key").await?.as_deref() == Some("value"), "a refused call changed something");
    ensure!(node.status().await?.state() == v1::MemberState::Serving);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn expired_foreign_and_missing_certificates_are_refused() -> anyhow::Result<()> {
    let root = tempfile::tempdir()?;
    let authority = Authority::new()?;
    let node = node(root.path(), &authority, 1).await?;
    let mut foreign = Authority::new()?.leaf("default/demo/operator", false)?;
    // It trusts the node; the node must not trust it.
    foreign.authority = authority.pem.clone().into_bytes();
    for (what, pems) in [("expired", authority.leaf("default/demo/operator", true)?), ("foreign", foreign)] {
        for addr in [&node.internal, &node.client] {
            let outcome = call(addr, Tls::from_pems(pems.clone())?, "/grpc.health.v1.Health/Check").await;
            match outcome {
                Err(_) | Ok(Code::Unavailable | Code::Unknown | Code::Internal | Code::Cancelled) => {}
                Ok(code) => bail!("a caller with {what} certificate got {code:?}"),
            }
        }
    }
    // Without TLS at all.
    let plain = link(&node.client, None, tcp()).map_err(anyhow::Error::msg)?.channel;
    let mut kv = v1::kv_client::KvClient::new(plain);
    ensure!(kv.get(v1::GetRequest::default()).await.is_err_and(|status| status.code() != Code::InvalidArgument));
    eventually("the log says why", async || {
        node.log().contains("refused a connection").then_some(()).context("not said yet")
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn new_certificates_are_taken_over_while_serving() -> anyhow::Result<()> {
    let root = tempfile::tempdir()?;
    let authority = Authority::new()?;
    let node = node(root.path(), &authority, 1).await?;
    let mut open = node.admin()?;
    let before = open.status(v1::StatusRequest {}).await?.into_inner().certificate_sha256;
    ensure!(before.len() == 32);
    // Halves of two pairs do not fit together: the old ones stay.
    let fresh = authority.leaf("default/demo/node", false)?;
    fs::write(root.path().join("tls/tls.key"), &fresh.key)?;
    eventually("the node says that the pair does not fit", async || {
        node.log().contains("keeping the old certificates").then_some(()).context("not said yet")
    })
    .await?;
    ensure!(node.status().await?.certificate_sha256 == before);
    write(&root.path().join("tls"), &fresh)?;
    eventually("the new certificate is in use", async || {
        tokio::time::sleep(LOOK).await;
        ensure!(node.status().await?.certificate_sha256 != before);
        Ok(())
    })
    .await?;
    // The connection from before goes on.
    open.status(v1::StatusRequest {}).await?;
    put(&node, "key", "value").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ring_with_certificates_replicates() -> anyhow::Result<()> {
    let root = tempfile::tempdir()?;
    let authority = Authority::new()?;
    let mut nodes = vec![node(root.path(), &authority, 3).await?];
    let join = format!("--join={}", nodes[0].internal);
    for name in ["n-1", "n-2"] {
        let certificates = root.path().join(format!("{name}-tls"));
        write(&certificates, &authority.leaf("default/demo/node", false)?)?;
        let operator = Tls::from_pems(authority.leaf("default/demo/operator", false)?)?;
        let mut node = Node::new(root.path(), name, &[join.as_str()])?.with_tls(&certificates, operator);
        node.start()?;
        nodes.push(node);
    }
    for node in &nodes {
        node.ready().await?;
    }
    crate::support::settled(&nodes.iter().collect::<Vec<_>>(), 3).await?;
    crate::support::put_all(&nodes.iter().collect::<Vec<_>>(), "key", 30).await?;
    crate::support::expect_all(&nodes[2], "key", 30).await
}
