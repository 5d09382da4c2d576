//! Texts in, texts out. A line of assignments: `1 running` (id, desired), then `was=STATE`,
//! `after=SECONDS`, `net=1` or `port=N` for a place in a network or a host-mode port, `secret=N` for
//! a secret whose data is not here, `sent=N` for one whose data is, `ordered=yes`. A line of local state: `1 PHASE`, then
//! `busy=STEP`, `retry=SECONDS`, `sick=WHY`, `drained=SECONDS`, `led=yes`, `file=N` for a secret that it has as a file.

use std::{fmt::Write, time::Duration};

use expect_test::{Expect, expect};

use super::*;
use crate::agent::{local::StopPolicy, testing::assignment};

#[expect(clippy::needless_pass_by_value, reason = "the macro's result reads best passed by value")]
fn check(assigned: &str, local: &str, want: Expect) {
    want.assert_eq(&decide(assigned, local, Source::Managers));
}

/// All at second 100.
fn decide(assigned: &str, local: &str, source: Source) -> String {
    let (tasks, dependencies) = (parse_assigned(assigned), parse_sent(assigned));
    let assigned = AssignmentSet { tasks, dependencies, ..AssignmentSet::default() };
    let decision = reconcile(&assigned, source, &parse_local(local), seconds(100));
    let mut text = String::new();
    for action in decision.actions {
        let id = |task: TaskId| task.as_u128();
        let written = match action {
            Action::Begin(task, step) => writeln!(text, "{} {}", format!("{step:?}").to_lowercase(), id(task)),
            Action::Cancel(task) => writeln!(text, "cancel {}", id(task)),
            Action::Drain(task, until) => {
                writeln!(text, "drain {} until {}", id(task), until.as_unix_ns() / 1_000_000_000)
            }
            Action::Report(task, state, why) => writeln!(text, "report {} {state}: {why}", id(task)),
            Action::Forget(task) => writeln!(text, "forget {}", id(task)),
        };
        written.expect("a string takes all");
    }
    if let Some(at) = decision.wake_at {
        writeln!(text, "wake at {}", at.as_unix_ns() / 1_000_000_000).expect("a string takes all");
    }
    text
}

fn seconds(n: u64) -> Timestamp {
    Timestamp::EPOCH + Duration::from_secs(n)
}

fn state(text: &str) -> TaskState {
    match text {
        "assigned" => TaskState::Assigned,
        "accepted" => TaskState::Accepted,
        "running" => TaskState::Running,
        "complete" => TaskState::Complete,
        "failed" => TaskState::Failed,
        "rejected" => TaskState::Rejected,
        "shutdown" => TaskState::Shutdown,
        "remove" => TaskState::Remove,
        "orphaned" => TaskState::Orphaned,
        other => panic!("unknown state {other}"),
    }
}

fn lines(text: &str) -> impl Iterator<Item = (u128, &str, Vec<(&str, &str)>)> {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).map(|line| {
        let mut words = line.split_whitespace();
        let id = words.next().and_then(|w| w.parse().ok()).expect("an id");
        let what = words.next().expect("a state or phase");
        (id, what, words.map(|w| w.split_once('=').expect("key=value")).collect())
    })
}

fn parse_assigned(text: &str) -> std::collections::BTreeMap<TaskId, Assignment> {
    let parse = |(id, desired, options): (u128, &str, Vec<(&str, &str)>)| {
        let mut a = Assignment { desired: state(desired), ..assignment(id) };
        for (key, value) in options {
            match key {
                "was" => a.state = state(value),
                "net" => {
                    let network = types::NetworkId::from_random(1);
                    let (addresses, aliases) = (vec![[10, 0, 0, 2].into()], Vec::new());
                    a.attachments = vec![types::Attachment { network, addresses, aliases }];
                }
                "port" => {
                    let (protocol, mode) = (types::PortProtocol::Tcp, types::PublishMode::Host);
                    a.host_ports = vec![types::PortConfig::new(protocol, 80, value.parse().ok(), mode)];
                }
                "secret" | "sent" => {
                    let id = Some(secret(value));
                    let file = types::TargetFile { name: value.to_owned(), uid: 0, gid: 0, mode: 0o444 };
                    let kind = types::DependencyKind::Secret;
                    let wanted = types::DependencyRef { kind, id, name: None, file };
                    std::sync::Arc::make_mut(&mut a.spec).container.dependencies.push(wanted);
                }
                "ordered" => a.is_ordered = true,
                "after" => a.not_before = seconds(value.parse().expect("seconds")),
                other => panic!("unknown option {other}"),
            }
        }
        (a.id, a)
    };
    lines(text).map(parse).collect()
}

fn secret(number: &str) -> types::DependencyId {
    types::DependencyId::from_random(number.parse().expect("a number"))
}

