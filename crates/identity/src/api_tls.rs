//! TLS of the Engine API over TCP, with certificates that the operator has made, in PEM files as Docker's tools have
//! them (`ca.pem`, `cert.pem`, `key.pem`). They have nothing to do with those of the cluster.
//!
//! Used by `api`, which serves, and `cli`, which dials.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
    server::WebPkiClientVerifier,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::{Error, TlsStream, tls::provider};

/// Where the certificates are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PemFiles {
    /// Whose certificates the other side must have.
    pub ca: PathBuf,
    /// One's own certificate, with what is between it and the other side's root.
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// Takes connections of clients that have a certificate, and of nobody else.
#[derive(Clone)]
pub struct ApiAcceptor(TlsAcceptor);

/// Dials an API server.
#[derive(Clone)]
pub struct ApiConnector(TlsConnector);

/// Bytes in both directions, each of which can end by itself.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A connection of the API, whatever it goes over: these, or a socket of the host.
pub type ApiStream = Box<dyn Duplex>;

impl ApiAcceptor {
    /// # Errors
    /// When a file cannot be read, or does not hold what it should.
    pub fn from_files(files: &PemFiles) -> Result<Self, Error> {
        let roots = Arc::new(roots(&files.ca)?);
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider())
            .build()
            .map_err(|error| unusable(&files.ca, &error))?;
        let (chain, key) = own(files)?;
        let config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(Error::Tls)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .map_err(|error| unusable(&files.certificate, &error))?;
        Ok(Self(TlsAcceptor::from(Arc::new(config))))
    }

    /// # Errors
    /// When the client has no certificate of the root, or goes.
    pub async fn accept(&self, tcp: TcpStream) -> io::Result<TlsStream> {
        Ok(self.0.accept(tcp).await?.into())
    }
}

impl ApiConnector {
    /// # Errors
    /// When a file cannot be read, or does not hold what it should.
    pub fn from_files(files: &PemFiles) -> Result<Self, Error> {
        let roots = roots(&files.ca)?;
        let (chain, key) = own(files)?;
        let config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(Error::Tls)?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .map_err(|error| unusable(&files.certificate, &error))?;
        Ok(Self(TlsConnector::from(Arc::new(config))))
    }

    /// `host`: a name or an address, which the server's certificate must be for.
    ///
    /// # Errors
    /// As TCP and TLS give them.
    pub async fn connect(&self, host: &str, port: u16) -> io::Result<TlsStream> {
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let tcp = TcpStream::connect((host, port)).await?;
        tcp.set_nodelay(true)?;
        Ok(self.0.connect(name, tcp).await?.into())
    }
}

fn roots(path: &Path) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| unusable(path, &error))?;
    }
    Ok(roots)
}

fn own(files: &PemFiles) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), Error> {
    let key = PrivateKeyDer::from_pem_slice(&read(&files.key)?).map_err(|error| unusable(&files.key, &error))?;
    Ok((certificates(&files.certificate)?, key))
}

/// At least one.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(path)?).collect();
    match found {
        Ok(none) if none.is_empty() => Err(unusable(path, &"there is no PEM certificate in it")),
        Ok(found) => Ok(found),
        Err(error) => Err(unusable(path, &error)),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|source| Error::File { operation: "read", path: path.display().to_string(), source })
}

