//! The loop that owns the plan and the kernel: observe, diff, apply, whenever there is a reason.
//!
//! Reasons are a new plan, a change of the kernel by whomever, and the passing of time. The work is
//! always the same, so start-up, repair and the daily path are one path.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, MissedTickBehavior},
};
use types::Timestamp;

use super::{
    held::{Given, Held, NotTaken},
    protocol::{Applied, EndpointResult, LastApply, Response},
};
use crate::{
    EndpointId, EndpointStep, Kernel, MeshStep, NetworkPlan, Observed, Step, diff,
    diff::port_rules,
    dns,
    kernel::{KernelError, StepFailure, Watch, explain},
    mesh::load::PortRules,
    mtu::shortfalls,
    plan::Problems,
    probe::ProbeSettings,
    proxy::Keeper,
    step::Subject,
    wireguard::{self, Wireguard},
};

/// Changes come in bursts (a reload flushes, then loads): look once, after them.
const QUIET: Duration = Duration::from_millis(200);
/// Between two looks caused by changes: a busy host must not keep this process busy.
const BETWEEN_LOOKS: Duration = Duration::from_secs(1);
/// Not every change is announced (settings, the inside of a namespace): look from time to time.
const LOOK_ANYWAY: Duration = Duration::from_secs(30);

/// What the server asks of the worker.
pub enum Command {
    /// Answered by [`Response::Applied`], or [`Response::OtherPlan`].
    Apply {
        plan: Given,
        answer: oneshot::Sender<Result<Response, String>>,
    },
    Observe {
        answer: oneshot::Sender<Result<Observed, String>>,
    },
    Plan {
        answer: oneshot::Sender<Result<Option<NetworkPlan>, String>>,
    },
}

/// The parts of the process that follow the plan beside the kernel.
pub struct Parts {
    pub probes: watch::Sender<Option<ProbeSettings>>,
    /// The plan that was followed last, for those who ask whether it was.
    pub applied: watch::Sender<Option<Arc<NetworkPlan>>>,
    pub dns: dns::Publisher,
    pub wireguard: Wireguard,
    pub port_proxy: Keeper,
}

pub struct Worker {
    kernel: Kernel,
    held: Held,
    parts: Parts,
    last_apply: watch::Sender<Option<LastApply>>,
    /// The newest look at the kernel, as far as nothing has happened to it since; none after a failure.
    seen: Option<Observed>,
}

impl Worker {
    pub fn new(kernel: Kernel, held: Held, parts: Parts) -> (Self, watch::Receiver<Option<LastApply>>) {
        let (last_apply, receiver) = watch::channel(None);
        (Self { kernel, held, parts, last_apply, seen: None }, receiver)
    }

