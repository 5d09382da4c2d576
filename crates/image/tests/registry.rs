//! Pulling from registries: the real one of Debian (`docker-registry`), and small servers that misbehave.
//! Everything stays on loopback.
#![allow(clippy::print_stderr, reason = "a test that cannot run here says so")]

mod support;

use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use image::{
    Credentials, Digest, Error, ImageReference, Platform, Progress, PullOptions, PushOptions, busybox_archive,
    check_login, resolve_digest,
};
use support::{
    TestStore, config_of, content_of, layer,
    server::{Reply, Request, Server, send},
    told,
};

const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// bcrypt of `opensesame`.
const HTPASSWD: &str = "me:$2y$05$abcdefghijklmnopqrstuuQbLfdQZSxZ9gjhA5V9o8Tyc6aQRO0Qi\n";

/// Blobs and manifest of a small image.
struct Sample {
    blobs: Vec<Vec<u8>>,
    manifest: Vec<u8>,
}

impl Sample {
    fn new(architecture: &str, media_type: &str) -> Self {
        Self::with_file(architecture, media_type, architecture)
    }

    fn with_file(architecture: &str, media_type: &str, content: &str) -> Self {
        let layers = vec![layer(&["a", "b"], &"one ".repeat(50_000)), layer(&["a"], content)];
        let config = config_of(&layers, architecture);
        let mut packed: Vec<Vec<u8>> =
            layers.iter().map(|l| zstd::encode_all(l.as_slice(), 1).expect("in memory")).collect();
        packed[0].clone_from(&layers[0]); // one plain, one packed
        let describe =
            |b: &Vec<u8>| format!(r#"{{"mediaType":"x/y","digest":"{}","size":{}}}"#, Digest::of(b), b.len());
        let list: Vec<String> = packed.iter().map(describe).collect();
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"{media_type}","config":{},"layers":[{}]}}"#,
            describe(&config),
            list.join(",")
        );
        let manifest = manifest.replacen("x/y", "application/vnd.docker.container.image.v1+json", 1);
        let manifest = manifest.replace("x/y", "application/vnd.docker.image.rootfs.diff.tar.gzip");
        let manifest = if media_type == OCI_MANIFEST {
            manifest.replace("docker.container.image.v1", "oci.image.config.v1")
        } else {
            manifest
        };
        packed.push(config);
        Self { blobs: packed, manifest: manifest.into_bytes() }
    }

    fn host() -> Self {
        Self::new(&Platform::host().architecture, OCI_MANIFEST)
    }

    fn push(&self, address: SocketAddr, repository: &str, tag: &str, media_type: &str, headers: &[(&str, &str)]) {
        for blob in &self.blobs {
            let (status, location) = send(address, "POST", &format!("/v2/{repository}/blobs/uploads/"), headers, b"");
            assert_eq!(status, 202, "upload starts");
            let path = location.strip_prefix(&format!("http://{address}")).unwrap_or(&location);
            let separator = if path.contains('?') { '&' } else { '?' };
            let path = format!("{path}{separator}digest={}", Digest::of(blob));
            let mut all = headers.to_vec();
            all.push(("Content-Type", "application/octet-stream"));
            assert_eq!(send(address, "PUT", &path, &all, blob).0, 201, "upload ends");
        }
        push_manifest(address, repository, tag, media_type, headers, &self.manifest);
    }

    /// What a plain registry would answer.
    fn serve(&self, request: &Request) -> Reply {
        if request.path.contains("/manifests/") {
            return Reply::ok(&self.manifest).with("Content-Type", OCI_MANIFEST);
        }
        let asked = self.blobs.iter().find(|b| request.path.ends_with(Digest::of(b).as_str()));
        asked.map_or(Reply::status(404), |blob| Reply::ok(blob))
    }
}

fn push_manifest(
    address: SocketAddr,
    repository: &str,
    tag: &str,
    media_type: &str,
    headers: &[(&str, &str)],
    bytes: &[u8],
) {
    let mut all = headers.to_vec();
    all.push(("Content-Type", media_type));
    let (status, _) = send(address, "PUT", &format!("/v2/{repository}/manifests/{tag}"), &all, bytes);
    assert_eq!(status, 201, "manifest {tag}");
}

