//! What a message of the protocol means, for people who see it for the first time.
use super::schema::Saying;
use chord::{
    io::Outcome,
    msg::{RingReply, RingRequest, ShardKind},
};

/// What a question says; `None`: routine that would only drown the rest.
pub fn question(request: &RingRequest, from: &str, to: &str) -> Option<Saying> {
    let (title, text) = match request {
        RingRequest::Join { .. } => (
            "join",
            format!(
                "{from} asks {to} to adopt it. The one member that may is its predecessor-to-be: it puts the newcomer \
                 at the head of its own successor list in the same step in which it says yes, so that the newcomer is \
                 in the ring at once, even if everything else fails now. (In the paper of 2001 nobody points to a \
                 newcomer until it has stabilized; if its successor dies before that, it is lost.)"
            ),
        ),
        RingRequest::GetSuccessorList => (
            "stabilize",
            format!(
                "{from} asks {to} for its predecessor and successors. If {to}'s predecessor lies between them, that \
                 one is {from}'s successor now. Its own list becomes {to} and what follows {to}."
            ),
        ),
        RingRequest::Notify { .. } => (
            "notify",
            format!(
                "{from} tells {to}: I might be your predecessor. {to} looks whether that is closer than the one it has."
            ),
        ),
        RingRequest::Leave { .. } => (
            "leave",
            format!(
                "{from} tells {to} that it goes, and who is next to it, so that the gap is closed without waiting for a timeout."
            ),
        ),
        RingRequest::FindSuccessor { trace: true, .. } => {
            ("lookup", format!("{from} hands the question on to {to}, the closest it knows before the key."))
        }
        RingRequest::ClosestPrecedingFinger { as_owner: true, .. } => {
            ("lookup", format!("{from} takes {to} for the owner of the key, and asks it whether anybody came between."))
        }
        RingRequest::ClosestPrecedingFinger { .. } => {
            ("lookup", format!("{from} asks {to}: whom do you know that is closest before the key?"))
        }
        _ => return None,
    };
    Some(Saying { title, text })
}

/// What an answer says, where it settles something.
pub fn answer(reply: &RingReply, from: &str, to: &str) -> Option<Saying> {
    use chord::msg::JoinReply;
    let (title, text) = match reply {
        RingReply::Join(JoinReply::Accepted { .. }) => {
            ("adopted", format!("{from} has adopted {to}, and gives it its successors and the list of members."))
        }
        RingReply::Join(JoinReply::Redirect(node)) => {
            ("not mine", format!("{to} does not belong behind {from}; it should ask {}.", node.name))
        }
        _ => return None,
    };
    Some(Saying { title, text })
}

/// What a message about a shard says, where keys move or responsibility does.
pub fn shard(kind: &ShardKind, from: &str, to: &str) -> Option<Saying> {
    let (title, text) = match kind {
        ShardKind::Seal { .. } => (
            "seal",
            format!(
                "{from} asks {to} to take no more writes for the shard under its present set of replicas. When most \
                 have sealed, nothing acknowledged can be missing from what is handed over."
            ),
        ),
        ShardKind::Install { records, pre_copy, .. } if !records.is_empty() => {
            let when = if *pre_copy { "ahead of the change, while writes go on" } else { "as the last part" };
            ("transfer", format!("{from} sends {} of the shard's keys to {to}, {when}.", records.len()))
        }
        ShardKind::TransferChunk { records, .. } if !records.is_empty() => {
            ("transfer", format!("{from} sends {} of the shard's keys to {to}.", records.len()))
        }
        ShardKind::Write { .. } => (
            "write",
            format!(
                "{from} leads the key's shard and sends the write to {to}. It is acknowledged when most replicas have it on disk."
            ),
        ),
        _ => return None,
    };
    Some(Saying { title, text })
}

/// How an operation of a client ended.
pub fn outcome(what: &str, outcome: &Outcome) -> String {
    match outcome {
        Outcome::Value(Some((value, ..))) => format!("{what}: “{}”", String::from_utf8_lossy(value)),
        Outcome::Value(None) => format!("{what}: there is no such key"),
        Outcome::Written(_) => format!("{what}: acknowledged by most replicas"),
        Outcome::Path { hops, owner } => {
            let way: Vec<&str> = hops.iter().map(|hop| hop.node.name.as_str()).collect();
            format!("{what}: {} owns it; the way was {}", owner.name, way.join(" → "))
        }
        Outcome::NotLeader(_) | Outcome::Unavailable(_) => {
            format!("{what}: no majority of its replicas was reached in time")
        }
        Outcome::Unknown(why) => format!("{what}: whether it took effect is not known ({why})"),
        other => format!("{what}: {other:?}"),
    }
}