    /// Runs until all senders of commands are gone.
    pub async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let watch = Watch::open();
        if let Err(error) = &watch {
            tracing::warn!(error = explain(error), "changes of the kernel are noticed late");
        }
        if let Some(plan) = self.held.plan() {
            self.parts.dns.resume(plan, |id| self.kernel.namespace_path(id));
        }
        let mut clock = tokio::time::interval(LOOK_ANYWAY);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut look_at: Option<Instant> = None;
        let mut last_look = Instant::now();
        loop {
            tokio::select! {
                command = commands.recv() => {
                    let Some(command) = command else { return };
                    self.obey(command, &mut commands).await;
                    continue;
                }
                // Most often it was our own work; a plan that comes meanwhile does with a glance.
                () = changed(watch.as_ref().ok()), if look_at.is_none() => {
                    look_at = Some((Instant::now() + QUIET).max(last_look + BETWEEN_LOOKS));
                    continue;
                }
                () = until(look_at) => self.look_again().await,
                () = self.parts.port_proxy.ended() => self.repair().await,
                _ = clock.tick() => self.repair().await,
            }
            (look_at, last_look) = (None, Instant::now());
        }
    }

    /// One command, and all that came with it: of several plans only the newest is worth applying.
    async fn obey(&mut self, command: Command, commands: &mut mpsc::Receiver<Command>) {
        let (mut waiting, mut observers, mut askers) = (Vec::new(), Vec::new(), Vec::new());
        let mut next = Some(command);
        while let Some(command) = next {
            match command {
                Command::Observe { answer } => observers.push(answer),
                Command::Plan { answer } => askers.push(answer),
                Command::Apply { plan, answer } => match self.held.take_over(plan) {
                    Ok(()) => waiting.push(answer),
                    Err(NotTaken::OtherPlan) => reply(answer, Ok(Response::OtherPlan)),
                    Err(NotTaken::Refused(why)) => reply(answer, Err(why)),
                },
            }
            next = commands.try_recv().ok();
        }
        if !waiting.is_empty() {
            let applied = self.converge_on_plan().await;
            for answer in waiting {
                reply(answer, Ok(Response::Applied { plan: self.held.number(), applied: applied.clone() }));
            }
            self.held.keep();
        }
        for answer in askers {
            reply(answer, Ok(self.held.plan().cloned()));
        }
        for answer in observers {
            reply(answer, self.kernel.observe().await.map_err(|error| explain(&error)));
        }
    }

    async fn converge_on_plan(&mut self) -> Applied {
        let plan = self.held.plan().expect("one was just taken over");
        self.parts.probes.send_if_modified(|probes| {
            let is_new = *probes != plan.probes;
            if is_new {
                probes.clone_from(&plan.probes);
            }
            is_new
        });
        let applied = converge_all(&self.kernel, &mut self.parts, plan, &mut self.seen).await;
        self.record(applied.clone());
        applied
    }

    /// After a change of links, addresses or rules: while the rules are those that were seen, it was not theirs, or our own.
    async fn look_again(&mut self) {
        self.seen = self.seen.take().filter(|seen| self.kernel.has_rules_of(seen));
        self.match_plan().await;
    }

    /// A look at everything, whatever was known.
    async fn repair(&mut self) {
        self.seen = None;
        self.match_plan().await;
    }

    /// The same without a client: what fails is logged, because nobody else hears of it.
    async fn match_plan(&mut self) {
        let Some(plan) = self.held.plan() else { return };
        let applied = converge_all(&self.kernel, &mut self.parts, plan, &mut self.seen).await;
        if applied.steps == 0 && applied.is_complete() {
            return;
        }
        let failed = applied.endpoints.iter().filter_map(|(id, result)| match result {
            EndpointResult::Failed { error } => Some(format!("endpoint {id}: {error}")),
            EndpointResult::Ready { .. } => None,
        });
        let overlays = applied.overlays.iter().map(|(id, error)| format!("network {id}: {error}"));
        for error in applied.errors.iter().cloned().chain(failed).chain(overlays) {
            tracing::warn!(error, "the network is not as planned");
        }
        tracing::info!(steps = applied.steps, "the network was brought back to the plan");
        self.record(applied);
    }

    fn record(&self, applied: Applied) {
        self.last_apply.send_replace(Some(LastApply { at: wall(), applied }));
    }
}

/// The kernel, then the TAPs of encrypted overlays in the namespaces that stand now; what is new there
/// gets its place in the bridge at once. Then the resolvers in the endpoints' namespaces.
async fn converge_all(kernel: &Kernel, parts: &mut Parts, plan: &NetworkPlan, seen: &mut Option<Observed>) -> Applied {
    let whole = &Arc::new(plan.with_probe_overlays());
    // Before the rules that lead to it; without it, they refuse.
    if let Err(error) = parts.port_proxy.follow(plan.needs_port_proxy()).await {
        // All else goes on; the doctor tells it too.
        let what = if plan.needs_headers() {
            "ports that ask for a PROXY protocol header"
        } else {
            "published ports of containers without IPv6, over IPv6,"
        };
        tracing::warn!(error = explain(&error), "{what} are closed on this host");
    }
    if plan.is_sealed_by_kernel() {
        // It lets go of the port before the kernel takes it.
        parts.wireguard.apply(wireguard::Settings::default()).await;
    }
    let mut applied = converge(kernel, whole, seen).await;
    let settings = wireguard::Settings::of(whole, |id| kernel.overlay_path(id));
    let report = parts.wireguard.apply(settings).await;
    if report.made > 0 {
        *seen = None;
        let Applied { steps, took_us, notes, .. } = applied;
        applied = converge(kernel, whole, seen).await;
        (applied.steps, applied.took_us, applied.notes) = (applied.steps + steps, applied.took_us + took_us, notes);
    }
    applied.errors.extend(report.errors.into_values());
    let failed = without_probe_overlays(&mut applied, plan);
    applied.errors.extend(failed);
    if parts.dns.publish(plan, &mut applied).await {
        // the resolver's rules moved the ruleset's number on, which looks like a foreign hand: look once more
        *seen = None;
        let mut again = converge(kernel, whole, seen).await;
        without_probe_overlays(&mut again, plan);
        (applied.steps, applied.took_us) = (applied.steps + again.steps, applied.took_us + again.took_us);
        let failed = again.endpoints.into_iter().filter(|(_, result)| matches!(result, EndpointResult::Failed { .. }));
        applied.endpoints.extend(failed);
    }
    // What failed is said and tried again; for the rest nobody shall have to wait.
    parts.applied.send_replace(Some(Arc::clone(whole)));
    applied
}

