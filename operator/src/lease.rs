//! Leader election on a Lease, after the rules of client-go: local clocks only, give up before others may take over,
//! and end the process when leadership is lost. The number of transitions is the operator's epoch.
use anyhow::Context as _;
use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use kube::{Api, Client, api::PostParams};
use std::time::{Duration, Instant};

/// A lease that was not renewed for so long is free.
const DURATION: Duration = Duration::from_secs(15);
/// A leader that could not renew for so long gives up.
const DEADLINE: Duration = Duration::from_secs(10);
const RETRY: Duration = Duration::from_secs(2);

/// Who leads.
pub struct Election {
    leases: Api<Lease>,
    name: String,
    identity: String,
}

impl Election {
    /// On the Lease `name` in `namespace`, as `identity`.
    pub fn new(client: Client, namespace: &str, name: &str, identity: String) -> Election {
        Election { leases: Api::namespaced(client, namespace), name: name.to_owned(), identity }
    }

    /// Waits until this process leads; gives back its epoch.
    ///
    /// # Errors
    /// Never for a while without the API; only when its answers make no sense.
    pub async fn win(&self) -> anyhow::Result<u64> {
        let mut seen: Option<(String, Instant)> = None;
        loop {
            match self.attempt(&mut seen).await {
                Ok(Some(epoch)) => return Ok(epoch),
                Ok(None) => {}
                Err(error) => tracing::warn!(%error, "cannot take the lease yet"),
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    async fn attempt(&self, seen: &mut Option<(String, Instant)>) -> anyhow::Result<Option<u64>> {
        let Some(mut lease) = self.leases.get_opt(&self.name).await? else {
            let spec = self.spec(1);
            let metadata = ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() };
            self.leases.create(&PostParams::default(), &Lease { metadata, spec: Some(spec) }).await?;
            return Ok(Some(1));
        };
        let version = lease.metadata.resource_version.clone().unwrap_or_default();
        let spec = lease.spec.clone().unwrap_or_default();
        let holder = spec.holder_identity.clone().unwrap_or_default();
        // How long it has not changed, by the local clock: other clocks do not matter.
        if seen.as_ref().is_none_or(|(known, _)| *known != version) {
            *seen = Some((version, Instant::now()));
        }
        let quiet = seen.as_ref().is_some_and(|(_, since)| since.elapsed() >= DURATION);
        if !holder.is_empty() && holder != self.identity && !quiet {
            return Ok(None);
        }
        let epoch = spec.lease_transitions.unwrap_or(0) + 1;
        lease.spec = Some(self.spec(epoch));
        // The resourceVersion in it makes sure that nobody else took it meanwhile.
        self.leases.replace(&self.name, &PostParams::default(), &lease).await?;
        Ok(Some(u64::try_from(epoch).context("the lease counts its transitions below zero")?))
    }

    fn spec(&self, transitions: i32) -> LeaseSpec {
        let now = MicroTime(Timestamp::now());
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: Some(DURATION.as_secs() as i32),
            acquire_time: Some(now.clone()),
            renew_time: Some(now),
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        }
    }

    /// Renews until leadership is lost, then returns.
    pub async fn keep(&self) {
        let mut renewed = Instant::now();
        loop {
            tokio::time::sleep(RETRY).await;
            match self.renew().await {
                Ok(true) => renewed = Instant::now(),
                Ok(false) => return,
                Err(error) => tracing::warn!(%error, "cannot renew the lease"),
            }
            if renewed.elapsed() >= DEADLINE {
                return;
            }
        }
    }

    async fn renew(&self) -> anyhow::Result<bool> {
        let mut lease = self.leases.get(&self.name).await?;
        let Some(spec) = lease.spec.as_mut() else { return Ok(false) };
        if spec.holder_identity.as_ref() != Some(&self.identity) {
            return Ok(false);
        }
        spec.renew_time = Some(MicroTime(Timestamp::now()));
        self.leases.replace(&self.name, &PostParams::default(), &lease).await?;
        Ok(true)
    }

    /// Frees the lease, so that the next one need not wait.
    pub async fn release(&self) {
        if let Ok(mut lease) = self.leases.get(&self.name).await
            && let Some(spec) = lease.spec.as_mut()
            && spec.holder_identity.as_ref() == Some(&self.identity)
        {
            spec.holder_identity = Some(String::new());
            let _ = self.leases.replace(&self.name, &PostParams::default(), &lease).await;
        }
    }
}
