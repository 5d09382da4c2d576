//! `/networks` as clients see it (parity N-05, N-06, N-22, S-75).

use std::collections::BTreeSet;

use expect_test::expect;
use serde_json::{Value, json};

use super::{ask, check, docker, http};
use crate::testing::Fake;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_made_or_removed_is_said() {
    let fake = Fake::manager().await;
    check(
        &fake,
        "POST /networks/create",
        r#"{"Name":"host","Driver":"overlay"}"#,
        expect![[r#"
        403 forbidden
        {"message":"operation is not permitted on predefined host network: choose another name"}"#]],
    )
    .await;
    check(
        &fake,
        "DELETE /networks/bridge",
        "",
        expect![[r#"
            403 forbidden
            {"message":"bridge is a pre-defined network and cannot be removed"}"#]],
    )
    .await;
    check(
        &fake,
        "DELETE /networks/nope",
        "",
        expect![[r#"
            404 not found
            {"message":"network nope not found"}"#]],
    )
    .await;
    check(
        &fake,
        "POST /networks/create",
        r#"{"Name":"a","Driver":"../wave"}"#,
        expect![[r#"
        404 not found
        {"message":"Driver: plugin \"../wave\" not found: use overlay, bridge, macvlan or ipvlan"}"#]],
    )
    .await;
    check(
        &fake,
        "POST /networks/create",
        r#"{"Name":"a","IPAM":{"Driver":"dhcp"}}"#,
        expect![[r#"
        404 not found
        {"message":"IPAM.Driver: plugin \"dhcp\" not found: rswarm's own is called default"}"#]],
    )
    .await;
    check(&fake, "GET /networks?filters=%7B%22colour%22:%5B%22red%22%5D%7D", "", expect![[r#"
        400 bad request
        {"message":"invalid filter 'colour' for networks: known are dangling, driver, id, label, name, scope, type"}"#]]).await;
    let (head, _) = http(&fake.socket, "POST /networks/create", r#"{"Name":"busy","Driver":"overlay"}"#).await;
    assert!(head.starts_with("http/1.1 201"), "{head}");
    let service =
        r#"{"Name":"web","TaskTemplate":{"ContainerSpec":{"Image":"nginx:1"},"Networks":[{"Target":"busy"}]}}"#;
    let (head, body) = http(&fake.socket, "POST /services/create", service).await;
    assert!(head.starts_with("http/1.1 201"), "{head} {body}");
    check(
        &fake,
        "DELETE /networks/busy",
        "",
        expect![[r#"
            403 forbidden
            {"message":"network busy is in use by service web: update or remove them first"}"#]],
    )
    .await;
    let (head, _) = http(&fake.socket, "POST /networks/create", r#"{"Name":"busy","Driver":"overlay"}"#).await;
    assert!(head.starts_with("http/1.1 409"), "{head}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_outside_a_cluster_has_its_own_networks_only() {
    let fake = Fake::alone().await;
    let (_, body) = http(&fake.socket, "GET /networks?filters=%7B%22driver%22:%5B%22host%22%5D%7D", "").await;
    assert!(body.contains(r#""Name":"host""#) && !body.contains(r#""Name":"bridge""#), "{body}");
    let (head, body) = http(&fake.socket, "POST /networks/create", r#"{"Name":"a","Driver":"overlay"}"#).await;
    assert!(head.starts_with("http/1.1 503") && body.contains("docker swarm init"), "{head} {body}");
    check(
        &fake,
        "GET /networks/a",
        "",
        expect![[r#"
        404 not found
        {"message":"network a not found on this host; the networks of a cluster are known to its managers"}"#]],
    )
    .await;
}

/// E-31, N-10, N-21: networks of this host beside those of the cluster, under names that differ.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn networks_of_this_host() {
    let fake = Fake::manager().await;
    let (head, body) = http(&fake.socket, "POST /networks/create", r#"{"Name":"mine","Driver":"bridge"}"#).await;
    assert!(head.starts_with("http/1.1 201"), "{head} {body}");
    let made: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    let id = made["Id"].as_str().expect("an id").to_owned();
    assert_eq!(id.len(), 64, "{id}");
    for text in ["mine", &id, &id[..12]] {
        let (_, shown) = http(&fake.socket, &format!("GET /networks/{text}"), "").await;
        assert!(shown.contains(&format!(r#""Id":"{id}""#)), "{text}: {shown}");
    }
    let (_, body) = http(&fake.socket, "GET /networks?filters=%7B%22type%22:%5B%22custom%22%5D%7D", "").await;
    assert!(body.contains(r#""Name":"mine""#) && body.contains(r#""Scope":"local""#), "{body}");
    let (_, body) = http(&fake.socket, "GET /networks/mine", "").await;
    assert!(body.contains(r#""Config":[{"Subnet":"172.17.0.0/16","Gateway":"172.17.0.1"}]"#), "{body}");
    for name in ["bridge", "host", "none"] {
        let (_, shown) = http(&fake.socket, &format!("GET /networks/{name}"), "").await;
        assert!(shown.contains(r#""Created":"2"#), "it is there since a real time: {shown}");
    }
    let (head, _) = http(&fake.socket, "GET /networks/mine?scope=swarm", "").await;
    assert!(head.starts_with("http/1.1 404"), "{head}");
    check(
        &fake,
        "POST /networks/create",
        r#"{"Name":"mine","Driver":"overlay"}"#,
        expect![[r#"
        409 conflict
        {"message":"network with name mine already exists on this host: choose another, or remove that one first"}"#]],
    )
    .await;
    let (head, _) = http(&fake.socket, "POST /networks/create", r#"{"Name":"all","Driver":"overlay"}"#).await;
    assert!(head.starts_with("http/1.1 201"), "{head}");
    check(
        &fake,
        "POST /networks/create",
        r#"{"Name":"all","Driver":"bridge"}"#,
        expect![[r#"
        409 conflict
        {"message":"network with name all already exists in the cluster: choose another, or remove that one first"}"#]],
    )
    .await;
    check(
        &fake,
        "POST /networks/create",
        r#"{"Name":"v","Driver":"macvlan","Options":{"parent":"eth7"},"IPAM":{"Config":[{"Subnet":"192.0.2.0/24"}]}}"#,
        expect![[r#"
            400 bad request
            {"message":"network v: parent eth7: this host has no interface eth7; it has eth0"}"#]],
    )
    .await;
    check(
        &fake,
        "POST /networks/create",
        r#"{"Name":"v","Driver":"ipvlan","Options":{"parent":"eth0"}}"#,
        expect![[r#"
            400 bad request
            {"message":"network v: subnet: an ipvlan network needs that of the network its parent is on; give --subnet"}"#]],
    )
    .await;
    check(
        &fake,
        "POST /networks/mine/connect",
        r#"{"Container":"c"}"#,
        expect![[r#"
        404 not found
        {"message":"No such container: c"}"#]],
    )
    .await;
    check(
        &fake,
        "POST /networks/all/connect",
        r#"{"Container":"c"}"#,
        expect![[r#"
        403 forbidden
        {"message":"Could not attach to network all: rpc error: code = PermissionDenied desc = network all not manually attachable"}"#]],
    )
    .await;
    check(
        &fake,
        "POST /networks/host/connect",
        r#"{"Container":"c"}"#,
        expect![[r#"
        403 forbidden
        {"message":"container cannot be disconnected from host network or connected to host network"}"#]],
    )
    .await;
    check(
        &fake,
        "POST /networks/nope/disconnect",
        r#"{"Container":"c"}"#,
        expect![[r#"
        404 not found
        {"message":"network nope not found"}"#]],
    )
    .await;
    let (_, body) = http(&fake.socket, "POST /networks/prune", "").await;
    assert!(body.contains("mine") && body.contains("all"), "{body}");
}

/// E-31: an option that means nothing to a bridge is kept and shown, and whoever gave it is told; a wrong value of one
/// that means something is refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e_31_options_of_no_effect_are_kept_with_a_warning() {
    let fake = Fake::manager().await;
    let create = |body: serde_json::Value| {
        let (socket, body) = (fake.socket.clone(), body.to_string());
        async move { http(&socket, "POST /networks/create", &body).await }
    };
    let options = serde_json::json!({ "encrypted": "", "bogus": "x" });
    for (name, is_config, who) in [("odd", false, "bridge networks"), ("conf", true, "networks of no driver")] {
        let (head, body) =
            create(serde_json::json!({ "Name": name, "ConfigOnly": is_config, "Options": options })).await;
        assert!(head.starts_with("http/1.1 201"), "{head} {body}");
        let odd = if is_config { "option bogus" } else { "options bogus, encrypted" };
        assert!(
            body.contains(&format!(r#""Warning":"{odd}: {who} know no such option; known are com.docker."#)),
            "{body}"
        );
        let (_, shown) = http(&fake.socket, &format!("GET /networks/{name}"), "").await;
        assert!(shown.contains(r#""Options":{"bogus":"x","encrypted":""}"#), "{shown}");
    }
    let (head, body) = create(serde_json::json!({ "Name": "of-conf", "ConfigFrom": { "Network": "conf" } })).await;
    assert!(head.starts_with("http/1.1 201") && body.contains(r#""Warning":"""#), "{head} {body}");
    let wrong = serde_json::json!({ "com.docker.network.bridge.enable_icc": "never" });
    let (head, body) = create(serde_json::json!({ "Name": "wrong", "Options": wrong })).await;
    assert!(head.starts_with("http/1.1 400") && body.contains("neither true nor false"), "{head} {body}");
}

/// E-31: what several networks' ids begin with means none of them, least of all to who removes one; and those that every
/// host has stay by whatever they are called.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e_31_no_network_is_removed_that_was_not_meant() {
    let fake = Fake::alone().await;
    let (mut digits, mut twice) = (BTreeSet::new(), None);
    // of 17 ids two begin with the same digit
    for at in 0..17 {
        let body = json!({ "Name": format!("mine{at}"), "Driver": "bridge" });
        let (_, made) = ask(&fake, "POST /networks/create", &body).await;
        let digit = made["Id"].as_str().expect("an id")[..1].to_owned();
        if !digits.insert(digit.clone()) {
            twice = Some(digit);
        }
    }
    let digit = twice.expect("there are 16 digits");
    for request in [format!("DELETE /networks/{digit}"), format!("GET /networks/{digit}")] {
        let (status, refused) = ask(&fake, &request, &Value::Null).await;
        let message = refused["message"].as_str().unwrap_or_default();
        assert_eq!(status, "400", "{refused}");
        assert!(message.starts_with(&format!("network {digit} is ambiguous (")), "{refused}");
    }
    for name in ["bridge", "host", "none"] {
        let (_, shown) = ask(&fake, &format!("GET /networks/{name}"), &Value::Null).await;
        let id = shown["Id"].as_str().expect("an id");
        for text in [name, id, &id[..12]] {
            let (status, refused) = ask(&fake, &format!("DELETE /networks/{text}"), &Value::Null).await;
            let message = format!("{name} is a pre-defined network and cannot be removed");
            assert_eq!((status.as_str(), &refused["message"]), ("403", &json!(message)), "{text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn docker_drives_networks() {
    let fake = Fake::manager().await;
    let back = ["network", "create", "-d", "overlay", "--subnet", "10.7.0.0/16", "--gateway", "10.7.0.9"];
    let more = ["--attachable", "--internal", "--opt", "encrypted", "--opt", "com.docker.network.driver.mtu=1400"];
    let words: Vec<&str> = back.into_iter().chain(more).chain(["--label", "tier=back", "back"]).collect();
    let Some((ok, id)) = docker(&fake, &words).await else { return };
    assert!(ok && id.trim().len() == 25, "{id}");
    docker!(fake, "network", "create", "-d", "overlay", "front");
    let (ok, text) = docker(&fake, &["network", "create", "-d", "overlay", "front"]).await.expect("installed");
    assert!(!ok && text.contains("already exists"), "{text}");
    expect![[r#"
        back overlay swarm
        bridge bridge local
        front overlay swarm
        host host local
        ingress overlay swarm
        none null local
    "#]]
    .assert_eq(&docker!(fake, "network", "ls", "--format", "{{.Name}} {{.Driver}} {{.Scope}}"));
    assert_eq!(docker!(fake, "network", "ls", "--no-trunc", "-q", "-f", "label=tier=back"), id);
    let format = "{{.Attachable}} {{.Internal}} {{(index .IPAM.Config 0).Subnet}} {{(index .IPAM.Config 0).Gateway}} \
                  {{.Options}} {{.Labels}}";
    expect![[r#"
        true true 10.7.0.0/16 10.7.0.9 map[com.docker.network.driver.mtu:1400 com.docker.network.driver.overlay.vxlanid_list:4097 encrypted:] map[tier:back]
    "#]]
    .assert_eq(&docker!(fake, "network", "inspect", "--format", format, "back"));
    assert!(docker!(fake, "network", "inspect", "-v", "back").contains(r#""Services""#));
    docker!(fake, "service", "create", "-d", "--name", "web", "--network", "name=back,alias=www", "nginx:1");
    let format = "{{json .Spec.TaskTemplate.Networks}} {{.Spec.EndpointSpec.Mode}}";
    let shown = docker!(fake, "service", "inspect", "--format", format, "web");
    assert_eq!(shown, format!("[{{\"Target\":\"{}\",\"Aliases\":[\"www\"]}}] vip\n", id.trim()));
    docker!(fake, "service", "update", "-d", "--network-rm", "back", "--network-add", "host", "web");
    let shown = docker!(fake, "service", "inspect", "--format", "{{json .Spec.TaskTemplate.Networks}}", "web");
    assert_eq!(shown, "[{\"Target\":\"host\"}]\n");
    assert!(docker!(fake, "network", "prune", "-f").contains("front"));
    let (ok, text) = docker(&fake, &["network", "rm", "front"]).await.expect("installed");
    assert!(!ok && text.contains("network front not found"), "{text}");
    // E-31, N-10, N-21: networks of this host, as docker asks for them
    docker!(fake, "network", "create", "--subnet", "10.8.0.0/24", "--ip-range", "10.8.0.128/25", "mine");
    let format = "{{.Scope}} {{.Driver}} {{(index .IPAM.Config 0).IPRange}} {{json .IPAM}}";
    assert_eq!(
        docker!(fake, "network", "inspect", "--format", format, "mine"),
        "local bridge 10.8.0.128/25 {\"Driver\":\"default\",\"Options\":{},\"Config\":[{\"Subnet\":\"10.8.0.0/24\",\
         \"IPRange\":\"10.8.0.128/25\"}]}\n"
    );
    docker!(fake, "network", "create", "--config-only", "--subnet", "192.0.2.0/24", "-o", "parent=eth0", "conf");
    docker!(fake, "network", "create", "-d", "macvlan", "--scope", "swarm", "--config-from", "conf", "wire");
    let (ok, text) = docker(&fake, &["network", "connect", "--alias", "db", "mine", "c1"]).await.expect("installed");
    assert!(!ok && text.contains("No such container: c1"), "{text}");
    docker!(fake, "network", "rm", "mine");
}
