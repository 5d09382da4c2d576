//! The one loop that owns this host's membership: it serves the API's commands and follows what
//! agent and manager report. It never decides what the cluster should do.

use std::{path::PathBuf, time::Duration};

use identity::{UnlockError, Vault};
use manager::Manager;
use node::{
    Engine,
    agent::{self, AgentEvent},
    join::JoinError,
    membership::{
        Command, Error, ErrorKind, InitRequest, LOCKED, LocalState, ManagerMetrics, ManagerReader, Served, Status,
    },
};
use tokio::{sync::watch, time::Instant};
use types::{ManagerPeer, NodeRole, UnlockKey, with_causes};

use crate::{
    goodbye::say_goodbye,
    member::{self, Member},
    survival,
};

/// A manager that died of an error is started again after this: long enough not to spin on a full
/// disk, short enough that a passing fault is not noticed much.
const MANAGER_RESTART_PAUSE: Duration = Duration::from_secs(2);

pub struct Supervisor {
    engine: Engine,
    directory: PathBuf,
    /// The address or interface that a cluster is told where its request names none; empty: it is found out.
    advertise: String,
    served: Served,
    member: Option<Member>,
    /// Set while this host is a manager whose keys wait for the unlock key.
    locked: Option<Vault>,
    /// Set while something of the membership is broken, in words.
    trouble: String,
    /// When to look again whether this host can be the manager it shall be.
    manager_due: Option<Instant>,
}

/// What woke the loop.
enum Wake {
    Command(Option<Command>),
    Agent(Option<AgentEvent>),
    ManagerEnded(String),
    ManagerDue,
    Stop,
}

impl Supervisor {
    pub fn new(engine: Engine, directory: PathBuf, advertise: String, served: Served) -> Self {
        let (member, locked, trouble, manager_due) = (None, None, String::new(), None);
        Self { engine, directory, advertise, served, member, locked, trouble, manager_due }
    }

