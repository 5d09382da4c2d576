//! The one cluster object.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use crate::{ClusterId, ClusterSpec, Meta, NodeDescription, RegistryLogin, RegistryScope};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    pub id: ClusterId,
    #[serde(default)]
    pub meta: Meta,
    pub spec: ClusterSpec,
    pub root_ca: RootCa,
    pub join: JoinSecrets,
    /// Shared by all data planes: authenticates probes.
    pub probe_key: [u8; 32],
    /// UDP port of VXLAN between hosts; chosen at init, for good (parity C-05).
    #[serde(default = "default_data_path_port")]
    pub data_path_port: u16,
    /// What seals the managers' own keys on their disks (parity C-14); `None` while managers are not locked.
    #[serde(default)]
    pub unlock_key: Option<UnlockKey>,
    /// Credentials for registries, which all nodes use (P17).
    #[serde(default)]
    pub registries: BTreeMap<RegistryScope, RegistryLogin>,
}

/// The key that opens a locked manager. Its text form is `identity`'s, so that nothing prints it by accident.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnlockKey(pub [u8; 32]);

impl fmt::Debug for UnlockKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UnlockKey(..)")
    }
}

fn default_data_path_port() -> u16 {
    crate::DEFAULT_DATA_PATH_PORT
}

/// The certificate authority of the cluster. The key never leaves the managers.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootCa {
    /// What join tokens pin.
    pub certificate_pem: String,
    pub key_pem: String,
    /// The root that is to take its place (parity C-18).
    #[serde(default)]
    pub rotation: Option<Box<RootRotation>>,
}

/// A root on its way in: all new certificates are signed by it, and nodes trust both.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootRotation {
    pub certificate_pem: String,
    pub key_pem: String,
    /// The same holder and key, signed by the root that goes: with it nodes that have not heard of the new root trust
    /// its certificates already.
    #[serde(default)]
    pub cross_signed_pem: String,
}

impl RootCa {
    /// A root that stays.
    pub fn new(certificate_pem: impl Into<String>, key_pem: impl Into<String>) -> Self {
        Self { certificate_pem: certificate_pem.into(), key_pem: key_pem.into(), rotation: None }
    }

    /// The certificate of the root that signs now.
    pub fn issuer_pem(&self) -> &str {
        self.rotation.as_ref().map_or(&self.certificate_pem, |next| &next.certificate_pem)
    }

    /// All roots that nodes are to trust now, the one that signs last.
    pub fn roots_pem(&self) -> String {
        match &self.rotation {
            Some(next) => format!("{}{}", self.certificate_pem, next.certificate_pem),
            None => self.certificate_pem.clone(),
        }
    }

    /// Whether a node that says this of itself has a certificate as it would get it now.
    pub fn is_followed_by(&self, told: &NodeDescription) -> bool {
        let others = match &self.rotation {
            Some(next) => told.tls_roots_pem.strip_prefix(&self.certificate_pem) == Some(&next.certificate_pem),
            None => told.tls_roots_pem.is_empty(),
        };
        others && told.tls_issuer_pem == self.issuer_pem()
    }
}

impl fmt::Debug for RootCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("RootCa");
        shown.field("certificate_pem", &self.certificate_pem).field("rotation", &self.rotation);
        shown.finish_non_exhaustive()
    }
}

impl fmt::Debug for RootRotation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RootRotation").field("certificate_pem", &self.certificate_pem).finish_non_exhaustive()
    }
}

/// The secret halves of the join tokens, 16 random bytes each (parity C-10).
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinSecrets {
    pub worker: [u8; 16],
    pub manager: [u8; 16],
}

impl fmt::Debug for JoinSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JoinSecrets(..)")
    }
}
