//! `port-forward`: ports of this machine that lead into a container, wherever in the cluster it runs.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use clap::Args;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
};

use crate::{
    client::{Client, escape},
    output::terminal::{print, print_error},
};

/// Connections at once; the others wait in the kernel's queue. A browser opens half a dozen.
const MAX_CONNECTIONS: usize = 64;
/// After a failed accept, usually for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

#[derive(Debug, Args)]
pub(crate) struct ForwardArgs {
    /// Address of this machine to listen on; others than loopback ones open the container to whoever reaches it
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    address: IpAddr,
    /// Name or id of a container, or of a task: web.1
    container: String,
    /// Port of this machine (0: any that is free) and of the container, or one for both
    #[arg(required = true, value_name = "[PORT:]PORT")]
    ports: Vec<Ports>,
}

/// `8080:80`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ports {
    local: u16,
    remote: u16,
}

impl FromStr for Ports {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = |_| format!("{text:?} is no pair of ports; write 8080:80, for example");
        let (local, remote) = text.split_once(':').unwrap_or((text, text));
        let local = if local.is_empty() { "0" } else { local };
        let (local, remote): (u16, u16) = (local.parse().map_err(bad)?, remote.parse().map_err(bad)?);
        match remote {
            0 => Err(format!("{text:?}: the container's port must be said; write 8080:80, for example")),
            _ => Ok(Self { local, remote }),
        }
    }
}

/// Until it is interrupted.
pub(crate) async fn forward(client: &Client, arguments: ForwardArgs) -> anyhow::Result<()> {
    let ForwardArgs { address, container, ports } = arguments;
    let path = format!("/containers/{}/forward", escape(&container));
    let found = client.get(&path).await?;
    let mut listening = JoinSet::new();
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    for Ports { local, remote } in ports {
        let at = SocketAddr::new(address, local);
        let listener = TcpListener::bind(at).await.with_context(|| format!("listen on {at}; choose another port"))?;
        let name = found["Name"].as_str().unwrap_or(&container).trim_start_matches('/');
        let host = found["Host"].as_str().unwrap_or_default();
        print(&format!("{} leads to port {remote} of {name} on {host}\n", listener.local_addr()?))?;
        let path = format!("{path}?port={remote}");
        listening.spawn(listen(listener, client.clone(), path, Arc::clone(&places)));
    }
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted.context("listen for the interrupt"),
        // these go on for ever
        _ = listening.join_next() => Ok(()),
    }
}

/// Each connection is one of the daemon's; so each meets the task that the name stands for when it comes.
async fn listen(listener: TcpListener, client: Client, path: String, places: Arc<Semaphore>) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let place = places.clone().acquire_owned().await.expect("the semaphore is never closed");
        let Ok((local, peer)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let (client, path) = (client.clone(), path.clone());
        connections.spawn(async move {
            if let Err(error) = carry(local, &client, &path).await {
                // nobody reads it: the next connection is served all the same
                print_error(&format!("connection from {peer}: {error:#}\n")).ok();
            }
            drop(place);
        });
    }
}

async fn carry(mut local: TcpStream, client: &Client, path: &str) -> anyhow::Result<()> {
    local.set_nodelay(true)?;
    let mut remote = client.take_over(path, None).await?.stream;
    // how it ended the two tell each other
    copy_bidirectional(&mut local, &mut remote).await.ok();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p_21_pairs_of_ports_are_read_or_refused_with_the_way_to_write_them() {
        let read = |text: &str| text.parse::<Ports>().map(|ports| (ports.local, ports.remote));
        assert_eq!(read("8080:80"), Ok((8080, 80)));
        assert_eq!(read("80"), Ok((80, 80)));
        assert_eq!(read(":80"), Ok((0, 80)));
        for bad in ["", "a:80", "80:", "80:a", "80:0", "0", "1:2:3", "70000"] {
            assert!(read(bad).is_err_and(|why| why.contains("write 8080:80")), "{bad}");
        }
    }
}
