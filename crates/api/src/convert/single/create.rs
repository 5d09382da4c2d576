//! The body of `/containers/create`.

use std::net::IpAddr;

use serde_json::Value;
use types::{DeviceRequest, DnsConfig, Labels, LogDriver, plain_path};

use super::{
    limits, mounts, network,
    security::{self, NameSpaces},
    spec::{DeviceRuleRequest, Limits, NetworkRequest, RestartPolicy, SingleSpec, Streams},
};
use crate::convert::{
    claim, container, exec,
    reader::{FieldError, Object},
};

pub(super) fn read(mut from: Object<'_>) -> Result<SingleSpec, FieldError> {
    let mut host = from.object("HostConfig")?;
    let image = read_image(&mut from)?;
    let ports = network::read_ports(&mut from, &mut host)?;
    let (network, endpoint_links) = network::read(&mut from, &mut host)?;
    let (auto_remove, restart) = read_end(&mut host)?;
    let mounts = mounts::read(&mut from, &mut host)?;
    let security = security::read(&mut host)?;
    let NameSpaces { pid, ipc, uts_of_host, cgroupns_of_host } = security::read_namespaces(&mut host)?;
    let hostname = read_hostname(&mut from, uts_of_host)?;
    let spec = SingleSpec {
        image,
        entrypoint: read_entrypoint(&mut from)?,
        command: from.words("Cmd")?.unwrap_or_default(),
        env: read_env(&mut from)?,
        dir: read_directory(&mut from)?,
        user: from.string("User")?,
        groups: host.strings("GroupAdd")?,
        hostname,
        domainname: from.string("Domainname")?,
        labels: from.labels("Labels")?,
        streams: read_streams(&mut from)?,
        stop_signal: from.string("StopSignal")?,
        stop_timeout: from.integer("StopTimeout")?,
        health: container::read_health(from.object("Healthcheck")?)?,
        exposed: ports.exposed,
        ports: ports.published,
        publish_all: host.boolean("PublishAllPorts")?,
        mounts,
        volumes_from: host.strings("VolumesFrom")?,
        volume_driver: host.string("VolumeDriver")?,
        network,
        links: [endpoint_links, network::read_links(&mut host)?].concat(),
        dns: read_dns(&mut host)?,
        extra_hosts: read_hosts(&mut host)?,
        restart,
        auto_remove,
        init: host.take("Init").map(|_| host.boolean("Init")).transpose()?,
        privileged: host.boolean("Privileged")?,
        read_only: host.boolean("ReadonlyRootfs")?,
        capability_add: host.strings("CapAdd")?,
        capability_drop: host.strings("CapDrop")?,
        devices: read_devices(&mut host)?,
        claims: claim::read(&mut host)?,
        device_rules: read_device_rules(&mut host)?,
        security: security.texts,
        seccomp: security.seccomp,
        no_new_privileges: security.no_new_privileges,
        writable_cgroups: security.writable_cgroups,
        isolation: read_isolation(&mut host)?,
        annotations: read_annotations(&mut host)?,
        console_rows_columns: exec::read_size(&mut host)?,
        masked_paths: read_paths(&mut host, "MaskedPaths")?,
        readonly_paths: read_paths(&mut host, "ReadonlyPaths")?,
        ulimits: container::read_ulimits(&mut host)?,
        sysctls: host.labels("Sysctls")?,
        shm_size_bytes: read_shm(&mut host)?,
        pid,
        ipc,
        uts_of_host,
        cgroupns_of_host,
        limits: read_limits(&mut host)?,
        oom_score_adj: container::read_oom_score_adj(&mut host)?,
        log: read_log(&mut host)?,
    };
    conflict(&spec).map_or(Ok(()), |text| Err(host.bad("NetworkMode", text)))?;
    finish(from, host)?;
    Ok(spec)
}

/// What is left of a body when all that means something was taken.
fn finish(mut from: Object<'_>, mut host: Object<'_>) -> Result<(), FieldError> {
    read_what_means_nothing(&mut from, &mut host)?;
    host.finish()?;
    from.finish()
}