/// Takes out what nobody outside knows: the overlays and endpoints of the probes. What failed there is said.
fn without_probe_overlays(applied: &mut Applied, plan: &NetworkPlan) -> Vec<String> {
    let mut failed = Vec::new();
    applied.endpoints.retain(|id, result| {
        let is_known = plan.endpoints.contains_key(id);
        if let (EndpointResult::Failed { error }, false) = (result, is_known) {
            failed.push(format!("probes through the data path: {error}"));
        }
        is_known
    });
    applied.overlays.retain(|id, _| plan.overlays.contains_key(id));
    failed
}

/// Observe, diff, apply. With something `seen` before, a glance will do; what is learnt goes there.
async fn converge(kernel: &Kernel, plan: &NetworkPlan, seen: &mut Option<Observed>) -> Applied {
    let start = Instant::now();
    let problems = plan.problems();
    if !problems.host.is_empty() {
        return Applied { errors: problems.host, ..Applied::default() };
    }
    let possible = &*plan.without(&problems);
    let glanced = seen.is_some();
    let mut applied = once(kernel, plan, possible, &problems, seen).await;
    if glanced && seen.is_none() && !applied.is_complete() {
        // Something was not as believed: look properly, and do what is left.
        let again = once(kernel, plan, possible, &problems, seen).await;
        applied = Applied { steps: applied.steps + again.steps, ..again };
    }
    applied.took_us = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
    applied
}

async fn once(
    kernel: &Kernel,
    plan: &NetworkPlan,
    possible: &NetworkPlan,
    problems: &Problems,
    seen: &mut Option<Observed>,
) -> Applied {
    let observed = match seen.take() {
        Some(seen) => kernel.glance(seen).await,
        None => kernel.observe().await,
    };
    let observed = match observed {
        Ok(observed) => observed,
        Err(error) => return nothing_done(plan, &error),
    };
    let steps = diff(possible, &observed);
    let (count, notes) = (steps.len(), notes(&steps));
    let shortfalls = shortfalls(possible, &observed);
    let ports = loaded_ports(possible, &observed, &steps);
    let known = without_changed(observed, &steps);
    let failures = kernel.apply(steps).await;
    *seen = known.filter(|_| failures.is_empty()).map(|mut known| match ports {
        Ports::Loaded(rules) => kernel.with_ports(known, rules),
        Ports::Agree(rules) => {
            (known.mesh.ports, known.mesh.loaded) = (None, Some(rules));
            known
        }
        Ports::AsSeen => known,
    });
    let mut applied = outcome(kernel, plan, problems, &failures);
    for (id, shortfall) in shortfalls {
        applied.overlays.entry(id).or_insert(shortfall);
    }
    (applied.steps, applied.notes) = (count, notes);
    applied
}

/// What is known of the table of published ports once steps are done.
enum Ports {
    /// They load it and change no other rule of the host.
    Loaded(Arc<PortRules>),
    /// It was listed, and is what these make of it.
    Agree(Arc<PortRules>),
    AsSeen,
}

fn loaded_ports(plan: &NetworkPlan, observed: &Observed, steps: &[Step]) -> Ports {
    let mut of_mesh = steps.iter().filter_map(|step| match step {
        Step::Mesh(step) => Some(step),
        _ => None,
    });
    let only = of_mesh.find(|step| {
        matches!(
            step,
            MeshStep::LoadPorts { .. } | MeshStep::CreateUserTable | MeshStep::RemovePorts | MeshStep::RemoveUserTable
        )
    });
    match only {
        Some(MeshStep::LoadPorts { loaded, .. }) => Ports::Loaded(Arc::clone(loaded)),
        None if observed.mesh.ports.is_some() => {
            port_rules(plan, observed).map_or(Ports::AsSeen, |rules| Ports::Agree(Arc::new(rules)))
        }
        _ => Ports::AsSeen,
    }
}

