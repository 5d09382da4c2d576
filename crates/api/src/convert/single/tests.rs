//! Bodies of `create` and `update` as clients send them, good and bad.

use serde_json::json;
use types::{Mount, MountKind, PortProtocol, Seccomp};

use super::{
    change, create,
    spec::{MountForm, NamespaceRequest, NetworkRequest, PlaceRequest, PortRequest, RestartPolicy, SingleSpec},
};

fn read(body: &serde_json::Value) -> SingleSpec {
    create(body).unwrap_or_else(|error| panic!("{body}: {error}"))
}

fn refuses(body: &serde_json::Value, part: &str) {
    let error = create(body).expect_err(part).to_string();
    assert!(error.contains(part), "{error:?} does not say {part:?}");
}

/// What the docker CLI 28 sends for `docker run app:1`: nothing of it asks for anything.
#[test]
fn e_13_a_plain_run_asks_for_the_defaults() {
    let body = serde_json::from_str(
        r#"{
        "Hostname": "", "Domainname": "", "User": "", "AttachStdin": false, "AttachStdout": true, "AttachStderr": true,
        "Tty": false, "OpenStdin": false, "StdinOnce": false, "Env": null, "Cmd": null, "Image": "app:1", "Volumes": {},
        "WorkingDir": "", "Entrypoint": null, "OnBuild": null, "Labels": {},
        "HostConfig": {
            "Binds": null, "ContainerIDFile": "", "LogConfig": {"Type": "", "Config": {}}, "NetworkMode": "bridge",
            "PortBindings": {}, "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0}, "AutoRemove": false,
            "VolumeDriver": "", "VolumesFrom": null, "ConsoleSize": [24, 80], "CapAdd": null, "CapDrop": null,
            "CgroupnsMode": "", "Dns": null, "DnsOptions": [], "DnsSearch": [], "ExtraHosts": null, "GroupAdd": null,
            "IpcMode": "", "Cgroup": "", "Links": null, "OomScoreAdj": 0, "PidMode": "", "Privileged": false,
            "PublishAllPorts": false, "ReadonlyRootfs": false, "SecurityOpt": null, "UTSMode": "", "UsernsMode": "",
            "ShmSize": 0, "Isolation": "", "CpuShares": 0, "Memory": 0, "NanoCpus": 0, "CgroupParent": "",
            "BlkioWeight": 0, "BlkioWeightDevice": [], "CpuPeriod": 0, "CpuQuota": 0, "CpuRealtimePeriod": 0,
            "CpusetCpus": "", "CpusetMems": "", "Devices": [], "DeviceCgroupRules": null, "DeviceRequests": null,
            "MemoryReservation": 0, "MemorySwap": 0, "MemorySwappiness": -1, "OomKillDisable": false, "PidsLimit": 0,
            "Ulimits": [], "CpuCount": 0, "CpuPercent": 0, "IOMaximumIOps": 0, "IOMaximumBandwidth": 0,
            "MaskedPaths": null, "ReadonlyPaths": null
        },
        "NetworkingConfig": {"EndpointsConfig": {"bridge": {"IPAMConfig": null, "Links": null, "Aliases": null,
            "DriverOpts": null, "GwPriority": 0, "NetworkID": "", "EndpointID": "", "Gateway": "", "IPAddress": "",
            "MacAddress": "", "IPPrefixLen": 0, "IPv6Gateway": "", "GlobalIPv6Address": "", "GlobalIPv6PrefixLen": 0,
            "DNSNames": null}}}
    }"#,
    )
    .expect("JSON");
    let spec = read(&body);
    let mut default = SingleSpec { image: "app:1".to_owned(), ..SingleSpec::default() };
    (default.streams.attach_stdout, default.streams.attach_stderr) = (true, true);
    default.console_rows_columns = (24, 80);
    assert_eq!(spec, default);
}

