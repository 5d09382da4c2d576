//! Whatever happens, in whatever order: invariants hold after each step, an incremental plan is the full
//! plan, a plan leaves nothing to plan, and the cluster comes to rest (`script` checks the first three).

use proptest::prelude::*;
use types::{ServiceMode, Task, TaskState, UpdateState};

use crate::script::World;

const NODES: [&str; 4] = ["a", "b", "c", "d"];
const SERVICES: [&str; 6] = ["s0", "s1", "s2", "s3", "s4", "s5"];
const START: &str = "network n1 subnet=10.1.0.0/28
network n2 attachable
secret k1 one
config k2 two
network i ingress subnet=10.255.0.0/28
node a cpu=4 zone=1 gpu=u1+u2\nnode b cpu=4 zone=1 gpu=2\nnode c cpu=4 zone=2\nnode d cpu=4 zone=2
service s0 x3\nservice s1 global\nservice s2 x2 cpu=1\nservice s3 x2 max=1
service s4 done=5 at-once=2 image=job\nservice s5 global-job image=job\nplan";

/// What may be changed of a service.
const WORDS: [&str; 84] = [
    "needs=s2:healthy",
    "needs=s3:started",
    "needs=s4:completed",
    "needs=s5:healthy",
    "needs=-",
    "x0",
    "x1",
    "x3",
    "x6",
    "image=b",
    "image=c",
    "image=bad",
    "image=job",
    "image=job2",
    "done=2",
    "done=7",
    "at-once=1",
    "at-once=3",
    "schedule=*_*_*_*_*",
    "schedule=none",
    "force",
    "cpu=1",
    "cpu=2",
    "gpu=1",
    "gpu=2",
    "gpu=u2",
    "gpu=u1+1",
    "max=0",
    "max=1",
    "max=2",
    "port=80",
    "port=81",
    "port=none",
    "order=start-first",
    "order=stop-first",
    "parallelism=0",
    "parallelism=2",
    "delay=3s",
    "deadline=4s",
    "action=rollback",
    "action=continue",
    "ratio=400",
    "constraint=node.labels.zone==1",
    "constraint=~node.labels.zone==2",
    "constraint=service==s2",
    "constraint=service!=s2",
    "constraint=service!=s3",
    "constraint=service_not_in_(s0,s3)",
    "constraint=~service==s1",
    "constraints=-",
    "volume=v1",
    "volumes=-",
    "on-missing=create",
    "on-missing=wait",
    "strategy=spread",
    "rebalance=on",
    "rebalance=off",
    "rebalance=on-join",
    "priority=10",
    "priority=-10",
    "priority=0",
    "spread=zone",
    "spread=node.hostname",
    "restart=none",
    "restart=on-failure",
    "attempts=2",
    "lost-after=3s",
    "reconcile=replacement",
    "net=n1",
    "net=n2:db",
    "nets=-",
    "dnsrr",
    "vip",
    "publish=7000:80",
    "publish=7001:80",
    "publish=82",
    "publish=192.0.2.1@7000:80",
    "publish=host@7001:80",
    "publish=none",
    "policy=local-first",
    "secret=k1",
    "config=k2",
    "secrets=-",
    "label=rswarm.refresh:signal:HUP",
];

/// What may be made of a node or service that was removed.
const BEGINNINGS: [&str; 22] = [
    "service s1 x2 needs=s0:healthy order=start-first",
    "service s5 global-job image=job needs=s4:completed",
    "stack t | network tn | service s0 x2 net=tn | service s3 x1 net=tn needs=s0:healthy",
    "stack t prune | network tn | service s0 x1 image=b net=tn needs=s2:started",
    "stack t prune | service s3 x2 needs=s0:healthy | service s0 x2",
    "stack t | network tn | service s0 x2 publish=7000:80 publish=82 | service s3 x1 publish=7001:80",
    "stack t prune | service s3 x1 publish=7000:80 publish=82 | service s0 x2 publish=7001:80",
    "node a cpu=4 zone=2",
    "node c cpu=4 zone=2",
    "service s0 x3 port=80",
    "service s1 global cpu=1",
    "service s1 global port=80",
    "service s2 x4 cpu=2 order=start-first",
    "service s3 x3 max=1 port=81",
    "service s3 x1 image=bad",
    "service s0 x2 publish=7000:80 order=start-first",
    "service s2 global publish=82",
    "service s4 done=4 at-once=3 image=job cpu=1 attempts=2",
    "service s4 done=3 at-once=2 image=job schedule=*/2_*_*_*_* overlap=queue",
    "service s4 done=3 at-once=2 image=job schedule=*_*_*_*_* overlap=replace",
    "service s5 global-job image=job schedule=*_*_*_*_*",
    "network i ingress subnet=10.255.0.0/28",
];

