//! What is new in the operator's word. Pure.
use crate::schema::{Operation, OperatorStatus};

/// An event in the making.
#[derive(PartialEq, Eq, Debug)]
pub struct News {
    pub kind: &'static str,
    /// Name of the member it is about.
    pub member: Option<String>,
    pub message: String,
}

/// From one word to the next; of the first one only what is under way, else all conditions would be news.
pub fn news(before: Option<&OperatorStatus>, now: &OperatorStatus) -> Vec<News> {
    let mut news = Vec::new();
    let same = |one: &Operation, other: &Operation| (&one.kind, &one.member) == (&other.kind, &other.member);
    let (old, new) = (before.and_then(|before| before.operation.as_ref()), now.operation.as_ref());
    let goes_on = old.zip(new).is_some_and(|(old, new)| same(old, new));
    let mut tell = |operation: &Operation, what: &str| {
        let message = format!("{} of {} {what}", operation.kind, operation.member);
        news.push(News { kind: "operation", member: Some(operation.member.clone()), message });
    };
    if !goes_on {
        old.into_iter().for_each(|operation| tell(operation, "is over"));
        new.into_iter().for_each(|operation| tell(operation, &format!("begins: {}", operation.progress)));
    }
    for condition in &now.conditions {
        let known = before.and_then(|before| before.conditions.iter().find(|known| known.kind == condition.kind));
        if known.is_some_and(|known| known.status != condition.status) {
            let message =
                format!("{} is {} ({}): {}", condition.kind, condition.status, condition.reason, condition.message);
            news.push(News { kind: "condition", member: None, message });
        }
    }
    news
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{Condition, Count};

    fn word(operation: Option<(&str, &str)>, ready: &str) -> OperatorStatus {
        let operation = operation.map(|(kind, member)| Operation {
            kind: kind.into(),
            member: member.into(),
            progress: "12 shards to go".into(),
        });
        let condition = Condition {
            kind: "Ready".into(),
            status: ready.into(),
            reason: "MemberJoining".into(),
            message: "shards are on their way".into(),
            since: 1,
        };
        let [wanted, members, serving] = [Count(3); 3];
        OperatorStatus { at: 1, wanted, members, serving, operation, conditions: vec![condition] }
    }

    fn told(before: Option<&OperatorStatus>, now: &OperatorStatus) -> Vec<String> {
        news(before, now).into_iter().map(|news| news.message).collect()
    }

    #[test]
    fn a_scale_is_told_step_by_step_and_progress_is_no_news() {
        let idle = word(None, "True");
        let join = word(Some(("Join", "demo-node-3")), "True");
        assert_eq!(told(Some(&idle), &join), ["Join of demo-node-3 begins: 12 shards to go"]);
        let mut later = join.clone();
        later.operation.as_mut().expect("it joins").progress = "3 shards to go".into();
        assert_eq!(told(Some(&join), &later), [""; 0]);
        let next = word(Some(("Join", "demo-node-4")), "True");
        let [over, begins] = &told(Some(&later), &next)[..] else { panic!("one ends, one begins") };
        assert!(over.contains("demo-node-3 is over") && begins.contains("demo-node-4 begins"));
        assert_eq!(told(Some(&next), &idle), ["Join of demo-node-4 is over"]);
    }

    #[test]
    fn conditions_are_news_when_they_change() {
        let (good, bad) = (word(None, "True"), word(None, "False"));
        assert_eq!(told(Some(&good), &bad), ["Ready is False (MemberJoining): shards are on their way"]);
        assert_eq!(told(Some(&bad), &bad), [""; 0]);
        assert_eq!(told(None, &bad), [""; 0], "what was so before anybody looked is not new");
    }
}
