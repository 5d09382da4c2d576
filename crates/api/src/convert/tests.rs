//! Specs in, specs out, held against the published schema of the Engine API.

#![expect(clippy::needless_pass_by_value, reason = "`json!` and `expect!` at the call, without ampersands")]

mod defaults;
mod jobs;
mod lists;
mod networks;
mod ports;
mod schema;

use bollard_stubs::models;
use expect_test::{Expect, expect};
use schema::check_schema;
use serde_json::{Value, json};
use types::{NodeId, Service, ServiceId, ServiceView, Timestamp, Version};

use super::{
    network_view::Networks,
    node,
    service::{self, Given, read, write, write_spec},
    swarm, task,
};

fn refused(body: Value, expected: Expect) {
    match read(&body, Given::default()) {
        Ok(spec) => panic!("must be refused: {spec:?}"),
        Err(error) => expected.assert_eq(&error.to_string()),
    }
}

fn full_spec() -> Value {
    json!({
        "Name": "web",
        "Labels": { "a": "1" },
        "TaskTemplate": {
            "ContainerSpec": {
                "Image": "nginx:1.27",
                "Labels": { "b": "2" },
                "Command": ["/bin/sh"],
                "Args": ["-c", "true"],
                "Hostname": "h",
                "Env": ["A=1"],
                "Dir": "/srv",
                "User": "1:2",
                "Groups": ["3"],
                "Privileges": { "Seccomp": { "Mode": "unconfined" }, "NoNewPrivileges": true },
                "Init": true,
                "StopSignal": "SIGINT",
                "TTY": true,
                "OpenStdin": true,
                "ReadOnly": true,
                "Mounts": [
                    { "Type": "bind", "Source": "/a", "Target": "/b", "ReadOnly": true,
                      "BindOptions": { "Propagation": "rprivate", "CreateMountpoint": true, "NonRecursive": true,
                                       "ReadOnlyNonRecursive": true } },
                    { "Type": "volume", "Source": "data", "Target": "/data",
                      "VolumeOptions": { "NoCopy": true, "Labels": { "v": "1" }, "Subpath": "a/b",
                                         "DriverConfig": { "Name": "local", "Options": { "device": ":/export/{{.Service.Name}}",
                                             "o": "addr=10.0.0.9,rw", "type": "nfs" } } } },
                    { "Type": "volume", "Source": "data-{{.Task.Slot}}", "Target": "/slot" },
                    { "Type": "tmpfs", "Target": "/tmp", "TmpfsOptions": { "SizeBytes": 1024, "Mode": 511,
                                        "Options": [["exec"], ["uid", "1000"]] } },
                ],
                "StopGracePeriod": 30_000_000_000_u64,
                "Healthcheck": { "Test": ["CMD", "true"], "Interval": 1_000_000_000, "Timeout": 2_000_000_000,
                                 "StartPeriod": 3_000_000_000_u64, "StartInterval": 4_000_000_000_u64, "Retries": 3 },
                "Hosts": ["10.0.0.1 db"],
                "DNSConfig": { "Nameservers": ["10.0.0.2"], "Search": ["x"], "Options": ["ndots:1"] },
                "Isolation": "default",
                "Sysctls": { "net.ipv4.ip_forward": "1" },
                "CapabilityAdd": ["CAP_NET_ADMIN"],
                "CapabilityDrop": ["CAP_NET_RAW"],
                "Ulimits": [{ "Name": "nofile", "Hard": 20, "Soft": 10 }],
                "OomScoreAdj": -5,
                "Privileged": true,
                "Devices": [{ "PathOnHost": "/dev/kvm", "PathInContainer": "/dev/x", "CgroupPermissions": "rw" }],
                "DeviceRequests": [{ "Driver": "cdi", "Count": 0, "DeviceIDs": ["nvidia.com/gpu=0"], "Capabilities": null, "Options": {} }],
                "PidMode": "host", "IpcMode": "host", "ShmSize": 134_217_728, "CpusetCpus": "0-1", "CpusetMems": "0",
            },
            "Resources": {
                "Limits": { "NanoCPUs": 500_000_000, "MemoryBytes": 67_108_864, "Pids": 100 },
                "Reservations": { "NanoCPUs": 1_000_000, "MemoryBytes": 4_194_304, "GenericResources": [
                    { "NamedResourceSpec": { "Kind": "gpu", "Value": "one" } },
                    { "DiscreteResourceSpec": { "Kind": "ssd", "Value": 2 } },
                ] },
                "SwapBytes": 0, "MemorySwappiness": 10,
            },
            "RestartPolicy": { "Condition": "on-failure", "Delay": 1_000_000_000, "MaxAttempts": 4, "Window": 60_000_000_000_u64 },
            "Placement": {
                "Constraints": ["node.role==worker"],
                "Preferences": [{ "Spread": { "SpreadDescriptor": "node.labels.zone" } }],
                "MaxReplicas": 2,
                "Platforms": [{ "Architecture": "amd64", "OS": "linux" }],
            },
            "Networks": [{ "Target": "back", "Aliases": ["db", "sql"], "DriverOpts": { "a": "1" } }, { "Target": "host" }],
            "LogDriver": { "Name": "json-file", "Options": { "max-size": "1m" } },
            "ForceUpdate": 7,
            "Runtime": "container",
        },
        "Mode": { "Replicated": { "Replicas": 3 } },
        "UpdateConfig": { "Parallelism": 2, "Delay": 1_000_000_000, "FailureAction": "rollback", "Monitor": 9_000_000_000_u64,
                          "MaxFailureRatio": 0.15, "Order": "start-first", "ProgressDeadline": 90_000_000_000_u64 },
        "RollbackConfig": { "Parallelism": 0, "FailureAction": "continue", "Monitor": 5_000_000_000_u64, "MaxFailureRatio": 0, "Order": "stop-first" },
        "EndpointSpec": { "Mode": "vip", "Ports": [
            { "Name": "http", "Protocol": "tcp", "TargetPort": 80, "PublishedPort": 8080, "PublishMode": "host" },
        ] },
        "Disconnect": { "LostAfter": 90_000_000_000_u64, "Reconcile": "keep-replacement" },
    })
}

