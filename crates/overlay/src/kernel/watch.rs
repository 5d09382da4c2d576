//! Tells when links, addresses or nftables of the host changed, whoever changed them.
//!
//! Only that something changed, never what: the listener looks at everything again.

use std::io;

use rtnetlink::sys::{
    AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket,
    protocols::{NETLINK_NETFILTER, NETLINK_ROUTE},
};

use super::KernelError;

/// Multicast groups of NETLINK_ROUTE (linux/rtnetlink.h): RTNLGRP_LINK, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR.
const ROUTE_GROUPS: [u32; 3] = [1, 5, 9];
/// NFNLGRP_NFTABLES of NETLINK_NETFILTER (linux/netfilter/nfnetlink.h).
const NFTABLES_GROUPS: [u32; 1] = [7];

/// Two multicast sockets of the namespace it was opened in.
pub struct Watch {
    routes: TokioSocket,
    nftables: TokioSocket,
}

impl Watch {
    /// Listens in the calling thread's namespace.
    ///
    /// # Errors
    /// When the kernel refuses a netlink socket or a group.
    pub fn open() -> Result<Self, KernelError> {
        let failed = |source| KernelError::Netlink { doing: "listen for changes of the network".to_owned(), source };
        let routes = listen(NETLINK_ROUTE, &ROUTE_GROUPS).map_err(failed)?;
        let nftables = listen(NETLINK_NETFILTER, &NFTABLES_GROUPS).map_err(failed)?;
        Ok(Self { routes, nftables })
    }

    /// Waits for the next change. Lost messages count as a change. Safe to cancel.
    pub async fn changed(&self) {
        let received = tokio::select! {
            received = self.routes.recv_from_full() => received,
            received = self.nftables.recv_from_full() => received,
        };
        // ENOBUFS, more changes than the socket holds, is a change as well.
        drop(received);
    }
}

fn listen(protocol: isize, groups: &[u32]) -> io::Result<TokioSocket> {
    let mut socket = TokioSocket::new(protocol)?;
    socket.socket_mut().bind(&SocketAddr::new(0, 0))?;
    for group in groups {
        socket.socket_ref().add_membership(*group)?;
    }
    Ok(socket)
}
