//! The tunnel's namespace: looks at it, and performs its steps.

use std::{fs, io, path::Path};

use rtnetlink::LinkWireguard;
use serde::{Deserialize, Serialize};

use super::{
    Files, KernelError,
    error::netlink_io,
    facts::{Facts, addresses_of, facts, is_up},
    namespace, netfilter, nft,
    session::{NamespaceFile, Session},
    sysctl,
    wireguard::{self, Change},
};
use crate::{TunnelDevice, TunnelInside, TunnelNamespace, TunnelStep, tunnel::DEVICE};

/// Which rules were loaded, into which namespace, and which number the kernel gave the ruleset then: while that
/// stands, nobody has changed a rule there.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    namespace: u64,
    generation: u32,
    digest: String,
}

/// What is there; None: not even a file.
pub(super) async fn observe(session: &Session, files: &Files) -> Result<Option<TunnelNamespace>, KernelError> {
    let path = &files.tunnel;
    if !namespace::is_alive(path) {
        return Ok(path.exists().then_some(TunnelNamespace::Stale));
    }
    let failed = |source| KernelError::Namespace { doing: "enter", path: path.clone(), source };
    let file = NamespaceFile::open(path).map_err(failed)?;
    let netlink = session.netlink_in(&file, path)?;
    let mut inside = TunnelInside { rules: rules(session, &file, files).map_err(failed)?, device: None };
    if let Some(link) = netlink.link(DEVICE).await? {
        let Facts { kind, mtu, .. } = facts(&link);
        let addresses = addresses_of(link.header.index, &netlink.addresses().await?);
        let mut device = TunnelDevice { kind, mtu, up: is_up(&link), addresses, ..TunnelDevice::default() };
        if device.kind == "wireguard" {
            let asked = session.visit(&file, || wireguard::device(DEVICE)).and_then(|asked| asked);
            let doing = || format!("ask the WireGuard interface {DEVICE}");
            let found = asked.map_err(|source| KernelError::Netlink { doing: doing(), source })?;
            (device.public_key, device.port, device.peers) = (found.public_key, found.port, found.peers);
        }
        inside.device = Some(device);
    }
    Ok(Some(TunnelNamespace::Alive(inside)))
}

fn rules(session: &Session, namespace: &NamespaceFile, files: &Files) -> io::Result<Option<String>> {
    let text = fs::read(&files.tunnel_record).ok();
    let record = text.and_then(|text| serde_json::from_slice::<Record>(&text).ok());
    let Some(record) = record.filter(|record| namespace.inode().is_ok_and(|inode| inode == record.namespace)) else {
        return Ok(None);
    };
    let generation = session.visit(namespace, netfilter::ruleset_generation)??;
    Ok((generation == record.generation).then_some(record.digest))
}

/// Does the steps in order; the first failure ends the list, because each builds on those before it.
pub(super) async fn apply(session: &Session, files: &Files, steps: &[TunnelStep]) -> Result<(), KernelError> {
    let path = &files.tunnel;
    for step in steps {
        match step {
            TunnelStep::RemoveNamespace => namespace::remove(path)?,
            TunnelStep::CreateNamespace => create(session, path)?,
            _ => perform(session, files, step).await?,
        }
    }
    Ok(())
}

fn create(session: &Session, path: &Path) -> Result<(), KernelError> {
    namespace::create(session, path)?;
    let failed = |source| KernelError::Namespace { doing: "enter", path: path.to_owned(), source };
    let namespace = NamespaceFile::open(path).map_err(failed)?;
    // Nothing in there speaks IPv6: the tunnel's addresses are of IPv4 whatever the underlay is.
    session.visit(&namespace, || sysctl::turn_on(&sysctl::disable_ipv6_path("default"))).map_err(failed)?
}

