//! The one cluster object.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use crate::{ClusterId, ClusterSpec, Meta, RegistryLogin, RegistryScope};

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
    pub certificate_pem: String,
    pub key_pem: String,
}

impl fmt::Debug for RootCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RootCa").field("certificate_pem", &self.certificate_pem).finish_non_exhaustive()
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
