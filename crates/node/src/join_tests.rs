//! Every step that can fail, with a real socket where one is needed.

use std::time::Duration;

use identity::{CertificateAuthority, NodeIdentity, Subject};
use tokio::net::TcpListener;
use types::{ClusterId, NodeId};

use super::*;

const YEAR: Duration = Duration::from_secs(365 * 86_400);

fn token(authority: &CertificateAuthority) -> String {
    JoinToken { ca_digest: authority.digest(), secret: [7; 16] }.to_string()
}

fn request(token: String, address: String) -> Request {
    Request { token, remote_addrs: vec![address], availability: Availability::Active }
}

async fn error_of(token: String, address: String) -> String {
    let began = std::time::Instant::now();
    let error = join(&request(token, address)).await.expect_err("must fail").to_string();
    assert!(began.elapsed() < Duration::from_secs(10), "{error}");
    error
}

fn authority() -> CertificateAuthority {
    CertificateAuthority::generate(now()).expect("an authority")
}

/// A TLS server of a manager whose certificate is valid from `issued` on.
async fn server(authority: &CertificateAuthority, issued: Timestamp) -> String {
    let key = KeyPair::generate().expect("a key");
    let subject = Subject { node: NodeId::from_random(1), role: NodeRole::Manager, cluster: ClusterId::from_random(2) };
    let chain = authority.sign(key.csr_pem(), &subject, issued, Duration::from_secs(7200)).expect("signed");
    let identity = NodeIdentity::from_pem(key.pem(), &chain).expect("an identity");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("its address").to_string();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            // Held open for a moment: a manager that accepts and then says nothing.
            if let Ok(accepted) = identity.accept(tcp).await {
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_secs(20)).await;
                    drop(accepted);
                });
            }
        }
    });
    address
}

#[tokio::test]
async fn the_token_is_checked_before_anything_is_dialled() {
    let error = error_of("SWMTKN-1-x".into(), "127.0.0.1:1".into()).await;
    assert!(error.starts_with("not a join token"), "{error}");
    let nowhere = Request { token: token(&authority()), remote_addrs: vec![], availability: Availability::Active };
    assert!(matches!(join(&nowhere).await, Err(JoinError::NoAddress)));
}

#[tokio::test]
async fn a_closed_port_is_told_from_one_without_tls() {
    let token = token(&authority());
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("its address").to_string();
    let server = tokio::spawn(async move {
        while let Ok((mut tcp, _)) = listener.accept().await {
            // May fail when the client has gone; that is what it does.
            let _ = tokio::io::AsyncWriteExt::write_all(&mut tcp, b"SSH-2.0-hello\r\n").await;
        }
    });
    let error = error_of(token.clone(), address.clone()).await;
    assert!(error.contains(&address) && error.contains("does not speak TLS"), "{error}");
    server.abort();
    let _ = server.await;
    let error = error_of(token, address.clone()).await;
    assert!(error.starts_with(&format!("connect to {address}: refused")), "{error}");
}

#[tokio::test]
async fn a_manager_of_another_cluster_is_recognised() {
    let (here, there) = (authority(), authority());
    let address = server(&there, now()).await;
    let error = error_of(token(&here), address.clone()).await;
    assert!(error.contains(&address) && error.contains("this token belongs to another cluster"), "{error}");
}

#[tokio::test]
async fn differing_clocks_are_told_with_both_times() {
    let long_ago = Timestamp::from_unix_ns(now().as_unix_ns() - u64::try_from(YEAR.as_nanos()).expect("fits"));
    let authority = CertificateAuthority::generate(long_ago).expect("an authority");
    let address = server(&authority, long_ago).await;
    let error = error_of(token(&authority), address.clone()).await;
    assert!(error.contains("the clocks differ") && error.matches(" UTC").count() == 2, "{error}");
}

#[test]
fn statuses_become_steps() {
    let of = |status: Status| of_status("a:1", &status).to_string();
    assert!(of(Status::permission_denied("x")).contains("may have been rotated"));
    assert!(of(Status::unavailable("no leader")).contains("has no leader"));
    assert!(of(Status::internal("disk full")).contains("disk full"));
}

#[test]
fn the_usual_port_is_added() {
    assert_eq!(with_port("192.0.2.1"), "192.0.2.1:2377");
    assert_eq!(with_port("host:99"), "host:99");
    assert_eq!(with_port("fd00::1"), "[fd00::1]:2377");
    assert_eq!(with_port("[fd00::1]:99"), "[fd00::1]:99");
}

#[test]
fn times_are_written_as_people_read_them() {
    assert_eq!(utc(Timestamp::from_unix_ms(0)), "1970-01-01 00:00:00 UTC");
    assert_eq!(utc(Timestamp::from_unix_ms(1_709_210_096_000)), "2024-02-29 12:34:56 UTC");
}
