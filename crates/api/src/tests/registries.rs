//! The cluster's credentials for registries.

use serde_json::{Value, json};

use super::ask;
use crate::testing::Fake;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p_17_credentials_go_in_and_do_not_come_out() {
    let fake = Fake::manager().await;
    let body = json!({ "Registry": "https://registry.example/team/", "Username": "u", "Password": "hunter2" });
    let (status, said) = ask(&fake, "POST /registries?check=false", &body).await;
    assert_eq!(status, "204", "{said}");
    let (_, all) = ask(&fake, "GET /registries", &Value::Null).await;
    assert_eq!(all, json!([{ "Registry": "registry.example/team", "Username": "u" }]));
    let (_, swarm) = ask(&fake, "GET /swarm", &Value::Null).await;
    assert!(!swarm.to_string().contains("hunter2"), "{swarm}");
    for (request, body, status, part) in [
        (
            "POST /registries",
            json!({ "Registry": "a b", "Username": "u", "Password": "p" }),
            "400",
            "names no registry",
        ),
        ("POST /registries", json!({ "Registry": "r.example" }), "400", "Username and Password are both required"),
        ("POST /registries", json!({ "Registry": "r.example", "Passwort": "x" }), "400", "Passwort"),
        (
            "POST /registries",
            json!({ "Registry": "r.example", "Helper": "x", "Password": "p" }),
            "400",
            "the Helper that has them, not both",
        ),
        (
            "POST /registries",
            json!({ "Registry": "r.example", "Helper": "../sh" }),
            "400",
            "names no credential helper",
        ),
        (
            "POST /registries",
            json!({ "Registry": "r.example", "Every": 10_000_000_000_i64 }),
            "400",
            "Every needs a Helper",
        ),
        ("POST /registries", json!({ "Registry": "r.example", "Helper": "not-there" }), "400", "each manager"),
        ("DELETE /registries?registry=other.example", Value::Null, "404", "other.example"),
    ] {
        let (got, said) = ask(&fake, request, &body).await;
        assert!(got == status && said["message"].to_string().contains(part), "{request} {got}: {said}");
    }
    assert_eq!(ask(&fake, "DELETE /registries?registry=registry.example/team", &Value::Null).await.0, "204");
    assert_eq!(ask(&fake, "GET /registries", &Value::Null).await.1, json!([]));
}
