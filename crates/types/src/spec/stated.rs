//! What of a service's spec its user said, where saying nothing means the same.

use serde::{Deserialize, Serialize};

/// A part of a service's spec that has a default. Kept so that a spec is shown as it was given; nothing else follows
/// from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Stated {
    StopGracePeriod,
    Dns,
    Resources,
    Limits,
    Reservations,
    RestartPolicy,
    RestartDelay,
    RestartWindow,
    Placement,
    UpdateConfig,
    UpdateMonitor,
    RollbackConfig,
    RollbackMonitor,
    Endpoint,
}
