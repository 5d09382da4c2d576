//! This host as the one manager of a cluster that lost its others, or was backed up elsewhere; and as a node whose managers
//! are all somewhere else now (parity C-08, C-42).
//!
//! Called by the supervisor, which holds no running part of the membership meanwhile. What fails leaves the disk as it was.

use std::{path::Path, time::Duration};

use anyhow::{Context, Result, bail};
use identity::{CertificateAuthority, KeyPair, NodeIdentity, Subject, Vault};
use manager::{BackedUp, Manager};
use node::{
    Engine,
    join::with_port,
    membership::{InitRequest, RestoreRequest},
};
use types::{ManagerPeer, NodeDescription, NodeId, NodeRole};

use crate::{
    addresses,
    member::{self, Member, first_node, manager_config, now, places, random, start_with, undo_on_failure},
    member_file::MemberFile,
};

/// For one manager to say who it is.
const ASK_LIMIT: Duration = Duration::from_secs(5);
/// What clients send when nobody said where to listen.
const DEFAULT_LISTEN: &str = "0.0.0.0:2377";

/// The manager that this host was, now without others (`init --force-new-cluster`). Where it listens and what it is called
/// stays as it was, unless the request says so.
pub async fn go_on_alone(vault: Vault, engine: &Engine, request: &InitRequest) -> Result<Member> {
    let directory = vault.directory().to_owned();
    let (Some(identity), Some(before)) = (NodeIdentity::load(&vault)?, MemberFile::load(&directory)?) else {
        bail!("there is no membership in {} to go on from", directory.display());
    };
    let listen = if request.listen_addr == DEFAULT_LISTEN { "" } else { &request.listen_addr };
    let says_where = [listen, &request.advertise_addr, &request.data_path_addr].iter().any(|text| !text.is_empty());
    let file = match says_where {
        true => {
            let interfaces = addresses::interfaces().context("list the interfaces of this host")?;
            places(&request.listen_addr, &request.advertise_addr, &request.data_path_addr, None, &interfaces)?
        }
        false => before,
    };
    let manager = Manager::open_alone(manager_config(&vault, &file, &identity, engine)).await?;
    let peer = ManagerPeer { node: identity.node(), address: file.advertise.to_string() };
    let file = MemberFile { managers: vec![peer], ..file };
    file.save(&directory)?;
    start_with(vault, engine, identity, file, Some(manager), true).await
}

/// The first manager of a cluster that was backed up. It is a new node in it, under the root that signed all others.
pub async fn restore(directory: &Path, engine: &Engine, request: RestoreRequest) -> Result<Member> {
    let interfaces = addresses::interfaces().context("list the interfaces of this host")?;
    let file = places(&request.listen_addr, &request.advertise_addr, &request.data_path_addr, None, &interfaces)?;
    let backed_up = BackedUp::decode(request.content.bytes())?;
    undo_on_failure(directory, async {
        let cluster = backed_up.cluster();
        let node = NodeId::from_random(u128::from_be_bytes(random()));
        let subject = Subject { node, role: NodeRole::Manager, cluster: cluster.id };
        let key = KeyPair::generate()?;
        let authority = CertificateAuthority::of_cluster(&cluster.root_ca)?;
        let chain = authority.sign(key.csr_pem(), &subject, now(), cluster.spec.ca.node_cert_expiry)?;
        let identity = NodeIdentity::from_pem(key.pem(), &chain)?;
        let vault = member::vault(directory)?;
        // before there is a key in it, so that none is ever written plain
        vault.settle(cluster.unlock_key.as_ref())?;
        identity.save(&vault)?;
        let mut first = first_node(node, request.availability, file.data_address);
        let described = engine.info().description(identity.root_pem());
        first.description = Some(NodeDescription { routes: engine.routes().to_vec(), ..described });
        let manager = Manager::restore(manager_config(&vault, &file, &identity, engine), backed_up, first).await?;
        let peer = ManagerPeer { node, address: file.advertise.to_string() };
        let file = MemberFile { managers: vec![peer], ..file };
        file.save(directory)?;
        start_with(vault, engine, identity, file, Some(manager), true).await
    })
    .await
}

/// The managers of this node's cluster at these addresses, each asked who it is. Both sides show certificates, so no token
/// is needed, and no other cluster is taken for this one.
pub async fn find_managers(identity: &NodeIdentity, addresses: &[String]) -> Result<Vec<ManagerPeer>> {
    let (mut found, mut reasons) = (Vec::new(), Vec::new());
    for address in addresses.iter().map(|address| with_port(address)) {
        let asking = identity.clone().manager_at(address.clone());
        match tokio::time::timeout(ASK_LIMIT, asking).await {
            Ok(Ok(subject)) => found.push(ManagerPeer { node: subject.node, address }),
            Ok(Err(error)) => reasons.push(format!("{address}: {error}")),
            Err(_) => reasons.push(format!("{address}: no answer within {} s", ASK_LIMIT.as_secs())),
        }
    }
    if found.is_empty() {
        bail!(
            "no manager of this node's cluster was found ({}); give the address of one that works (`rswarm node ls` there), \
             or leave this cluster with `rswarm leave --force` and join anew",
            reasons.join("; ")
        );
    }
    Ok(found)
}
