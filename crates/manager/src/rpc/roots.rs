//! What a write that asks for a new root needs before it is decided on: keys and signatures, which `control` cannot make
//! (parity C-18). Done by the manager that leads, on the value it decides with.

use std::borrow::Cow;

use control::Tables;
use tonic::Status;
use types::{Timestamp, WriteRequest};

/// The request with the new root in it, examined and signed by the present one; any other request as it is.
///
/// # Errors
/// `INVALID_ARGUMENT` for a root that cannot take the present one's place.
pub(super) fn prepare<'a>(
    tables: &Tables,
    wanted: &'a WriteRequest,
    now: Timestamp,
) -> Result<Cow<'a, WriteRequest>, Status> {
    let (WriteRequest::UpdateCluster { spec, root: given, version, .. }, Some(cluster)) = (wanted, tables.cluster())
    else {
        return Ok(Cow::Borrowed(wanted));
    };
    let asks = given.is_some() || spec.ca.force_rotate != cluster.spec.ca.force_rotate;
    // one that was decided on an older value is refused anyway
    if !asks || *version != cluster.meta.version {
        return Ok(Cow::Borrowed(wanted));
    }
    let given = given.as_deref().map(|given| (&*given.certificate_pem, &*given.key_pem));
    let next = identity::next_root(&cluster.root_ca, given, now).map_err(|error| match error {
        identity::Error::Root(_) => Status::invalid_argument(error.to_string()),
        other => Status::internal(format!("a new root could not be made: {other}")),
    })?;
    tracing::info!("a new root for the cluster is on its way in");
    let mut prepared = wanted.clone();
    if let WriteRequest::UpdateCluster { root, .. } = &mut prepared {
        *root = Some(Box::new(next));
    }
    Ok(Cow::Owned(prepared))
}
