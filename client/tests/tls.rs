//! Certificates: who is trusted, and what is said when somebody is not.
use chord_client::{
    Client, ClientSettings, Endpoints, Error,
    net::{Pems, Tls},
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use std::{path::Path, time::Duration};
use tokio::{io::AsyncReadExt as _, net::TcpListener};
use tokio_rustls::TlsAcceptor;

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn pems(authority: &CertifiedIssuer<'static, KeyPair>, name: &str) -> Pems {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    let certificate = params.signed_by(&key, authority).unwrap();
    Pems {
        certificate: certificate.pem().into_bytes(),
        key: key.serialize_pem().into_bytes(),
        authority: authority.pem().into_bytes(),
    }
}

fn write(dir: &Path, pems: &Pems) {
    for (name, text) in [("tls.crt", &pems.certificate), ("tls.key", &pems.key), ("ca.crt", &pems.authority)] {
        std::fs::write(dir.join(name), text).unwrap();
    }
}

async fn error_with(pems: Pems, server: Pems) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let acceptor = TlsAcceptor::from(Tls::from_pems(server).unwrap().current().server.clone());
    let server = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // A handshake that succeeds is read until the client gives up.
            if let Ok(mut stream) = acceptor.accept(stream).await {
                let _ = stream.read(&mut [0; 1024]).await;
            }
        }
    });
    let endpoints = Endpoints::new([format!("127.0.0.1:{port}")]).tls(Tls::from_pems(pems).unwrap());
    let settings = ClientSettings { deadline: Duration::from_millis(800), ..ClientSettings::default() };
    let error = Client::connect(endpoints, settings).await.err().expect("nobody speaks gRPC there");
    server.abort();
    assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
    error.to_string()
}

#[tokio::test]
async fn a_server_of_another_authority_or_name_is_not_trusted_and_the_reason_is_told() {
    let (ours, foreign) = (authority(), authority());
    let told = error_with(pems(&ours, "client"), pems(&foreign, "127.0.0.1")).await;
    assert!(told.contains("invalid peer certificate"), "{told}");
    let told = error_with(pems(&ours, "client"), pems(&ours, "other.example")).await;
    assert!(told.contains("not valid for name"), "{told}");
}

#[tokio::test]
async fn a_directory_without_a_key_or_with_nonsense_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let text = |result: Result<Tls, chord_client::net::TlsError>| result.err().expect("it cannot be used").to_string();
    assert!(text(Tls::from_dir(dir.path())).contains("tls.crt"));
    write(dir.path(), &pems(&authority(), "client"));
    assert!(Tls::from_dir(dir.path()).is_ok());
    std::fs::write(dir.path().join("tls.key"), "no key").unwrap();
    assert!(text(Tls::from_dir(dir.path())).contains("tls.key"));
}

#[tokio::test]
async fn new_certificates_are_taken_over_and_bad_ones_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let authority = authority();
    write(dir.path(), &pems(&authority, "first"));
    let tls = Tls::from_dir(dir.path()).unwrap();
    let follow = tokio::spawn(tls.clone().follow());
    let first = tls.current().leaf.clone();
    std::fs::write(dir.path().join("tls.crt"), "torn").unwrap();
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(tls.current().leaf, first, "a torn file changes nothing");
    write(dir.path(), &pems(&authority, "second"));
    let changed = async {
        while tls.current().leaf == first {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), changed).await.expect("the new one is taken over");
    follow.abort();
}