async fn perform(session: &Session, files: &Files, step: &TunnelStep) -> Result<(), KernelError> {
    let path = &files.tunnel;
    let failed = |source| KernelError::Namespace { doing: "open", path: path.clone(), source };
    let namespace = NamespaceFile::open(path).map_err(failed)?;
    let inside = || session.netlink_in(&namespace, path);
    let set = |doing: &str, change: &Change<'_>| {
        let done = session.visit(&namespace, || wireguard::set(DEVICE, change)).and_then(|done| done);
        done.map_err(|source| KernelError::Netlink { doing: doing.to_owned(), source })
    };
    match step {
        TunnelStep::RemoveNamespace | TunnelStep::CreateNamespace => Ok(()),
        TunnelStep::LoadRules { ruleset, digest } => load(session, &namespace, files, ruleset, digest).await,
        TunnelStep::RemoveDevice => inside()?.remove_link(DEVICE).await,
        TunnelStep::CreateDevice => create_device(session, &namespace).await,
        TunnelStep::SetKey { private_key, port } => {
            set("give this host's key to its WireGuard interface", &Change::Key(private_key, *port))
        }
        TunnelStep::SetPeers { remove, set: come } => {
            let doing = format!("tell the WireGuard interface of {} peers, and of {} gone", come.len(), remove.len());
            set(&doing, &Change::Peers { remove, set: come })
        }
        TunnelStep::AddAddress(address) => inside()?.add_address(DEVICE, *address).await,
        TunnelStep::RemoveAddress(address) => inside()?.remove_address(DEVICE, *address).await,
        TunnelStep::DeviceUp { mtu, port } => {
            let up = inside()?.set_link(DEVICE, "bring up the WireGuard interface", |l| l.up().mtu(*mtu)).await;
            up.map_err(|error| port_taken(error, *port))
        }
    }
}

/// Born in the tunnel's namespace; its UDP socket stays in the host's. There is no moment in which a crash could leave
/// it elsewhere.
async fn create_device(session: &Session, namespace: &NamespaceFile) -> Result<(), KernelError> {
    let message = LinkWireguard::new(DEVICE).setns_by_fd(namespace.raw()).build();
    let Err(error) = session.host.handle.link().add(message).execute().await else { return Ok(()) };
    let source = netlink_io(&error);
    match source.raw_os_error() {
        Some(libc::EEXIST) => Ok(()),
        Some(libc::EOPNOTSUPP) => Err(KernelError::NoWireguard(source)),
        _ => Err(KernelError::Netlink { doing: format!("create the WireGuard interface {DEVICE}"), source }),
    }
}

fn port_taken(error: KernelError, port: u16) -> KernelError {
    match &error {
        KernelError::Netlink { source, .. } if source.raw_os_error() == Some(libc::EADDRINUSE) => {
            KernelError::WireguardPortTaken { port }
        }
        _ => error,
    }
}

async fn load(
    session: &Session,
    namespace: &NamespaceFile,
    files: &Files,
    ruleset: &str,
    digest: &str,
) -> Result<(), KernelError> {
    let asked = |source| KernelError::Netlink { doing: "ask for the state of the tunnel's rules".to_owned(), source };
    let generation = || session.visit(namespace, netfilter::ruleset_generation).and_then(|asked| asked).map_err(asked);
    let before = generation()?;
    let child = session.visit(namespace, || nft::spawn(&["-f", "-"])).map_err(asked)??;
    nft::converse(child, ruleset, "load the rules of the tunnel").await?;
    let generation = generation()?;
    if generation != before.wrapping_add(1) {
        // Somebody else was at it in the same moment; the next look loads them again.
        return Ok(());
    }
    let record = Record { namespace: namespace.inode().map_err(asked)?, generation, digest: digest.to_owned() };
    let text = serde_json::to_vec(&record).expect("numbers and strings are always JSON");
    let path = files.tunnel_record.clone();
    fs::write(&path, text).map_err(|source| KernelError::File { doing: "write", path, source })
}
