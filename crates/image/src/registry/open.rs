//! How a registry speaks: with TLS and a certificate that is verified, or, where it is insecure, with TLS and any certificate,
//! and without where nobody there speaks TLS.
//!
//! Found out once, at the beginning of a pull, push or login; all that follows goes the same way. An answer over TLS is the
//! registry's, whatever it says, so that no password is ever sent in plain text to who has TLS.

use std::time::Duration;

use bytes::Bytes;
use hyper::{Method, StatusCode};

use super::{
    auth::Credentials,
    client::Registry,
    endpoint::Candidate,
    http::{Ask, Http, HttpError, read_body},
    tls::{CertificateDirectories, config_for},
};
use crate::error::{Error, Result};

/// As long as Docker waits; a port that takes connections and is silent is given up.
const PING_TIMEOUT: Duration = Duration::from_secs(15);
/// Of an answer to a ping, which is `{}` or a refusal.
const MAX_PING_BYTES: u64 = 64 << 10;
/// Of a refusal, as much as goes into an error.
const SHOWN_CHARACTERS: usize = 200;

impl Registry {
    /// # Errors
    /// [`Error::RegistryUnreachable`] names all that was tried; certificates of this host that cannot be used.
    pub(super) async fn open(
        candidate: &Candidate,
        repository: &str,
        credentials: Option<Credentials>,
        certificates: &CertificateDirectories,
    ) -> Result<Self> {
        let tls = config_for(candidate, certificates).await?;
        let by = |scheme: &str| {
            let http = Http::new(tls.clone(), candidate.is_insecure);
            Self::new(http, candidate.endpoint(scheme), repository, credentials.clone())
        };
        if let [only] = candidate.schemes {
            return Ok(by(only));
        }
        let mut tried = Vec::new();
        for scheme in candidate.schemes {
            let registry = by(scheme);
            match registry.ping().await {
                Ok(()) => return Ok(registry),
                Err(error) => tried.push(format!("by {scheme}: {}", error.into_reason())),
            }
        }
        Err(Error::RegistryUnreachable { registry: candidate.host.clone(), reason: tried.join("; ") })
    }

    /// Whether anybody speaks the registry's protocol there at all.
    pub(super) async fn ping(&self) -> Result<(), HttpError> {
        let url = format!("{}/v2/", self.endpoint.base);
        let ask = Ask { method: Method::GET, url, headers: &[], authorization: None, body: Bytes::new() };
        let asked = async {
            let answer = self.http.send(ask).await?;
            let status = answer.status();
            // read to its end, so that the connection serves what follows
            let body = read_body(answer.into_body(), MAX_PING_BYTES).await;
            // what servers say to who comes without the TLS that they want; a registry finds nothing wrong with this request
            if status == StatusCode::BAD_REQUEST && !self.endpoint.base.starts_with("https://") {
                let text = String::from_utf8_lossy(&body.unwrap_or_default()).trim().to_owned();
                let text: String = text.chars().take(SHOWN_CHARACTERS).collect();
                return Err(HttpError::Protocol(format!("it answers {status}: {text}")));
            }
            Ok(())
        };
        match tokio::time::timeout(PING_TIMEOUT, asked).await {
            Ok(answered) => answered,
            Err(_) => Err(HttpError::Unreachable(format!("no answer within {} s", PING_TIMEOUT.as_secs()))),
        }
    }
}
