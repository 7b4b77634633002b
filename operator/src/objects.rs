//! The objects of one ring in the API.
use crate::{
    api::ChordRing,
    build::Names,
    controller::{Context, Memory},
};
use anyhow::Context as _;
use k8s_openapi::api::{
    apps::v1::{Deployment, StatefulSet},
    core::v1::{PersistentVolumeClaim, Pod, Secret, Service, ServiceAccount},
    networking::v1::NetworkPolicy,
    policy::v1::PodDisruptionBudget,
};
use kube::{
    Api, Resource, ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams},
};
use serde::{Serialize, de::DeserializeOwned};
use std::fmt::Debug;

/// Field manager of everything the operator applies.
pub(crate) const MANAGER: &str = "chord-operator";

/// Ways to each kind, in the ring's namespace.
pub(crate) struct Apis {
    pub sets: Api<StatefulSet>,
    pub deployments: Api<Deployment>,
    pub services: Api<Service>,
    pub accounts: Api<ServiceAccount>,
    pub secrets: Api<Secret>,
    pub claims: Api<PersistentVolumeClaim>,
    pub pods: Api<Pod>,
    pub budgets: Api<PodDisruptionBudget>,
    pub policies: Api<NetworkPolicy>,
    pub rings: Api<ChordRing>,
}

impl Apis {
    pub fn new(context: &Context, namespace: &str) -> Apis {
        let client = || context.client.clone();
        Apis {
            sets: Api::namespaced(client(), namespace),
            deployments: Api::namespaced(client(), namespace),
            services: Api::namespaced(client(), namespace),
            accounts: Api::namespaced(client(), namespace),
            secrets: Api::namespaced(client(), namespace),
            claims: Api::namespaced(client(), namespace),
            pods: Api::namespaced(client(), namespace),
            budgets: Api::namespaced(client(), namespace),
            policies: Api::namespaced(client(), namespace),
            rings: Api::namespaced(client(), namespace),
        }
    }

    /// Everything that does not depend on the members.
    pub async fn apply_all(
        &self,
        ring: &ChordRing,
        names: &Names<'_>,
        own: &str,
        memory: &mut Memory,
    ) -> anyhow::Result<()> {
        for account in names.service_accounts() {
            apply(&self.accounts, &account, memory).await?;
        }
        for service in names.services() {
            apply(&self.services, &service, memory).await?;
        }
        match names.disruption_budget() {
            Some(budget) => apply(&self.budgets, &budget, memory).await?,
            None => remove(&self.budgets, &format!("{}-node", names.name)).await?,
        }
        match names.network_policy(own) {
            Some(policy) => apply(&self.policies, &policy, memory).await?,
            None => remove(&self.policies, &format!("{}-node", names.name)).await?,
        }
        match names.gateway() {
            Some(gateway) => apply(&self.deployments, &gateway, memory).await?,
            None => {
                remove(&self.deployments, &format!("{}-gateway", names.name)).await?;
                remove(&self.services, &format!("{}-gateway", names.name)).await?;
            }
        }
        // Its template follows the spec; its replicas are changed by steps alone.
        if let Some(set) = self.sets.get_opt(&format!("{}-node", ring.name_any())).await? {
            let replicas = set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(0);
            apply(&self.sets, &names.stateful_set(replicas), memory).await?;
        }
        Ok(())
    }

    pub async fn gateway_ready(&self, names: &Names<'_>) -> anyhow::Result<i32> {
        let gateway = self.deployments.get_opt(&format!("{}-gateway", names.name)).await?;
        Ok(gateway.and_then(|gateway| gateway.status?.ready_replicas).unwrap_or(0))
    }
}

/// Applies an object unless the same was applied before and it is still as it was then.
async fn apply<K>(api: &Api<K>, object: &K, memory: &mut Memory) -> anyhow::Result<()>
where
    K: Resource<DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned,
{
    let name = object.name_any();
    let key = format!("{}/{name}", K::kind(&()));
    let wanted = serde_json::to_string(object)?;
    let live = api.get_opt(&name).await?;
    let generation = live.as_ref().map(|live| format!("{:?} {:?}", live.uid(), live.meta().generation));
    let mark = |generation: &Option<String>| format!("{generation:?} {wanted}");
    if generation.is_some() && memory.applied.get(&key) == Some(&mark(&generation)) {
        return Ok(());
    }
    let applied = api
        .patch(&name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(object))
        .await
        .with_context(|| format!("cannot apply {key}"))?;
    let generation = Some(format!("{:?} {:?}", applied.uid(), applied.meta().generation));
    memory.applied.insert(key, mark(&generation));
    Ok(())
}

async fn remove<K>(api: &Api<K>, name: &str) -> anyhow::Result<()>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    if api.get_opt(name).await?.is_some() {
        api.delete(name, &DeleteParams::default()).await?;
    }
    Ok(())
}
