//! Requests to even services out (P19), and to move data of local volumes (P41), as far as they need no other node.

use serde_json::{Value, json};

use super::ask;
use crate::testing::Fake;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p19_p41_what_cannot_be_is_refused_with_its_name() {
    let fake = Fake::manager().await;
    let nothing = json!({ "Moves": [], "Stays": [] });
    assert_eq!(ask(&fake, "GET /rebalance", &Value::Null).await, ("200".to_owned(), nothing.clone()));
    assert_eq!(ask(&fake, "POST /rebalance", &json!({ "Budget": 2 })).await, ("200".to_owned(), nothing));
    for (request, body, status, part) in [
        ("GET /rebalance?service=nobody", Value::Null, "404", "service nobody not found"),
        ("POST /rebalance", json!({ "Services": ["nobody"] }), "404", "service nobody not found"),
        ("POST /rebalance", json!({ "Budget": -1 }), "400", "Budget"),
        ("POST /rebalance", json!({ "Budget": 99_999_999_999_u64 }), "400", "too many"),
        ("POST /rebalance", json!({ "Service": "web" }), "400", "Service"),
        ("GET /migration/data", Value::Null, "403", "only a manager carries volumes"),
        ("GET /migration/data/data", Value::Null, "403", "only a manager carries volumes"),
        ("DELETE /migration/data/data", Value::Null, "403", "only a manager carries volumes"),
        ("POST /volumes/data/migrate", json!({ "From": "a" }), "400", "From and To are both required"),
        ("POST /volumes/da%20ta/migrate", json!({ "From": "a", "To": "b" }), "400", "is no name of a volume"),
        ("POST /volumes/data/migrate", json!({ "From": "a", "To": "b" }), "404", "node a not found"),
    ] {
        let (got, said) = ask(&fake, request, &body).await;
        assert!(got == status && said["message"].to_string().contains(part), "{request} {got}: {said}");
    }
}