#[test]
fn e_14_ports() {
    let spec = read(&json!({"Image": "a", "ExposedPorts": {"53/udp": {}}, "HostConfig": {"PortBindings": {
        "80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}, {"HostIp": "0.0.0.0", "HostPort": "9000-9010"}],
        "443/tcp": [{"HostPort": ""}]}}}));
    let tcp = |target, address: &str, host| PortRequest {
        target,
        protocol: PortProtocol::Tcp,
        address: address.parse().ok(),
        host,
    };
    let wanted = [tcp(443, "", None), tcp(80, "127.0.0.1", Some((8080, 8080))), tcp(80, "0.0.0.0", Some((9000, 9010)))];
    assert!(spec.ports.len() == 3 && wanted.iter().all(|port| spec.ports.contains(port)), "{:?}", spec.ports);
    assert_eq!(spec.exposed.len(), 3);
    for (bindings, part) in [
        (json!({"0/tcp": [{}]}), "invalid containerPort: 0/tcp"),
        (json!({"80/icmp": [{}]}), "invalid proto: icmp"),
        (json!({"80/tcp": [{"HostPort": "99999"}]}), "invalid port specification: \"99999\""),
        (json!({"80/tcp": [{"HostPort": "9-8"}]}), "invalid port specification"),
        (json!({"80/tcp": [{"HostIp": "here"}]}), "HostConfig.PortBindings.80/tcp[0].HostIp: invalid host IP"),
        (json!({"80/tcp": "8080"}), "must be a list"),
    ] {
        refuses(&json!({"Image": "a", "HostConfig": {"PortBindings": bindings}}), part);
    }
}

#[test]
fn e_15_mounts() {
    let spec = read(&json!({"Image": "a", "Volumes": {"/own": {}, "/data": {}}, "HostConfig": {
        "Binds": ["/srv:/srv:ro,rslave", "data:/data/:nocopy"], "Tmpfs": {"/run": "size=64m,mode=1770,noexec"}}}));
    let find = |target: &str| {
        &spec.mounts.iter().find(|asked| asked.mount.target == target).unwrap_or_else(|| panic!("{target}")).mount
    };
    assert_eq!(spec.mounts.len(), 4);
    let (source, propagation) = ("/srv".into(), "rslave".into());
    let (non_recursive, read_only_non_recursive) = (false, false);
    let bind = MountKind::Bind { source, propagation, create: true, non_recursive, read_only_non_recursive };
    assert_eq!(*find("/srv"), Mount { target: "/srv".into(), read_only: true, kind: bind });
    assert!(matches!(&find("/data").kind, MountKind::Volume { name, no_copy: true, .. } if name == "data"));
    assert!(matches!(&find("/own").kind, MountKind::Volume { name, .. } if name.is_empty()));
    let tmpfs = MountKind::Tmpfs { size: types::Bytes(64 << 20), mode: 0o1770, options: vec!["noexec".to_owned()] };
    assert_eq!(find("/run").kind, tmpfs);
    let forms: Vec<&MountForm> = spec.mounts.iter().map(|asked| &asked.form).collect();
    let bind = |text: &str| MountForm::Bind(text.to_owned());
    let written = [
        bind("/srv:/srv:ro,rslave"),
        bind("data:/data/:nocopy"),
        MountForm::Tmpfs("size=64m,mode=1770,noexec".to_owned()),
        MountForm::Volume,
    ];
    assert_eq!(forms, written.iter().collect::<Vec<_>>());
    for (binds, part) in [
        (json!(["a:b:c:d"]), "invalid volume specification: 'a:b:c:d'"),
        (json!([":/x"]), "invalid volume specification: ':/x'"),
        (json!(["/srv:rel"]), "invalid mount path: 'rel' mount path must be absolute"),
        (json!(["/srv:/"]), "destination can't be '/'"),
        (json!(["/srv:/x:fast"]), "invalid mode: fast"),
        (json!(["no/name:/x"]), "includes invalid characters for a local volume name"),
        (json!(["/a:/x", "/b:/x"]), "Duplicate mount point: /x"),
        (json!(["/a:/fast"]), "Duplicate mount point: /fast"),
    ] {
        refuses(&json!({"Image": "a", "HostConfig": {"Binds": binds, "Tmpfs": {"/fast": ""}}}), part);
    }
    let mount = json!([{"Type": "tmpfs", "Target": "/fast"}]);
    let both = read(&json!({"Image": "a", "HostConfig": {"Mounts": mount, "Tmpfs": {"/fast": ""}}}));
    assert_eq!(both.mounts.len(), 2, "the later lies over the other");
}