/// What of a look still holds once the steps are done; None when the rules are among them.
fn without_changed(mut observed: Observed, steps: &[Step]) -> Option<Observed> {
    for step in steps {
        match step {
            Step::LoadNft { .. } | Step::RemoveNft => return None,
            Step::Mesh(
                MeshStep::CreateIngress { network, .. }
                | MeshStep::PlugIngress { network, .. }
                | MeshStep::RemoveOuterIngress { network },
            ) => drop(observed.overlays.remove(network)),
            Step::Overlay { id, .. } => drop(observed.overlays.remove(id)),
            Step::Tunnel { .. } => observed.tunnel = None,
            Step::Endpoint { id, steps } => {
                observed.namespaces.remove(id);
                for network in steps.iter().filter_map(EndpointStep::overlay) {
                    observed.overlays.remove(&network);
                }
            }
            _ => {}
        }
    }
    Some(observed)
}

/// Failures sorted by whom they concern.
fn outcome(kernel: &Kernel, plan: &NetworkPlan, problems: &Problems, failures: &[StepFailure]) -> Applied {
    let mut applied = Applied { overlays: problems.overlays.clone(), ..Applied::default() };
    let mut failed = problems.endpoints.clone();
    for StepFailure { subject, error } in failures {
        match subject {
            Subject::Host => applied.errors.push(explain(error)),
            Subject::Overlay(id) | Subject::Local(id) => drop(applied.overlays.insert(*id, explain(error))),
            Subject::Endpoint(id) => drop(failed.insert(id.clone(), explain(error))),
        }
    }
    applied.errors.extend(problems.mesh.iter().map(|problem| format!("routing mesh: {problem}")));
    applied.errors.extend(problems.ports.values().map(|problem| format!("routing mesh: {problem}")));
    applied.endpoints = plan.endpoints.keys().map(|id| (id.clone(), result_of(kernel, id, &mut failed))).collect();
    // What is left belongs to endpoints that should have gone.
    applied.errors.extend(failed.into_iter().map(|(id, error)| format!("cannot remove endpoint {id}: {error}")));
    applied
}

fn result_of(kernel: &Kernel, id: &EndpointId, failed: &mut BTreeMap<EndpointId, String>) -> EndpointResult {
    match failed.remove(id) {
        Some(error) => EndpointResult::Failed { error },
        None => EndpointResult::Ready { namespace: kernel.namespace_path(id) },
    }
}

fn nothing_done(plan: &NetworkPlan, error: &KernelError) -> Applied {
    let error = explain(error);
    let failed = |id: &EndpointId| (id.clone(), EndpointResult::Failed { error: error.clone() });
    let endpoints = plan.endpoints.keys().map(failed).collect();
    Applied { errors: vec![error], endpoints, ..Applied::default() }
}

fn notes(steps: &[Step]) -> Vec<String> {
    let note = |step: &Step| match step {
        Step::EnableForwarding => Some("turned on IPv4 forwarding on this host (net.ipv4.ip_forward=1)".to_owned()),
        Step::Mesh(MeshStep::EnableIpv6Forwarding) => Some(
            "turned on IPv6 forwarding on this host (net.ipv6.conf.all.forwarding=1; accept_ra=2 where it was 1)"
                .to_owned(),
        ),
        Step::RaiseNeighbourLimit(limit) => {
            Some(format!("made room for {limit} neighbours on this host (net.ipv4.neigh.default.gc_thresh3, and ipv6)"))
        }
        _ => None,
    };
    steps.iter().filter_map(note).collect()
}

/// A client that hung up does not want its answer any more.
fn reply<T>(answer: oneshot::Sender<T>, value: T) {
    let _ = answer.send(value);
}

async fn changed(watch: Option<&Watch>) {
    match watch {
        Some(watch) => watch.changed().await,
        None => std::future::pending().await,
    }
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

pub(super) fn wall() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_unix_ns(u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX))
}
