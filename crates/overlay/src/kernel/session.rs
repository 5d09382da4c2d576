//! One thread's connection to the kernel: the host's namespace at home, others on short visits.

use std::{
    fs::File,
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, RawFd},
        unix::fs::MetadataExt,
    },
    path::Path,
};

use futures::TryStreamExt;
use nix::sched::{CloneFlags, setns};
use rtnetlink::{
    Handle,
    packet_route::{
        AddressFamily, address::AddressMessage, link::LinkMessage, neighbour::NeighbourMessage, route::RouteMessage,
        rule::RuleMessage,
    },
};

use super::error::{KernelError, netlink_io};

/// A netlink conversation with one network namespace. It stays with that namespace wherever its thread goes.
pub(crate) struct Netlink {
    pub handle: Handle,
}

/// Made on a thread that is about to work in several namespaces, and never leaves it.
pub(crate) struct Session {
    pub host: Netlink,
    home: File,
}

/// An open namespace file.
pub(crate) struct NamespaceFile(File);

impl NamespaceFile {
    pub fn open(path: &Path) -> io::Result<Self> {
        File::open(path).map(Self)
    }

    /// Which namespace it is: the number is not given to another one while this one lives.
    pub fn inode(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.ino())
    }

    pub fn raw(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl Session {
    /// The calling thread's namespace becomes home.
    pub fn open() -> Result<Self, KernelError> {
        let path = Path::new("/proc/thread-self/ns/net");
        let home = File::open(path).map_err(|source| KernelError::Namespace {
            doing: "open",
            path: path.to_owned(),
            source,
        })?;
        Ok(Self { host: Netlink::open()?, home })
    }

    /// The namespace this thread was started in.
    pub fn home(&self) -> RawFd {
        self.home.as_raw_fd()
    }

    /// Runs `work` inside the namespace and comes back. Nothing may be awaited in there.
    pub fn visit<T>(&self, namespace: &NamespaceFile, work: impl FnOnce() -> T) -> io::Result<T> {
        setns(namespace.0.as_fd(), CloneFlags::CLONE_NEWNET)?;
        let result = work();
        self.go_home();
        Ok(result)
    }

    /// After `unshare`: back to the namespace this thread was started in.
    pub fn go_home(&self) {
        let home: BorrowedFd<'_> = self.home.as_fd();
        setns(home, CloneFlags::CLONE_NEWNET).expect("a thread may return to the namespace it came from");
    }

    /// A conversation with another namespace.
    pub fn netlink_in(&self, namespace: &NamespaceFile, path: &Path) -> Result<Netlink, KernelError> {
        let entered = self.visit(namespace, Netlink::open);
        entered.map_err(|source| KernelError::Namespace { doing: "enter", path: path.to_owned(), source })?
    }
}

impl Netlink {
    /// With the namespace the calling thread is in. Its connection ends when the handle is dropped.
    pub fn open() -> Result<Self, KernelError> {
        let opened = rtnetlink::new_connection();
        let (connection, handle, _) =
            opened.map_err(|source| KernelError::Netlink { doing: "open a netlink socket".to_owned(), source })?;
        tokio::spawn(connection);
        Ok(Self { handle })
    }

    pub async fn links(&self) -> Result<Vec<LinkMessage>, KernelError> {
        collected("list interfaces", self.handle.link().get().execute().try_collect().await)
    }

    /// All addresses, IPv4 and IPv6.
    pub async fn addresses(&self) -> Result<Vec<AddressMessage>, KernelError> {
        collected("list addresses", self.handle.address().get().execute().try_collect().await)
    }

    /// What bridges and VXLAN interfaces know (`AddressFamily::Bridge`), or neighbours of a family.
    pub async fn neighbours(&self, family: AddressFamily) -> Result<Vec<NeighbourMessage>, KernelError> {
        let asked = self.handle.neighbours().get().set_address_family(family).execute();
        collected("list neighbours", asked.try_collect().await)
    }

    /// All rules of routing of a family.
    pub async fn rules(&self, version: rtnetlink::IpVersion) -> Result<Vec<RuleMessage>, KernelError> {
        collected("list rules of routing", self.handle.rule().get(version).execute().try_collect().await)
    }

    /// All IPv6 routes of all tables.
    pub async fn ipv6_routes(&self) -> Result<Vec<RouteMessage>, KernelError> {
        let all_ipv6 = rtnetlink::RouteMessageBuilder::<std::net::Ipv6Addr>::new().build();
        collected("list routes", self.handle.route().get(all_ipv6).execute().try_collect().await)
    }

    /// All IPv4 routes of all tables.
    pub async fn routes(&self) -> Result<Vec<RouteMessage>, KernelError> {
        let all_ipv4 = rtnetlink::RouteMessageBuilder::<std::net::Ipv4Addr>::new().build();
        collected("list routes", self.handle.route().get(all_ipv4).execute().try_collect().await)
    }

    /// The interface of this name, or None.
    pub async fn link(&self, name: &str) -> Result<Option<LinkMessage>, KernelError> {
        let found = self.handle.link().get().match_name(name).execute().try_next().await;
        match found.map_err(|error| netlink_io(&error)) {
            Ok(link) => Ok(link),
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
            Err(source) => Err(KernelError::Netlink { doing: format!("look up interface {name}"), source }),
        }
    }

    /// The index of the interface of this name.
    pub async fn index(&self, name: &str) -> Result<u32, KernelError> {
        let found = self.link(name).await?.map(|link| link.header.index);
        found.ok_or_else(|| KernelError::Netlink {
            doing: format!("look up interface {name}"),
            source: io::Error::from_raw_os_error(libc::ENODEV),
        })
    }
}

fn collected<T>(doing: &str, result: Result<Vec<T>, rtnetlink::Error>) -> Result<Vec<T>, KernelError> {
    result.map_err(|error| KernelError::Netlink { doing: doing.to_owned(), source: netlink_io(&error) })
}
