//! Each key of a service and of its `deploy` goes somewhere, or is named in a warning or a refusal (parity K-04 to K-07).

use serde_json::Value;

use super::one;
use crate::compose::{Loaded, convert};

/// The service with one key: its value, in the flow style of YAML.
fn with(key: &str, value: &str) -> Result<Loaded, crate::compose::Refusal> {
    let image = if key == "image" { "" } else { "image: x, " };
    one(&format!(
        "services:\n  a: {{{image}{key}: {value}}}\n  b: {{image: y}}\nvolumes: {{v: }}\nnetworks: {{n: }}\nsecrets: {{s: {{external: true}}}}\n\
         configs: {{c: {{external: true}}}}\n"
    ))
}

fn spec(loaded: &Loaded) -> Value {
    let found = loaded.project.services.iter().find(|service| service.key == "a");
    found.map(|service| service.spec.clone()).unwrap_or_default()
}

fn check(key: &str, value: &str, path: &str, expected: &str) {
    let loaded = with(key, value).unwrap_or_else(|refusal| panic!("{key}: {value}: {refusal}"));
    assert!(loaded.warnings.is_empty(), "{key}: {:?}", loaded.warnings);
    let spec = spec(&loaded);
    let pointer = format!(
        "/{}",
        path.replace("C.", "TaskTemplate.ContainerSpec.").replace("T.", "TaskTemplate.").replace('.', "/")
    );
    let expected: Value = serde_json::from_str(expected).unwrap_or_else(|error| panic!("{expected}: {error}"));
    assert_eq!(spec.pointer(&pointer), Some(&expected), "{key}: {value}: {spec:#}");
}

