//! A root takes another's place while nodes go on speaking with each other (parity C-18).
#![allow(clippy::unwrap_used)]

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use identity::{CertificateAuthority, KeyPair, NodeIdentity, Subject, Vault, connect_pinned, next_root, trust_digest};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa};
use tokio::net::TcpListener;
use types::{ClusterId, NodeId, NodeRole, RootCa, RootRotation, Timestamp};

const DAY: Duration = Duration::from_secs(86_400);

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Timestamp::from_unix_ns(u64::try_from(since.as_nanos()).unwrap())
}

fn root() -> RootCa {
    let made = CertificateAuthority::generate(now()).unwrap();
    RootCa::new(made.certificate_pem(), made.key_pem())
}

fn node(root: &RootCa, number: u128) -> NodeIdentity {
    let key = KeyPair::generate().unwrap();
    let subject =
        Subject { node: NodeId::from_random(number), role: NodeRole::Manager, cluster: ClusterId::from_random(9) };
    let chain = CertificateAuthority::of_cluster(root).unwrap().sign(key.csr_pem(), &subject, now(), DAY).unwrap();
    NodeIdentity::from_pem(key.pem(), &chain).unwrap()
}

fn rotating(root: &RootCa) -> RootCa {
    let next = next_root(root, None, now()).unwrap();
    RootCa { rotation: Some(Box::new(next)), ..root.clone() }
}

fn finished(root: &RootCa) -> RootCa {
    let next = root.rotation.clone().unwrap();
    RootCa::new(next.certificate_pem, next.key_pem)
}

/// Whether `client` gets through to `server`, both showing who they are.
async fn speak(client: &NodeIdentity, server: &NodeIdentity) -> bool {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = server.clone();
    let seen = tokio::spawn(async move {
        let (tcp, _) = listener.accept().await.unwrap();
        server.accept(tcp).await.is_ok_and(|accepted| accepted.peer.is_some())
    });
    let reached = client.clone().connect(address).await.is_ok();
    seen.await.unwrap() && reached
}

/// Whether somebody with a token of this root may talk to `server`.
async fn joins(pinned: &RootCa, server: &NodeIdentity) -> bool {
    let digest = CertificateAuthority::of_cluster(pinned).unwrap().digest();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = server.clone();
    let seen = tokio::spawn(async move {
        let (tcp, _) = listener.accept().await.unwrap();
        server.accept(tcp).await.is_ok()
    });
    let reached = connect_pinned(address, digest).await.is_ok();
    seen.await.unwrap() && reached
}

#[tokio::test]
async fn c_18_nodes_before_in_and_after_a_rotation_speak_with_each_other() {
    let before = root();
    let during = rotating(&before);
    let after = finished(&during);
    let (old, middle, new) = (node(&before, 1), node(&during, 2), node(&after, 3));
    for (client, server) in [(&old, &middle), (&middle, &old), (&middle, &new), (&new, &middle)] {
        assert!(speak(client, server).await, "{client:?} to {server:?}");
    }
    // the old root is out of trust, and who trusts it alone is out
    assert!(!speak(&old, &new).await && !speak(&new, &old).await);
    // tokens pin the old root until the new one has taken its place, and managers late with that take both
    assert!(joins(&before, &old).await && joins(&before, &middle).await && joins(&during, &middle).await);
    assert!(joins(&after, &middle).await && joins(&after, &new).await);
    assert!(!joins(&before, &new).await);
}

#[tokio::test]
async fn c_18_another_target_and_the_way_back_keep_all_in_touch() {
    let before = root();
    let (first, second) = (rotating(&before), rotating(&before));
    let nodes = [node(&before, 1), node(&first, 2), node(&second, 3)];
    for client in &nodes {
        for server in &nodes {
            assert!(speak(client, server).await, "{client:?} to {server:?}");
        }
    }
}

#[test]
fn c_18_a_node_knows_which_roots_it_trusts_and_keeps_them() {
    let directory = tempfile::tempdir().unwrap();
    let vault = Vault::open(directory.path(), &[NodeIdentity::FILE]).unwrap();
    let before = root();
    let during = rotating(&before);
    for root in [&before, &during, &finished(&during)] {
        let identity = node(root, 1);
        identity.save(&vault).unwrap();
        let kept = NodeIdentity::load(&vault).unwrap().unwrap();
        assert_eq!((kept.roots_pem(), kept.root_pem()), (root.roots_pem(), root.issuer_pem().to_owned()));
        assert_eq!(kept.trust_digest(), trust_digest(&root.roots_pem()));
    }
}

fn made(change: impl FnOnce(&mut CertificateParams)) -> (String, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::OrganizationName, "Example Ltd");
    params.distinguished_name.push(DnType::CommonName, "a root of ours");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    change(&mut params);
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

fn refused(present: &RootCa, certificate: &str, key: &str) -> String {
    next_root(present, Some((certificate, key)), now()).unwrap_err().to_string()
}

#[test]
fn c_18_a_root_that_cannot_take_over_is_refused_in_words() {
    let present = root();
    let (certificate, key) = made(|_| {});
    let (other, other_key) = made(|_| {});
    let short = made(|params| params.not_after = time::OffsetDateTime::now_utc() + 300 * DAY);
    let leaf = made(|params| params.is_ca = IsCa::NoCa);
    let same_key = {
        let key = rcgen::KeyPair::from_pem(&present.key_pem).unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.self_signed(&key).unwrap().pem()
    };
    let foreign = {
        let issuer = rcgen::Issuer::from_ca_cert_pem(&other, rcgen::KeyPair::from_pem(&other_key).unwrap()).unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.signed_by(&rcgen::KeyPair::from_pem(&key).unwrap(), &issuer).unwrap().pem()
    };
    for (certificate, key, why) in [
        ("hello", key.as_str(), "not one in PEM format"),
        (&certificate, "hello", "openssl pkcs8 -topk8"),
        (&certificate, &other_key, "does not belong to the certificate"),
        (&format!("{certificate}{other}"), &key, "cannot contain multiple certificates"),
        (&short.0, &short.1, "CA certificate expires too soon"),
        (&leaf.0, &leaf.1, "not one of an authority"),
        (&foreign, &key, "is signed by another one"),
        (&same_key, &present.key_pem, "identical key"),
        (&present.certificate_pem, &key, "does not belong to the certificate"),
    ] {
        let said = refused(&present, certificate, key);
        assert!(said.contains(why), "{why}: {said}");
        assert!(!said.contains("PRIVATE"), "{said}");
    }
}

#[tokio::test]
async fn c_18_a_given_root_with_another_name_takes_over() {
    let present = root();
    let (certificate, key) = made(|_| {});
    // as files come: text around it, other line ends
    let given = format!("my root\r\n{}", certificate.replace('\n', "\r\n"));
    let next = next_root(&present, Some((&given, &key)), now()).unwrap();
    assert_eq!(next.certificate_pem, certificate);
    let during = RootCa { rotation: Some(Box::new(next)), ..present.clone() };
    let (old, middle, new) = (node(&present, 1), node(&during, 2), node(&finished(&during), 3));
    assert!(speak(&old, &middle).await && speak(&middle, &old).await && speak(&middle, &new).await);
    // the present root asked for again: nothing to sign, and the value knows it by its text
    let RootRotation { certificate_pem, .. } =
        next_root(&during, Some((&present.certificate_pem, &present.key_pem)), now()).unwrap();
    assert_eq!(certificate_pem, present.certificate_pem);
}
