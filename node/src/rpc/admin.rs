//! `Admin`: the operator.
use super::{
    convert::{self, from_node},
    told::Told,
};
use crate::driver::Driver;
use chord::{
    io::{AdminAction, AdminError, AdminRequest},
    member::{Disk, MemberKey, MemberState},
    time::Nanos,
};
use chord_client::net::Tls;
use chord_proto::v1::{self, admin_server::Admin};
use sha2::{Digest as _, Sha256};
use std::path::PathBuf;
use tonic::{Request, Response, Status};

type Answer<T> = Result<Response<T>, Status>;

/// Serves the operator.
#[derive(Clone)]
pub struct AdminService {
    driver: Driver,
    data_dir: PathBuf,
    tls: Option<Tls>,
    told: Told,
}

impl AdminService {
    /// `data_dir`: whose volume is measured; `told`: where the operator's word is put.
    pub fn new(driver: Driver, data_dir: PathBuf, tls: Option<Tls>, told: Told) -> AdminService {
        AdminService { driver, data_dir, tls, told }
    }

    async fn act(&self, epoch: u64, disk: &[u8], action: AdminAction) -> Result<i32, Status> {
        let disk = convert::u128_of("disk_uuid", disk)
            .map_err(|_| Status::invalid_argument("disk_uuid: must be the 16 bytes that Status returned"))?;
        let request = AdminRequest { operator_epoch: Some(epoch), disk: Some(Disk(disk)), action };
        let done = self.driver.admin(request).await.map_err(|gone| Status::unavailable(gone.to_string()))?;
        match done {
            Ok(()) => self.state().await,
            Err(AdminError::Fenced(why)) => Err(Status::aborted(why)),
            Err(AdminError::Precondition(why)) => Err(Status::failed_precondition(why)),
        }
    }

    async fn state(&self) -> Result<i32, Status> {
        let state: Result<MemberState, _> = self.driver.inspect(|core| core.state()).await;
        let state = state.map_err(|gone| Status::unavailable(gone.to_string()))?;
        Ok(convert::from_state(state).into())
    }
}

fn optional_id(field: &str, bytes: &[u8]) -> Result<Option<u128>, Status> {
    if bytes.is_empty() {
        return Ok(None);
    }
    convert::u128_of("ring_id", bytes)
        .map(Some)
        .map_err(|_| Status::invalid_argument(format!("{field}: must have 16 bytes")))
}

#[tonic::async_trait]
impl Admin for AdminService {
    async fn status(&self, _: Request<v1::StatusRequest>) -> Answer<v1::StatusResponse> {
        let (disk_free_bytes, disk_total_bytes) = crate::disk::space(&self.data_dir).unwrap_or_default();
        let certificate_sha256 =
            self.tls.as_ref().map(|tls| Sha256::digest(&tls.current().leaf).to_vec().into()).unwrap_or_default();
        let status = self.driver.inspect(move |core| {
            let neighbours = core.neighbours();
            let status = core.status();
            v1::StatusResponse {
                node: Some(from_node(core.me())),
                state: convert::from_state(core.state()).into(),
                ring_id: core.ring_id().map(convert::bytes_of).unwrap_or_default(),
                members: core.view().iter().map(|(member, up)| convert::from_member(member, *up)).collect(),
                predecessor: neighbours.predecessor.as_ref().map(from_node),
                successors: neighbours.successors.iter().map(from_node).collect(),
                shards_held: status.shards_held,
                shards_led: status.shards_led,
                shards_under_replicated: status.shards_under_replicated,
                shards_pending: status.shards_pending + status.shards_moving,
                shards_unavailable: status.shards_unavailable,
                keys: status.keys_led,
                bytes: status.bytes_led,
                disk_free_bytes,
                disk_total_bytes,
                certificate_sha256,
                leave_blocked: status.leave_blocked,
                version: env!("CARGO_PKG_VERSION").into(),
                replication_factor: core.settings().replication_factor as u32,
                shards: core.settings().shards,
                shards_retiring: status.shards_retiring,
            }
        });
        Ok(Response::new(status.await.map_err(|gone| Status::unavailable(gone.to_string()))?))
    }

    async fn join(&self, request: Request<v1::AdminJoinRequest>) -> Answer<v1::AdminJoinResponse> {
        let join = request.into_inner();
        let action = match join.bootstrap_ring_id {
            Some(ring_id) => AdminAction::Bootstrap {
                ring_id: convert::u128_of("bootstrap_ring_id", &ring_id)
                    .map_err(|_| Status::invalid_argument("bootstrap_ring_id: must have 16 bytes"))?,
            },
            None => AdminAction::Join { seeds: join.seeds, ring_id: optional_id("ring_id", &join.ring_id)? },
        };
        let state = self.act(join.operator_epoch, &join.disk_uuid, action).await?;
        Ok(Response::new(v1::AdminJoinResponse { state }))
    }

    async fn leave(&self, request: Request<v1::AdminLeaveRequest>) -> Answer<v1::AdminLeaveResponse> {
        let leave = request.into_inner();
        let state = self.act(leave.operator_epoch, &leave.disk_uuid, AdminAction::Leave).await?;
        Ok(Response::new(v1::AdminLeaveResponse { state }))
    }

    async fn abort_leave(&self, request: Request<v1::AbortLeaveRequest>) -> Answer<v1::AbortLeaveResponse> {
        let abort = request.into_inner();
        let state = self.act(abort.operator_epoch, &abort.disk_uuid, AdminAction::AbortLeave).await?;
        Ok(Response::new(v1::AbortLeaveResponse { state }))
    }

    async fn prepare_restart(&self, request: Request<v1::PrepareRestartRequest>) -> Answer<v1::PrepareRestartResponse> {
        let prepare = request.into_inner();
        let ttl = Nanos::from_millis(prepare.ttl_ms.min(600_000));
        self.act(prepare.operator_epoch, &prepare.disk_uuid, AdminAction::PrepareRestart { ttl }).await?;
        Ok(Response::new(v1::PrepareRestartResponse {}))
    }

    async fn report(&self, request: Request<v1::ReportRequest>) -> Answer<v1::ReportResponse> {
        self.told.tell(request.into_inner())?;
        Ok(Response::new(v1::ReportResponse {}))
    }

    async fn evict(&self, request: Request<v1::EvictRequest>) -> Answer<v1::EvictResponse> {
        let evict = request.into_inner();
        let bad = |error: convert::Malformed| Status::invalid_argument(error.to_string());
        let id = convert::id("id", &evict.id).map_err(bad)?;
        let member = MemberKey { id, disk: Disk(convert::u128_of("disk_uuid", &evict.disk_uuid).map_err(bad)?) };
        let action = AdminAction::Evict { member };
        // Here the disk names the member to evict, not the one that is asked.
        let request = AdminRequest { operator_epoch: Some(evict.operator_epoch), disk: None, action };
        let done = self.driver.admin(request).await.map_err(|gone| Status::unavailable(gone.to_string()))?;
        match done {
            Ok(()) => Ok(Response::new(v1::EvictResponse {})),
            Err(AdminError::Fenced(why)) => Err(Status::aborted(why)),
            Err(AdminError::Precondition(why)) => Err(Status::failed_precondition(why)),
        }
    }
}
