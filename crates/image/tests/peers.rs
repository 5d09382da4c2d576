//! Images from one store to another, as between two nodes: what is offered, what is refused, what is fetched once.
#![allow(clippy::print_stderr, reason = "a test that cannot run here says so")]

mod support;

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use image::{BlobReader, BlobSource, Digest, Error, ImageReference, Offer, Platform, Progress, PullOptions, Store};
use support::{
    TestStore, config_of, content_of, layer,
    server::{Reply, Server},
    tar_of,
};

/// Other nodes, one after the other.
struct Peers {
    reference: ImageReference,
    stores: Vec<Store>,
    /// Of this one every blob is altered on its way.
    liar: Option<usize>,
    opened: Arc<AtomicUsize>,
}

impl Peers {
    fn of(name: &str, stores: &[&TestStore]) -> Self {
        let stores = stores.iter().map(|test| test.store.clone()).collect();
        Self { reference: name.parse().expect("good"), stores, liar: None, opened: Arc::default() }
    }
}

impl BlobSource for Peers {
    fn holders(&self) -> usize {
        self.stores.len()
    }

    fn open<'a>(
        &'a self,
        holder: usize,
        digest: &'a Digest,
    ) -> Pin<Box<dyn Future<Output = image::Result<BlobReader>> + Send + 'a>> {
        self.opened.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move {
            let (mut file, _) = self.stores[holder].blob_of(&self.reference, digest).await?;
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut file, &mut bytes).expect("reads");
            if self.liar == Some(holder) {
                bytes[0] ^= 1;
            }
            Ok(Box::new(std::io::Cursor::new(bytes)) as BlobReader)
        })
    }
}

async fn with_image(name: &str, text: &str) -> TestStore {
    let test = TestStore::new("holder").await;
    let layers = [layer(&["a"], text), layer(&["b"], "common")];
    let archive = std::io::Cursor::new(tar_of(name, &layers));
    test.store.load(archive, Progress::none()).await.expect("loads");
    test
}

async fn offer(from: &TestStore, name: &str) -> Option<Offer> {
    from.store.offer(&name.parse().expect("good")).await.expect("reads")
}

#[tokio::test]
async fn p_16_a_loaded_image_comes_from_another_node_each_blob_once() {
    let (holder, taker) = (with_image("app:1", "one").await, TestStore::new("taker").await);
    let offered = offer(&holder, "app:1").await.expect("it has it");
    let peers = Peers::of("app:1", &[&holder]);
    let opened = Arc::clone(&peers.opened);
    let name = peers.reference.clone();
    let source: Arc<dyn BlobSource> = Arc::new(peers);
    let pulled = taker
        .store
        .pull_from_peers(&name, offered.clone(), Arc::clone(&source), &PullOptions::default())
        .await
        .expect("comes");
    assert_eq!(pulled.id, holder.store.get("app:1").expect("there"));
    let (here, there) = (taker.store.inspect("app:1"), holder.store.inspect("app:1"));
    assert_eq!(here.expect("here").summary, there.expect("there").summary, "the same names, no registry's digest");
    assert_eq!(opened.load(Ordering::SeqCst), 3, "a configuration and two layers");
    taker.store.pull_from_peers(&name, offered, source, &PullOptions::default()).await.expect("is here");
    assert_eq!(opened.load(Ordering::SeqCst), 3, "nothing is fetched twice");
    assert_eq!(offer(&holder, "app:2").await, None);
    assert_eq!(offer(&taker, "app:1").await, offer(&holder, "app:1").await, "it can be passed on");
}

#[tokio::test]
async fn what_was_altered_on_its_way_is_not_kept() {
    let (liar, honest) = (with_image("app:1", "one").await, with_image("app:1", "one").await);
    let taker = TestStore::new("taker").await;
    let offered = offer(&liar, "app:1").await.expect("it has it");
    let name: ImageReference = "app:1".parse().expect("good");
    let before = content_of(&taker.root);
    let alone = Peers { liar: Some(0), ..Peers::of("app:1", &[&liar]) };
    let error = taker
        .store
        .pull_from_peers(&name, offered.clone(), Arc::new(alone), &PullOptions::default())
        .await
        .expect_err("refused");
    assert!(matches!(error, Error::DigestMismatch { .. }), "{error}");
    assert_eq!((content_of(&taker.root), taker.store.list().len()), (before, 0));
    let both = Peers { liar: Some(0), ..Peers::of("app:1", &[&liar, &honest]) };
    taker
        .store
        .pull_from_peers(&name, offered, Arc::new(both), &PullOptions::default())
        .await
        .expect("the other one has it right");
    taker.store.get("app:1").expect("here");
}

