//! Keys, certificates, join tokens and TLS configurations: who is who in a cluster; and how keys lie
//! on the disk.
//!
//! Used by `manager` (which signs and serves) and `node` (which joins, renews and dials), and by `api` and `cli` for
//! the API over TCP. The only
//! crate that names `rustls`, `rcgen` and `x509-parser`. It must never open a connection without
//! TLS, and never trust a certificate that its cluster's root did not sign.
//!
//! The shape is the one of swarmkit's `ca` package (parity C-10, C-16): ECDSA P-256, a root that
//! lives 20 years, node certificates with CN = node id, OU = role, O = cluster id, and the role
//! once more as a DNS name, so that ordinary name checking proves that a server is a manager.

mod api_tls;
mod authority;
mod backup;
mod base36;
mod error;
mod key_pair;
mod node_identity;
mod root;
mod seal;
mod subject;
mod tls;
mod token;
mod unlock_key;
mod vault;

pub use api_tls::{ApiAcceptor, ApiConnector, ApiStream, Duplex, PemFiles};
pub use authority::CertificateAuthority;
pub use backup::{Backup, BackupError, seal_backup};
pub use error::Error;
pub use key_pair::KeyPair;
pub use node_identity::{Accepted, NodeIdentity, Renewals};
pub use root::{next_root, trust_digest};
pub use subject::{Holder, Subject};
pub use tls::{Protocol, TlsStream, connect_pinned};
pub use token::{JoinToken, TokenError};
pub use unlock_key::{UnlockKeyError, parse_unlock_key, unlock_key_text};
pub use vault::{UnlockError, Vault};

/// SHA-256 of a certificate in DER form.
pub type Digest = [u8; 32];

fn digest(der: &[u8]) -> Digest {
    let hash = ring::digest::digest(&ring::digest::SHA256, der);
    hash.as_ref().try_into().expect("SHA-256 gives 32 bytes")
}