#[test]
fn a_full_spec_comes_back_as_it_went_in() {
    let spec = read(&full_spec(), Given::default()).expect("all of it is supported");
    let written = write_spec(&spec);
    assert_eq!(
        serde_json::to_string_pretty(&written).expect("JSON"),
        serde_json::to_string_pretty(&full_spec()).expect("JSON")
    );
    assert_eq!(read(&written, Given::default()).expect("own output"), spec);
    // The schema says `HealthCheck`, Go clients and servers `Healthcheck`.
    check_schema::<models::ServiceSpec>(
        &written,
        &["Disconnect", "TaskTemplate.ContainerSpec.Healthcheck", "TaskTemplate.ContainerSpec.Mounts.Type"],
    );
}

/// S-58: the three kinds of check, and times alone for the image's own.
#[test]
fn s_58_health_checks_come_back_as_they_went_in() {
    let check = |check: Value| {
        let body = with("/TaskTemplate/ContainerSpec/Healthcheck", check.clone());
        let spec = read(&body, Given::default()).expect("a good spec");
        let health = spec.task.container.health_check.clone();
        (health.map(|check| check.test), service::write_task(&spec.task)["ContainerSpec"]["Healthcheck"].clone())
    };
    for (body, test) in [
        (json!({ "Test": ["NONE"] }), types::HealthTest::None),
        (json!({ "Test": ["CMD-SHELL", "a b"], "Retries": 2 }), types::HealthTest::Shell("a b".into())),
        (json!({ "Test": ["CMD", "a"], "Interval": 1_000_000 }), types::HealthTest::Command(vec!["a".into()])),
        (json!({ "Interval": 1_000_000_000, "Retries": 1 }), types::HealthTest::Image),
    ] {
        assert_eq!(check(body.clone()), (Some(test), body));
    }
    assert_eq!(check(json!({ "Test": [], "Retries": 0 })).0, None);
}

