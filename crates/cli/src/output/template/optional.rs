//! Which fields the API may leave out of what it shows: Docker writes `omitempty` beside them, and templates read them all
//! the same. Any other absent field is a spelling mistake.

/// By Docker's types of containers, images, networks, volumes, events, the host and the cluster; and our own.
const FIELDS: &str = "Addr Address Addresses Aliases Annotations Architecture Args ArgsEscaped Attachable Author \
    AuxiliaryAddresses Availability BindOptions CAConfig CapabilityAdd CapabilityDrop CertIssuerPublicKey CertIssuerSubject \
    CgroupVersion Cluster ClusterVolume Cmd Command Comment CompletedAt Condition ConfigFrom Configs Consistency Constraints \
    ContainerSpec ContainerStatus CreateMountpoint CreatedAt DNSConfig Data DefaultAddressPools Delay Description Descriptor \
    DesiredState Dir Disconnect DiscoveredDevices DiscreteResourceSpec Dispatcher Driver DriverConfig DriverOpts EnableIPv4 \
    EnableIPv6 EncryptionConfig Endpoint EndpointConfig EndpointSpec Engine Entrypoint Env Err Error Expected ExposedPorts \
    FailureAction File ForceRotate From Gateway GenericResources Global GlobalJob Groups GwPriority Health Healthcheck Hostname \
    Hosts ID IPRange IPv4Address IPv6Address ImageManifestDescriptor ImageOptions Ingress Init Internal JobIteration JobStatus \
    KeepOldSnapshots Kind Labels LastExecution Layers Leader Limits LinkLocalIPs LogDriver MacAddress ManagerStatus Managers \
    Manifests MaxAttempts MaxConcurrent MaxReplicas MemoryBytes Message Mode Monitor Mounts Name NamedResourceSpec Nameservers \
    NanoCPUs Network NetworkAttachmentSpec NetworkDisabled Networks NetworksAttachments NoCopy NodeCertExpiry NodeID Nodes \
    NonRecursive OnBuild OomScoreAdj OpenStdin Options Orchestration OsVersion Parent Peers Pids Placement Platform Platforms \
    PortStatus Ports Preferences PreviousSpec Privileges Propagation Protocol PublicPort PublishMode PublishedPort Raft \
    Reachability ReadOnly ReadOnlyForceRecursive ReadOnlyNonRecursive RemoteManagers Replicas Replicated ReplicatedJob \
    RepoDigests RepoTags Reservations Resources RestartPolicy Role RollbackConfig Runtime Scope Search Secrets ServiceID \
    ServiceStatus Services Shell Signal SizeBytes SizeRootFs SizeRw Slot Source StartedAt State Status StopGracePeriod \
    StopSignal StopTimeout StorageOpt Subnet Subpath Sysctls TLSInfo TTY TargetPort TaskHistoryRetentionLimit TaskTemplate \
    Templating Timeout Timestamp Tmpfs TmpfsOptions TotalCompletions TrustRoot Ulimits UnreachablePeers UpdateConfig \
    UpdateStatus UpdatedAt UsageData User Value Variant VirtualIPs VirtualSize VolumeOptions Volumes Warnings Window WorkingDir";

/// Fields that are maps with keys of people's own: what is not there is nobody's mistake.
const MAPS: [&str; 18] = [
    "Annotations",
    "Attributes",
    "AuxiliaryAddresses",
    "Containers",
    "Data",
    "DriverOpts",
    "ExposedPorts",
    "Labels",
    "Networks",
    "Options",
    "PortBindings",
    "Ports",
    "Runtimes",
    "Services",
    "StorageOpt",
    "Sysctls",
    "Tmpfs",
    "Volumes",
];

pub(super) fn may_be_absent(field: &str) -> bool {
    FIELDS.split_whitespace().any(|known| known.eq_ignore_ascii_case(field))
}

pub(super) fn has_keys_of_its_own(field: &str) -> bool {
    MAPS.contains(&field)
}
