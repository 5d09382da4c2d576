//! What a container gets by default, and how each wish changes it, as text.

use std::path::PathBuf;

use expect_test::{Expect, expect};

use super::*;
use crate::{
    config::{LogConfig, LogDriver, Mount, MountKind, Propagation, Ulimit},
    masked_paths,
};

fn config() -> ContainerConfig {
    let log = LogConfig { path: "/log".into(), driver: LogDriver::None, forward: None };
    ContainerConfig::new("0123456789abcdef", "/rootfs".into(), vec!["sh".to_owned()], log)
}

fn host() -> HostFacts {
    HostFacts {
        architecture: "x86_64",
        capabilities: u64::MAX,
        swap_limit: true,
        devices: Vec::new(),
        cgroup_path: "/rswarm/0123456789abcdef".to_owned(),
        cgroup_hierarchies: Vec::new(),
        masked_paths: masked_paths(),
    }
}

fn json_of(config: &ContainerConfig) -> Result<Value, InvalidConfig> {
    let user = resolve_user(&config.user, &config.additional_groups, "", "").map_err(InvalidConfig)?;
    let mut value = serde_json::to_value(spec(config, &user, &host())?).unwrap();
    // the order of members depends on which features other crates of a build ask for
    value.sort_all_objects();
    Ok(value)
}

/// One part of the specification, a line per member.
#[allow(clippy::needless_pass_by_value, reason = "expect! makes it on the spot")]
fn check(config: &ContainerConfig, pointer: &str, expected: Expect) {
    let text = match json_of(config) {
        Err(err) => format!("{err}\n"),
        Ok(value) => match value.pointer(pointer) {
            None => "absent\n".to_owned(),
            Some(Value::Array(items)) => items.iter().map(|item| format!("{item}\n")).collect(),
            Some(Value::Object(items)) => items.iter().map(|(key, item)| format!("{key} {item}\n")).collect(),
            Some(other) => format!("{other}\n"),
        },
    };
    expected.assert_eq(&text);
}

/// E-19: in another's pid namespace the hierarchies of v1 are bound one by one, those that it is in.
#[test]
fn e_19_cgroups_in_the_pid_namespace_of_another() {
    let host = HostFacts { cgroup_hierarchies: ["memory", "cpu,cpuacct", "misc"].map(str::to_owned).into(), ..host() };
    let shown = |config: &ContainerConfig| {
        let user = resolve_user("", &[], "", "").unwrap();
        let value = serde_json::to_value(spec(config, &user, &host).unwrap()).unwrap();
        let mounts = value["mounts"].as_array().cloned().unwrap_or_default();
        let text = |mount: &Value, field: &str| mount[field].as_str().unwrap_or_default().to_owned();
        let cgroups = mounts.iter().filter(|mount| text(mount, "destination").starts_with("/sys/fs/cgroup"));
        cgroups.map(|mount| format!("{} {}", text(mount, "destination"), text(mount, "source"))).collect::<Vec<_>>()
    };
    assert_eq!(shown(&config()), ["/sys/fs/cgroup cgroup"]);
    let joined = ContainerConfig { pid: NamespaceMode::Path("/proc/7/ns/pid".into()), ..config() };
    let id = "/rswarm/0123456789abcdef";
    assert_eq!(
        shown(&joined),
        [
            "/sys/fs/cgroup tmpfs".to_owned(),
            format!("/sys/fs/cgroup/memory /sys/fs/cgroup/memory{id}"),
            format!("/sys/fs/cgroup/cpu,cpuacct /sys/fs/cgroup/cpu,cpuacct{id}"),
        ]
    );
}

