//! Registries whose certificates are of no public authority: insecure ones, and those with a directory of certificates.
//! All listen on loopback; 0.0.0.0 leads there too and is no loopback address.
#![allow(clippy::print_stderr, reason = "a test that cannot run here says so")]

mod support;

use std::{fs, net::TcpListener, path::Path};

use image::{
    CertificateDirectories, Credentials, Error, ImageReference, Progress, PullOptions, PushOptions, Result,
    busybox_archive, check_login, resolve_digest,
};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, date_time_ymd};
use support::{
    TestStore,
    keeper::{Own, keeper},
    server::{CAME_WITH_TLS, CAME_WITHOUT_TLS, Reply, Server},
};

/// `me` and `pw`.
const HEADER: &str = "Basic bWU6cHc=";

const EMPTY_INDEX: &[u8] =
    br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;

struct Case {
    reference: ImageReference,
    server: String,
    options: PushOptions,
}

impl Case {
    fn new(server: String, insecure: &[&str], certificates: &Path) -> Self {
        let options = PushOptions {
            credentials: Some(Credentials::Basic { username: "me".into(), password: "pw".into() }),
            insecure_registries: insecure.iter().map(|item| (*item).to_owned()).collect(),
            certificates: CertificateDirectories(vec![certificates.to_owned()]),
        };
        let reference = format!("{server}/team/app:1").parse().expect("good");
        Self { reference, server, options }
    }

    fn pulling(&self) -> PullOptions {
        let PushOptions { credentials, insecure_registries, certificates } = self.options.clone();
        PullOptions { credentials, insecure_registries, certificates, ..PullOptions::default() }
    }

    async fn log_in(&self) -> Result<()> {
        check_login(&self.server, &self.options).await
    }

    /// Logs in, pushes, asks for the digest, pulls by the tag and all tags: what a registry is used for.
    async fn use_it(&self) -> Result<()> {
        self.log_in().await?;
        let (here, there) = (TestStore::new("tls-here").await, TestStore::new("tls-there").await);
        let archive = busybox_archive("box").expect("busybox");
        here.store.load(std::io::Cursor::new(archive), Progress::none()).await?;
        here.store.tag("box", &self.reference).await?;
        let pushed = here.store.push(&self.reference, &self.options, Progress::none()).await?;
        let options = self.pulling();
        assert_eq!(resolve_digest(&self.reference, &options).await?.digest, pushed.digest);
        assert_eq!(there.store.pull(&self.reference, &options, Progress::none()).await?.digest, pushed.digest);
        let all = there.store.pull_all(&self.reference, &options, Progress::none()).await?;
        assert_eq!(all, std::slice::from_ref(&self.reference));
        Ok(())
    }
}

/// Uses of [`Case::use_it`] that each find out anew how the registry speaks: login, push, digest, pull, tags, and the pull
/// of the one tag.
const OPERATIONS: usize = 6;

fn as_servers(_: &mut CertificateParams) {}

fn as_openssl(params: &mut CertificateParams) {
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
}

#[tokio::test]
async fn e_50_an_insecure_registry_with_tls_may_show_any_certificate() {
    let own = Own::new("elsewhere.test", |_| {});
    let registry = Server::start_tls(own.server(None), keeper(Some(HEADER)));
    let nowhere = Path::new("/nowhere");
    Case::new(registry.address.to_string(), &[], nowhere).use_it().await.expect("loopback is insecure");
    let listed = format!("0.0.0.0:{}", registry.address.port());
    Case::new(listed.clone(), &[&listed], nowhere).use_it().await.expect("it is listed");
    Case::new(listed, &["0.0.0.0/8"], nowhere).use_it().await.expect("its network is listed");
    assert_eq!(registry.count(CAME_WITHOUT_TLS), 0, "who has TLS gets nothing in plain text");
}

#[tokio::test]
async fn e_50_without_tls_an_insecure_registry_is_asked_once_whether_it_has_any() {
    let registry = Server::start(keeper(Some(HEADER)));
    let case = Case::new(registry.address.to_string(), &[], Path::new("/nowhere"));
    case.use_it().await.expect("it has no TLS");
    assert_eq!(registry.count(CAME_WITH_TLS), OPERATIONS, "not again for each blob");
}

#[tokio::test]
async fn e_50_credentials_go_without_tls_to_insecure_registries_only() {
    let registry = Server::start(keeper(None));
    let secure = Case::new(format!("0.0.0.0:{}", registry.address.port()), &["10.0.0.0/8"], Path::new("/nowhere"));
    let error = secure.use_it().await.expect_err("it has no TLS");
    assert!(matches!(error, Error::RegistryUnreachable { .. }), "{error}");
    assert_eq!(registry.count("/v2/"), 0, "no request in plain text");

    // a mirror is taken as it is written, but the password of Docker Hub is not for it
    let mirror = Server::start(|_| Reply::ok(EMPTY_INDEX));
    for (host, is_told) in [("0.0.0.0", false), ("127.0.0.1", true)] {
        mirror.requests.lock().expect("no panic").clear();
        let credentials = Some(Credentials::RegistryToken("T".into()));
        let mirrors = vec![format!("http://{host}:{}", mirror.address.port())];
        let options = PullOptions { credentials, mirrors, ..PullOptions::default() };
        resolve_digest(&"team/app:1".parse().expect("good"), &options).await.expect("the mirror has it");
        let told: Vec<bool> = {
            let requests = mirror.requests.lock().expect("no panic");
            requests.iter().map(|request| request.headers.contains_key("authorization")).collect()
        };
        assert_eq!(told, [is_told], "{host}");
    }
}

