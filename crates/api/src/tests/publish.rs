//! Published ports as clients see them: the docker CLI, unchanged, and plain HTTP (parity S-72 to S-74, N-07).

use expect_test::expect;
use serde_json::{Value, json};

use super::{check, docker, http};
use crate::testing::Fake;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s_72_docker_publishes_ports() {
    let fake = Fake::manager().await;
    let create = ["service", "create", "-d", "--name"];
    let words: Vec<&str> = create.into_iter().chain(["web", "-p", "8080:80", "-p", "53:53/udp", "nginx:1"]).collect();
    let Some((ok, text)) = docker(&fake, &words).await else { return };
    assert!(ok, "{text}");
    docker!(
        fake,
        "service",
        "create",
        "-d",
        "--name",
        "any",
        "-p",
        "80",
        "--label",
        "rswarm.mesh.policy=local-first",
        "nginx:1"
    );
    docker!(fake, "service", "create", "-d", "--name", "own", "-p", "published=9000,target=90,mode=host", "nginx:1");
    let (ok, text) = docker(&fake, &["service", "create", "-d", "--name", "two", "-p", "8080:81", "nginx:1"])
        .await
        .expect("installed");
    assert!(!ok && text.contains("service two cannot publish port 8080/tcp: service web publishes 8080/tcp"), "{text}");
    let (ok, text) = docker(&fake, &["service", "create", "-d", "--name", "two", "-p", "9000:81", "nginx:1"])
        .await
        .expect("installed");
    assert!(!ok && text.contains("service own publishes 9000/tcp on the nodes of its tasks (mode host)"), "{text}");
    let dnsrr = ["service", "create", "-d", "--name", "two", "--endpoint-mode", "dnsrr", "-p", "81:81", "nginx:1"];
    let (ok, _) = docker(&fake, &dnsrr).await.expect("installed");
    assert!(!ok);
    let ports = docker!(fake, "service", "ls", "--format", "{{.Name}} {{.Ports}}");
    let number = ports.lines().find_map(|line| line.strip_prefix("any *:")?.strip_suffix("->80/tcp"));
    let number: u16 = number.expect("a port of its own").parse().expect("a number");
    assert!((30_000..=32_767).contains(&number), "{ports}");
    expect![[r#"
        any *:N->80/tcp
        own 
        web *:8080->80/tcp, *:53->53/udp
    "#]]
    .assert_eq(&ports.replace(&number.to_string(), "N"));

    docker!(fake, "service", "update", "-d", "--publish-rm", "80", "--publish-add", "8000-8001:80-81", "web");
    let shown = docker!(fake, "service", "inspect", "--format", "{{json .Endpoint.Ports}}", "web");
    expect![[r#"
        [{"Protocol":"udp","TargetPort":53,"PublishedPort":53,"PublishMode":"ingress"},{"Protocol":"tcp","TargetPort":80,"PublishedPort":8000,"PublishMode":"ingress"},{"Protocol":"tcp","TargetPort":81,"PublishedPort":8001,"PublishMode":"ingress"}]
    "#]].assert_eq(&shown);
    let pretty = docker!(fake, "service", "inspect", "--pretty", "any");
    assert!(pretty.contains("PublishMode = ingress"), "{pretty}");
    let asked = docker!(fake, "service", "inspect", "--format", "{{json .Spec.EndpointSpec}}", "any");
    expect![[r#"
        {"Mode":"vip","Ports":[{"Protocol":"tcp","TargetPort":80,"PublishMode":"ingress"}]}
    "#]]
    .assert_eq(&asked);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn n_07_docker_sees_and_replaces_the_ingress_network() {
    let fake = Fake::manager().await;
    let ls = ["network", "ls", "--format", "{{.Name}} {{.Driver}} {{.Scope}}", "-f", "name=ingress"];
    let Some((ok, listed)) = docker(&fake, &ls).await else { return };
    assert_eq!((ok, listed.as_str()), (true, "ingress overlay swarm\n"));
    let format = "{{.Ingress}} {{.EnableIPv6}} {{range .IPAM.Config}}{{.Subnet}} {{end}}";
    assert_eq!(
        docker!(fake, "network", "inspect", "--format", format, "ingress"),
        "true true 10.255.0.0/16 fd72:7377:726d::/64 \n"
    );
    docker!(fake, "service", "create", "-d", "--name", "web", "-p", "80:80", "nginx:1");
    check(
        &fake,
        "DELETE /networks/ingress",
        "",
        expect![[r#"
        403 forbidden
        {"message":"network ingress is in use by service web: update or remove them first"}"#]],
    )
    .await;
    assert_eq!(docker!(fake, "network", "ls", "-q", "-f", "dangling=true", "-f", "name=ingress"), "");
    docker!(fake, "service", "rm", "web");
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    loop {
        let (head, body) = http(&fake.socket, "DELETE /networks/ingress", "").await;
        if head.starts_with("http/1.1 204") {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "{head} {body}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let (ok, text) = docker(&fake, &["service", "create", "-d", "-p", "80:80", "nginx:1"]).await.expect("installed");
    assert!(!ok && text.contains("there is no ingress network: make one with `network create"), "{text}");
    docker!(
        fake,
        "network",
        "create",
        "-d",
        "overlay",
        "--ingress",
        "--subnet",
        "10.11.0.0/16",
        "--opt",
        "mtu=1300",
        "mesh"
    );
    docker!(fake, "service", "create", "-d", "-p", "80:80", "nginx:1");
    assert!(docker!(fake, "network", "inspect", "-v", "mesh").contains("80:80/tcp"));
}

/// P53: ten thousand ports in one request, and in the list.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p_53_ten_thousand_ports_in_one_request() {
    let fake = Fake::manager().await;
    let port = |n: u16| json!({ "Protocol": "udp", "TargetPort": n, "PublishedPort": n, "PublishMode": "ingress" });
    let ports: Vec<Value> = (10_000..20_000).map(port).collect();
    let spec = json!({ "Name": "media", "TaskTemplate": { "ContainerSpec": { "Image": "nginx:1" } },
                       "EndpointSpec": { "Ports": ports } });
    let (head, body) = http(&fake.socket, "POST /services/create", &spec.to_string()).await;
    assert!(head.starts_with("http/1.1 201"), "{head} {body}");
    let (_, body) = http(&fake.socket, "GET /services", "").await;
    assert_eq!(body.matches(r#""PublishedPort":15000"#).count(), 3, "in the spec, and in the endpoint twice");
}