/// What a container cannot have of its own that shares the network of another one, or the host's; in Docker's words (moby
/// `runconfig/errors.go`).
fn conflict(spec: &SingleSpec) -> Option<&'static str> {
    let is_shared = matches!(spec.network, NetworkRequest::Container(_));
    let conflicts = [
        (is_shared && !spec.hostname.is_empty(), "conflicting options: hostname and the network mode"),
        (
            is_shared && !spec.links.is_empty(),
            "conflicting options: container type network can't be used with links. This would result in undefined behavior",
        ),
        (is_shared && !spec.dns.nameservers.is_empty(), "conflicting options: dns and the network mode"),
        (
            is_shared && !spec.extra_hosts.is_empty(),
            "conflicting options: custom host-to-IP mapping and the network mode",
        ),
        (
            is_shared && (!spec.ports.is_empty() || spec.publish_all),
            "conflicting options: port publishing and the container type network mode",
        ),
        (
            is_shared && !spec.exposed.is_empty(),
            "conflicting options: port exposing and the container type network mode",
        ),
        (
            matches!(spec.network, NetworkRequest::Host) && !spec.links.is_empty(),
            "conflicting options: host type networking can't be used with links. This would result in undefined behavior",
        ),
    ];
    conflicts.into_iter().find(|(is_so, _)| *is_so).map(|(_, text)| text)
}

fn read_image(from: &mut Object<'_>) -> Result<String, FieldError> {
    match from.string("Image")? {
        image if image.is_empty() => {
            Err(FieldError::Missing { path: from.path("Image"), hint: "give the image to run" })
        }
        image => Ok(image),
    }
}

/// What becomes of it when it ends.
fn read_end(host: &mut Object<'_>) -> Result<(bool, RestartPolicy), FieldError> {
    let (auto_remove, restart) = (host.boolean("AutoRemove")?, read_restart(host)?);
    if auto_remove && restart != RestartPolicy::No {
        return Err(host.bad("AutoRemove", "can't create 'AutoRemove' container with restart policy"));
    }
    Ok((auto_remove, restart))
}

fn read_hostname(from: &mut Object<'_>, uts_of_host: bool) -> Result<String, FieldError> {
    let hostname = from.string("Hostname")?;
    if uts_of_host && !hostname.is_empty() {
        return Err(from.bad("Hostname", "conflicting options: hostname and the UTS mode"));
    }
    Ok(hostname)
}

/// What clients send and what changes nothing here: for Windows, for the client itself, or the one thing there is.
fn read_what_means_nothing(from: &mut Object<'_>, host: &mut Object<'_>) -> Result<(), FieldError> {
    from.boolean("ArgsEscaped")?;
    // what an image says to those that are built from it
    from.strings("OnBuild")?;
    from.strings("Shell")?;
    host.string("ContainerIDFile")?;
    // The first place is that of clients before API 1.18.
    check_runtime(from)?;
    check_runtime(host)
}

/// A bound on the root filesystem is kept by no storage driver here; the words are those of Docker's overlay2.
fn read_limits(host: &mut Object<'_>) -> Result<Limits, FieldError> {
    if !host.labels("StorageOpt")?.is_empty() {
        let text = "--storage-opt is supported only for overlay over xfs with 'pquota' mount option, and not by rswarm; \
                    bound what is written with a volume (--mount type=tmpfs,tmpfs-size=…) or --read-only";
        return Err(host.bad("StorageOpt", text));
    }
    limits::read(host)
}

/// Of the kinds that there are elsewhere this system has one.
fn read_isolation(host: &mut Object<'_>) -> Result<String, FieldError> {
    let isolation = host.string("Isolation")?;
    if isolation.is_empty() || isolation.eq_ignore_ascii_case("default") {
        return Ok(isolation);
    }
    let text = format!("invalid isolation ({isolation}) on linux: it exists on Windows only; leave it out");
    Err(host.bad("Isolation", text))
}

fn check_runtime(from: &mut Object<'_>) -> Result<(), FieldError> {
    let runtime = from.string("Runtime")?;
    if matches!(runtime.as_str(), "" | "runc" | "io.containerd.runc.v2") {
        return Ok(());
    }
    let one = "one runtime serves all containers of this host; leave it out";
    Err(from.bad("Runtime", format!("unknown or invalid runtime name: {runtime}: {one}")))
}

