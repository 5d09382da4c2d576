//! Whose certificate a registry may show, and which one it is shown: the system's authorities and those of the registry's own
//! directory, with the client's certificates there; of an insecure registry anybody's.
//!
//! Called once for each pull, push or login, so that a file counts from the next one on, as with Docker's daemon. Never for
//! connections between hosts of a cluster.

use std::{
    ffi::OsStr,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use rustls::{
    CertificateError, ClientConfig, ConfigBuilder, DigitallySignedStruct, RootCertStore, SignatureScheme,
    WantsVerifier,
    client::{
        ResolvesClientCert, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _},
    server::ParsedCertificate,
    sign::CertifiedKey,
};

use super::endpoint::Candidate;
use crate::{
    error::{Error, Result},
    store::blocking,
};

/// Where each registry has a directory by its name, `HOST[:PORT]`: `*.crt` are authorities that are trusted beside the
/// system's, `*.cert` with `*.key` what registries are shown that ask for a client's certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateDirectories(pub Vec<PathBuf>);

impl Default for CertificateDirectories {
    /// Beside the daemon's configuration, and where Docker's daemon has them.
    fn default() -> Self {
        Self(["/etc/rswarm/certs.d", "/etc/docker/certs.d"].map(PathBuf::from).into())
    }
}

/// How to speak TLS with a registry.
///
/// # Errors
/// [`Error::Unusable`] and [`Error::File`] name the file that is not taken.
pub(super) async fn config_for(candidate: &Candidate, directories: &CertificateDirectories) -> Result<ClientConfig> {
    if candidate.is_insecure {
        let builder = builder().dangerous().with_custom_certificate_verifier(Arc::new(Anybody));
        return Ok(builder.with_no_client_auth());
    }
    let directories: Vec<PathBuf> = directories.0.iter().map(|all| all.join(&candidate.host)).collect();
    let found = blocking("reading a registry's certificates", move || {
        let mut found = Found::default();
        for directory in directories {
            found.read(&directory)?;
        }
        Ok(found)
    });
    found.await?.config()
}

/// As a browser would: for what is no registry.
pub(super) fn public() -> Result<ClientConfig> {
    Found::default().config()
}

/// What the directories of one registry have.
#[derive(Default)]
struct Found {
    authorities: Vec<CertificateDer<'static>>,
    clients: Vec<Arc<CertifiedKey>>,
}

impl Found {
    fn read(&mut self, directory: &Path) -> Result<()> {
        let entries = match fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(());
            }
            Err(error) => return Err(Error::file("list", directory, error)),
        };
        let mut paths = Vec::new();
        for entry in entries {
            paths.push(entry.map_err(|e| Error::file("list", directory, e))?.path());
        }
        paths.sort();
        for path in paths {
            match path.extension().and_then(OsStr::to_str) {
                Some("crt") => self.authorities.extend(certificates(&path)?),
                Some("cert") => self.clients.push(client(&path)?),
                Some("key") if !path.with_extension("cert").exists() => {
                    let reason = format!("its certificate {} is not there", path.with_extension("cert").display());
                    return Err(unusable("client's key", &path, reason));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn config(self) -> Result<ClientConfig> {
        let builder = match self.authorities.is_empty() {
            true => builder().with_root_certificates(Arc::clone(system_roots())),
            false => {
                let verifier = Arc::new(Trusted::new(self.authorities)?);
                builder().dangerous().with_custom_certificate_verifier(verifier)
            }
        };
        Ok(match self.clients.is_empty() {
            true => builder.with_no_client_auth(),
            false => builder.with_client_cert_resolver(Arc::new(Clients(self.clients))),
        })
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let pem = fs::read(path).map_err(|e| Error::file("read", path, e))?;
    let found = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>();
    match found {
        Ok(found) if found.is_empty() => {
            Err(unusable("certificate", path, "there is none in it; write it as PEM".to_owned()))
        }
        Ok(found) => Ok(found),
        Err(error) => Err(unusable("certificate", path, error.to_string())),
    }
}

/// A client's certificate with the key beside it.
fn client(path: &Path) -> Result<Arc<CertifiedKey>> {
    let key_path = path.with_extension("key");
    if !key_path.exists() {
        let reason = format!("its key {} is not there; certificates of CAs end in .crt", key_path.display());
        return Err(unusable("client's certificate", path, reason));
    }
    let chain = certificates(path)?;
    let pem = fs::read(&key_path).map_err(|e| Error::file("read", &key_path, e))?;
    let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|e| unusable("client's key", &key_path, e.to_string()))?;
    let pair = CertifiedKey::from_der(chain, key, &provider());
    pair.map(Arc::new).map_err(|e| unusable("client's certificate", path, format!("with its key: {e}")))
}

fn unusable(what: &str, path: &Path, reason: String) -> Error {
    Error::Unusable { what: format!("{what} {}", path.display()), reason }
}

fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| Arc::new(ring::default_provider())))
}

fn builder() -> ConfigBuilder<ClientConfig, WantsVerifier> {
    ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("ring has suites for the default versions")
}

/// The system's certificate authorities; none is no reason to refuse registries without TLS.
fn system_roots() -> &'static Arc<RootCertStore> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    ROOTS.get_or_init(|| {
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            tracing::warn!(errors = ?found.errors, "no certificate authorities on this host (install ca-certificates): registries with TLS cannot be verified");
        }
        Arc::new(roots)
    })
}

/// The system's authorities and the registry's own.
#[derive(Debug)]
struct Trusted {
    verifier: Arc<WebPkiServerVerifier>,
    own: Vec<CertificateDer<'static>>,
}

impl Trusted {
    fn new(own: Vec<CertificateDer<'static>>) -> Result<Self> {
        let mut roots = RootCertStore::clone(system_roots());
        let what = "certificates of the registry's CA";
        let unusable = |reason: String| Error::Unusable { what: what.to_owned(), reason };
        for certificate in &own {
            roots.add(certificate.clone()).map_err(|e| unusable(e.to_string()))?;
        }
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider()).build();
        Ok(Self { verifier: verifier.map_err(|e| unusable(e.to_string()))?, own })
    }
}

impl ServerCertVerifier for Trusted {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified = self.verifier.verify_server_cert(leaf, chain, name, ocsp, now);
        // The registry's own certificate is often put here in place of its CA's: one that nobody here signed, or one of a
        // CA itself (`openssl req -x509`), which is refused as a server's. Both come after its dates were found good. It was
        // put here by hand, so it is the one where it is for this name, as with Docker.
        match verified {
            Err(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::Other(_)))
                if self.own.iter().any(|own| own[..] == leaf[..]) =>
            {
                verify_server_name(&ParsedCertificate::try_from(leaf)?, name)?;
                Ok(ServerCertVerified::assertion())
            }
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}

/// Anybody: somebody in between would show a certificate of their own, with a good signature.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

/// The certificates of a client, of which the registry gets one that it says it takes.
#[derive(Debug)]
struct Clients(Vec<Arc<CertifiedKey>>);

impl ResolvesClientCert for Clients {
    fn resolve(&self, issuers: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let mut usable = self.0.iter().filter(|pair| pair.key.choose_scheme(schemes).is_some());
        // a certificate holds its issuer's name as it is written here
        let named = |pair: &&Arc<CertifiedKey>| {
            issuers.is_empty() || pair.cert.iter().any(|c| issuers.iter().any(|name| contains(c, name)))
        };
        usable.find(named).cloned()
    }

    fn has_certs(&self) -> bool {
        true
    }
}

fn contains(all: &[u8], part: &[u8]) -> bool {
    !part.is_empty() && all.windows(part.len()).any(|window| window == part)
}
