//! One repository of one registry: authorised requests, tokens, errors in our words.
//! Called by pull and resolve. Credentials go to the registry and to the token server it names, to
//! nobody else.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use hyper::{
    Method, Response, StatusCode,
    body::Incoming,
    header::{self, HeaderName},
};
use serde::Deserialize;

use super::{
    auth::{Challenge, Credentials, choose_challenge, percent_encode},
    endpoint::Endpoint,
    http::{Ask, Http, HttpError, read_body},
};
use crate::{
    digest::Digest,
    document::{DOCKER_LIST, DOCKER_MANIFEST, MAX_MANIFEST_BYTES, OCI_INDEX, OCI_MANIFEST},
    error::{Error, Result},
};

/// Error texts and tokens are small.
const MAX_ANSWER_BYTES: u64 = 256 << 10;
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

pub(crate) struct Registry {
    pub(super) http: Http,
    pub(super) endpoint: Endpoint,
    pub(super) repository: String,
    credentials: Option<Credentials>,
    /// What a token is asked for; where empty, what the registry says it needs.
    scopes: Vec<String>,
    /// What the last challenge led to.
    authorization: Mutex<Option<String>>,
}

/// A manifest or index as the registry has it, verified.
pub(super) struct Fetched {
    pub digest: Digest,
    pub bytes: Vec<u8>,
}

impl Registry {
    /// Where it is known how the registry speaks; else [`Registry::open`].
    pub(super) fn new(http: Http, endpoint: Endpoint, repository: &str, credentials: Option<Credentials>) -> Self {
        // a password goes without TLS to whom the host's settings name for that
        let credentials = credentials.filter(|_| endpoint.is_insecure || endpoint.wants_tls());
        let authorization = match &credentials {
            Some(Credentials::RegistryToken(token)) => Some(format!("Bearer {token}")),
            _ => None,
        };
        let repository = repository.to_owned();
        let (scopes, authorization) = (Vec::new(), Mutex::new(authorization));
        Self { http, endpoint, repository, credentials, scopes, authorization }
    }

    /// For a push, one token serves all requests: it may also read the repositories that blobs are mounted from.
    pub(super) fn with_push_scopes(mut self, from: impl IntoIterator<Item = String>) -> Self {
        self.scopes.push(format!("repository:{}:pull,push", self.repository));
        self.scopes.extend(from.into_iter().map(|repository| format!("repository:{repository}:pull")));
        self
    }

    /// The manifest of a tag or digest; where a digest is asked for, the content must have it.
    pub(super) async fn manifest(&self, tag_or_digest: &str) -> Result<Fetched> {
        let what = self.name_of(tag_or_digest);
        let accept = [OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST].join(", ");
        let path = format!("manifests/{tag_or_digest}");
        let response = self.get(&path, &[(header::ACCEPT, accept)], &what).await?;
        let declared = response.headers().get(CONTENT_DIGEST).and_then(|d| d.to_str().ok()?.parse::<Digest>().ok());
        let bytes = read_body(response.into_body(), MAX_MANIFEST_BYTES).await.map_err(|e| self.failed(e))?;
        let digest = Digest::of(&bytes);
        let expected = tag_or_digest.parse::<Digest>().ok().or(declared);
        match expected.filter(|expected| *expected != digest) {
            Some(expected) => {
                Err(Error::DigestMismatch { what: format!("manifest of {what}"), expected, actual: digest })
            }
            None => Ok(Fetched { digest, bytes }),
        }
    }

    /// The bytes of a blob from `offset` on; the caller verifies them and looks at the status (200 or 206).
    pub(super) async fn blob(&self, digest: &Digest, offset: u64) -> Result<Response<Incoming>> {
        let range = [(header::RANGE, format!("bytes={offset}-"))];
        let headers = if offset > 0 { range.as_slice() } else { &[] };
        self.get(&format!("blobs/{digest}"), headers, &format!("blob {} of {}", digest.short(), self.repository)).await
    }

    /// `demo/box:1` or `demo/box@sha256:…`.
    pub(super) fn name_of(&self, tag_or_digest: &str) -> String {
        let separator = if tag_or_digest.contains(':') { '@' } else { ':' };
        format!("{}{separator}{tag_or_digest}", self.repository)
    }

    async fn get(&self, path: &str, headers: &[(HeaderName, String)], what: &str) -> Result<Response<Incoming>> {
        let url = format!("{}/v2/{}/{path}", self.endpoint.base, self.repository);
        let response = self.request(Method::GET, &url, headers, Bytes::new(), what).await?;
        if response.status().is_success() {
            return Ok(response);
        }
        Err(self.refusal(response, what).await)
    }

    /// Any answer but a challenge, which is answered once.
    pub(super) async fn request(
        &self,
        method: Method,
        url: &str,
        headers: &[(HeaderName, String)],
        body: Bytes,
        what: &str,
    ) -> Result<Response<Incoming>> {
        let send = || {
            let (method, url, body) = (method.clone(), url.to_owned(), body.clone());
            self.http.send(Ask { method, url, headers, authorization: self.authorization(), body })
        };
        let response = send().await.map_err(|e| self.failed(e))?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        self.authorize(&response, what).await?;
        send().await.map_err(|e| self.failed(e))
    }

