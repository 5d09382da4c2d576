//! The unlock key, and what a locked manager answers (parity C-14).

use node::membership::{LOCKED, LocalState, Status};
use serde_json::{Value, json};

use super::{ask, http};
use crate::testing::Fake;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c_14_the_key_is_shown_while_managers_are_locked_and_changes_when_it_is_rotated() {
    let fake = Fake::manager().await;
    let key = async || ask(&fake, "GET /swarm/unlockkey", &Value::Null).await.1["UnlockKey"].clone();
    let update = async |lock: bool, more: &str| {
        let (_, swarm) = ask(&fake, "GET /swarm", &Value::Null).await;
        let request = format!("POST /swarm/update?version={}{more}", swarm["Version"]["Index"]);
        let mut spec = swarm["Spec"].clone();
        spec["EncryptionConfig"]["AutoLockManagers"] = json!(lock);
        let (status, said) = ask(&fake, &request, &spec).await;
        assert_eq!(status, "200", "{said}");
    };
    assert_eq!(key().await, "");
    update(true, "").await;
    let first = key().await;
    assert!(first.as_str().is_some_and(|text| text.starts_with("SWMKEY-1-") && text.len() == 52), "{first}");
    let (_, swarm) = ask(&fake, "GET /swarm", &Value::Null).await;
    assert_eq!(swarm["Spec"]["EncryptionConfig"]["AutoLockManagers"], true);
    assert!(!swarm.to_string().contains("SWMKEY"), "only /swarm/unlockkey shows it");
    update(true, "&rotateManagerUnlockKey=true").await;
    assert!(key().await != first);
    update(false, "").await;
    assert_eq!(key().await, "");

    let (status, said) = ask(&fake, "POST /swarm/unlock", &json!({ "UnlockKey": "x" })).await;
    assert_eq!((status.as_str(), &said["message"]), ("409", &json!("swarm is not locked")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c_14_a_locked_manager_says_what_to_do() {
    let fake = Fake::alone().await;
    let (status, _) = ask(&fake, "POST /swarm/unlock", &json!({ "UnlockKey": "x" })).await;
    assert_eq!(status, "503", "this host is in no cluster");
    let locked = Status { local_state: LocalState::Locked, error: LOCKED.to_owned(), ..Status::default() };
    fake.status.send_replace(locked);
    for request in ["GET /swarm", "GET /services", "GET /nodes", "GET /swarm/unlockkey", "GET /tasks"] {
        let (status, said) = ask(&fake, request, &Value::Null).await;
        assert_eq!((status.as_str(), &said["message"]), ("503", &json!(LOCKED)), "{request}");
    }
    let (status, said) = ask(&fake, "POST /swarm/init", &json!({})).await;
    assert!(status == "503" && said["message"].as_str().is_some_and(|text| text.contains("already part")), "{said}");
    let (status, said) = ask(&fake, "POST /swarm/unlock", &json!({ "UnlockKey": "SWMKEY-1-x" })).await;
    assert!(
        status == "400" && said["message"].as_str().is_some_and(|text| text.contains("invalid key string")),
        "{said}"
    );
    let (_, info) = ask(&fake, "GET /info", &Value::Null).await;
    assert_eq!(
        (&info["Swarm"]["LocalNodeState"], &info["Swarm"]["ControlAvailable"]),
        (&json!("locked"), &json!(false))
    );
    let (head, _) = http(&fake.socket, "GET /_ping", "").await;
    assert!(head.contains("swarm: locked"), "{head}");
}