#[test]
fn e_15_an_image_as_a_mount() {
    let body = |mount: serde_json::Value| json!({"Image": "a", "HostConfig": {"Mounts": [mount]}});
    let asked = json!({"Type": "image", "Source": "files:1", "Target": "/x", "ImageOptions": {"Subpath": "d"}});
    let spec = read(&body(asked.clone()));
    assert_eq!(spec.mounts[0].mount.kind, MountKind::Image { source: "files:1".into(), subpath: "d".into() });
    assert_eq!(crate::convert::mount::write(&spec.mounts[0].mount), asked);
    for (mount, part) in [
        (json!({"Type": "image", "Target": "/x"}), "Mounts[0].Source is missing: name the image"),
        (
            json!({"Type": "image", "Source": "a", "Target": "/x", "ImageOptions": {"Subpath": "../d"}}),
            "without \"..\"",
        ),
        (json!({"Type": "image", "Source": "a", "Target": "/x", "VolumeOptions": {"NoCopy": true}}), "VolumeOptions"),
        (json!({"Type": "bind", "Source": "/a", "Target": "/x", "ImageOptions": {"Subpath": "d"}}), "ImageOptions"),
        (json!({"Type": "npipe", "Source": "a", "Target": "/x"}), "use bind, volume, image or tmpfs"),
    ] {
        refuses(&body(mount), part);
    }
}

#[test]
fn e_17_networks() {
    let network = |host: serde_json::Value, endpoints: serde_json::Value| {
        let body = json!({"Image": "a", "HostConfig": host, "NetworkingConfig": {"EndpointsConfig": endpoints}});
        read(&body).network
    };
    assert_eq!(network(json!({}), json!({})), NetworkRequest::default());
    assert_eq!(network(json!({"NetworkMode": "host"}), json!({"host": {}})), NetworkRequest::Host);
    assert_eq!(network(json!({"NetworkMode": "none"}), json!(null)), NetworkRequest::None);
    let other = NetworkRequest::Container("db".to_owned());
    assert_eq!(network(json!({"NetworkMode": "container:db"}), json!({})), other);
    let front =
        PlaceRequest { aliases: vec!["web".to_owned()], address: "10.5.0.9".parse().ok(), ..PlaceRequest::of("front") };
    let endpoints = json!({"back": {}, "front": {"Aliases": ["web"], "IPAMConfig": {"IPv4Address": "10.5.0.9"}}});
    let wanted = NetworkRequest::Places(vec![front.clone(), PlaceRequest::of("back")]);
    assert_eq!(network(json!({"NetworkMode": "front"}), endpoints), wanted);
    let alone = json!({"front": {"Aliases": ["web"], "IPAMConfig": {"IPv4Address": "10.5.0.9"}}});
    assert_eq!(network(json!({}), alone), NetworkRequest::Places(vec![front]), "the mode is the one network there is");
    refuses(
        &json!({"Image": "a", "HostConfig": {"NetworkMode": "host"}, "NetworkingConfig": {"EndpointsConfig": {"front": {}}}}),
        "cannot attach both user-defined and non-user-defined network-modes",
    );
    refuses(&json!({"Image": "a", "HostConfig": {"NetworkMode": "container:"}}), "missing container name or ID");
    let links =
        read(&json!({"Image": "a", "HostConfig": {"Links": ["db:database", "/cache:/web/cache", "queue"]}})).links;
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    assert_eq!(links, [pair("db", "database"), pair("cache", "cache"), pair("queue", "queue")]);
}

