//! Networks in, networks out, and what services and tasks say of them.

use std::sync::Arc;

use expect_test::{Expect, expect};
use node::engine::LocalNetworkView;
use serde_json::{Value, json};
use types::{Attachment, Labels, Network, NetworkId, NetworkView, SubnetUsage, Version, VirtualIp};

use super::{check_schema, models, service, task_of};
use crate::convert::{
    network::{Wanted, read},
    network_inspected::{write_inspected, write_verbose},
    network_view::{Networks, write, write_local},
    service::write as write_service,
    task,
};

fn refused(body: Value, expected: Expect) {
    match read(&body) {
        Ok(spec) => panic!("must be refused: {spec:?}"),
        Err(error) => expected.assert_eq(&error.to_string()),
    }
}

fn full() -> Value {
    json!({
        "Name": "back", "CheckDuplicate": true, "Driver": "overlay", "Scope": "swarm", "Internal": true,
        "Attachable": true, "Ingress": false, "EnableIPv4": true, "EnableIPv6": true,
        "IPAM": { "Driver": "default", "Options": {}, "Config": [
            { "Subnet": "10.0.1.0/24", "IPRange": "10.0.1.128/25", "Gateway": "10.0.1.9",
              "AuxiliaryAddresses": { "printer": "10.0.1.7" } },
            { "Subnet": "fd00:1::/64" },
        ] },
        "Options": { "encrypted": "", "com.docker.network.driver.mtu": "1400",
                     "com.docker.network.driver.overlay.vxlanid_list": "5000" },
        "Labels": { "tier": "back" }, "ConfigOnly": false, "ConfigFrom": { "Network": "" },
    })
}

fn network() -> Network {
    let Wanted::Cluster(spec) = read(&full()).expect("all of it is supported") else { panic!("of the cluster") };
    let subnet = |at: usize, gateway: &str| types::Subnet {
        range: spec.subnets[at].subnet,
        gateway: gateway.parse().expect("address"),
        ip_range: spec.subnets[at].ip_range,
        reserved: Vec::new(),
    };
    let subnets = vec![subnet(0, "10.0.1.9"), subnet(1, "fd00:1::1")];
    Network {
        id: NetworkId::from_random(7),
        meta: types::Meta { version: Version(3), ..types::Meta::default() },
        spec: std::sync::Arc::new(*spec),
        vni: 5000,
        subnets,
    }
}

