//! What a node has been told, and what to tell it next. Pure; one per session.

use control::{Tables, assignments::Slice};
use proto::v1::{Assignments, assignments::Content};
use types::NodeId;

#[derive(Debug)]
pub(crate) struct Assigner {
    node: NodeId,
    told: Option<Slice>,
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
        let (wanted, applies_to, content) = match &self.told {
            None => {
                let wanted = Slice::new(tables, self.node);
                let content = Content::Whole(proto::encode(&wanted.whole()));
                (wanted, 0, Some(content))
            }
            Some(told) => {
                let wanted = told.next(tables, self.node);
                let difference = told.diff(&wanted);
                (wanted, self.number, difference.map(|d| Content::Difference(proto::encode(&d))))
            }
        };
        // kept even if it is equal: the older one would keep parts of an older value in memory
        self.told = Some(wanted);
        let content = Some(content?);
        self.number += 1;
        Some(Assignments { applies_to, results_in: self.number, content })
    }
}
