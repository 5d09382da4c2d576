//! Published ports in Docker's JSON, and what is ours beside it (parity S-72, S-73; P32, P43).

use std::sync::Arc;

use serde_json::{Value, json};
use types::PortConfig;

use super::*;

fn ports(ports: Value) -> Value {
    with("/EndpointSpec/Ports", ports)
}

#[test]
fn s_72_ports_come_back_as_they_went_in() {
    let own = json!({ "Mode": "vip", "Ports": [
        { "Protocol": "tcp", "TargetPort": 80, "PublishedPort": 8080, "PublishMode": "ingress" },
        { "Protocol": "udp", "TargetPort": 53, "PublishMode": "ingress", "HostIP": "192.0.2.1" },
        { "Name": "https", "Protocol": "tcp", "TargetPort": 443, "PublishedPort": 443, "PublishMode": "host", "HostIP": "::1" },
        { "Protocol": "sctp", "TargetPort": 7, "PublishedPort": 7, "PublishMode": "ingress", "Interface": "eth0" },
        { "Protocol": "tcp", "TargetPort": 25, "PublishedPort": 25, "PublishMode": "ingress", "ProxyProtocol": true },
    ], "Mesh": { "Policy": "local-first", "Affinity": "source" } });
    let spec = read(&with("/EndpointSpec", own.clone()), Given::default()).expect("all of it is known");
    assert_eq!(write_spec(&spec)["EndpointSpec"], own);
    let short = read(&ports(json!([{ "TargetPort": 80 }])), Given::default()).expect("Docker's defaults");
    assert_eq!(
        write_spec(&short)["EndpointSpec"],
        json!({ "Mode": "vip", "Ports": [{ "Protocol": "tcp", "TargetPort": 80, "PublishMode": "ingress" }] })
    );
}

