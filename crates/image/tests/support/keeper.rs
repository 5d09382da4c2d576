//! A registry in memory that keeps what is pushed, for [`super::server::Server`], and the certificates of such servers.

use std::{
    collections::HashMap,
    fs,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use image::Digest;
use rcgen::{BasicConstraints, Certificate, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivatePkcs8KeyDer},
    server::WebPkiClientVerifier,
};

use super::server::{Reply, Request};

/// Answers of a registry; `authorization` is the header that it wants, if any.
pub fn keeper(authorization: Option<&'static str>) -> impl Fn(&Request) -> Reply + Send + Sync + 'static {
    // blobs by their digest, manifests by tag and digest
    let kept: Mutex<HashMap<String, Vec<u8>>> = Mutex::default();
    move |request| {
        if authorization.is_some_and(|wanted| request.headers.get("authorization").is_none_or(|had| had != wanted)) {
            return Reply::status(401).with("WWW-Authenticate", "Basic realm=\"kept\"");
        }
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        let (path, query) = request.path.split_once('?').unwrap_or((request.path.as_str(), ""));
        let last = path.rsplit('/').next().unwrap_or_default();
        match request.method.as_str() {
            "POST" => Reply::status(202).with("Location", &format!("{path}1")),
            "PUT" if path.contains("/uploads/") => {
                let digest = query.trim_start_matches("digest=").replace("%3A", ":");
                kept.insert(digest, request.body.clone());
                Reply::status(201)
            }
            "PUT" => {
                kept.insert(Digest::of(&request.body).to_string(), request.body.clone());
                kept.insert(last.to_owned(), request.body.clone());
                Reply::status(201)
            }
            _ if path == "/v2/" => Reply::ok(b"{}"),
            _ if last == "list" => Reply::ok(br#"{"tags":["1"]}"#),
            method => match (kept.get(last), method) {
                (None, _) => Reply::status(404),
                (Some(_), "HEAD") => Reply::status(200),
                (Some(bytes), _) => Reply::ok(bytes),
            },
        }
    }
}

/// A certificate with its key.
pub struct Own {
    pub pem: String,
    pub key_pem: String,
    der: CertificateDer<'static>,
    key: Vec<u8>,
}

impl Own {
    /// One that signed itself.
    pub fn new(name: &str, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("signed");
        Self::of(&certificate, &key)
    }

    /// One that a CA signed whose certificate nobody has.
    pub fn signed(name: &str, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut authority = CertificateParams::new(Vec::<String>::new()).expect("no name");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.distinguished_name.push(DnType::CommonName, "an authority");
        let issuer = Issuer::new(authority, KeyPair::generate().expect("a key"));
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &issuer).expect("signed");
        Self::of(&certificate, &key)
    }

    fn of(certificate: &Certificate, key: &KeyPair) -> Self {
        Self {
            pem: certificate.pem(),
            key_pem: key.serialize_pem(),
            der: certificate.der().clone(),
            key: key.serialize_der(),
        }
    }

    /// Of a server that shows it, and asks clients for `client`'s where there is one.
    pub fn server(&self, client: Option<&Self>) -> Arc<ServerConfig> {
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder.with_safe_default_protocol_versions().expect("versions");
        let builder = match client {
            None => builder.with_no_client_auth(),
            Some(client) => {
                let mut roots = RootCertStore::empty();
                roots.add(client.der.clone()).expect("a certificate");
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
                builder.with_client_cert_verifier(verifier.expect("has a root"))
            }
        };
        let key = PrivatePkcs8KeyDer::from(self.key.clone()).into();
        Arc::new(builder.with_single_cert(vec![self.der.clone()], key).expect("a pair"))
    }

    /// Writes certificate and key into a directory, the key where the certificate is a client's.
    pub fn write(&self, directory: &Path, name: &str) {
        fs::create_dir_all(directory).expect("made");
        fs::write(directory.join(name), &self.pem).expect("written");
        if let Some(stem) = name.strip_suffix(".cert") {
            fs::write(directory.join(format!("{stem}.key")), &self.key_pem).expect("written");
        }
    }
}
