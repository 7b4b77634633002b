//! What the operator told this node, for those who look. In memory: it tells again soon.
use chord_proto::v1::{OperatorStatus, ReportRequest};
use std::sync::{Arc, Mutex, PoisonError};
use tonic::Status;

const CONDITIONS_MAX: usize = 32;
/// Of each text.
const TEXT_BYTES_MAX: usize = 4096;

/// The last word, shared by who takes it in and who shows it.
#[derive(Clone, Default)]
pub struct Told(Arc<Mutex<Option<OperatorStatus>>>);

impl Told {
    /// Takes in a word; one that is older than the last is passed over.
    ///
    /// # Errors
    /// `InvalidArgument` that names what is missing or too much; `Aborted` for an operator that another one followed.
    pub fn tell(&self, request: ReportRequest) -> Result<(), Status> {
        let status = request.status.ok_or_else(|| Status::invalid_argument("status: is missing"))?;
        if status.conditions.len() > CONDITIONS_MAX {
            return Err(Status::invalid_argument(format!("conditions: at most {CONDITIONS_MAX}")));
        }
        if texts(&status).any(|text| text.len() > TEXT_BYTES_MAX) {
            return Err(Status::invalid_argument(format!("status: a text has more than {TEXT_BYTES_MAX} bytes")));
        }
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let age = |status: &OperatorStatus| (status.operator_epoch, status.at_ms);
        if last.as_ref().is_some_and(|last| status.operator_epoch < last.operator_epoch) {
            return Err(Status::aborted("another operator has taken over"));
        }
        if last.as_ref().map(age) < Some(age(&status)) {
            *last = Some(status);
        }
        Ok(())
    }

    /// The last word.
    pub fn last(&self) -> Option<OperatorStatus> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn texts(status: &OperatorStatus) -> impl Iterator<Item = &String> {
    let step = status.operation.iter().flat_map(|step| [&step.kind, &step.member, &step.progress]);
    step.chain(status.conditions.iter().flat_map(|it| [&it.r#type, &it.status, &it.reason, &it.message]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use chord_proto::v1::OperatorCondition;

    fn word(operator_epoch: u64, at_ms: u64) -> ReportRequest {
        ReportRequest { status: Some(OperatorStatus { operator_epoch, at_ms, ..OperatorStatus::default() }) }
    }

    #[test]
    fn the_newest_word_of_the_newest_operator_counts() {
        let told = Told::default();
        let at = || told.last().map(|status| status.at_ms);
        assert_eq!(at(), None);
        told.tell(word(2, 20)).unwrap();
        told.tell(word(2, 10)).unwrap();
        assert_eq!(at(), Some(20), "one that was overtaken on its way");
        assert_eq!(told.tell(word(1, 90)).unwrap_err().code(), tonic::Code::Aborted);
        told.tell(word(3, 5)).unwrap();
        assert_eq!(at(), Some(5), "another operator's clock may be behind");
    }

    #[test]
    fn a_word_is_bounded() {
        let told = Told::default();
        let refused = |request| told.tell(request).unwrap_err().message().to_owned();
        assert!(refused(ReportRequest { status: None }).contains("missing"));
        let mut many = word(1, 1);
        many.status.as_mut().unwrap().conditions = vec![OperatorCondition::default(); CONDITIONS_MAX + 1];
        assert!(refused(many).contains("at most"));
        let mut long = word(1, 1);
        let message = "x".repeat(TEXT_BYTES_MAX + 1);
        long.status.as_mut().unwrap().conditions = vec![OperatorCondition { message, ..OperatorCondition::default() }];
        assert!(refused(long).contains("4096"));
        assert!(told.last().is_none());
    }
}
