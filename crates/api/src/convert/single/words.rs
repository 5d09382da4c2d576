//! Words that people read in `docker ps`.

use node::engine::containers::{ContainerStatusView, ContainerView, HealthState};
use types::Timestamp;

/// `Up 5 seconds (healthy)`, `Exited (1) About an hour ago`, as moby's `container.State` says it.
pub(crate) fn status(view: &ContainerView, now: Timestamp) -> String {
    let state = &view.state;
    let since = |time: Timestamp| duration(now.since(time).as_secs());
    match view.status {
        ContainerStatusView::Created => "Created".to_owned(),
        ContainerStatusView::Paused => format!("Up {} (Paused)", since(state.started_at)),
        ContainerStatusView::Restarting => {
            format!("Restarting ({}) {} ago", state.exit_code, since(state.finished_at))
        }
        ContainerStatusView::Exited => format!("Exited ({}) {} ago", state.exit_code, since(state.finished_at)),
        ContainerStatusView::Running => {
            let health = match view.health.as_ref().map(|health| health.state) {
                None => "",
                Some(HealthState::Starting) => " (health: starting)",
                Some(HealthState::Healthy) => " (healthy)",
                Some(HealthState::Unhealthy) => " (unhealthy)",
            };
            format!("Up {}{health}", since(state.started_at))
        }
    }
}

/// go-units' `HumanDuration`, which users know from every listing.
fn duration(seconds: u64) -> String {
    let (minutes, hours) = (seconds / 60, (seconds + 1800) / 3600);
    match seconds {
        0 => "Less than a second".to_owned(),
        1 => "1 second".to_owned(),
        _ if seconds < 60 => format!("{seconds} seconds"),
        _ if minutes == 1 => "About a minute".to_owned(),
        _ if minutes < 60 => format!("{minutes} minutes"),
        _ if hours == 1 => "About an hour".to_owned(),
        _ if hours < 48 => format!("{hours} hours"),
        _ if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        _ if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        _ if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", hours / 24 / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_go_units() {
        for (seconds, text) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (150, "2 minutes"),
            (3600, "About an hour"),
            (7200, "2 hours"),
            (3 * 86400, "3 days"),
            (21 * 86400, "3 weeks"),
            (90 * 86400, "3 months"),
            (3 * 365 * 86400, "3 years"),
        ] {
            assert_eq!(duration(seconds), text);
        }
    }
}
