//! A node's private key.

use crate::Error;

/// An ECDSA P-256 key pair, and the request to certify it.
pub struct KeyPair {
    pem: String,
    csr_pem: String,
}

impl KeyPair {
    /// A fresh key pair.
    ///
    /// # Errors
    /// When the operating system gives no randomness.
    pub fn generate() -> Result<Self, Error> {
        let key = rcgen::KeyPair::generate().map_err(Error::Generate)?;
        let request = rcgen::CertificateParams::default().serialize_request(&key).map_err(Error::Generate)?;
        Ok(Self { pem: key.serialize_pem(), csr_pem: request.pem().map_err(Error::Generate)? })
    }

    /// The private key, PKCS #8 PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A certificate signing request for the key, PKCS #10 PEM. Whoever signs decides the subject.
    pub fn csr_pem(&self) -> &str {
        &self.csr_pem
    }
}
