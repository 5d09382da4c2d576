//! Credentials of registries that expire (P17): the leader asks for new ones, and says when there are none.

use std::time::Duration;

use types::{
    CredentialHelper, Payload, ReadReply, ReadRequest, RegistryLogin, RegistryRenewal, Timestamp, WriteRequest,
};

use crate::harness::{Host, eventually, found, quick_spec};

const REGISTRY: &str = "registry.example/team";

async fn put(host: &Host, auth: &str, helper: Option<&str>, every: Duration) -> Result<(), tonic::Status> {
    let helper = helper.map(|name| name.parse::<CredentialHelper>().unwrap());
    let renewal =
        helper.map(|helper| RegistryRenewal { helper, every, renewed_at: Timestamp::EPOCH, trouble: String::new() });
    let login = RegistryLogin { username: "me".into(), auth: Payload::new(auth.as_bytes().to_vec()), renewal };
    host.client().write(WriteRequest::PutRegistry { scope: REGISTRY.parse().unwrap(), login }).await.map(drop)
}

async fn login(host: &Host) -> RegistryLogin {
    // What the cluster's own view leaves out is asked for by who pulls the image.
    let image = format!("{REGISTRY}/app:1").parse().unwrap();
    match host.client().read(ReadRequest::RegistryLogin(Box::new(image))).await {
        ReadReply::RegistryLogin(Some(login)) => login,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p17_credentials_are_renewed_until_somebody_gives_others() {
    let host = found(quick_spec()).await;
    let every = Duration::from_secs(10);
    let refused = put(&host, "old", Some("good"), Duration::from_secs(1)).await.expect_err("too often");
    assert!(refused.message().contains("give 10 s to 86400 s"), "{refused}");

    put(&host, "old", Some("good"), every).await.unwrap();
    let begun = login(&host).await.renewal.unwrap().renewed_at;
    assert!(begun > Timestamp::EPOCH, "the leader's time counts");
    let first = eventually("other credentials", || async {
        Some(login(&host).await).filter(|login| login.auth.bytes().starts_with(b"token"))
    })
    .await;
    assert_eq!(first.username, "good");
    assert!(first.renewal.as_ref().unwrap().renewed_at > begun);
    eventually("again", || async { (login(&host).await.auth != first.auth).then_some(()) }).await;

    put(&host, "old", Some("broken"), every).await.unwrap();
    let told = eventually("why there are none", || async {
        Some(login(&host).await).filter(|login| !login.renewal.as_ref().unwrap().trouble.is_empty())
    })
    .await;
    assert_eq!(told.renewal.unwrap().trouble, format!("no token for {REGISTRY}"));
    assert_eq!(told.auth.bytes(), b"old", "what there was may still be good");

    put(&host, "own", None, every).await.unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(login(&host).await.auth.bytes(), b"own");
    host.manager.unwrap().shutdown().await;
}