    pub(super) fn authorization(&self) -> Option<String> {
        self.authorization.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Answers a challenge: afterwards requests carry what it asks for.
    async fn authorize(&self, response: &Response<Incoming>, what: &str) -> Result<()> {
        let headers = response.headers().get_all(header::WWW_AUTHENTICATE);
        let challenge = choose_challenge(headers.iter().filter_map(|h| h.to_str().ok()));
        let value = match challenge {
            Some(Challenge::Basic) => {
                let header = self.credentials.as_ref().and_then(Credentials::basic_header);
                header.ok_or_else(|| self.unauthorized(what, "it wants a user name and password".to_owned()))?
            }
            Some(Challenge::Bearer { realm, service, scope }) => {
                let default = || match self.repository.is_empty() {
                    true => String::new(),
                    false => format!("repository:{}:pull", self.repository),
                };
                let scopes = match self.scopes.is_empty() {
                    true => vec![scope.unwrap_or_else(default)],
                    false => self.scopes.clone(),
                };
                format!("Bearer {}", self.token(&realm, service.as_deref(), &scopes, what).await?)
            }
            None => return Err(self.unauthorized(what, "it offers no way to log in that is known here".to_owned())),
        };
        *self.authorization.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
        Ok(())
    }

    async fn token(&self, realm: &str, service: Option<&str>, scopes: &[String], what: &str) -> Result<String> {
        #[derive(Deserialize)]
        struct Answer {
            token: Option<String>,
            access_token: Option<String>,
        }
        if self.endpoint.wants_tls() && self.credentials.is_some() && !realm.starts_with("https://") {
            return Err(self.protocol(format!("it wants the credentials sent to {realm:?}, which has no TLS")));
        }
        let service = service.map(|s| format!("&service={}", percent_encode(s))).unwrap_or_default();
        let scopes = scopes.iter().filter(|scope| !scope.is_empty());
        let query = scopes.map(|scope| format!("&scope={}", percent_encode(scope))).collect::<String>() + &service;
        let query = query.trim_start_matches('&');
        let form = [(header::CONTENT_TYPE, "application/x-www-form-urlencoded".to_owned())];
        let ask = if let Some(Credentials::IdentityToken(token)) = &self.credentials {
            let body =
                format!("grant_type=refresh_token&client_id=rswarm&refresh_token={}&{query}", percent_encode(token));
            Ask { method: Method::POST, url: realm.to_owned(), headers: &form, authorization: None, body: body.into() }
        } else {
            let separator = if realm.contains('?') { '&' } else { '?' };
            let authorization = self.credentials.as_ref().and_then(Credentials::basic_header);
            let url = format!("{realm}{separator}{query}");
            Ask { method: Method::GET, url, headers: &[], authorization, body: Bytes::new() }
        };
        let response = self.http.send(ask).await.map_err(|e| self.failed(e))?;
        if !response.status().is_success() {
            return Err(self.refusal(response, what).await);
        }
        let bytes = read_body(response.into_body(), MAX_ANSWER_BYTES).await.map_err(|e| self.failed(e))?;
        let answer: Option<Answer> = serde_json::from_slice(&bytes).ok();
        let token = answer.and_then(|a| a.token.or(a.access_token)).filter(|t| !t.is_empty());
        token.ok_or_else(|| self.protocol("its token server sends no token".to_owned()))
    }

    /// The error for an answer that is not a success.
    pub(super) async fn refusal(&self, response: Response<Incoming>, what: &str) -> Error {
        #[derive(Deserialize)]
        struct Item {
            #[serde(default)]
            message: String,
        }
        #[derive(Deserialize)]
        struct Answer {
            #[serde(default)]
            errors: Vec<Item>,
            #[serde(default)]
            details: String,
        }
        let status = response.status();
        let bytes = read_body(response.into_body(), MAX_ANSWER_BYTES).await.unwrap_or_default();
        let message = match serde_json::from_slice::<Answer>(&bytes) {
            Ok(answer) => {
                answer.errors.into_iter().map(|e| e.message).find(|m| !m.is_empty()).unwrap_or(answer.details)
            }
            Err(_) => String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).trim().to_owned(),
        };
        let message = if message.is_empty() {
            status.canonical_reason().unwrap_or("no reason given").to_owned()
        } else {
            message
        };
        let (registry, what) = (self.endpoint.host.clone(), what.to_owned());
        match status.as_u16() {
            401 | 403 => Error::Unauthorized { registry, what, reason: message },
            404 => Error::NotFoundInRegistry { registry, what },
            status => Error::RegistryStatus { registry, status, what, message },
        }
    }

    fn unauthorized(&self, what: &str, reason: String) -> Error {
        Error::Unauthorized { registry: self.endpoint.host.clone(), what: what.to_owned(), reason }
    }

    pub(super) fn protocol(&self, reason: String) -> Error {
        Error::RegistryProtocol { registry: self.endpoint.host.clone(), reason }
    }

    pub(super) fn unreachable(&self, reason: String) -> Error {
        Error::RegistryUnreachable { registry: self.endpoint.host.clone(), reason }
    }

    pub(super) fn failed(&self, error: HttpError) -> Error {
        match error {
            HttpError::Unreachable(reason) => self.unreachable(reason),
            HttpError::Untrusted(reason) => Error::RegistryUntrusted { registry: self.endpoint.host.clone(), reason },
            HttpError::Protocol(reason) => self.protocol(reason),
        }
    }
}
