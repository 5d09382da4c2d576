//! When a job runs by itself, and where a user may say so: in the spec, and in labels, which clients that know only
//! Docker's API can set.
//!
//! Read by admission and by the front ends. What the expression means is for `control`, which knows calendars.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{Labels, ServiceSpec};

/// Label of a service with the effect of [`ScheduleSpec::cron`].
pub const SCHEDULE_LABEL: &str = "rswarm.schedule";
/// Label of a service with the effect of [`ScheduleSpec::timezone`].
pub const SCHEDULE_TIMEZONE_LABEL: &str = "rswarm.schedule.timezone";
/// Label of a service with the effect of [`ScheduleSpec::concurrency`].
pub const SCHEDULE_CONCURRENCY_LABEL: &str = "rswarm.schedule.concurrency";

/// Each time that it names begins a new iteration of the job (P26).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ScheduleSpec {
    /// Five fields as in crontab: minute, hour, day of the month, month, day of the week.
    pub cron: String,
    /// A name such as `Europe/Berlin`; empty means UTC.
    pub timezone: String,
    pub concurrency: ScheduleConcurrency,
}

/// What happens when a run is due while the one before it has not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum ScheduleConcurrency {
    /// It is left out.
    #[default]
    Skip,
    /// The tasks of the one before are stopped.
    Replace,
    /// It begins when the one before has ended; several that are due meanwhile are one.
    Queue,
}

/// Why a text says nothing about a schedule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    #[error("{0:?} is no schedule concurrency; use skip, replace or queue")]
    Concurrency(String),
    #[error("label {0} says nothing without label {SCHEDULE_LABEL}: give the schedule too")]
    Alone(&'static str),
    #[error("label {0}={1} contradicts the spec, which says {2:?}: change one of them")]
    Contradiction(&'static str, String, String),
    #[error("label {0}: {1}")]
    Label(&'static str, Box<ScheduleError>),
}

impl ScheduleConcurrency {
    /// The word of API and command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Skip => "skip",
            Self::Replace => "replace",
            Self::Queue => "queue",
        }
    }
}

impl FromStr for ScheduleConcurrency {
    type Err = ScheduleError;

    fn from_str(text: &str) -> Result<Self, ScheduleError> {
        let all = [Self::Skip, Self::Replace, Self::Queue];
        all.into_iter().find(|word| word.as_str() == text).ok_or_else(|| ScheduleError::Concurrency(text.to_owned()))
    }
}

impl fmt::Display for ScheduleConcurrency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl ServiceSpec {
    /// When the job runs: what the spec says, or what its labels do where that says nothing.
    ///
    /// # Errors
    /// A label says nothing that is known, or something else than the spec.
    pub fn schedule(&self) -> Result<Option<ScheduleSpec>, ScheduleError> {
        let labelled = labelled(&self.labels)?;
        let (Some(said), Some(wanted)) = (&self.schedule, &labelled) else {
            return Ok(self.schedule.clone().or(labelled));
        };
        let pairs = [
            (SCHEDULE_LABEL, said.cron.as_str(), wanted.cron.as_str()),
            (SCHEDULE_TIMEZONE_LABEL, said.timezone.as_str(), wanted.timezone.as_str()),
            (SCHEDULE_CONCURRENCY_LABEL, said.concurrency.as_str(), wanted.concurrency.as_str()),
        ];
        match pairs.into_iter().find(|(_, said, wanted)| said != wanted) {
            Some((label, said, wanted)) => Err(ScheduleError::Contradiction(label, wanted.to_owned(), said.to_owned())),
            None => Ok(Some(said.clone())),
        }
    }
}

fn labelled(labels: &Labels) -> Result<Option<ScheduleSpec>, ScheduleError> {
    let Some(cron) = labels.get(SCHEDULE_LABEL) else {
        let others = [SCHEDULE_TIMEZONE_LABEL, SCHEDULE_CONCURRENCY_LABEL];
        let alone = others.into_iter().find(|label| labels.contains_key(*label));
        return alone.map_or(Ok(None), |label| Err(ScheduleError::Alone(label)));
    };
    let concurrency = labels.get(SCHEDULE_CONCURRENCY_LABEL).map(|text| text.parse()).transpose();
    let concurrency = concurrency.map_err(|why| ScheduleError::Label(SCHEDULE_CONCURRENCY_LABEL, Box::new(why)))?;
    Ok(Some(ScheduleSpec {
        cron: cron.clone(),
        timezone: labels.get(SCHEDULE_TIMEZONE_LABEL).cloned().unwrap_or_default(),
        concurrency: concurrency.unwrap_or_default(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p26_labels_say_what_the_spec_does_not() {
        let labels = |pairs: &[(&str, &str)]| -> Labels {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        let whole = labels(&[
            (SCHEDULE_LABEL, "0 3 * * *"),
            (SCHEDULE_TIMEZONE_LABEL, "Europe/Berlin"),
            (SCHEDULE_CONCURRENCY_LABEL, "queue"),
        ]);
        let found = labelled(&whole).expect("good labels").expect("a schedule");
        assert_eq!((found.cron.as_str(), found.timezone.as_str()), ("0 3 * * *", "Europe/Berlin"));
        assert_eq!(found.concurrency, ScheduleConcurrency::Queue);
        assert_eq!(labelled(&Labels::new()), Ok(None));
        let alone = labelled(&labels(&[(SCHEDULE_TIMEZONE_LABEL, "UTC")])).expect_err("a zone of nothing");
        assert_eq!(
            alone.to_string(),
            "label rswarm.schedule.timezone says nothing without label rswarm.schedule: give the schedule too"
        );
        let bad = labelled(&labels(&[(SCHEDULE_LABEL, "@daily"), (SCHEDULE_CONCURRENCY_LABEL, "allow")]));
        assert_eq!(
            bad.expect_err("an unknown word").to_string(),
            "label rswarm.schedule.concurrency: \"allow\" is no schedule concurrency; use skip, replace or queue"
        );
    }
}
