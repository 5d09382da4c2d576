//! WireGuard keys of a host. The private half stays on the host that made it.

use std::sync::Arc;

use boringtun::{
    noise::rate_limiter::RateLimiter,
    x25519::{PublicKey, StaticSecret},
};
use ring::rand::{SecureRandom, SystemRandom};

use super::WireguardError;
use crate::PrivateKey;

/// Handshakes in a second that are answered without asking for a cookie first: each costs about 0.2 ms, and
/// a cluster of a thousand hosts that all start again needs no more.
const HANDSHAKES_A_SECOND: u64 = 1000;

/// A key of this host: the present one, or one that is being replaced.
#[derive(Clone)]
pub struct OwnKey {
    pub private: PrivateKey,
    pub public: [u8; 32],
    pub limiter: Arc<RateLimiter>,
}

impl OwnKey {
    pub fn new(private: PrivateKey) -> Self {
        let public = public_key(&private);
        let limiter = Arc::new(RateLimiter::new(&PublicKey::from(public), HANDSHAKES_A_SECOND));
        Self { private, public, limiter }
    }
}

/// A new key pair: the private half for the plan of this host, the public half for all others.
///
/// # Errors
/// When the system has no randomness to give.
pub fn generate_key_pair() -> Result<(PrivateKey, [u8; 32]), WireguardError> {
    let mut bytes = [0; 32];
    SystemRandom::new().fill(&mut bytes).map_err(|_| WireguardError::Randomness)?;
    let private = PrivateKey::from(bytes);
    let public = public_key(&private);
    Ok((private, public))
}

/// The public half of a private key.
pub fn public_key(private: &PrivateKey) -> [u8; 32] {
    PublicKey::from(&StaticSecret::from(*private.bytes())).to_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> [u8; 32] {
        std::array::from_fn(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).expect("hexadecimal"))
    }

    /// RFC 7748, section 5.2: nine times the base point.
    #[test]
    fn the_public_half_is_as_the_standard_says() {
        let nine = std::array::from_fn(|at| if at == 0 { 9 } else { 0 });
        let expected = hex("422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079");
        assert_eq!(public_key(&PrivateKey::from(nine)), expected);
    }

    #[test]
    fn every_pair_is_new() {
        let (private, public) = generate_key_pair().expect("keys");
        assert_eq!(public_key(&private), public);
        assert_ne!(generate_key_pair().expect("keys").1, public);
    }
}
