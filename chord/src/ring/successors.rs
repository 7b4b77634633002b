//! The successor list and its one repair.
use crate::{
    id::{Id, between},
    member::NodeRef,
};

/// `first` followed by `rest`, as the successor list of the node at `me`: cut at `me` itself, at a repetition,
/// where the order would wrap, and at `length`. A list shorter than `length` means: this is everybody.
pub fn cut(me: Id, first: NodeRef, rest: &[NodeRef], length: usize) -> Vec<NodeRef> {
    let mut list: Vec<NodeRef> = Vec::with_capacity(length);
    for node in std::iter::once(first).chain(rest.iter().cloned()) {
        let ordered = list.last().is_none_or(|last| between(last.id(), node.id(), me));
        if node.id() == me || !ordered || list.len() >= length {
            break;
        }
        list.push(node);
    }
    list
}
