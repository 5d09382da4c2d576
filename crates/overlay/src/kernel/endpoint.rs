//! Performs the steps of one endpoint: its namespace, its veth pairs, their insides, its virtual addresses.

use std::path::{Path, PathBuf};

use rtnetlink::LinkMessageBuilder;
use types::NetworkId;

use super::{
    Files, KernelError, flows,
    local::NewStacked,
    mesh, namespace,
    session::{NamespaceFile, Netlink, Session},
    sysctl, vip,
};
use crate::{
    EndpointId, Place, PortRole,
    plan::OVERLAY_BRIDGE,
    step::{EndpointStep, InsideStep},
};

/// What the steps of one endpoint work on.
struct Work<'a> {
    session: &'a Session,
    files: &'a Files,
    /// Of its namespace.
    path: PathBuf,
    /// Of its virtual addresses.
    record: PathBuf,
}

/// Does the steps in order; the first failure ends the list, because each builds on those before it.
pub(super) async fn apply(
    session: &Session,
    files: &Files,
    id: &EndpointId,
    steps: &[EndpointStep],
) -> Result<(), KernelError> {
    let (path, record) = (files.namespaces.join(id.as_str()), files.vips.join(id.as_str()));
    let work = Work { session, files, path, record };
    for step in steps {
        work.perform(step).await?;
    }
    Ok(())
}

impl Work<'_> {
    async fn perform(&self, step: &EndpointStep) -> Result<(), KernelError> {
        let host = &self.session.host;
        match step {
            EndpointStep::RemoveNamespace => {
                vip::forget(&self.record)?;
                namespace::remove(&self.path)
            }
            EndpointStep::CreateNamespace => namespace::create(self.session, &self.path),
            EndpointStep::LoopbackUp => self.inside()?.1.set_link("lo", "bring up", LinkMessageBuilder::up).await,
            EndpointStep::RemoveVeth { at: Place::Host, name } => host.remove_link(name).await,
            EndpointStep::RemoveVeth { at: Place::Overlay(network), name } => match self.overlay(*network) {
                Ok(overlay) => overlay.remove_link(name).await,
                // The overlay is gone, and the pair with it.
                Err(_) if !namespace::is_alive(&self.overlay_path(*network)) => Ok(()),
                Err(error) => Err(error),
            },
            EndpointStep::RemoveInterface { name } => self.inside()?.1.remove_link(name).await,
            EndpointStep::CreateVeth { at, name, inside, mac, mtu } => {
                let namespace = open(&self.path)?;
                let inner = (inside.as_str(), namespace.raw());
                match at {
                    Place::Host => host.create_veth(name, inner, *mac, *mtu).await,
                    Place::Overlay(network) => self.overlay(*network)?.create_veth(name, inner, *mac, *mtu).await,
                }
            }
            EndpointStep::CreateStacked { network, parent, inside, kind, mtu } => {
                let namespace = open(&self.path)?;
                let new = NewStacked { network, parent, name: inside, kind: *kind, mtu: *mtu };
                host.create_stacked(&new, namespace.raw()).await
            }
            EndpointStep::Attach { name, bridge, mtu } => {
                let bridge = host.index(bridge).await?;
                host.set_link(name, "attach to the bridge", |l| l.controller(bridge).mtu(*mtu).up()).await
            }
            EndpointStep::Hairpin { name } => host.set_hairpin(name).await,
            EndpointStep::Isolate { name, apart } => host.set_isolated(name, *apart).await,
            EndpointStep::Plug { network, name, mac, mtu } => {
                let overlay = self.overlay(*network)?;
                let bridge = overlay.index(OVERLAY_BRIDGE).await?;
                overlay.plug(name, bridge, PortRole::Endpoint, *mtu).await?;
                overlay.set_port(overlay.index(name).await?, *mac).await
            }
            EndpointStep::Inside { interface, steps } => {
                let (namespace, netlink) = self.inside()?;
                for step in steps {
                    self.perform_inside(&namespace, &netlink, interface, step).await?;
                }
                Ok(())
            }
            EndpointStep::JoinMesh { interface, next_hops, ruleset } => {
                let namespace = open(&self.path)?;
                mesh::join(self.session, (&namespace, &self.path), interface, next_hops, ruleset).await
            }
            EndpointStep::LeaveMesh => mesh::leave(self.session, (&open(&self.path)?, &self.path)).await,
            EndpointStep::SetVips { onto, ruleset, digests } => {
                let namespace = open(&self.path)?;
                vip::load(self.session, &namespace, &self.record, (*onto, ruleset), digests).await
            }
            EndpointStep::EndFlows { to } => {
                let namespace = open(&self.path)?;
                let ended =
                    self.session.visit(&namespace, || flows::end(to, flows::Clients::Here)).and_then(|ended| ended);
                let doing = || "end the connections to backends that are gone".to_owned();
                ended.map(drop).map_err(|source| KernelError::Netlink { doing: doing(), source })
            }
        }
    }

    async fn perform_inside(
        &self,
        namespace: &NamespaceFile,
        netlink: &Netlink,
        name: &str,
        step: &InsideStep,
    ) -> Result<(), KernelError> {
        let set = |work: &dyn Fn() -> Result<(), KernelError>| {
            let visited = self.session.visit(namespace, work);
            visited.map_err(|source| KernelError::Namespace { doing: "enter", path: self.path.clone(), source })?
        };
        match step {
            InsideStep::DisableIpv6 => set(&|| sysctl::turn_on(&sysctl::disable_ipv6_path(name))),
            InsideStep::EnableIpv6 => set(&|| sysctl::enable_ipv6(name)),
            InsideStep::SetMtu(mtu) => netlink.set_link(name, "set the MTU of", |l| l.mtu(*mtu)).await,
            InsideStep::Set(setting) => set(&|| sysctl::set_on(name, setting)),
            InsideStep::AddAddress(address) => netlink.add_address(name, *address).await,
            InsideStep::RemoveAddress(address) => netlink.remove_address(name, *address).await,
            InsideStep::InterfaceUp => netlink.set_link(name, "bring up", LinkMessageBuilder::up).await,
            InsideStep::AddRoute(range) => netlink.add_route(name, *range).await,
            InsideStep::RemoveRoute(range) => netlink.remove_route(name, *range).await,
            InsideStep::DefaultRoute(way) => netlink.set_default_route(name, *way).await,
            InsideStep::DefaultRoute6(way) => netlink.set_default_route6(name, *way).await,
        }
    }

    fn inside(&self) -> Result<(NamespaceFile, Netlink), KernelError> {
        let namespace = open(&self.path)?;
        let netlink = self.session.netlink_in(&namespace, &self.path)?;
        Ok((namespace, netlink))
    }

    fn overlay_path(&self, network: NetworkId) -> PathBuf {
        self.files.overlays.join(network.to_string())
    }

    fn overlay(&self, network: NetworkId) -> Result<Netlink, KernelError> {
        let path = self.overlay_path(network);
        self.session.netlink_in(&open(&path)?, &path)
    }
}

fn open(path: &Path) -> Result<NamespaceFile, KernelError> {
    NamespaceFile::open(path).map_err(|source| KernelError::Namespace { doing: "open", path: path.to_owned(), source })
}
