//! What a certificate says of its holder.

use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use types::{ClusterId, NodeId, NodeRole};
use x509_parser::prelude::{FromDer, X509Certificate, X509Name};

use crate::Error;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subject {
    pub node: NodeId,
    pub role: NodeRole,
    pub cluster: ClusterId,
}

/// Whose certificate it is and for which key, each in DER: what clients of the API compare two roots by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    pub subject: Vec<u8>,
    /// `SubjectPublicKeyInfo` of RFC 5280.
    pub public_key: Vec<u8>,
}

impl Holder {
    /// Of the first certificate of a PEM text; `None` if there is none that can be read.
    pub fn of_pem(pem: &str) -> Option<Self> {
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).ok()?;
        let (_, certificate) = X509Certificate::from_der(&der).ok()?;
        Some(Self {
            subject: certificate.subject().as_raw().to_vec(),
            public_key: certificate.public_key().raw.to_vec(),
        })
    }
}

/// The name that stands in a certificate for a role: its OU and its DNS name.
pub(crate) fn role_name(role: NodeRole) -> &'static str {
    match role {
        NodeRole::Worker => "swarm-worker",
        NodeRole::Manager => "swarm-manager",
    }
}

impl Subject {
    /// Reads the subject of a certificate that has already been verified.
    pub(crate) fn of_certificate(der: &[u8]) -> Result<Self, Error> {
        let bad = |reason: String| Error::Certificate { what: "node certificate", reason };
        let (_, certificate) = X509Certificate::from_der(der).map_err(|e| bad(e.to_string()))?;
        let name = certificate.subject();
        let role = match first(name.iter_organizational_unit()).as_deref() {
            Some("swarm-worker") => NodeRole::Worker,
            Some("swarm-manager") => NodeRole::Manager,
            other => return Err(bad(format!("its OU is {other:?}, want swarm-worker or swarm-manager"))),
        };
        Ok(Self {
            node: part(name, "CN", first(name.iter_common_name())).map_err(bad)?,
            role,
            cluster: part(name, "O", first(name.iter_organization())).map_err(bad)?,
        })
    }
}

fn first<'a>(mut values: impl Iterator<Item = &'a x509_parser::x509::AttributeTypeAndValue<'a>>) -> Option<String> {
    values.next().and_then(|value| value.as_str().ok()).map(str::to_owned)
}

fn part<K>(name: &X509Name<'_>, key: &str, value: Option<String>) -> Result<types::Id<K>, String> {
    let value = value.ok_or_else(|| format!("its subject {name} has no {key}"))?;
    value.parse().map_err(|e| format!("the {key} of its subject is not an id: {e}"))
}