#[tokio::test]
async fn e_50_an_insecure_registry_that_is_not_reached_says_what_was_tried() {
    let free = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").to_string();
    let error = Case::new(free, &[], Path::new("/nowhere")).log_in().await.expect_err("nobody there").to_string();
    assert!(error.contains("by https: ") && error.contains("by http: "), "{error}");

    // TLS that ends before an answer: what it says to plain text is no answer of a registry
    let (own, client) = (Own::new("elsewhere.test", |_| {}), Own::new("client.test", |_| {}));
    let registry = Server::start_tls(own.server(Some(&client)), keeper(None));
    let case = Case::new(registry.address.to_string(), &[], Path::new("/nowhere"));
    for error in [case.log_in().await, case.use_it().await] {
        let error = error.expect_err("it wants a certificate");
        assert!(matches!(error, Error::RegistryUnreachable { .. }), "{error}");
        let text = error.to_string();
        assert!(
            text.contains("by https: ") && text.contains("Client sent an HTTP request to an HTTPS server"),
            "{text}"
        );
    }
}

#[tokio::test]
async fn e_50_a_certificate_in_the_directory_of_its_registry_is_trusted() {
    let directory = tempfile::tempdir().expect("a directory");
    // one for servers alone, one as `openssl req -x509` makes it, and one of a CA that is not here
    for own in [Own::new("0.0.0.0", as_servers), Own::new("0.0.0.0", as_openssl), Own::signed("0.0.0.0", as_servers)] {
        let registry = Server::start_tls(own.server(None), keeper(Some(HEADER)));
        let case = Case::new(format!("0.0.0.0:{}", registry.address.port()), &[], directory.path());
        let place = directory.path().join(&case.server);
        let check = async |why: &str| {
            for error in [case.log_in().await, case.use_it().await] {
                let error = error.expect_err(why);
                assert!(matches!(error, Error::RegistryUntrusted { .. }) && !error.is_transient(), "{why}: {error:?}");
                let text = error.to_string();
                assert!(text.contains(&format!("/etc/docker/certs.d/{}/ca.crt", case.server)), "{why}: {text}");
            }
        };
        check("without any").await;
        Own::new("0.0.0.0", as_openssl).write(&place, "ca.crt");
        check("of another CA").await;
        own.write(&place, "own.crt");
        case.use_it().await.expect("read anew each time");
        assert_eq!(registry.count(CAME_WITHOUT_TLS), 0);
    }
}

#[tokio::test]
async fn e_50_a_trusted_certificate_has_to_be_for_the_registry_and_in_time() {
    let directory = tempfile::tempdir().expect("a directory");
    let past = |params: &mut CertificateParams| {
        params.not_before = date_time_ymd(2001, 1, 1);
        params.not_after = date_time_ymd(2001, 2, 1);
    };
    let as_old_openssl = |params: &mut CertificateParams| {
        as_openssl(params);
        past(params);
    };
    for own in [
        Own::new("elsewhere.test", as_openssl),
        Own::new("0.0.0.0", as_old_openssl),
        Own::signed("elsewhere.test", as_servers),
        Own::signed("0.0.0.0", past),
    ] {
        let registry = Server::start_tls(own.server(None), keeper(None));
        let case = Case::new(format!("0.0.0.0:{}", registry.address.port()), &[], directory.path());
        own.write(&directory.path().join(&case.server), "ca.crt");
        let error = case.log_in().await.expect_err("not for this name, or not any more");
        assert!(matches!(error, Error::RegistryUntrusted { .. }), "{error}");
    }
}

#[tokio::test]
async fn e_50_the_certificate_of_a_client_is_shown_to_who_asks_for_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let named = |name: &'static str| Own::new(name, |params| params.distinguished_name.push(DnType::CommonName, name));
    let (own, client, other) = (named("0.0.0.0"), named("client.test"), named("other.test"));
    let registry = Server::start_tls(own.server(Some(&client)), keeper(None));
    let case = Case::new(format!("0.0.0.0:{}", registry.address.port()), &[], directory.path());
    let place = directory.path().join(&case.server);
    own.write(&place, "ca.crt");
    case.log_in().await.expect_err("without a client's certificate");
    other.write(&place, "a.cert");
    client.write(&place, "b.cert");
    case.use_it().await.expect("shows the one that is asked for");

    let check = async |part: &str| {
        let error = case.log_in().await.expect_err("half of a pair");
        assert!(matches!(error, Error::Unusable { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.contains(part) && text.contains("b.cert") && text.contains("b.key"), "{text}");
    };
    fs::rename(place.join("b.key"), place.join("kept")).expect("renamed");
    check("CAs end in .crt").await;
    fs::rename(place.join("kept"), place.join("b.key")).expect("renamed");
    fs::remove_file(place.join("b.cert")).expect("removed");
    check("client's key").await;
}
