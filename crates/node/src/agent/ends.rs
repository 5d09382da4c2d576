//! What the end of a container means for its task. Pure.

use runtime::{ExitReason, ExitStatus};
use types::TaskState;

/// The state and the error text of a task whose container ended; `unhealthy` says why it was stopped although it
/// should have gone on.
pub(super) fn of_exit(exit: &ExitStatus, was_asked: bool, unhealthy: Option<&str>) -> (TaskState, String) {
    if let Some(why) = unhealthy {
        // Docker's words, as far as they go: monitoring looks for them.
        return (TaskState::Failed, format!("task: non-zero exit ({}): unhealthy container: {why}", exit.code));
    }
    if was_asked {
        return (TaskState::Shutdown, String::new());
    }
    if exit.reason == ExitReason::ShimLost {
        let text = format!("task: non-zero exit ({}): its shim was killed, and the container with it", exit.code);
        return (TaskState::Failed, text);
    }
    if exit.oom_killed {
        let text = format!(
            "task: non-zero exit ({}): killed for want of memory; raise --limit-memory or make the task use less",
            exit.code
        );
        return (TaskState::Failed, text);
    }
    match (exit.code, exit.signal) {
        (0, _) => (TaskState::Complete, String::new()),
        (code, Some(signal)) => (TaskState::Failed, format!("task: non-zero exit ({code}): ended by signal {signal}")),
        (code, None) => (TaskState::Failed, format!("task: non-zero exit ({code})")),
    }
}

/// What a person reads for a state.
pub(super) fn message(state: TaskState) -> &'static str {
    match state {
        TaskState::Accepted => "accepted",
        TaskState::Preparing => "preparing",
        TaskState::Ready => "prepared",
        TaskState::Starting => "starting",
        TaskState::Running => "started",
        TaskState::Complete => "finished",
        TaskState::Shutdown => "shutdown",
        TaskState::Rejected => "preparing",
        _ => "started",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit(code: i32) -> ExitStatus {
        let reason = ExitReason::Observed;
        ExitStatus { code, signal: None, oom_killed: false, started_at_ns: 1, finished_at_ns: 2, reason }
    }

    #[test]
    fn ends_become_states_with_a_reason() {
        let text = |e: &ExitStatus, asked| {
            let (state, error) = of_exit(e, asked, None);
            format!("{state}: {error}")
        };
        assert_eq!(text(&exit(0), false), "complete: ");
        assert_eq!(text(&exit(3), false), "failed: task: non-zero exit (3)");
        assert_eq!(text(&exit(143), true), "shutdown: ");
        let (state, error) = of_exit(&exit(143), true, Some("health check failed once"));
        assert_eq!(
            format!("{state}: {error}"),
            "failed: task: non-zero exit (143): unhealthy container: health check failed once"
        );
        let killed = ExitStatus { signal: Some(9), ..exit(137) };
        assert_eq!(text(&killed, false), "failed: task: non-zero exit (137): ended by signal 9");
        assert!(text(&ExitStatus { oom_killed: true, ..killed.clone() }, false).contains("want of memory"));
        assert!(text(&ExitStatus { reason: ExitReason::ShimLost, ..killed }, false).contains("shim was killed"));
    }
}