/// Lines of `key | value | where in the spec | what is there`; gives the keys.
fn check_all(table: &'static str) -> Vec<&'static str> {
    let mut keys = Vec::new();
    for line in table.lines().filter(|line| !line.is_empty()) {
        let cells: Vec<&str> = line.split(" | ").map(str::trim).collect();
        let [key, value, path, expected] = cells[..] else { panic!("{line}") };
        check(key, value, path, expected);
        keys.push(key);
    }
    keys
}

const SERVICE: &str = r#"
image | 'z:1' | C.Image | "z:1"
command | sh -c 'a b' | C.Args | ["sh", "-c", "a b"]
command | [a, b] | C.Args | ["a", "b"]
entrypoint | /run me | C.Command | ["/run", "me"]
environment | {B: 1, A: , C: 'x y'} | C.Env | ["B=1", "C=x y"]
environment | [B=1, B=2, Z] | C.Env | ["B=2"]
hostname | h | C.Hostname | "h"
user | '1000:1000' | C.User | "1000:1000"
working_dir | /w | C.Dir | "/w"
tty | true | C.TTY | true
stdin_open | true | C.OpenStdin | true
read_only | yes | C.ReadOnly | true
init | true | C.Init | true
privileged | true | C.Privileged | true
devices | [/dev/kvm, '/dev/a:/dev/b:r'] | C.Devices | [{"PathOnHost": "/dev/kvm", "PathInContainer": "/dev/kvm", "CgroupPermissions": "rwm"}, {"PathOnHost": "/dev/a", "PathInContainer": "/dev/b", "CgroupPermissions": "r"}]
devices | [nvidia.com/gpu=0] | C.DeviceRequests | [{"Driver": "cdi", "Count": 0, "DeviceIDs": ["nvidia.com/gpu=0"], "Capabilities": null, "Options": {}}]
gpus | all | C.DeviceRequests | [{"Driver": "", "Count": -1, "DeviceIDs": null, "Capabilities": [["gpu"]], "Options": {}}]
gpus | [{driver: nvidia, count: 2}] | C.DeviceRequests | [{"Driver": "nvidia", "Count": 2, "DeviceIDs": null, "Capabilities": [["gpu"]], "Options": {}}]
deploy | {resources: {reservations: {devices: [{driver: nvidia, device_ids: ['0', '3'], capabilities: [gpu, compute]}]}}} | C.DeviceRequests | [{"Driver": "nvidia", "Count": 0, "DeviceIDs": ["0", "3"], "Capabilities": [["gpu", "compute"]], "Options": {}}]
devices | [{source: /dev/a, permissions: rw}] | C.Devices | [{"PathOnHost": "/dev/a", "PathInContainer": "/dev/a", "CgroupPermissions": "rw"}]
shm_size | 128m | C.ShmSize | 134217728
pid | host | C.PidMode | "host"
ipc | host | C.IpcMode | "host"
cpuset | '0-1' | C.CpusetCpus | "0-1"
stop_signal | SIGUSR1 | C.StopSignal | "SIGUSR1"
stop_grace_period | 1m30s | C.StopGracePeriod | 90000000000
dns | 1.1.1.1 | C.DNSConfig.Nameservers | ["1.1.1.1"]
dns_search | [a.b] | C.DNSConfig.Search | ["a.b"]
dns_opt | ['ndots:2'] | C.DNSConfig.Options | ["ndots:2"]
extra_hosts | ['h:1.2.3.4', 'i=::1'] | C.Hosts | ["1.2.3.4 h", "::1 i"]
extra_hosts | {h: 1.2.3.4} | C.Hosts | ["1.2.3.4 h"]
cap_add | [net_admin] | C.CapabilityAdd | ["CAP_NET_ADMIN"]
cap_drop | [ALL] | C.CapabilityDrop | ["ALL"]
sysctls | [net.core.somaxconn=9] | C.Sysctls | {"net.core.somaxconn": "9"}
ulimits | {nofile: {soft: 1, hard: 2}} | C.Ulimits | [{"Name": "nofile", "Soft": 1, "Hard": 2}]
ulimits | {nproc: 3} | C.Ulimits | [{"Name": "nproc", "Soft": 3, "Hard": 3}]
oom_score_adj | -500 | C.OomScoreAdj | -500
group_add | [mail] | C.Groups | ["mail"]
labels | {l: 1} | C.Labels.l | "1"
tmpfs | '/t:size=1m,mode=1770,uid=5' | C.Mounts.0.TmpfsOptions | {"SizeBytes": 1048576, "Mode": 1016, "Options": [["uid", "5"]]}
volumes | ['/anonymous'] | C.Mounts | [{"Type": "volume", "Target": "/anonymous"}]
volumes | ['v:/v:ro,nocopy'] | C.Mounts.0.VolumeOptions.NoCopy | true
volumes | [{type: bind, source: ./s, target: /s, read_only: true}] | C.Mounts | [{"Type": "bind", "Target": "/s", "Source": "/srv/s", "ReadOnly": true}]
volumes | [{type: bind, source: /s, target: /s, bind: {propagation: rshared, create_host_path: true}}] | C.Mounts.0.BindOptions | {"Propagation": "rshared", "CreateMountpoint": true}
volumes | [{type: image, source: 'i:1', target: /s, image: {subpath: a/b}}] | C.Mounts | [{"Type": "image", "Target": "/s", "Source": "i:1", "ImageOptions": {"Subpath": "a/b"}}]
volumes | [{type: tmpfs, target: /s, tmpfs: {size: 64k, mode: 0700}}] | C.Mounts.0.TmpfsOptions | {"SizeBytes": 65536, "Mode": 448}
healthcheck | {test: 'true', interval: 1s, timeout: 2s} | C.Healthcheck | {"Test": ["CMD-SHELL", "true"], "Interval": 1000000000, "Timeout": 2000000000}
healthcheck | {retries: 3, start_period: 4s, start_interval: 5s} | C.Healthcheck | {"StartPeriod": 4000000000, "StartInterval": 5000000000, "Retries": 3}
healthcheck | {test: [CMD, a]} | C.Healthcheck.Test | ["CMD", "a"]
healthcheck | {disable: true} | C.Healthcheck | {"Test": ["NONE"]}
secrets | [s] | C.Secrets.0.SecretName | "s"
configs | [{source: c, target: /c, uid: '7', gid: 8, mode: '0440'}] | C.Configs.0.File | {"Name": "/c", "UID": "7", "GID": "8", "Mode": 288}
security_opt | ['no-new-privileges:true'] | C.Privileges | {"NoNewPrivileges": true}
security_opt | ['seccomp=unconfined'] | C.Privileges | {"Seccomp": {"Mode": "unconfined"}}
isolation | default | Name | "shop_a"
profiles | [] | Name | "shop_a"
depends_on | [b] | Name | "shop_a"
logging | {driver: local, options: {max-size: 1m}} | T.LogDriver | {"Name": "local", "Options": {"max-size": "1m"}}
networks | {n: {aliases: [x], driver_opts: {a: b}}} | T.Networks | [{"Target": "shop_n", "Aliases": ["x", "a"], "DriverOpts": {"a": "b"}}]
ports | ['127.0.0.1:8080:80/udp'] | EndpointSpec.Ports | [{"Protocol": "udp", "TargetPort": 80, "PublishedPort": 8080, "PublishMode": "ingress", "HostIP": "127.0.0.1"}]
ports | [{target: 80, published: '8080', mode: host, name: web}] | EndpointSpec.Ports | [{"Protocol": "tcp", "TargetPort": 80, "PublishedPort": 8080, "PublishMode": "host", "Name": "web"}]
scale | 3 | Mode | {"Replicated": {"Replicas": 3}}
restart | 'on-failure:3' | T.RestartPolicy | {"Condition": "on-failure", "MaxAttempts": 3}
cpus | 0.5 | T.Resources.Limits.NanoCPUs | 500000000
mem_limit | 64m | T.Resources.Limits.MemoryBytes | 67108864
mem_reservation | 32m | T.Resources.Reservations.MemoryBytes | 33554432
pids_limit | 9 | T.Resources.Limits.Pids | 9
cpu_quota | 50000 | T.Resources.Limits.NanoCPUs | 500000000
cpu_quota | '150000', cpu_period: 50000 | T.Resources.Limits.NanoCPUs | 3000000000
cpu_quota | -1 | Name | "shop_a"
cpu_period | 50000 | Name | "shop_a"
memswap_limit | 96m, mem_limit: 64m | T.Resources | {"Limits": {"MemoryBytes": 67108864}, "SwapBytes": 33554432}
memswap_limit | 64m, deploy: {resources: {limits: {memory: 64m}}} | T.Resources.SwapBytes | 0
memswap_limit | -1, mem_limit: 64m | T.Resources.SwapBytes | -1
memswap_limit | 0, mem_limit: 64m | T.Resources | {"Limits": {"MemoryBytes": 67108864}}
mem_swappiness | 10 | T.Resources.MemorySwappiness | 10
pull_policy | always | Labels | {"com.docker.stack.image": "x", "com.docker.stack.namespace": "shop", "rswarm.image.pull": "always"}
pull_policy | missing | Labels | {"com.docker.stack.image": "x", "com.docker.stack.namespace": "shop"}
platform | linux/arm64/v8 | T.Placement.Platforms | [{"OS": "linux", "Architecture": "arm64", "Variant": "v8"}]
deploy | {replicas: 2} | Mode | {"Replicated": {"Replicas": 2}}
"#;

/// K-05: what becomes of each key of a service.
#[test]
fn k_05_all_keys_of_a_service() {
    let shown = check_all(SERVICE);
    // files have tests of their own
    for (key, value, part) in [
        ("pid", "'service:b'", "is not there for services of a cluster"),
        ("devices", "[kvm]", "is neither the absolute path of a device nor VENDOR/CLASS=NAME"),
        ("gpus", "some", "say all, or a list of what is wanted"),
        ("gpus", "[{count: 1, device_ids: ['0']}]", "count and device_ids exclude each other"),
        ("gpus", "[{options: {a: b}}]", "no driver of devices here has options"),
        ("deploy", "{resources: {reservations: {devices: [{count: 1}]}}}", "capabilities are missing"),
        ("devices", "['/dev/a:/dev/b:rx']", "bad mode specified: rx"),
        ("memswap_limit", "1g", "it counts memory and swap together: set mem_limit too"),
        ("memswap_limit", "-1", "set mem_limit too"),
        ("memswap_limit", "32m, mem_limit: 64m", "the memory limit alone is 67108864 bytes"),
        ("mem_swappiness", "101", "101 is not between 0 and 100"),
        ("cpu_quota", "50000, cpus: 2", "another key says something else of it"),
        ("cpu_quota", "9223372036854775807, cpu_period: 1", "more processors than there are"),
        ("platform", "linux", "service a: platform"),
        ("pull_policy", "sometimes", "\"sometimes\" is no pull policy: use always, missing or never"),
        ("volumes", "[{type: image, target: /s}]", "name the image as source"),
        (
            "volumes",
            "[{type: image, source: i, target: /s, tmpfs: {size: 1}}]",
            "options of a tmpfs mount do not fit the type image",
        ),
    ] {
        let refusal = with(key, value).expect_err(value).to_string();
        assert!(refusal.contains(part), "{value}: {refusal}");
    }
    for key in convert::HONOURED.iter().filter(|key| !matches!(**key, "env_file" | "label_file")) {
        assert!(shown.contains(key), "no line shows what becomes of {key}");
    }
}

const DEPLOY: &str = r#"
deploy | {mode: replicated, replicas: 2} | Mode | {"Replicated": {"Replicas": 2}}
deploy | {replicas: 0} | Mode | {"Replicated": {"Replicas": 0}}
deploy | {mode: global} | Mode | {"Global": {}}
deploy | {mode: global-job} | Mode | {"GlobalJob": {}}
deploy | {mode: replicated-job, replicas: 4} | Mode | {"ReplicatedJob": {"MaxConcurrent": 4, "TotalCompletions": 4}}
deploy | {labels: [a=b]} | Labels.a | "b"
deploy | {update_config: {parallelism: 2, delay: 1s, failure_action: rollback}} | UpdateConfig | {"Parallelism": 2, "Delay": 1000000000, "FailureAction": "rollback"}
deploy | {update_config: {monitor: 2s, max_failure_ratio: 0.3, order: start-first}} | UpdateConfig | {"Parallelism": 1, "Monitor": 2000000000, "Order": "start-first", "MaxFailureRatio": 0.3}
deploy | {rollback_config: {parallelism: 0, delay: 1s, failure_action: continue}} | RollbackConfig | {"Parallelism": 0, "Delay": 1000000000, "FailureAction": "continue"}
deploy | {rollback_config: {monitor: 2s, max_failure_ratio: 0.3, order: stop-first}} | RollbackConfig | {"Parallelism": 1, "Monitor": 2000000000, "Order": "stop-first", "MaxFailureRatio": 0.3}
deploy | {resources: {limits: {cpus: '0.25', memory: 50M, pids: 7}}} | T.Resources.Limits | {"NanoCPUs": 250000000, "MemoryBytes": 52428800, "Pids": 7}
deploy | {resources: {reservations: {cpus: 1, memory: 1g}}} | T.Resources.Reservations | {"NanoCPUs": 1000000000, "MemoryBytes": 1073741824}
deploy | {resources: {reservations: {generic_resources: [{discrete_resource_spec: {kind: gpu, value: 2}}]}}} | T.Resources.Reservations | {"GenericResources": [{"DiscreteResourceSpec": {"Kind": "gpu", "Value": 2}}]}
deploy | {restart_policy: {condition: on-failure, delay: 1s, max_attempts: 3, window: 2s}} | T.RestartPolicy | {"Condition": "on-failure", "MaxAttempts": 3, "Delay": 1000000000, "Window": 2000000000}
deploy | {placement: {constraints: [node.role==worker], max_replicas_per_node: 1}} | T.Placement | {"Constraints": ["node.role==worker"], "MaxReplicas": 1}
deploy | {placement: {preferences: [{spread: node.labels.zone}]}} | T.Placement.Preferences | [{"Spread": {"SpreadDescriptor": "node.labels.zone"}}]
deploy | {endpoint_mode: dnsrr} | EndpointSpec.Mode | "dnsrr"
"#;

/// K-04: what becomes of each key of `deploy`.
#[test]
fn k_04_all_keys_of_deploy() {
    check_all(DEPLOY);
    for key in convert::DEPLOY {
        assert!(DEPLOY.contains(&format!("{key}: ")), "no line shows what becomes of deploy.{key}");
    }
    for (value, part) in [
        ("{mode: global, replicas: 2}", "replicas can only be used with"),
        ("{mode: replicatd}", "do you mean \"replicated\"?"),
        ("{mode: global-job, update_config: {parallelism: 1}}", "jobs may not have an update config"),
        ("{placement: {constraints: ['node.role ~ x']}}", "deploy.placement.constraints[0]"),
        ("{update_config: {max_failure_ratio: 3}}", "no number from 0 to 1"),
        ("{restart_policy: {condition: never}}", "none of none, on-failure, any"),
    ] {
        let refusal = with("deploy", value).expect_err(value).to_string();
        assert!(refusal.contains(part), "{value}: {refusal}");
    }
}

/// K-06: what Swarm does not have is ignored with docker's warning and the place.
#[test]
fn k_06_unsupported_keys_are_named() {
    for key in convert::UNSUPPORTED {
        let warnings = with(key, "x").expect(key).warnings;
        assert_eq!(warnings[0], format!("Ignoring unsupported options: {key}"));
        assert!(
            warnings[1].starts_with("stack.yml:2:") && warnings[1].contains(&format!("service a: {key}: ignored")),
            "{warnings:?}"
        );
    }
    let lost = with("networks", "{n: {ipv4_address: 10.0.0.9}}").expect("only a warning").warnings;
    assert!(lost[0].contains("networks.n.ipv4_address: ignored"), "{lost:?}");
}

/// K-07: deprecated keys are warned of, forbidden ones refused.
#[test]
fn k_07_deprecated_and_forbidden_keys() {
    for (key, why) in convert::DEPRECATED {
        let warnings = with(key, "x").expect(key).warnings;
        assert!(warnings.iter().any(|line| line.contains(why)), "{warnings:?}");
    }
    for (key, instead) in convert::FORBIDDEN {
        let refusal = with(key, "x").expect_err(key).to_string();
        assert!(refusal.contains(&format!("service a: {key}: unsupported option: {instead}")), "{refusal}");
    }
}
