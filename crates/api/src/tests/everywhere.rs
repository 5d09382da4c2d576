//! What is asked of all nodes at once (P27): by whom, and what is said of nodes that do not answer.

use std::time::Duration;

use axum::{
    body::Body,
    http::{Request, StatusCode},
};
use identity::{CertificateAuthority, KeyPair, NodeIdentity, Subject};
use serde_json::Value;
use types::{ClusterId, NodeRole};

use super::ask;
use crate::{
    convert::time,
    remote::{self, Caller, Turn},
    testing::{Fake, node_id},
};

/// Of the first manager, in a cluster of its own.
fn identity() -> NodeIdentity {
    let authority = CertificateAuthority::generate(time::now()).expect("an authority");
    let key = KeyPair::generate().expect("a key");
    let subject = Subject { node: node_id(1), role: NodeRole::Manager, cluster: ClusterId::from_random(77) };
    let chain = authority.sign(key.csr_pem(), &subject, time::now(), Duration::from_secs(3600)).expect("signed");
    NodeIdentity::from_pem(key.pem(), &chain).expect("an identity")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p27_each_node_is_named_with_what_it_said_or_why_it_did_not() {
    let alone = Fake::alone().await;
    for request in ["GET /system/df/all", "POST /system/prune/all"] {
        let (status, said) = ask(&alone, request, &Value::Null).await;
        assert!(status == "503" && said["message"].to_string().contains("not a swarm manager"), "{request}: {said}");
    }
    let fake = Fake::manager().await;
    fake.status.send_modify(|status| status.identity = Some(identity()));
    for request in ["GET /system/df/all", "POST /system/prune/all?all=true"] {
        let (status, said) = ask(&fake, request, &Value::Null).await;
        let nodes = said.as_array().map(Vec::as_slice).unwrap_or_default();
        assert!(status == "200" && nodes.len() == 3, "{request}: {said}");
        for (number, node) in (1..).zip(nodes) {
            let why = format!("node host{number} does not answer at 127.0.0.{number}, TCP port 7946");
            assert_eq!(node["Node"], format!("host{number}"));
            assert!(node["Error"].as_str().is_some_and(|error| error.starts_with(&why)), "{request}: {node}");
            assert!(node.get("Images").is_none() && node.get("ImagesDeleted").is_none(), "{request}: {node}");
        }
    }
    let (status, said) =
        ask(&fake, "POST /system/prune/all?filters=%7B%22colour%22:%5B%22red%22%5D%7D", &Value::Null).await;
    assert!(status == "400" && said["message"].to_string().contains("colour"), "{said}");
}

/// What a manager may have of a node as a whole host it gets from the node's own routes; nothing that would go on to others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p27_a_node_takes_prunes_from_managers_and_passes_nothing_on() {
    let fake = Fake::alone().await;
    for (line, is_let_in) in [
        ("GET /system/df", true),
        ("POST /images/prune", true),
        ("GET /system/df/all", false),
        ("POST /system/prune/all", false),
        ("GET /images/json", false),
    ] {
        let (method, path) = line.split_once(' ').expect("METHOD PATH");
        let request = Request::builder().method(method).uri(path).extension(Caller::Manager(node_id(1)));
        let turn = remote::divert(&fake.shared, request.body(Body::empty()).expect("a request")).await;
        match turn {
            Turn::Here(request) => assert!(is_let_in && request.uri().path() == path, "{line}"),
            Turn::Answered(answer) => assert!(!is_let_in && answer.status() == StatusCode::FORBIDDEN, "{line}"),
        }
    }
}
