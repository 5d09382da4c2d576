//! This host as a node of a cluster: its identity, its agent and, on managers, its manager.
//!
//! Made in one of three ways (founding, joining, resuming) and unmade in one (leaving). The steps
//! are in order: whatever fails leaves the host as it was.

use std::{fs, net::IpAddr, path::Path, sync::Arc, time::SystemTime};

use anyhow::{Context, Result};
use identity::{CertificateAuthority, KeyPair, NodeIdentity, Subject, Vault};
use manager::{CredentialSource, EventSink, Manager};
use node::{
    Engine,
    agent::{Agent, AgentConfig},
    image,
    membership::{InitRequest, JoinRequest},
};
use types::{
    Availability, Cluster, ClusterId, ClusterSpec, JoinSecrets, ManagerPeer, Meta, Node, NodeDescription, NodeId,
    NodeRole, NodeSpec, NodeState, NodeStatus, Payload, RootCa, Timestamp, UnlockKey, with_causes,
};

use crate::{
    addresses::{self, InterfaceAddress},
    member_file::MemberFile,
};

pub struct Member {
    pub identity: NodeIdentity,
    pub vault: Vault,
    pub file: MemberFile,
    pub agent: Agent,
    pub manager: Option<Manager>,
}

/// The clock. Read here and in loops, never where something is decided.
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_unix_ns(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the kernel gives random bytes once it has booted");
    bytes
}

/// The files of a node that are sealed on managers that are locked.
pub fn vault(directory: &Path) -> Result<Vault, identity::Error> {
    Vault::open(directory, &[NodeIdentity::FILE, manager::DATA_KEY_FILE])
}

/// Makes this host the first manager of a new cluster.
pub async fn found(directory: &Path, engine: &Engine, request: InitRequest) -> Result<Member> {
    let interfaces = addresses::interfaces().context("list the interfaces of this host")?;
    let file = places(&request.listen_addr, &request.advertise_addr, &request.data_path_addr, None, &interfaces)?;
    undo_on_failure(directory, async {
        let authority = CertificateAuthority::generate(now())?;
        let subject = Subject {
            node: NodeId::from_random(u128::from_be_bytes(random())),
            role: NodeRole::Manager,
            cluster: ClusterId::from_random(u128::from_be_bytes(random())),
        };
        let key = KeyPair::generate()?;
        let chain = authority.sign(key.csr_pem(), &subject, now(), request.spec.ca.node_cert_expiry)?;
        let identity = NodeIdentity::from_pem(key.pem(), &chain)?;
        let cluster = new_cluster(subject.cluster, request.spec, request.data_path_port, &authority);
        let vault = vault(directory)?;
        // before there is a key in it, so that none is ever written plain
        vault.settle(cluster.unlock_key.as_ref())?;
        identity.save(&vault)?;
        let mut first = first_node(subject.node, request.availability, file.data_address);
        // its routes: the networks that the cluster begins with keep clear of them
        let described = engine.info().description(identity.root_pem());
        first.description = Some(NodeDescription { routes: engine.routes().to_vec(), ..described });
        let manager = Manager::bootstrap(manager_config(&vault, &file, &identity, engine), cluster, first).await?;
        let peer = ManagerPeer { node: subject.node, address: file.advertise.to_string() };
        let file = MemberFile { managers: vec![peer], ..file };
        file.save(directory)?;
        start(vault, engine, identity, file, Some(manager)).await
    })
    .await
}

/// Makes this host a node of an existing cluster.
pub async fn join(directory: &Path, engine: &Engine, request: JoinRequest) -> Result<Member> {
    let interfaces = addresses::interfaces().context("list the interfaces of this host")?;
    // said before anybody is asked, so that a wrong flag costs no node id
    places(
        &request.listen_addr,
        &request.advertise_addr,
        &request.data_path_addr,
        Some(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST)),
        &interfaces,
    )?;
    let asked = node::join::Request {
        token: request.token,
        remote_addrs: request.remote_addrs,
        availability: request.availability,
    };
    undo_on_failure(directory, async {
        let joined = node::join::join(&asked).await?;
        let file = places(
            &request.listen_addr,
            &request.advertise_addr,
            &request.data_path_addr,
            Some(addresses::towards(&joined.manager)?),
            &interfaces,
        )?;
        let file = MemberFile { managers: joined.managers.clone(), ..file };
        let identity = NodeIdentity::from_pem(&joined.key_pem, &joined.chain_pem)?;
        let vault = vault(directory)?;
        identity.save(&vault)?;
        file.save(directory)?;
        let manager = match identity.role() {
            NodeRole::Worker => None,
            NodeRole::Manager => {
                let config = manager_config(&vault, &file, &identity, engine);
                Some(Manager::join(config, &joined.managers).await?)
            }
        };
        start(vault, engine, identity, file, manager).await
    })
    .await
}

