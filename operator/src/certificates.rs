//! The ring's own certificate authority, and the leaves it signs.
use anyhow::Context as _;
use chord_client::net::Pems;
use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};
use std::{net::IpAddr, time::Duration};
use x509_parser::prelude::FromDer as _;

/// Life of an authority.
const AUTHORITY: Duration = Duration::from_secs(10 * 365 * 86_400);
/// Life of a leaf; it is renewed after two thirds.
const LEAF: Duration = Duration::from_secs(90 * 86_400);
/// Clocks may differ by so much.
const SKEW: Duration = Duration::from_secs(300);

/// An authority that can sign.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its certificate, PEM.
    pub certificate: String,
    /// Its key, PEM.
    pub key: String,
}

fn validity(params: &mut CertificateParams, life: Duration) -> anyhow::Result<()> {
    let now = std::time::SystemTime::now();
    params.not_before = (now - SKEW).into();
    params.not_after = (now + life).into();
    Ok(())
}

impl Authority {
    /// Makes a new one.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn make(ring: &str) -> anyhow::Result<Authority> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, format!("chord ring {ring}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        validity(&mut params, AUTHORITY)?;
        let certificate = params.self_signed(&key)?.pem();
        Authority::load(&certificate, &key.serialize_pem())
    }

    /// Takes up an existing one.
    ///
    /// # Errors
    /// When the texts are not certificate and key of an authority.
    pub fn load(certificate: &str, key: &str) -> anyhow::Result<Authority> {
        let pair = KeyPair::from_pem(key).context("tls.key of the authority is not a usable key")?;
        let issuer = Issuer::from_ca_cert_pem(certificate, pair).context("tls.crt of the authority is not usable")?;
        Ok(Authority { issuer, certificate: certificate.to_owned(), key: key.to_owned() })
    }

    /// Signs a leaf for `role` with these server names.
    ///
    /// # Errors
    /// When a name is not one.
    pub fn leaf(&self, namespace: &str, ring: &str, role: &str, names: &[String]) -> anyhow::Result<Pems> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, format!("{role} of {namespace}/{ring}"));
        let uri = format!("spiffe://chordring.dev/{namespace}/{ring}/{role}");
        params.subject_alt_names.push(SanType::URI(uri.try_into()?));
        for name in names {
            params.subject_alt_names.push(match name.parse::<IpAddr>() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName(name.as_str().try_into()?),
            });
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        validity(&mut params, LEAF)?;
        let certificate = params.signed_by(&key, &self.issuer)?.pem();
        Ok(Pems {
            certificate: certificate.into_bytes(),
            key: key.serialize_pem().into_bytes(),
            authority: self.certificate.clone().into_bytes(),
        })
    }
}

/// Whether a leaf must be made anew: it is missing, not of this authority's making, or past two thirds of its life.
pub fn must_renew(pems: Option<&Pems>, authority: &Authority, now: Timestamp) -> bool {
    let Some(pems) = pems else { return true };
    if pems.authority != authority.certificate.as_bytes() {
        return true;
    }
    let Ok((_, pem)) = x509_parser::pem::parse_x509_pem(&pems.certificate) else { return true };
    let Ok((_, leaf)) = x509_parser::certificate::X509Certificate::from_der(&pem.contents) else { return true };
    let (from, until) = (leaf.validity().not_before.timestamp(), leaf.validity().not_after.timestamp());
    now.as_second() >= from + (until - from) / 3 * 2
}

/// Server names of the nodes of a ring.
pub fn node_names(namespace: &str, ring: &str) -> Vec<String> {
    vec![
        format!("*.{ring}-nodes.{namespace}.svc"),
        format!("*.{ring}-nodes.{namespace}.svc.cluster.local"),
        format!("{ring}-nodes.{namespace}.svc"),
        format!("{ring}.{namespace}.svc"),
        format!("{ring}.{namespace}.svc.cluster.local"),
        "localhost".into(),
        "127.0.0.1".into(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaf_is_usable_and_renewed_after_two_thirds_of_its_life() -> anyhow::Result<()> {
        let authority = Authority::make("demo")?;
        let pems = authority.leaf("ns", "demo", "node", &node_names("ns", "demo"))?;
        assert!(chord_client::net::Tls::from_pems(pems.clone()).is_ok());
        let now = Timestamp::now();
        let in_days = |days: i64| Timestamp::from_second(now.as_second() + days * 86_400);
        assert!(!must_renew(Some(&pems), &authority, now));
        assert!(!must_renew(Some(&pems), &authority, in_days(59)?));
        assert!(must_renew(Some(&pems), &authority, in_days(61)?));
        assert!(must_renew(None, &authority, now));
        assert!(must_renew(Some(&pems), &Authority::make("demo")?, now));
        Ok(())
    }
}
