//! TCP connections into a container's network namespace, for `port-forward`. Called by the API.

use std::{
    fs::File,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream as StdTcpStream},
    thread,
    time::Duration,
};

use nix::{
    ifaddrs::getifaddrs,
    sched::{CloneFlags, setns},
    sys::socket::SockaddrIn6,
};
use tokio::{
    net::TcpStream,
    sync::{Semaphore, oneshot},
};

use super::{
    Engine,
    containers::ContainerRef,
    refusal::{Refusal, RefusalKind},
};

/// Threads that are on the way into a container at one time; each may wait as long as [`PATIENCE`].
const AT_ONCE: usize = 32;
/// Inside one host a server that listens answers at once, unless its queue is full.
const PATIENCE: Duration = Duration::from_secs(3);
/// Addresses of the container that are tried behind the loopback ones.
const MAX_ADDRESSES: usize = 16;

/// How many may still begin.
pub(super) struct Dials(Semaphore);

impl Default for Dials {
    fn default() -> Self {
        Self(Semaphore::new(AT_ONCE))
    }
}

/// Why there is no connection.
enum Failure {
    Enter(io::Error),
    /// Each address that was tried, and what became of it.
    Connect(Vec<(IpAddr, io::Error)>),
}

impl Engine {
    /// Connects to a port inside a container: on its loopback interface, else on its other addresses.
    ///
    /// # Errors
    /// When the container does not run, or nothing there takes the connection.
    pub async fn dial_container(&self, container: &ContainerRef, port: u16) -> Result<TcpStream, Refusal> {
        let id = &container.id;
        let state = self.inner.runtime.state(id).await.map_err(|error| Refusal::of_runtime(&error))?;
        let Some(pid) = state.pid.filter(|_| container.is_running) else {
            return Err(Refusal::new(RefusalKind::Conflict, format!("container {id} is not running")));
        };
        let _turn = self.inner.dials.0.acquire().await.expect("the semaphore is never closed");
        let (tell, told) = oneshot::channel();
        // A thread of its own: it leaves this host's namespace for good.
        let thread = thread::Builder::new().name("dial".to_owned()).spawn(move || {
            // whoever asked may have gone
            let _ = tell.send(inside(pid, port));
        });
        thread.map_err(|error| Refusal::of(&error))?;
        let connected = told.await.map_err(|error| Refusal::of(&error))?;
        let stream = connected.map_err(|failure| refused(&container.name, port, failure))?;
        stream.set_nonblocking(true).and_then(|()| stream.set_nodelay(true)).map_err(|error| Refusal::of(&error))?;
        TcpStream::from_std(stream).map_err(|error| Refusal::of(&error))
    }
}

/// On the calling thread, which stays in the namespace.
fn inside(pid: i32, port: u16) -> Result<StdTcpStream, Failure> {
    let enter = || Ok(setns(File::open(format!("/proc/{pid}/ns/net"))?, CloneFlags::CLONE_NEWNET)?);
    enter().map_err(Failure::Enter)?;
    dial(port)
}

/// In the calling thread's namespace.
fn dial(port: u16) -> Result<StdTcpStream, Failure> {
    let mut failed = Vec::new();
    for address in addresses() {
        match StdTcpStream::connect_timeout(&SocketAddr::new(address, port), PATIENCE) {
            // The kernel may give a client the very port that it dials: that is nobody's answer.
            Ok(stream) if stream.local_addr().ok() != stream.peer_addr().ok() => return Ok(stream),
            Ok(_) => failed.push((address, io::ErrorKind::ConnectionRefused.into())),
            Err(error) => failed.push((address, error)),
        }
    }
    Err(Failure::Connect(failed))
}

/// Loopback first, as a program in the container would.
fn addresses() -> Vec<IpAddr> {
    let mut all = vec![IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    let others = getifaddrs().into_iter().flatten().filter_map(|interface| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        // a link-local address means nothing without its interface
        let v6 = || address.as_sockaddr_in6().map(SockaddrIn6::ip).filter(|ip| !ip.is_unicast_link_local());
        v4.or_else(|| v6().map(IpAddr::V6))
    });
    all.extend(others.filter(|address| !address.is_loopback()).take(MAX_ADDRESSES));
    all
}

fn refused(container: &str, port: u16, failure: Failure) -> Refusal {
    let text = match failure {
        Failure::Enter(error) => format!("cannot enter the network of container {container}: {error}"),
        Failure::Connect(failed) => {
            let tried: Vec<_> = failed.iter().map(|(address, error)| format!("{address}: {error}")).collect();
            format!("nothing takes a connection to TCP port {port} in container {container} ({})", tried.join(", "))
        }
    };
    Refusal::new(RefusalKind::Conflict, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The namespace is this test's own; what is tried, and in which order, is the same.
    #[test]
    fn p_21_a_server_on_the_loopback_interface_is_found_and_who_is_not_there_is_said() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("binds");
        let port = listener.local_addr().expect("bound").port();
        let stream = dial(port).map_err(|_| "refused").expect("connected");
        assert_eq!(stream.peer_addr().expect("connected").port(), port);
        drop((listener, stream));
        let Err(failure) = dial(port) else { panic!("nobody listens there") };
        let refusal = refused("web.1", port, failure);
        assert_eq!(refusal.kind, RefusalKind::Conflict);
        let text = format!("nothing takes a connection to TCP port {port} in container web.1 (127.0.0.1: ");
        assert!(refusal.message.starts_with(&text), "{}", refusal.message);
        assert!(refusal.message.contains("::1: "), "{}", refusal.message);
    }
}
