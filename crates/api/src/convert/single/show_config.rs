//! What was asked of a container, given back: `Config` and `HostConfig` of `inspect`.

use node::engine::containers::{
    ContainerView,
    spec::{
        AskedMount, Limits, MountForm, NamespaceRequest, NetworkRequest, PortRequest, RestartPolicy, SingleSpec,
        ThrottleKind, WeightRequest,
    },
};
use serde_json::{Map, Value, json};
use types::Ulimit;

use crate::convert::{claim, container, mount, writer::Fields};

/// The kernel's share of memory when nobody asks for another.
const DEFAULT_SHM_BYTES: u64 = 64 << 20;

pub(crate) fn config(view: &ContainerView) -> Value {
    let (spec, merged, streams) = (&view.spec, &view.merged, view.spec.streams);
    let exposed: Map<String, Value> =
        merged.exposed.iter().map(|(port, kind)| (format!("{port}/{kind}"), json!({}))).collect();
    let own = spec.mounts.iter().filter(|asked| asked.form == MountForm::Volume).map(|asked| &asked.mount.target);
    let volumes: Map<String, Value> =
        merged.volumes.iter().chain(own).map(|target| (target.clone(), json!({}))).collect();
    let words = |words: &Vec<String>| (!words.is_empty()).then(|| words.clone());
    // that of its first place, for clients that know of one only
    let mac = match &spec.network {
        NetworkRequest::Places(places) => places.first().map_or("", |place| place.mac.as_str()),
        _ => "",
    };
    Fields::new()
        .set("Hostname", &merged.hostname)
        .set("Domainname", &spec.domainname)
        .set("User", &merged.user)
        .set("AttachStdin", streams.attach_stdin)
        .set("AttachStdout", streams.attach_stdout)
        .set("AttachStderr", streams.attach_stderr)
        .unless_empty("ExposedPorts", exposed)
        .set("Tty", streams.tty)
        .set("OpenStdin", streams.open_stdin)
        .set("StdinOnce", streams.stdin_once)
        .set("Env", &merged.env)
        .set("Cmd", words(&merged.command))
        .some("Healthcheck", merged.health.as_ref().or(spec.health.as_ref()).map(container::write_health))
        .set("Image", if spec.image.is_empty() { &view.image } else { &spec.image })
        .set("Volumes", (!volumes.is_empty()).then_some(volumes))
        .set("WorkingDir", &merged.dir)
        .set("Entrypoint", words(&merged.entrypoint))
        .unless_empty("MacAddress", mac)
        .set("OnBuild", Value::Null)
        .set("Labels", &merged.labels)
        .unless_empty("StopSignal", &merged.stop_signal)
        .some("StopTimeout", spec.stop_timeout)
        .done()
}

pub(super) fn host_config(view: &ContainerView) -> Value {
    let spec = &view.spec;
    let list = |texts: &Vec<String>| (!texts.is_empty()).then(|| texts.clone());
    let mounts = Mounts::of(&spec.mounts);
    let (policy, most) = restart(spec.restart);
    let log = spec.log.as_ref();
    let log_name = log.map_or("json-file", |log| if log.name.is_empty() { "json-file" } else { &log.name });
    let fields = Fields::new()
        .set("Binds", list(&mounts.binds))
        .set("ContainerIDFile", "")
        .set(
            "LogConfig",
            json!({ "Type": log_name, "Config": log.map(|log| &log.options).unwrap_or(&types::Labels::new()) }),
        )
        .set("NetworkMode", network_mode(&spec.network))
        .set("PortBindings", port_bindings(&spec.ports))
        .set("RestartPolicy", json!({ "Name": policy, "MaximumRetryCount": most }))
        .set("AutoRemove", spec.auto_remove)
        .set("VolumeDriver", &spec.volume_driver)
        .set("VolumesFrom", list(&spec.volumes_from))
        .set("ConsoleSize", [spec.console_rows_columns.0, spec.console_rows_columns.1])
        .set("CapAdd", list(&spec.capability_add))
        .set("CapDrop", list(&spec.capability_drop))
        .set("CgroupnsMode", if spec.cgroupns_of_host { "host" } else { "private" })
        .set("Dns", &spec.dns.nameservers)
        .set("DnsOptions", &spec.dns.options)
        .set("DnsSearch", &spec.dns.search)
        .set("ExtraHosts", list(&spec.extra_hosts))
        .set("GroupAdd", list(&spec.groups))
        .set("IpcMode", namespace(&spec.ipc, "private"))
        .set("Cgroup", "")
        .set("Links", links(view))
        .set("OomScoreAdj", spec.oom_score_adj)
        .set("PidMode", namespace(&spec.pid, ""))
        .set("Privileged", spec.privileged)
        .set("PublishAllPorts", spec.publish_all)
        .set("ReadonlyRootfs", spec.read_only)
        .set("SecurityOpt", list(&security(spec)))
        .unless_empty("Tmpfs", mounts.tmpfs)
        .set("UTSMode", if spec.uts_of_host { "host" } else { "" })
        .set("UsernsMode", "")
        .set("ShmSize", if spec.shm_size_bytes == 0 { DEFAULT_SHM_BYTES } else { spec.shm_size_bytes })
        .unless_empty("Sysctls", &spec.sysctls)
        .set("Runtime", "runc")
        .set("Isolation", &spec.isolation)
        .unless_empty("Mounts", mounts.mounts)
        .some("Init", spec.init)
        .set("MaskedPaths", hidden(spec, spec.masked_paths.as_ref(), || node::engine::masked_paths().to_vec()))
        .set(
            "ReadonlyPaths",
            hidden(spec, spec.readonly_paths.as_ref(), || node::engine::READONLY_PATHS.map(str::to_owned).to_vec()),
        )
        .unless_empty("Annotations", &spec.annotations);
    resources(fields, spec).done()
}

