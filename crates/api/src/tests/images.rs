//! Images of services over HTTP: looked up or not, and credentials that are taken and never shown.

use base64::{Engine as _, engine::general_purpose::URL_SAFE};
use expect_test::expect;
use serde_json::{Value, json};

use super::{ask, check, http};
use crate::testing::Fake;

/// Nobody listens there.
const IMAGE: &str = "127.0.0.1:1/team/app:1";

fn spec(name: &str) -> String {
    json!({ "Name": name, "TaskTemplate": { "ContainerSpec": { "Image": IMAGE } } }).to_string()
}

/// The request with credentials: the rest of its line becomes a header of no meaning.
fn as_me(request: &str) -> String {
    let auth = URL_SAFE.encode(r#"{"username":"me","password":"hunter2"}"#);
    format!("{request} HTTP/1.1\r\nX-Registry-Auth: {auth}\r\nX-Rest:")
}

async fn answer(fake: &Fake, request: &str, body: &str) -> Value {
    let (head, body) = http(&fake.socket, request, body).await;
    assert!(head.starts_with("http/1.1 20"), "{request}: {head} {body}");
    serde_json::from_str(&body).unwrap_or(Value::Null)
}

/// E-04, E-08, E-10: words of requests that cannot be done.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e_08_e_10_requests_about_images_that_cannot_be() {
    let fake = Fake::alone().await;
    for (request, status, words) in [
        ("GET /images/nope/history", "404", "No such image: nope:latest"),
        ("POST /images/nope/tag?repo=x", "404", "No such image: nope:latest"),
        ("DELETE /images/nope?force=1", "404", "No such image: nope:latest"),
        ("POST /images/127.0.0.1:1/x/push?tag=1", "404", "An image does not exist locally with the tag: 127.0.0.1:1/x"),
        ("POST /images/create?fromSrc=-&platform=windows/amd64", "400", "operating system is not supported"),
        ("POST /images/create?fromSrc=127.0.0.1:1/root.tar", "500", "cannot get http://127.0.0.1:1/root.tar: "),
    ] {
        let (found, body) = ask(&fake, request, &Value::Null).await;
        assert_eq!(found, status, "{request}: {body}");
        assert!(body["message"].as_str().unwrap_or_default().contains(words), "{request}: {body}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s_20_a_registry_that_does_not_answer_is_a_warning() {
    let fake = Fake::manager().await;
    let made = answer(&fake, "POST /services/create?queryRegistry=true", &spec("web")).await;
    let warning = made["Warnings"][0].as_str().unwrap_or_default();
    assert!(warning.starts_with(&format!("image {IMAGE} could not be accessed on a registry")), "{made}");
    let made = answer(&fake, "POST /services/create", &spec("quiet")).await;
    assert_eq!(made["Warnings"], Value::Null, "nobody asked");
    let service = answer(&fake, "GET /services/web", "").await;
    assert_eq!(service["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"], IMAGE);
    let version = &service["Version"]["Index"];
    let path = format!("POST /services/web/update?version={version}&queryRegistry=1");
    assert!(answer(&fake, &path, &spec("web")).await["Warnings"][0].is_string());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s_21_credentials_are_taken_and_shown_nowhere() {
    let fake = Fake::manager().await;
    answer(&fake, &as_me("POST /services/create"), &spec("web")).await;
    for path in ["/services", "/services/web", "/tasks"] {
        let (_, body) = http(&fake.socket, &format!("GET {path}"), "").await;
        assert!(!body.contains("hunter2") && !body.to_lowercase().contains("auth"), "{path}: {body}");
    }
    let version = answer(&fake, "GET /services/web", "").await["Version"]["Index"].clone();
    let update = |more: &str| format!("POST /services/web/update?version={version}{more}");
    check(
        &fake,
        &update("&registryAuthFrom=previous-spec"),
        &spec("web"),
        expect![[r#"
            400 bad request
            {"message":"service web does not have a previous spec: leave registryAuthFrom=previous-spec out"}"#]],
    )
    .await;
    check(
        &fake,
        &update("&registryAuthFrom=thin-air"),
        &spec("web"),
        expect![[r#"
            400 bad request
            {"message":"unsupported registryAuthFrom value \"thin-air\": it is spec or previous-spec"}"#]],
    )
    .await;
    // the spec without them is the spec with those it had: nothing has changed, which clients see by both being equal
    assert_eq!(answer(&fake, "GET /services/web", "").await["PreviousSpec"], Value::Null);
    answer(&fake, &update(""), &spec("web")).await;
    let service = answer(&fake, "GET /services/web", "").await;
    assert_eq!((&service["PreviousSpec"], &service["Revision"]), (&service["Spec"], &json!(1)));
    check(
        &fake,
        "POST /services/create HTTP/1.1\r\nX-Registry-Auth: %%\r\nX-Rest:",
        &spec("bad"),
        expect![[r#"
            400 bad request
            {"message":"X-Registry-Auth: is not base64"}"#]],
    )
    .await;
}
