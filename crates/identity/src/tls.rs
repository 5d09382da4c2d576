//! TLS configurations. Everything is TLS 1.2 or 1.3, and ALPN says what is spoken inside.

use std::{io, sync::Arc};

use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring::default_provider},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime},
    server::WebPkiClientVerifier,
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::{Digest, Error, digest, subject::role_name};

/// A mutually known, encrypted connection.
pub type TlsStream = tokio_rustls::TlsStream<TcpStream>;

/// What is spoken on a connection; both sides agree on it in the handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// gRPC.
    Rpc,
    /// The engine's HTTP, about a container of the node that is asked.
    Engine,
}

impl Protocol {
    const ENGINE_NAME: &[u8] = b"rswarm-engine/1";

    fn alpn(self) -> Vec<u8> {
        match self {
            Self::Rpc => b"h2".to_vec(),
            Self::Engine => Self::ENGINE_NAME.to_vec(),
        }
    }

    /// Of a connection that was accepted: who names none speaks gRPC, as all did before there was a choice.
    pub(crate) fn agreed(alpn: Option<&[u8]>) -> Self {
        if alpn == Some(Self::ENGINE_NAME) { Self::Engine } else { Self::Rpc }
    }
}

pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(default_provider())
}

/// The name every server certificate is checked for: only managers serve.
fn manager_name() -> ServerName<'static> {
    ServerName::try_from(role_name(types::NodeRole::Manager)).expect("the role's name is a DNS name")
}

fn roots_of(trusted: &[CertificateDer<'static>]) -> Result<Arc<RootCertStore>, rustls::Error> {
    let mut roots = RootCertStore::empty();
    for root in trusted {
        roots.add(root.clone())?;
    }
    Ok(Arc::new(roots))
}

/// For dialling managers with the node's own certificate.
pub(crate) fn client_config(
    chain: &[CertificateDer<'static>],
    key: &PrivateKeyDer<'static>,
    roots: &[CertificateDer<'static>],
) -> Result<Arc<ClientConfig>, Error> {
    let roots = roots_of(roots).map_err(Error::Tls)?;
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(Error::Tls)?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain.to_vec(), key.clone_key())
        .map_err(Error::Tls)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

/// For dialling any node: its certificate may be a worker's. Which node it is the caller compares.
pub(crate) fn node_client_config(
    chain: &[CertificateDer<'static>],
    key: &PrivateKeyDer<'static>,
    roots: &[CertificateDer<'static>],
    protocol: Protocol,
) -> Result<Arc<ClientConfig>, Error> {
    let roots = roots_of(roots).map_err(Error::Tls)?;
    let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider())
        .build()
        .map_err(|e| Error::Certificate { what: "root certificate", reason: e.to_string() })?;
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(Error::Tls)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(EitherRole(verifier)))
        .with_client_auth_cert(chain.to_vec(), key.clone_key())
        .map_err(Error::Tls)?;
    config.alpn_protocols = vec![protocol.alpn()];
    Ok(Arc::new(config))
}

/// A certificate of the cluster, of a manager or of a worker.
#[derive(Debug)]
struct EitherRole(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for EitherRole {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let as_role = |role| {
            let name = ServerName::try_from(role_name(role)).expect("the role's name is a DNS name");
            self.0.verify_server_cert(leaf, chain, &name, ocsp, now)
        };
        as_role(types::NodeRole::Manager).or_else(|_| as_role(types::NodeRole::Worker))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// For serving. A client without a certificate gets through the handshake, because joining nodes
/// have none yet; one with a certificate of another root does not.
pub(crate) fn server_config(
    chain: &[CertificateDer<'static>],
    key: &PrivateKeyDer<'static>,
    roots: &[CertificateDer<'static>],
    protocols: &[Protocol],
) -> Result<Arc<ServerConfig>, Error> {
    let roots = roots_of(roots).map_err(Error::Tls)?;
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider())
        .allow_unauthenticated()
        .build()
        .map_err(|e| Error::Certificate { what: "root certificate", reason: e.to_string() })?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(Error::Tls)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain.to_vec(), key.clone_key())
        .map_err(Error::Tls)?;
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.alpn()).collect();
    Ok(Arc::new(config))
}

pub(crate) async fn connect(config: Arc<ClientConfig>, address: &str) -> io::Result<TlsStream> {
    let tcp = TcpStream::connect(address).await?;
    tcp.set_nodelay(true)?;
    Ok(TlsConnector::from(config).connect(manager_name(), tcp).await?.into())
}

/// Dials a manager without a certificate of one's own, trusting exactly the cluster whose root
/// certificate has this digest. For joining.
///
/// # Errors
/// As TCP and TLS give them; a root with another digest is `InvalidData` with
/// [`rustls::CertificateError::UnknownIssuer`] inside.
pub async fn connect_pinned(address: String, pin: Digest) -> io::Result<TlsStream> {
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(PinnedRoot { pin, provider: provider() }));
    let mut config = config.with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    connect(Arc::new(config), &address).await
}

/// Accepts a chain that contains a root with the pinned digest and verifies against it.
#[derive(Debug)]
struct PinnedRoot {
    pin: Digest,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for PinnedRoot {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let unknown = || rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        let root = chain.iter().find(|c| digest(c) == self.pin).ok_or_else(unknown)?;
        let roots = roots_of(&[root.clone().into_owned()])?;
        let verifier =
            WebPkiServerVerifier::builder_with_provider(roots, self.provider.clone()).build().map_err(|_| unknown())?;
        verifier.verify_server_cert(leaf, chain, name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