fn unusable(path: &Path, reason: &dyn std::fmt::Display) -> Error {
    Error::Unusable { path: path.to_owned(), reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;

    /// An authority, and files of a certificate that it has signed.
    struct Authority(rcgen::Issuer<'static, rcgen::KeyPair>, String);

    impl Authority {
        fn new(name: &str) -> Self {
            let key = rcgen::KeyPair::generate().expect("a key");
            let mut parameters = rcgen::CertificateParams::new(Vec::new()).expect("no names");
            parameters.distinguished_name.push(rcgen::DnType::CommonName, name);
            parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            let pem = parameters.self_signed(&key).expect("signed by itself").pem();
            Self(rcgen::Issuer::new(parameters, key), pem)
        }

        fn files(&self, directory: &Path, name: &str) -> PemFiles {
            let key = rcgen::KeyPair::generate().expect("a key");
            let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
            let parameters = rcgen::CertificateParams::new(names).expect("names");
            let certificate = parameters.signed_by(&key, &self.0).expect("signed").pem();
            let path = |what: &str| directory.join(format!("{name}-{what}.pem"));
            let files = PemFiles { ca: path("ca"), certificate: path("cert"), key: path("key") };
            for (path, text) in
                [(&files.ca, &self.1), (&files.certificate, &certificate), (&files.key, &key.serialize_pem())]
            {
                std::fs::write(path, text).expect("a file");
            }
            files
        }
    }

    /// What the client reads of "hello", or why it cannot.
    async fn hello(server: &PemFiles, client: &PemFiles, host: &str) -> Result<String, String> {
        let acceptor = ApiAcceptor::from_files(server).map_err(|e| e.to_string())?;
        let listener = TcpListener::bind("0.0.0.0:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let serving = tokio::spawn(async move {
            let (tcp, _) = listener.accept().await.expect("a connection");
            if let Ok(mut stream) = acceptor.accept(tcp).await {
                stream.write_all(b"hello").await.ok();
                stream.shutdown().await.ok();
            }
        });
        let connector = ApiConnector::from_files(client).map_err(|e| e.to_string())?;
        let mut text = String::new();
        let mut stream = connector.connect(host, port).await.map_err(|e| e.to_string())?;
        let read = stream.read_to_string(&mut text).await.map_err(|e| e.to_string());
        serving.await.expect("the server's task");
        read.map(|_| text)
    }

    #[tokio::test]
    async fn e_43_both_sides_need_a_certificate_of_the_root_that_the_other_trusts() {
        let directory = tempfile::tempdir().expect("a directory");
        let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
        let (server, client) = (ours.files(directory.path(), "server"), ours.files(directory.path(), "client"));
        let stranger = theirs.files(directory.path(), "stranger");
        assert_eq!(hello(&server, &client, "localhost").await, Ok("hello".to_owned()));
        assert_eq!(hello(&server, &client, "127.0.0.1").await, Ok("hello".to_owned()));
        let wrong_name = hello(&server, &client, "127.0.0.2").await.expect_err("no such name");
        assert!(wrong_name.contains("not valid for name"), "{wrong_name}");
        let unknown = hello(&server, &stranger, "localhost").await.expect_err("the server is a stranger");
        assert!(unknown.contains("UnknownIssuer"), "{unknown}");
        let trusting = PemFiles { ca: server.ca.clone(), ..stranger };
        let refused = hello(&server, &trusting, "localhost").await.expect_err("the client is a stranger");
        assert!(refused.contains("UnknownCA") || refused.contains("DecryptError"), "{refused}");
    }

    #[test]
    fn e_43_files_that_do_not_hold_what_they_should_are_named() {
        let directory = tempfile::tempdir().expect("a directory");
        let good = Authority::new("ours").files(directory.path(), "server");
        let said = |files: PemFiles| ApiAcceptor::from_files(&files).err().map(|e| e.to_string()).unwrap_or_default();
        let missing = said(PemFiles { key: directory.path().join("gone.pem"), ..good.clone() });
        assert!(missing.contains("gone.pem"), "{missing}");
        let key_as_certificate = said(PemFiles { certificate: good.key.clone(), ..good.clone() });
        assert!(key_as_certificate.contains("no PEM certificate"), "{key_as_certificate}");
        let other = Authority::new("theirs").files(directory.path(), "other");
        let foreign_key = said(PemFiles { key: other.key, ..good });
        assert!(foreign_key.contains("server-cert.pem"), "{foreign_key}");
    }
}
