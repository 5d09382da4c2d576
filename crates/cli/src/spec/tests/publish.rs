//! S-72 to S-74, P32: `--publish` and its kin.

use super::*;

fn ports(options: &str) -> String {
    match created(&format!("create {options} a")) {
        Ok(spec) => spec["EndpointSpec"]["Ports"].as_array().expect("ports").iter().map(|p| format!("{p}\n")).collect(),
        Err(error) => format!("error: {error:#}\n"),
    }
}

#[test]
fn s_74_all_forms_of_publish() {
    let options = [
        "-p 80",
        "-p 8080:80",
        "-p 8080:80/udp",
        "-p 127.0.0.1:8080:80",
        "-p 127.0.0.1::80/TCP",
        "-p [::1]:8080:80",
        "-p 8000-8002:9000-9002",
        "-p published=8080,target=80,protocol=sctp,mode=host",
        "-p target=80,published=8080,host_ip=::1,proxy_protocol=v2",
        "-p published=8000-8001,target=80-81,interface=eth0",
        "-p 80:80 -p 81:80",
    ];
    let all: Vec<String> = options.into_iter().map(ports).collect();
    expect![[r#"
        {"Protocol":"tcp","TargetPort":80,"PublishMode":"ingress"}
        {"Protocol":"tcp","TargetPort":80,"PublishedPort":8080,"PublishMode":"ingress"}
        {"Protocol":"udp","TargetPort":80,"PublishedPort":8080,"PublishMode":"ingress"}
        {"Protocol":"tcp","TargetPort":80,"PublishedPort":8080,"PublishMode":"ingress","HostIP":"127.0.0.1"}
        {"Protocol":"tcp","TargetPort":80,"PublishMode":"ingress","HostIP":"127.0.0.1"}
        {"Protocol":"tcp","TargetPort":80,"PublishedPort":8080,"PublishMode":"ingress","HostIP":"::1"}
        {"Protocol":"tcp","TargetPort":9000,"PublishedPort":8000,"PublishMode":"ingress"}
        {"Protocol":"tcp","TargetPort":9001,"PublishedPort":8001,"PublishMode":"ingress"}
        {"Protocol":"tcp","TargetPort":9002,"PublishedPort":8002,"PublishMode":"ingress"}
        {"Protocol":"sctp","TargetPort":80,"PublishedPort":8080,"PublishMode":"host"}
        {"Protocol":"tcp","TargetPort":80,"PublishedPort":8080,"PublishMode":"ingress","HostIP":"::1","ProxyProtocol":true}
        {"Protocol":"tcp","TargetPort":80,"PublishedPort":8000,"PublishMode":"ingress","Interface":"eth0"}
        {"Protocol":"tcp","TargetPort":81,"PublishedPort":8001,"PublishMode":"ingress","Interface":"eth0"}
        {"Protocol":"tcp","TargetPort":80,"PublishedPort":80,"PublishMode":"ingress"}
        {"Protocol":"tcp","TargetPort":80,"PublishedPort":81,"PublishMode":"ingress"}
    "#]].assert_eq(&all.concat());
}

#[test]
fn s_74_mistakes_in_publish_say_what_and_how() {
    let options = [
        "-p 0:80",
        "-p 80:0",
        "-p 70000:80",
        "-p 90-80:90-80",
        "-p 80:80/icmp",
        "-p localhost:80:80",
        "-p ::1:8080:80",
        "-p 80-81:80-82",
        "-p published=80",
        "-p target=80,mode=mesh",
        "-p target=80,host_ip=any",
        "-p target=80,proxy_protocol=v1",
        "-p target=80,colour=red",
    ];
    let all: Vec<String> = options.into_iter().map(ports).collect();
    expect![[r#"
        error: invalid publish option "0:80": "0" is no port (1 to 65535)
        error: invalid publish option "80:0": "0" is no port (1 to 65535)
        error: invalid publish option "70000:80": "70000" is no port (1 to 65535)
        error: invalid publish option "90-80:90-80": the range 90-80 runs backwards
        error: invalid publish option "80:80/icmp": "icmp" is no protocol; use tcp, udp or sctp
        error: invalid publish option "localhost:80:80": "localhost" is not an IP address of a host: invalid IP address syntax
        error: invalid publish option "::1:8080:80": write an IPv6 address in brackets: [ADDRESS]:PUBLISHED:TARGET
        error: invalid publish option "80-81:80-82": the ranges of published and target ports differ in length
        error: invalid publish option "published=80": target is missing: write target=PORT, the container's
        error: invalid publish option "target=80,mode=mesh": "mesh" is no mode; use ingress or host
        error: invalid publish option "target=80,host_ip=any": "any" is not an IP address of a host: invalid IP address syntax
        error: invalid publish option "target=80,proxy_protocol=v1": proxy_protocol is v2 or true, or false, not "v1"; version 1 is not written
        error: invalid publish option "target=80,colour=red": unexpected key "colour"; known are published, target, protocol, mode, host_ip, interface and proxy_protocol
    "#]].assert_eq(&all.concat());
}

#[test]
fn s_74_ports_are_added_replaced_and_removed() {
    let changed = |line: &str| {
        let mut spec = json!({ "EndpointSpec": { "Ports": [
            { "Protocol": "tcp", "TargetPort": 80, "PublishedPort": 8080, "PublishMode": "ingress", "HostIP": "192.0.2.1" },
            { "Protocol": "udp", "TargetPort": 80, "PublishedPort": 8080, "PublishMode": "ingress" },
            { "Protocol": "tcp", "TargetPort": 80, "PublishedPort": 8081, "PublishMode": "ingress" },
        ] } });
        let ServiceCommand::Update(arguments) = parse(&format!("update {line} web")) else { panic!("no update") };
        change_spec(&mut spec, &arguments, &ids()).expect("good options");
        let endpoint = &spec["EndpointSpec"];
        let ports = endpoint["Ports"].as_array().expect("ports").iter().map(|port| {
            let address = port["HostIP"].as_str().map(|text| format!(" at {text:?}")).unwrap_or_default();
            format!(" {}->{}/{}{address}", port["PublishedPort"], port["TargetPort"], port["Protocol"])
        });
        let mesh = endpoint.get("Mesh").map(|mesh| format!(" {mesh}")).unwrap_or_default();
        format!("{line}:{}{mesh}\n", ports.collect::<String>().replace("/\"", "/").replace("p\"", "p"))
    };
    let lines = [
        "--publish-rm 80",
        "--publish-rm 80/udp",
        "--publish-rm 8081:80",
        "--publish-rm 9999:80 --publish-rm 7",
        "--publish-add 8082:80",
        "--publish-add 8080:80",
        "--publish-add 192.0.2.2:8080:80",
        "--publish-rm 80 --publish-add 8080:80",
        "--mesh-policy local-first --mesh-affinity source",
    ];
    expect![[r#"
        --publish-rm 80: 8080->80/udp
        --publish-rm 80/udp: 8080->80/tcp at "192.0.2.1" 8081->80/tcp
        --publish-rm 8081:80: 8080->80/tcp at "192.0.2.1" 8080->80/udp
        --publish-rm 9999:80 --publish-rm 7: 8080->80/tcp at "192.0.2.1" 8080->80/udp 8081->80/tcp
        --publish-add 8082:80: 8080->80/tcp at "192.0.2.1" 8080->80/udp 8081->80/tcp 8082->80/tcp
        --publish-add 8080:80: 8080->80/udp 8081->80/tcp 8080->80/tcp at ""
        --publish-add 192.0.2.2:8080:80: 8080->80/tcp at "192.0.2.1" 8080->80/udp 8081->80/tcp 8080->80/tcp at "192.0.2.2"
        --publish-rm 80 --publish-add 8080:80: 8080->80/udp 8080->80/tcp at ""
        --mesh-policy local-first --mesh-affinity source: 8080->80/tcp at "192.0.2.1" 8080->80/udp 8081->80/tcp {"Policy":"local-first","Affinity":"source"}
    "#]].assert_eq(&lines.map(changed).concat());
}

/// P53: ten thousand ports are one option.
#[test]
fn p_53_ten_thousand_ports_in_one_option() {
    let mut spec = created("create -p 10000-19999:10000-19999/udp a").expect("a range");
    assert_eq!(spec["EndpointSpec"]["Ports"].as_array().map(Vec::len), Some(10_000));
    let ServiceCommand::Update(arguments) = parse("update --publish-add 10000-19999:10000-19999/udp web") else {
        panic!("no update")
    };
    change_spec(&mut spec, &arguments, &ids()).expect("the same ports once more");
    assert_eq!(spec["EndpointSpec"]["Ports"].as_array().map(Vec::len), Some(10_000));
}
