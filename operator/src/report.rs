//! What people see: status and conditions, worked out from the world and the step.
use crate::{
    api::{
        ChordRing,
        status::{ChordRingStatus, GatewayStatus, MemberStatus, Operation, Reason, RingStatus, types},
    },
    build::Names,
    plan::Step,
    world::{State, World},
};
use chord_proto::v1;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::ResourceExt as _;

/// Everything the status is worked out from.
pub struct Report<'a> {
    pub ring: &'a ChordRing,
    pub names: &'a Names<'a>,
    pub world: &'a World,
    pub step: &'a Step,
    /// Problems of the spec.
    pub problems: &'a [String],
    /// Why certificates are not as they should be.
    pub certificates: Option<String>,
    pub gateway_ready: i32,
    /// Whether keys and bytes are told anew, which change all the time.
    pub recount: bool,
}

/// Two digits are enough for people, and do not change all the time.
fn rounded(value: u64) -> i64 {
    let mut unit = 1;
    while value / unit >= 100 {
        unit *= 10;
    }
    i64::try_from(value / unit * unit).unwrap_or(i64::MAX)
}

impl Report<'_> {
    /// The status as it should be; conditions that do not change keep their time.
    pub fn status(&self) -> ChordRingStatus {
        let world = self.world;
        let before = self.ring.status.clone().unwrap_or_default();
        let words = || world.words.values().flatten();
        let serving = words().filter(|word| word.state == State::Serving).count() as i32;
        let whole = world.is_whole_without(None);
        let under_replicated: u64 = words().map(|word| u64::from(word.under_replicated)).sum();
        let url = format!("http://{}-gateway.{}.svc", self.names.name, self.names.namespace);
        ChordRingStatus {
            observed_generation: self.ring.metadata.generation.unwrap_or(0),
            replicas: world.replicas.unwrap_or(0),
            ready_replicas: serving,
            selector: self.names.selector_text("node"),
            ring: RingStatus {
                id: world.ring_id.clone().unwrap_or_default(),
                size: words().filter(|word| !matches!(word.state, State::Empty | State::Left)).count() as i32,
                consistent: whole.is_ok(),
                under_replicated_shards: i64::try_from(under_replicated).unwrap_or(i64::MAX),
                keys: if self.recount { rounded(words().map(|word| word.keys).sum()) } else { before.ring.keys },
                bytes: if self.recount { rounded(words().map(|word| word.bytes).sum()) } else { before.ring.bytes },
            },
            operation: self.operation(),
            members: self.members(),
            gateway: GatewayStatus {
                ready_replicas: self.gateway_ready,
                url: if self.ring.spec.gateway.enabled { url } else { String::new() },
            },
            conditions: self.conditions(&before.conditions, serving, &whole),
        }
    }

    fn operation(&self) -> Option<Operation> {
        let pod = |ordinal: i32| self.world.name(ordinal);
        let in_state = |state| self.world.in_state(state).first().copied();
        let (r#type, member) = if let Some(ordinal) = in_state(State::Leaving).or(in_state(State::Left)) {
            ("Leave", pod(ordinal))
        } else if let Some(ordinal) = in_state(State::Joining) {
            ("Join", pod(ordinal))
        } else if let Step::Evict { id, .. } = self.step {
            ("Replace", id.clone())
        } else {
            return None;
        };
        let (_, progress) = self.step.tell();
        Some(Operation { r#type: r#type.into(), member, progress })
    }

    fn members(&self) -> Vec<MemberStatus> {
        let members = self.world.words.iter().map(|(ordinal, word)| {
            let name = self.world.name(*ordinal);
            match word {
                Ok(word) => MemberStatus {
                    name,
                    ordinal: *ordinal,
                    ring_id: word.id.clone(),
                    incarnation: i64::try_from(word.incarnation).unwrap_or(i64::MAX),
                    state: format!("{:?}", word.state),
                    ready: word.state == State::Serving,
                    message: word.leave_blocked.clone(),
                },
                Err(why) => MemberStatus {
                    name,
                    ordinal: *ordinal,
                    state: "Unknown".into(),
                    message: why.clone(),
                    ..MemberStatus::default()
                },
            }
        });
        members.collect()
    }

    fn conditions(&self, before: &[Condition], serving: i32, whole: &Result<(), String>) -> Vec<Condition> {
        let world = self.world;
        let accepted = self.problems.is_empty();
        let unavailable: u64 = world.words.values().flatten().map(|word| u64::from(word.unavailable)).sum();
        let under: u64 = world.words.values().flatten().map(|word| u64::from(word.under_replicated)).sum();
        let gateway_up = !self.ring.spec.gateway.enabled || self.gateway_ready > 0;
        let available = serving > 0 && unavailable == 0 && 2 * serving > world.replicas.unwrap_or(0) && gateway_up;
        let consistent = whole.is_ok();
        let replicated = serving > 0 && under == 0 && world.silent().is_empty();
        let progressing = !matches!(self.step, Step::Idle) && !world.paused;
        let (reason, message) = self.step.tell();
        let ready = accepted && available && consistent && replicated && !progressing && !world.paused;
        let problems = self.problems.join("; ");
        let sentence = |ok: bool, yes: &str, no: String| if ok { yes.to_owned() } else { no };
        let as_expected = |ok: bool, other: Reason| if ok { Reason::AsExpected } else { other };
        let why = whole.clone().err().unwrap_or_default();
        let (unready, why_unready) = if matches!(self.step, Step::Idle) && !gateway_up {
            (Reason::WaitingForGateway, "no pod of the gateway is ready".to_owned())
        } else {
            (reason, message.clone())
        };
        let set = [
            (
                types::ACCEPTED,
                accepted,
                as_expected(accepted, Reason::InvalidSpec),
                sentence(accepted, "the spec is valid", problems),
            ),
            (
                types::AVAILABLE,
                available,
                as_expected(available, unready),
                sentence(
                    available,
                    "every key can be read and written",
                    format!(
                        "{serving} members serve, {unavailable} shards have no leader, gateway pods ready: {}",
                        self.gateway_ready
                    ),
                ),
            ),
            (types::PROGRESSING, progressing, reason, message.clone()),
            (
                types::DEGRADED,
                accepted && !replicated && serving > 0,
                if replicated { Reason::AsExpected } else { reason },
                sentence(replicated, "nothing is lost", format!("{under} shards have too few copies")),
            ),
            (
                types::RING_CONSISTENT,
                consistent,
                as_expected(consistent, Reason::WaitingForHealthyRing),
                sentence(consistent, "all members agree and form one circle", why),
            ),
            (
                types::FULLY_REPLICATED,
                replicated,
                as_expected(replicated, reason),
                sentence(
                    replicated,
                    "every key has all its copies",
                    format!("{under} shards have too few copies, {} members are silent", world.silent().len()),
                ),
            ),
            (
                types::CERTIFICATES_READY,
                self.certificates.is_none(),
                as_expected(self.certificates.is_none(), Reason::CertificatesMissing),
                self.certificates.clone().unwrap_or_else(|| "certificates are valid".into()),
            ),
            (
                types::PAUSED,
                world.paused,
                if world.paused { Reason::Paused } else { Reason::AsExpected },
                sentence(world.paused, "nothing is changed while paused", "not paused".into()),
            ),
            (
                types::READY,
                ready,
                if ready { Reason::AsExpected } else { unready },
                sentence(ready, "ready", why_unready),
            ),
        ];
        set.into_iter()
            .map(|(r#type, status, reason, message)| self.condition(before, r#type, status, reason, message))
            .collect()
    }

    fn condition(
        &self,
        before: &[Condition],
        r#type: &str,
        status: bool,
        reason: Reason,
        message: String,
    ) -> Condition {
        let status = if status { "True" } else { "False" }.to_owned();
        let known = before.iter().find(|known| known.type_ == r#type && known.status == status);
        let last_transition_time =
            known.map_or_else(|| Time(now_in_seconds()), |known| known.last_transition_time.clone());
        let message = message.chars().take(1024).collect();
        Condition {
            type_: r#type.to_owned(),
            status,
            reason: format!("{reason:?}"),
            message,
            last_transition_time,
            observed_generation: self.ring.metadata.generation,
        }
    }
}

/// The status in the members' words, who hand it on to those who look at the ring.
pub fn told(ring: &ChordRing, status: &ChordRingStatus, operator_epoch: u64) -> v1::OperatorStatus {
    let count = |number: i32| u32::try_from(number).unwrap_or(0);
    let millis = |time: Timestamp| u64::try_from(time.as_millisecond()).unwrap_or(0);
    let step = |operation: &Operation| v1::OperatorStep {
        kind: operation.r#type.clone(),
        member: operation.member.clone(),
        progress: operation.progress.clone(),
    };
    let condition = |condition: &Condition| v1::OperatorCondition {
        r#type: condition.type_.clone(),
        status: condition.status.clone(),
        reason: condition.reason.clone(),
        message: condition.message.clone(),
        since_ms: millis(condition.last_transition_time.0),
    };
    v1::OperatorStatus {
        operator_epoch,
        at_ms: millis(Timestamp::now()),
        wanted: count(ring.spec.replicas),
        members: count(status.replicas),
        serving: count(status.ready_replicas),
        operation: status.operation.as_ref().map(step),
        conditions: status.conditions.iter().map(condition).collect(),
    }
}

/// Kubernetes keeps these times to the second.
fn now_in_seconds() -> Timestamp {
    Timestamp::from_second(Timestamp::now().as_second()).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Name for logs.
pub fn name_of(ring: &ChordRing) -> String {
    format!("{}/{}", ring.namespace().unwrap_or_default(), ring.name_any())
}