#[test]
fn e_18_e_19_e_22_limits_security_and_restart() {
    let spec = read(&json!({"Image": "a", "Entrypoint": [""], "Cmd": "one", "HostConfig": {
        "SecurityOpt": ["no-new-privileges", "seccomp=unconfined", "label=level:s0"], "PidMode": "container:db",
        "IpcMode": "shareable", "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 3},
        "DeviceCgroupRules": ["c 42:* rmw"], "Devices": [{"PathOnHost": "/dev/null"}], "MemorySwap": -1,
        "Memory": 67108864, "PidsLimit": -1, "CgroupParent": "/custom",
        "BlkioWeightDevice": [{"Path": "/dev/sda", "Weight": 200}, {"Path": "/dev/sdb", "Weight": 0}]}}));
    assert_eq!((spec.entrypoint, spec.command), (Some(Vec::new()), vec!["one".to_owned()]));
    assert!(spec.no_new_privileges && spec.seccomp == Seccomp::Unconfined);
    assert_eq!(spec.pid, NamespaceRequest::Container("db".to_owned()));
    assert_eq!((spec.ipc, spec.restart), (NamespaceRequest::Shareable, RestartPolicy::OnFailure(3)));
    assert_eq!((spec.device_rules[0].major, spec.device_rules[0].minor), (Some(42), None));
    assert_eq!((spec.devices[0].container.as_str(), spec.devices[0].permissions.as_str()), ("/dev/null", "rwm"));
    let weights: Vec<_> = spec.limits.device_weights.iter().map(|of| (of.path.as_str(), of.weight)).collect();
    assert_eq!((spec.limits.cgroup_parent.as_str(), weights), ("/custom", vec![("/dev/sda", 200)]));
    assert_eq!((spec.limits.memory_bytes, spec.limits.memory_swap_bytes, spec.limits.pids), (64 << 20, -1, 0));
    for (host, part) in [
        (json!({"Memory": 1024}), "HostConfig.Memory: Minimum memory limit allowed is 6MB"),
        (json!({"MemorySwap": 1024}), "You should always set the Memory limit"),
        (json!({"NanoCpus": 1000000000, "CpuQuota": 5000}), "Nano CPUs and CPU Quota cannot both be set"),
        (json!({"CpusetCpus": "0-x"}), "Invalid value 0-x for cpuset cpus"),
        (json!({"BlkioWeight": 5}), "Range of blkio weight is from 10 to 1000"),
        (json!({"BlkioWeightDevice": [{"Path": "/dev/sda", "Weight": 5000}]}), "invalid weight for device: /dev/sda"),
        (json!({"BlkioWeightDevice": [{"Path": "sda", "Weight": 500}]}), "is not the absolute path of a device"),
        (json!({"CgroupParent": "/a/../b"}), "is not the path of a control group"),
        (json!({"CgroupParent": "/a\nb"}), "is not the path of a control group"),
        (json!({"CgroupParent": "x".repeat(256)}), "is not the path of a control group"),
        (json!({"CgroupParent": "x/".repeat(600)}), "is not the path of a control group"),
        (json!({"MemorySwappiness": 101}), "valid memory swappiness range is 0-100"),
        (json!({"RestartPolicy": {"Name": "sometimes"}}), "unknown policy 'sometimes'"),
        (json!({"RestartPolicy": {"Name": "always", "MaximumRetryCount": 2}}), "can only be used with 'on-failure'"),
        (json!({"RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": -2}}), "cannot be negative"),
        (json!({"AutoRemove": true, "RestartPolicy": {"Name": "always"}}), "can't create 'AutoRemove' container"),
        (json!({"SecurityOpt": ["apparmor=mine"]}), "AppArmor is not supported"),
        (json!({"SecurityOpt": ["what"]}), "invalid --security-opt"),
        (json!({"UsernsMode": "own"}), "invalid USER mode: own"),
        (json!({"PidMode": "else"}), "invalid PID mode: else"),
        (json!({"DeviceCgroupRules": ["c 42 rmw"]}), "invalid device cgroup rule format: 'c 42 rmw'"),
        (json!({"ExtraHosts": ["db"]}), "bad format for add-host"),
        (json!({"ExtraHosts": ["db:nowhere"]}), "invalid IP address in add-host"),
        (json!({"Dns": ["nowhere"]}), "HostConfig.Dns: \"nowhere\" is not an IP address"),
        (
            json!({"StorageOpt": {"size": "1G"}}),
            "HostConfig.StorageOpt: --storage-opt is supported only for overlay over xfs",
        ),
        (
            json!({"DeviceRequests": [{"Count": -2}]}),
            "HostConfig.DeviceRequests[0].Count: -2 is neither a number of devices nor -1 for all",
        ),
        (json!({"DeviceRequests": [{"Capabilities": ["gpu"]}]}), "HostConfig.DeviceRequests[0].Capabilities[0]"),
        (json!({"Runtime": "kata"}), "unknown or invalid runtime name: kata"),
        (json!({"Memory": "64m"}), "HostConfig.Memory must be a whole number"),
        (json!({"Memory": u64::MAX}), "is more than any host has"),
        (json!({"CpuQuota": i64::MAX}), "is more than the kernel takes, 17592186044415"),
        (json!({"CpuShares": 262145}), "is more than the kernel takes, 262144"),
        (json!({"PidsLimit": i64::MAX}), "is more than the kernel has, 4194304"),
        (json!({"Sysctls": {"a": "b\u{0}c"}}), "HostConfig.Sysctls.a: contains a zero byte"),
        (json!({"ConsoleSize": "80x24"}), "ConsoleSize: is not a list of two numbers"),
        (json!({"ContainerIDFile": 7}), "HostConfig.ContainerIDFile must be a text"),
    ] {
        refuses(&json!({"Image": "a", "HostConfig": host}), part);
    }
    refuses(&json!({}), "Image is missing");
    refuses(&json!([]), "the request body must be an object");
    refuses(&json!({"Image": "a", "WorkingDir": "rel"}), "the working directory 'rel' is invalid");
    refuses(&json!({"Image": "a", "Env": ["=x"]}), "invalid environment variable: =x");
    refuses(&json!({"Image": "a", "Cmd": ["x\u{0}"]}), "Cmd[0]: contains a zero byte");
    refuses(&json!({"Image": "a", "ArgsEscaped": "yes"}), "ArgsEscaped must be true or false");
}