/// One empty word takes the image's entrypoint away, as the docker CLI writes `--entrypoint ""`.
fn read_entrypoint(from: &mut Object<'_>) -> Result<Option<Vec<String>>, FieldError> {
    let words = from.words("Entrypoint")?.filter(|words| !words.is_empty());
    Ok(words.map(|words| if words.iter().all(String::is_empty) { Vec::new() } else { words }))
}

fn read_env(from: &mut Object<'_>) -> Result<Vec<String>, FieldError> {
    let env = from.strings("Env")?;
    match env.iter().find(|variable| variable.is_empty() || variable.starts_with('=')) {
        Some(variable) => Err(from.bad("Env", format!("invalid environment variable: {variable}"))),
        None => Ok(env),
    }
}

fn read_directory(from: &mut Object<'_>) -> Result<String, FieldError> {
    let directory = from.string("WorkingDir")?;
    if directory.is_empty() {
        return Ok(directory);
    }
    if directory.starts_with('/') {
        return Ok(plain_path(&directory));
    }
    let text = format!("the working directory '{directory}' is invalid, it needs to be an absolute path");
    Err(from.bad("WorkingDir", text))
}

fn read_annotations(host: &mut Object<'_>) -> Result<Labels, FieldError> {
    let annotations = host.labels("Annotations")?;
    if annotations.contains_key("") {
        let text = "invalid Annotations: the empty string is not permitted as an annotation key";
        return Err(host.bad("Annotations", text));
    }
    Ok(annotations)
}

fn read_streams(from: &mut Object<'_>) -> Result<Streams, FieldError> {
    Ok(Streams {
        tty: from.boolean("Tty")?,
        open_stdin: from.boolean("OpenStdin")?,
        stdin_once: from.boolean("StdinOnce")?,
        attach_stdin: from.boolean("AttachStdin")?,
        attach_stdout: from.boolean("AttachStdout")?,
        attach_stderr: from.boolean("AttachStderr")?,
    })
}

/// Docker's words, from moby `api/types/container/hostconfig.go`.
pub(super) fn read_restart(host: &mut Object<'_>) -> Result<RestartPolicy, FieldError> {
    let mut from = host.object("RestartPolicy")?;
    let name = from.string("Name")?;
    let count = from.integer("MaximumRetryCount")?.unwrap_or(0);
    let bad = |field: &str, text: String| from.bad(field, format!("invalid restart policy: {text}"));
    let policy = match name.as_str() {
        "" | "no" => RestartPolicy::No,
        "always" => RestartPolicy::Always,
        "unless-stopped" => RestartPolicy::UnlessStopped,
        "on-failure" => {
            let most = u32::try_from(count);
            RestartPolicy::OnFailure(
                most.map_err(|_| bad("MaximumRetryCount", "maximum retry count cannot be negative".to_owned()))?,
            )
        }
        other => {
            let known = "use one of 'no', 'always', 'on-failure', or 'unless-stopped'";
            return Err(bad("Name", format!("unknown policy '{other}'; {known}")));
        }
    };
    if count != 0 && !matches!(policy, RestartPolicy::OnFailure(_)) {
        let text = "maximum retry count can only be used with 'on-failure'".to_owned();
        return Err(bad("MaximumRetryCount", text));
    }
    from.finish()?;
    Ok(policy)
}

fn read_dns(host: &mut Object<'_>) -> Result<DnsConfig, FieldError> {
    let address = |text: &String| text.parse::<IpAddr>().map_err(|_| text.clone());
    let nameservers: Result<_, String> = host.strings("Dns")?.iter().map(address).collect();
    Ok(DnsConfig {
        nameservers: nameservers.map_err(|text| host.bad("Dns", format!("{text:?} is not an IP address")))?,
        search: host.strings("DnsSearch")?,
        options: host.strings("DnsOptions")?,
    })
}

