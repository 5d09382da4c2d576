//! Handshakes over real sockets: who is let in, who is not (parity C-10, C-16; P55).
#![allow(clippy::unwrap_used)]

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use identity::{CertificateAuthority, KeyPair, NodeIdentity, Subject, Vault, connect_pinned};
use tokio::net::TcpListener;
use types::{ClusterId, NodeId, NodeRole, Timestamp};

const DAY: Duration = Duration::from_secs(86_400);

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Timestamp::from_unix_ns(u64::try_from(since.as_nanos()).unwrap())
}

fn node(ca: &CertificateAuthority, number: u128, role: NodeRole, at: Timestamp) -> NodeIdentity {
    let key = KeyPair::generate().unwrap();
    let subject = Subject { node: NodeId::from_random(number), role, cluster: ClusterId::from_random(9) };
    let chain = ca.sign(key.csr_pem(), &subject, at, DAY).unwrap();
    NodeIdentity::from_pem(key.pem(), &chain).unwrap()
}

/// Lets `server` accept once; gives its address and what it saw.
async fn serve(server: NodeIdentity) -> (String, tokio::task::JoinHandle<std::io::Result<Option<Subject>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let seen = tokio::spawn(async move {
        let (tcp, _) = listener.accept().await?;
        server.accept(tcp).await.map(|accepted| accepted.peer)
    });
    (address, seen)
}

#[tokio::test]
async fn c_16_both_sides_learn_who_the_other_is() {
    let ca = CertificateAuthority::generate(now()).unwrap();
    let manager = node(&ca, 1, NodeRole::Manager, now());
    let worker = node(&ca, 2, NodeRole::Worker, now());
    let (address, seen) = serve(manager).await;
    let _stream = worker.clone().connect(address).await.unwrap();
    assert_eq!(seen.await.unwrap().unwrap(), Some(worker.subject()));
}

/// C-03: what others call a manager may lead to it from elsewhere alone.
#[tokio::test]
async fn c_03_a_manager_reaches_itself_where_it_listens() {
    let ca = CertificateAuthority::generate(now()).unwrap();
    let manager = node(&ca, 1, NodeRole::Manager, now());
    let called = "198.51.100.7:2377";
    let (address, seen) = serve(manager.clone()).await;
    manager.set_listener(called, address.parse().unwrap());
    let _stream = manager.clone().connect(called.to_owned()).await.unwrap();
    assert_eq!(seen.await.unwrap().unwrap(), Some(manager.subject()));

    manager.set_listener(called, "0.0.0.0:9".parse().unwrap());
    assert_eq!(manager.own_listener(called), Some("127.0.0.1:9".parse().unwrap()));
    assert_eq!(manager.own_listener("198.51.100.8:2377"), None);

    // its own has stopped: whoever has the address now is dialled
    let (address, seen) = serve(manager.clone()).await;
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    manager.set_listener(&address, nobody);
    let _stream = manager.clone().connect(address).await.unwrap();
    assert_eq!(seen.await.unwrap().unwrap(), Some(manager.subject()));
}

#[tokio::test]
async fn c_20_a_worker_may_not_serve_and_strangers_are_refused() {
    let ca = CertificateAuthority::generate(now()).unwrap();
    let worker = node(&ca, 2, NodeRole::Worker, now());
    let (address, _seen) = serve(worker.clone()).await;
    let error = worker.clone().connect(address).await.expect_err("a worker's certificate must not serve");
    assert!(
        error.to_string().contains("NotValidForName") || error.to_string().contains("not valid for name"),
        "{error}"
    );

    let stranger = node(&CertificateAuthority::generate(now()).unwrap(), 3, NodeRole::Manager, now());
    let (address, _seen) = serve(stranger).await;
    let error = worker.connect(address).await.expect_err("another cluster's manager must be refused");
    assert!(error.to_string().contains("invalid peer certificate"), "{error}");
}