/// The data that came with the assignments.
fn parse_sent(text: &str) -> std::collections::BTreeMap<types::DependencyId, types::AssignedDependency> {
    let options = lines(text).flat_map(|(_, _, options)| options);
    let sent = options.filter(|(key, _)| *key == "sent");
    sent.map(|(_, number)| {
        let data = types::Payload::new(number.as_bytes().to_vec());
        (secret(number), types::AssignedDependency { data, is_template: false })
    })
    .collect()
}

fn parse_local(text: &str) -> Local {
    let parse = |(id, phase, options): (u128, &str, Vec<(&str, &str)>)| {
        let phase = match phase {
            "absent" => Phase::Absent,
            "prepared" => Phase::Prepared,
            "created" => Phase::Created,
            "running" => Phase::Running,
            "ended" => Phase::Ended { released: false },
            "released" => Phase::Ended { released: true },
            other => panic!("unknown phase {other}"),
        };
        let mut task = LocalTask::new(phase, StopPolicy::default());
        for (key, value) in options {
            match (key, value) {
                ("busy", "prepare") => task.busy = Some(Step::Prepare),
                ("busy", "start") => task.busy = Some(Step::Start),
                ("busy", "stop") => task.busy = Some(Step::Stop),
                ("busy", "refresh") => task.busy = Some(Step::Refresh),
                ("file", number) => task.versions.push(secret(number)),
                ("led", _) => task.is_led = true,
                ("drained", at) => task.drained_at = Some(seconds(at.parse().expect("seconds"))),
                ("left", _) => task.is_remnant = true,
                ("sick", why) => task.unhealthy = Some(why.to_owned()),
                ("retry", at) => task.retry_at = seconds(at.parse().expect("seconds")),
                other => panic!("unknown option {other:?}"),
            }
        }
        (TaskId::from_random(id), task)
    };
    lines(text).map(parse).collect()
}