fn with(path: &str, value: Value) -> Value {
    let mut body = json!({ "Name": "a", "TaskTemplate": { "ContainerSpec": { "Image": "nginx" } } });
    let (parent, field) = path.rsplit_once('/').expect("a pointer");
    let mut at = &mut body;
    for key in parent.split('/').filter(|key| !key.is_empty()) {
        at = at.as_object_mut().expect("objects").entry(key).or_insert(json!({}));
    }
    at[field] = value;
    body
}

#[test]
fn what_is_not_supported_is_named() {
    refused(
        with("/TaskTemplate/ContainerSpec/CredentialSpec", json!({ "File": "spec.json" })),
        expect!["TaskTemplate.ContainerSpec.CredentialSpec.File is not supported yet: leave it out of the request"],
    );
    refused(
        with("/TaskTemplate/Networks", json!([{ "Aliases": ["n"] }])),
        expect!["TaskTemplate.Networks[0].Target is missing: give the name or id of a network"],
    );
    refused(
        with("/TaskTemplate/ContainerSpec/Privileges/CredentialSpec", json!({ "File": "f" })),
        expect![
            "TaskTemplate.ContainerSpec.Privileges.CredentialSpec.File is not supported yet: leave it out of the request"
        ],
    );
    refused(
        with("/TaskTemplate/ContainerSpec/Isolation", json!("hyperv")),
        expect![[r#"TaskTemplate.ContainerSpec.Isolation: "hyperv" exists on Windows only; leave it out"#]],
    );
}

/// Clients send their own options along, and what they read elsewhere: dockerode's `hijack`, `name` and `version`.
#[test]
fn what_the_api_does_not_know_is_not_looked_at() {
    let read = |body: &Value| {
        let mut spec = read(body, Given::default()).expect("read");
        // that there is an endpoint's spec at all is noted, whatever it says
        spec.stated = Default::default();
        spec
    };
    let plain = read(&with("/Name", json!("a")));
    for (path, value) in
        [("/Colour", json!("red")), ("/version", json!(4)), ("/EndpointSpec/ExposedPorts", json!(["80"]))]
    {
        assert_eq!(read(&with(path, value)), plain, "{path}");
    }
}

#[test]
fn mistakes_are_named() {
    refused(json!([]), expect!["the request body must be an object, not []"]);
    refused(json!({ "TaskTemplate": {} }), expect!["Name is missing: give the name the service has"]);
    refused(json!({ "Name": "a" }), expect!["TaskTemplate.ContainerSpec.Image is missing: give the image to run"]);
    refused(
        with("/Name", json!("a b")),
        expect![[
            r#"Name: name must be valid as a DNS name component: letters, digits, '-' and '_', beginning and ending with a letter or digit; "a b" is not"#
        ]],
    );
    refused(
        with("/TaskTemplate/ContainerSpec/Image", json!("NGINX")),
        expect![[
            r#"TaskTemplate.ContainerSpec.Image: invalid reference format: repository name (NGINX) must be lowercase"#
        ]],
    );
    refused(
        with("/TaskTemplate/Placement/Constraints", json!(["node.role=x"])),
        expect![[
            r#"TaskTemplate.Placement.Constraints[0]: constraint "node.role=x" has no operator; write key==value, key!=value, key in (a,b), key not in (a,b), key exists, key not exists, or a label and <, <=, > or >= with a number"#
        ]],
    );
    refused(
        with("/Mode/Replicated", json!({ "Replicas": -1 })),
        expect!["Mode.Replicated.Replicas must be a whole number, 0 or more, not -1"],
    );
    refused(
        with("/UpdateConfig/MaxFailureRatio", json!(1.5)),
        expect!["UpdateConfig.MaxFailureRatio: 1.5 is not between 0 and 1"],
    );
    let container = |field: &str, value| with(&format!("/TaskTemplate/ContainerSpec/{field}"), value);
    refused(
        container("PidMode", json!("container:db")),
        expect![[
            r#"TaskTemplate.ContainerSpec.PidMode: "container:db" is not there for services; use host or private"#
        ]],
    );
    refused(
        container("CpusetCpus", json!("1-0")),
        expect!["TaskTemplate.ContainerSpec.CpusetCpus: Invalid value 1-0 for cpuset cpus: write 0-2,4"],
    );
    refused(
        container("Devices", json!([{ "PathOnHost": "kvm" }])),
        expect![[r#"TaskTemplate.ContainerSpec.Devices[0].PathOnHost: "kvm" is not an absolute path of the host"#]],
    );
    refused(
        with("/UpdateConfig/Order", json!("both")),
        expect![[r#"UpdateConfig.Order: "both" is no update order; use stop-first or start-first"#]],
    );
    refused(
        with("/TaskTemplate/ContainerSpec/Mounts", json!([{ "Type": "bind", "Source": "a", "Target": "/b" }])),
        expect![[r#"TaskTemplate.ContainerSpec.Mounts[0].Source: "a" is not an absolute path of the host"#]],
    );
    let tmpfs = |options: Value| {
        let mount = json!([{ "Type": "tmpfs", "Target": "/b", "TmpfsOptions": { "Options": options } }]);
        with("/TaskTemplate/ContainerSpec/Mounts", mount)
    };
    refused(
        tmpfs(json!([["exec"], ["usrquota"]])),
        expect![[
            r#"TaskTemplate.ContainerSpec.Mounts[0].TmpfsOptions.Options[1]: "usrquota" is no option of a tmpfs"#
        ]],
    );
    refused(
        tmpfs(json!(["exec"])),
        expect![[
            r#"TaskTemplate.ContainerSpec.Mounts[0].TmpfsOptions.Options[0] must be a list of texts, not "exec""#
        ]],
    );
    refused(
        with("/TaskTemplate/ContainerSpec/Env", json!("A=1")),
        expect![[r#"TaskTemplate.ContainerSpec.Env must be a list of texts, not "A=1""#]],
    );
    refused(
        with("/TaskTemplate/ContainerSpec/Healthcheck", json!({ "Test": ["RUN"] })),
        expect![[
            r#"TaskTemplate.ContainerSpec.Healthcheck.Test: use ["NONE"], ["CMD", program, argument…] or ["CMD-SHELL", script]"#
        ]],
    );
}

#[test]
fn empty_values_of_unsupported_fields_say_nothing() {
    let body = with("/TaskTemplate/ContainerSpec/Secrets", json!(null));
    read(&body, Given::default()).expect("null");
    read(&with("/TaskTemplate/NetworkAttachmentSpec", json!({ "ContainerID": "" })), Given::default()).expect("empty");
}

#[test]
fn an_update_by_a_client_that_does_not_know_disconnect_keeps_it() {
    let before = read(&full_spec(), Given::default()).expect("full");
    let mut body = full_spec();
    body.as_object_mut().expect("object").shift_remove("Disconnect");
    let after = read(&body, Given { name: None, previous: Some(&before) }).expect("update");
    assert_eq!(after.disconnect, before.disconnect);
    assert_ne!(read(&body, Given::default()).expect("create").disconnect, before.disconnect);
}

fn service() -> ServiceView {
    let spec = std::sync::Arc::new(read(&full_spec(), Given::default()).expect("full"));
    let meta = types::Meta {
        version: Version(42),
        spec_at: Version(40),
        created_at: Timestamp::from_unix_ms(1_700_000_000_000),
        updated_at: Timestamp::from_unix_ms(1_700_000_001_500),
    };
    let service = Service {
        id: ServiceId::from_random(1),
        meta,
        task_spec: std::sync::Arc::new(spec.task.clone()),
        previous: Some(std::sync::Arc::clone(&spec)),
        repeated: false,
        revision: 2,
        revised_at: Timestamp::EPOCH,
        earlier: Vec::new(),
        spec,
        spec_version: Version(42),
        update: Some(types::UpdateStatus {
            state: types::UpdateState::Completed,
            started_at: meta.created_at,
            completed_at: Some(meta.updated_at),
            message: "update completed".into(),
        }),
        job: None,
        rebalance: None,
        removing: false,
        published: std::sync::Arc::default(),
        virtual_ips: Vec::new(),
    };
    ServiceView { service, running: 2, desired: 3, completed: 0 }
}

#[test]
fn services_fit_the_schema() {
    let written = write(&service(), true, &Networks::new());
    assert_eq!((&written["Version"]["Index"], &written["UpdatedAt"]), (&json!(42), &json!("2023-11-14T22:13:21.5Z")));
    assert_eq!(written["ServiceStatus"], json!({ "RunningTasks": 2, "DesiredTasks": 3, "CompletedTasks": 0 }));
    assert_eq!(write(&service(), false, &Networks::new()).get("ServiceStatus"), None);
    let own = [
        "Spec.Disconnect",
        "PreviousSpec",
        "Spec.TaskTemplate.ContainerSpec.Healthcheck",
        "Spec.TaskTemplate.ContainerSpec.Mounts.Type",
    ];
    check_schema::<models::Service>(&written, &own);
}

#[test]
fn tasks_fit_the_schema() {
    let mut written = task::write(&task_of(&service()), &Networks::new());
    check_schema::<models::Task>(
        &written,
        &["NetworksAttachments", "Spec.ContainerSpec.Healthcheck", "Spec.ContainerSpec.Mounts.Type"],
    );
    written.as_object_mut().expect("object").shift_remove("Spec");
    expect![[r#"{"ID":"0000000000000000000000009","Version":{"Index":42},"CreatedAt":"2023-11-14T22:13:20Z","UpdatedAt":"2023-11-14T22:13:21.5Z","Labels":{},"ServiceID":"0000000000000000000000001","Slot":2,"NodeID":"0000000000000000000000003","Status":{"Timestamp":"2023-11-14T22:13:21.5Z","State":"failed","Message":"started","Err":"task: non-zero exit (1)","ContainerStatus":{"ContainerID":"cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc","PID":0,"ExitCode":1},"PortStatus":{}},"DesiredState":"shutdown"}"#]].assert_eq(&written.to_string());
}

fn task_of(view: &ServiceView) -> types::Task {
    types::Task {
        id: types::TaskId::from_random(9),
        meta: view.service.meta,
        service: view.service.id,
        slot: types::Slot::Replica(2),
        node: Some(NodeId::from_random(3)),
        spec: view.service.task_spec.clone(),
        spec_version: Version(42),
        iteration: None,
        publishes: false,
        host_ports: Vec::new(),
        granted: types::GenericResources::new(),
        default_log: None,
        status: types::TaskStatus {
            state: types::TaskState::Failed,
            since: view.service.meta.updated_at,
            message: "started".into(),
            error: "task: non-zero exit (1)".into(),
            container: Some(types::ContainerStatus {
                id: "c".repeat(64),
                pid: 0,
                exit_code: Some(1),
                address: Some([10, 0, 0, 2].into()),
                health: None,
            }),
            ports: Vec::new(),
        },
        desired: types::TaskState::Shutdown,
        not_before: Timestamp::EPOCH,
        running_since: None,
        refreshed_at: None,
        failures: 0,
        failed_at: Vec::new(),
        reason: String::new(),
        attachments: Vec::new(),
    }
}

fn node_view() -> types::NodeView {
    let description = types::NodeDescription {
        hostname: "host1".into(),
        platform: types::Platform::new("linux", "amd64", ""),
        resources: types::Resources {
            nano_cpus: types::NanoCpus(2_000_000_000),
            memory: types::Bytes(1 << 30),
            ..Default::default()
        },
        engine_version: "0.1.0".into(),
        engine_labels: types::Labels::from([("disk".into(), "ssd".into())]),
        tls_issuer_pem: "PEM".into(),
        drivers: types::Drivers {
            logs: vec!["json-file".into(), "none".into()],
            networks: vec!["overlay".into()],
            volumes: vec!["local".into()],
        },
        ..types::NodeDescription::default()
    };
    let node = types::Node {
        id: NodeId::from_random(3),
        meta: types::Meta::default(),
        spec: types::NodeSpec::default(),
        role: types::NodeRole::Manager,
        status: types::NodeStatus {
            state: types::NodeState::Unreachable,
            message: "no heartbeat".into(),
            since: Timestamp::EPOCH,
            address: Some([10, 0, 0, 1].into()),
            unreachable_peers: Vec::new(),
        },
        description: Some(description),
        raft: Some(types::RaftMember { raft_id: 1, address: "10.0.0.1:2377".into() }),
    };
    types::NodeView { node, leader: true, reachable: true }
}

#[test]
fn c_27_generic_resources_of_nodes_and_tasks_are_shown_as_docker_does() {
    let generic = types::parse_generic_resources(["GPU=a", "GPU=b", "SSD=4"]).expect("good");
    let shown = json!([
        { "NamedResourceSpec": { "Kind": "GPU", "Value": "a" } },
        { "NamedResourceSpec": { "Kind": "GPU", "Value": "b" } },
        { "DiscreteResourceSpec": { "Kind": "SSD", "Value": 4 } },
    ]);
    let mut view = node_view();
    view.node.description.as_mut().expect("described").resources.generic = generic.clone();
    let written = node::write(&view);
    check_schema::<models::Node>(&written, &[]);
    assert_eq!(written["Description"]["Resources"]["GenericResources"], shown);
    let task = types::Task { granted: generic, ..task_of(&service()) };
    let written = task::write(&task, &Networks::new());
    assert_eq!((&written["GenericResources"], &written["AssignedGenericResources"]), (&shown, &shown));
}

#[test]
fn nodes_fit_the_schema_and_their_specs_come_back() {
    let written = node::write(&node_view());
    check_schema::<models::Node>(&written, &[]);
    assert_eq!(written["Status"], json!({ "State": "disconnected", "Message": "no heartbeat", "Addr": "10.0.0.1" }));
    assert_eq!(
        written["ManagerStatus"],
        json!({ "Leader": true, "Reachability": "reachable", "Addr": "10.0.0.1:2377" })
    );
    assert_eq!(written["Description"]["Platform"], json!({ "Architecture": "x86_64", "OS": "linux" }));
    // C-26: what an older node does not tell is left out
    let plugin = |kind: &str, name: &str| json!({ "Type": kind, "Name": name });
    let plugins = [("Log", "json-file"), ("Log", "none"), ("Network", "overlay"), ("Volume", "local")];
    let plugins: Vec<Value> = plugins.into_iter().map(|(kind, name)| plugin(kind, name)).collect();
    assert_eq!(written["Description"]["Engine"]["Plugins"], json!(plugins));
    let mut older = node_view();
    older.node.description.as_mut().expect("described").drivers = types::Drivers::default();
    assert_eq!(node::write(&older)["Description"]["Engine"].get("Plugins"), None);
    let engine = &written["Description"]["Engine"];
    assert_eq!((&engine["EngineVersion"], &engine["RswarmVersion"]), (&json!("28.5.2"), &json!("0.1.0")));
    assert_eq!(node::read_spec(&written["Spec"]).expect("own output"), node_view().node.spec);
    let error = node::read_spec(&json!({ "Role": "boss", "Availability": "active" })).expect_err("no role");
    assert_eq!(error.to_string(), r#"Role: "boss" is no role; use worker or manager"#);
}

fn cluster() -> types::Cluster {
    types::Cluster {
        id: types::ClusterId::from_random(5),
        meta: types::Meta::default(),
        spec: types::ClusterSpec::default(),
        root_ca: types::RootCa::new("PEM", ""),
        join: types::JoinSecrets { worker: [1; 16], manager: [2; 16] },
        probe_key: [0; 32],
        data_path_port: types::DEFAULT_DATA_PATH_PORT,
        unlock_key: None,
        registries: std::collections::BTreeMap::new(),
    }
}

#[test]
fn the_cluster_fits_the_schema_and_its_spec_comes_back() {
    let written = swarm::write(&cluster());
    check_schema::<models::Swarm>(&written, &[]);
    assert!(written["JoinTokens"]["Worker"].as_str().expect("token").starts_with("SWMTKN-1-"));
    assert_eq!(swarm::write_public(&cluster()).get("JoinTokens"), None);
    let changed = types::ClusterSpec {
        orchestration: types::OrchestrationConfig { task_history_limit: -1 },
        ..types::ClusterSpec::default()
    };
    assert_eq!(
        swarm::read_spec(&json!({ "Orchestration": { "TaskHistoryRetentionLimit": -1 } }), &cluster().spec),
        Ok((changed.clone(), None))
    );
    assert_eq!(swarm::read_spec(&written["Spec"], &changed), Ok((cluster().spec, None)));
    // P25: what is not named stays
    let pools = swarm::read_spec(&json!({ "DefaultAddrPool": ["10.20.0.0/16"] }), &cluster().spec);
    let pools = pools.expect("a pool that can be cut").0.address_pools;
    assert_eq!((pools.pools[0].to_string().as_str(), pools.pools.len(), pools.mask_length), ("10.20.0.0/16", 2, 24));
    let error = |body: Value| swarm::read_spec(&body, &cluster().spec).expect_err("refused").to_string();
    assert_eq!(
        error(json!({ "CAConfig": { "NodeCertExpiry": 1000 } })),
        "CAConfig.NodeCertExpiry: must not be shorter than one hour"
    );
    roots_are_read(&error);
    raft_is_read(&error);
    let lock = |body: Value, spec: &types::ClusterSpec| swarm::read_spec(&body, spec).expect("a spec").0;
    let locked = lock(json!({ "EncryptionConfig": { "AutoLockManagers": true } }), &cluster().spec);
    assert!(locked.encryption.auto_lock_managers);
    assert!(lock(json!({}), &locked).encryption.auto_lock_managers, "what is not named stays");
    let opened = lock(json!({ "EncryptionConfig": { "AutoLockManagers": false } }), &locked);
    assert!(!opened.encryption.auto_lock_managers);
}

/// C-29, C-31.
fn raft_is_read(error: &dyn Fn(Value) -> String) {
    let read =
        |raft: Value, spec: &types::ClusterSpec| swarm::read_spec(&json!({ "Raft": raft }), spec).expect("a spec").0;
    let kept = read(json!({ "KeepOldSnapshots": 2, "ElectionTick": 10, "HeartbeatTick": 1 }), &cluster().spec);
    assert_eq!(kept.raft.keep_old_snapshots, 2);
    assert_eq!(read(json!({}), &kept).raft.keep_old_snapshots, 2, "what is not named stays");
    let shown = swarm::write(&types::Cluster { spec: kept.clone(), ..cluster() });
    assert_eq!(shown["Spec"]["Raft"]["KeepOldSnapshots"], 2);
    assert_eq!(read(json!({ "KeepOldSnapshots": 0 }), &kept).raft.keep_old_snapshots, 0);
    let said = error(json!({ "Raft": { "ElectionTick": 20 } }));
    assert!(said.starts_with("Raft.ElectionTick: 20 would change nothing") && said.contains("give 10"), "{said}");
}

/// C-18, C-19.
fn roots_are_read(error: &dyn Fn(Value) -> String) {
    let read = |ca: Value| swarm::read_spec(&json!({ "CAConfig": ca }), &cluster().spec).expect("a spec");
    let (spec, root) = read(json!({ "ForceRotate": 4 }));
    assert_eq!((spec.ca.force_rotate, root), (4, None));
    let (written, _) = swarm::read_spec(&json!({ "CAConfig": {} }), &spec).expect("a spec");
    assert_eq!(written.ca.force_rotate, 4, "what is not named stays");
    let (_, root) = read(json!({ "SigningCACert": "CERT", "SigningCAKey": "KEY" }));
    let root = root.expect("a root");
    assert_eq!((&*root.certificate_pem, &*root.key_pem, &*root.cross_signed_pem), ("CERT", "KEY", ""));
    let said = error(json!({ "CAConfig": { "SigningCAKey": "KEY" } }));
    assert!(said.contains("if a signing CA key is provided, the signing CA cert must also be provided"), "{said}");
    assert!(!said.contains("\"KEY\""), "a key is not repeated: {said}");
    assert!(error(json!({ "CAConfig": { "SigningCACert": "CERT" } })).contains("SigningCAKey"));
    let external = json!([{ "Protocol": "cfssl", "URL": "https://ca.example" }]);
    assert!(error(json!({ "CAConfig": { "ExternalCAs": external } })).contains("external CAs are not supported"));
    let mut during = cluster();
    let next =
        types::RootRotation { certificate_pem: "NEW".into(), key_pem: String::new(), cross_signed_pem: "X".into() };
    during.root_ca.rotation = Some(Box::new(next));
    let written = swarm::write(&during);
    assert_eq!((&written["RootRotationInProgress"], &written["TLSInfo"]["TrustRoot"]), (&json!(true), &json!("PEM")));
}

#[test]
fn init_and_join_are_read() {
    let init = swarm::read_init(&json!({ "ListenAddr": "0.0.0.0:2377", "SubnetSize": 24, "AdvertiseAddr": "eth0" }));
    assert_eq!(init.expect("docker's own request").advertise_addr, "eth0");
    for body in
        [json!({ "AutoLockManagers": true }), json!({ "Spec": { "EncryptionConfig": { "AutoLockManagers": true } } })]
    {
        assert!(swarm::read_init(&body).expect("C-14").spec.encryption.auto_lock_managers);
    }
    let unlock = swarm::read_unlock(&json!({ "UnlockKey": "SWMKEY-1-secret" })).expect_err("no key").to_string();
    assert!(unlock.starts_with("UnlockKey: invalid key string") && !unlock.contains("secret"), "{unlock}");
    // C-05, C-06
    let init = swarm::read_init(&json!({
        "DefaultAddrPool": ["10.20.0.0/16", "10.30.0.0/16"], "SubnetSize": 26, "DataPathPort": 7777,
        "DataPathAddr": "eth1",
    }));
    let init = init.expect("within the limits");
    assert_eq!((init.data_path_port, init.data_path_addr.as_str()), (7777, "eth1"));
    let pools: Vec<String> = init.spec.address_pools.pools.iter().map(ToString::to_string).collect();
    assert_eq!(pools, ["10.20.0.0/16", "10.30.0.0/16", "fd72:7377:726d::/48"]);
    let shown = swarm::write(&types::Cluster { spec: init.spec, data_path_port: 7777, ..cluster() });
    assert_eq!((&shown["SubnetSize"], &shown["DataPathPort"]), (&json!(26), &json!(7777)));
    assert_eq!(shown["DefaultAddrPool"][1], "10.30.0.0/16");
    let error = |body: Value| swarm::read_init(&body).expect_err("refused").to_string();
    assert_eq!(error(json!({ "DataPathPort": 80 })), "DataPathPort: 80 is out of range; use 1024 to 49151");
    assert_eq!(error(json!({ "SubnetSize": 30 })), "SubnetSize: 30 is too long a prefix for a subnet; use at most 29");
    assert_eq!(
        error(json!({ "DefaultAddrPool": ["10.0.0.0/25"] })),
        "SubnetSize: a subnet with a prefix of 24 does not fit in the pool 10.0.0.0/25"
    );
    assert_eq!(
        error(json!({ "DefaultAddrPool": ["10.0.0.0/8", "10.1.0.0/16"] })),
        "DefaultAddrPool[1]: 10.1.0.0/16 overlaps 10.0.0.0/8; name each address once"
    );
    let error = swarm::read_join(&json!({ "RemoteAddrs": ["a:1"] })).expect_err("no token");
    assert!(error.to_string().starts_with("JoinToken is missing"));
}