/// E-17: what is no address of an interface is refused where it stands, and all that Docker reads is kept in one form.
#[test]
fn e_17_addresses_of_interfaces() {
    let of_container = |mac: &str| json!({"Image": "a", "MacAddress": mac});
    let of_endpoint =
        |mac: &str| json!({"Image": "a", "NetworkingConfig": {"EndpointsConfig": {"n": {"MacAddress": mac}}}});
    for text in ["02:42:AC:11:00:09", "02-42-ac-11-00-09", "0242.ac11.0009"] {
        for body in [of_container(text), of_endpoint(text)] {
            let NetworkRequest::Places(places) = read(&body).network else { panic!("{body}") };
            assert_eq!(places[0].mac, "02:42:ac:11:00:09", "{body}");
        }
    }
    let long = "02:".repeat(1000);
    for bad in
        ["bad", "+2:42:ac:11:00:09", "02:42-ac:11-00:09", "02:42:ac:11:00", "\u{fc}\u{fc}:00", "0242ac110009", &long]
    {
        refuses(&of_container(bad), &format!("MacAddress: invalid MAC address {bad}: write six bytes"));
        refuses(&of_endpoint(bad), "NetworkingConfig.EndpointsConfig.n.MacAddress: invalid MAC address");
    }
    refuses(&json!({"Image": "a", "MacAddress": 7}), "MacAddress must be a text");
    let host = json!({"Image": "a", "HostConfig": {"NetworkMode": "host"}, "MacAddress": "02:42:ac:11:00:09"});
    refuses(&host, "conflicting options: mac-address and the network mode");
}

/// E-14, E-35: who shares a network has what the other one has, and is not given in silence what cannot be his own.
#[test]
fn e_35_a_shared_network_has_nothing_of_ones_own() {
    let shared = || json!({ "Image": "a", "HostConfig": { "NetworkMode": "container:db" } });
    assert!(create(&shared()).is_ok());
    for (field, value, part) in [
        ("Hostname", json!("x"), "hostname and the network mode"),
        ("ExposedPorts", json!({ "80/tcp": {} }), "port exposing and the container type network mode"),
    ] {
        let mut body = shared();
        body[field] = value;
        refuses(&body, &format!("conflicting options: {part}"));
    }
    for (field, value, part) in [
        ("Links", json!(["db:store"]), "container type network can't be used with links"),
        ("Dns", json!(["1.1.1.1"]), "dns and the network mode"),
        ("ExtraHosts", json!(["a:1.1.1.1"]), "custom host-to-IP mapping and the network mode"),
        (
            "PortBindings",
            json!({ "80/tcp": [{ "HostPort": "80" }] }),
            "port publishing and the container type network mode",
        ),
        ("PublishAllPorts", json!(true), "port publishing and the container type network mode"),
    ] {
        let mut body = shared();
        body["HostConfig"][field] = value;
        refuses(&body, &format!("conflicting options: {part}"));
    }
    let root =
        json!({ "Image": "a", "HostConfig": { "Mounts": [{ "Type": "volume", "Source": "v", "Target": "/" }] } });
    refuses(&root, "destination can't be '/'");
}

#[test]
fn e_25_update() {
    let wanted = change(&json!({"Memory": 67108864, "RestartPolicy": {"Name": "always"}})).expect("good");
    assert_eq!((wanted.limits.memory_bytes, wanted.restart), (64 << 20, Some(RestartPolicy::Always)));
    assert_eq!(change(&json!({"NanoCpus": 500000000})).expect("good").restart, None);
    let unnamed = json!({"Memory": 67108864, "PidsLimit": null, "RestartPolicy": {"Name": "", "MaximumRetryCount": 0}});
    let unnamed = change(&unnamed).expect("good");
    assert_eq!((unnamed.restart, unnamed.pids), (None, None), "neither is changed");
    for none in [0, -1, -7] {
        assert_eq!(change(&json!({ "PidsLimit": none })).expect("good").pids, Some(0), "{none}");
    }
    let error = change(&json!({"Devices": [{"PathOnHost": "/dev/null"}]})).expect_err("not changeable").to_string();
    assert!(error.contains("Devices is not supported yet"), "{error}");
}