/// N-05, N-06.
#[test]
fn a_full_request_is_understood_and_shown_again() {
    let network = network();
    let spec = &network.spec;
    assert!(spec.encrypted && spec.attachable && spec.internal && spec.ipv6 && !spec.ingress);
    assert_eq!(spec.mtu, Some(1400));
    let shown = write(&network).done();
    check_schema::<models::Network>(&shown, &[]);
    for field in ["Name", "Driver", "Scope", "Internal", "Attachable", "EnableIPv6", "Options", "Labels"] {
        assert_eq!(shown[field], full()[field], "{field}");
    }
    expect![[r#"[{"Subnet":"10.0.1.0/24","IPRange":"10.0.1.128/25","Gateway":"10.0.1.9","AuxiliaryAddresses":{"printer":"10.0.1.7"}},{"Subnet":"fd00:1::/64","Gateway":"fd00:1::1"}]"#]]
        .assert_eq(&shown["IPAM"]["Config"].to_string());
    // What is shown can be asked for again.
    let mut again = shown;
    let fields = again.as_object_mut().expect("object");
    for answered in ["Id", "Created", "Containers"] {
        fields.shift_remove(answered);
    }
    let Ok(Wanted::Cluster(again)) = read(&again) else { panic!("of the cluster") };
    assert_eq!((&again.options, again.encrypted, &again.labels), (&spec.options, true, &spec.labels));
}

#[test]
fn where_a_network_goes() {
    let kind = |body: Value| match read(&body).expect("understood") {
        Wanted::Cluster(spec) => format!("cluster {:?}", spec.driver),
        Wanted::HostOnly(spec) => format!("host {:?}", spec.driver),
        Wanted::Predefined(name) => format!("predefined {name}"),
    };
    assert_eq!(kind(json!({ "Name": "a" })), "host Bridge");
    assert_eq!(kind(json!({ "Name": "a", "Driver": "overlay" })), "cluster Overlay");
    assert_eq!(
        kind(json!({ "Name": "a", "Driver": "macvlan", "Scope": "swarm", "ConfigFrom": { "Network": "c" } })),
        "cluster Macvlan"
    );
    let config =
        |scope: &str| json!({ "Name": "a", "Scope": scope, "ConfigOnly": true, "Options": { "parent": "eth0" } });
    assert_eq!((kind(config("")), kind(config("local"))), ("host Null".to_owned(), "host Null".to_owned()));
    assert_eq!(kind(config("swarm")), "cluster Null");
    assert_eq!(kind(json!({ "Name": "default" })), "predefined default");
}

/// E-31: which families a network of one host has, by the fields or by the options of the same meaning.
#[test]
fn e31_a_network_of_one_host_may_have_ipv6_alone() {
    let families = |body: Value| match read(&body).expect("understood") {
        Wanted::HostOnly(spec) => (spec.ipv4, spec.ipv6),
        other => panic!("{other:?}"),
    };
    assert_eq!(families(json!({ "Name": "a" })), (true, false));
    assert_eq!(families(json!({ "Name": "a", "EnableIPv4": false, "EnableIPv6": true })), (false, true));
    let options = json!({ "com.docker.network.enable_ipv4": "0", "com.docker.network.enable_ipv6": "1" });
    assert_eq!(families(json!({ "Name": "a", "Options": options })), (false, true));
}

/// E-31: subnets of a network of one host are shown as they were given, without a gateway that nobody named: what
/// compares them with what it asked for would make the network anew. What was chosen comes after that, whole.
#[test]
fn e31_subnets_of_one_host_are_shown_as_they_were_given() {
    let shown = |ipam: Value, made: &[(&str, &str)]| {
        let body = json!({ "Name": "a", "EnableIPv6": true, "IPAM": ipam });
        let Wanted::HostOnly(spec) = read(&body).expect("understood") else { panic!("of this host") };
        let subnet = |(range, gateway): &(&str, &str)| types::Subnet {
            range: range.parse().expect("range"),
            gateway: gateway.parse().expect("address"),
            ip_range: None,
            reserved: Vec::new(),
        };
        let network = Network {
            id: NetworkId::from_random(7),
            meta: types::Meta::default(),
            spec: Arc::new(*spec),
            vni: 0,
            subnets: made.iter().map(subnet).collect(),
        };
        let view = LocalNetworkView {
            network: Some(Arc::new(network)),
            subnet: None,
            gateway: None,
            gateway6: None,
            bridge_options: Labels::new(),
            endpoints: Vec::new(),
        };
        write_local(&view).expect("a network").done()["IPAM"].to_string()
    };
    let made = [("10.8.0.0/24", "10.8.0.1"), ("fd00:8::/64", "fd00:8::1")];
    let given = json!({ "Options": {}, "Config": [{ "Subnet": "fd00:8::/64" }] });
    expect![[
        r#"{"Driver":"default","Options":{},"Config":[{"Subnet":"fd00:8::/64"},{"Subnet":"10.8.0.0/24","Gateway":"10.8.0.1"}]}"#
    ]]
    .assert_eq(&shown(given, &made));
    let given = json!({ "Options": { "a": "b" }, "Config": [
        { "Subnet": "10.8.0.0/24", "Gateway": "10.8.0.1", "AuxiliaryAddresses": { "printer": "10.8.0.7" } },
        { "Subnet": "fd00:8::/64", "IPRange": "fd00:8::/80" },
    ] });
    expect![[
        r#"{"Driver":"default","Options":{"a":"b"},"Config":[{"Subnet":"10.8.0.0/24","Gateway":"10.8.0.1","AuxiliaryAddresses":{"printer":"10.8.0.7"}},{"Subnet":"fd00:8::/64","IPRange":"fd00:8::/80"}]}"#
    ]]
    .assert_eq(&shown(given, &made));
    expect![[
        r#"{"Driver":"default","Options":null,"Config":[{"Subnet":"10.8.0.0/24","Gateway":"10.8.0.1"},{"Subnet":"fd00:8::/64","Gateway":"fd00:8::1"}]}"#
    ]]
    .assert_eq(&shown(Value::Null, &made));
}

#[test]
fn mistakes_are_named() {
    let overlay = |field: &str, value: Value| {
        let mut body = json!({ "Name": "a", "Driver": "overlay" });
        body[field] = value;
        body
    };
    let config = |value: Value| overlay("IPAM", json!({ "Config": [value] }));
    refused(json!({ "Driver": "overlay" }), expect!["Name is missing: give the name of the network"]);
    refused(
        overlay("EnableIPv4", json!(false)),
        expect!["EnableIPv4: IPv4 cannot be disabled in a Swarm scoped network; leave it out, or say true"],
    );
    refused(
        overlay("Driver", json!("wave")),
        expect![[r#"Driver: plugin "wave" not found: use overlay, bridge, macvlan or ipvlan"#]],
    );
    refused(
        overlay("Scope", json!("local")),
        expect!["Scope: an overlay network spans the cluster; leave it out, or say swarm"],
    );
    refused(
        config(json!({ "Subnet": "10.0.1.5/24" })),
        expect!["IPAM.Config[0].Subnet: 10.0.1.5/24 is an address in a subnet; write the subnet, 10.0.1.0/24"],
    );
    refused(
        config(json!({ "Gateway": "10.0.1.1" })),
        expect![
            "IPAM.Config[0].Subnet is missing: a gateway, a range or auxiliary addresses need the subnet they are of"
        ],
    );
    refused(
        config(json!({ "Subnet": "10.0.1.0/24", "Gateway": "x" })),
        expect![[r#"IPAM.Config[0].Gateway: "x" is not an IP address"#]],
    );
    refused(
        overlay("IPAM", json!({ "Driver": "dhcp" })),
        expect![[r#"IPAM.Driver: plugin "dhcp" not found: rswarm's own is called default"#]],
    );
    refused(
        overlay("Options", json!({ "mtu": "9" })),
        expect![[r#"Options.mtu: "9" is no MTU in bytes (68 to 65535)"#]],
    );
    refused(
        overlay("Options", json!({ "com.docker.network.driver.overlay.vxlanid_list": "16777216" })),
        expect![[
            r#"Options.com.docker.network.driver.overlay.vxlanid_list: "16777216" is no VXLAN network identifier (1 to 16777215)"#
        ]],
    );
    refused(
        overlay("Options", json!({ "fast": "yes" })),
        expect![
            "Options.fast: overlay networks know no such option; known are encrypted, mtu, com.docker.network.driver.mtu and com.docker.network.driver.overlay.vxlanid_list"
        ],
    );
}

fn places() -> (Networks, Attachment, VirtualIp) {
    let network = network();
    let id = network.id;
    let place = Attachment {
        network: id,
        addresses: vec![[10, 0, 1, 3].into(), "fd00:1::3".parse().expect("address")],
        aliases: vec!["db".into()],
    };
    let vip = VirtualIp { network: id, addresses: vec![[10, 0, 1, 2].into()] };
    (Networks::from([(id, network)]), place, vip)
}

/// S-70: a service's virtual addresses, with the prefix of their subnet.
#[test]
fn services_show_their_virtual_ips() {
    let (networks, _, vip) = places();
    let mut view = service();
    view.service.virtual_ips = vec![vip];
    let shown = write_service(&view, false, &networks);
    assert_eq!(
        shown["Endpoint"]["VirtualIPs"],
        json!([{ "NetworkID": NetworkId::from_random(7), "Addr": "10.0.1.2/24" }])
    );
    // A network removed meanwhile takes the prefix with it, not the address.
    let shown = write_service(&view, false, &Networks::new());
    assert_eq!(shown["Endpoint"]["VirtualIPs"][0]["Addr"], "10.0.1.2");
}

/// S-75.
#[test]
fn tasks_show_their_places() {
    let (networks, place, _) = places();
    let mut task = task_of(&service());
    task.attachments = vec![place];
    let shown = task::write(&task, &networks);
    let attachments = &shown["NetworksAttachments"];
    assert_eq!(attachments[0]["Addresses"], json!(["10.0.1.3/24", "fd00:1::3/64"]));
    assert_eq!(attachments[0]["Network"]["Spec"]["Name"], "back");
    assert_eq!(attachments[0]["Network"]["DriverState"]["Name"], "overlay");
    assert_eq!(attachments.as_array().map(Vec::len), Some(1));
}

/// A single container on this node (N-12).
fn guest(node: types::NodeId) -> types::ContainerAttachment {
    types::ContainerAttachment {
        meta: types::Meta::default(),
        network: network().id,
        container: "d".repeat(64),
        node,
        name: "shell".to_owned(),
        aliases: Vec::new(),
        addresses: vec![[10, 0, 1, 9].into()],
    }
}

/// N-22 and P09: what is in a network, and how full it is.
#[test]
fn an_inspected_network_shows_its_use() {
    let (_, place, vip) = places();
    let mut service = service().service;
    service.virtual_ips = vec![vip];
    let mut task = task_of(&super::service());
    task.attachments = vec![place];
    task.status.state = types::TaskState::Running;
    let view = NetworkView {
        network: network(),
        usage: vec![SubnetUsage { used: 3, total: 254 }, SubnetUsage { used: 2, total: 1 << 20 }],
        services: vec![service],
        tasks: vec![task.clone()],
        containers: vec![guest(task.node.expect("a placed task"))],
    };
    let nodes = [super::node_view()];
    let shown = write_inspected(&view, task.node, &nodes).done();
    check_schema::<models::NetworkInspect>(&shown, &[]);
    assert_eq!(shown["Status"]["IPAM"]["Subnets"]["10.0.1.0/24"], json!({ "IPsInUse": 3, "DynamicIPsAvailable": 251 }));
    let container = &shown["Containers"]["c".repeat(64)];
    assert_eq!((&container["IPv4Address"], &container["IPv6Address"]), (&json!("10.0.1.3/24"), &json!("fd00:1::3/64")));
    let single = &shown["Containers"]["d".repeat(64)];
    assert_eq!((&single["Name"], &single["IPv4Address"]), (&json!("shell"), &json!("10.0.1.9/24")));
    // as the data plane makes it of the address, and an id for each endpoint
    assert_eq!(
        (&container["MacAddress"], &single["MacAddress"]),
        (&json!("02:42:0a:00:01:03"), &json!("02:42:0a:00:01:09"))
    );
    assert!(
        container["EndpointID"] != single["EndpointID"] && single["EndpointID"] != json!("d".repeat(64)),
        "{shown}"
    );
    expect![[r#"[{"Name":"host1","IP":"10.0.0.1"}]"#]].assert_eq(&shown["Peers"].to_string());
    let elsewhere = write_inspected(&view, None, &[]).done();
    assert_eq!((&elsewhere["Containers"], elsewhere.get("Peers")), (&json!({}), None));
    let shown = write_verbose(&view, None, &nodes).done();
    check_schema::<models::NetworkInspect>(&shown, &[]);
    expect![[r#"[{"Name":"host1","IP":"10.0.0.1"}]"#]].assert_eq(&shown["Peers"].to_string());
    expect![[r#"{"web":{"VIP":"10.0.1.2","Ports":["8080:80/tcp"],"LocalLBIndex":0,"Tasks":[{"Name":"web.2.0000000000000000000000009","EndpointID":"24989d8ed66d48991f4a7beb637364c2ae3079f99445c654ffa2d1e45e019e73","EndpointIP":"10.0.1.3","Info":{"Host IP":"10.0.0.1"}}]}}"#]]
        .assert_eq(&shown["Services"].to_string());
}