    /// Resumes the membership there was, then serves until `stop` turns true; ends in reverse order:
    /// the manager hands over, the agent stops, containers go on.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        match member::vault(&self.directory) {
            Ok(vault) if vault.is_locked() => {
                tracing::warn!("this manager is locked; open it with `rswarm swarm unlock`; what runs goes on");
                self.locked = Some(vault);
            }
            Ok(vault) => self.resume(vault).await,
            Err(error) => self.cannot_resume(&error.into()),
        }
        loop {
            self.publish();
            match self.next(&mut stop).await {
                Wake::Command(Some(command)) => Box::pin(self.serve(command)).await,
                Wake::Agent(Some(event)) => Box::pin(self.follow(event)).await,
                Wake::Agent(None) => self.agent_ended().await,
                Wake::ManagerEnded(reason) => self.manager_ended(reason).await,
                Wake::ManagerDue => Box::pin(self.follow_role()).await,
                Wake::Command(None) | Wake::Stop => break,
            }
        }
        if let Some(member) = self.member.take() {
            shut_down(member).await;
        }
    }

    async fn next(&mut self, stop: &mut watch::Receiver<bool>) -> Wake {
        let (agent, manager) = match &mut self.member {
            Some(member) => (Some(&mut member.agent), member.manager.as_mut()),
            None => (None, None),
        };
        let agent_event = async {
            match agent {
                Some(agent) => agent.events().recv().await,
                None => std::future::pending().await,
            }
        };
        let manager_end = async {
            match manager {
                Some(manager) => manager.failed().await,
                None => std::future::pending().await,
            }
        };
        let due = self.manager_due;
        let manager_due = async {
            match due {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            command = self.served.commands.recv() => Wake::Command(command),
            event = agent_event => Wake::Agent(event),
            reason = manager_end => Wake::ManagerEnded(reason),
            () = manager_due => Wake::ManagerDue,
            _ = stop.wait_for(|stop| *stop) => Wake::Stop,
        }
    }

    async fn resume(&mut self, vault: Vault) {
        match Box::pin(member::resume(vault, &self.engine)).await {
            Ok(member) => self.member = member,
            Err(error) => self.cannot_resume(&error),
        }
    }

    fn cannot_resume(&mut self, error: &anyhow::Error) {
        tracing::error!(error = format!("{error:#}"), "this host cannot take its place in the cluster");
        self.trouble = format!("{error:#}");
    }

    fn say_address(&self, asked: &mut String) {
        if asked.is_empty() {
            asked.clone_from(&self.advertise);
        }
    }

    async fn serve(&mut self, command: Command) {
        // a caller that went away is no reason to stop half way
        match command {
            Command::Init { request, reply } if request.force_new_cluster && self.has_membership() => {
                let result = Box::pin(self.go_on_alone(&request)).await;
                let _ = reply.send(self.adopt(result));
            }
            Command::Init { mut request, reply } => {
                self.say_address(&mut request.advertise_addr);
                let result = match self.must_be_free() {
                    Ok(()) => Box::pin(member::found(&self.directory, &self.engine, *request))
                        .await
                        .map_err(|error| refused(&error)),
                    Err(error) => Err(error),
                };
                let _ = reply.send(self.adopt(result));
            }
            Command::Join { mut request, reply } => {
                self.say_address(&mut request.advertise_addr);
                let result = match self.must_be_free() {
                    Ok(()) => {
                        member::join(&self.directory, &self.engine, request).await.map_err(|error| refused(&error))
                    }
                    Err(error) => Err(error),
                };
                let _ = reply.send(self.adopt(result));
            }
            Command::Restore { request, reply } => {
                let result = match self.must_be_free() {
                    Ok(()) => Box::pin(survival::restore(&self.directory, &self.engine, *request))
                        .await
                        .map_err(|error| refused(&error)),
                    Err(error) => Err(error),
                };
                let _ = reply.send(self.adopt(result));
            }
            Command::Turn { remote_addrs, reply } => {
                let result = Box::pin(self.turn_to(&remote_addrs)).await;
                self.publish();
                let _ = reply.send(result);
            }
            Command::Leave { force, reply } => {
                let result = self.leave(force).await;
                self.publish();
                let _ = reply.send(result);
            }
            Command::Unlock { key, reply } => {
                let result = self.unlock(&key).await;
                self.publish();
                let _ = reply.send(result);
            }
        }
    }

    /// Opens the keys and starts what waited for them. A wrong key changes nothing.
    async fn unlock(&mut self, key: &UnlockKey) -> Result<(), Error> {
        let Some(vault) = self.locked.clone() else {
            return Err(Error::new(ErrorKind::Conflict, "swarm is not locked"));
        };
        match vault.unlock(key) {
            Ok(()) => {}
            Err(error @ UnlockError::WrongKey) => return Err(Error::new(ErrorKind::Unauthorized, error.to_string())),
            Err(UnlockError::File(error)) => return Err(Error::new(ErrorKind::Internal, with_causes(&error))),
        }
        tracing::info!("this manager is unlocked");
        self.locked = None;
        self.resume(vault).await;
        if self.trouble.is_empty() {
            return Ok(());
        }
        let message = format!("this manager is unlocked, but cannot take its place: {}", self.trouble);
        Err(Error::new(ErrorKind::Internal, message))
    }

    fn has_membership(&self) -> bool {
        self.member.is_some() || self.locked.is_some() || !self.trouble.is_empty()
    }

    /// Goes on as the only manager, with what is on this disk. If that fails, all is as it was.
    async fn go_on_alone(&mut self, request: &InitRequest) -> Result<Member, Error> {
        if self.locked.is_some() {
            return Err(Error::new(ErrorKind::Unavailable, LOCKED));
        }
        if self.member.as_ref().is_some_and(|member| member.identity.role() == NodeRole::Worker) {
            let message = "this node is a worker and has no state of the cluster to go on from: run this on a manager that is \
                           left, or restore a backup on a new host (`rswarm init --from-backup FILE`)";
            return Err(Error::new(ErrorKind::Unavailable, message));
        }
        let vault = match self.member.take() {
            Some(Member { agent, manager, vault, .. }) => {
                // there is nobody to hand over to
                if let Some(manager) = manager {
                    manager.abort().await;
                }
                agent.shutdown().await;
                vault
            }
            None => member::vault(&self.directory).map_err(|error| refused(&error.into()))?,
        };
        if vault.is_locked() {
            self.locked = Some(vault);
            return Err(Error::new(ErrorKind::Unavailable, LOCKED));
        }
        match survival::go_on_alone(vault.clone(), &self.engine, request).await {
            Ok(member) => {
                self.trouble.clear();
                self.manager_due = None;
                Ok(member)
            }
            Err(error) => {
                self.trouble.clear();
                self.resume(vault).await;
                self.publish();
                Err(refused(&error))
            }
        }
    }

    /// Seeks its session with these managers from now on.
    async fn turn_to(&mut self, addresses: &[String]) -> Result<Vec<ManagerPeer>, Error> {
        let Some(member) = &mut self.member else {
            let message = if self.locked.is_some() { LOCKED } else { "This node is not part of a swarm" };
            return Err(Error::new(ErrorKind::Unavailable, message));
        };
        let found = survival::find_managers(&member.identity, addresses).await;
        let found = found.map_err(|error| Error::new(ErrorKind::Unavailable, format!("{error:#}")))?;
        remember(member, found.clone(), &self.directory);
        if let Some(Member { identity, vault, file, agent, manager }) = self.member.take() {
            agent.shutdown().await;
            match member::start_with(vault, &self.engine, identity, file, manager, true).await {
                Ok(member) => self.member = Some(member),
                Err(error) => self.cannot_resume(&error),
            }
        }
        Ok(found)
    }

    fn must_be_free(&self) -> Result<(), Error> {
        if self.member.is_some() || self.locked.is_some() {
            let message =
                "This node is already part of a swarm. Use \"rswarm leave\" to leave this swarm and join another one.";
            return Err(Error::new(ErrorKind::Unavailable, message));
        }
        if !self.trouble.is_empty() {
            let message = format!(
                "this host belongs to a cluster but cannot take its place: {}; mend that and restart the daemon, or give \
                 it up with `rswarm leave --force`",
                self.trouble
            );
            return Err(Error::new(ErrorKind::Conflict, message));
        }
        Ok(())
    }

    fn adopt(&mut self, result: Result<Member, Error>) -> Result<types::NodeId, Error> {
        let member = result?;
        let id = member.identity.node();
        tracing::info!(node.id = %id, role = %member.identity.role(), "this host is a node of the cluster");
        self.member = Some(member);
        self.publish();
        Ok(id)
    }

    async fn leave(&mut self, force: bool) -> Result<(), Error> {
        let Some(member) = self.member.take() else { return self.leave_alone(force).await };
        if let Err(error) = say_goodbye(&member, force).await {
            self.member = Some(member);
            return Err(error);
        }
        let Member { agent, manager, .. } = member;
        if let Some(manager) = manager {
            manager.shutdown().await;
        }
        agent.leave().await;
        // A task that was on its way here when the agent ended may have parts that it never knew of.
        agent::abandon(&self.engine).await;
        self.forget()
    }

    /// Leaves although this host has no place to leave from: it is locked, or broken. Nobody can be told.
    async fn leave_alone(&mut self, force: bool) -> Result<(), Error> {
        if self.locked.is_none() && self.trouble.is_empty() {
            return Err(Error::new(ErrorKind::Unavailable, "This node is not part of a swarm"));
        }
        if !force && self.locked.is_some() {
            let message =
                "Swarm is encrypted and locked. Please unlock it first or use `--force` to ignore this message.";
            return Err(Error::new(ErrorKind::Unavailable, message));
        }
        if !force {
            let message = format!("{}; to give the membership up use `rswarm leave --force`", self.trouble);
            return Err(Error::new(ErrorKind::Conflict, message));
        }
        agent::abandon(&self.engine).await;
        self.forget()
    }

    fn forget(&mut self) -> Result<(), Error> {
        self.engine.events().forget_cluster();
        self.locked = None;
        self.trouble.clear();
        member::forget(&self.directory).map_err(|error| {
            let message = format!("left the cluster, but cannot remove {}: {error}", self.directory.display());
            Error::new(ErrorKind::Internal, message)
        })
    }

    async fn follow(&mut self, event: AgentEvent) {
        let Some(member) = &mut self.member else { return };
        match event {
            AgentEvent::Managers(managers) => remember(member, managers, &self.directory),
            AgentEvent::DesiredRole(_) => self.follow_role().await,
            AgentEvent::Removed => self.removed().await,
        }
    }

    /// Makes this host what its certificate says: a manager runs on managers, and only there.
    async fn follow_role(&mut self) {
        self.manager_due = None;
        let Some(member) = &mut self.member else { return };
        match (member.identity.role(), member.manager.take()) {
            (NodeRole::Manager, None) => {
                let config = member::manager_config(&member.vault, &member.file, &member.identity, &self.engine);
                match start_manager(config, &member.file.managers).await {
                    Ok(manager) => {
                        member.manager = Some(manager);
                        self.trouble.clear();
                        tracing::info!("this host is a manager now");
                    }
                    Err(error) => {
                        self.trouble = with_causes(&error);
                        self.manager_due = Some(Instant::now() + MANAGER_RESTART_PAUSE);
                        tracing::error!(error = self.trouble, "this host cannot be a manager; trying again");
                    }
                }
            }
            (NodeRole::Worker, Some(manager)) => {
                manager.shutdown().await;
                self.engine.events().forget_cluster();
                self.trouble.clear();
                forget_manager_state(&self.directory.join("raft"));
                if let Err(error) = member.vault.settle(None) {
                    self.trouble = format!("the keys of the former manager stay sealed: {}", with_causes(&error));
                    tracing::error!(error = self.trouble, "this worker waits for the unlock key after a restart");
                }
                tracing::info!("this host is a worker now");
            }
            (_, manager) => member.manager = manager,
        }
    }

    async fn manager_ended(&mut self, reason: String) {
        tracing::error!(reason, "the manager of this host ended; starting it again");
        if let Some(manager) = self.member.as_mut().and_then(|member| member.manager.take()) {
            manager.abort().await;
        }
        self.trouble = format!("the manager of this host ended: {reason}");
        self.manager_due = Some(Instant::now() + MANAGER_RESTART_PAUSE);
    }

    async fn agent_ended(&mut self) {
        let Some(member) = self.member.take() else { return };
        tracing::error!("the agent of this host ended; starting it again");
        let vault = member.vault.clone();
        shut_down(member).await;
        self.resume(vault).await;
    }

    /// The cluster has removed this node: its tasks go, its state goes, and the host says why.
    async fn removed(&mut self) {
        let Some(Member { agent, manager, .. }) = self.member.take() else { return };
        tracing::error!("this node was removed from the cluster; its containers are removed");
        if let Some(manager) = manager {
            manager.shutdown().await;
        }
        agent.leave().await;
        if let Err(error) = self.forget() {
            tracing::error!(%error, "state of the removed node stays behind");
        }
    }

    fn publish(&self) {
        self.served.status.send_replace(self.status());
    }

    fn status(&self) -> Status {
        let Some(member) = &self.member else {
            let (local_state, error) = match (&self.locked, self.trouble.is_empty()) {
                (Some(_), _) => (LocalState::Locked, LOCKED.to_owned()),
                (None, true) => (LocalState::Inactive, String::new()),
                (None, false) => (LocalState::Error, self.trouble.clone()),
            };
            return Status { local_state, error, ..Status::default() };
        };
        Status {
            local_state: if self.trouble.is_empty() { LocalState::Active } else { LocalState::Error },
            node: Some(member.identity.node()),
            address: member.file.advertise.ip().to_string(),
            role: Some(member.identity.role()),
            error: self.trouble.clone(),
            managers: member.file.managers.clone(),
            identity: Some(member.identity.clone()),
            cluster: member.manager.as_ref().map(Manager::cluster_client),
            reader: member.manager.as_ref().map(reader_of),
            metrics: member.manager.as_ref().map(|manager| ManagerMetrics::new(manager.metrics())),
        }
    }
}

