//! Values for the tests of the agent.

use std::sync::Arc;

use types::{
    Assignment, ContainerSpec, Placement, ResourceRequirements, RestartPolicy, ServiceId, Slot, TaskId, TaskSpec,
    TaskState, Timestamp,
};

/// A task of the service `web`, in slot and with the id `n`, that shall run.
pub(crate) fn assignment(n: u128) -> Assignment {
    let image = "app:1".parse().expect("a good reference");
    Assignment {
        id: TaskId::from_random(n),
        service: ServiceId::from_random(1),
        service_name: "web".parse().expect("a good name"),
        service_labels: types::Labels::new(),
        slot: Slot::Replica(u64::try_from(n).unwrap_or(1)),
        spec: Arc::new(TaskSpec {
            container: ContainerSpec::of_image(image),
            resources: ResourceRequirements::default(),
            restart: RestartPolicy::default(),
            placement: Placement::default(),
            log_driver: None,
            networks: Vec::new(),
            force_update: 0,
        }),
        attachments: Vec::new(),
        host_ports: Vec::new(),
        granted: types::GenericResources::new(),
        default_log: None,
        registry_auth: types::Payload::default(),
        mount_auths: std::collections::BTreeMap::new(),
        is_ordered: false,
        desired: TaskState::Running,
        not_before: Timestamp::EPOCH,
        state: TaskState::Assigned,
    }
}
