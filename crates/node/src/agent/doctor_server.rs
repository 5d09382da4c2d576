//! Tells managers what this node's doctor finds about its networks. Served beside the node's images (`image_server`), to
//! managers alone: what is told names containers' addresses.

use identity::Subject;
use proto::v1::{NetworksAnswer, NetworksCall, node_doctor_server::NodeDoctor};
use tokio::sync::Mutex;
use tonic::{Request, Response, Status};
use types::NodeRole;

use crate::engine::Engine;

pub(super) struct Doctor {
    engine: Engine,
    /// One look at a time, however many ask: it enters each container's namespace.
    turn: Mutex<()>,
}

impl Doctor {
    pub fn new(engine: Engine) -> Self {
        Self { engine, turn: Mutex::new(()) }
    }
}

#[tonic::async_trait]
impl NodeDoctor for Doctor {
    async fn networks(&self, request: Request<NetworksCall>) -> Result<Response<NetworksAnswer>, Status> {
        may_ask(request.extensions().get::<Subject>())?;
        let _turn = self.turn.lock().await;
        let findings = self.engine.network_findings().await.map_err(Status::internal)?;
        Ok(Response::new(NetworksAnswer { findings: proto::encode(&findings) }))
    }
}

fn may_ask(caller: Option<&Subject>) -> Result<(), Status> {
    match caller.map(|caller| caller.role) {
        Some(NodeRole::Manager) => Ok(()),
        Some(NodeRole::Worker) => Err(Status::permission_denied("only managers may ask a node what its doctor finds")),
        None => Err(Status::unauthenticated("this call needs a certificate of the cluster")),
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;
    use types::{ClusterId, NodeId};

    use super::*;

    #[test]
    fn only_managers_hear_what_the_doctor_finds() {
        let caller = |role| Subject { node: NodeId::from_random(1), role, cluster: ClusterId::from_random(2) };
        let said = |caller: Option<Subject>| may_ask(caller.as_ref()).map_err(|status| status.code());
        assert_eq!(said(Some(caller(NodeRole::Manager))), Ok(()));
        assert_eq!(said(Some(caller(NodeRole::Worker))), Err(Code::PermissionDenied));
        assert_eq!(said(None), Err(Code::Unauthenticated));
    }
}