fn reader_of(manager: &Manager) -> ManagerReader {
    let reader = manager.reader();
    ManagerReader::new(move |wanted, linearizable| {
        let reader = reader.clone();
        async move { reader.read(&wanted, linearizable).await }
    })
}

async fn start_manager(config: manager::Config, managers: &[ManagerPeer]) -> Result<Manager, manager::Error> {
    if Manager::exists(&config) { Manager::open(config).await } else { Manager::join(config, managers).await }
}

async fn shut_down(member: Member) {
    let Member { agent, manager, .. } = member;
    if let Some(manager) = manager {
        manager.shutdown().await;
    }
    agent.shutdown().await;
}

fn remember(member: &mut Member, managers: Vec<ManagerPeer>, directory: &std::path::Path) {
    if managers == member.file.managers {
        return;
    }
    member.file.managers = managers;
    if let Err(error) = member.file.save(directory) {
        tracing::warn!(error = format!("{error:#}"), "the list of managers could not be written");
    }
}

/// State of a manager that was demoted would make a later promotion wake up in the past.
fn forget_manager_state(directory: &std::path::Path) {
    if let Err(error) = member::forget(directory) {
        tracing::error!(%error, path = %directory.display(), "state of the former manager cannot be removed");
    }
}

/// Why a host did not become a node: what a user did wrong, or what stood in the way.
fn refused(error: &anyhow::Error) -> Error {
    let message = format!("{error:#}");
    if error.downcast_ref::<crate::addresses::AddressError>().is_some() {
        return Error::new(ErrorKind::BadRequest, message);
    }
    if let Some(join) = error.downcast_ref::<JoinError>() {
        return Error::new(join_kind(join), message);
    }
    Error::new(ErrorKind::Internal, message)
}

fn join_kind(error: &JoinError) -> ErrorKind {
    match error {
        JoinError::NoAddress
        | JoinError::Token(_)
        | JoinError::OtherCluster { .. }
        | JoinError::TokenRejected { .. } => ErrorKind::BadRequest,
        _ => ErrorKind::Unavailable,
    }
}
