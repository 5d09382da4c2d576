//! What another node's doctor finds about its networks, asked by a manager.

use std::{
    error::Error as _,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use identity::NodeIdentity;
use overlay::doctor::Findings;
use proto::v1::{NetworksCall, node_doctor_client::NodeDoctorClient};
use tokio::time::timeout;
use types::NodeId;

use crate::engine::peers::IMAGE_PORT;

/// A node with many containers looks at each, and again while something changes.
const PATIENCE: Duration = Duration::from_secs(45);

/// # Errors
/// A sentence: why the node did not say.
pub async fn networks(identity: &NodeIdentity, node: NodeId, address: IpAddr) -> Result<Findings, String> {
    let (at, identity) = (SocketAddr::new(address, IMAGE_PORT).to_string(), identity.clone());
    let channel = proto::transport::channel(&at, move |at| identity.clone().connect_node(at, node));
    let mut client = NodeDoctorClient::new(channel).max_decoding_message_size(proto::MAX_MESSAGE_BYTES);
    let answer = timeout(PATIENCE, client.networks(NetworksCall {})).await;
    let answer = answer.map_err(|_| {
        format!(
            "no answer within {} s: is its daemon running, and TCP port {IMAGE_PORT} open to it?",
            PATIENCE.as_secs()
        )
    })?;
    let answer = answer.map_err(|status| words(&status))?.into_inner();
    proto::decode(&answer.findings).map_err(|error| format!("its answer is not understood: {error}"))
}

/// A transport that broke says little by itself; its innermost cause does.
fn words(status: &tonic::Status) -> String {
    let Some(mut cause) = status.source() else {
        return match status.code() {
            tonic::Code::Unimplemented => "its rswarm is older and has no doctor for others: upgrade it".to_owned(),
            _ => status.message().to_owned(),
        };
    };
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    format!("{cause}: is its daemon running, and TCP port {IMAGE_PORT} open to it?")
}
