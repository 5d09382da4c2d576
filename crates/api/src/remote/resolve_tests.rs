//! What is decided from the value, and what a client of a manager hears.

use axum::http::Method;
use types::{NodeRole, NodeSpec, NodeStatus, Slot, TaskStatus, Timestamp};

use super::*;

fn target(method: &str, path: &str) -> Target {
    Target::parse(&method.parse::<Method>().expect("a method"), path).expect("a target")
}

fn node(number: u128, state: NodeState, address: Option<IpAddr>) -> Node {
    Node {
        id: NodeId::from_random(number),
        meta: types::Meta::default(),
        spec: NodeSpec::default(),
        role: NodeRole::Worker,
        status: NodeStatus {
            state,
            message: "heartbeats stopped".to_owned(),
            since: Timestamp::EPOCH,
            address,
            unreachable_peers: Vec::new(),
        },
        description: Some(types::NodeDescription { hostname: "w1".to_owned(), ..types::NodeDescription::default() }),
        raft: None,
    }
}

fn task(on: Option<u128>, state: TaskState, error: &str) -> Task {
    Task {
        id: types::TaskId::from_random(5),
        meta: types::Meta::default(),
        service: types::ServiceId::from_random(6),
        slot: Slot::Replica(1),
        node: on.map(NodeId::from_random),
        spec: std::sync::Arc::new(types::TaskSpec {
            container: types::ContainerSpec::of_image("app:1".parse().expect("an image")),
            resources: types::ResourceRequirements::default(),
            restart: types::RestartPolicy::default(),
            placement: types::Placement::default(),
            log_driver: None,
            networks: Vec::new(),
            force_update: 0,
        }),
        attachments: Vec::new(),
        spec_version: types::Version::default(),
        iteration: None,
        host_ports: Vec::new(),
        publishes: false,
        granted: types::GenericResources::new(),
        default_log: None,
        status: TaskStatus {
            state,
            since: Timestamp::EPOCH,
            message: String::new(),
            error: error.to_owned(),
            container: None,
            ports: Vec::new(),
        },
        desired: TaskState::Running,
        not_before: Timestamp::EPOCH,
        failures: 0,
        failed_at: Vec::new(),
        reason: String::new(),
        running_since: None,
        refreshed_at: None,
    }
}

/// What becomes of `docker exec web.1`, or `docker logs web.1`, for a task in this state, seen from node 1.
fn say(path: &str, task: &Task, node: Option<&Node>) -> String {
    let method = if path == "exec" { "POST" } else { "GET" };
    match decide(task, node, NodeId::from_random(1), &target(method, &format!("/containers/web.1/{path}"))) {
        Ok(Decision::Here(id)) => format!("here {}", id == container_id(task.id)),
        Ok(Decision::There { address, hostname, id, .. }) => {
            format!("{hostname} {address} {}", id == container_id(task.id))
        }
        Err(error) => format!("{} {}", error.status.as_u16(), error.message),
    }
}

#[test]
fn p_21_a_tasks_state_says_whether_its_container_can_be_asked() {
    let there = node(2, NodeState::Ready, Some([192, 0, 2, 2].into()));
    let said = |path, on, state, error| say(path, &task(on, state, error), Some(&there));
    for (path, state) in [("exec", TaskState::Running), ("exec", TaskState::Starting), ("logs", TaskState::Failed)] {
        assert_eq!(said(path, Some(2), state, ""), "w1 192.0.2.2 true", "{path} {state}");
    }
    assert_eq!(said("exec", Some(1), TaskState::Running, ""), "here true");
    let nowhere = said("exec", None, TaskState::Pending, "no suitable node (2 lack memory)");
    assert!(nowhere.starts_with("409 container web.1 is not running: task ") && nowhere.contains("lack memory"));
    let early = said("logs", Some(2), TaskState::Preparing, "");
    assert!(early.starts_with("409") && early.contains("is preparing and has no container yet"), "{early}");
    let ended = said("exec", Some(2), TaskState::Failed, "exit code 3");
    assert!(ended.contains("is not running") && ended.contains("is failed: exit code 3"), "{ended}");
}

#[test]
fn p_21_a_node_that_cannot_be_asked_is_said_with_its_name() {
    let task = task(Some(2), TaskState::Running, "");
    let down = say("exec", &task, Some(&node(2, NodeState::Down, Some([192, 0, 2, 2].into()))));
    assert!(down.starts_with("503 node w1, which has web.1, is down (heartbeats stopped)"), "{down}");
    let whole = there(&node(2, NodeState::Down, None), String::new(), "").expect_err("it is down").message;
    assert!(whole.starts_with("node w1 is down (heartbeats stopped)"), "{whole}");
    let nowhere = say("exec", &task, Some(&node(2, NodeState::Unknown, None)));
    assert!(nowhere.starts_with("503 node w1, which has web.1, has not said yet"), "{nowhere}");
    let gone = say("logs", &task, None);
    assert!(gone.starts_with("409 container web.1 is gone: node"), "{gone}");
    let silent = say("exec", &task, Some(&node(2, NodeState::Unreachable, Some([192, 0, 2, 2].into()))));
    assert_eq!(silent, "w1 192.0.2.2 true", "it may still answer");
}

#[test]
fn who_says_a_tasks_id_is_told_its_container_and_node() {
    let runs = task(Some(2), TaskState::Running, "");
    let id: String = container_id(runs.id).chars().take(12).collect();
    assert_eq!(
        which("abc", &runs, "web.1", Some("w1")),
        format!(
            "No such container: abc; this is the id of task web.1, whose container {id} is on node w1: say {id}, or `rswarm exec \
             web.1 COMMAND`"
        )
    );
    let waits = task(None, TaskState::Pending, "no suitable node");
    assert_eq!(
        which("abc", &waits, "web.1", None),
        "No such container: abc; this is the id of task web.1, which is pending and has no container: `rswarm service ps` shows \
         how it goes"
    );
}