#[test]
fn mounts_and_namespaces_by_default() {
    check(
        &config(),
        "/mounts",
        expect![[r#"
        {"destination":"/proc","options":["nosuid","noexec","nodev"],"source":"proc","type":"proc"}
        {"destination":"/dev","options":["nosuid","strictatime","mode=755","size=65536k"],"source":"tmpfs","type":"tmpfs"}
        {"destination":"/dev/pts","options":["nosuid","noexec","newinstance","ptmxmode=0666","mode=0620","gid=5"],"source":"devpts","type":"devpts"}
        {"destination":"/sys","options":["nosuid","noexec","nodev","ro"],"source":"sysfs","type":"sysfs"}
        {"destination":"/sys/fs/cgroup","options":["nosuid","noexec","nodev","relatime","ro"],"source":"cgroup","type":"cgroup"}
        {"destination":"/dev/mqueue","options":["nosuid","noexec","nodev"],"source":"mqueue","type":"mqueue"}
        {"destination":"/dev/shm","options":["nosuid","noexec","nodev","mode=1777","size=65536k"],"source":"shm","type":"tmpfs"}
    "#]],
    );
    check(
        &config(),
        "/linux/namespaces",
        expect![[r#"
        {"type":"mount"}
        {"type":"uts"}
        {"type":"pid"}
        {"type":"ipc"}
        {"type":"cgroup"}
    "#]],
    );
    check(
        &config(),
        "/process/env",
        expect![[r#"
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        "HOSTNAME=0123456789ab"
        "HOME=/"
    "#]],
    );
}

#[test]
fn namespaces_of_others() {
    let config = ContainerConfig {
        netns: Some(PathBuf::from("/run/netns/a")),
        pid: NamespaceMode::Host,
        ipc: NamespaceMode::Path("/proc/7/ns/ipc".into()),
        ..config()
    };
    check(
        &config,
        "/linux/namespaces",
        expect![[r#"
        {"type":"mount"}
        {"path":"/run/netns/a","type":"network"}
        {"type":"uts"}
        {"path":"/proc/7/ns/ipc","type":"ipc"}
        {"type":"cgroup"}
    "#]],
    );
    check(
        &config,
        "/linux/sysctl",
        expect![[r#"
        net.ipv4.ip_unprivileged_port_start "0"
        net.ipv4.ping_group_range "0 2147483647"
    "#]],
    );
}

#[test]
fn mounts_wanted_come_shallow_first_and_replace_the_standard_ones() {
    let mount = |kind, target: &str, readonly| Mount {
        kind,
        target: target.to_owned(),
        readonly,
        propagation: Propagation::RPrivate,
    };
    let config = ContainerConfig {
        mounts: vec![
            mount(MountKind::Bind { source: "/src".into(), recursive: true, readonly_below: true }, "/a/b/c", true),
            mount(MountKind::Volume { source: "/vol".into(), subpath: String::new() }, "/a", false),
            mount(
                MountKind::Tmpfs { size_bytes: 4096, mode: 0o700, options: vec!["exec".to_owned()] },
                "/dev/shm",
                false,
            ),
        ],
        ..config()
    };
    check(
        &config,
        "/mounts",
        expect![[r#"
        {"destination":"/proc","options":["nosuid","noexec","nodev"],"source":"proc","type":"proc"}
        {"destination":"/dev","options":["nosuid","strictatime","mode=755","size=65536k"],"source":"tmpfs","type":"tmpfs"}
        {"destination":"/dev/pts","options":["nosuid","noexec","newinstance","ptmxmode=0666","mode=0620","gid=5"],"source":"devpts","type":"devpts"}
        {"destination":"/sys","options":["nosuid","noexec","nodev","ro"],"source":"sysfs","type":"sysfs"}
        {"destination":"/sys/fs/cgroup","options":["nosuid","noexec","nodev","relatime","ro"],"source":"cgroup","type":"cgroup"}
        {"destination":"/dev/mqueue","options":["nosuid","noexec","nodev"],"source":"mqueue","type":"mqueue"}
        {"destination":"/a","options":["rbind","rprivate"],"source":"/vol","type":"bind"}
        {"destination":"/dev/shm","options":["rprivate","noexec","nosuid","nodev","mode=700","size=4096","exec"],"source":"tmpfs","type":"tmpfs"}
        {"destination":"/a/b/c","options":["rbind","rprivate","ro","rro"],"source":"/src","type":"bind"}
    "#]],
    );
}

#[test]
fn limits() {
    let mut config = config();
    check(
        &config,
        "/linux/resources/memory",
        expect![[r#"
        absent
    "#]],
    );
    config.resources.memory_bytes = 64 << 20;
    config.resources.nano_cpus = 250_000_000;
    config.resources.pids_limit = 10;
    config.ulimits = vec![Ulimit { name: "nofile".to_owned(), soft: 10, hard: 20 }];
    check(
        &config,
        "/linux/resources/memory",
        expect![[r#"
        limit 67108864
        swap 134217728
    "#]],
    );
    check(
        &config,
        "/linux/resources/cpu",
        expect![[r#"
        period 100000
        quota 25000
    "#]],
    );
    check(
        &config,
        "/linux/resources/pids",
        expect![[r#"
        limit 10
    "#]],
    );
    check(
        &config,
        "/process/rlimits",
        expect![[r#"
        {"hard":20,"soft":10,"type":"RLIMIT_NOFILE"}
    "#]],
    );
}

#[test]
fn privileged_takes_the_walls_away() {
    let config = ContainerConfig { privileged: true, ..config() };
    check(
        &config,
        "/linux/seccomp",
        expect![[r#"
        absent
    "#]],
    );
    check(&config, "/linux/maskedPaths", expect![[r#""#]]);
    check(
        &config,
        "/linux/resources/devices",
        expect![[r#"
        {"access":"rwm","allow":true}
    "#]],
    );
}

#[test]
fn a_user_that_is_not_root_has_no_effective_capability() {
    let config = ContainerConfig { user: "1000".to_owned(), no_new_privileges: true, ..config() };
    check(&config, "/process/capabilities/effective", expect![[r#""#]]);
    check(
        &config,
        "/process/noNewPrivileges",
        expect![[r#"
        true
    "#]],
    );
    check(
        &super::tests::config(),
        "/process/noNewPrivileges",
        expect![[r#"
        absent
    "#]],
    );
}

#[test]
fn what_cannot_work_is_said() {
    let mut all = String::new();
    let mut say = |config: ContainerConfig| all += &format!("{}\n", json_of(&config).unwrap_err());
    say(ContainerConfig { id: "../x".to_owned(), ..config() });
    say(ContainerConfig { args: Vec::new(), ..config() });
    say(ContainerConfig { env: vec!["=x".to_owned()], ..config() });
    say(ContainerConfig { cwd: "tmp".to_owned(), ..config() });
    say(ContainerConfig { sysctls: [("net.core.somaxconn".to_owned(), "1".to_owned())].into(), ..config() });
    say(ContainerConfig { sysctls: [("vm.swappiness".to_owned(), "1".to_owned())].into(), ..config() });
    say(ContainerConfig { resources: Resources { memory_bytes: 1024, ..Resources::default() }, ..config() });
    say(ContainerConfig { ulimits: vec![Ulimit { name: "x".to_owned(), soft: 1, hard: 1 }], ..config() });
    say(ContainerConfig { uts: NamespaceMode::Host, hostname: "h".to_owned(), ..config() });
    say(ContainerConfig { user: "web".to_owned(), ..config() });
    say(ContainerConfig { args: vec!["x".repeat(5000)], ..config() });
    say(ContainerConfig { args: vec!["sh".to_owned(), "y".repeat(200_000)], ..config() });
    say(ContainerConfig { cwd: format!("/{}", "z".repeat(300)), ..config() });
    say(ContainerConfig { readonly_paths: Some(vec!["proc".to_owned()]), ..config() });
    expect![[r#"
        the id "../x" is not 1 to 64 letters, digits, '_', '-' or '.', beginning with a letter or digit
        no command given: the image has none, and the service names none
        the environment variable "=x" is not NAME=value
        the working directory "tmp" is not an absolute path
        sysctl net.core.somaxconn would change the host, whose network this is
        sysctl vm.swappiness is not kept per namespace, so a container cannot have its own
        the memory limit 1024 is below the minimum of 4194304 bytes
        there is no ulimit "x"; there are as, core, cpu, data, fsize, locks, memlock, msgqueue, nice, nofile, nproc, rss, rtprio, rttime, sigpending, stack
        a hostname can only be given to a container with its own uts namespace
        unable to find user web: no matching entries in the image's /etc/passwd
        the command is 5000 bytes long, which no path can be
        the word "yyyyyyyyyyyyyyyyyyyy"… is 200000 bytes long, and the kernel takes 131071
        the path "/zzzzzzzzzzzzzzzzzzz"… is longer than 4095 bytes, or a name in it than 255
        "proc", which shall be masked or read-only, is not an absolute path
    "#]].assert_eq(&all);
}
