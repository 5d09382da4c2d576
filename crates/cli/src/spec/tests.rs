//! Command lines in, specs out.

mod jobs;
mod mounts;
mod publish;

use clap::Parser;
use expect_test::{Expect, expect};
use serde_json::{Value, json};

use crate::{
    arguments::{Command, Root},
    commands::{
        network::{NetworkCommand, request},
        service::{ServiceCommand, change_spec, new_spec},
    },
};

fn parse(line: &str) -> ServiceCommand {
    let words = super::scalars::split_words(line).expect("words");
    let root = Root::try_parse_from(["rswarm".to_owned(), "service".to_owned()].into_iter().chain(words));
    match root.unwrap_or_else(|error| panic!("{error}")).command {
        Command::Service(command) => command,
        other => panic!("{other:?}"),
    }
}

fn ids() -> super::network::Ids {
    [("back".to_owned(), "id-of-back".to_owned()), ("front".to_owned(), "id-of-front".to_owned())].into()
}

fn created(line: &str) -> anyhow::Result<Value> {
    match parse(line) {
        ServiceCommand::Create(arguments) => new_spec(&arguments, &ids()),
        other => panic!("{other:?}"),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "`expect!` at the call, without ampersands")]
fn check_create(line: &str, expected: Expect) {
    let shown = match created(line) {
        Ok(spec) => serde_json::to_string_pretty(&spec).expect("JSON"),
        Err(error) => format!("error: {error:#}"),
    };
    expected.assert_eq(&shown);
}

#[expect(clippy::needless_pass_by_value, reason = "`expect!` at the call, without ampersands")]
fn check_update(spec: Value, line: &str, expected: Expect) {
    let ServiceCommand::Update(arguments) = parse(line) else { panic!("no update") };
    let mut changed = spec;
    let result = change_spec(&mut changed, &arguments, &ids());
    expected.assert_eq(&match result {
        Ok(()) => changed.to_string(),
        Err(error) => format!("error: {error:#}"),
    });
}

