//! The plan that the process follows, with its number and its copy on the disk.
//!
//! [`super::worker`] owns it. Only what could be done at all becomes the plan.

use std::{path::Path, sync::Arc};

use super::{plan_file::PlanFile, worker::wall};
use crate::{NetworkPlan, PlanChange, plan::Problems};

/// A plan, or what makes it of the one that is held.
pub enum Given {
    Whole(Box<NetworkPlan>),
    Change { applies_to: u64, change: Box<PlanChange> },
}

/// Why what was given is not the plan now.
pub enum NotTaken {
    /// It is a change of another plan than the one that is held.
    OtherPlan,
    /// Nothing of it can be done, for this reason.
    Refused(String),
}

pub struct Held {
    plan: Option<Arc<NetworkPlan>>,
    /// Of the plan: another one for each, also in the next process.
    number: u64,
    /// Whether the file has it, or is about to.
    is_kept: bool,
    file: PlanFile,
}

impl Held {
    /// `plan` is what the file in this directory has.
    pub fn new(state_dir: &Path, plan: Option<NetworkPlan>) -> Self {
        let (is_kept, plan) = (plan.is_some(), plan.map(Arc::new));
        Self { is_kept, plan, number: wall().as_unix_ns(), file: PlanFile::new(state_dir) }
    }

    pub fn plan(&self) -> Option<&NetworkPlan> {
        self.plan.as_deref()
    }

    pub fn number(&self) -> u64 {
        self.number
    }

    /// What is given is the plan from now on; or the present one stays.
    pub fn take_over(&mut self, given: Given) -> Result<(), NotTaken> {
        match given {
            Given::Whole(plan) => {
                refusal(&plan).map_or(Ok(()), |why| Err(NotTaken::Refused(why)))?;
                self.is_kept &= self.plan.as_deref() == Some(&*plan);
                self.plan = Some(Arc::new(*plan));
            }
            Given::Change { applies_to, change } => {
                let held = self.plan.as_mut().filter(|_| applies_to == self.number);
                let plan = held.ok_or(NotTaken::OtherPlan)?;
                // All that can be refused is in there.
                let refused = change.rest.as_deref().and_then(refusal);
                refused.map_or(Ok(()), |why| Err(NotTaken::Refused(why)))?;
                let is_none = *change == PlanChange::default();
                // Copied if the file is being written.
                Arc::make_mut(plan).change(*change).map_err(|_| NotTaken::OtherPlan)?;
                self.is_kept &= is_none;
            }
        }
        self.number += 1;
        Ok(())
    }

    /// Has it written down where it is not. After the answer, and beside all else: a process that is killed before comes
    /// back with the plan of before, and is given this one by the daemon.
    pub fn keep(&mut self) {
        let Some(plan) = self.plan.as_ref().filter(|_| !self.is_kept) else { return };
        self.file.write(Arc::clone(plan));
        self.is_kept = true;
    }
}

/// Why nothing of the plan can be done, if so.
fn refusal(plan: &NetworkPlan) -> Option<String> {
    let Problems { host, .. } = plan.problems();
    (!host.is_empty()).then(|| host.join("; "))
}
