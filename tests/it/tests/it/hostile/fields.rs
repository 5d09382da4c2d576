//! What the hostile tests send: the routes, and the fields of the models with the type of each.
//!
//! One line is a field: its path, `[]` for the items of a list and `*` for an entry of an object whose keys are the
//! user's own, then its type: `s` text, `n` number, `b` true or false, `L` list of texts, `W` a text or such a list,
//! `M` object of texts, `o` object, `O` list of objects, `E` object of anything.

/// A request with a JSON body that is right but for the one field that a test puts into it.
pub(super) struct Model {
    pub(super) path: &'static str,
    pub(super) body: &'static str,
    pub(super) fields: &'static str,
}

pub(super) const CREATE: Model = Model {
    path: "/containers/create",
    body: r#"{"Image":"app:1","Cmd":["true"]}"#,
    fields: "
Hostname s
Domainname s
User s
AttachStdin b
AttachStdout b
AttachStderr b
ExposedPorts E
Tty b
OpenStdin b
StdinOnce b
Env L
Cmd W
Healthcheck o
Healthcheck.Test L
Healthcheck.Interval n
Healthcheck.Timeout n
Healthcheck.StartPeriod n
Healthcheck.StartInterval n
Healthcheck.Retries n
ArgsEscaped b
Image s
Volumes E
WorkingDir s
Entrypoint W
NetworkDisabled b
MacAddress s
OnBuild L
Labels M
StopSignal s
StopTimeout n
Shell L
HostConfig o
HostConfig.CpuShares n
HostConfig.Memory n
HostConfig.CgroupParent s
HostConfig.BlkioWeight n
HostConfig.BlkioWeightDevice O
HostConfig.BlkioDeviceReadBps O
HostConfig.BlkioDeviceReadBps[].Path s
HostConfig.BlkioDeviceReadBps[].Rate n
HostConfig.BlkioDeviceWriteBps O
HostConfig.BlkioDeviceReadIOps O
HostConfig.BlkioDeviceWriteIOps O
HostConfig.CpuPeriod n
HostConfig.CpuQuota n
HostConfig.CpuRealtimePeriod n
HostConfig.CpuRealtimeRuntime n
HostConfig.CpusetCpus s
HostConfig.CpusetMems s
HostConfig.Devices O
HostConfig.Devices[].PathOnHost s
HostConfig.Devices[].PathInContainer s
HostConfig.Devices[].CgroupPermissions s
HostConfig.DeviceCgroupRules L
HostConfig.DeviceRequests O
HostConfig.DeviceRequests[].Driver s
HostConfig.DeviceRequests[].Count n
HostConfig.DeviceRequests[].DeviceIDs L
HostConfig.DeviceRequests[].Options M
HostConfig.MemoryReservation n
HostConfig.MemorySwap n
HostConfig.MemorySwappiness n
HostConfig.NanoCpus n
HostConfig.OomKillDisable b
HostConfig.Init b
HostConfig.PidsLimit n
HostConfig.Ulimits O
HostConfig.Ulimits[].Name s
HostConfig.Ulimits[].Soft n
HostConfig.Ulimits[].Hard n
HostConfig.Binds L
HostConfig.ContainerIDFile s
HostConfig.LogConfig o
HostConfig.LogConfig.Type s
HostConfig.LogConfig.Config M
HostConfig.NetworkMode s
HostConfig.PortBindings E
HostConfig.RestartPolicy o
HostConfig.RestartPolicy.Name s
HostConfig.RestartPolicy.MaximumRetryCount n
HostConfig.AutoRemove b
HostConfig.VolumeDriver s
HostConfig.VolumesFrom L
HostConfig.Mounts O
HostConfig.Mounts[].Target s
HostConfig.Mounts[].Source s
HostConfig.Mounts[].Type s
HostConfig.Mounts[].ReadOnly b
HostConfig.Mounts[].Consistency s
HostConfig.Mounts[].BindOptions o
HostConfig.Mounts[].VolumeOptions o
HostConfig.Mounts[].TmpfsOptions o
HostConfig.ConsoleSize N
HostConfig.Annotations M
HostConfig.CapAdd L
HostConfig.CapDrop L
HostConfig.CgroupnsMode s
HostConfig.Dns L
HostConfig.DnsOptions L
HostConfig.DnsSearch L
HostConfig.ExtraHosts L
HostConfig.GroupAdd L
HostConfig.IpcMode s
HostConfig.Cgroup s
HostConfig.Links L
HostConfig.OomScoreAdj n
HostConfig.PidMode s
HostConfig.Privileged b
HostConfig.PublishAllPorts b
HostConfig.ReadonlyRootfs b
HostConfig.SecurityOpt L
HostConfig.StorageOpt M
HostConfig.Tmpfs M
HostConfig.UTSMode s
HostConfig.UsernsMode s
HostConfig.ShmSize n
HostConfig.Sysctls M
HostConfig.Runtime s
HostConfig.Isolation s
HostConfig.MaskedPaths L
HostConfig.ReadonlyPaths L
NetworkingConfig o
NetworkingConfig.EndpointsConfig E
NetworkingConfig.EndpointsConfig.bridge o
NetworkingConfig.EndpointsConfig.bridge.IPAMConfig o
NetworkingConfig.EndpointsConfig.bridge.IPAMConfig.IPv4Address s
NetworkingConfig.EndpointsConfig.bridge.IPAMConfig.IPv6Address s
NetworkingConfig.EndpointsConfig.bridge.IPAMConfig.LinkLocalIPs L
NetworkingConfig.EndpointsConfig.bridge.Links L
NetworkingConfig.EndpointsConfig.bridge.Aliases L
NetworkingConfig.EndpointsConfig.bridge.MacAddress s
NetworkingConfig.EndpointsConfig.bridge.DriverOpts M
NetworkingConfig.EndpointsConfig.bridge.GwPriority n
NetworkingConfig.EndpointsConfig.bridge.NetworkID s
NetworkingConfig.EndpointsConfig.bridge.EndpointID s
NetworkingConfig.EndpointsConfig.bridge.Gateway s
NetworkingConfig.EndpointsConfig.bridge.IPAddress s
NetworkingConfig.EndpointsConfig.bridge.IPPrefixLen n
NetworkingConfig.EndpointsConfig.bridge.IPv6Gateway s
NetworkingConfig.EndpointsConfig.bridge.GlobalIPv6Address s
NetworkingConfig.EndpointsConfig.bridge.GlobalIPv6PrefixLen n
NetworkingConfig.EndpointsConfig.bridge.DNSNames L",
};

