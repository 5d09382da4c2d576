//! Starts the parts of a manager and watches over them: a part that dies ends the manager.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    task::{JoinHandle, JoinSet},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use types::NodeId;

use crate::{
    Clock, Config, Error,
    dispatch::{Hub, logs::LogBroker, session::Context, uplink, usage::UsageBroker},
    events::Teller,
    leader::{self, intake::Intake, renewal},
    lock,
    metrics::{self, Metrics, Scrape, Told},
    raft::{
        Consensus, Peers, compaction,
        membership::Membership,
        network::Network,
        types::{Raft, config as raft_config},
    },
    rpc::{
        ca::CaService,
        cluster::ClusterService,
        connection::Connection,
        dispatcher::DispatcherService,
        images::ImageDirectoryService,
        raft::RaftService,
        server::{self, Services},
        usage::UsageReader,
    },
    store::{Closing, Owner, Store},
};

/// Between two tries to tell the leader a new address.
const ANNOUNCE_PAUSE: Duration = Duration::from_secs(1);

/// What a running manager holds on to.
pub(crate) struct Parts {
    pub(crate) consensus: Arc<Consensus>,
    pub(crate) hub: Hub,
    pub(crate) metrics: Arc<Told>,
    pub(crate) bound: SocketAddr,
    pub(crate) accepted: mpsc::Sender<Connection>,
    pub(crate) sessions: TaskTracker,
    /// Sessions say goodbye.
    pub(crate) farewell: CancellationToken,
    /// Everything ends.
    pub(crate) stopping: CancellationToken,
    pub(crate) failure: watch::Receiver<Option<String>>,
    closing: Closing,
    /// `None` once it has been awaited.
    supervisor: Option<JoinHandle<()>>,
}

type Part = (&'static str, Result<(), Error>);

impl Parts {
    /// Waits for all parts to end.
    pub(crate) async fn stop(mut self) -> Closing {
        self.stopping.cancel();
        if let Some(supervisor) = self.supervisor.take() {
            // it ends by itself once `stopping` is set, and does not panic
            let _ = supervisor.await;
        }
        let Self { closing, .. } = &mut self;
        std::mem::replace(closing, Closing::none())
    }
}

impl Drop for Parts {
    fn drop(&mut self) {
        self.farewell.cancel();
        self.stopping.cancel();
    }
}

/// Starts all parts on an open store.
pub(crate) async fn start(config: &Config, listener: TcpListener, store: Store, owner: Owner) -> Result<Parts, Error> {
    let bound = listener.local_addr().map_err(|source| Error::Listen { address: config.listen, source })?;
    config.identity.set_listener(&config.advertised(bound), bound);
    let closing = store.closing();
    let Store { log, machine, tables, .. } = store;
    let metrics = Metrics::default();
    let machine = machine.counted_in(&metrics);
    let receipts = machine.receipts().clone();
    let mut teller = Teller::begin(&machine, config.events.clone(), config.clock.clone(), &metrics);
    let peers = Peers::new(config.identity.clone(), tables.clone());
    let network = Network::new(peers.clone());
    let raft = Raft::new(owner.raft_id, raft_config()?, network, log.clone(), machine);
    let raft = raft.await.map_err(|e| Error::Raft(e.to_string()))?;
    // the library has applied once more what was committed before
    teller.tell_past();
    let (consensus, proposer) =
        Consensus::new(raft, owner.raft_id, owner.node, peers, tables.clone(), receipts, &metrics);

    let (notices, noticed) = mpsc::channel(leader::MAX_NOTICES);
    let (said, hearing) = mpsc::channel(uplink::MAX_SAID);
    let (accepted, connections) = mpsc::channel(server::MAX_ACCEPTED);
    let (farewell, stopping) = (CancellationToken::new(), CancellationToken::new());
    let sessions = TaskTracker::new();
    let clock = config.clock.clone();
    let intake = Intake::new(consensus.clone(), clock.clone(), notices);
    let membership = Membership::new(consensus.clone(), clock.clone());
    let hub = Hub::default();
    let (stuck_since, watched_stuck) = watch::channel(None);
    let context = Context {
        consensus: consensus.clone(),
        tables: tables.clone(),
        hub: hub.clone(),
        said,
        stuck_since: watched_stuck,
        stopping: farewell.clone(),
    };
    let usage = UsageReader { consensus: consensus.clone(), broker: UsageBroker::new(hub.clone()) };
    let services = services(context, &membership, &intake, &clock, (&sessions, &usage));

    let mut parts = JoinSet::new();
    let mut add = |name: &'static str, part: std::pin::Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>| {
        parts.spawn(async move { (name, part.await) });
    };
    add("consensus", Box::pin(watch_raft(consensus.clone())));
    add("proposals", Box::pin(proposer));
    add("compaction", Box::pin(compaction::run(consensus.clone(), log)));
    add("membership", Box::pin(membership.clone().run()));
    add("learners", Box::pin(membership.clone().run_learners()));
    add("renewal", Box::pin(renewal::run(consensus.clone(), clock.clone(), config.credentials.clone())));
    add("leader loop", Box::pin(leader::run(consensus.clone(), clock, noticed)));
    add("dispatcher", Box::pin(hub.clone().run(tables)));
    add("uplink", Box::pin(uplink::Uplink::new(consensus.clone(), intake, stuck_since).run(hearing)));
    let identity = config.identity.clone();
    add("listener", Box::pin(server::accept(listener, identity, accepted.clone(), stopping.clone())));
    add("server", Box::pin(server::serve(services, connections, stopping.clone())));
    add("events", Box::pin(teller.run(consensus.clone())));
    add("lock", Box::pin(lock::run(consensus.clone(), config.vault.clone())));
    let address = config.advertised(bound);
    add("address", Box::pin(announce(consensus.clone(), membership, owner.node, address, stopping.clone())));

    let scrape = Scrape { consensus: consensus.clone(), hub: hub.clone(), directory: config.raft_directory() };
    let registry = metrics::registry(&metrics, scrape);
    let metrics = Arc::new(Told { registry, usage, stopping: stopping.clone() });
    let (failed, failure) = watch::channel(None);
    let supervisor = tokio::spawn(supervise(parts, consensus.clone(), stopping.clone(), failed));
    let supervisor = Some(supervisor);
    let consensus = Arc::new(consensus);
    Ok(Parts { consensus, hub, metrics, bound, accepted, sessions, farewell, stopping, failure, closing, supervisor })
}

