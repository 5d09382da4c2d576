//! Words for how a service's tasks are spread, moved and given room, written in labels, which every client of Docker's
//! API can set.
//!
//! Read by admission, by the planner and by the front ends. Where tasks may run at all is [`crate::Placement`]'s.

use std::{fmt, str::FromStr};

use crate::{ClusterSpec, Labels, ServiceSpec};

/// Label of a service with the effect of [`Steering::strategy`].
pub const STRATEGY_LABEL: &str = "rswarm.placement.strategy";
/// Label of a service with the effect of [`Steering::rebalance`]; of the cluster, for services that say nothing.
pub const REBALANCE_LABEL: &str = "rswarm.rebalance";
/// Label of the cluster: so many tasks of all services move at once, where the services alone would allow more.
pub const REBALANCE_BUDGET_LABEL: &str = "rswarm.rebalance.budget";
/// Label of a service with the effect of [`Steering::priority`].
pub const PRIORITY_LABEL: &str = "rswarm.priority";
/// Label of a service with the effect of [`Steering::follows_volumes`].
pub const ON_MISSING_LABEL: &str = "rswarm.volumes.on-missing";
/// Label of a service with the effect of [`Steering::pull`].
pub const PULL_LABEL: &str = "rswarm.image.pull";
/// Label of a service with the effect of [`Steering::stable_ip`].
pub const STABLE_IP_LABEL: &str = "rswarm.network.stable-ip";
/// Label of the cluster with the effect of [`ClusterSpec::privileged_services`].
pub const PRIVILEGED_LABEL: &str = "rswarm.privileged";
/// Above what any user will count to, and the same below.
pub const MAX_PRIORITY: i16 = 1000;

/// What labels of a service say to the planner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Steering {
    pub strategy: Strategy,
    /// When running tasks move to where the service is more even (P19); `None` as the cluster says.
    pub rebalance: Option<RebalancePolicy>,
    /// Tasks of higher priority are placed first, and where there is no room those of lower priority make some.
    pub priority: i16,
    /// What becomes of a task whose volume is on a node that does not take it.
    pub on_missing: OnMissing,
    /// Whether nodes ask a registry for the service's images.
    pub pull: PullPolicy,
    /// A slot's next task has the addresses of the one before, unless that one still has them or somebody took them (P42).
    pub stable_ip: bool,
}

/// When a node asks a registry for the image of a task (P48).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PullPolicy {
    /// When neither it nor another node has the image.
    #[default]
    Missing,
    /// For each task, unless the digest says what it is. A registry that does not answer is an error.
    Always,
    /// Never: what no node has is an error.
    Never,
}

/// When running tasks move without being asked to (P19).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RebalancePolicy {
    /// Never. A service that says so itself is left alone by requests, too.
    #[default]
    Off,
    /// To nodes that came or came back after the task was made.
    OnJoin,
    /// Whenever that evens the service out.
    Continuous,
}

/// A named volume of the local driver is on one node. A task that once ran with it there does not run elsewhere with
/// an empty one, unless that is said (P41).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnMissing {
    /// The task waits for the node with its data.
    #[default]
    Wait,
    /// It gets a new volume elsewhere, as with Docker.
    Create,
}

/// Which of the nodes that take a task gets it (P49).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Strategy {
    /// The one with fewest tasks of the service, then the least loaded. Of tasks that reserve processors or memory each
    /// node gets one, then the least loaded has the next.
    #[default]
    Spread,
    /// The most loaded: the others stay free for what is large, or can be switched off.
    BinPack,
}

