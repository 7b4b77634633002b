//! The Secrets with the ring's certificates.
use crate::{
    api::{ChordRing, spec::TlsMode},
    build::Names,
    certificates::{Authority, must_renew, node_names},
    controller::Memory,
    objects::{Apis, MANAGER},
};
use anyhow::{Context as _, bail};
use chord_client::net::{Pems, Tls};
use jiff::Timestamp;
use k8s_openapi::{ByteString, api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{
    Resource as _, ResourceExt as _,
    api::{Patch, PatchParams, PostParams},
};
use std::collections::BTreeMap;

fn pems_of(secret: &Secret) -> Option<Pems> {
    let data = secret.data.as_ref()?;
    let part = |name: &str| data.get(name).map(|bytes| bytes.0.clone());
    Some(Pems { certificate: part("tls.crt")?, key: part("tls.key")?, authority: part("ca.crt")? })
}

fn secret(ring: &ChordRing, name: &str, data: BTreeMap<String, ByteString>) -> Secret {
    let metadata = ObjectMeta {
        name: Some(name.to_owned()),
        namespace: ring.namespace(),
        owner_references: ring.controller_owner_ref(&()).map(|owner| vec![owner]),
        labels: Some(BTreeMap::from([
            ("app.kubernetes.io/name".into(), "chord".into()),
            ("app.kubernetes.io/instance".into(), ring.name_any()),
            ("app.kubernetes.io/managed-by".into(), "chord-operator".into()),
        ])),
        ..ObjectMeta::default()
    };
    Secret { metadata, data: Some(data), type_: Some("kubernetes.io/tls".into()), ..Secret::default() }
}

/// Makes the authority once, keeps the leaves fresh, and gives the operator its own identity in the ring. Without
/// `may_change` only the last.
///
/// # Errors
/// What is missing, or wrong, and what to do.
pub(crate) async fn ensure_certificates(
    ring: &ChordRing,
    names: &Names<'_>,
    apis: &Apis,
    memory: &mut Memory,
    may_change: bool,
) -> anyhow::Result<()> {
    let (name, namespace) = (&names.name, &names.namespace);
    let authority_name = match ring.spec.tls.mode {
        TlsMode::Disabled => {
            if memory.own.take().is_some() {
                memory.members.set_tls(None);
            }
            return Ok(());
        }
        TlsMode::OperatorManaged => format!("{name}-ca"),
        TlsMode::Secret => ring.spec.tls.secret_name.clone().unwrap_or_default(),
    };
    let authority = match apis.secrets.get_opt(&authority_name).await? {
        Some(kept) => {
            let data = kept.data.unwrap_or_default();
            let text = |key: &str| -> anyhow::Result<String> {
                let bytes = data.get(key).with_context(|| format!("Secret {authority_name} has no {key}"))?;
                Ok(String::from_utf8(bytes.0.clone())?)
            };
            Authority::load(&text("tls.crt")?, &text("tls.key")?)?
        }
        None if ring.spec.tls.mode == TlsMode::Secret => {
            bail!("there is no Secret {authority_name}; make it, with tls.crt and tls.key of the authority")
        }
        None if !may_change => bail!("there is no Secret {authority_name} yet"),
        None => {
            let fresh = Authority::make(name)?;
            let data = BTreeMap::from([
                ("tls.crt".to_owned(), ByteString(fresh.certificate.clone().into_bytes())),
                ("tls.key".to_owned(), ByteString(fresh.key.clone().into_bytes())),
            ]);
            // Created, never applied over: a second authority would cut running members off.
            apis.secrets.create(&PostParams::default(), &secret(ring, &authority_name, data)).await?;
            fresh
        }
    };
    let leaves = [("node", node_names(namespace, name)), ("gateway", Vec::new()), ("client", Vec::new())];
    for (role, server_names) in leaves.into_iter().filter(|_| may_change) {
        let leaf_name = format!("{name}-{role}-tls");
        let kept = apis.secrets.get_opt(&leaf_name).await?;
        if must_renew(kept.as_ref().and_then(pems_of).as_ref(), &authority, Timestamp::now()) {
            let pems = authority.leaf(namespace, name, role, &server_names)?;
            let data = BTreeMap::from([
                ("tls.crt".to_owned(), ByteString(pems.certificate)),
                ("tls.key".to_owned(), ByteString(pems.key)),
                ("ca.crt".to_owned(), ByteString(pems.authority)),
            ]);
            let fresh = secret(ring, &leaf_name, data);
            apis.secrets.patch(&leaf_name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(&fresh)).await?;
        }
    }
    if must_renew(memory.own.as_ref(), &authority, Timestamp::now()) {
        let pems = authority.leaf(namespace, name, "operator", &[])?;
        memory.members.set_tls(Some(Tls::from_pems(pems.clone())?));
        memory.own = Some(pems);
    }
    Ok(())
}