fn services(
    context: Context,
    membership: &Membership,
    intake: &Intake,
    clock: &Clock,
    (sessions, usage): (&TaskTracker, &UsageReader),
) -> Services {
    let consensus = context.consensus.clone();
    let logs = LogBroker::new(context.hub.clone());
    Services {
        cluster: ClusterService {
            consensus: consensus.clone(),
            membership: membership.clone(),
            logs: logs.clone(),
            usage: usage.clone(),
            clock: clock.clone(),
        },
        dispatcher: DispatcherService {
            context,
            logs: logs.clone(),
            usage: usage.broker.clone(),
            sessions: sessions.clone(),
        },
        ca: CaService { consensus: consensus.clone(), clock: clock.clone() },
        images: ImageDirectoryService { consensus: consensus.clone() },
        raft: RaftService {
            consensus,
            membership: membership.clone(),
            intake: intake.clone(),
            logs,
            usage: usage.broker.clone(),
        },
    }
}

/// Ends when the consensus library does, with its reason.
async fn watch_raft(consensus: Consensus) -> Result<(), Error> {
    let mut metrics = consensus.raft().server_metrics();
    loop {
        consensus.metrics().running_state.map_err(|fatal| Error::Stopped(fatal.to_string()))?;
        if metrics.changed().await.is_err() {
            let reason = consensus.metrics().running_state.err();
            return Err(Error::Stopped(reason.map_or_else(|| "it ended".to_owned(), |fatal| fatal.to_string())));
        }
    }
}

/// Waits for the first part to end; then ends the others.
async fn supervise(
    mut parts: JoinSet<Part>,
    consensus: Consensus,
    stopping: CancellationToken,
    failed: watch::Sender<Option<String>>,
) {
    let ended = tokio::select! {
        ended = parts.join_next() => ended,
        () = stopping.cancelled() => None,
    };
    // when the library dies, its channels close and the first part to notice may be any
    let root = consensus.metrics().running_state.err().map(|fatal| Error::Stopped(fatal.to_string()));
    let reason = match ended {
        None => None,
        Some(_) if stopping.is_cancelled() => None,
        Some(_) if root.is_some() => root.map(|error| error.to_string()),
        Some(Ok((name, Ok(())))) => Some(format!("the manager's {name} ended unexpectedly")),
        Some(Ok((name, Err(error)))) => Some(format!("the manager's {name} failed: {error}")),
        Some(Err(panic)) => Some(format!("a part of the manager panicked: {panic}")),
    };
    stopping.cancel();
    // the library only fails to stop if it has stopped
    let _ = consensus.raft().shutdown().await;
    parts.shutdown().await;
    if let Some(reason) = reason {
        tracing::error!(%reason, "the manager stopped");
        failed.send_replace(Some(reason));
    }
}

/// Tells the group when this manager's address is not the one it knows; the id stays.
async fn announce(
    consensus: Consensus,
    membership: Membership,
    node: NodeId,
    address: String,
    stopping: CancellationToken,
) -> Result<(), Error> {
    let mut tables = consensus.watch_tables();
    let without_host = address.starts_with(':');
    loop {
        let recorded = consensus.peers().address_of_node(node);
        let moved = recorded.is_some_and(|recorded| recorded != address) && !without_host;
        if moved {
            match renew_address(&consensus, &membership, node, &address).await {
                Ok(()) => tracing::info!(%address, "this manager has a new address"),
                Err(status) => {
                    tracing::debug!(%address, %status, "the new address could not be announced yet");
                    tokio::time::sleep(ANNOUNCE_PAUSE).await;
                    continue;
                }
            }
        }
        tokio::select! {
            changed = tables.changed() => if changed.is_err() { break },
            () = stopping.cancelled() => break,
        }
        // looked at again when the value changes, but not for each change
        tokio::time::sleep(ANNOUNCE_PAUSE).await;
        tables.borrow_and_update();
    }
    stopping.cancelled().await;
    Ok(())
}

async fn renew_address(
    consensus: &Consensus,
    membership: &Membership,
    node: NodeId,
    address: &str,
) -> Result<(), tonic::Status> {
    let leader = consensus.wait_for_leader().await?;
    let raft_id = consensus.raft_id();
    if leader.here {
        let admitted = membership.admit(node, raft_id, address).await;
        return admitted.map(drop).map_err(crate::rpc::status::of_membership);
    }
    let call = proto::v1::RaftJoinCall { address: address.to_owned(), forwarded: false, raft_id, node: String::new() };
    consensus.client(&leader.address).join(call).await.map(drop)
}