/// Debian's registry, ended when dropped.
struct DockerRegistry {
    child: Child,
    address: SocketAddr,
    _directory: tempfile::TempDir,
}

impl DockerRegistry {
    fn start(with_password: bool) -> Option<Self> {
        if !std::path::Path::new("/usr/bin/docker-registry").exists() {
            eprintln!("SKIPPED a test with a real registry: install docker-registry");
            return None;
        }
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().display();
        let address = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port");
        let auth = format!("auth:\n  htpasswd:\n    realm: test\n    path: {path}/htpasswd\n");
        let config = format!(
            "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {path}/data\nhttp:\n  addr: {address}\n{}",
            if with_password { auth.as_str() } else { "" }
        );
        std::fs::write(directory.path().join("htpasswd"), HTPASSWD).expect("written");
        std::fs::write(directory.path().join("config.yml"), config).expect("written");
        let mut command = Command::new("/usr/bin/docker-registry");
        command
            .arg("serve")
            .arg(directory.path().join("config.yml"))
            .env_clear()
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = command.spawn().expect("starts");
        let registry = Self { child, address, _directory: directory };
        let deadline = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect(address).is_err() {
            assert!(Instant::now() < deadline, "the registry does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(registry)
    }
}

impl Drop for DockerRegistry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn pull(test: &TestStore, name: &str, options: &PullOptions) -> image::Result<image::PulledImage> {
    test.store.pull(&name.parse().expect(name), options, Progress::none()).await
}

/// E-03: of a layer that is here already that is all that is told; all tags of a repository end with its name.
#[tokio::test]
async fn e_03_what_pulls_tell() {
    let samples = ["1", "2"].map(|tag| Sample::with_file(&Platform::host().architecture, OCI_MANIFEST, tag));
    let [common, own] = [0, 1].map(|at| Digest::of(&samples[1].blobs[at]).short().to_owned());
    let registry = Server::start(move |request| {
        let [one, two] = &samples;
        if request.path.ends_with("/tags/list") {
            return Reply::ok(br#"{"name":"x","tags":["1","2"]}"#);
        }
        let first = if request.path.ends_with("/manifests/2") { two } else { one };
        let reply = first.serve(request);
        if reply.status == 404 { two.serve(request) } else { reply }
    });
    let test = TestStore::new("told").await;
    let repository = format!("{}/x", registry.address);
    pull(&test, &format!("{repository}:1"), &PullOptions::default()).await.expect("pulls");
    let second = format!("{repository}:2").parse().expect("good");
    let lines = told(async |progress| {
        test.store.pull(&second, &PullOptions::default(), progress).await.expect("pulls");
    })
    .await;
    let of = |id: &str| lines.iter().filter_map(|line| line.strip_prefix(id)).map(str::trim).collect::<Vec<_>>();
    assert_eq!(of(&common), ["Already exists"]);
    let of_own = of(&own);
    assert_eq!((of_own.first(), of_own.last()), (Some(&"Pulling fs layer"), Some(&"Pull complete")), "{of_own:?}");
    assert_eq!(lines.last().map(String::as_str), Some(&*format!(" Status: Downloaded newer image for {repository}:2")));

    for words in ["Image is up to date", "Downloaded newer image"] {
        let reference = repository.parse().expect("good");
        let lines = told(async |progress| {
            test.store.pull_all(&reference, &PullOptions::default(), progress).await.expect("pulls");
        })
        .await;
        let ends: Vec<&String> = lines.iter().filter(|line| line.contains("Status: ")).collect();
        assert_eq!(ends, [&format!(" Status: {words} for {repository}")]);
        assert!(lines.contains(&"2 Pulling from x".to_owned()), "{lines:?}");
        test.store.remove(&format!("{repository}:1"), support::gently()).await.expect("removes");
    }
}

/// E-03, E-10: an image for one platform alone is taken with a warning; of an index each platform has its own.
#[tokio::test]
async fn e_03_e_10_images_for_other_platforms() {
    let host = Platform::host();
    let (mine, other) = (Sample::host(), Sample::new("s390x", OCI_MANIFEST));
    let ids = [&mine, &other].map(|sample| Digest::of(sample.blobs.last().expect("its configuration")));
    let entry = |sample: &Sample, architecture: &str| {
        let (digest, size) = (Digest::of(&sample.manifest), sample.manifest.len());
        format!(
            r#"{{"mediaType":"{OCI_MANIFEST}","digest":"{digest}","size":{size},"platform":{{"os":"linux","architecture":"{architecture}"}}}}"#
        )
    };
    let entries = [entry(&other, "s390x"), entry(&mine, &host.architecture)].join(",");
    let index = format!(r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":[{entries}]}}"#);
    let registry = Server::start(move |request| {
        let is_mine = request.path.ends_with(Digest::of(&mine.manifest).as_str());
        if request.path.ends_with("/manifests/index") {
            return Reply::ok(index.as_bytes()).with("Content-Type", OCI_INDEX);
        }
        if request.path.contains("/manifests/") {
            return if is_mine { mine.serve(request) } else { other.serve(request) };
        }
        let reply = mine.serve(request);
        if reply.status == 404 { other.serve(request) } else { reply }
    });
    let test = TestStore::new("platforms").await;
    let name = |tag: &str| format!("{}/x:{tag}", registry.address);
    let asked = |platform: Option<Platform>| PullOptions { platform, takes_single: true, ..PullOptions::default() };
    let s390x = Platform::new("linux", "s390x", None);
    let single = name("single");
    let reference = single.parse().expect("good");
    for words in ["Downloaded newer image", "Image is up to date"] {
        let lines = told(async |progress| {
            test.store.pull(&reference, &asked(Some(host.clone())), progress).await.expect("pulls");
        })
        .await;
        let warning = format!(
            " WARNING: image with reference {single} was found but its platform (linux/s390x) does not match the \
             specified platform ({host})"
        );
        assert_eq!(lines[lines.len() - 2..], [format!(" Status: {words} for {single}"), warning]);
    }
    for (platform, wanted, is_new) in [
        (Some(s390x.clone()), &ids[1], true),
        (None, &ids[0], true),
        (None, &ids[0], false),
        (Some(s390x), &ids[1], true),
        (Some(host.clone()), &ids[0], true),
    ] {
        let pulled = pull(&test, &name("index"), &asked(platform.clone())).await.expect("pulls");
        assert_eq!((&pulled.id, pulled.is_new), (wanted, is_new), "{platform:?}");
    }
}

/// P47: of an index with several levels of one architecture a machine takes the newest that it runs.
#[tokio::test]
async fn p47_the_best_level_of_the_machine_is_pulled() {
    let Some(registry) = DockerRegistry::start(false) else { return };
    let machine = Platform::machine();
    let host = Platform::host().to_string();
    let runs = |variant: &str| match variant {
        "" => true,
        _ => format!("{host}/{variant}").parse::<Platform>().expect("good").rank_on(&machine).is_some(),
    };
    let levels = ["", "v2", "v3", "v4"];
    let best = levels.iter().rposition(|level| runs(level)).expect("the first runs everywhere");
    let mut entries = Vec::new();
    for level in levels {
        let sample = Sample::with_file(&Platform::host().architecture, OCI_MANIFEST, level);
        sample.push(registry.address, "demo/levels", &format!("level{level}"), OCI_MANIFEST, &[]);
        let (digest, size) = (Digest::of(&sample.manifest), sample.manifest.len());
        let variant = if level.is_empty() { String::new() } else { format!(r#","variant":"{level}""#) };
        let architecture = Platform::host().architecture;
        entries.push(format!(
            r#"{{"mediaType":"{OCI_MANIFEST}","digest":"{digest}","size":{size},"platform":{{"os":"linux","architecture":"{architecture}"{variant}}}}}"#
        ));
    }
    let index = format!(r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":[{}]}}"#, entries.join(","));
    push_manifest(registry.address, "demo/levels", "index", OCI_INDEX, &[], index.as_bytes());
    let test = TestStore::new("levels").await;
    let name = |tag: &str| format!("{}/demo/levels:{tag}", registry.address);
    let id = |tag: String, options: PullOptions| {
        let test = &test;
        async move { pull(test, &tag, &options).await.expect("pulls").id }
    };
    let chosen = id(name("index"), PullOptions::default()).await;
    assert_eq!(chosen, id(name(&format!("level{}", levels[best])), PullOptions::default()).await, "{machine}");
    // The samples' own words do not tell levels apart, so that a store that has one would take it for the other.
    let test = TestStore::new("level").await;
    let base = PullOptions { platform: Some(Platform::host()), ..PullOptions::default() };
    let [asked, first] = ["index", "level"].map(name);
    let asked = pull(&test, &asked, &base).await.expect("pulls").id;
    assert_eq!(asked, pull(&test, &first, &base).await.expect("pulls").id, "who asks for the first gets it");
}

#[tokio::test]
async fn pulls_from_a_real_registry() {
    let Some(registry) = DockerRegistry::start(false) else { return };
    let host = Platform::host();
    let (mine, other) = (Sample::host(), Sample::new("s390x", OCI_MANIFEST));
    mine.push(registry.address, "demo/box", "oci", OCI_MANIFEST, &[]);
    other.push(registry.address, "demo/box", "other", OCI_MANIFEST, &[]);
    Sample::new(&host.architecture, DOCKER_MANIFEST).push(registry.address, "demo/box", "docker", DOCKER_MANIFEST, &[]);
    let entry = |sample: &Sample, os: &str, architecture: &str| {
        let (digest, size) = (Digest::of(&sample.manifest), sample.manifest.len());
        format!(
            r#"{{"mediaType":"{OCI_MANIFEST}","digest":"{digest}","size":{size},"platform":{{"os":"{os}","architecture":"{architecture}"}}}}"#
        )
    };
    let entries = [
        entry(&other, "linux", "s390x"),
        entry(&other, "unknown", "unknown"),
        entry(&mine, "linux", &host.architecture),
    ];
    let index = format!(r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":[{}]}}"#, entries.join(","));
    push_manifest(registry.address, "demo/box", "index", OCI_INDEX, &[], index.as_bytes());

    let test = TestStore::new("pull").await;
    let name = |tag: &str| format!("{}/demo/box:{tag}", registry.address);
    let options = PullOptions::default();
    let pulled = pull(&test, &name("index"), &options).await.expect("pulls");
    assert!(pulled.is_new && pulled.digest == Digest::of(index.as_bytes()));
    assert!(!pull(&test, &name("index"), &options).await.expect("pulls again").is_new);
    let direct = pull(&test, &name("oci"), &options).await.expect("pulls");
    assert_eq!(direct.id, pulled.id, "the same image by another name");
    pull(&test, &name("docker"), &options).await.expect("pulls schema 2");
    let pinned = format!("{}/demo/box@{}", registry.address, pulled.digest);
    assert_eq!(test.store.get(&pinned).expect("known by digest"), pulled.id);
    let summary = test.store.inspect(&name("oci")).expect("known").summary;
    assert_eq!(
        (summary.repo_tags.len(), summary.repo_digests.len()),
        (3, 3),
        "one image, three manifests: {summary:?}"
    );

    let resolved = resolve_digest(&name("index").parse().expect("good"), &options).await.expect("resolves");
    assert_eq!(resolved.digest, pulled.digest);
    assert_eq!(resolved.platforms, [Platform::new("linux", "s390x", None), host]);
    let single = resolve_digest(&name("other").parse().expect("good"), &options).await.expect("resolves");
    assert_eq!(single.platforms, [Platform::new("linux", "s390x", None)]);

    let error = pull(&test, &name("other"), &options).await.expect_err("wrong platform");
    assert!(matches!(&error, Error::NoMatchingPlatform { offered, .. } if *offered == ["linux/s390x"]), "{error}");
    let any = PullOptions { any_platform: true, ..PullOptions::default() };
    pull(&test, &name("other"), &any).await.expect("told to take it");
    let error = pull(&test, &name("missing"), &options).await.expect_err("no such tag");
    assert!(
        matches!(&error, Error::NotFoundInRegistry { .. }) && error.to_string().contains("demo/box:missing"),
        "{error}"
    );
}

#[tokio::test]
async fn a_password_is_asked_for_and_used() {
    let Some(registry) = DockerRegistry::start(true) else { return };
    let basic = ("Authorization", "Basic bWU6b3BlbnNlc2FtZQ==");
    Sample::host().push(registry.address, "private", "1", OCI_MANIFEST, &[basic]);
    let test = TestStore::new("basic").await;
    let name = format!("{}/private:1", registry.address);
    let with = |password: &str| PullOptions {
        credentials: Some(Credentials::Basic { username: "me".into(), password: password.into() }),
        ..PullOptions::default()
    };
    for options in [PullOptions::default(), with("wrong")] {
        let error = pull(&test, &name, &options).await.expect_err("refused");
        assert!(matches!(error, Error::Unauthorized { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.contains("unauthorized") && text.contains(&registry.address.to_string()), "{text}");
    }
    pull(&test, &name, &with("opensesame")).await.expect("pulls");
}

#[tokio::test]
async fn the_token_flow() {
    let sample = Sample::host();
    let tokens = Server::start(|request| {
        let good = request.headers.get("authorization").is_some_and(|a| a == "Basic bWU6cHc=");
        let asked = request.path == "/token?scope=repository%3Aprivate%3Apull&service=reg";
        match good && asked {
            true => Reply::ok(br#"{"token":"T","access_token":"T","expires_in":60}"#),
            false => Reply {
                status: 401,
                body: br#"{"details":"incorrect username or password"}"#.to_vec(),
                ..Reply::default()
            },
        }
    });
    let realm =
        format!("Bearer realm=\"http://{}/token\",service=\"reg\",scope=\"repository:private:pull\"", tokens.address);
    let registry = Server::start(move |request| {
        if request.headers.get("authorization").is_none_or(|a| a != "Bearer T") {
            return Reply::status(401).with("WWW-Authenticate", &realm);
        }
        sample.serve(request)
    });
    let test = TestStore::new("token").await;
    let name = format!("{}/private:1", registry.address);
    let with = |password: &str| PullOptions {
        credentials: Some(Credentials::Basic { username: "me".into(), password: password.into() }),
        ..PullOptions::default()
    };
    pull(&test, &name, &with("pw")).await.expect("pulls");
    assert_eq!(tokens.count("/token"), 1, "one token for all requests");
    let error = pull(&test, &name, &with("no")).await.expect_err("refused").to_string();
    assert!(error.contains("unauthorized") && error.contains("incorrect username"), "{error}");
}

#[tokio::test]
async fn altered_content_is_refused_and_removed() {
    let sample = Sample::host();
    let first = Digest::of(&sample.blobs[0]);
    let registry = Server::start(move |request| {
        let mut reply = sample.serve(request);
        if request.path.ends_with(first.as_str()) {
            reply.body[1000] ^= 1;
        }
        reply
    });
    let test = TestStore::new("altered").await;
    let error = pull(&test, &format!("{}/x", registry.address), &PullOptions::default()).await.expect_err("altered");
    assert!(matches!(error, Error::DigestMismatch { .. }), "{error:?}");
    assert_eq!(content_of(&test.root), Vec::<String>::new(), "as before");
    let digest = Digest::of(b"another");
    let error =
        pull(&test, &format!("{}/x@{digest}", registry.address), &PullOptions::default()).await.expect_err("not that");
    assert!(matches!(error, Error::DigestMismatch { .. }), "{error:?}");
}

#[tokio::test]
async fn a_cut_download_goes_on_where_it_stopped() {
    let sample = Sample::host();
    let (big, total) = (Digest::of(&sample.blobs[0]), sample.blobs[0].len());
    let cuts = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&cuts);
    let registry = Server::start(move |request| {
        let mut reply = sample.serve(request);
        if !request.path.ends_with(big.as_str()) {
            return reply;
        }
        let start = request
            .headers
            .get("range")
            .and_then(|r| r.strip_prefix("bytes=")?.trim_end_matches('-').parse::<usize>().ok());
        if let Some(start) = start {
            reply.status = 206;
            reply.headers.push(("Content-Range".into(), format!("bytes {start}-{}/{total}", total - 1)));
            reply.body.drain(..start);
        }
        if counted.fetch_add(1, Ordering::SeqCst) < 2 {
            reply.cut_after = Some(total / 3);
        }
        reply
    });
    let test = TestStore::new("resume").await;
    pull(&test, &format!("{}/x", registry.address), &PullOptions::default()).await.expect("pulls in three pieces");
    assert_eq!(cuts.load(Ordering::SeqCst), 3);
    let requests = registry.requests.lock().expect("no panic");
    let ranges: Vec<&str> = requests.iter().filter_map(|r| r.headers.get("range")).map(String::as_str).collect();
    assert_eq!(ranges, [format!("bytes={}-", total / 3), format!("bytes={}-", total / 3 * 2)]);
}

#[tokio::test]
async fn redirects_do_not_carry_the_password() {
    let sample = Arc::new(Sample::host());
    let other = Arc::clone(&sample);
    let storage = Server::start(move |request| {
        assert!(!request.headers.contains_key("authorization"), "a secret went to the storage host");
        other.serve(request)
    });
    let target = format!("http://{}", storage.address);
    let registry = Server::start(move |request| {
        if request.headers.get("authorization").is_none_or(|a| a != "Basic bWU6cHc=") {
            return Reply::status(401).with("WWW-Authenticate", "Basic realm=\"x\"");
        }
        match request.path.contains("/blobs/") {
            true => Reply::status(307).with("Location", &format!("{target}{}", request.path)),
            false => sample.serve(request),
        }
    });
    let test = TestStore::new("redirect").await;
    let credentials = Some(Credentials::Basic { username: "me".into(), password: "pw".into() });
    let options = PullOptions { credentials, ..PullOptions::default() };
    pull(&test, &format!("{}/x", registry.address), &options).await.expect("pulls");
    assert_eq!(storage.count("/blobs/"), 3);
}

#[tokio::test]
async fn registries_that_are_not_there_or_not_well() {
    let test = TestStore::new("unreachable").await;
    let free = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port");
    let error = pull(&test, &format!("{free}/x"), &PullOptions::default()).await.expect_err("nobody there");
    assert!(matches!(&error, Error::RegistryUnreachable { .. }) && error.is_transient(), "{error:?}");
    assert!(error.to_string().contains(&free.to_string()), "{error}");

    let tries = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&tries);
    let busy = Server::start(move |request| {
        // not the question how it speaks
        counted.fetch_add(usize::from(request.path.contains("/manifests/")), Ordering::SeqCst);
        Reply::status(503)
    });
    let error = pull(&test, &format!("{}/x", busy.address), &PullOptions::default()).await.expect_err("busy");
    assert!(
        matches!(error, Error::RegistryStatus { status: 503, .. }) && tries.load(Ordering::SeqCst) == 3,
        "{error:?}"
    );

    let nonsense = Server::start(|_| Reply::ok(b"<html>"));
    let error =
        pull(&test, &format!("{}/x", nonsense.address), &PullOptions::default()).await.expect_err("no manifest");
    assert!(matches!(error, Error::BadDocument { .. }), "{error:?}");
    assert_eq!(content_of(&test.root), Vec::<String>::new());
}

#[tokio::test]
async fn many_pulls_of_one_image_download_it_once() {
    let sample = Sample::host();
    let registry = Server::start(move |request| sample.serve(request));
    let test = TestStore::new("shared").await;
    let mut pulls = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (store, name) = (test.store.clone(), format!("{}/x", registry.address));
        pulls.spawn(async move {
            store.pull(&name.parse().expect("good"), &PullOptions::default(), Progress::none()).await
        });
    }
    let ids: Vec<Digest> = pulls.join_all().await.into_iter().map(|r| r.expect("pulls").id).collect();
    assert!(ids.iter().all(|id| *id == ids[0]));
    assert_eq!(registry.count("/blobs/"), 3, "each blob once");
}

/// E-04: a push says where it goes, if there is anything to push.
#[tokio::test]
async fn e_04_what_a_push_begins_with() {
    let test = TestStore::new("begun").await;
    let archive = busybox_archive("r.test/team/app:1").expect("busybox");
    test.store.load(std::io::Cursor::new(archive), Progress::none()).await.expect("loads");
    let begin = async |name: &str| {
        let mut found = String::new();
        let lines = told(async |progress| {
            found = match test.store.begin_push(&name.parse().expect(name), &progress) {
                Ok(references) => references.iter().map(ImageReference::familiar).collect::<Vec<_>>().join(" "),
                Err(error) => error.to_string(),
            };
        })
        .await;
        (lines, found)
    };
    for (name, repository, wanted) in [
        ("r.test/team/app:1", "r.test/team/app", "r.test/team/app:1"),
        ("r.test/team/app", "r.test/team/app", "r.test/team/app:1"),
        ("r.test/team/app:2", "r.test/team/app", "tag does not exist: r.test/team/app:2"),
        ("r.test/none:1", "r.test/none", "An image does not exist locally with the tag: r.test/none"),
        ("busy:1", "docker.io/library/busy", "An image does not exist locally with the tag: busy"),
    ] {
        let line = format!(" The push refers to repository [{repository}]");
        let said = if wanted.contains(' ') { vec![] } else { vec![line] };
        assert_eq!(begin(name).await, (said, wanted.to_owned()));
    }
}

#[tokio::test]
async fn e04_a_pushed_image_is_the_same_elsewhere() {
    let Some(registry) = DockerRegistry::start(true) else { return };
    let (here, there) = (TestStore::new("push").await, TestStore::new("push-there").await);
    let archive = busybox_archive("box").expect("busybox");
    here.store.load(std::io::Cursor::new(archive), Progress::none()).await.expect("loads");
    let name = format!("{}/team/app:1", registry.address);
    let reference = name.parse().expect("good");
    let login = |password: &str| Credentials::Basic { username: "me".into(), password: password.into() };
    let options = |password: &str| PushOptions { credentials: Some(login(password)), ..PushOptions::default() };
    let push = async |password: &str| here.store.push(&reference, &options(password), Progress::none()).await;

    let error = push("opensesame").await.expect_err("not tagged");
    assert!(matches!(&error, Error::NothingToPush(missing) if *missing == name), "{error}");
    here.store.tag("box", &reference).await.expect("tags");
    let error = push("wrong").await.expect_err("wrong password");
    assert!(matches!(error, Error::Unauthorized { .. }), "{error}");
    let pushed = push("opensesame").await.expect("pushes");
    let detail = here.store.inspect(&name).expect("known");
    assert_eq!((pushed.tag.as_str(), &pushed.digest), ("1", &detail.manifest_digest));
    assert_eq!(detail.summary.repo_digests, [format!("{}/team/app@{}", registry.address, pushed.digest)]);
    push("opensesame").await.expect("nothing to send");

    let pulling = PullOptions { credentials: Some(login("opensesame")), ..PullOptions::default() };
    let pulled = there.store.pull(&reference, &pulling, Progress::none()).await.expect("pulls");
    assert_eq!((pulled.id, pulled.digest), (detail.summary.id, pushed.digest));
    let all = there.store.pull_all(&reference, &pulling, Progress::none()).await.expect("pulls all tags");
    assert_eq!(all, std::slice::from_ref(&reference));

    let server = registry.address.to_string();
    check_login(&server, &options("opensesame")).await.expect("logs in");
    let refused = check_login(&server, &options("wrong")).await.expect_err("refused");
    assert!(matches!(refused, Error::Unauthorized { .. }), "{refused}");
}
