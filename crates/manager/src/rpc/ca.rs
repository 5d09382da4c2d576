//! Certificates: for nodes that show a join token, and for nodes that renew (parity C-10, C-16, C-20).

use std::net::IpAddr;

use control::{Tables, admission};
use identity::{CertificateAuthority, JoinToken, Subject};
use proto::v1::{IssueAnswer, IssueCall, RenewCall, ca_server::Ca};
use tonic::{Request, Response, Status};
use types::{Availability, Cluster, Node, NodeId, NodeRole};

use super::{peer, status};
use crate::{
    Clock,
    dispatch::session,
    raft::{Consensus, membership::MAX_MANAGERS, peers},
};

pub(crate) struct CaService {
    pub(crate) consensus: Consensus,
    pub(crate) clock: Clock,
}

#[tonic::async_trait]
impl Ca for CaService {
    async fn issue(&self, request: Request<IssueCall>) -> Result<Response<IssueAnswer>, Status> {
        let caller = peer::caller(&request);
        let call = request.into_inner();
        let tables = self.consensus.tables();
        let (cluster, authority) = authority(&tables)?;
        let token: JoinToken = call.token.parse().map_err(|e| Status::invalid_argument(format!("{e}")))?;
        let role = role_of_token(&cluster, authority.digest(), &token)?;
        let availability = parse_availability(&call.availability)?;
        let known = caller.subject.and_then(|s| tables.node(s.node).cloned()).map(|node| (node.id, node.role));
        let (node, role) = match known {
            // it still holds its certificate: the same node comes back
            Some(known) => known,
            None => (self.new_node(&tables, role, availability, caller.ip()).await?, role),
        };
        let (cluster, authority) = self.present_authority().await?;
        tracing::info!(node.id = %node, %role, address = ?caller.ip(), "node joined");
        self.answer(&cluster, &authority, &call.csr_pem, node, role)
    }

    async fn renew(&self, request: Request<RenewCall>) -> Result<Response<IssueAnswer>, Status> {
        let subject = peer::certified(&request)?;
        if !self.consensus.is_member(subject.node).await? {
            return Err(session::removed(subject.node));
        }
        let (cluster, authority) = self.present_authority().await?;
        let role = self.consensus.tables().node(subject.node).map_or(subject.role, |node| node.role);
        self.answer(&cluster, &authority, &request.get_ref().csr_pem, subject.node, role)
    }
}

impl CaService {
    /// Who signs, as the leader knows it: a certificate of a root that has gone meanwhile would shut its holder out.
    async fn present_authority(&self) -> Result<(Cluster, CertificateAuthority), Status> {
        self.consensus.ensure_current().await?;
        authority(&self.consensus.tables())
    }

    async fn new_node(
        &self,
        tables: &Tables,
        role: NodeRole,
        availability: Availability,
        address: Option<IpAddr>,
    ) -> Result<NodeId, Status> {
        let managers = tables.nodes().filter(|node| wants_manager(node)).count();
        if role == NodeRole::Manager && managers >= MAX_MANAGERS {
            return Err(Status::failed_precondition(format!(
                "the cluster has {managers} managers and {MAX_MANAGERS} is the most: join as a worker"
            )));
        }
        let id = NodeId::from_random(crate::random::u128());
        let proposal = admission::join_node(tables, id, role, availability, address, (self.clock)());
        let proposal = proposal.map_err(|rejection| status::of_rejection(&rejection))?;
        self.consensus.propose(proposal).await.map_err(status::of_propose)?;
        Ok(id)
    }

    fn answer(
        &self,
        cluster: &Cluster,
        authority: &CertificateAuthority,
        csr_pem: &str,
        node: NodeId,
        role: NodeRole,
    ) -> Result<Response<IssueAnswer>, Status> {
        let subject = Subject { node, role, cluster: cluster.id };
        let valid_for = cluster.spec.ca.node_cert_expiry;
        let chain_pem = authority.sign(csr_pem, &subject, (self.clock)(), valid_for).map_err(|error| match error {
            identity::Error::Request(_) => Status::invalid_argument(error.to_string()),
            other => Status::internal(other.to_string()),
        })?;
        Ok(Response::new(IssueAnswer {
            chain_pem,
            node_id: node.to_string(),
            cluster_id: cluster.id.to_string(),
            role: role.to_string(),
            managers: proto::encode(&peers::managers(&self.consensus.tables())),
        }))
    }
}

fn wants_manager(node: &Node) -> bool {
    node.spec.role == NodeRole::Manager
}

fn authority(tables: &Tables) -> Result<(Cluster, CertificateAuthority), Status> {
    let not_yet = || Status::unavailable("this manager has not yet received the cluster's state; try another one");
    let cluster = tables.cluster().ok_or_else(not_yet)?;
    let authority = CertificateAuthority::of_cluster(&cluster.root_ca)
        .map_err(|e| Status::internal(format!("the cluster's certificate authority cannot be used: {e}")))?;
    Ok(((**cluster).clone(), authority))
}

/// The role that a token gives, or why it gives none.
fn role_of_token(cluster: &Cluster, digest: [u8; 32], token: &JoinToken) -> Result<NodeRole, Status> {
    if token.ca_digest != digest {
        return Err(Status::permission_denied(
            "the join token belongs to another cluster, or was made before this cluster's root was rotated: its digest is \
             not that of this cluster's certificate authority; run `rswarm join-token worker` on a manager of this cluster",
        ));
    }
    // both are compared whole, whatever the first gives
    let worker = same(&token.secret, &cluster.join.worker);
    let manager = same(&token.secret, &cluster.join.manager);
    match (worker, manager) {
        (_, true) => Ok(NodeRole::Manager),
        (true, false) => Ok(NodeRole::Worker),
        (false, false) => Err(Status::permission_denied(
            "the join token is of this cluster but not valid (any more): it was rotated, or mistyped in its last \
             part; run `rswarm join-token worker` on a manager for the present one",
        )),
    }
}

/// Takes the same time wherever the first difference is.
fn same(a: &[u8; 16], b: &[u8; 16]) -> bool {
    let difference = a.iter().zip(b).fold(0, |difference, (x, y)| difference | (x ^ y));
    std::hint::black_box(difference) == 0
}

fn parse_availability(text: &str) -> Result<Availability, Status> {
    match text {
        "" | "active" => Ok(Availability::Active),
        "pause" => Ok(Availability::Pause),
        "drain" => Ok(Availability::Drain),
        other => Err(Status::invalid_argument(format!("availability {other:?} is not active, pause or drain"))),
    }
}
