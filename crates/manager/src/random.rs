//! Randomness for ids. Loops draw it and pass it on; nothing that decides does.

use ring::rand::{SecureRandom, SystemRandom};

/// 128 fresh random bits.
pub(crate) fn u128() -> u128 {
    let mut bytes = [0_u8; 16];
    SystemRandom::new().fill(&mut bytes).expect("the kernel gives random bytes once it has booted");
    u128::from_be_bytes(bytes)
}
