//! What services may have of their hosts beyond what containers have, where the cluster says no (P13). Pure.
//!
//! A service that has it already keeps it: scaling it, or going back to a spec that was fine then, asks for nothing new.

use types::{PRIVILEGED_LABEL, ServiceSpec};

use crate::{Rejection, Tables};

/// Asked for every new spec; `previous` is the service's present one.
pub(super) fn check(tables: &Tables, spec: &ServiceSpec, previous: Option<&ServiceSpec>) -> Result<(), Rejection> {
    let denied = tables.cluster().is_some_and(|cluster| cluster.spec.privileged_services() == Ok(false));
    if !denied {
        return Ok(());
    }
    let had = previous.map(asks).unwrap_or_default();
    let Some(what) = asks(spec).into_iter().find(|what| !had.contains(what)) else { return Ok(()) };
    let name = &spec.name;
    Err(Rejection::Denied(format!(
        "service {name} asks for {what}, which this cluster denies to services (label {PRIVILEGED_LABEL}=denied of the \
         cluster): leave it out, or have its administrator allow it with `rswarm swarm update --privileged-services allowed`"
    )))
}

/// In words. Each would let a container take its host over.
fn asks(spec: &ServiceSpec) -> Vec<String> {
    let (container, host) = (&spec.task.container, &spec.task.container.host);
    let flags = [
        (host.privileged, "privileged containers"),
        (host.pid_of_host, "the host's process namespace"),
        (host.ipc_of_host, "the host's IPC namespace"),
    ];
    let flags = flags.into_iter().filter(|(asked, _)| *asked).map(|(_, words)| words.to_owned());
    let devices = host.devices.iter().map(|device| format!("device {} of the host", device.host));
    let capabilities = container.capability_add.iter().map(|name| format!("capability {name}"));
    flags.chain(devices).chain(capabilities).collect()
}
