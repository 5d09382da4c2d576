//! Secrets and configs over HTTP: status codes and words as Docker's clients know them.

use expect_test::expect;
use serde_json::{Value, json};

use super::{check, http};
use crate::testing::Fake;

async fn parsed(fake: &Fake, request: &str, body: &str) -> Value {
    let (head, body) = http(&fake.socket, request, body).await;
    assert!(head.starts_with("http/1.1 20"), "{request}: {head} {body}");
    serde_json::from_str(&body).unwrap_or(Value::Null)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x01_x05_life_of_secrets_and_configs() {
    let fake = Fake::manager().await;
    let made =
        parsed(&fake, "POST /secrets/create", r#"{"Name":"pw","Labels":{"tier":"db"},"Data":"aHVudGVyMg=="}"#).await;
    let id = made["ID"].as_str().expect("an id").to_owned();
    parsed(&fake, "POST /configs/create", r#"{"Name":"conf","Data":"YQ=="}"#).await;

    let secret = parsed(&fake, "GET /secrets/pw", "").await;
    assert_eq!(secret["Spec"], json!({ "Name": "pw", "Labels": { "tier": "db" } }), "no data");
    assert_eq!(
        (&secret["ID"], parsed(&fake, &format!("GET /secrets/{}", &id[..12]), "").await),
        (&json!(id), secret.clone())
    );
    assert_eq!(parsed(&fake, "GET /configs/conf", "").await["Spec"]["Data"], "YQ==");
    let (_, list) = http(&fake.socket, "GET /secrets", "").await;
    assert!(list.contains("pw") && !list.contains("aHVudGVyMg"), "{list}");
    let filtered = |filter: &str| {
        let escaped = filter.replace('{', "%7B").replace('}', "%7D").replace('"', "%22");
        format!("GET /secrets?filters={escaped}")
    };
    for (filter, count) in [
        ("{\"name\":[\"p\"]}", 1),
        ("{\"names\":[\"p\"]}", 0),
        ("{\"label\":[\"tier=db\"]}", 1),
        ("{\"id\":[\"x\"]}", 0),
    ] {
        let all = parsed(&fake, &filtered(filter), "").await;
        assert_eq!(all.as_array().map(Vec::len), Some(count), "{filter}");
    }

    check(
        &fake,
        "POST /secrets/create",
        r#"{"Name":"pw","Data":"YQ=="}"#,
        expect![[r#"
        409 conflict
        {"message":"name conflicts with an existing object: secret pw already exists"}"#]],
    )
    .await;
    check(
        &fake,
        "POST /secrets/create",
        r#"{"Name":"empty"}"#,
        expect![[r#"
        400 bad request
        {"message":"secret data must be larger than 0 and less than 512000 bytes: secret empty has 0"}"#]],
    )
    .await;
    check(
        &fake,
        "GET /secrets/conf",
        "",
        expect![[r#"
        404 not found
        {"message":"secret conf not found"}"#]],
    )
    .await;
    check(
        &fake,
        &filtered("{\"colour\":[\"red\"]}"),
        "",
        expect![[r#"
        400 bad request
        {"message":"invalid filter 'colour' for secrets: known are id, name, names, label"}"#]],
    )
    .await;
    check(
        &fake,
        "POST /secrets/pw/update?version=1",
        r#"{"Name":"pw"}"#,
        expect![[r#"
        409 conflict
        {"message":"update out of sequence: secret pw has changed since it was read; read it again and repeat"}"#]],
    )
    .await;

    let version = &secret["Version"]["Index"];
    parsed(&fake, &format!("POST /secrets/pw/update?version={version}"), r#"{"Name":"pw","Labels":{"tier":"web"}}"#)
        .await;
    let service = r#"{"Name":"web","TaskTemplate":{"ContainerSpec":{"Image":"a",
        "Secrets":[{"SecretName":"pw","File":{"Name":"pw","UID":"0","GID":"0","Mode":292}}],"Configs":[{"ConfigName":"conf","File":{}}]}}}"#;
    parsed(&fake, "POST /services/create", service).await;
    let shown = parsed(&fake, "GET /services/web", "").await;
    assert_eq!(shown.pointer("/Spec/TaskTemplate/ContainerSpec/Secrets/0/SecretID"), Some(&json!(id)));
    check(&fake, "DELETE /secrets/pw", "", expect![[r#"
        400 bad request
        {"message":"secret 'pw' is in use by the following service: web; take it from them with `service update --secret-rm pw`, or remove them, first"}"#]]).await;

    // other data: a new version under the name, which the service has at once
    let version = &parsed(&fake, "GET /secrets/pw", "").await["Version"]["Index"];
    parsed(&fake, &format!("POST /secrets/pw/update?version={version}"), r#"{"Name":"pw","Data":"Yg=="}"#).await;
    let next = parsed(&fake, "GET /secrets/pw", "").await;
    assert_ne!(next["ID"], json!(id));
    let shown = parsed(&fake, "GET /services/web", "").await;
    assert_eq!(shown.pointer("/Spec/TaskTemplate/ContainerSpec/Secrets/0/SecretID"), Some(&next["ID"]));
    assert_eq!(parsed(&fake, "GET /secrets", "").await.as_array().map(Vec::len), Some(1));

    parsed(&fake, "DELETE /services/web", "").await;
    check(
        &fake,
        "DELETE /secrets/pw",
        "",
        expect![[r#"
        204 no content
    "#]],
    )
    .await;
    check(
        &fake,
        "DELETE /secrets/pw",
        "",
        expect![[r#"
        404 not found
        {"message":"secret pw not found"}"#]],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x01_unknown_secrets_are_named() {
    let fake = Fake::manager().await;
    let service = r#"{"Name":"web","TaskTemplate":{"ContainerSpec":{"Image":"a","Secrets":[{"SecretName":"nope","File":{"Name":"nope"}}]}}}"#;
    check(
        &fake,
        "POST /services/create",
        service,
        expect![[r#"
        400 bad request
        {"message":"secret not found: nope; create them first, service web asks for them"}"#]],
    )
    .await;
    let alone = Fake::alone().await;
    let (head, body) = http(&alone.socket, "GET /secrets", "").await;
    assert!(head.starts_with("http/1.1 503"), "{head} {body}");
}
