//! What clients of Docker meet before any route: versions, lines that are not escaped, methods.

use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    time::Duration,
};

use serde_json::Value;

use super::{ask, http};
use crate::testing::Fake;

/// E-42: clients that know Docker's versions see one of them, and people see rswarm's beside it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e_42_the_engine_has_a_version_of_docker_and_one_of_its_own() {
    let fake = Fake::manager().await;
    let (_, version) = ask(&fake, "GET /version", &Value::Null).await;
    assert_eq!([&version["Version"], &version["Platform"]["Name"]], ["28.5.2", "rswarm 0.1.0"]);
    for (at, named) in [["Engine", "28.5.2"], ["rswarm", "0.1.0"]].into_iter().enumerate() {
        let component = &version["Components"][at];
        assert_eq!([&component["Name"], &component["Version"]], named);
    }
    let (_, info) = ask(&fake, "GET /info", &Value::Null).await;
    let shown = [&info["ServerVersion"], &info["RswarmVersion"], &info["InitBinary"]];
    assert_eq!(shown, ["28.5.2", "0.1.0", "rswarm-shim"]);
    let (_, nodes) = ask(&fake, "GET /nodes", &Value::Null).await;
    let engine = &nodes[1]["Description"]["Engine"];
    assert_eq!([&engine["EngineVersion"], &engine["RswarmVersion"]], ["28.5.2", "0.1.0"]);
}

/// E-42: as scripts with curl write filters (autoheal).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e_42_filters_that_are_not_escaped_are_understood() {
    let fake = Fake::manager().await;
    let (status, nodes) = ask(&fake, r#"GET /v1.44/nodes?filters={"role":["manager"]}"#, &Value::Null).await;
    assert_eq!((status.as_str(), nodes.as_array().map(Vec::len)), ("200", Some(1)), "{nodes}");
    let (status, refused) = ask(&fake, r#"GET /services/<"x">"#, &Value::Null).await;
    assert_eq!(status, "404");
    assert_eq!(refused["message"], r#"service <"x"> not found"#);
}

/// E-42: what Docker answers to methods and paths that are no route's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e_42_methods_and_slashes() {
    let fake = Fake::alone().await;
    for (request, status) in [
        ("OPTIONS /", "200"),
        ("OPTIONS /v1.44/containers/json", "200"),
        ("OPTIONS /nothing/there", "200"),
        ("HEAD /_ping", "200"),
        ("HEAD /v1.44/_ping", "200"),
        ("HEAD /info", "404"),
        ("HEAD /metrics", "404"),
        // no engine is behind this one
        ("HEAD /containers/a/archive?path=/", "501"),
        ("GET //v1.44//containers///a/json?size=//", "301"),
    ] {
        let (head, body) = http(&fake.socket, request, "").await;
        assert_eq!((head.split(' ').nth(1), body.as_str()), (Some(status), ""), "{request}");
        if status == "301" {
            assert!(head.contains("\r\nlocation: /v1.44/containers/a/json?size=//\r\n"), "{head}");
        }
    }
}

/// E-01, E-42: who sends more than anybody reads hears the answer, in headers as Docker writes them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e_01_a_build_is_refused_when_its_context_was_sent() {
    let fake = Fake::alone().await;
    let send = async |path: &'static str| {
        let socket = fake.socket.clone();
        let asking = tokio::task::spawn_blocking(move || {
            let mut stream = UnixStream::connect(socket).expect("connect");
            stream.set_read_timeout(Some(Duration::from_secs(20))).expect("timeout");
            let head = format!("POST {path} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
            stream.write_all(head.as_bytes()).expect("head");
            let piece = [&b"100000\r\n"[..], &[b'x'; 1 << 20], b"\r\n"].concat();
            for _ in 0..20 {
                stream.write_all(&piece).expect("all of it is read");
            }
            stream.write_all(b"0\r\n\r\n").expect("the end is read");
            stream.shutdown(std::net::Shutdown::Write).expect("half closed");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).expect("an answer");
            answer
        });
        asking.await.expect("no panic")
    };
    let answer = send("/build").await;
    assert!(answer.starts_with("HTTP/1.1 501 ") && answer.contains("building images is not supported"), "{answer}");
    assert!(answer.contains("\r\nApi-Version: 1.51\r\n"), "{answer}");
    let answer = send("//images//load").await;
    assert!(answer.starts_with("HTTP/1.1 301 ") && answer.contains("\r\nLocation: /images/load\r\n"), "{answer}");
    let (status, pruned) = ask(&fake, "POST /build/prune", &Value::Null).await;
    assert_eq!((status.as_str(), &pruned["SpaceReclaimed"]), ("200", &Value::from(0)));
}