/// `NAME` in a path is a container that runs.
pub(super) const OTHERS: [Model; 8] = [
    Model {
        path: "/containers/NAME/update",
        body: "{}",
        fields: "
CpuShares n
Memory n
MemorySwap n
MemoryReservation n
CpuPeriod n
CpuQuota n
NanoCpus n
CpusetCpus s
CpusetMems s
PidsLimit n
BlkioWeight n
RestartPolicy o
RestartPolicy.Name s
RestartPolicy.MaximumRetryCount n",
    },
    Model {
        path: "/containers/NAME/exec",
        body: r#"{"Cmd":["true"]}"#,
        fields: "
AttachStdin b
AttachStdout b
AttachStderr b
ConsoleSize N
DetachKeys s
Tty b
Env L
Cmd L
Privileged b
User s
WorkingDir s",
    },
    Model {
        path: "/networks/create",
        body: r#"{"Name":"fuzzed","Driver":"bridge"}"#,
        fields: "
Name s
Driver s
Scope s
Internal b
Attachable b
Ingress b
ConfigOnly b
ConfigFrom o
ConfigFrom.Network s
IPAM o
IPAM.Driver s
IPAM.Config O
IPAM.Config[].Subnet s
IPAM.Config[].IPRange s
IPAM.Config[].Gateway s
IPAM.Config[].AuxiliaryAddresses M
IPAM.Options M
EnableIPv4 b
EnableIPv6 b
Options M
Labels M",
    },
    Model {
        path: "/networks/bridge/connect",
        body: r#"{"Container":"nobody"}"#,
        fields: "
Container s
EndpointConfig o
EndpointConfig.IPAMConfig o
EndpointConfig.IPAMConfig.IPv4Address s
EndpointConfig.Links L
EndpointConfig.Aliases L
EndpointConfig.MacAddress s
EndpointConfig.DriverOpts M",
    },
    Model { path: "/networks/bridge/disconnect", body: r#"{"Container":"nobody"}"#, fields: "Container s\nForce b" },
    Model {
        path: "/volumes/create",
        body: r#"{"Name":"fuzzed"}"#,
        fields: "
Name s
Driver s
DriverOpts M
Labels M",
    },
    Model {
        path: "/services/create",
        body: r#"{"Name":"fuzzed","Mode":{"Replicated":{"Replicas":0}},"TaskTemplate":{"ContainerSpec":{"Image":"app:1"}}}"#,
        fields: "
Name s
Labels M
TaskTemplate o
TaskTemplate.ContainerSpec o
TaskTemplate.ContainerSpec.Image s
TaskTemplate.ContainerSpec.Labels M
TaskTemplate.ContainerSpec.Command L
TaskTemplate.ContainerSpec.Args L
TaskTemplate.ContainerSpec.Hostname s
TaskTemplate.ContainerSpec.Env L
TaskTemplate.ContainerSpec.Dir s
TaskTemplate.ContainerSpec.User s
TaskTemplate.ContainerSpec.Groups L
TaskTemplate.ContainerSpec.Privileges o
TaskTemplate.ContainerSpec.TTY b
TaskTemplate.ContainerSpec.OpenStdin b
TaskTemplate.ContainerSpec.ReadOnly b
TaskTemplate.ContainerSpec.Mounts O
TaskTemplate.ContainerSpec.StopSignal s
TaskTemplate.ContainerSpec.StopGracePeriod n
TaskTemplate.ContainerSpec.Healthcheck o
TaskTemplate.ContainerSpec.Hosts L
TaskTemplate.ContainerSpec.DNSConfig o
TaskTemplate.ContainerSpec.Init b
TaskTemplate.ContainerSpec.Sysctls M
TaskTemplate.ContainerSpec.CapabilityAdd L
TaskTemplate.ContainerSpec.Ulimits O
TaskTemplate.Resources o
TaskTemplate.Resources.Limits o
TaskTemplate.Resources.Limits.NanoCPUs n
TaskTemplate.Resources.Reservations.GenericResources O
TaskTemplate.RestartPolicy o
TaskTemplate.RestartPolicy.Condition s
TaskTemplate.RestartPolicy.Delay n
TaskTemplate.Placement o
TaskTemplate.Placement.Constraints L
TaskTemplate.ForceUpdate n
TaskTemplate.Runtime s
TaskTemplate.Networks O
TaskTemplate.LogDriver o
Mode o
Mode.Replicated o
Mode.Replicated.Replicas n
UpdateConfig o
UpdateConfig.Parallelism n
UpdateConfig.MaxFailureRatio n
UpdateConfig.Order s
RollbackConfig o
Networks O
EndpointSpec o
EndpointSpec.Mode s
EndpointSpec.Ports O
EndpointSpec.Ports[].TargetPort n",
    },
    Model {
        path: "/swarm/init",
        body: "{}",
        fields: "
ListenAddr s
AdvertiseAddr s
DataPathAddr s
DataPathPort n
DefaultAddrPool L
ForceNewCluster b
SubnetSize n
Spec o
Spec.Labels M
Spec.Raft o
Spec.Raft.SnapshotInterval n
Spec.Dispatcher o
Spec.CAConfig o",
    },
];

/// Method, path, and whether the request cannot do without a JSON body. `ID` is something hostile. No request of these
/// ends the cluster or the container that the test has.
pub(super) const ROUTES: &[(&str, &str, bool)] = &[
    ("GET", "/containers/json", false),
    ("POST", "/containers/create", true),
    ("POST", "/containers/prune", false),
    ("DELETE", "/containers/ID", false),
    ("GET", "/containers/ID/json", false),
    ("GET", "/containers/ID/top", false),
    ("GET", "/containers/ID/logs", false),
    ("GET", "/containers/ID/changes", false),
    ("GET", "/containers/ID/export", false),
    ("GET", "/containers/ID/stats", false),
    ("POST", "/containers/ID/resize", false),
    ("POST", "/containers/ID/start", false),
    ("POST", "/containers/ID/stop", false),
    ("POST", "/containers/ID/restart", false),
    ("POST", "/containers/ID/kill", false),
    ("POST", "/containers/ID/update", true),
    ("POST", "/containers/ID/rename", false),
    ("POST", "/containers/ID/pause", false),
    ("POST", "/containers/ID/unpause", false),
    ("POST", "/containers/ID/attach", false),
    ("GET", "/containers/ID/attach/ws", false),
    ("POST", "/containers/ID/wait", false),
    ("HEAD", "/containers/ID/archive", false),
    ("GET", "/containers/ID/archive", false),
    ("PUT", "/containers/ID/archive", false),
    ("POST", "/containers/ID/exec", true),
    ("GET", "/containers/ID/forward", false),
    ("POST", "/containers/ID/forward", false),
    ("POST", "/exec/ID/start", true),
    ("POST", "/exec/ID/resize", false),
    ("GET", "/exec/ID/json", false),
    ("GET", "/containers/NAME/json", false),
    ("GET", "/containers/NAME/top", false),
    ("GET", "/containers/NAME/changes", false),
    ("POST", "/containers/NAME/resize", false),
    ("POST", "/containers/NAME/update", true),
    ("HEAD", "/containers/NAME/archive", false),
    ("GET", "/containers/NAME/archive", false),
    ("PUT", "/containers/NAME/archive", false),
    ("POST", "/containers/NAME/exec", true),
    ("GET", "/images/json", false),
    ("GET", "/images/ID/json", false),
    ("GET", "/images/ID/history", false),
    ("GET", "/images/ID/get", false),
    ("GET", "/images/get", false),
    ("POST", "/images/ID/tag", false),
    ("POST", "/images/ID/push", false),
    ("POST", "/images/app:1/tag", false),
    ("POST", "/images/load", true),
    ("DELETE", "/images/ID", false),
    ("POST", "/commit", false),
    ("GET", "/networks", false),
    ("POST", "/networks/create", true),
    ("GET", "/networks/ID", false),
    ("DELETE", "/networks/ID", false),
    ("POST", "/networks/ID/connect", true),
    ("POST", "/networks/ID/disconnect", true),
    ("POST", "/networks/bridge/connect", true),
    ("POST", "/networks/bridge/disconnect", true),
    ("POST", "/networks/prune", false),
    ("GET", "/volumes", false),
    ("POST", "/volumes/create", true),
    ("GET", "/volumes/ID", false),
    ("DELETE", "/volumes/ID", false),
    ("POST", "/volumes/prune", false),
    ("POST", "/auth", true),
    ("GET", "/info", false),
    ("GET", "/version", false),
    ("GET", "/_ping", false),
    ("GET", "/events", false),
    ("GET", "/plugins", false),
    ("GET", "/system/df", false),
    ("GET", "/system/df/all", false),
    ("POST", "/system/prune/all", false),
    ("GET", "/doctor", false),
    ("GET", "/swarm", false),
    ("POST", "/swarm/init", true),
    ("POST", "/swarm/join", true),
    ("POST", "/swarm/update", true),
    ("GET", "/swarm/unlockkey", false),
    ("POST", "/swarm/unlock", true),
    ("POST", "/swarm/backup", true),
    ("POST", "/swarm/restore", false),
    ("POST", "/swarm/managers", true),
    ("GET", "/nodes", false),
    ("GET", "/nodes/ID", false),
    ("DELETE", "/nodes/ID", false),
    ("POST", "/nodes/ID/update", true),
    ("GET", "/services", false),
    ("POST", "/services/create", true),
    ("GET", "/services/ID", false),
    ("DELETE", "/services/ID", false),
    ("POST", "/services/ID/update", true),
    ("GET", "/services/ID/logs", false),
    ("GET", "/tasks", false),
    ("GET", "/tasks/ID", false),
    ("GET", "/tasks/ID/logs", false),
];

/// Names in query strings that some route reads.
pub(super) const PARAMETERS: &[&str] = &[
    "all",
    "limit",
    "size",
    "filters",
    "name",
    "platform",
    "t",
    "signal",
    "h",
    "w",
    "ps_args",
    "since",
    "until",
    "tail",
    "stdout",
    "stderr",
    "timestamps",
    "path",
    "condition",
    "repo",
    "tag",
    "comment",
    "changes",
    "container",
    "version",
    "type",
    "names",
    "verbose",
    "summary",
    "volumes",
    "detachKeys",
    "logs",
    "fromImage",
    "checkpoint",
    "link",
    "v",
    "registryAuthFrom",
];
