//! What can go wrong when the kernel is asked or changed.

use std::{io, path::PathBuf};

use crate::step::Subject;

/// A failed operation on the kernel, with its object.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    #[error("cannot {doing}")]
    Netlink {
        doing: String,
        #[source]
        source: io::Error,
    },
    #[error("cannot {doing} the network namespace {path}")]
    Namespace {
        doing: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot {doing} the kernel setting {path}")]
    Sysctl {
        doing: &'static str,
        path: String,
        #[source]
        source: io::Error,
    },
    #[error("cannot run nft: install the package nftables")]
    NftMissing(#[source] io::Error),
    #[error("nft cannot {doing}: {said}")]
    Nft { doing: &'static str, said: String },
    #[error("cannot {doing} {path}")]
    File {
        doing: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the rules in the container's namespace were changed by somebody else in the same moment")]
    RulesChanged,
    #[error("cannot make a VXLAN interface, which this kernel lacks: modprobe vxlan (in a container: on its host)")]
    NoVxlan(#[source] io::Error),
    #[error(
        "VXLAN network identifier {vni} is taken on UDP port {port} by another interface: \
         `ip -d link show type vxlan` shows it; remove it, or choose another data path port"
    )]
    VniTaken { vni: u32, port: u16 },
    #[error(
        "UDP port {port}, which overlay networks need, is taken by another program: \
         `ss -ulpn sport = :{port}` names it; end it, or choose another data path port"
    )]
    PortTaken { port: u16 },
    #[error(
        "network {network} needs the interface {parent}, which this host does not have: `ip link` lists what there is; \
         make it, or make the network with another parent"
    )]
    NoParent { network: String, parent: String },
    #[error(
        "cannot put an interface of kind {kind} on {parent}: it is a port of a bridge or bond, or bears interfaces of \
         another kind: `ip -d link` shows them; make the network with another parent, or with a VLAN of it"
    )]
    ParentTaken {
        kind: &'static str,
        parent: String,
        #[source]
        source: io::Error,
    },
    #[error("cannot make {kind} interfaces, which this kernel lacks: modprobe {module} (in a container: on its host)")]
    NoDriver {
        kind: &'static str,
        module: &'static str,
        #[source]
        source: io::Error,
    },
    #[error(
        "encrypted networks carry nothing to other hosts: this kernel has no WireGuard: modprobe wireguard (in a \
         container: on its host), or start rswarm daemon with --encryption userspace"
    )]
    NoWireguard(#[source] io::Error),
    #[error(
        "encrypted networks carry nothing to other hosts: UDP port {port}, which WireGuard needs, is taken by another \
         program or interface: `ss -ulpn sport = :{port}` and `wg show` name it; end it"
    )]
    WireguardPortTaken { port: u16 },
    #[error("cannot work on a thread of its own")]
    Thread(#[source] io::Error),
}

/// A step that failed, and whom it was for.
#[derive(Debug)]
pub struct StepFailure {
    pub subject: Subject,
    pub error: KernelError,
}

impl StepFailure {
    pub(crate) fn host(error: KernelError) -> Self {
        Self { subject: Subject::Host, error }
    }
}

/// An error with all its causes in one line, and the next step where one is known.
pub fn explain(error: &dyn std::error::Error) -> String {
    let mut text = types::with_causes(error);
    let mut causes = std::iter::successors(error.source(), |cause| cause.source());
    let denied = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::PermissionDenied)
    };
    if causes.any(denied) {
        text.push_str(" (the network needs root, or CAP_NET_ADMIN and CAP_SYS_ADMIN)");
    }
    text
}

/// The error number behind a netlink answer.
pub(crate) fn netlink_io(error: &rtnetlink::Error) -> io::Error {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        other => io::Error::other(other.to_string()),
    }
}