/// What is really hidden of /proc and /sys, unless a privileged container sees it all.
fn hidden(
    spec: &SingleSpec,
    chosen: Option<&Vec<String>>,
    default: impl FnOnce() -> Vec<String>,
) -> Option<Vec<String>> {
    chosen.cloned().or_else(|| (!spec.privileged).then(default))
}

fn resources(fields: Fields, spec: &SingleSpec) -> Fields {
    let limits: &Limits = &spec.limits;
    let ulimit = |u: &Ulimit| json!({ "Name": u.name, "Hard": u.hard, "Soft": u.soft });
    let rule = |rule: &node::engine::containers::spec::DeviceRuleRequest| {
        let number = |number: Option<i64>| number.map_or("*".to_owned(), |number| number.to_string());
        format!("{} {}:{} {}", rule.kind, number(rule.major), number(rule.minor), rule.permissions)
    };
    let weight = |of: &WeightRequest| json!({ "Path": of.path, "Weight": of.weight });
    let throttles = |kind: ThrottleKind| {
        let of_kind = limits.throttles.iter().filter(move |throttle| throttle.kind == kind);
        of_kind.map(|throttle| json!({ "Path": throttle.path, "Rate": throttle.rate })).collect::<Vec<_>>()
    };
    fields
        .set("CpuShares", limits.cpu_shares)
        .set("Memory", limits.memory_bytes)
        .set("NanoCpus", limits.nano_cpus)
        .set("CgroupParent", &limits.cgroup_parent)
        .set("BlkioWeight", limits.blkio_weight)
        .set("BlkioWeightDevice", limits.device_weights.iter().map(weight).collect::<Vec<_>>())
        .set("BlkioDeviceReadBps", throttles(ThrottleKind::ReadBytes))
        .set("BlkioDeviceWriteBps", throttles(ThrottleKind::WriteBytes))
        .set("BlkioDeviceReadIOps", throttles(ThrottleKind::ReadOperations))
        .set("BlkioDeviceWriteIOps", throttles(ThrottleKind::WriteOperations))
        .set("CpuPeriod", limits.cpu_period_us)
        .set("CpuQuota", limits.cpu_quota_us)
        .set("CpuRealtimePeriod", 0)
        .set("CpuRealtimeRuntime", 0)
        .set("CpusetCpus", &limits.cpuset_cpus)
        .set("CpusetMems", &limits.cpuset_mems)
        .set("Devices", spec.devices.iter().map(write_device).collect::<Vec<_>>())
        .set("DeviceCgroupRules", spec.device_rules.iter().map(rule).collect::<Vec<_>>())
        .set(
            "DeviceRequests",
            (!spec.claims.is_empty()).then(|| spec.claims.iter().map(claim::write).collect::<Vec<_>>()),
        )
        .set("MemoryReservation", limits.memory_reservation_bytes)
        .set("MemorySwap", limits.swap_bytes())
        .set("MemorySwappiness", limits.swappiness)
        .set("OomKillDisable", limits.oom_kill_disable)
        .set("PidsLimit", (limits.pids > 0 || limits.pids_lifted).then_some(limits.pids))
        .set("Ulimits", spec.ulimits.iter().map(ulimit).collect::<Vec<_>>())
        .set("CpuCount", 0)
        .set("CpuPercent", 0)
        .set("IOMaximumIOps", 0)
        .set("IOMaximumBandwidth", 0)
}