fn line() -> impl Strategy<Value = String> {
    let node = || prop::sample::select(&NODES[..]);
    let service = || prop::sample::select(&SERVICES[..]);
    let span = prop::sample::select(vec!["10ms", "700ms", "1300ms", "4s", "70s"]);
    let verb = prop::sample::select(vec!["drain", "pause", "activate", "silent", "heard", "crash", "agents", "back"]);
    prop_oneof![
        6 => (service(), prop::sample::select(&WORDS[..])).prop_map(|(s, w)| format!("update {s} {w}")),
        1 => service().prop_map(|s| format!("rollback {s}")),
        1 => (service(), 1..6u8).prop_map(|(s, number)| format!("rollback {s} {number}")),
        1 => (service(), any::<bool>()).prop_map(|(s, on)| format!("{} {s}", if on { "resume-update" } else { "pause-update" })),
        1 => service().prop_map(|s| format!("remove {s}")),
        2 => prop::sample::select(&BEGINNINGS[..]).prop_map(str::to_owned),
        5 => (verb, node()).prop_map(|(v, n)| format!("{v} {n}")),
        1 => node().prop_map(|n| format!("remove-node {n}")),
        1 => Just("remove-network i".to_owned()),
        1 => (prop::sample::select(vec!["n1", "n2", "i"]), 0..4u8).prop_map(|(n, at)| format!("add-subnet {n} subnet=10.66.{at}.0/29")),
        1 => prop::sample::select(vec!["remove-stack t", "roll-back t", "roll-back t 1", "roll-back t 2"])
            .prop_map(str::to_owned),
        1 => (prop::sample::select(vec!["k1", "k2"]), 0..5u8).prop_map(|(name, data)| format!("new {name} {data}")),
        1 => prop::sample::select(vec!["remove-secret k1", "secret k1 again"]).prop_map(str::to_owned),
        1 => (node(), 1..3u8).prop_map(|(n, weight)| format!("label {n} rswarm.mesh.weight={weight}")),
        1 => (node(), 1..3u8).prop_map(|(n, zone)| format!("label {n} zone={zone}")),
        1 => (node(), node(), any::<bool>()).prop_map(|(a, b, yes)| {
            format!("probe {a} {b} {}", if yes { "yes" } else { "no" })
        }),
        1 => prop::sample::select(&["rebalance", "rebalance budget=1", "policy on-join 1", "policy continuous 2", "policy off 0"][..])
            .prop_map(str::to_owned),
        1 => (node(), node()).prop_map(|(a, b)| format!("migrate v1 {a} {b}")),
        1 => prop::sample::select(vec!["moved", "abort", "renew"]).prop_map(str::to_owned),
        4 => span.prop_map(|span| format!("wait {span}")),
        5 => Just("agents".to_owned()),
    ]
}

/// Mostly each event is followed by a plan; now and then several happen at once, or one overtakes a plan.
fn event() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => line().prop_map(|line| format!("{line}\nplan")),
        1 => line(),
        1 => line().prop_map(|line| format!("decide\n{line}\npropose\nplan")),
    ]
}

fn live(history: &str) -> Result<(), TestCaseError> {
    let mut world = World::new();
    for line in START.lines().chain(history.lines()).map(str::trim).filter(|line| !line.is_empty()) {
        if world.fits(line) {
            world.line(line);
            control::invariants::check(&world.tables).expect("invariant");
        }
    }
    for line in ["heard a", "heard b", "heard c", "heard d", "wait 1s", "settle 2m", "wait 20s", "settle 1m"] {
        world.line(line);
    }
    control::invariants::check(&world.tables).expect("invariant");
    world.out.clear();
    world.line("plan");
    let moving = world.tables.tasks().any(|task| task.not_before > world.now);
    prop_assert!(moving || world.out.is_empty(), "not at rest: {}", world.out);
    let stuck = control::invariants::unrest(&world.tables).into_iter().find(|line| line.contains("does nothing"));
    prop_assert_eq!(stuck, None);
    for service in world.tables.services() {
        prop_assert!(!service.removing, "{} is still being removed", service.spec.name);
        let mut slots: Vec<_> = world
            .tables
            .tasks_of_service(service.id)
            .filter(|t| t.desired == TaskState::Running)
            .map(|t| t.slot)
            .collect();
        slots.dedup();
        let (state, tasks) =
            (service.update.as_ref().map(|update| update.state), || world.tables.tasks_of_service(service.id));
        let held = service.update.as_ref().is_some_and(|update| update.message.starts_with("update waits for "));
        let held_up = moving || held || tasks().any(|task| task.node.is_none() && task.desired == TaskState::Running);
        let under_way = matches!(state, Some(UpdateState::Updating | UpdateState::RollbackStarted));
        prop_assert!(held_up || !under_way, "the rollout of {} is stuck", service.spec.name);
        // what a job has not completed is held up, given up, or in containers that never end
        let ends = service.job.is_some() && service.spec.task.container.image.repository.contains("job");
        let wanted = |task: &Task| task.desired == TaskState::Running && !task.status.state.is_terminal();
        let idle = held_up || service.spec.schedule.is_some() || !tasks().any(|task| wanted(task));
        prop_assert!(idle || !ends, "job {} has not ended", service.spec.name);
        if let ServiceMode::Replicated { replicas } = service.spec.mode {
            prop_assert_eq!(slots.len() as u64, replicas, "slots of {}", service.spec.name);
        }
    }
    Ok(())
}

/// Each of these once broke something, found by the property below: kept here because seeds forget when the
/// generator changes.
const HISTORIES: &[&str] = &[
    "agents; agents; update s4 done=2",
    "drain c; drain b; drain a; drain d; agents; update s2 constraint=node.labels.zone==1; activate c",
    "drain a; drain c; update s0 order=start-first; drain b; agents; drain d; update s0 x3; update s0 image=b",
    "drain a; update s2 x0; update s0 order=start-first; update s3 cpu=2; drain c; drain b; agents; label a zone=1; \
     update s0 cpu=2",
    "update s0 order=start-first; agents; update s0 image=bad; drain b",
    "silent c; probe c a no; wait 4s; silent a; heard c; wait 1300ms",
    "update s1 priority=-10; pause c; update s1 publish=host@7001:80; agents; update s2 publish=host@7001:80",
    "update s0 constraint=node.labels.zone==1; pause d; wait 1300ms; probe a d no; update s0 order=start-first",
];

#[test]
fn histories_that_once_failed() {
    for history in HISTORIES {
        live(&history.replace(';', "\nplan\n")).expect(history);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    #[test]
    fn any_history_keeps_the_invariants_and_comes_to_rest(events in prop::collection::vec(event(), 1..40)) {
        live(&events.join("\n"))?;
    }
}
