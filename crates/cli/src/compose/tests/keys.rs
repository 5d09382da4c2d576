//! Each key of a service and of its `deploy` goes somewhere, or is named in a warning or a refusal (parity K-04 to K-07).

use serde_json::{Value, json};

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

fn check(key: &str, value: &str, path: &str, expected: Value) {
    let loaded = with(key, value).unwrap_or_else(|refusal| panic!("{key}: {value}: {refusal}"));
    assert!(loaded.warnings.is_empty(), "{key}: {:?}", loaded.warnings);
    let spec = spec(&loaded);
    let pointer = format!("/{}", path.replace('.', "/"));
    assert_eq!(spec.pointer(&pointer), Some(&expected), "{key}: {value}: {spec:#}");
}

/// K-05: what becomes of each key of a service.
#[test]
fn k_05_all_keys_of_a_service() {
    const C: &str = "TaskTemplate.ContainerSpec";
    let cases: &[(&str, &str, &str, Value)] = &[
        ("image", "'z:1'", "Image", json!("z:1")),
        ("command", "sh -c 'a b'", "Args", json!(["sh", "-c", "a b"])),
        ("command", "[a, b]", "Args", json!(["a", "b"])),
        ("entrypoint", "/run me", "Command", json!(["/run", "me"])),
        ("environment", "{B: 1, A: , C: 'x y'}", "Env", json!(["B=1", "C=x y"])),
        ("environment", "[B=1, B=2, Z]", "Env", json!(["B=2"])),
        ("hostname", "h", "Hostname", json!("h")),
        ("user", "'1000:1000'", "User", json!("1000:1000")),
        ("working_dir", "/w", "Dir", json!("/w")),
        ("tty", "true", "TTY", json!(true)),
        ("stdin_open", "true", "OpenStdin", json!(true)),
        ("read_only", "yes", "ReadOnly", json!(true)),
        ("init", "true", "Init", json!(true)),
        ("stop_signal", "SIGUSR1", "StopSignal", json!("SIGUSR1")),
        ("stop_grace_period", "1m30s", "StopGracePeriod", json!(90_000_000_000_u64)),
        ("dns", "1.1.1.1", "DNSConfig.Nameservers", json!(["1.1.1.1"])),
        ("dns_search", "[a.b]", "DNSConfig.Search", json!(["a.b"])),
        ("dns_opt", "['ndots:2']", "DNSConfig.Options", json!(["ndots:2"])),
        ("extra_hosts", "['h:1.2.3.4', 'i=::1']", "Hosts", json!(["1.2.3.4 h", "::1 i"])),
        ("extra_hosts", "{h: 1.2.3.4}", "Hosts", json!(["1.2.3.4 h"])),
        ("cap_add", "[net_admin]", "CapabilityAdd", json!(["CAP_NET_ADMIN"])),
        ("cap_drop", "[ALL]", "CapabilityDrop", json!(["ALL"])),
        ("sysctls", "[net.core.somaxconn=9]", "Sysctls", json!({ "net.core.somaxconn": "9" })),
        (
            "ulimits",
            "{nofile: {soft: 1, hard: 2}, nproc: 3}",
            "Ulimits",
            json!([{ "Name": "nofile", "Soft": 1, "Hard": 2 }, { "Name": "nproc", "Soft": 3, "Hard": 3 }]),
        ),
        ("oom_score_adj", "-500", "OomScoreAdj", json!(-500)),
        ("group_add", "[mail]", "Groups", json!(["mail"])),
        ("labels", "{l: 1}", "Labels.l", json!("1")),
        (
            "tmpfs",
            "'/t:size=1m,mode=1770,uid=5'",
            "Mounts",
            json!([{ "Type": "tmpfs", "Target": "/t", "TmpfsOptions": { "SizeBytes": 1 << 20, "Mode": 0o1770, "Options": [["uid", "5"]] } }]),
        ),
        ("volumes", "['/anonymous']", "Mounts", json!([{ "Type": "volume", "Target": "/anonymous" }])),
        ("volumes", "['v:/v:ro,nocopy']", "Mounts/0/VolumeOptions/NoCopy", json!(true)),
        (
            "volumes",
            "[{type: bind, source: ./s, target: /s, read_only: true, bind: {propagation: rshared, create_host_path: true}}]",
            "Mounts",
            json!([{ "Type": "bind", "Target": "/s", "Source": "/srv/s", "ReadOnly": true,
                "BindOptions": { "Propagation": "rshared", "CreateMountpoint": true } }]),
        ),
        (
            "volumes",
            "[{type: tmpfs, target: /s, tmpfs: {size: 64k, mode: 0700}}]",
            "Mounts/0/TmpfsOptions",
            json!({ "SizeBytes": 65536, "Mode": 0o700 }),
        ),
        (
            "healthcheck",
            "{test: 'true', interval: 1s, timeout: 2s, retries: 3, start_period: 4s, start_interval: 5s}",
            "Healthcheck",
            json!({ "Test": ["CMD-SHELL", "true"], "Interval": 1_000_000_000, "Timeout": 2_000_000_000, "StartPeriod": 4_000_000_000_u64,
                "StartInterval": 5_000_000_000_u64, "Retries": 3 }),
        ),
        ("healthcheck", "{test: [CMD, a]}", "Healthcheck", json!({ "Test": ["CMD", "a"] })),
        ("healthcheck", "{disable: true}", "Healthcheck", json!({ "Test": ["NONE"] })),
        ("secrets", "[s]", "Secrets/0/SecretName", json!("s")),
        (
            "configs",
            "[{source: c, target: /c, uid: '7', gid: 8, mode: '0440'}]",
            "Configs/0/File",
            json!({ "Name": "/c", "UID": "7", "GID": "8", "Mode": 0o440 }),
        ),
        (
            "security_opt",
            "['no-new-privileges:true', 'seccomp=unconfined']",
            "Privileges",
            json!({ "NoNewPrivileges": true, "Seccomp": { "Mode": "unconfined" } }),
        ),
    ];
    for (key, value, path, expected) in cases {
        check(key, value, &format!("{C}.{path}"), expected.clone());
    }
    check("isolation", "default", "Name", json!("shop_a"));
    check("profiles", "[]", "Name", json!("shop_a"));
    check("depends_on", "[b]", "Name", json!("shop_a"));
    check(
        "logging",
        "{driver: local, options: {max-size: 1m}}",
        "TaskTemplate.LogDriver",
        json!({ "Name": "local", "Options": { "max-size": "1m" } }),
    );
    check(
        "networks",
        "{n: {aliases: [x], driver_opts: {a: b}}}",
        "TaskTemplate.Networks",
        json!([{ "Target": "shop_n", "Aliases": ["x", "a"], "DriverOpts": { "a": "b" } }]),
    );
    check(
        "ports",
        "['127.0.0.1:8080:80/udp']",
        "EndpointSpec.Ports",
        json!([{ "Protocol": "udp", "TargetPort": 80, "PublishedPort": 8080, "PublishMode": "ingress", "HostIP": "127.0.0.1" }]),
    );
    check(
        "ports",
        "[{target: 80, published: '8080', mode: host, name: web}]",
        "EndpointSpec.Ports",
        json!([{ "Protocol": "tcp", "TargetPort": 80, "PublishedPort": 8080, "PublishMode": "host", "Name": "web" }]),
    );
    check("scale", "3", "Mode", json!({ "Replicated": { "Replicas": 3 } }));
    check(
        "restart",
        "'on-failure:3'",
        "TaskTemplate.RestartPolicy",
        json!({ "Condition": "on-failure", "MaxAttempts": 3 }),
    );
    check("cpus", "0.5", "TaskTemplate.Resources.Limits.NanoCPUs", json!(500_000_000));
    check("mem_limit", "64m", "TaskTemplate.Resources.Limits.MemoryBytes", json!(64 << 20));
    check("mem_reservation", "32m", "TaskTemplate.Resources.Reservations.MemoryBytes", json!(32 << 20));
    check("pids_limit", "9", "TaskTemplate.Resources.Limits.Pids", json!(9));
    // every key that is honoured stands above, or in a test of its own
    let own = ["deploy", "env_file", "label_file"];
    let text = include_str!("keys.rs");
    for key in convert::HONOURED.iter().filter(|key| !own.contains(key)) {
        assert!(text.contains(&format!("(\"{key}\", ")), "no case shows what becomes of {key}");
    }
}

