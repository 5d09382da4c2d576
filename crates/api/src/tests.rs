//! The API as clients see it: plain HTTP, and Docker's own command line where it is installed.

use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    time::{Duration, Instant},
};

use expect_test::{Expect, expect};
use serde_json::Value;

use crate::testing::Fake;

/// Runs docker and demands success, or leaves the test.
macro_rules! docker {
    ($fake:expr, $($word:expr),+) => {
        match docker(&$fake, &[$($word),+]).await {
            None => { eprintln!("docker is not installed: not tested"); return }
            Some((true, text)) => text,
            Some((false, text)) => panic!("docker {:?}: {text}", [$($word),+]),
        }
    };
}

mod backup;
mod dependencies;
mod edge;
mod everywhere;
mod half_closed;
mod images;
mod lock;
mod metrics;
mod networks;
mod publish;
mod rebalance;
mod registries;
mod stacks;

/// An answer: status line and headers, body.
async fn http(socket: &Path, request: &str, body: &str) -> (String, String) {
    let (socket, text) = (
        socket.to_owned(),
        format!(
            "{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ),
    );
    let answer = tokio::task::spawn_blocking(move || {
        let mut stream = UnixStream::connect(socket).expect("connect");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("timeout");
        stream.write_all(text.as_bytes()).expect("send");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("read");
        String::from_utf8_lossy(&answer).into_owned()
    });
    let answer = answer.await.expect("no panic");
    let (head, body) = answer.split_once("\r\n\r\n").expect("an HTTP answer");
    (head.to_ascii_lowercase(), body.to_owned())
}

/// The status and the JSON of an answer; null as a body is none.
async fn ask(fake: &Fake, request: &str, body: &Value) -> (String, Value) {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let (head, body) = http(&fake.socket, request, &body).await;
    let status = head.split(' ').nth(1).unwrap_or_default().to_owned();
    (status, serde_json::from_str(&body).unwrap_or_default())
}

async fn check(fake: &Fake, request: &str, body: &str, expected: Expect) {
    let (head, body) = http(&fake.socket, request, body).await;
    let status = head.lines().next().unwrap_or_default().trim_start_matches("http/1.1 ").to_owned();
    expected.assert_eq(&format!("{status}\n{body}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_carries_the_versions() {
    let fake = Fake::alone().await;
    let (head, body) = http(&fake.socket, "GET /_ping", "").await;
    for header in [
        "api-version: 1.51",
        "docker-experimental: false",
        "ostype: linux",
        "server: rswarm/0.1.0 (linux)",
        "swarm: inactive",
    ] {
        assert!(head.contains(header), "{header} is missing in {head}");
    }
    assert_eq!(body, "OK");
    let (head, body) = http(&fake.socket, "HEAD /_ping", "").await;
    assert!(head.starts_with("http/1.1 200") && body.is_empty());
}

/// Whatever the cluster says or does not say: `info` counts what is on the host, on workers too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn info_counts_the_containers_of_the_host() {
    let fake = Fake::alone().await;
    let (_, body) = http(&fake.socket, "GET /info", "").await;
    let info: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    let counts = ["Containers", "ContainersRunning", "ContainersPaused", "ContainersStopped"].map(|key| &info[key]);
    assert_eq!(counts, [3, 2, 0, 1]);
}

/// E-42: what monitors and scripts read of a daemon is there, and true.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e_42_info_tells_of_the_daemon_itself() {
    let fake = Fake::alone().await;
    let (_, info) = ask(&fake, "GET /v1.51/info", &Value::Null).await;
    for field in ["NFd", "NGoroutines"] {
        assert!(info[field].as_u64() > Some(0), "{field}: {}", info[field]);
    }
    assert_eq!((&info["NEventsListener"], &info["SwapLimit"]), (&Value::from(0), &Value::Bool(false)));
    for field in ["HttpProxy", "HttpsProxy", "NoProxy"] {
        assert_eq!(info[field], "", "{field}");
    }
    let (name, program) = (info["DefaultRuntime"].as_str().expect("a name"), &info["Runtimes"]["runc"]["path"]);
    assert_eq!((name, program), ("runc", &Value::from("embedded")));
    let (_, older) = ask(&fake, "GET /v1.48/info", &Value::Null).await;
    for field in ["RuncCommit", "ContainerdCommit", "InitCommit"] {
        assert_eq!((&info[field]["ID"], info[field].get("Expected")), (&Value::from("N/A"), None), "{field}");
        assert_eq!(older[field]["Expected"], older[field]["ID"], "{field}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_outside_a_cluster_says_so_in_dockers_words() {
    let fake = Fake::alone().await;
    check(&fake, "GET /v1.44/nodes", "", expect![[r#"
        503 service unavailable
        {"message":"This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again."}"#]]).await;
    check(
        &fake,
        "POST /swarm/leave",
        "",
        expect![[r#"
        503 service unavailable
        {"message":"This node is not part of a swarm"}"#]],
    )
    .await;
    check(
        &fake,
        "GET /nothing",
        "",
        expect![[r#"
        404 not found
        {"message":"page not found"}"#]],
    )
    .await;
    check(
        &fake,
        "GET /v1.44/plugins",
        "",
        expect![[r#"
        200 ok
        []"#]],
    )
    .await;
    check(
        &fake,
        "POST /v1.44/plugins/pull?remote=x",
        "",
        expect![[r#"
        501 not implemented
        {"message":"plugins are not supported: volumes have the driver local (also for nfs), networks bridge, ipvlan, macvlan and overlay (POST /plugins/pull)"}"#]],
    )
    .await;
    check(
        &fake,
        "GET /images/no/such:1/json",
        "",
        expect![[r#"
        404 not found
        {"message":"No such image: no/such:1"}"#]],
    )
    .await;
    check(
        &fake,
        "POST /swarm/join",
        "{\"RemoteAddrs\":[\"a:1\"]}",
        expect![[r#"
        400 bad request
        {"message":"JoinToken is missing: give the token that `rswarm join-token worker` prints on a manager"}"#]],
    )
    .await;
    check(
        &fake,
        "GET /containers/json",
        "",
        expect![[r#"
        501 not implemented
        {"message":"this host runs no containers"}"#]],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_requests_are_refused_with_the_field() {
    let fake = Fake::manager().await;
    check(
        &fake,
        "POST /services/create",
        "{",
        expect![[r#"
        400 bad request
        {"message":"the request body is not JSON: EOF while parsing an object at line 1 column 1"}"#]],
    )
    .await;
    let secrets = r#"{"Name":"a","TaskTemplate":{"ContainerSpec":{"Image":"a","Secrets":[{}]}}}"#;
    check(
        &fake,
        "POST /services/create",
        secrets,
        expect![[r#"
        400 bad request
        {"message":"TaskTemplate.ContainerSpec.Secrets[0].SecretID is missing: give the id or the name of what the container shall have"}"#]],
    )
    .await;
    check(&fake, "POST /swarm/init", "{}", expect![[r#"
        503 service unavailable
        {"message":"This node is already part of a swarm. Use \"docker swarm leave\" to leave this swarm and join another one."}"#]]).await;
    check(
        &fake,
        "GET /tasks?filters=%5B%5D",
        "",
        expect![[r#"
        400 bad request
        {"message":"invalid filter \"[]\": it is not a JSON object such as {\"name\":[\"web\"]}"}"#]],
    )
    .await;
    check(
        &fake,
        "GET /services/nope",
        "",
        expect![[r#"
        404 not found
        {"message":"service nope not found"}"#]],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_socket_of_a_live_daemon_is_not_taken_and_a_stale_one_is() {
    let fake = Fake::alone().await;
    let other = Fake::alone().await;
    let error = crate::listener::bind(&fake.socket, None).await.expect_err("in use");
    assert!(error.to_string().contains("in use by a running daemon"), "{error}");
    let stale = other.socket.with_file_name("stale.sock");
    drop(std::os::unix::net::UnixListener::bind(&stale).expect("bind"));
    crate::listener::bind(&stale, None).await.expect("a stale socket is replaced");
    let file = other.socket.with_file_name("file");
    std::fs::write(&file, "x").expect("write");
    assert!(crate::listener::bind(&file, None).await.expect_err("a file").to_string().contains("is no socket"));
    // E-50
    let nobodys = other.socket.with_file_name("group.sock");
    let error = crate::listener::bind(&nobodys, Some("no-such-group")).await.expect_err("no group");
    assert!(error.to_string().contains("this host has no such group"), "{error}");
}

/// What docker prints; `None` where it is not installed.
async fn docker(fake: &Fake, words: &[&str]) -> Option<(bool, String)> {
    let mut command = tokio::process::Command::new("docker");
    command.arg("-H").arg(fake.host()).args(words).env_remove("DOCKER_API_VERSION").kill_on_drop(true);
    let output = tokio::time::timeout(Duration::from_secs(30), command.output()).await.expect("docker ends");
    match output {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => panic!("{error}"),
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
            Some((output.status.success(), text))
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn docker_shows_host_and_cluster() {
    let fake = Fake::manager().await;
    assert!(docker!(fake, "version").contains("API version:"));
    let info = docker!(fake, "info");
    for line in ["Swarm: active", "Is Manager: true", "Managers: 1", "Nodes: 3", "Server Version: 28.5.2", "CPUs: 2"] {
        assert!(info.contains(line), "{line} is missing in {info}");
    }
    let nodes = docker!(
        fake,
        "node",
        "ls",
        "--format",
        "{{.Hostname}} {{.Status}} {{.Availability}} {{.ManagerStatus}} {{.Self}}"
    );
    expect![[r#"
        host1 Ready Active Leader true
        host2 Ready Active  false
        host3 Ready Active  false
    "#]]
    .assert_eq(&nodes);
    docker!(fake, "node", "update", "--availability", "drain", "--label-add", "zone=a", "host2");
    let shown = docker!(fake, "node", "inspect", "--format", "{{.Spec.Availability}} {{.Spec.Labels.zone}}", "host2");
    assert_eq!(shown, "drain a\n");
    assert!(docker!(fake, "node", "inspect", "--pretty", "self").contains("Hostname:"));
    let token = docker!(fake, "swarm", "join-token", "-q", "worker");
    assert!(token.starts_with("SWMTKN-1-"), "{token}");
    docker!(fake, "swarm", "join-token", "--rotate", "-q", "worker");
    assert_ne!(docker!(fake, "swarm", "join-token", "-q", "worker"), token);
    docker!(fake, "swarm", "update", "--task-history-limit", "3");
    assert!(docker!(fake, "info").contains("Task History Retention Limit: 3"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn docker_drives_services() {
    let fake = Fake::manager().await;
    docker!(
        fake,
        "service",
        "create",
        "-d",
        "--name",
        "web",
        "--replicas",
        "2",
        "-e",
        "A=1",
        "--limit-memory",
        "64m",
        "nginx:1",
        "sleep",
        "9"
    );
    let (ok, text) = docker(&fake, &["service", "create", "-d", "--name", "web", "nginx:1"]).await.expect("installed");
    assert!(!ok && text.contains("already exists"), "{text}");
    running(&fake, 2).await;
    assert!(docker!(fake, "service", "ls").contains("replicated   2/2        nginx:1"));
    let ps = docker!(fake, "service", "ps", "web", "--format", "{{.Name}} {{.DesiredState}} {{.Image}}");
    expect![[r#"
        web.1 Running nginx:1
        web.2 Running nginx:1
    "#]]
    .assert_eq(&ps);
    let format =
        "{{.Spec.Name}} {{.Spec.TaskTemplate.ContainerSpec.Env}} {{.Spec.TaskTemplate.Resources.Limits.MemoryBytes}}";
    assert_eq!(docker!(fake, "service", "inspect", "--format", format, "web"), "web [A=1] 67108864\n");
    assert!(docker!(fake, "service", "inspect", "--pretty", "web").contains("Replicas:	2"));
    let logs = docker!(fake, "service", "logs", "web");
    assert_eq!(logs.matches("| hello").count(), 2, "{logs}");
    assert_eq!(logs.matches("| oops").count(), 2, "{logs}");
    docker!(fake, "service", "scale", "-d", "web=3");
    running(&fake, 3).await;
    docker!(fake, "service", "update", "-d", "--image", "nginx:2", "web");
    docker!(fake, "service", "rm", "web");
    assert_eq!(docker!(fake, "service", "ls", "-q"), "");
}

/// Waits until so many tasks of `web` run.
async fn running(fake: &Fake, count: u64) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let (_, body) = http(&fake.socket, "GET /services?status=true", "").await;
        // The body may come in one chunk, with its length before it.
        let start = body.find('[').expect("a list");
        let end = body.rfind(']').expect("a list");
        let services: Value = serde_json::from_str(&body[start..=end]).expect("JSON");
        if services[0]["ServiceStatus"]["RunningTasks"] == count {
            return;
        }
        assert!(Instant::now() < deadline, "{services:#}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn images_are_loaded_listed_tagged_and_removed() {
    let fake = Fake::alone().await;
    let directory = tempfile::tempdir().expect("directory");
    let archive = directory.path().join("image.tar");
    std::fs::write(&archive, node::image::busybox_archive("mine:1").expect("busybox is installed")).expect("write");
    let archive = archive.to_str().expect("UTF-8");
    assert_eq!(docker!(fake, "load", "-q", "-i", archive), "Loaded image: mine:1\n");
    assert_eq!(docker!(fake, "images", "--format", "{{.Repository}}:{{.Tag}}"), "mine:1\n");
    docker!(fake, "tag", "mine:1", "localhost:5000/a/b:2");
    assert!(docker!(fake, "image", "inspect", "localhost:5000/a/b:2").contains("\"mine:1\""));
    assert_eq!(docker!(fake, "images", "--filter", "reference=mine", "-q").lines().count(), 1);
    let removed = docker!(fake, "rmi", "localhost:5000/a/b:2");
    assert_eq!(removed, "Untagged: localhost:5000/a/b:2\n");
    assert!(docker!(fake, "history", "mine:1").contains("IMAGE"));
    assert!(docker!(fake, "rmi", "mine:1").contains("Deleted: sha256:"));
    let (ok, text) = docker(&fake, &["load", "-i", "/etc/hostname"]).await.expect("installed");
    assert!(!ok && text.contains("archive"), "{text}");
    let (ok, text) = docker(&fake, &["load", "-q", "-i", "/dev/null"]).await.expect("installed");
    assert!(!ok && text.contains("archive"), "{text}");
    let (ok, text) = docker(&fake, &["pull", "--platform", "foobar", "a"]).await.expect("installed");
    assert!(!ok && text.contains("unknown operating system or architecture: invalid argument"), "{text}");
}
