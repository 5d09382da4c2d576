//! Docker's `ContainerSpec` to `types::ContainerSpec` and back.

use std::{net::IpAddr, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde_json::{Value, json};
use types::{
    AppArmorMode, Bytes, ContainerSpec, DependencyKind, DnsConfig, HealthCheck, HealthTest, HostConfig, ImageReference,
    Seccomp, SelinuxLabel, Ulimit,
};

use super::{
    claim, dependency, mount,
    reader::{FieldError, Object},
    single,
    time::nanos,
    writer::Fields,
};

pub(crate) fn read(mut from: Object<'_>) -> Result<ContainerSpec, FieldError> {
    let image = from.parsed("Image", |text| text.parse::<ImageReference>().map_err(|why| why.to_string()))?;
    let image = image.ok_or(FieldError::Missing { path: from.path("Image"), hint: "give the image to run" })?;
    let isolation = from.string("Isolation")?;
    if !matches!(isolation.as_str(), "" | "default") {
        return Err(from.bad("Isolation", format!("{isolation:?} exists on Windows only; leave it out")));
    }
    let default = ContainerSpec::of_image(image.with_default_tag());
    let Privileges { seccomp, no_new_privileges, selinux_disabled, selinux_label, apparmor } =
        read_privileges(from.object("Privileges")?)?;
    let spec = ContainerSpec {
        labels: from.labels("Labels")?,
        command: from.strings("Command")?,
        args: from.strings("Args")?,
        env: from.strings("Env")?,
        dir: from.string("Dir")?,
        user: from.string("User")?,
        groups: from.strings("Groups")?,
        hostname: from.string("Hostname")?,
        tty: from.boolean("TTY")?,
        open_stdin: from.boolean("OpenStdin")?,
        read_only: from.boolean("ReadOnly")?,
        init: from.boolean("Init")?,
        no_init: from.take("Init").is_some_and(|said| said == false),
        stop_signal: from.string("StopSignal")?,
        stop_grace_period: from.duration("StopGracePeriod")?.unwrap_or(default.stop_grace_period),
        health_check: read_health(from.object("Healthcheck")?)?,
        mounts: mount::read_all(&mut from)?,
        hosts: from.strings("Hosts")?,
        dns: read_dns(from.object("DNSConfig")?)?,
        capability_add: from.strings("CapabilityAdd")?,
        capability_drop: from.strings("CapabilityDrop")?,
        sysctls: from.labels("Sysctls")?,
        ulimits: read_ulimits(&mut from)?,
        oom_score_adj: read_oom_score_adj(&mut from)?,
        dependencies: dependency::read_references(&mut from)?,
        host: read_host(&mut from)?,
        seccomp,
        no_new_privileges,
        selinux_disabled,
        selinux_label,
        apparmor,
        ..default
    };
    from.finish()?;
    Ok(spec)
}

/// Fields that Docker has for single containers only, by the same names (P13).
fn read_host(from: &mut Object<'_>) -> Result<HostConfig, FieldError> {
    let of_host = |from: &mut Object<'_>, field: &'static str| {
        let mode = from.string(field)?;
        match mode.as_str() {
            "" | "private" => Ok(false),
            "host" => Ok(true),
            other => Err(from.bad(field, format!("{other:?} is not there for services; use host or private"))),
        }
    };
    Ok(HostConfig {
        privileged: from.boolean("Privileged")?,
        devices: single::read_devices(from)?,
        claims: claim::read(from)?,
        pid_of_host: of_host(from, "PidMode")?,
        ipc_of_host: of_host(from, "IpcMode")?,
        shm_size: Bytes(single::read_shm(from)?),
        cpuset_cpus: single::read_cpuset(from, "CpusetCpus")?,
        cpuset_mems: single::read_cpuset(from, "CpusetMems")?,
    })
}

struct Privileges {
    seccomp: Seccomp,
    no_new_privileges: bool,
    selinux_disabled: bool,
    selinux_label: SelinuxLabel,
    apparmor: Option<AppArmorMode>,
}

fn read_privileges(mut from: Object<'_>) -> Result<Privileges, FieldError> {
    let no_new_privileges = from.boolean("NoNewPrivileges")?;
    let mut selinux = from.object("SELinuxContext")?;
    let selinux_disabled = selinux.boolean("Disable")?;
    let selinux_label = SelinuxLabel {
        user: selinux.string("User")?,
        role: selinux.string("Role")?,
        kind: selinux.string("Type")?,
        level: selinux.string("Level")?,
    };
    selinux.finish()?;
    let apparmor = read_apparmor(from.object("AppArmor")?)?;
    let mut seccomp = from.object("Seccomp")?;
    let mode = seccomp.string("Mode")?;
    let profile = seccomp.string("Profile")?;
    let read = match mode.as_str() {
        "" | "default" if profile.is_empty() => Seccomp::Default,
        "unconfined" if profile.is_empty() => Seccomp::Unconfined,
        "custom" if !profile.is_empty() => {
            Seccomp::Profile(read_profile(&profile).map_err(|why| seccomp.bad("Profile", why))?)
        }
        "custom" => return Err(seccomp.bad("Profile", "mode custom needs the profile")),
        "" | "default" | "unconfined" => return Err(seccomp.bad("Profile", "a profile needs mode custom")),
        other => return Err(seccomp.bad("Mode", format!("{other:?} is unknown; use default, unconfined or custom"))),
    };
    seccomp.finish()?;
    from.finish()?;
    Ok(Privileges { seccomp: read, no_new_privileges, selinux_disabled, selinux_label, apparmor })
}

fn read_apparmor(mut from: Object<'_>) -> Result<Option<AppArmorMode>, FieldError> {
    let mode = from.string("Mode")?;
    let mode = match mode.as_str() {
        "" => None,
        "default" => Some(AppArmorMode::Default),
        "disabled" => Some(AppArmorMode::Disabled),
        other => return Err(from.bad("Mode", format!("{other:?} is unknown; use default or disabled"))),
    };
    from.finish()?;
    Ok(mode)
}

/// Docker's clients send the profile as base64 (Go's encoding of bytes); plain JSON text is taken too.
fn read_profile(text: &str) -> Result<String, String> {
    let plain = match text.trim_start().starts_with('{') {
        true => text.to_owned(),
        false => BASE64
            .decode(text)
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .ok_or("is neither JSON nor JSON in base64")?,
    };
    match serde_json::from_str::<Value>(&plain) {
        Ok(Value::Object(_)) => Ok(plain),
        Ok(_) => Err("is not a JSON object".to_owned()),
        Err(why) => Err(format!("is not JSON: {why}")),
    }
}

pub(crate) fn read_health(mut from: Object<'_>) -> Result<Option<HealthCheck>, FieldError> {
    let test = from.strings("Test")?;
    let duration = |name: &'static str, from: &mut Object<'_>| -> Result<Duration, FieldError> {
        let duration = from.duration(name)?.unwrap_or(Duration::ZERO);
        let too_short = !duration.is_zero() && duration < MIN_HEALTH_DURATION;
        let text = || format!("{name} in Healthcheck cannot be less than 1ms");
        if too_short { Err(from.bad(name, text())) } else { Ok(duration) }
    };
    let check = HealthCheck {
        interval: duration("Interval", &mut from)?,
        timeout: duration("Timeout", &mut from)?,
        start_period: duration("StartPeriod", &mut from)?,
        start_interval: duration("StartInterval", &mut from)?,
        retries: from.natural("Retries")?.unwrap_or(0).try_into().map_err(|_| from.bad("Retries", "is too large"))?,
        test: match test.split_first() {
            None => HealthTest::Image,
            Some((kind, [])) if kind == "NONE" => HealthTest::None,
            Some((kind, words)) if kind == "CMD" && !words.is_empty() => HealthTest::Command(words.to_vec()),
            Some((kind, [script])) if kind == "CMD-SHELL" => HealthTest::Shell(script.clone()),
            Some(_) => {
                let forms = r#"use ["NONE"], ["CMD", program, argument…] or ["CMD-SHELL", script]"#;
                return Err(from.bad("Test", forms));
            }
        },
    };
    let silent = HealthCheck {
        test: HealthTest::Image,
        interval: Duration::ZERO,
        timeout: Duration::ZERO,
        start_period: Duration::ZERO,
        start_interval: Duration::ZERO,
        retries: 0,
    };
    from.finish()?;
    Ok((check != silent).then_some(check))
}

/// Docker's lower bound (moby `daemon/container.go`).
const MIN_HEALTH_DURATION: Duration = Duration::from_millis(1);

fn read_dns(mut from: Object<'_>) -> Result<DnsConfig, FieldError> {
    let mut nameservers = Vec::new();
    for (at, text) in from.strings("Nameservers")?.iter().enumerate() {
        let bad = |_| from.bad(&format!("Nameservers[{at}]"), format!("{text:?} is not an IP address"));
        nameservers.push(text.parse::<IpAddr>().map_err(bad)?);
    }
    let config = DnsConfig { nameservers, search: from.strings("Search")?, options: from.strings("Options")? };
    from.finish()?;
    Ok(config)
}

pub(crate) fn read_ulimits(from: &mut Object<'_>) -> Result<Vec<Ulimit>, FieldError> {
    let mut ulimits = Vec::new();
    for mut item in from.objects("Ulimits")? {
        let name = item.string("Name")?;
        if name.is_empty() {
            return Err(item.bad("Name", "must not be empty"));
        }
        let soft = item.integer("Soft")?.unwrap_or(0);
        let hard = item.integer("Hard")?.unwrap_or(0);
        if hard >= 0 && (soft > hard || soft < 0) {
            return Err(item.bad("Soft", format!("{soft} is above the hard limit {hard}")));
        }
        item.finish()?;
        ulimits.push(Ulimit { name, soft, hard });
    }
    Ok(ulimits)
}

pub(crate) fn read_oom_score_adj(from: &mut Object<'_>) -> Result<i32, FieldError> {
    let value = from.integer("OomScoreAdj")?.unwrap_or(0);
    let bad = || from.bad("OomScoreAdj", format!("{value} is not between -1000 and 1000"));
    i32::try_from(value).ok().filter(|value| (-1000..=1000).contains(value)).ok_or_else(bad)
}

pub(crate) fn write(spec: &ContainerSpec) -> Value {
    let ulimit = |u: &Ulimit| json!({ "Name": u.name, "Hard": u.hard, "Soft": u.soft });
    Fields::new()
        .set("Image", spec.image.familiar())
        .unless_empty("Labels", &spec.labels)
        .unless_empty("Command", &spec.command)
        .unless_empty("Args", &spec.args)
        .unless_empty("Hostname", &spec.hostname)
        .unless_empty("Env", &spec.env)
        .unless_empty("Dir", &spec.dir)
        .unless_empty("User", &spec.user)
        .unless_empty("Groups", &spec.groups)
        .unless_empty("Privileges", write_privileges(spec))
        .some("Init", spec.init_asked())
        .unless_empty("StopSignal", &spec.stop_signal)
        .unless_empty("TTY", spec.tty)
        .unless_empty("OpenStdin", spec.open_stdin)
        .unless_empty("ReadOnly", spec.read_only)
        .unless_empty("Mounts", spec.mounts.iter().map(mount::write).collect::<Vec<_>>())
        .set("StopGracePeriod", nanos(spec.stop_grace_period))
        .some("Healthcheck", spec.health_check.as_ref().map(write_health))
        .unless_empty("Hosts", &spec.hosts)
        .set("DNSConfig", write_dns(&spec.dns))
        .unless_empty("Secrets", dependency::write_references(DependencyKind::Secret, &spec.dependencies))
        .unless_empty("Configs", dependency::write_references(DependencyKind::Config, &spec.dependencies))
        .set("Isolation", "default")
        .unless_empty("Sysctls", &spec.sysctls)
        .unless_empty("CapabilityAdd", &spec.capability_add)
        .unless_empty("CapabilityDrop", &spec.capability_drop)
        .unless_empty("Ulimits", spec.ulimits.iter().map(ulimit).collect::<Vec<_>>())
        .unless_empty("OomScoreAdj", spec.oom_score_adj)
        .unless_empty("Privileged", spec.host.privileged)
        .unless_empty("Devices", spec.host.devices.iter().map(single::write_device).collect::<Vec<_>>())
        .unless_empty("DeviceRequests", spec.host.claims.iter().map(claim::write).collect::<Vec<_>>())
        .unless_empty("PidMode", if spec.host.pid_of_host { "host" } else { "" })
        .unless_empty("IpcMode", if spec.host.ipc_of_host { "host" } else { "" })
        .unless_empty("ShmSize", spec.host.shm_size.0)
        .unless_empty("CpusetCpus", &spec.host.cpuset_cpus)
        .unless_empty("CpusetMems", &spec.host.cpuset_mems)
        .done()
}

fn write_privileges(spec: &ContainerSpec) -> Value {
    let seccomp = match &spec.seccomp {
        Seccomp::Default => None,
        Seccomp::Unconfined => Some(json!({ "Mode": "unconfined" })),
        Seccomp::Profile(profile) => Some(json!({ "Mode": "custom", "Profile": BASE64.encode(profile) })),
    };
    let SelinuxLabel { user, role, kind, level } = &spec.selinux_label;
    let selinux =
        || json!({ "Disable": spec.selinux_disabled, "User": user, "Role": role, "Type": kind, "Level": level });
    let is_said = spec.selinux_disabled || !spec.selinux_label.is_empty();
    Fields::new()
        .some("SELinuxContext", is_said.then(selinux))
        .some("Seccomp", seccomp)
        .some("AppArmor", spec.apparmor.map(|mode| json!({ "Mode": mode.as_str() })))
        .unless_empty("NoNewPrivileges", spec.no_new_privileges)
        .done()
}

pub(crate) fn write_health(check: &HealthCheck) -> Value {
    let mut test: Vec<&str> = Vec::new();
    match &check.test {
        HealthTest::None => test.push("NONE"),
        HealthTest::Image => {}
        HealthTest::Shell(script) => test.extend(["CMD-SHELL", script.as_str()]),
        HealthTest::Command(words) => {
            test.push("CMD");
            test.extend(words.iter().map(String::as_str));
        }
    }
    Fields::new()
        .unless_empty("Test", test)
        .unless_empty("Interval", nanos(check.interval))
        .unless_empty("Timeout", nanos(check.timeout))
        .unless_empty("StartPeriod", nanos(check.start_period))
        .unless_empty("StartInterval", nanos(check.start_interval))
        .unless_empty("Retries", check.retries)
        .done()
}

fn write_dns(dns: &DnsConfig) -> Value {
    Fields::new()
        .unless_empty("Nameservers", &dns.nameservers)
        .unless_empty("Search", &dns.search)
        .unless_empty("Options", &dns.options)
        .done()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// S-54: without SELinux and AppArmor what is said of them changes nothing and is shown as it was said.
    #[test]
    fn s_54_labels_and_profiles_of_no_meaning_come_back() {
        let shown = |privileges: Value| {
            let body = json!({ "Image": "a", "Privileges": privileges });
            read(Object::root(&body).expect("an object")).map(|spec| write(&spec)["Privileges"].clone())
        };
        let label = json!({ "Disable": true, "User": "u", "Role": "r", "Type": "t", "Level": "l" });
        for said in [
            json!({ "SELinuxContext": label, "AppArmor": { "Mode": "disabled" } }),
            json!({ "AppArmor": { "Mode": "default" } }),
        ] {
            assert_eq!(shown(said.clone()).expect("good"), said);
        }
        let error = shown(json!({ "AppArmor": { "Mode": "mine" } })).expect_err("no mode").to_string();
        assert!(error.contains("Privileges.AppArmor.Mode: \"mine\" is unknown; use default or disabled"), "{error}");
    }

    /// S-55: none at all is something else than none asked for.
    #[test]
    fn s_55_init_is_shown_as_it_was_said() {
        let of = |said: Value| {
            let body = json!({ "Image": "a", "Init": said });
            let spec = read(Object::root(&body).expect("an object")).expect("good");
            (spec.init_asked(), write(&spec).get("Init").cloned())
        };
        assert_eq!(of(json!(true)), (Some(true), Some(json!(true))));
        assert_eq!(of(json!(false)), (Some(false), Some(json!(false))));
        assert_eq!(of(Value::Null), (None, None));
    }
}
