//! The members' own word: `Admin` over the ring's TLS.
use crate::{
    build::Names,
    world::{Listed, State, Word},
};
use chord_client::net::{Dial, Link, Tls, link};
use chord_proto::v1::{self, admin_client::AdminClient};
use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};
use tonic::Status;

/// Time for a member to answer.
const TIME: Duration = Duration::from_secs(2);

/// Ways to the members of one ring.
pub struct Members {
    dial: Dial,
    links: HashMap<String, Link>,
    tls: Option<Tls>,
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// 32 or 40 hexadecimal digits as bytes; empty for anything else.
pub fn unhex(text: &str) -> Vec<u8> {
    let digits: Option<Vec<u8>> =
        text.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect();
    digits.unwrap_or_default()
}

fn state(state: i32) -> State {
    match v1::MemberState::try_from(state) {
        Ok(v1::MemberState::Joining) => State::Joining,
        Ok(v1::MemberState::Serving) => State::Serving,
        Ok(v1::MemberState::Leaving) => State::Leaving,
        Ok(v1::MemberState::Left) => State::Left,
        Ok(v1::MemberState::Evicted) => State::Evicted,
        _ => State::Empty,
    }
}

fn word(status: v1::StatusResponse) -> Word {
    let node = status.node.unwrap_or_default();
    let listed = |member: v1::Member| {
        let node = member.node.unwrap_or_default();
        Listed { id: hex(&node.id), disk: hex(&node.disk_uuid), name: node.name, state: state(member.state) }
    };
    Word {
        id: hex(&node.id),
        disk: hex(&node.disk_uuid),
        incarnation: node.incarnation,
        state: state(status.state),
        ring_id: hex(&status.ring_id),
        members: status.members.into_iter().map(listed).collect(),
        successor: status.successors.first().map(|node| hex(&node.id)),
        shards_held: status.shards_held,
        under_replicated: status.shards_under_replicated,
        pending: status.shards_pending,
        unavailable: status.shards_unavailable,
        retiring: status.shards_retiring,
        keys: status.keys,
        bytes: status.bytes,
        leave_blocked: status.leave_blocked,
        internal_addr: node.internal_addr,
    }
}

fn client(link: &Link) -> AdminClient<tonic::transport::Channel> {
    AdminClient::new(link.channel.clone())
}

impl Members {
    /// Reaches members by `dial`, without TLS at first.
    pub fn new(dial: Dial) -> Members {
        Members { dial, links: HashMap::new(), tls: None }
    }

    /// With these certificates from now on.
    pub fn set_tls(&mut self, tls: Option<Tls>) {
        self.tls = tls;
        self.links.clear();
    }

    fn link(&mut self, addr: &str) -> Result<Link, String> {
        if let Some(known) = self.links.get(addr) {
            return Ok(known.clone());
        }
        let fresh = link(addr, self.tls.clone(), self.dial.clone())?;
        self.links.insert(addr.to_owned(), fresh.clone());
        Ok(fresh)
    }

    /// Asks all members at once; a silent one costs no more than the time for one answer.
    pub async fn ask(
        &mut self,
        names: &Names<'_>,
        ordinals: impl Iterator<Item = i32>,
    ) -> BTreeMap<i32, Result<Word, String>> {
        let links: Vec<(i32, Result<Link, String>)> =
            ordinals.map(|ordinal| (ordinal, self.link(&names.address(ordinal)))).collect();
        let asked = links.into_iter().map(async |(ordinal, link)| {
            let link = match link {
                Ok(link) => link,
                Err(why) => return (ordinal, Err(why)),
            };
            let mut admin = client(&link);
            let answer = tokio::time::timeout(TIME, admin.status(v1::StatusRequest {})).await;
            let answer = match answer {
                Ok(Ok(status)) => Ok(word(status.into_inner())),
                Ok(Err(status)) if link.is_refused() => Err(format!("its port is closed: {}", status.code())),
                Ok(Err(status)) => Err(format!("{}: {}", status.code(), status.message())),
                Err(_) => Err("no answer in time".into()),
            };
            (ordinal, answer)
        });
        futures::future::join_all(asked).await.into_iter().collect()
    }

    async fn act<T>(
        &mut self,
        addr: &str,
        act: impl AsyncFnOnce(AdminClient<tonic::transport::Channel>) -> Result<T, Status>,
    ) -> anyhow::Result<T> {
        let link = self.link(addr).map_err(anyhow::Error::msg)?;
        let done = tokio::time::timeout(TIME, act(client(&link))).await;
        done.map_err(|_| anyhow::anyhow!("{addr} does not answer"))?
            .map_err(|status| anyhow::anyhow!("{addr}: {}", status.message()))
    }

    /// Tells what the operator says of the ring to members, for those who look at them. Who does not listen is told again
    /// soon.
    pub async fn report(&mut self, addrs: impl Iterator<Item = String>, request: v1::ReportRequest) {
        let links: Vec<Link> = addrs.filter_map(|addr| self.link(&addr).ok()).collect();
        let told = links.into_iter().map(async |link| {
            let told = tokio::time::timeout(TIME, client(&link).report(request.clone())).await;
            if let Ok(Err(status)) = told {
                tracing::debug!(%status, "a member does not take the report");
            }
        });
        futures::future::join_all(told).await;
    }

    /// Founds or joins a ring.
    ///
    /// # Errors
    /// The member's refusal.
    pub async fn join(&mut self, addr: &str, request: v1::AdminJoinRequest) -> anyhow::Result<()> {
        self.act(addr, async |mut admin| admin.join(request).await.map(drop)).await
    }

    /// Asks a member to leave.
    ///
    /// # Errors
    /// The member's refusal.
    pub async fn leave(&mut self, addr: &str, operator_epoch: u64, disk: &str) -> anyhow::Result<()> {
        let request = v1::AdminLeaveRequest { operator_epoch, disk_uuid: unhex(disk).into() };
        self.act(addr, async |mut admin| admin.leave(request).await.map(drop)).await
    }

    /// Takes a leave back.
    ///
    /// # Errors
    /// The member's refusal.
    pub async fn abort_leave(&mut self, addr: &str, operator_epoch: u64, disk: &str) -> anyhow::Result<()> {
        let request = v1::AbortLeaveRequest { operator_epoch, disk_uuid: unhex(disk).into() };
        self.act(addr, async |mut admin| admin.abort_leave(request).await.map(drop)).await
    }

    /// Declares a member lost.
    ///
    /// # Errors
    /// The refusal of the member that was told.
    pub async fn evict(&mut self, addr: &str, operator_epoch: u64, id: &str, disk: &str) -> anyhow::Result<()> {
        let request = v1::EvictRequest { operator_epoch, id: unhex(id).into(), disk_uuid: unhex(disk).into() };
        self.act(addr, async |mut admin| admin.evict(request).await.map(drop)).await
    }
}
