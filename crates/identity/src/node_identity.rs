//! Who this node is: its key and certificate, and the TLS made from them.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
};

use rustls::{
    ClientConfig, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tokio::{net::TcpStream, sync::watch};
use tokio_rustls::TlsAcceptor;
use types::{ClusterId, NodeId, NodeRole, Timestamp};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::{
    Digest, Error, Subject, Vault,
    authority::TRUSTED,
    root,
    tls::{self, Protocol, TlsStream},
};

/// A cheap handle on the node's current certificate. All copies see a renewed one at once; open
/// connections go on under the old one until they end.
#[derive(Clone)]
pub struct NodeIdentity {
    current: Arc<watch::Sender<Arc<Current>>>,
    listener: Arc<Mutex<Option<OwnListener>>>,
}

/// Where the manager of this host listens, and what others call that.
struct OwnListener {
    called: String,
    at: SocketAddr,
}

/// Tells when a node's certificate was renewed.
pub struct Renewals(watch::Receiver<Arc<Current>>);

struct Current {
    subject: Subject,
    key_pem: String,
    chain_pem: String,
    /// The roots that are trusted, the issuer last.
    roots_pem: String,
    not_before: Timestamp,
    not_after: Timestamp,
    client: Arc<ClientConfig>,
    node_client: Arc<ClientConfig>,
    engine_client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
    node_server: Arc<ServerConfig>,
}

/// A connection that somebody else opened to us.
pub struct Accepted {
    pub stream: TlsStream,
    /// `None` for a node that has no certificate yet.
    pub peer: Option<Subject>,
    /// What the other side wants to speak.
    pub protocol: Protocol,
}

/// Says whose it is, never the key.
impl std::fmt::Debug for NodeIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("NodeIdentity").field(&self.node()).finish()
    }
}

impl NodeIdentity {
    /// Key and certificates in one file of the vault, so that they are replaced in one step.
    pub const FILE: &str = "node.pem";

    /// From a private key and the chain that `CertificateAuthority::sign` gave.
    ///
    /// # Errors
    /// When they are not valid or do not belong together.
    pub fn from_pem(key_pem: &str, chain_pem: &str) -> Result<Self, Error> {
        let current = Arc::new(Current::from_pem(key_pem, chain_pem)?);
        Ok(Self { current: Arc::new(watch::Sender::new(current)), listener: Arc::default() })
    }

    /// The identity that [`Self::save`] left in the vault, if there is one.
    ///
    /// # Errors
    /// When the file is there but cannot be read, is damaged, or the vault is locked.
    pub fn load(vault: &Vault) -> Result<Option<Self>, Error> {
        let Some(bytes) = vault.read(Self::FILE)? else { return Ok(None) };
        let bad = || Error::Pem { what: "node certificate" };
        let text = String::from_utf8(bytes).map_err(|_| bad())?;
        let (key_pem, chain_pem) = text.split_at(text.find("-----BEGIN CERTIFICATE").ok_or_else(bad)?);
        Self::from_pem(key_pem, chain_pem).map(Some)
    }

    /// Writes the identity into the vault, in one step.
    ///
    /// # Errors
    /// When the file cannot be written; the one that was there stays.
    pub fn save(&self, vault: &Vault) -> Result<(), Error> {
        let current = self.current();
        vault.write(Self::FILE, format!("{}{}", current.key_pem, current.chain_pem).as_bytes())
    }

    /// Takes a renewed key and chain into use in all copies of this handle.
    ///
    /// # Errors
    /// When they are not valid; the old ones stay.
    pub fn replace(&self, key_pem: &str, chain_pem: &str) -> Result<(), Error> {
        let renewed = Arc::new(Current::from_pem(key_pem, chain_pem)?);
        self.current.send_replace(renewed);
        Ok(())
    }

    pub fn subject(&self) -> Subject {
        self.current().subject
    }

    pub fn node(&self) -> NodeId {
        self.subject().node
    }

    pub fn role(&self) -> NodeRole {
        self.subject().role
    }

    pub fn cluster(&self) -> ClusterId {
        self.subject().cluster
    }

    pub fn expires_at(&self) -> Timestamp {
        self.current().not_after
    }

