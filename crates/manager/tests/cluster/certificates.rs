//! Join tokens, certificates and roles (parity C-10, C-16, C-20).

use identity::{CertificateAuthority, JoinToken, KeyPair, NodeIdentity};
use proto::v1::{RenewCall, ca_client::CaClient};
use tonic::Code;
use types::{NodeRole, ReadReply, ReadRequest, WriteRequest};

use crate::harness::{Client, Host, found, issue, join_identity, now, quick_spec, token};

async fn refused(host: &Host, token: &JoinToken) -> (Code, String) {
    let key = KeyPair::generate().unwrap();
    let pin = self::token(host, NodeRole::Worker).ca_digest;
    let status = issue(host, pin, &token.to_string(), key.csr_pem()).await.unwrap_err();
    (status.code(), status.message().to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c_10_tokens_give_a_role_and_wrong_ones_say_why() {
    let host = found(quick_spec()).await;
    let worker = join_identity(&host, NodeRole::Worker).await;
    assert_eq!(worker.role(), NodeRole::Worker);
    let view = host.client().node(worker.node()).await.expect("the node is in the value");
    assert_eq!(view.node.role, NodeRole::Worker);

    let good = token(&host, NodeRole::Worker);
    let (code, text) = refused(&host, &JoinToken { secret: [7; 16], ..good }).await;
    assert_eq!(code, Code::PermissionDenied);
    assert!(text.contains("rotated"), "{text}");
    let other = CertificateAuthority::generate(now()).unwrap().digest();
    let (code, text) = refused(&host, &JoinToken { ca_digest: other, ..good }).await;
    assert_eq!(code, Code::PermissionDenied);
    assert!(text.contains("another cluster"), "{text}");

    let key = KeyPair::generate().unwrap();
    let status = issue(&host, good.ca_digest, "hello", key.csr_pem()).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    let status = issue(&host, good.ca_digest, &good.to_string(), "no request").await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    // somebody who pins another root does not even get to ask
    assert!(issue(&host, other, &good.to_string(), key.csr_pem()).await.is_err());
    host.manager.unwrap().shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c_11_rotation_makes_the_old_token_invalid() {
    let host = found(quick_spec()).await;
    let old = token(&host, NodeRole::Worker);
    let ReadReply::Cluster(cluster) = host.client().read(ReadRequest::Cluster).await else { panic!() };
    let rotate = WriteRequest::UpdateCluster {
        version: cluster.meta.version,
        spec: Box::new(cluster.spec.clone()),
        rotate_worker_token: true,
        rotate_manager_token: false,
        rotate_unlock_key: false,
        root: None,
    };
    host.client().write(rotate).await.unwrap();
    assert!(refused(&host, &old).await.1.contains("rotated"));
    join_identity(&host, NodeRole::Worker).await;
    host.manager.unwrap().shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c_20_a_worker_may_not_act_as_manager() {
    let host = found(quick_spec()).await;
    let worker = join_identity(&host, NodeRole::Worker).await;
    let client = Client::remote(&worker, &host.peer().address);
    let status = client.create("web", 1).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied, "{status}");
    assert!(status.message().contains("is a worker"), "{status}");
    let status = client.try_read(ReadRequest::Counts, false).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    // leaving is its own business, and nobody else's
    let other = WriteRequest::Leave { id: host.node(), force: true };
    assert_eq!(client.write(other).await.unwrap_err().code(), Code::PermissionDenied);
    client.write(WriteRequest::Leave { id: worker.node(), force: false }).await.unwrap();
    host.manager.unwrap().shutdown().await;
}

async fn renew(host: &Host, identity: &NodeIdentity) -> Result<NodeRole, tonic::Status> {
    let dialled = identity.clone();
    let channel = proto::transport::channel(&host.peer().address, move |a| dialled.clone().connect(a));
    let key = KeyPair::generate().unwrap();
    let call = RenewCall { csr_pem: key.csr_pem().to_owned() };
    let answer = CaClient::new(channel).renew(call).await?.into_inner();
    identity.replace(key.pem(), &answer.chain_pem).unwrap();
    Ok(identity.role())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c_17_renewal_follows_the_value_and_stops_with_removal() {
    let host = found(quick_spec()).await;
    let worker = join_identity(&host, NodeRole::Worker).await;
    let id = worker.node();
    assert_eq!(renew(&host, &worker).await.unwrap(), NodeRole::Worker);
    assert_eq!(worker.node(), id);
    // its own certificate is used at once by the running manager as well
    assert_eq!(renew(&host, &host.config.identity).await.unwrap(), NodeRole::Manager);
    host.client().write(WriteRequest::RemoveNode { id, force: true }).await.unwrap();
    let status = renew(&host, &worker).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied, "{status}");
    host.manager.unwrap().shutdown().await;
}