/// Goes on as the node this host was before the daemon stopped; `None` if it was none. The vault is open.
pub async fn resume(vault: Vault, engine: &Engine) -> Result<Option<Member>> {
    let (Some(identity), Some(file)) = (NodeIdentity::load(&vault)?, MemberFile::load(vault.directory())?) else {
        return Ok(None);
    };
    let config = manager_config(&vault, &file, &identity, engine);
    let manager = match (identity.role(), Manager::exists(&config)) {
        (NodeRole::Worker, _) => {
            // one that was demoted and did not come to it: workers are never locked
            vault.settle(None)?;
            None
        }
        (NodeRole::Manager, true) => Some(Manager::open(config).await?),
        (NodeRole::Manager, false) => Some(Manager::join(config, &file.managers).await?),
    };
    start(vault, engine, identity, file, manager).await.map(Some)
}

async fn start(
    vault: Vault,
    engine: &Engine,
    identity: NodeIdentity,
    file: MemberFile,
    manager: Option<Manager>,
) -> Result<Member> {
    start_with(vault, engine, identity, file, manager, false).await
}

/// The same; with `others_are_gone` the agent turns to the managers of the file alone.
pub async fn start_with(
    vault: Vault,
    engine: &Engine,
    identity: NodeIdentity,
    file: MemberFile,
    manager: Option<Manager>,
    others_are_gone: bool,
) -> Result<Member> {
    let config = AgentConfig {
        others_are_gone,
        identity: identity.clone(),
        managers: file.managers.clone(),
        data_address: file.data_address,
        vault: vault.clone(),
        state_dir: vault.directory().join("agent"),
    };
    let agent = Agent::start(engine.clone(), config).await?;
    Ok(Member { identity, vault, file, agent, manager })
}

/// Where a manager of this host keeps its state, how it is reached, and whom it tells what happens.
pub fn manager_config(vault: &Vault, file: &MemberFile, identity: &NodeIdentity, engine: &Engine) -> manager::Config {
    let events = engine.events().clone();
    let events: EventSink = Arc::new(move |step| events.tell(step));
    manager::Config {
        vault: vault.clone(),
        listen: file.listen,
        advertise: file.advertise.to_string(),
        identity: identity.clone(),
        clock: Arc::new(now),
        events,
        credentials: ask_helpers(),
    }
}

/// The credential helpers of this host.
fn ask_helpers() -> CredentialSource {
    Arc::new(|helper, scope| {
        Box::pin(async move {
            let said = image::ask_helper(&helper, &scope).await;
            said.map(|(username, found)| (username, Payload::new(found.pack()))).map_err(|error| with_causes(&error))
        })
    })
}

/// Runs the steps of becoming a node; if one fails, nothing of the node stays on disk.
pub async fn undo_on_failure(directory: &Path, steps: impl Future<Output = Result<Member>>) -> Result<Member> {
    let result = Box::pin(steps).await;
    if result.is_err() {
        forget(directory)
            .unwrap_or_else(|error| tracing::warn!(%error, "cannot remove what is left of a failed start"));
    }
    result
}

/// Removes all that makes this host a node of its cluster.
pub fn forget(directory: &Path) -> std::io::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

pub fn places(
    listen: &str,
    advertise: &str,
    data_path: &str,
    towards_manager: Option<IpAddr>,
    interfaces: &[InterfaceAddress],
) -> Result<MemberFile, addresses::AddressError> {
    let listen = addresses::listen_address(listen, interfaces)?;
    let advertise = addresses::advertise_address(advertise, listen, towards_manager, interfaces)?;
    let data_address = addresses::data_address(data_path, advertise.ip(), interfaces)?;
    let listen = addresses::within_reach(listen, advertise);
    Ok(MemberFile { listen, advertise, data_address, managers: Vec::new() })
}

fn new_cluster(id: ClusterId, spec: ClusterSpec, data_path_port: u16, authority: &CertificateAuthority) -> Cluster {
    let unlock_key = spec.encryption.auto_lock_managers.then(|| UnlockKey(random()));
    Cluster {
        id,
        meta: Meta::default(),
        spec,
        root_ca: RootCa::new(authority.certificate_pem(), authority.key_pem()),
        join: JoinSecrets { worker: random(), manager: random() },
        probe_key: random(),
        data_path_port,
        unlock_key,
        registries: std::collections::BTreeMap::new(),
    }
}

pub fn first_node(id: NodeId, availability: Availability, address: IpAddr) -> Node {
    Node {
        id,
        meta: Meta::default(),
        spec: NodeSpec { role: NodeRole::Manager, availability, ..NodeSpec::default() },
        role: NodeRole::Manager,
        status: NodeStatus {
            state: NodeState::Unknown,
            message: String::new(),
            since: now(),
            address: Some(address),
            unreachable_peers: Vec::new(),
        },
        description: None,
        raft: None,
    }
}
