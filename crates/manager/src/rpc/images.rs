//! Who may have an image, and who may get it from whom. Pure decisions over the value, served to nodes.
//!
//! Called by agents: by one that needs an image, and by one that is asked for it. A node gets what a task of its own
//! uses and nothing else (P16): so a worker that was broken into cannot read the images of other services.

use std::collections::BTreeSet;

use control::Tables;
use proto::v1::{
    HoldersAnswer, HoldersCall, ImageHolder, MayFetchAnswer, MayFetchCall, image_directory_server::ImageDirectory,
};
use tonic::{Request, Response, Status};
use types::{ImageReference, NodeId, NodeState, Task, TaskState};

use super::peer;
use crate::raft::Consensus;

pub(crate) struct ImageDirectoryService {
    pub(crate) consensus: Consensus,
}

#[tonic::async_trait]
impl ImageDirectory for ImageDirectoryService {
    async fn holders(&self, request: Request<HoldersCall>) -> Result<Response<HoldersAnswer>, Status> {
        let subject = peer::node(&request, &self.consensus.tables())?;
        let image = reference(&request.get_ref().image)?;
        if !self.uses(subject.node, &image).await? {
            return Err(Status::permission_denied(format!(
                "node {} has no task that uses image {}, so it gets it from no other node",
                subject.node,
                image.familiar()
            )));
        }
        Ok(Response::new(HoldersAnswer { holders: holders(&self.consensus.tables(), subject.node, &image) }))
    }

    async fn may_fetch(&self, request: Request<MayFetchCall>) -> Result<Response<MayFetchAnswer>, Status> {
        peer::node(&request, &self.consensus.tables())?;
        let call = request.into_inner();
        let node = call.node.parse().map_err(|e: types::IdError| Status::invalid_argument(e.to_string()))?;
        let allowed = self.uses(node, &reference(&call.image)?).await?;
        Ok(Response::new(MayFetchAnswer { allowed }))
    }
}

impl ImageDirectoryService {
    /// A manager that lags behind may not know of a task yet that another one has told its node of.
    async fn uses(&self, node: NodeId, image: &ImageReference) -> Result<bool, Status> {
        if uses(&self.consensus.tables(), node, image) {
            return Ok(true);
        }
        self.consensus.ensure_current().await?;
        Ok(uses(&self.consensus.tables(), node, image))
    }
}

fn reference(text: &str) -> Result<ImageReference, Status> {
    let parsed = text.parse::<ImageReference>().map_err(|e| Status::invalid_argument(e.to_string()))?;
    Ok(parsed.with_default_tag())
}

/// Whether a task that is to run on the node has this image.
fn uses(tables: &Tables, node: NodeId, image: &ImageReference) -> bool {
    let is_user = |task: &Task| task.desired <= TaskState::Running && !task.status.state.is_terminal();
    tables.node(node).is_some()
        && tables.tasks_of_node(node).any(|task| is_user(task) && task.spec.container.needs_image(image))
}

/// The other nodes that are there: first those with a container of the image, whose store has it.
fn holders(tables: &Tables, asking: NodeId, image: &ImageReference) -> Vec<ImageHolder> {
    let has_container = |task: &Task| (TaskState::Ready..=TaskState::Running).contains(&task.status.state);
    let running: BTreeSet<NodeId> = tables
        .tasks()
        .filter(|task| has_container(task) && task.spec.container.needs_image(image))
        .filter_map(|task| task.node)
        .collect();
    let there = tables.nodes().filter(|node| node.id != asking && node.status.state == NodeState::Ready);
    let mut all: Vec<_> = there.filter_map(|node| Some((node.id, node.status.address?))).collect();
    all.sort_by_key(|(id, _)| (!running.contains(id), *id));
    all.into_iter().map(|(id, ip)| ImageHolder { node: id.to_string(), address: ip.to_string() }).collect()
}
