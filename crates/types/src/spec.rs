//! What users want: specs of services, tasks, containers, nodes and the cluster.

mod cluster;
mod confinement;
mod container;
mod dependency;
mod device;
mod gateway_mode;
mod mesh;
mod need;
mod network;
mod node;
mod platform;
mod port;
mod refresh;
mod schedule;
mod service;
mod stated;
mod steering;
mod task;

pub use cluster::{
    AddressPools, CaConfig, ClusterSpec, DEFAULT_CONTROL_PORT, DEFAULT_DATA_PATH_PORT, DEFAULT_PROBE_PORT,
    DispatcherConfig, EncryptionConfig, OrchestrationConfig, RaftConfig,
};
pub use confinement::{AppArmorMode, SelinuxLabel};
pub use container::{
    ContainerSpec, DeviceRequest, DnsConfig, HealthCheck, HealthTest, HostConfig, Mount, MountKind, Seccomp, Ulimit,
    is_mount_subpath, is_tmpfs_option, is_volume_name, plain_path,
};
pub use dependency::{DEFAULT_FILE_MODE, DependencyKind, DependencyRef, DependencySpec, TargetFile};
pub use device::{ClaimError, DeviceClaim, is_device_name, resolve_claims};
pub use gateway_mode::{GATEWAY_MODES, GatewayMode, INHIBIT_IPV4};
pub use mesh::{
    DEFAULT_MESH_WEIGHT, MAX_MESH_WEIGHT, MESH_AFFINITY_LABEL, MESH_POLICY_LABEL, MESH_WEIGHT_LABEL, MeshError,
    mesh_weight,
};
pub use need::{Need, NeedCondition, NeedConditionError};
pub use network::{IPVLAN_MODE, IpvlanMode, NetworkAttachmentSpec, NetworkDriver, NetworkSpec, SubnetSpec};
pub use node::{Availability, NodeRole, NodeSpec};
pub use platform::{Platform, PlatformError};
pub use refresh::{REFRESH_LABEL, Refresh, RefreshError};
pub use schedule::{
    SCHEDULE_CONCURRENCY_LABEL, SCHEDULE_LABEL, SCHEDULE_TIMEZONE_LABEL, ScheduleConcurrency, ScheduleError,
    ScheduleSpec,
};
pub use service::{
    DEFAULT_PROGRESS_DEADLINE, DisconnectPolicy, EndpointMode, EndpointSpec, FailureAction, MeshAffinity, MeshPolicy,
    MeshSpec, PortBind, PortConfig, PortProtocol, PublishMode, Reconcile, ServiceMode, ServiceSpec, UpdateConfig,
    UpdateOrder,
};
pub use stated::Stated;
pub use steering::{
    MAX_PRIORITY, ON_MISSING_LABEL, OnMissing, PRIORITY_LABEL, PRIVILEGED_LABEL, PULL_LABEL, PullPolicy,
    REBALANCE_BUDGET_LABEL, REBALANCE_LABEL, RebalancePolicy, STABLE_IP_LABEL, STRATEGY_LABEL, Steering, SteeringError,
    Strategy, pull_policy,
};
pub use task::{LogDriver, Placement, ResourceRequirements, RestartCondition, RestartPolicy, SpreadOver, TaskSpec};
