//! Becoming a node: from a join token and addresses of managers to a certificate.
//!
//! Called by the daemon. Goes step by step, so that a failure can say which step failed, at which
//! address, and what to do; no step takes longer than [`STEP_LIMIT`]. Leaves nothing behind: whoever
//! called writes the identity down, or does not.

use std::{io, net::SocketAddr, time::Duration};

use identity::{JoinToken, KeyPair, NodeIdentity, TokenError};
use proto::v1::{IssueCall, ca_client::CaClient};
use tokio::{net::TcpStream, time::timeout};
use tonic::{Code, Status};
use types::{Availability, DEFAULT_CONTROL_PORT, ManagerPeer, NodeRole, Timestamp};

use crate::clock::now;

/// For each of: name, TCP, TLS; and twice that for the answer. Together below ten seconds.
pub const STEP_LIMIT: Duration = Duration::from_secs(2);
const ANSWER_LIMIT: Duration = Duration::from_secs(4);

/// What to join with.
#[derive(Debug, Clone)]
pub struct Request {
    pub token: String,
    /// `host` or `host:port`; tried in order until one gives an answer.
    pub remote_addrs: Vec<String>,
    pub availability: Availability,
}

/// A node of the cluster.
#[derive(Debug, Clone)]
pub struct Joined {
    pub key_pem: String,
    /// The node's certificate and the root.
    pub chain_pem: String,
    pub role: NodeRole,
    pub managers: Vec<ManagerPeer>,
    /// The manager that answered, `host:port`.
    pub manager: String,
}

/// Why a host could not join; one variant per step.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    #[error("no manager address was given; add one, such as 192.0.2.1:{DEFAULT_CONTROL_PORT}")]
    NoAddress,
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error(
        "look up {address}: the name is not known ({reason}); check the spelling and this host's DNS, or use an address"
    )]
    Name { address: String, reason: String },
    #[error(
        "connect to {address}: refused; the host is there, but no manager listens on that port: check the port \
         and that the daemon there is a manager (`rswarm node ls` on it)"
    )]
    Refused { address: String },
    #[error(
        "connect to {address}: no answer within {} s; a firewall drops the packets or the host is down: open TCP \
         port {} towards it and check the route", STEP_LIMIT.as_secs(), port_of(address)
    )]
    Filtered { address: String },
    #[error("connect to {address}: {reason}; check the route to it")]
    Connect { address: String, reason: String },
    #[error("TLS with {address}: what listens there does not speak TLS as a manager does ({reason}); check the port")]
    NotTls { address: String, reason: String },
    #[error(
        "TLS with {address}: this token belongs to another cluster than the manager there, or was made before its root \
         certificate was rotated; get one from `rswarm join-token` on that cluster"
    )]
    OtherCluster { address: String },
    #[error(
        "TLS with {address}: its certificate is not valid at this host's time; the clocks differ: this host has \
         {here}{}: set this host's clock", there.as_ref().map(|t| format!(", the manager {t}")).unwrap_or_default()
    )]
    ClockSkew { address: String, here: String, there: Option<String> },
    #[error(
        "join at {address}: the token was rejected; it may have been rotated: get the present one with \
         `rswarm join-token worker` or `rswarm join-token manager` on a manager"
    )]
    TokenRejected { address: String },
    #[error(
        "join at {address}: the manager has no leader to ask, more than half of the managers are needed ({reason}); \
         bring managers back and try again"
    )]
    NoLeader { address: String, reason: String },
    #[error("join at {address}: no answer within {} s; the manager is overloaded or has no leader: try again, or another manager", ANSWER_LIMIT.as_secs())]
    NoAnswer { address: String },
    #[error("join at {address}: {reason}")]
    Other { address: String, reason: String },
}

impl JoinError {
    /// Whether another manager might answer differently.
    fn try_next(&self) -> bool {
        !matches!(self, Self::Token(_) | Self::TokenRejected { .. } | Self::ClockSkew { .. })
    }
}

fn port_of(address: &str) -> &str {
    address.rsplit_once(':').map_or("2377", |(_, port)| port)
}

