//! Whom a store belongs to, so that a directory of another cluster or node is noticed.

use serde::{Deserialize, Serialize};
use types::{ClusterId, NodeId};

use super::database::{Batch, Column, Database};
use crate::{Error, raft::types::RaftId};

const OWNER: &[u8] = b"owner";

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Owner {
    pub(crate) cluster: ClusterId,
    pub(crate) node: NodeId,
    /// Under which votes were given and entries acknowledged.
    pub(crate) raft_id: RaftId,
}

impl Owner {
    /// An error that names both sides unless the store belongs to this node of this cluster.
    pub(crate) fn check(&self, cluster: ClusterId, node: NodeId, path: &std::path::Path) -> Result<(), Error> {
        if self.cluster == cluster && self.node == node {
            return Ok(());
        }
        Err(Error::Foreign {
            path: path.to_owned(),
            found_node: self.node.to_string(),
            found_cluster: self.cluster.to_string(),
            node: node.to_string(),
            cluster: cluster.to_string(),
        })
    }
}

pub(super) fn load(database: &Database) -> Result<Option<Owner>, Error> {
    let Some(bytes) = database.get(Column::Meta, OWNER)? else { return Ok(None) };
    let owner = proto::decode(&bytes).map_err(|e| database.format_error(Column::Meta, OWNER, &e))?;
    Ok(Some(owner))
}

pub(super) fn put(batch: &mut Batch<'_>, owner: &Owner) {
    batch.put(Column::Meta, OWNER, proto::encode(owner));
}

pub(super) fn save(database: &Database, owner: &Owner) -> Result<(), Error> {
    let mut batch = database.batch();
    put(&mut batch, owner);
    batch.write_synced(Column::Meta)
}
