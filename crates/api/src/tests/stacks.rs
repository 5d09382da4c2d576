//! Stacks over HTTP: whole or not at all, with the path of what is wrong.

use expect_test::expect;
use serde_json::{Value, json};

use super::{check, http};
use crate::testing::Fake;

async fn parsed(fake: &Fake, request: &str, body: &str) -> Value {
    let (head, body) = http(&fake.socket, request, body).await;
    assert!(head.starts_with("http/1.1 20"), "{request}: {head} {body}");
    serde_json::from_str(&body).unwrap_or(Value::Null)
}

fn service(name: &str, image: &str, needs: &Value) -> Value {
    json!({ "Name": name, "TaskTemplate": { "ContainerSpec": { "Image": image } }, "DependsOn": needs })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn k_01_life_of_a_stack() {
    let fake = Fake::manager().await;
    let body = |image: &str| {
        let needs = json!([{ "Service": "shop_db", "Condition": "service_healthy" }]);
        json!({
            "Services": [service("shop_db", "a", &json!([])), service("shop_web", image, &needs)],
            "Networks": [{ "Name": "shop_front", "Driver": "overlay" }],
            "Secrets": [{ "Name": "shop_pw", "Data": "aHVudGVyMg==" }],
        })
        .to_string()
    };
    let made = parsed(&fake, "POST /stacks/shop/deploy", &body("a")).await;
    assert_eq!((&made["Revision"], made["Parts"].as_array().map(Vec::len)), (&json!(1), Some(4)));
    assert_eq!(made["Parts"][0], json!({ "Kind": "network", "Name": "shop_front", "Action": "created" }));
    let stack = parsed(&fake, "GET /stacks/shop", "").await;
    assert_eq!((&stack["Services"], &stack["Secrets"]), (&json!(["shop_db", "shop_web"]), &json!(["shop_pw"])));
    let web = parsed(&fake, "GET /services/shop_web", "").await;
    assert_eq!(web["Spec"]["Labels"], json!({ "com.docker.stack.namespace": "shop" }));
    assert_eq!(web["Spec"]["DependsOn"], json!([{ "Service": "shop_db", "Condition": "service_healthy" }]));

    let again = parsed(&fake, "POST /stacks/shop/deploy", &body("a")).await;
    assert!(again["Revision"] == 1 && !again.to_string().contains("updated"), "{again}");
    assert_eq!(parsed(&fake, "POST /stacks/shop/deploy", &body("b")).await["Revision"], 2);
    assert_eq!(parsed(&fake, "POST /stacks/shop/rollback", "").await["Revision"], 3);
    let all = parsed(&fake, "GET /stacks/shop/revisions", "").await;
    assert_eq!((&all[0]["BackTo"], &all[0]["Present"], &all[2]["Revision"]), (&json!(1), &json!(true), &json!(1)));
    assert!(!all.to_string().contains("aHVudGVyMg"), "no data: {all}");
    for (revision, of) in [(3, &all[0]), (2, &all[1]), (1, &all[2])] {
        let is_known = of["By"].as_str().is_some_and(|by| by.starts_with("uid ")) && of["Result"].is_string();
        assert!(is_known && of["Revision"] == revision, "who asked for it and what became of it (P28): {of}");
    }
    assert_eq!(parsed(&fake, "GET /stacks", "").await[0]["Revision"], 3);

    // what Docker's clients do not know they do not take away
    let web = parsed(&fake, "GET /services/shop_web", "").await;
    let mut spec = web["Spec"].clone();
    spec.as_object_mut().expect("an object").remove("DependsOn");
    let path = format!("POST /services/shop_web/update?version={}", web["Version"]["Index"]);
    parsed(&fake, &path, &spec.to_string()).await;
    assert_eq!(parsed(&fake, "GET /services/shop_web", "").await["Spec"]["DependsOn"][0]["Service"], "shop_db");
    let gone = parsed(&fake, "DELETE /stacks/shop", "").await;
    assert_eq!(gone["Parts"].as_array().map(Vec::len), Some(4), "{gone}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn k_01_what_is_wrong_with_a_stack_is_told_with_its_place() {
    let fake = Fake::manager().await;
    for (request, body, wanted) in [
        (
            "POST /stacks/shop/deploy",
            json!({ "Services": [service("a", "x", &json!([])), { "Name": "b", "Colour": "red" }] }),
            expect![[r#"
                400 bad request
                {"message":"Services[1].TaskTemplate.ContainerSpec.Image is missing: give the image to run"}"#]],
        ),
        (
            "POST /stacks/shop/deploy",
            json!({ "Services": [service("a", "x", &json!([{ "Service": "b", "Condition": "ready" }]))] }),
            expect![[r#"
                400 bad request
                {"message":"Services[0].DependsOn[0].Condition: \"ready\" is no condition; use service_started, service_healthy or service_completed_successfully"}"#]],
        ),
        (
            "POST /stacks/shop/deploy",
            json!({ "Services": [], "Networks": {} }),
            expect![[r#"
            400 bad request
            {"message":"Networks: must be a list"}"#]],
        ),
        (
            "POST /stacks/shop/deploy",
            json!({ "Networks": [{ "Name": "n", "Driver": "bridge" }] }),
            expect![[r#"
            400 bad request
            {"message":"Networks[0].Driver: a stack has networks of the cluster: use overlay, or say Scope swarm"}"#]],
        ),
        (
            "POST /stacks/shop/deploy",
            json!({ "Services": [service("a", "x", &json!([]))], "RegistryAuth": { "b": "eyJ1c2VybmFtZSI6InUiLCJwYXNzd29yZCI6InAifQ==" } }),
            expect![[r#"
                400 bad request
                {"message":"RegistryAuth: \"b\" is no service of this stack"}"#]],
        ),
        (
            "POST /stacks/shop/deploy",
            Value::Null,
            expect![[r#"
            400 bad request
            {"message":"stack shop has no services: give one at least, or take the stack away with `stack rm shop`"}"#]],
        ),
        (
            "POST /stacks/-/deploy",
            Value::Null,
            expect![[r#"
            400 bad request
            {"message":"invalid stack name: name must be valid as a DNS name component: letters, digits, '-' and '_', beginning and ending with a letter or digit; \"-\" is not"}"#]],
        ),
        (
            "POST /stacks/shop/rollback?to=x",
            Value::Null,
            expect![[r#"
            400 bad request
            {"message":"invalid to \"x\": give the number of a revision"}"#]],
        ),
        (
            "POST /stacks/shop/rollback",
            Value::Null,
            expect![[r#"
            404 not found
            {"message":"stack shop not found"}"#]],
        ),
        (
            "GET /stacks/shop",
            Value::Null,
            expect![[r#"
            404 not found
            {"message":"stack shop not found"}"#]],
        ),
        (
            "DELETE /stacks/shop",
            Value::Null,
            expect![[r#"
            404 not found
            {"message":"stack shop not found"}"#]],
        ),
    ] {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        check(&fake, request, &body, wanted).await;
    }
}