/// Joins at the first manager that answers.
///
/// # Errors
/// The failure of the last manager tried, or the first that no other manager would change.
pub async fn join(request: &Request) -> Result<Joined, JoinError> {
    let token: JoinToken = request.token.parse()?;
    let mut last = JoinError::NoAddress;
    for address in &request.remote_addrs {
        match join_at(&with_port(address), &token, request).await {
            Ok(joined) => return Ok(joined),
            Err(error) if !error.try_next() => return Err(error),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// The address with the usual port where none is written.
pub fn with_port(address: &str) -> String {
    let is_ipv6 = address.parse::<std::net::Ipv6Addr>().is_ok();
    if is_ipv6 {
        return format!("[{address}]:{DEFAULT_CONTROL_PORT}");
    }
    let has_port = address.rsplit_once(':').is_some_and(|(host, port)| port.parse::<u16>().is_ok() && !host.is_empty());
    if has_port { address.to_owned() } else { format!("{address}:{DEFAULT_CONTROL_PORT}") }
}

async fn join_at(address: &str, token: &JoinToken, request: &Request) -> Result<Joined, JoinError> {
    let other = |reason: String| JoinError::Other { address: address.to_owned(), reason };
    let resolved = resolve(address).await?;
    probe_tcp(address, resolved).await?;
    probe_tls(address, resolved, token).await?;
    let key = KeyPair::generate().map_err(|e| other(e.to_string()))?;
    let call = IssueCall {
        csr_pem: key.csr_pem().to_owned(),
        token: request.token.trim().to_owned(),
        availability: availability_name(request.availability).to_owned(),
    };
    let digest = token.ca_digest;
    let channel = proto::transport::channel(&resolved.to_string(), move |a| identity::connect_pinned(a, digest));
    let answer = timeout(ANSWER_LIMIT, CaClient::new(channel).issue(call)).await;
    let answer = answer.map_err(|_| JoinError::NoAnswer { address: address.to_owned() })?;
    let answer = answer.map_err(|status| of_status(address, &status))?.into_inner();
    let identity = NodeIdentity::from_pem(key.pem(), &answer.chain_pem).map_err(|e| other(e.to_string()))?;
    let mut managers: Vec<ManagerPeer> = proto::decode(&answer.managers).map_err(|e| other(e.to_string()))?;
    managers.retain(|m| !m.address.is_empty());
    Ok(Joined {
        key_pem: key.pem().to_owned(),
        role: identity.role(),
        chain_pem: answer.chain_pem,
        managers,
        manager: resolved.to_string(),
    })
}

async fn resolve(address: &str) -> Result<SocketAddr, JoinError> {
    let error = |reason: String| JoinError::Name { address: address.to_owned(), reason };
    let found = timeout(STEP_LIMIT, tokio::net::lookup_host(address)).await;
    let mut found =
        found.map_err(|_| error("the name servers do not answer".into()))?.map_err(|e| error(e.to_string()))?;
    found.next().ok_or_else(|| error("it has no address".into()))
}

/// TCP alone, so that its failures are told from those of TLS.
async fn probe_tcp(address: &str, resolved: SocketAddr) -> Result<(), JoinError> {
    let address = address.to_owned();
    match timeout(STEP_LIMIT, TcpStream::connect(resolved)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => Err(JoinError::Refused { address }),
        Ok(Err(error)) => Err(JoinError::Connect { address, reason: error.to_string() }),
        Err(_) => Err(JoinError::Filtered { address }),
    }
}

async fn probe_tls(address: &str, resolved: SocketAddr, token: &JoinToken) -> Result<(), JoinError> {
    let connecting = identity::connect_pinned(resolved.to_string(), token.ca_digest);
    let address = address.to_owned();
    match timeout(STEP_LIMIT, connecting).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(of_tls(address, &error, now())),
        Err(_) => Err(JoinError::NotTls { address, reason: "no handshake".into() }),
    }
}

/// What a failed handshake means. The library's own words name the kind.
fn of_tls(address: String, error: &io::Error, here: Timestamp) -> JoinError {
    let text = types::with_causes(error);
    if text.contains("UnknownIssuer") {
        return JoinError::OtherCluster { address };
    }
    let skewed = ["NotValidYet", "Expired", "not valid yet", "expired"].iter().any(|word| text.contains(word));
    if skewed {
        return JoinError::ClockSkew { address, here: utc(here), there: validity_bound(&text) };
    }
    JoinError::NotTls { address, reason: text }
}

/// The certificate's bound in a text such as `certificate not valid yet: verification time X (UNIX), but
/// certificate is not valid before Y (…)`.
fn validity_bound(text: &str) -> Option<String> {
    let (_, after) = text.split_once("certificate is not valid ")?;
    let number: String = after.chars().skip_while(|c| !c.is_ascii_digit()).take_while(char::is_ascii_digit).collect();
    let seconds: u64 = number.parse().ok()?;
    Some(format!("was at or past {}", utc(Timestamp::from_unix_ms(seconds.saturating_mul(1000)))))
}

/// `2026-11-21 03:00:00 UTC`, by the civil calendar.
fn utc(at: Timestamp) -> String {
    let seconds = at.as_unix_ns() / 1_000_000_000;
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Days since 0000-03-01 in eras of 400 years; the year begins in March, so the leap day comes last.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (h, m, s) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02} {h:02}:{m:02}:{s:02} UTC")
}

fn of_status(address: &str, status: &Status) -> JoinError {
    let (address, reason) = (address.to_owned(), status.message().to_owned());
    match status.code() {
        Code::Unauthenticated | Code::PermissionDenied | Code::InvalidArgument => JoinError::TokenRejected { address },
        Code::Unavailable | Code::FailedPrecondition => JoinError::NoLeader { address, reason },
        Code::DeadlineExceeded | Code::Cancelled => JoinError::NoAnswer { address },
        _ => JoinError::Other { address, reason },
    }
}

fn availability_name(availability: Availability) -> &'static str {
    match availability {
        Availability::Active => "active",
        Availability::Pause => "pause",
        Availability::Drain => "drain",
    }
}

#[cfg(test)]
#[path = "join_tests.rs"]
mod tests;