/// `name:address`; the address of the host is `host-gateway`.
fn read_hosts(host: &mut Object<'_>) -> Result<Vec<String>, FieldError> {
    let hosts = host.strings("ExtraHosts")?;
    for entry in &hosts {
        let Some((name, address)) = entry.split_once(':').filter(|(name, _)| !name.is_empty()) else {
            return Err(host.bad("ExtraHosts", format!("bad format for add-host: {entry:?}; write name:address")));
        };
        let bare = address.trim_start_matches('[').trim_end_matches(']');
        if address != "host-gateway" && bare.parse::<IpAddr>().is_err() {
            let text = format!("invalid IP address in add-host: {address:?} (for {name})");
            return Err(host.bad("ExtraHosts", text));
        }
    }
    Ok(hosts)
}

pub(crate) fn read_devices(host: &mut Object<'_>) -> Result<Vec<DeviceRequest>, FieldError> {
    let mut devices = Vec::new();
    for mut from in host.objects("Devices")? {
        let path = from.string("PathOnHost")?;
        if !path.starts_with('/') {
            return Err(from.bad("PathOnHost", format!("{path:?} is not an absolute path of the host")));
        }
        let container = Some(from.string("PathInContainer")?).filter(|path| !path.is_empty());
        let permissions = Some(from.string("CgroupPermissions")?).filter(|text| !text.is_empty());
        let permissions = permissions.unwrap_or_else(|| "rwm".to_owned());
        if !are_permissions(&permissions) {
            return Err(from.bad("CgroupPermissions", format!("{permissions:?} is not some of r, w and m")));
        }
        from.finish()?;
        devices.push(DeviceRequest { container: container.unwrap_or_else(|| path.clone()), host: path, permissions });
    }
    Ok(devices)
}

fn read_device_rules(host: &mut Object<'_>) -> Result<Vec<DeviceRuleRequest>, FieldError> {
    let texts = host.strings("DeviceCgroupRules")?;
    let rule = |text: &String| {
        device_rule(text).ok_or_else(|| {
            let form = "write a, b or c, then numbers or *, then some of r, w and m: 'c 42:* rmw'";
            host.bad("DeviceCgroupRules", format!("invalid device cgroup rule format: '{text}': {form}"))
        })
    };
    texts.iter().map(rule).collect()
}

fn device_rule(text: &str) -> Option<DeviceRuleRequest> {
    let mut words = text.split_whitespace();
    let (kind, numbers, permissions) = (words.next()?, words.next()?, words.next()?);
    let kind = kind.chars().next().filter(|first| kind.len() == 1 && matches!(first, 'a' | 'b' | 'c'))?;
    let (major, minor) = numbers.split_once(':')?;
    let number = |text: &str| match text {
        "*" => Some(None),
        digits => digits.parse::<u32>().ok().map(|number| Some(i64::from(number))),
    };
    let (major, minor) = (number(major)?, number(minor)?);
    let is_whole = words.next().is_none() && are_permissions(permissions);
    is_whole.then(|| DeviceRuleRequest { kind, major, minor, permissions: permissions.to_owned() })
}

fn are_permissions(text: &str) -> bool {
    !text.is_empty() && text.len() <= 3 && text.bytes().all(|byte| b"rwm".contains(&byte))
}

/// An empty list hides nothing; none at all is Docker's default.
fn read_paths(host: &mut Object<'_>, field: &'static str) -> Result<Option<Vec<String>>, FieldError> {
    host.take(field).map(|_: &Value| host.strings(field)).transpose()
}

pub(crate) fn read_shm(host: &mut Object<'_>) -> Result<u64, FieldError> {
    let size = host.integer("ShmSize")?.unwrap_or(0);
    u64::try_from(size).map_err(|_| host.bad("ShmSize", "SHM size can not be less than 0"))
}

fn read_log(host: &mut Object<'_>) -> Result<Option<LogDriver>, FieldError> {
    let mut from = host.object("LogConfig")?;
    let driver = LogDriver { name: from.string("Type")?, options: from.labels("Config")? };
    from.finish()?;
    Ok(Some(driver).filter(|driver| !driver.name.is_empty() || !driver.options.is_empty()))
}