#[tokio::test]
async fn blobs_of_other_images_are_not_given_under_a_name() {
    let holder = with_image("app:1", "one").await;
    let other = tar_of("secret:1", &[layer(&["s"], "hidden")]);
    holder.store.load(std::io::Cursor::new(other), Progress::none()).await.expect("loads");
    let id = holder.store.get("secret:1").expect("there");
    let name = |text: &str| text.parse::<ImageReference>().expect("good");
    assert!(matches!(holder.store.blob_of(&name("app:1"), &id).await, Err(Error::NoSuchImage(_))));
    assert!(matches!(holder.store.blob_of(&name("none:1"), &id).await, Err(Error::NoSuchImage(_))));
    let (_, size) = holder.store.blob_of(&name("secret:1"), &id).await.expect("its own configuration");
    assert!(size > 0);
}

/// A registry with one image for this host behind an index; gives the name and the index's digest.
fn registry() -> (Server, String, Digest) {
    let host = Platform::host();
    let layers = vec![layer(&["a"], "indexed")];
    let config = config_of(&layers, &host.architecture);
    let described = |kind: &str, bytes: &[u8]| {
        format!(
            r#""mediaType":"application/vnd.oci.image.{kind}","digest":"{}","size":{}"#,
            Digest::of(bytes),
            bytes.len()
        )
    };
    let manifest = format!(
        r#"{{"schemaVersion":2,"config":{{{}}},"layers":[{{{}}}]}}"#,
        described("config.v1+json", &config),
        described("layer.v1.tar", &layers[0])
    );
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{{{},"platform":{{"os":"linux","architecture":"{}"}}}}]}}"#,
        described("manifest.v1+json", manifest.as_bytes()),
        host.architecture
    );
    let digest = Digest::of(index.as_bytes());
    let mut paths: HashMap<String, Vec<u8>> = HashMap::new();
    for bytes in [config, layers[0].clone()] {
        paths.insert(format!("blobs/{}", Digest::of(&bytes)), bytes);
    }
    for bytes in [manifest.into_bytes(), index.clone().into_bytes()] {
        paths.insert(format!("manifests/{}", Digest::of(&bytes)), bytes);
    }
    let server = Server::start(move |request| {
        let path = request.path.trim_start_matches("/v2/demo/box/");
        paths.get(path).map_or_else(|| Reply::status(404), |bytes| Reply::ok(bytes))
    });
    let name = format!("{}/demo/box:1@{digest}", server.address);
    (server, name, digest)
}

#[tokio::test]
async fn p_48_a_pinned_image_is_proved_from_its_digest_on() {
    let (server, name, digest) = registry();
    let (holder, taker) = (TestStore::new("holder").await, TestStore::new("taker").await);
    let reference: ImageReference = name.parse().expect("good");
    holder.store.pull(&reference, &PullOptions::default(), Progress::none()).await.expect("pulls");
    drop(server);
    let offered = offer(&holder, &name).await.expect("the index was kept");
    assert_eq!((offered.root.as_str(), offered.documents.len()), (digest.as_str(), 2));

    let without = Offer { documents: offered.documents[..1].to_vec(), ..offered.clone() };
    let peers = || Arc::new(Peers::of(&name, &[&holder]));
    let error = taker
        .store
        .pull_from_peers(&reference, without, peers(), &PullOptions::default())
        .await
        .expect_err("not proved");
    assert!(error.to_string().contains("is missing"), "{error}");
    let forged =
        Offer { documents: offered.documents.iter().map(|d| [d, &b" "[..]].concat()).collect(), ..offered.clone() };
    let error = taker
        .store
        .pull_from_peers(&reference, forged, peers(), &PullOptions::default())
        .await
        .expect_err("another document");
    assert!(matches!(error, Error::Unusable { .. }), "{error}");

    let pulled =
        taker.store.pull_from_peers(&reference, offered, peers(), &PullOptions::default()).await.expect("comes");
    assert_eq!(pulled.digest, digest);
    assert_eq!(taker.store.get(&name).expect("known by the digest"), pulled.id);
    assert!(offer(&taker, &name).await.is_some(), "it can be passed on");
    let other = format!("{}@{}", name.split('@').next().unwrap_or_default(), Digest::of(b"other"));
    assert_eq!(offer(&holder, &other).await, None);
}