/// Why a label steers nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SteeringError {
    #[error("label {STRATEGY_LABEL}: {0:?} is no placement strategy; use spread or binpack")]
    Strategy(String),
    #[error("label {REBALANCE_LABEL}: {0:?} is no rebalance policy; use off, on-join or continuous")]
    Rebalance(String),
    #[error(
        "label {REBALANCE_BUDGET_LABEL}: {0:?} is no number of tasks; use a whole number, 0 for no limit of all services together"
    )]
    Budget(String),
    #[error("label {ON_MISSING_LABEL}: {0:?} says nothing about missing volumes; use wait or create")]
    OnMissing(String),
    #[error("label {STABLE_IP_LABEL}: {0:?} is neither true nor false")]
    StableIp(String),
    #[error("label {PRIVILEGED_LABEL}: {0:?} is neither allowed nor denied")]
    Privileged(String),
    #[error("label {PULL_LABEL}: {0:?} is no pull policy; use missing, always or never")]
    Pull(String),
    #[error("label {PRIORITY_LABEL}: {0:?} is no priority; use a whole number from -{MAX_PRIORITY} to {MAX_PRIORITY}")]
    Priority(String),
}

impl Strategy {
    /// The word of API and command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Spread => "spread",
            Self::BinPack => "binpack",
        }
    }
}

impl FromStr for Strategy {
    type Err = SteeringError;

    fn from_str(text: &str) -> Result<Self, SteeringError> {
        let all = [Self::Spread, Self::BinPack];
        all.into_iter().find(|word| word.as_str() == text).ok_or_else(|| SteeringError::Strategy(text.to_owned()))
    }
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl RebalancePolicy {
    /// The word of API and command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::OnJoin => "on-join",
            Self::Continuous => "continuous",
        }
    }
}

impl FromStr for RebalancePolicy {
    type Err = SteeringError;

    fn from_str(text: &str) -> Result<Self, SteeringError> {
        match text {
            "off" => Ok(Self::Off),
            "on-join" => Ok(Self::OnJoin),
            // the word of clusters that knew one policy only
            "continuous" | "on" => Ok(Self::Continuous),
            other => Err(SteeringError::Rebalance(other.to_owned())),
        }
    }
}

impl fmt::Display for RebalancePolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl ClusterSpec {
    /// When tasks of services that say nothing move, and how many of all services at once; 0 is no limit.
    ///
    /// # Errors
    /// A label says nothing that is known.
    pub fn rebalance(&self) -> Result<(RebalancePolicy, u32), SteeringError> {
        let text = |label: &str| self.labels.get(label).map(String::as_str);
        let policy = text(REBALANCE_LABEL).map(str::parse).transpose()?.unwrap_or_default();
        let budget =
            text(REBALANCE_BUDGET_LABEL).map(|text| text.parse().map_err(|_| SteeringError::Budget(text.to_owned())));
        Ok((policy, budget.transpose()?.unwrap_or(0)))
    }

    /// Whether services may have what lets a container take its host over (P13).
    ///
    /// # Errors
    /// A label says nothing that is known.
    pub fn privileged_services(&self) -> Result<bool, SteeringError> {
        match self.labels.get(PRIVILEGED_LABEL).map(String::as_str) {
            None | Some("allowed") => Ok(true),
            Some("denied") => Ok(false),
            Some(other) => Err(SteeringError::Privileged(other.to_owned())),
        }
    }
}

impl ServiceSpec {
    /// What its labels say to the planner.
    ///
    /// # Errors
    /// A label says nothing that is known.
    pub fn steering(&self) -> Result<Steering, SteeringError> {
        steering(&self.labels)
    }
}

fn steering(labels: &Labels) -> Result<Steering, SteeringError> {
    let text = |label: &str| labels.get(label).map(String::as_str);
    let strategy = text(STRATEGY_LABEL).map(str::parse).transpose()?.unwrap_or_default();
    let rebalance = text(REBALANCE_LABEL).map(str::parse).transpose()?;
    let priority = text(PRIORITY_LABEL).map(priority).transpose()?.unwrap_or(0);
    let on_missing = match text(ON_MISSING_LABEL) {
        None | Some("wait") => OnMissing::Wait,
        Some("create") => OnMissing::Create,
        Some(other) => return Err(SteeringError::OnMissing(other.to_owned())),
    };
    let stable_ip = match text(STABLE_IP_LABEL) {
        None | Some("false") => false,
        Some("true") => true,
        Some(other) => return Err(SteeringError::StableIp(other.to_owned())),
    };
    Ok(Steering { strategy, rebalance, priority, on_missing, pull: pull_policy(labels)?, stable_ip })
}

