//! What a node has been told, and what to tell it next. Pure; one per session.

use control::{Tables, assignments};
use proto::v1::{Assignments, assignments::Content};
use types::{AssignmentSet, NodeId};

#[derive(Debug)]
pub(crate) struct Assigner {
    node: NodeId,
    told: Option<AssignmentSet>,
    /// Of the last message; grows by one.
    number: u64,
}

impl Assigner {
    pub(crate) fn new(node: NodeId) -> Self {
        Self { node, told: None, number: 0 }
    }

    /// The next message is whole again.
    pub(crate) fn forget(&mut self) {
        self.told = None;
    }

    /// What brings the node from what it was told to what the value says; `None` if that is the same.
    pub(crate) fn next(&mut self, tables: &Tables) -> Option<Assignments> {
        let wanted = assignments::of_node(tables, self.node);
        let message = match &self.told {
            None => Assignments {
                applies_to: 0,
                results_in: self.number + 1,
                content: Some(Content::Whole(proto::encode(&wanted))),
            },
            Some(told) => Assignments {
                applies_to: self.number,
                results_in: self.number + 1,
                content: Some(Content::Difference(proto::encode(&assignments::diff(told, &wanted)?))),
            },
        };
        self.number += 1;
        self.told = Some(wanted);
        Some(message)
    }
}
