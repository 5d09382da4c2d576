//! The registry client: OCI distribution and Docker's schema 2, over HTTP/1.1 and rustls.
//! Called through [`crate::Store::pull`] and [`resolve_digest`]; what it downloads enters the store
//! only after its digest was verified.

mod auth;
mod blob;
mod client;
mod endpoint;
mod fetch;
mod helper;
mod http;
mod open;
mod pull;
mod pulls;
mod push;
mod resolve;
mod search;
mod tls;
mod upload;

pub use auth::Credentials;
pub(crate) use fetch::open_url;
pub use helper::ask_helper;
pub(crate) use pull::{Found, MAX_NESTING, Names, Source, choose_for};
pub use pull::{PullOptions, PulledImage};
pub use push::{PushOptions, PushedImage};
pub use resolve::{Resolved, resolve_digest};
pub use search::{SearchResult, check_login, search};
pub use tls::CertificateDirectories;
