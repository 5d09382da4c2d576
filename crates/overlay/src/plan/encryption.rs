//! What a plan says of encryption. Pure.

use std::{collections::BTreeMap, fmt, net::IpAddr, str::FromStr};

use serde::{Deserialize, Serialize};
use types::NodeId;

use super::NetworkPlan;

/// The mesh of WireGuard peers that encrypted overlays travel in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Encryption {
    #[serde(default)]
    pub backend: EncryptionBackend,
    pub private_key: PrivateKey,
    /// UDP port of WireGuard, the same on every host.
    pub port: u16,
    pub peers: BTreeMap<NodeId, EncryptionPeer>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EncryptionPeer {
    pub public_key: [u8; 32],
    /// The peer's address in the underlay.
    pub address: IpAddr,
}

/// Who seals and opens the packets of encrypted overlays on this host. Peers cannot tell the difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EncryptionBackend {
    /// The data plane process ([`crate::wireguard`]).
    #[default]
    Userspace,
    /// The kernel's WireGuard ([`crate::tunnel`]).
    Kernel,
}

impl fmt::Display for EncryptionBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Userspace => "userspace",
            Self::Kernel => "kernel",
        })
    }
}

/// What a user may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EncryptionChoice {
    /// The kernel where it has WireGuard.
    #[default]
    Auto,
    Always(EncryptionBackend),
}

/// A word that names no choice.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is neither auto nor kernel nor userspace")]
pub struct EncryptionChoiceError(String);

impl FromStr for EncryptionChoice {
    type Err = EncryptionChoiceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Auto),
            "kernel" => Ok(Self::Always(EncryptionBackend::Kernel)),
            "userspace" => Ok(Self::Always(EncryptionBackend::Userspace)),
            other => Err(EncryptionChoiceError(other.to_owned())),
        }
    }
}

impl EncryptionChoice {
    /// Who does it, on a kernel with WireGuard or without, as that itself says.
    ///
    /// # Errors
    /// A sentence when what was asked for is not there.
    pub fn on(self, kernel: Result<(), String>) -> Result<EncryptionBackend, String> {
        match (self, kernel) {
            (Self::Always(EncryptionBackend::Userspace), _) | (Self::Auto, Err(_)) => Ok(EncryptionBackend::Userspace),
            (_, Ok(())) => Ok(EncryptionBackend::Kernel),
            (Self::Always(EncryptionBackend::Kernel), Err(why)) => Err(format!(
                "--encryption kernel: this host's kernel has no WireGuard ({why}): load its module (modprobe wireguard; in \
                 a container: on its host), or leave the flag out, which encrypts in user space and works with every peer"
            )),
        }
    }
}

impl NetworkPlan {
    /// Whether the kernel does the work of encryption on this host.
    pub fn is_sealed_by_kernel(&self) -> bool {
        let encryption = self.data_path.as_ref().and_then(|path| path.encryption.as_ref());
        encryption.is_some_and(|encryption| encryption.backend == EncryptionBackend::Kernel)
    }
}

/// The secret half of this host's WireGuard key (X25519, RFC 7748). Never printed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PrivateKey([u8; 32]);

impl From<[u8; 32]> for PrivateKey {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl PrivateKey {
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// N-04: the kernel is taken where it can, and what was asked for in so many words is taken or refused.
    #[test]
    fn n04_the_choice_is_kept_or_refused() {
        let on = |word: &str, kernel: Result<(), &str>| {
            word.parse::<EncryptionChoice>().expect("word").on(kernel.map_err(str::to_owned))
        };
        let (kernel, user) = (EncryptionBackend::Kernel, EncryptionBackend::Userspace);
        assert_eq!((on("auto", Ok(())), on("auto", Err("no"))), (Ok(kernel), Ok(user)));
        assert_eq!((on("userspace", Ok(())), on("kernel", Ok(()))), (Ok(user), Ok(kernel)));
        let refused = on("kernel", Err("Operation not supported")).expect_err("refused");
        assert!(refused.contains("(Operation not supported)") && refused.contains("modprobe wireguard"), "{refused}");
        assert!("ipsec".parse::<EncryptionChoice>().is_err());
    }
}