/// What a service's labels say of its images.
///
/// # Errors
/// The label says nothing that is known.
pub fn pull_policy(labels: &Labels) -> Result<PullPolicy, SteeringError> {
    match labels.get(PULL_LABEL).map(String::as_str) {
        None | Some("missing") => Ok(PullPolicy::Missing),
        Some("always") => Ok(PullPolicy::Always),
        Some("never") => Ok(PullPolicy::Never),
        Some(other) => Err(SteeringError::Pull(other.to_owned())),
    }
}

fn priority(text: &str) -> Result<i16, SteeringError> {
    let number = text.parse().ok().filter(|number| (-MAX_PRIORITY..=MAX_PRIORITY).contains(number));
    number.ok_or_else(|| SteeringError::Priority(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, &str)]) -> Result<Steering, SteeringError> {
        steering(&pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn p19_p48_p49_labels_steer_or_are_refused_with_the_words_to_use() {
        let all = of(&[(STRATEGY_LABEL, "binpack"), (REBALANCE_LABEL, "on"), (PRIORITY_LABEL, "-5")]);
        assert_eq!(
            all,
            Ok(Steering {
                strategy: Strategy::BinPack,
                rebalance: Some(RebalancePolicy::Continuous),
                priority: -5,
                ..Steering::default()
            })
        );
        for policy in [RebalancePolicy::Off, RebalancePolicy::OnJoin, RebalancePolicy::Continuous] {
            let said = of(&[(REBALANCE_LABEL, policy.as_str())]);
            assert_eq!(said, Ok(Steering { rebalance: Some(policy), ..Steering::default() }));
        }
        let refused = |label, text| of(&[(label, text)]).expect_err(text).to_string();
        assert_eq!(
            refused(STRATEGY_LABEL, "random"),
            "label rswarm.placement.strategy: \"random\" is no placement strategy; use spread or binpack"
        );
        assert_eq!(
            refused(REBALANCE_LABEL, "true"),
            "label rswarm.rebalance: \"true\" is no rebalance policy; use off, on-join or continuous"
        );
        assert_eq!(
            refused(ON_MISSING_LABEL, "delete"),
            "label rswarm.volumes.on-missing: \"delete\" says nothing about missing volumes; use wait or create"
        );
        assert_eq!(of(&[(PULL_LABEL, "never")]), Ok(Steering { pull: PullPolicy::Never, ..Steering::default() }));
        assert_eq!(
            refused(PULL_LABEL, "daily"),
            "label rswarm.image.pull: \"daily\" is no pull policy; use missing, always or never"
        );
        assert_eq!(of(&[(STABLE_IP_LABEL, "true")]), Ok(Steering { stable_ip: true, ..Steering::default() }));
        assert_eq!(
            refused(STABLE_IP_LABEL, "yes"),
            "label rswarm.network.stable-ip: \"yes\" is neither true nor false"
        );
        let cluster = |pairs: &[(&str, &str)]| {
            let labels = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
            ClusterSpec { labels, ..ClusterSpec::default() }.rebalance()
        };
        assert_eq!(cluster(&[]), Ok((RebalancePolicy::Off, 0)));
        let said = cluster(&[(REBALANCE_LABEL, "on-join"), (REBALANCE_BUDGET_LABEL, "2")]);
        assert_eq!(said, Ok((RebalancePolicy::OnJoin, 2)));
        let refused_budget = cluster(&[(REBALANCE_BUDGET_LABEL, "-1")]).expect_err("below nothing").to_string();
        assert!(refused_budget.contains("\"-1\" is no number of tasks"), "{refused_budget}");
        for bad in ["1001", "-1001", "1.5", "high", ""] {
            assert!(refused(PRIORITY_LABEL, bad).ends_with("use a whole number from -1000 to 1000"), "{bad}");
        }
    }
}
