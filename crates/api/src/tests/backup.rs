//! Backups and what is done with them, as far as it needs no manager: who may ask, and what is refused (parity C-42).

use base64::{Engine as _, engine::general_purpose::URL_SAFE};
use identity::seal_backup;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
};

use super::http;
use crate::testing::Fake;

const PASSPHRASE: &str = "correct horse";

async fn status_and_reason(fake: &Fake, request: &str, body: &Value) -> (String, String) {
    let (head, body) = http(&fake.socket, request, &body.to_string()).await;
    (head.split(' ').nth(1).unwrap_or_default().to_owned(), body)
}

/// `POST /swarm/restore` with a header and bytes.
async fn restore(fake: &Fake, header: &str, body: &[u8]) -> String {
    let mut stream = UnixStream::connect(&fake.socket).await.expect("the API");
    let head = format!(
        "POST /swarm/restore HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Swarm-Restore: {header}\r\nContent-Length: \
         {}\r\n\r\n",
        body.len()
    );
    stream.write_all(&[head.as_bytes(), body].concat()).await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    answer
}

fn header(value: &Value) -> String {
    URL_SAFE.encode(value.to_string())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c_42_a_backup_is_a_managers_and_needs_a_passphrase() {
    let alone = Fake::alone().await;
    let good = json!({ "Passphrase": PASSPHRASE });
    assert_eq!(status_and_reason(&alone, "POST /swarm/backup", &good).await.0, "503", "in no cluster");
    let manager = Fake::manager().await;
    for (body, why) in [
        (json!({}), "Passphrase"),
        (json!({ "Passphrase": "" }), "Passphrase"),
        (json!({ "Passphrase": 7 }), "must be a text"),
        (json!({ "Passphrase": PASSPHRASE, "Other": 1 }), "Other"),
    ] {
        let (status, said) = status_and_reason(&manager, "POST /swarm/backup", &body).await;
        assert!(status == "400" && said.contains(why), "{status} {said}");
        assert!(!said.contains(PASSPHRASE), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c_42_what_is_no_backup_never_reaches_the_daemon() {
    let fake = Fake::alone().await;
    let sealed = seal_backup(b"{}", b"a value".to_vec(), PASSPHRASE).expect("sealed");
    let good = json!({ "Passphrase": PASSPHRASE });
    for (header, body, why) in [
        (String::new(), &sealed[..], "X-Swarm-Restore"),
        ("!".to_owned(), &sealed, "is not base64"),
        (URL_SAFE.encode("hello"), &sealed, "is not JSON in base64"),
        (header(&json!({ "Passphrase": PASSPHRASE, "Availability": "lazy" })), &sealed, "Availability"),
        (header(&good), b"hello", "no backup of rswarm"),
        (header(&good), &sealed[..sealed.len() - 1], "damaged or was cut off"),
        (header(&json!({ "Passphrase": "another horse" })), &sealed, "not the passphrase"),
    ] {
        let answer = restore(&fake, &header, body).await;
        assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains(why), "{why}: {answer}");
        assert!(!answer.contains(PASSPHRASE), "{answer}");
    }
    let member = Fake::manager().await;
    let answer = restore(&member, &header(&good), &sealed).await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("already part of a swarm"), "{answer}");
    let (status, said) = status_and_reason(&member, "POST /swarm/managers", &json!({ "RemoteAddrs": [] })).await;
    assert!(status == "400" && said.contains("RemoteAddrs"), "{said}");
}