    /// When to renew: between 50 and 80 % of the validity, at a point that `random` picks, so that
    /// nodes that joined together do not all renew together (parity C-17).
    pub fn renew_at(&self, random: u64) -> Timestamp {
        let current = self.current();
        let validity_ns = current.not_after.as_unix_ns().saturating_sub(current.not_before.as_unix_ns());
        let share_permille = 500 + random % 301;
        Timestamp::from_unix_ns(current.not_before.as_unix_ns() + validity_ns / 1000 * share_permille)
    }

    /// The root that signed this certificate, PEM.
    pub fn root_pem(&self) -> String {
        let roots = &self.current().roots_pem;
        roots[last_certificate(roots)..].to_owned()
    }

    /// All roots that this node trusts, the one that signed its certificate last, PEM.
    pub fn roots_pem(&self) -> String {
        self.current().roots_pem.clone()
    }

    /// Of the roots this node trusts, as managers name them.
    pub fn trust_digest(&self) -> Digest {
        root::trust_digest(&self.current().roots_pem)
    }

    /// For waiting until the certificate is another one.
    pub fn renewals(&self) -> Renewals {
        Renewals(self.current.subscribe())
    }

    /// The manager of this host listens there from now on, and others call it so. What others call it may lead here from
    /// elsewhere alone (NAT, a floating address); whoever on this host dials that gets the listener itself.
    pub fn set_listener(&self, called: &str, bound: SocketAddr) {
        let own: IpAddr = match bound.ip() {
            IpAddr::V4(any) if any.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(any) if any.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            own => own,
        };
        let listener = OwnListener { called: called.to_owned(), at: SocketAddr::new(own, bound.port()) };
        *self.listener.lock().unwrap_or_else(PoisonError::into_inner) = Some(listener);
    }

    /// The listener of this host's own manager, where that is what this address means.
    pub fn own_listener(&self, address: &str) -> Option<SocketAddr> {
        let listener = self.listener.lock().unwrap_or_else(PoisonError::into_inner);
        listener.as_ref().filter(|own| own.called == address).map(|own| own.at)
    }

    /// Dials a manager of this cluster at `host:port`; both sides prove who they are.
    ///
    /// # Errors
    /// As TCP and TLS give them.
    pub async fn connect(self, address: String) -> io::Result<TlsStream> {
        let client = self.current().client.clone();
        if let Some(own) = self.own_listener(&address) {
            // of a manager that has stopped nobody listens here: whoever has that address now is asked
            if let Ok(stream) = tls::connect(client.clone(), &own.to_string()).await {
                return Ok(stream);
            }
        }
        tls::connect(client, &address).await
    }

    /// Who answers at `host:port`: a manager of this cluster, or nobody.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub async fn manager_at(self, address: String) -> io::Result<Subject> {
        let stream = self.connect(address).await?;
        let leaf = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let leaf = leaf.ok_or_else(|| io::Error::other("the other side has no certificate"))?;
        Subject::of_certificate(leaf).map_err(io::Error::other)
    }

    /// Dials one node of this cluster, whatever its role, at `host:port`; both sides prove who they are.
    ///
    /// # Errors
    /// As TCP and TLS give them; `InvalidData` where another node answers there.
    pub async fn connect_node(self, address: String, node: NodeId) -> io::Result<TlsStream> {
        let client = self.current().node_client.clone();
        dial_node(client, &address, node).await
    }

    /// The same, to ask about a container of that node ([`Protocol::Engine`]).
    ///
    /// # Errors
    /// As [`Self::connect_node`]; a node that is too old to be asked refuses the handshake.
    pub async fn connect_engine(self, address: String, node: NodeId) -> io::Result<TlsStream> {
        let client = self.current().engine_client.clone();
        dial_node(client, &address, node).await
    }

    /// Takes a connection as a manager's server, which speaks gRPC alone.
    ///
    /// # Errors
    /// When the handshake fails: no TLS, or a certificate of another cluster.
    pub async fn accept(&self, tcp: TcpStream) -> io::Result<Accepted> {
        accept(self.current().server.clone(), tcp).await
    }

    /// Takes a connection as any node's server; the caller chooses what is spoken.
    ///
    /// # Errors
    /// As [`Self::accept`].
    pub async fn accept_node(&self, tcp: TcpStream) -> io::Result<Accepted> {
        accept(self.current().node_server.clone(), tcp).await
    }

    fn current(&self) -> Arc<Current> {
        self.current.borrow().clone()
    }
}

