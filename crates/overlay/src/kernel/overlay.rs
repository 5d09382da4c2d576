//! Performs the steps of one overlay, in its namespace.

use std::path::Path;

use types::NetworkId;

use super::{
    Files, KernelError,
    bridge::{NewVxlan, port_taken},
    namespace,
    session::{NamespaceFile, Netlink, Session},
    sysctl,
};
use crate::{
    PortRole,
    plan::{OVERLAY_BRIDGE, OVERLAY_VXLAN},
    step::OverlayStep,
};

/// An overlay's namespace, entered once for a list of steps.
struct Room {
    namespace: NamespaceFile,
    netlink: Netlink,
    /// Name and index of the links asked for last: lists name the same one a thousand times.
    known: Vec<(String, u32)>,
}

/// Does the steps in order; the first failure ends the list, because each builds on those before it.
pub(super) async fn apply(
    session: &Session,
    files: &Files,
    id: NetworkId,
    steps: &[OverlayStep],
) -> Result<(), KernelError> {
    let path = &files.overlays.join(id.to_string());
    let mut room = None;
    for step in steps {
        match step {
            OverlayStep::RemoveNamespace => namespace::remove(path)?,
            OverlayStep::CreateNamespace => create(session, path)?,
            _ => {
                if room.is_none() {
                    room = Some(Room::open(session, path)?);
                }
                let room = room.as_mut().expect("it was opened just now");
                perform(session, files, room, step).await?;
            }
        }
    }
    Ok(())
}

fn create(session: &Session, path: &Path) -> Result<(), KernelError> {
    namespace::create(session, path)?;
    let failed = |source| KernelError::Namespace { doing: "enter", path: path.to_owned(), source };
    let namespace = NamespaceFile::open(path).map_err(failed)?;
    session.visit(&namespace, sysctl::prepare_overlay).map_err(failed)?
}

impl Room {
    fn open(session: &Session, path: &Path) -> Result<Self, KernelError> {
        let failed = |source| KernelError::Namespace { doing: "open", path: path.to_owned(), source };
        let namespace = NamespaceFile::open(path).map_err(failed)?;
        let netlink = session.netlink_in(&namespace, path)?;
        Ok(Self { namespace, netlink, known: Vec::new() })
    }

    async fn index(&mut self, name: &str) -> Result<u32, KernelError> {
        if let Some((_, index)) = self.known.iter().find(|(known, _)| known == name) {
            return Ok(*index);
        }
        let index = self.netlink.index(name).await?;
        self.known.push((name.to_owned(), index));
        Ok(index)
    }
}

async fn perform(session: &Session, files: &Files, room: &mut Room, step: &OverlayStep) -> Result<(), KernelError> {
    match step {
        OverlayStep::RemoveNamespace | OverlayStep::CreateNamespace => Ok(()),
        OverlayStep::RemoveLink { name } => {
            room.known.clear();
            room.netlink.remove_link(name).await
        }
        OverlayStep::CreateBridge { mac, mtu } => room.netlink.create_plain_bridge(OVERLAY_BRIDGE, *mac, *mtu).await,
        OverlayStep::SetBridge { mtu } => {
            room.netlink.set_link(OVERLAY_BRIDGE, "bring up the bridge", |l| l.up().mtu(*mtu)).await
        }
        OverlayStep::CreateVxlan { vni, local, port, mtu } => {
            let (name, local, is_summed) = (OVERLAY_VXLAN, *local, true);
            let new = NewVxlan { name, vni: *vni, local, port: *port, mtu: *mtu, is_summed };
            session.host.create_vxlan(&new, room.namespace.raw()).await
        }
        OverlayStep::CreateSealedVxlan { vni, local, port, mtu } => {
            // A checksum would say what the seal says already.
            let (name, local, is_summed) = (OVERLAY_VXLAN, (*local).into(), false);
            let new = NewVxlan { name, vni: *vni, local, port: *port, mtu: *mtu, is_summed };
            let path = &files.tunnel;
            let opened = NamespaceFile::open(path);
            let tunnel =
                opened.map_err(|source| KernelError::Namespace { doing: "open", path: path.clone(), source })?;
            session.netlink_in(&tunnel, path)?.create_vxlan(&new, room.namespace.raw()).await
        }
        OverlayStep::PlugUplink { name, udp_port, mtu } => {
            let bridge = room.index(OVERLAY_BRIDGE).await?;
            let plugged = room.netlink.plug(name, bridge, PortRole::Uplink, *mtu).await;
            plugged.map_err(|error| port_taken(error, *udp_port))
        }
        OverlayStep::AddHost { mac, host } => {
            let link = room.index(OVERLAY_VXLAN).await?;
            room.netlink.set_host(link, *mac, *host).await
        }
        OverlayStep::RemoveHost { mac } => {
            let link = room.index(OVERLAY_VXLAN).await?;
            room.netlink.remove_host(link, *mac).await
        }
        OverlayStep::AddPort { mac, link } => {
            let link = room.index(link).await?;
            room.netlink.set_port(link, *mac).await
        }
        OverlayStep::RemovePort { mac, link } => {
            let link = room.index(link).await?;
            room.netlink.remove_port(link, *mac).await
        }
        OverlayStep::AddNeighbour { address, mac } => {
            let bridge = room.index(OVERLAY_BRIDGE).await?;
            room.netlink.set_neighbour(bridge, *address, *mac).await
        }
        OverlayStep::RemoveNeighbour { address } => {
            let bridge = room.index(OVERLAY_BRIDGE).await?;
            room.netlink.remove_neighbour(bridge, *address).await
        }
    }
}