#[test]
fn the_shortest_service() {
    check_create(
        "create nginx",
        expect![[r#"
        {
          "Name": "",
          "TaskTemplate": {
            "ContainerSpec": {
              "Image": "nginx"
            }
          },
          "Mode": {
            "Replicated": {}
          }
        }"#]],
    );
}

#[test]
fn what_steers_the_planner_is_kept_in_labels() {
    check_create(
        "create --label a=b --placement-strategy binpack --rebalance off --priority -5 --platform any --pull never nginx",
        expect![[r#"
        {
          "Name": "",
          "TaskTemplate": {
            "ContainerSpec": {
              "Image": "nginx"
            },
            "Placement": {
              "Platforms": [
                {
                  "OS": "any",
                  "Architecture": "any",
                  "Variant": ""
                }
              ]
            }
          },
          "Mode": {
            "Replicated": {}
          },
          "Labels": {
            "rswarm.placement.strategy": "binpack",
            "rswarm.rebalance": "off",
            "rswarm.image.pull": "never",
            "rswarm.priority": "-5",
            "a": "b"
          }
        }"#]],
    );
}

#[test]
fn p12_how_files_change_is_kept_in_a_label() {
    let spec = created("create --refresh signal:HUP nginx").expect("a spec");
    assert_eq!(spec["Labels"], json!({ "rswarm.refresh": "signal:HUP" }));
    check_update(
        json!({ "Labels": { "a": "b", "rswarm.refresh": "signal:HUP" } }),
        "update --refresh none web",
        expect![[r#"{"Labels":{"a":"b","rswarm.refresh":"none"}}"#]],
    );
}

#[test]
fn p13_what_containers_have_of_their_host() {
    check_create(
        "create --privileged --device /dev/kvm --device /dev/a:/dev/b:r --shm-size 128m --pid host --ipc host \
         --cpuset-cpus 0-1 --update-progress-deadline 2m nginx",
        expect![[r#"
            {
              "Name": "",
              "TaskTemplate": {
                "ContainerSpec": {
                  "Image": "nginx",
                  "Privileged": true,
                  "ShmSize": 134217728,
                  "PidMode": "host",
                  "IpcMode": "host",
                  "CpusetCpus": "0-1",
                  "Devices": [
                    {
                      "PathOnHost": "/dev/kvm",
                      "PathInContainer": "/dev/kvm",
                      "CgroupPermissions": "rwm"
                    },
                    {
                      "PathOnHost": "/dev/a",
                      "PathInContainer": "/dev/b",
                      "CgroupPermissions": "r"
                    }
                  ]
                }
              },
              "Mode": {
                "Replicated": {}
              },
              "UpdateConfig": {
                "ProgressDeadline": 120000000000,
                "Parallelism": 1
              }
            }"#]],
    );
}

#[test]
fn many_flags() {
    check_create(
        "create -d --name web --replicas 3 -e A=1 --env B=2 -l x=y --constraint node.role==worker \
         --placement-pref spread=node.labels.zone --limit-cpu 0.5 --limit-memory 64m --memory-swap -1 --memory-swappiness 10 --reserve-memory 32m \
         --restart-condition on-failure --restart-delay 2s --update-delay 1m --publish published=8080,target=80,mode=host \
         --mount type=bind,src=/a,dst=/b,ro --cap-drop net_raw --health-cmd 'test -e /ok' --health-interval 5s \
         --stop-grace-period 30s --init --user 1:2 --disconnect-lost-after 2m --ulimit nofile=10:20 --host db:10.0.0.1 \
         nginx:1 sh -c 'echo hi'",
        expect![[r#"
            {
              "Name": "web",
              "TaskTemplate": {
                "ContainerSpec": {
                  "Image": "nginx:1",
                  "Args": [
                    "sh",
                    "-c",
                    "echo hi"
                  ],
                  "User": "1:2",
                  "StopGracePeriod": 30000000000,
                  "Init": true,
                  "Healthcheck": {
                    "Test": [
                      "CMD-SHELL",
                      "test -e /ok"
                    ],
                    "Interval": 5000000000
                  },
                  "Env": [
                    "A=1",
                    "B=2"
                  ],
                  "Hosts": [
                    "10.0.0.1 db"
                  ],
                  "CapabilityDrop": [
                    "CAP_NET_RAW"
                  ],
                  "Mounts": [
                    {
                      "Type": "bind",
                      "Source": "/a",
                      "Target": "/b",
                      "ReadOnly": true
                    }
                  ],
                  "Ulimits": [
                    {
                      "Name": "nofile",
                      "Hard": 20,
                      "Soft": 10
                    }
                  ]
                },
                "Resources": {
                  "Limits": {
                    "NanoCPUs": 500000000,
                    "MemoryBytes": 67108864
                  },
                  "SwapBytes": -1,
                  "MemorySwappiness": 10,
                  "Reservations": {
                    "MemoryBytes": 33554432
                  }
                },
                "RestartPolicy": {
                  "Condition": "on-failure",
                  "Delay": 2000000000
                },
                "Placement": {
                  "Constraints": [
                    "node.role==worker"
                  ],
                  "Preferences": [
                    {
                      "Spread": {
                        "SpreadDescriptor": "node.labels.zone"
                      }
                    }
                  ]
                }
              },
              "Mode": {
                "Replicated": {
                  "Replicas": 3
                }
              },
              "Disconnect": {
                "LostAfter": 120000000000
              },
              "UpdateConfig": {
                "Delay": 60000000000,
                "Parallelism": 1
              },
              "Labels": {
                "x": "y"
              },
              "EndpointSpec": {
                "Ports": [
                  {
                    "Protocol": "tcp",
                    "TargetPort": 80,
                    "PublishedPort": 8080,
                    "PublishMode": "host"
                  }
                ]
              }
            }"#]],
    );
}

#[test]
fn mistakes_say_what_and_how() {
    check_create(
        "create --mode global --replicas 2 a",
        expect!["error: replicas can only be used with replicated or replicated-job mode"],
    );
    check_create(
        "create --mode many a",
        expect!["error: unknown mode: many, only replicated, global, replicated-job and global-job supported"],
    );
    check_create("create -p 80:x a", expect![[r#"error: invalid publish option "80:x": "x" is no port (1 to 65535)"#]]);
    check_create(
        "create -p 1-3:4-5 a",
        expect![[
            r#"error: invalid publish option "1-3:4-5": the ranges of published and target ports differ in length"#
        ]],
    );
    check_create(
        "create --mount type=bind,dst=/x a",
        expect![[r#"error: invalid mount "type=bind,dst=/x": a bind mount needs source=PATH"#]],
    );
    check_create("create --host x a", expect![[r#"error: "x" is not HOST:IP"#]]);
    check_create(
        "create --env-file /does/not/exist a",
        expect!["error: read --env-file /does/not/exist: No such file or directory (os error 2)"],
    );
    check_create(
        "create --no-healthcheck --health-cmd x a",
        expect!["error: --no-healthcheck conflicts with --health-* options"],
    );
}

#[test]
fn updates_change_only_what_they_name() {
    let spec = || {
        json!({
            "Name": "web",
            "TaskTemplate": { "ContainerSpec": { "Image": "a:1", "Env": ["A=1", "B=2"] }, "ForceUpdate": 1 },
            "Mode": { "Replicated": { "Replicas": 2 } },
            "EndpointSpec": { "Mode": "vip", "Ports": [{ "Protocol": "tcp", "TargetPort": 80, "PublishedPort": 8080, "PublishMode": "host" }] },
        })
    };
    check_update(
        spec(),
        "update --image a:2 --env-add C=3 --env-rm A --env-add B=4 web",
        expect![[
            r#"{"Name":"web","TaskTemplate":{"ContainerSpec":{"Image":"a:2","Env":["C=3","B=4"]},"ForceUpdate":1},"Mode":{"Replicated":{"Replicas":2}},"EndpointSpec":{"Mode":"vip","Ports":[{"Protocol":"tcp","TargetPort":80,"PublishedPort":8080,"PublishMode":"host"}]}}"#
        ]],
    );
    check_update(
        spec(),
        "update --force --publish-rm 80 --replicas 5 --args 'sleep 1' web",
        expect![[
            r#"{"Name":"web","TaskTemplate":{"ContainerSpec":{"Image":"a:1","Env":["A=1","B=2"],"Args":["sleep","1"]},"ForceUpdate":2},"Mode":{"Replicated":{"Replicas":5}},"EndpointSpec":{"Mode":"vip","Ports":[]}}"#
        ]],
    );
}

#[test]
fn the_command_line_is_well_formed() {
    <Root as clap::CommandFactory>::command().debug_assert();
    for line in [
        "rswarm swarm init --advertise-addr 10.0.0.1",
        "rswarm join --token SWMTKN-1-a-b 10.0.0.1:2377",
        "rswarm join-token -q worker",
        "rswarm -H unix:///x node ls -q --filter role=manager",
        "rswarm service ps web --no-trunc --format {{.ID}}",
        "rswarm service logs -f --tail 5 web",
        "rswarm service scale a=1 b=2",
        "rswarm image import --change CMD=1 - x:1",
        "rswarm rmi -f a b",
        "rswarm completion zsh",
        "rswarm --tlsverify -H tcp://192.0.2.1:2376 volume create --name data",
        "rswarm pull -a --platform linux/arm64 app",
        "rswarm exec --env-file env web true",
        "rswarm attach --sig-proxy=false --no-stdin web",
    ] {
        Root::try_parse_from(line.split(' ')).unwrap_or_else(|error| panic!("{line}: {error}"));
    }
    for (line, part) in [
        ("rswarm network connect --alias a,b --driver-opt c=d,e n c", r#"alias: ["a", "b"]"#),
        ("rswarm stack config -c a.yaml,b.yaml -c c.yaml", r#"compose_file: ["a.yaml", "b.yaml", "c.yaml"]"#),
    ] {
        let shown = format!("{:?}", Root::try_parse_from(line.split(' ')).expect(line).command);
        assert!(shown.contains(part), "{shown}");
    }
    for flag in ["-v", "-V", "--version"] {
        let shown = Root::try_parse_from(["rswarm", flag]).expect_err(flag);
        assert_eq!(shown.kind(), clap::error::ErrorKind::DisplayVersion, "{flag}");
    }
    assert!(Root::try_parse_from(["rswarm", "volume", "create", "--name", "a", "b"]).is_err());
    assert!(Root::try_parse_from(["rswarm", "node", "ls", "--filter", "role"]).is_err());
    assert!(Root::try_parse_from(["rswarm", "service", "create", "--limit-cpu", "many", "a"]).is_err());
}

/// E-13, E-23, E-26: what docker's command line takes beside that: values of switches, and flags that come twice.
#[test]
fn e_23_switches_have_values_and_flags_come_twice() {
    let read = |line: &str| Root::read(&line.split(' ').map(std::ffi::OsString::from).collect::<Vec<_>>());
    let shown = |line: &str| format!("{:?}", read(line).unwrap_or_else(|error| panic!("{line}: {error}")).command);
    let ps = shown("rswarm ps -a -a --quiet=false --no-trunc=1 -s=T --format json --format {{.ID}}");
    for part in ["all: true", "quiet: false", "no_trunc: true", "size: true", r#"format: "{{.ID}}""#, "latest: false"] {
        assert!(ps.contains(part), "{part} in {ps}");
    }
    let rm = shown("rswarm rm -fv --link=false a --force=true -- --b");
    for part in ["force: true", "volumes: true", "link: false", r#"["a", "--b"]"#] {
        assert!(rm.contains(part), "{part} in {rm}");
    }
    for (line, part) in [
        ("rswarm rm --force=perhaps a", r#""perhaps" is neither true nor false"#),
        ("rswarm ps --all=true --colour", "unexpected argument '--colour'"),
        ("rswarm node inspect --pretty --format x n", "'--pretty'"),
    ] {
        let said = read(line).expect_err(line).to_string();
        assert!(said.contains(part), "{line}: {said}");
    }
}

#[expect(clippy::needless_pass_by_value, reason = "`expect!` at the call, without ampersands")]
fn check_network(line: &str, expected: Expect) {
    let words = super::scalars::split_words(line).expect("words");
    let root = Root::try_parse_from(["rswarm".to_owned(), "network".to_owned()].into_iter().chain(words));
    let Command::Network(NetworkCommand::Create(arguments)) = root.unwrap_or_else(|error| panic!("{error}")).command
    else {
        panic!("no network create")
    };
    expected.assert_eq(&match request(&arguments) {
        Ok(body) => body.to_string(),
        Err(error) => format!("error: {error:#}"),
    });
}

/// N-05, N-06: the flags of `network create`.
#[test]
fn networks() {
    check_network(
        "create back",
        expect![[
            r#"{"Name":"back","Driver":"overlay","Scope":"","Internal":false,"Attachable":false,"Ingress":false,"EnableIPv6":false,"ConfigOnly":false,"IPAM":{"Driver":"default","Config":[]},"Options":{},"Labels":{}}"#
        ]],
    );
    check_network(
        "create --subnet 10.7.0.0/16 --subnet fd00:7::/64 --gateway 10.7.0.9 --ip-range 10.7.128.0/17 --aux-address p=10.7.0.8 \
         --attachable --internal --ipv6 -o encrypted --opt mtu=1400 --label a=b --config-from c --scope swarm back",
        expect![[
            r#"{"Name":"back","Driver":"overlay","Scope":"swarm","Internal":true,"Attachable":true,"Ingress":false,"EnableIPv6":true,"ConfigOnly":false,"IPAM":{"Driver":"default","Config":[{"Subnet":"10.7.0.0/16","IPRange":"10.7.128.0/17","Gateway":"10.7.0.9","AuxiliaryAddresses":{"p":"10.7.0.8"}},{"Subnet":"fd00:7::/64"}]},"Options":{"encrypted":"","mtu":"1400"},"Labels":{"a":"b"},"ConfigFrom":{"Network":"c"}}"#
        ]],
    );
    check_network(
        "create --ipam-driver other --ipam-opt a=b back",
        expect![[
            r#"{"Name":"back","Driver":"overlay","Scope":"","Internal":false,"Attachable":false,"Ingress":false,"EnableIPv6":false,"ConfigOnly":false,"IPAM":{"Driver":"other","Config":[],"Options":{"a":"b"}},"Options":{},"Labels":{}}"#
        ]],
    );
    check_network(
        "create --gateway 10.7.0.9 back",
        expect!["error: --gateway 10.7.0.9 lies in none of the subnets: give the one it is of"],
    );
    check_network(
        "create --subnet 10.7.0.0 back",
        expect![[r#"error: --subnet "10.7.0.0" is not a subnet such as 10.7.0.0/16"#]],
    );
    check_network(
        "create --subnet 10.7.0.0/16 --gateway 10.7.0.1 --gateway 10.7.0.2 back",
        expect!["error: 10.7.0.1 and 10.7.0.2 are both in subnet 10.7.0.0/16: give one of them"],
    );
}

/// S-71, S-75.
#[test]
fn services_join_and_leave_networks() {
    let networks = |line: &str| match created(line) {
        Ok(spec) => format!("{} {}", spec["TaskTemplate"]["Networks"], spec["EndpointSpec"]),
        Err(error) => format!("error: {error:#}"),
    };
    assert_eq!(
        networks("create --network back --network name=front,alias=a,alias=b,driver-opt=k=v --endpoint-mode dnsrr x"),
        r#"[{"Target":"id-of-back"},{"Target":"id-of-front","Aliases":["a","b"],"DriverOpts":{"k":"v"}}] {"Mode":"dnsrr"}"#
    );
    assert_eq!(
        networks("create --network name=back,ip=10.0.0.1 x"),
        r#"error: invalid network option "name=back,ip=10.0.0.1": unexpected key "ip"; known are name, alias and driver-opt"#
    );
    let spec = || json!({ "TaskTemplate": { "Networks": [{ "Target": "id-of-back", "Aliases": ["x"] }] } });
    check_update(
        spec(),
        "update --network-rm back --network-add front web",
        expect![[r#"{"TaskTemplate":{"Networks":[{"Target":"id-of-front"}]}}"#]],
    );
    check_update(
        spec(),
        "update --network-add back web",
        expect!["error: service is already attached to network back"],
    );
}

/// C-05, C-06.
#[test]
fn init_sets_pools_and_port() {
    let line = "rswarm init --default-addr-pool 10.20.0.0/16,10.30.0.0/16 --default-addr-pool-mask-length 26 --data-path-port 7777";
    let Command::Init(arguments) = Root::try_parse_from(line.split(' ')).expect("init").command else { panic!("init") };
    let body = crate::commands::swarm::init_request(&arguments);
    assert_eq!(body["DefaultAddrPool"], json!(["10.20.0.0/16", "10.30.0.0/16"]));
    assert_eq!((&body["SubnetSize"], &body["DataPathPort"]), (&json!(26), &json!(7777)));
}
