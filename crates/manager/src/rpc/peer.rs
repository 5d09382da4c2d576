//! Who may call what (parity C-20): read from the certificate, and checked against the value.

use control::Tables;
use identity::Subject;
use tonic::{Request, Status};
use types::NodeRole;

use super::connection::Caller;

pub(crate) fn caller<T>(request: &Request<T>) -> Caller {
    let found = request.extensions().get::<Caller>().copied();
    found.unwrap_or(Caller { subject: None, address: None })
}

/// A node of this cluster that has not been removed, for itself.
pub(crate) fn node<T>(request: &Request<T>, tables: &Tables) -> Result<Subject, Status> {
    let subject = certified(request)?;
    still_node(&subject, tables).map(|()| subject)
}

fn still_node(subject: &Subject, tables: &Tables) -> Result<(), Status> {
    // a manager that has just joined knows no nodes yet, and must still be reachable
    if tables.cluster().is_some() && tables.node(subject.node).is_none() {
        return Err(Status::permission_denied(format!(
            "node {} is not (or not any more) part of this cluster: join it with a token",
            subject.node
        )));
    }
    Ok(())
}

/// Any holder of a certificate of this cluster.
pub(crate) fn certified<T>(request: &Request<T>) -> Result<Subject, Status> {
    let without = "this call needs a certificate of the cluster: join with a token first";
    caller(request).subject.ok_or_else(|| Status::unauthenticated(without))
}

/// A manager, by its certificate.
pub(crate) fn certified_manager<T>(request: &Request<T>) -> Result<Subject, Status> {
    let subject = certified(request)?;
    match subject.role {
        NodeRole::Manager => Ok(subject),
        NodeRole::Worker => Err(only_managers(&subject)),
    }
}

/// A manager, by its certificate and by the value: a certificate outlives a demotion.
pub(crate) fn manager<T>(request: &Request<T>, tables: &Tables) -> Result<Subject, Status> {
    let subject = certified_manager(request)?;
    still_manager(&subject, tables).map(|()| subject)
}

/// A manager of the value, or one that has just joined and has none yet.
pub(crate) fn still_manager(subject: &Subject, tables: &Tables) -> Result<(), Status> {
    still_node(subject, tables)?;
    match tables.node(subject.node) {
        Some(node) if node.role == NodeRole::Worker => Err(only_managers(subject)),
        _ => Ok(()),
    }
}

fn only_managers(subject: &Subject) -> Status {
    Status::permission_denied(format!(
        "node {} is a worker, and only managers may do this: ask a manager, or promote the node",
        subject.node
    ))
}
