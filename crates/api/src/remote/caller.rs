//! Who is at the other end of a connection, for the log and for what may be asked.

use std::fmt;

use tokio::net::UnixStream;
use types::NodeId;

/// Among the extensions of each request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Caller {
    #[default]
    Unknown,
    /// A client of the unix socket, as the kernel knows it.
    Process { uid: u32, pid: i32 },
    /// A client with a certificate, by its address.
    Address(String),
    /// A manager that asks about a container of this node.
    Manager(NodeId),
}

impl Caller {
    pub(crate) fn of_unix(stream: &UnixStream) -> Self {
        match stream.peer_cred() {
            Ok(who) => Self::Process { uid: who.uid(), pid: who.pid().unwrap_or(0) },
            Err(_) => Self::Unknown,
        }
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => write!(f, "unknown"),
            Self::Process { uid, pid } => write!(f, "uid {uid} (pid {pid})"),
            Self::Address(address) => write!(f, "{address}"),
            Self::Manager(node) => write!(f, "manager {node}"),
        }
    }
}