async fn dial_node(config: Arc<ClientConfig>, address: &str, node: NodeId) -> io::Result<TlsStream> {
    let stream = tls::connect(config, address).await?;
    let bad = |reason: String| io::Error::new(io::ErrorKind::InvalidData, reason);
    let leaf = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let leaf = leaf.ok_or_else(|| bad("the other side has no certificate".to_owned()))?;
    let found = Subject::of_certificate(leaf).map_err(|e| bad(e.to_string()))?;
    if found.node != node {
        return Err(bad(format!("node {} answers at {address}, not {node}", found.node)));
    }
    Ok(stream)
}

async fn accept(config: Arc<ServerConfig>, tcp: TcpStream) -> io::Result<Accepted> {
    tcp.set_nodelay(true)?;
    let stream = TlsAcceptor::from(config).accept(tcp).await?;
    let (_, session) = stream.get_ref();
    let certificates = session.peer_certificates().unwrap_or_default();
    let peer = certificates.first().map(|leaf| Subject::of_certificate(leaf)).transpose();
    let peer = peer.map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
    let protocol = Protocol::agreed(session.alpn_protocol());
    Ok(Accepted { stream: stream.into(), peer, protocol })
}

impl Current {
    fn from_pem(key_pem: &str, chain_pem: &str) -> Result<Self, Error> {
        let bad = |_| Error::Pem { what: "node certificate" };
        let chain: Vec<_> =
            CertificateDer::pem_slice_iter(chain_pem.as_bytes()).collect::<Result<_, _>>().map_err(bad)?;
        let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).map_err(|_| Error::Pem { what: "node key" })?;
        let [leaf, _, ..] = &chain[..] else { return Err(Error::Pem { what: "node certificate and its root" }) };
        // texts of earlier versions have one root, at the end
        let roots_pem =
            chain_pem.split_once(TRUSTED).map_or(&chain_pem[last_certificate(chain_pem)..], |(_, roots)| roots);
        let roots: Vec<_> =
            CertificateDer::pem_slice_iter(roots_pem.as_bytes()).collect::<Result<_, _>>().map_err(bad)?;
        if roots.is_empty() {
            return Err(Error::Pem { what: "root certificates" });
        }
        let (not_before, not_after) = validity(leaf)?;
        Ok(Self {
            subject: Subject::of_certificate(leaf)?,
            not_before,
            not_after,
            client: tls::client_config(&chain, &key, &roots)?,
            node_client: tls::node_client_config(&chain, &key, &roots, Protocol::Rpc)?,
            engine_client: tls::node_client_config(&chain, &key, &roots, Protocol::Engine)?,
            server: tls::server_config(&chain, &key, &roots, &[Protocol::Rpc])?,
            node_server: tls::server_config(&chain, &key, &roots, &[Protocol::Rpc, Protocol::Engine])?,
            key_pem: key_pem.to_owned(),
            chain_pem: chain_pem.to_owned(),
            roots_pem: roots_pem.to_owned(),
        })
    }
}

/// Where the last certificate of a text begins.
fn last_certificate(pem: &str) -> usize {
    pem.rfind("-----BEGIN CERTIFICATE").unwrap_or(0)
}

impl Renewals {
    /// Returns after the next renewal; never once the node is gone.
    pub async fn next(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

fn validity(der: &[u8]) -> Result<(Timestamp, Timestamp), Error> {
    let bad = |reason: String| Error::Certificate { what: "node certificate", reason };
    let (_, certificate) = X509Certificate::from_der(der).map_err(|e| bad(e.to_string()))?;
    let at = |seconds: i64| Timestamp::from_unix_ms(u64::try_from(seconds).unwrap_or(0).saturating_mul(1000));
    let validity = certificate.validity();
    Ok((at(validity.not_before.timestamp()), at(validity.not_after.timestamp())))
}