#[tokio::test]
async fn c_16_nodes_dial_each_other_by_their_ids() {
    let ca = CertificateAuthority::generate(now()).unwrap();
    let (worker, manager) = (node(&ca, 2, NodeRole::Worker, now()), node(&ca, 1, NodeRole::Manager, now()));
    for server in [&worker, &manager] {
        let (address, seen) = serve(server.clone()).await;
        worker.clone().connect_node(address, server.node()).await.unwrap();
        assert_eq!(seen.await.unwrap().unwrap(), Some(worker.subject()));
    }
    let (address, _seen) = serve(worker.clone()).await;
    let error = manager.clone().connect_node(address, manager.node()).await.expect_err("another node is there");
    assert!(error.to_string().contains("answers at"), "{error}");

    let stranger = node(&CertificateAuthority::generate(now()).unwrap(), 2, NodeRole::Worker, now());
    let (address, _seen) = serve(stranger).await;
    let error = manager.connect_node(address, worker.node()).await.expect_err("of another cluster");
    assert!(error.to_string().contains("invalid peer certificate"), "{error}");
}

#[tokio::test]
async fn a_stranger_as_client_gets_nothing() {
    let ca = CertificateAuthority::generate(now()).unwrap();
    let stranger = node(&CertificateAuthority::generate(now()).unwrap(), 3, NodeRole::Manager, now());
    let (address, seen) = serve(node(&ca, 1, NodeRole::Manager, now())).await;
    assert!(stranger.connect(address).await.is_err());
    assert!(seen.await.unwrap().is_err());
}

#[tokio::test]
async fn joining_pins_the_root_by_digest() {
    let ca = CertificateAuthority::generate(now()).unwrap();
    let manager = node(&ca, 1, NodeRole::Manager, now());
    let (address, seen) = serve(manager.clone()).await;
    connect_pinned(address, ca.digest()).await.unwrap();
    assert_eq!(seen.await.unwrap().unwrap(), None);

    let (address, _seen) = serve(manager).await;
    let error = connect_pinned(address, [0; 32]).await.expect_err("another digest must be refused");
    assert!(error.to_string().contains("UnknownIssuer"), "{error}");
}

#[tokio::test]
async fn expired_certificates_are_refused() {
    let ca = CertificateAuthority::generate(now()).unwrap();
    let long_ago = Timestamp::from_unix_ns(now().as_unix_ns() - 3 * DAY.as_nanos() as u64);
    let (address, _seen) = serve(node(&ca, 1, NodeRole::Manager, long_ago)).await;
    let error = node(&ca, 2, NodeRole::Worker, now()).connect(address).await.expect_err("expired");
    assert!(error.to_string().contains("xpired"), "{error}");
}

#[test]
fn saved_identities_load_again_with_private_modes() {
    use std::os::unix::fs::PermissionsExt;
    let ca = CertificateAuthority::generate(now()).unwrap();
    let manager = node(&ca, 1, NodeRole::Manager, now());
    let directory = tempfile::tempdir().unwrap();
    let inner = directory.path().join("certificates");
    let vault = Vault::open(&inner, &[NodeIdentity::FILE]).unwrap();
    assert!(NodeIdentity::load(&vault).unwrap().is_none());
    manager.save(&vault).unwrap();
    let loaded = NodeIdentity::load(&vault).unwrap().unwrap();
    assert_eq!((loaded.subject(), loaded.root_pem()), (manager.subject(), ca.certificate_pem().to_owned()));
    let mode = std::fs::metadata(inner.join("node.pem")).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);

    std::fs::write(inner.join("node.pem"), "rubbish").unwrap();
    assert!(NodeIdentity::load(&vault).expect_err("damaged").to_string().contains("PEM"));
}

#[test]
fn c_17_renewal_falls_between_half_and_four_fifths_of_the_validity() {
    let ca = CertificateAuthority::generate(now()).unwrap();
    let identity = node(&ca, 1, NodeRole::Worker, now());
    let begin = identity.expires_at().as_unix_ns() - (DAY + Duration::from_secs(3600)).as_nanos() as u64;
    for random in [0, 7, 300, 301, u64::MAX] {
        let share = (identity.renew_at(random).as_unix_ns() - begin) as f64
            / (identity.expires_at().as_unix_ns() - begin) as f64;
        assert!((0.499..=0.801).contains(&share), "{share}");
    }
}