/// K-04: what becomes of each key of `deploy`.
#[test]
fn k_04_all_keys_of_deploy() {
    let update = "{parallelism: 2, delay: 1s, failure_action: rollback, monitor: 2s, max_failure_ratio: 0.3, order: start-first}";
    let config = json!({ "Parallelism": 2, "Delay": 1_000_000_000, "Monitor": 2_000_000_000, "FailureAction": "rollback",
        "Order": "start-first", "MaxFailureRatio": 0.3 });
    let cases: &[(String, &str, Value)] = &[
        ("{mode: replicated, replicas: 2}".into(), "Mode", json!({ "Replicated": { "Replicas": 2 } })),
        ("{replicas: 0}".into(), "Mode", json!({ "Replicated": { "Replicas": 0 } })),
        ("{mode: global}".into(), "Mode", json!({ "Global": {} })),
        ("{mode: global-job}".into(), "Mode", json!({ "GlobalJob": {} })),
        ("{mode: replicated-job, replicas: 4}".into(), "Mode",
            json!({ "ReplicatedJob": { "MaxConcurrent": 4, "TotalCompletions": 4 } })),
        ("{labels: [a=b]}".into(), "Labels.a", json!("b")),
        (format!("{{update_config: {update}}}"), "UpdateConfig", config.clone()),
        (format!("{{rollback_config: {update}}}"), "RollbackConfig", config),
        ("{resources: {limits: {cpus: '0.25', memory: 50M, pids: 7}}}".into(), "TaskTemplate.Resources.Limits",
            json!({ "NanoCPUs": 250_000_000, "MemoryBytes": 50 << 20, "Pids": 7 })),
        ("{resources: {reservations: {cpus: 1, memory: 1g, generic_resources: [{discrete_resource_spec: {kind: gpu, value: 2}}]}}}".into(),
            "TaskTemplate.Resources.Reservations",
            json!({ "NanoCPUs": 1_000_000_000, "MemoryBytes": 1 << 30,
                "GenericResources": [{ "DiscreteResourceSpec": { "Kind": "gpu", "Value": 2 } }] })),
        ("{restart_policy: {condition: on-failure, delay: 1s, max_attempts: 3, window: 2s}}".into(), "TaskTemplate.RestartPolicy",
            json!({ "Condition": "on-failure", "MaxAttempts": 3, "Delay": 1_000_000_000, "Window": 2_000_000_000 })),
        ("{placement: {constraints: [node.role==worker], preferences: [{spread: node.labels.zone}], max_replicas_per_node: 1}}".into(),
            "TaskTemplate.Placement",
            json!({ "Constraints": ["node.role==worker"], "Preferences": [{ "Spread": { "SpreadDescriptor": "node.labels.zone" } }],
                "MaxReplicas": 1 })),
        ("{endpoint_mode: dnsrr}".into(), "EndpointSpec.Mode", json!("dnsrr")),
    ];
    for (value, path, expected) in cases {
        check("deploy", value, path, expected.clone());
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