#[test]
fn a_task_is_led_step_by_step_to_running() {
    check(
        "1 running
         2 running
         3 running
         4 running",
        "2 prepared
         3 created
         4 running",
        expect![[r#"
            prepare 1
            create 2
            start 3
        "#]],
    );
}

#[test]
fn a_busy_task_is_left_alone() {
    check(
        "1 running\n2 running\n3 shutdown",
        "1 absent busy=prepare\n2 created busy=start\n3 running busy=stop",
        expect![""],
    );
}

#[test]
fn p45_the_restart_delay_holds_back_everything() {
    check(
        "1 running after=130
         2 running after=110
         3 running after=100",
        "",
        expect![[r#"
            prepare 3
            wake at 110
        "#]],
    );
}

#[test]
fn an_ended_task_is_never_started_again() {
    check(
        "1 running was=running
         2 running was=failed
         3 running was=rejected",
        "1 ended
         2 released",
        expect![[r#"
            release 1
        "#]],
    );
}

#[test]
fn after_a_reboot_what_shall_run_is_made_again() {
    check(
        "1 running was=running",
        "",
        expect![[r#"
        prepare 1
    "#]],
    );
}

/// K-08: the managers see to the order; nothing is said twice, and what never ran is simply made.
#[test]
fn k_08_after_a_reboot_what_is_ordered_is_left_to_the_managers() {
    check(
        "1 running was=running ordered=yes
         2 running was=assigned ordered=yes
         3 running was=shutdown ordered=yes
         4 running was=running ordered=yes
         5 running was=running ordered=yes
         6 running was=assigned ordered=yes
         7 running was=accepted ordered=yes",
        "4 running
         5 prepared left=yes
         6 prepared left=yes
         7 prepared",
        expect![[r#"
            report 1 shutdown: its host was restarted: a new task begins when what its service depends on is there
            prepare 2
            report 5 shutdown: its host was restarted: a new task begins when what its service depends on is there
            create 6
            create 7
        "#]],
    );
    let before = decide("1 running was=assigned ordered=yes\n2 running was=assigned", "", Source::Disk);
    assert_eq!(before, "prepare 2\n", "how far a task was only the managers know");
}

#[test]
fn what_shall_stop_is_stopped_wherever_it_is() {
    check(
        "1 shutdown was=running
         2 shutdown was=accepted
         3 shutdown was=accepted
         4 shutdown was=accepted
         5 shutdown was=failed
         6 shutdown was=shutdown
         7 shutdown was=accepted",
        "1 running
         2 created
         3 prepared
         5 ended
         6 released
         7 absent busy=prepare",
        expect![[r#"
            stop 1
            report 2 shutdown: stopped before it was started
            remove 2
            report 3 shutdown: stopped before it was started
            remove 3
            release 5
            cancel 7
            report 4 shutdown: stopped before it was started
        "#]],
    );
}

#[test]
fn what_shall_go_is_stopped_first_and_then_removed_with_its_log() {
    check(
        "1 remove was=running
         2 remove was=shutdown
         3 remove was=shutdown
         4 remove was=shutdown",
        "1 running
         2 ended
         3 released
         4 absent",
        expect![[r#"
            stop 1
            remove 2
            remove 3
            forget 4
        "#]],
    );
}

#[test]
fn leftovers_without_assignment_are_removed() {
    check(
        "",
        "1 running
         2 prepared
         3 created
         4 released
         5 absent",
        expect![[r#"
            stop 1
            remove 2
            remove 3
            remove 4
            forget 5
        "#]],
    );
}

#[test]
fn nothing_is_touched_before_any_assignments_are_known() {
    assert_eq!(decide("", "1 running\n2 ended\n3 created", Source::Nothing), "");
}

#[test]
fn a_task_the_managers_gave_up_is_stopped_even_if_it_runs() {
    check(
        "1 running was=orphaned",
        "1 running",
        expect![[r#"
        stop 1
    "#]],
    );
}

#[test]
fn a_step_that_failed_waits_for_its_time() {
    check(
        "1 running
         2 running
         3 remove was=shutdown",
        "1 absent retry=120
         2 absent retry=100
         3 ended retry=115",
        expect![[r#"
            prepare 2
            wake at 115
        "#]],
    );
}

#[test]
fn s_58_an_unhealthy_container_is_stopped_and_its_end_released() {
    check(
        "1 running was=running
         2 running was=running
         3 running was=failed",
        "1 running sick=timeout
         2 running sick=timeout busy=stop
         3 ended sick=timeout",
        expect![[r#"
            stop 1
            release 3
        "#]],
    );
}

#[test]
fn p05_n_20_what_others_send_to_drains_before_it_is_stopped() {
    check(
        "1 shutdown was=running net=1
         2 remove was=running port=80
         3 shutdown was=running net=1
         4 shutdown was=running net=1
         5 shutdown was=running",
        "1 running
         2 running
         3 running drained=101
         4 running drained=100
         5 running",
        expect![[r#"
            drain 1 until 102
            drain 2 until 102
            stop 4
            stop 5
            wake at 101
        "#]],
    );
}

#[test]
fn p05_what_nobody_is_led_to_is_stopped_at_once() {
    // Not RUNNING for anybody, given up with its node, nobody's: and one that fails its own check.
    check(
        "1 shutdown was=assigned net=1
         2 shutdown was=orphaned net=1
         4 running was=running net=1",
        "1 running
         2 running
         3 running
         4 running sick=timeout",
        expect![[r#"
            stop 1
            stop 2
            stop 3
            stop 4
        "#]],
    );
}

#[test]
fn nothing_is_done_at_rest() {
    check("1 running was=running\n2 shutdown was=shutdown", "1 running\n2 released", expect![""]);
}

/// X-02: a daemon that starts without a manager has no secrets. What runs goes on; what does not, waits.
#[test]
fn x02_without_its_secrets_nothing_starts_and_nothing_stops() {
    let assigned = "1 running secret=1
                    2 running secret=1 was=running
                    3 running secret=1
                    4 running
                    5 shutdown secret=1 was=running";
    let local = "2 running
                 3 prepared
                 5 running";
    check(
        assigned,
        local,
        expect![[r#"
        stop 5
        prepare 4
    "#]],
    );
}

/// P05: two seconds, and as long as some host has not said that it leads nothing new there; ten at most.
#[test]
fn p05_who_is_still_led_to_drains_longer() {
    check(
        "1 shutdown was=running net=1
         2 shutdown was=running net=1
         3 shutdown was=running net=1",
        "1 running drained=99 led=yes
         2 running drained=92 led=yes
         3 running drained=99",
        expect![[r#"
            stop 2
            stop 3
            wake at 107
        "#]],
    );
}

/// P12: other data goes into the files of what runs, whoever wrote those, once it is here and unless it is to stop.
#[test]
fn p12_what_runs_gets_the_versions_that_its_spec_names() {
    check(
        "1 running was=running sent=1 sent=2
         2 running was=running sent=1 sent=3
         3 running was=running sent=1
         4 running was=running secret=4
         5 running was=running sent=3
         6 running was=running sent=3
         7 running was=running sent=3
         8 shutdown was=running sent=3
         9 running was=running sent=3
         10 running was=running",
        "1 running file=1 file=2
         2 running file=1 file=2
         3 running
         4 running file=1
         5 running file=1 busy=refresh
         6 running file=1 retry=120
         7 running file=1 sick=timeout
         8 running file=1
         9 ended file=1
         10 running",
        expect![[r#"
            stop 8
            refresh 2
            refresh 3
            stop 7
            release 9
            wake at 120
        "#]],
    );
    let on_its_way_out = "1 shutdown was=running sent=3";
    assert_eq!(decide(on_its_way_out, "1 running file=1 busy=refresh", Source::Managers), "", "one step at a time");
}
