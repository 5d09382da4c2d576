//! How a job stands: which iteration it is in, and when the next begins.
//!
//! Changed by admission and by the planner; read by the orchestrators of jobs and by the front ends.

use serde::{Deserialize, Serialize};

use crate::Timestamp;

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct JobStatus {
    /// Counts from 0. A task of another iteration is history.
    pub iteration: u64,
    /// When the iteration began. `None`: the job has never run, and waits for `next_run`.
    pub last_execution: Option<Timestamp>,
    /// When the schedule is due next; in the past while a run that is due waits for the one before it.
    pub next_run: Option<Timestamp>,
    /// The last due time that was left out because the run before it had not ended.
    pub skipped: Option<Timestamp>,
}

impl JobStatus {
    /// One that waits for its first run.
    pub fn waiting() -> Self {
        Self::default()
    }

    /// The same job beginning to run at `now`: a new iteration, except that the first is number 0.
    #[must_use]
    pub fn begun(&self, now: Timestamp) -> Self {
        let iteration = self.iteration + u64::from(self.last_execution.is_some());
        Self { iteration, last_execution: Some(now), ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_iteration_is_number_0_and_each_run_counts_on() {
        let first = JobStatus::waiting().begun(Timestamp::from_unix_ms(1));
        assert_eq!((first.iteration, first.last_execution), (0, Some(Timestamp::from_unix_ms(1))));
        let second = first.begun(Timestamp::from_unix_ms(2));
        assert_eq!((second.iteration, second.last_execution), (1, Some(Timestamp::from_unix_ms(2))));
    }
}
