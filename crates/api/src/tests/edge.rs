//! What clients of Docker meet before any route: versions, lines that are not escaped.

use serde_json::Value;

use super::ask;
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