#[test]
fn s_72_mistakes_in_ports_are_named() {
    let port = |field: &str, value: Value| {
        let mut port = json!({ "TargetPort": 80, "PublishedPort": 8080 });
        port[field] = value;
        ports(json!([port]))
    };
    let both = json!([{ "TargetPort": 80, "HostIP": "192.0.2.1", "Interface": "eth0" }]);
    let all = [
        ports(json!([{ "PublishedPort": 8080 }])),
        port("TargetPort", json!(70_000)),
        port("PublishedPort", json!(-1)),
        port("PublishMode", json!("mesh")),
        port("Protocol", json!("icmp")),
        port("HostIP", json!("localhost")),
        port("ProxyProtocol", json!("yes")),
        ports(both),
        with("/EndpointSpec/Mesh", json!({ "Policy": "fastest" })),
        with("/EndpointSpec/Mesh", json!({ "Affinity": "cookie" })),
    ];
    let said = all.map(|body| read(&body, Given::default()).expect_err("refused").to_string());
    expect![[r#"
        EndpointSpec.Ports[0].TargetPort is missing: give the port the container listens on
        EndpointSpec.Ports[0].TargetPort: 70000 is not a port (1 to 65535)
        EndpointSpec.Ports[0].PublishedPort must be a whole number, 0 or more, not -1
        EndpointSpec.Ports[0].PublishMode: "mesh" is no publish mode; use ingress or host
        EndpointSpec.Ports[0].Protocol: "icmp" is no protocol; use tcp, udp or sctp
        EndpointSpec.Ports[0].HostIP: "localhost" is not an IP address of a host
        EndpointSpec.Ports[0].ProxyProtocol must be true or false, not "yes"
        EndpointSpec.Ports[0].Interface: a port is published at an address or at an interface, not at both
        EndpointSpec.Mesh.Policy: "fastest" is no mesh policy; use cluster, local-first or local-only
        EndpointSpec.Mesh.Affinity: "cookie" is no mesh affinity; use none or source"#]]
    .assert_eq(&said.join("\n"));
}

/// P32, P43: a client that knows only Docker's fields, and sends back what it read of a service, opens no port to the
/// world that was bound to one address, and does not turn the mesh's policy back.
#[test]
fn p_32_an_update_by_docker_keeps_what_it_does_not_know() {
    let full = json!({ "Mode": "vip", "Ports": [
        { "Protocol": "tcp", "TargetPort": 80, "PublishedPort": 8080, "PublishMode": "ingress", "HostIP": "192.0.2.1" },
        { "Protocol": "tcp", "TargetPort": 80, "PublishedPort": 8080, "PublishMode": "ingress", "HostIP": "192.0.2.2" },
        { "Protocol": "tcp", "TargetPort": 25, "PublishMode": "ingress", "ProxyProtocol": true },
        { "Protocol": "tcp", "TargetPort": 22, "PublishedPort": 22, "PublishMode": "host", "Interface": "eth0" },
    ], "Mesh": { "Policy": "local-only", "Affinity": "none" } });
    let before = read(&with("/EndpointSpec", full.clone()), Given::default()).expect("known");
    let mut plain = full.clone();
    plain.as_object_mut().expect("object").shift_remove("Mesh");
    for port in plain["Ports"].as_array_mut().expect("list") {
        for field in ["HostIP", "Interface", "ProxyProtocol"] {
            port.as_object_mut().expect("object").shift_remove(field);
        }
    }
    let update = |endpoint: &Value| {
        let given = Given { name: None, previous: Some(&before) };
        read(&with("/EndpointSpec", endpoint.clone()), given).expect("update").endpoint
    };
    assert_eq!(update(&plain), before.endpoint);
    // whoever says it is believed, and a port that is published elsewhere is another port
    let mut said = plain.clone();
    said["Ports"][0]["HostIP"] = json!("");
    said["Ports"][2]["ProxyProtocol"] = json!(false);
    said["Ports"][3]["PublishedPort"] = json!(2222);
    said["Mesh"] = json!({ "Policy": "cluster" });
    let shown = update(&said);
    assert_eq!(shown.mesh, types::MeshSpec::default());
    let binds: Vec<_> = shown.ports.iter().map(|port| (&port.bind, port.proxy_protocol)).collect();
    let second = types::PortBind::Address([192, 0, 2, 2].into());
    assert_eq!(
        binds,
        [
            (&types::PortBind::All, false),
            (&second, false),
            (&types::PortBind::All, false),
            (&types::PortBind::All, false)
        ]
    );
}

/// S-72, P43: the endpoint shows the numbers that were given and the mesh that labels ask for; the spec what was asked.
#[test]
fn s_72_the_endpoint_shows_what_the_spec_came_to() {
    let mut body = ports(json!([{ "TargetPort": 80 }, { "TargetPort": 22, "PublishMode": "host" }]));
    body["Labels"] = json!({ "rswarm.mesh.policy": "local-first" });
    let mut view = service();
    view.service.spec = Arc::new(read(&body, Given::default()).expect("known"));
    view.service.published =
        Arc::new(vec![PortConfig { published: Some(30_000), ..view.service.spec.endpoint.ports[0].clone() }]);
    let written = write(&view, false, &Networks::new());
    assert_eq!(
        written["Endpoint"],
        json!({
            "Spec": { "Mode": "vip", "Ports": [
                { "Protocol": "tcp", "TargetPort": 80, "PublishMode": "ingress" },
                { "Protocol": "tcp", "TargetPort": 22, "PublishMode": "host" },
            ] },
            "Ports": [
                { "Protocol": "tcp", "TargetPort": 80, "PublishedPort": 30000, "PublishMode": "ingress" },
                { "Protocol": "tcp", "TargetPort": 22, "PublishMode": "host" },
            ],
            "Mesh": { "Policy": "local-first", "Affinity": "none" },
        })
    );
    assert_eq!(written["Spec"]["EndpointSpec"].get("Mesh"), None);
}