pub(super) fn network_mode(network: &NetworkRequest) -> String {
    match network {
        NetworkRequest::None => "none".to_owned(),
        NetworkRequest::Host => "host".to_owned(),
        NetworkRequest::Container(name) => format!("container:{name}"),
        NetworkRequest::Places(places) => places.first().map_or("bridge", |place| &place.network).to_owned(),
    }
}

fn namespace(request: &NamespaceRequest, own: &str) -> String {
    match request {
        NamespaceRequest::Private => own.to_owned(),
        NamespaceRequest::Shareable => "shareable".to_owned(),
        NamespaceRequest::None => "none".to_owned(),
        NamespaceRequest::Host => "host".to_owned(),
        NamespaceRequest::Container(name) => format!("container:{name}"),
    }
}

fn restart(policy: RestartPolicy) -> (&'static str, u32) {
    match policy {
        RestartPolicy::No => ("no", 0),
        RestartPolicy::Always => ("always", 0),
        RestartPolicy::UnlessStopped => ("unless-stopped", 0),
        RestartPolicy::OnFailure(most) => ("on-failure", most),
    }
}

/// `/db:/web/database`, as Docker shows links on the host's bridge. Those of other networks are their endpoints'.
fn links(view: &ContainerView) -> Option<Vec<String>> {
    let link = |(container, alias): &(String, String)| format!("/{container}:/{}/{alias}", view.name);
    (view.spec.is_on_bridge() && !view.spec.links.is_empty()).then(|| view.spec.links.iter().map(link).collect())
}

fn port_bindings(ports: &[PortRequest]) -> Map<String, Value> {
    let mut map: Map<String, Value> = Map::new();
    for port in ports {
        let host = match port.host {
            None => String::new(),
            Some((first, last)) if first == last => first.to_string(),
            Some((first, last)) => format!("{first}-{last}"),
        };
        let address = port.address.map(|address| address.to_string()).unwrap_or_default();
        let binding = json!({ "HostIp": address, "HostPort": host });
        let entry = map.entry(format!("{}/{}", port.target, port.protocol)).or_insert_with(|| json!([]));
        if let Value::Array(bindings) = entry {
            bindings.push(binding);
        }
    }
    map
}

/// Mounts as they were asked for: those of `-v`, of `--mount` and of `--tmpfs`.
#[derive(Default)]
struct Mounts {
    binds: Vec<String>,
    mounts: Vec<Value>,
    tmpfs: Map<String, Value>,
}

impl Mounts {
    fn of(asked: &[AskedMount]) -> Self {
        let mut all = Self::default();
        for AskedMount { mount, form } in asked {
            match form {
                MountForm::Bind(text) => all.binds.push(text.clone()),
                MountForm::Mount => all.mounts.push(mount::write(mount)),
                MountForm::Tmpfs(text) => drop(all.tmpfs.insert(mount.target.clone(), text.clone().into())),
                // `Config.Volumes` shows it
                MountForm::Volume => {}
            }
        }
        all
    }
}

/// Docker writes down that a container with all rights, or with the host's processes or memory, has no label.
fn security(spec: &SingleSpec) -> Vec<String> {
    let of_host = spec.privileged || spec.ipc == NamespaceRequest::Host || spec.pid == NamespaceRequest::Host;
    let has_label = spec.security.iter().any(|text| text.split('=').next() == Some("label"));
    let added = (of_host && !has_label).then(|| "label=disable".to_owned());
    spec.security.iter().cloned().chain(added).collect()
}

pub(crate) fn write_device(device: &types::DeviceRequest) -> Value {
    json!({
        "PathOnHost": device.host,
        "PathInContainer": device.container,
        "CgroupPermissions": device.permissions,
    })
}
