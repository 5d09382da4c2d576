//! Performs the steps of one endpoint: its namespace, its veth pair, and the inside.

use std::path::Path;

use rtnetlink::LinkMessageBuilder;

use super::{
    KernelError, namespace,
    session::{NamespaceFile, Netlink, Session},
    sysctl,
};
use crate::{
    plan::INSIDE_NAME,
    step::{EndpointStep, InsideStep},
};

/// Does the steps in order; the first failure ends the list, because each builds on those before it.
pub(super) async fn apply(session: &Session, path: &Path, steps: &[EndpointStep]) -> Result<(), KernelError> {
    for step in steps {
        perform(session, path, step).await?;
    }
    Ok(())
}

async fn perform(session: &Session, path: &Path, step: &EndpointStep) -> Result<(), KernelError> {
    let host = &session.host;
    match step {
        EndpointStep::RemoveNamespace => namespace::remove(path),
        EndpointStep::CreateNamespace => namespace::create(session, path),
        EndpointStep::RemoveVeth { name } => host.remove_link(name).await,
        EndpointStep::RemoveInterface => inside(session, path)?.1.remove_link(INSIDE_NAME).await,
        EndpointStep::CreateVeth { name, mac, mtu } => {
            let namespace = open(path)?;
            host.create_veth(name, (INSIDE_NAME, namespace.raw()), *mac, *mtu).await
        }
        EndpointStep::Attach { name, bridge, mtu } => {
            let bridge = host.index(bridge).await?;
            host.set_link(name, "attach to the bridge", |l| l.controller(bridge).mtu(*mtu).up()).await
        }
        EndpointStep::Inside { steps } => {
            let (namespace, netlink) = inside(session, path)?;
            for step in steps {
                perform_inside(session, &namespace, &netlink, path, step).await?;
            }
            Ok(())
        }
    }
}

async fn perform_inside(
    session: &Session,
    namespace: &NamespaceFile,
    netlink: &Netlink,
    path: &Path,
    step: &InsideStep,
) -> Result<(), KernelError> {
    match step {
        InsideStep::LoopbackUp => netlink.set_link("lo", "bring up", LinkMessageBuilder::up).await,
        InsideStep::DisableIpv6 => {
            let turned = session.visit(namespace, || sysctl::turn_on(&sysctl::disable_ipv6_path(INSIDE_NAME)));
            turned.map_err(|source| KernelError::Namespace { doing: "enter", path: path.to_owned(), source })?
        }
        InsideStep::SetMtu(mtu) => netlink.set_link(INSIDE_NAME, "set the MTU of", |l| l.mtu(*mtu)).await,
        InsideStep::AddAddress(address) => netlink.add_address(INSIDE_NAME, *address).await,
        InsideStep::RemoveAddress(address) => netlink.remove_address(INSIDE_NAME, *address).await,
        InsideStep::InterfaceUp => netlink.set_link(INSIDE_NAME, "bring up", LinkMessageBuilder::up).await,
        InsideStep::DefaultRoute(gateway) => netlink.set_default_route(INSIDE_NAME, *gateway).await,
    }
}

fn open(path: &Path) -> Result<NamespaceFile, KernelError> {
    NamespaceFile::open(path).map_err(|source| KernelError::Namespace { doing: "open", path: path.to_owned(), source })
}

fn inside(session: &Session, path: &Path) -> Result<(NamespaceFile, Netlink), KernelError> {
    let namespace = open(path)?;
    let netlink = session.netlink_in(&namespace, path)?;
    Ok((namespace, netlink))
}
