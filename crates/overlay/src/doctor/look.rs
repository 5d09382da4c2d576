//! Asks everything that is compared: the kernel for its objects, nft for the tables that are loaded, each
//! resolver for every name it should know. Nothing is changed.

use std::{
    collections::BTreeMap,
    fs::File,
    path::PathBuf,
    time::{Duration, Instant},
};

use futures::{StreamExt, stream};
use nix::sched::{CloneFlags, setns};

use super::{ForwardDrop, balanced, forward};
use crate::{
    EndpointId, Kernel, KernelError, NetworkPlan, Observed,
    dns::check::{Questions, Resolved},
    kernel::{explain, on_own_thread, run_nft},
    nft::TABLE,
    vip::Services,
};

/// Threads and nft processes at once: more only make each other slower.
const AT_ONCE: usize = 4;
/// For all questions together. What is not asked by then is said to be unasked.
const QUESTIONS_LIMIT: Duration = Duration::from_secs(30);

/// What was found.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    pub observed: Observed,
    /// The virtual addresses in the namespace of each endpoint that has overlays; why they could not be read.
    pub balanced: BTreeMap<EndpointId, Result<Services, String>>,
    /// What their resolvers answered.
    pub resolved: BTreeMap<EndpointId, Resolved>,
    /// Other people's firewalls.
    pub forward_drops: Vec<ForwardDrop>,
    /// What was not asked, and why.
    pub notes: Vec<String>,
}

/// Looks at all that the plan speaks of.
///
/// # Errors
/// When the kernel cannot be asked at all, usually for lack of privileges.
pub async fn look(kernel: &Kernel, plan: &NetworkPlan) -> Result<Seen, KernelError> {
    let observed = kernel.observe().await?;
    let deadline = Instant::now() + QUESTIONS_LIMIT;
    let mut visits = Vec::new();
    for (id, endpoint) in plan.endpoints.iter().filter(|(_, endpoint)| !endpoint.overlays.is_empty()) {
        visits.push((id.clone(), kernel.namespace_path(id), Questions::of(plan, endpoint)));
    }
    let visit = |(id, path, questions)| async move { (id, visit(path, questions, deadline).await) };
    let visited: Vec<(EndpointId, _)> = stream::iter(visits).map(visit).buffer_unordered(AT_ONCE).collect().await;
    let mut seen = Seen { observed, ..Seen::default() };
    match kernel.forward_drops(&forward::links(plan)) {
        Ok(drops) => seen.forward_drops = drops,
        Err(error) => seen.notes.push(format!("the host's other firewall rules could not be read: {error}")),
    }
    for (id, result) in visited {
        let (balanced, resolved) = match result {
            Ok(found) => found,
            // That the namespace is missing is told once, by what was observed.
            Err(_) => continue,
        };
        if resolved.unasked > 0 {
            let limit = QUESTIONS_LIMIT.as_secs();
            seen.notes.push(format!("{} names were not asked of {id} within {limit} s", resolved.unasked));
        }
        seen.balanced.insert(id.clone(), balanced);
        seen.resolved.insert(id, resolved);
    }
    Ok(seen)
}

type Found = (Result<Services, String>, Resolved);

/// On a thread that enters the endpoint's namespace and ends there.
async fn visit(path: PathBuf, questions: Questions, deadline: Instant) -> Result<Found, KernelError> {
    on_own_thread("doctor", move || async move {
        let entered = File::open(&path).and_then(|file| Ok(setns(file, CloneFlags::CLONE_NEWNET)?));
        entered.map_err(|source| KernelError::Namespace { doing: "enter", path, source })?;
        let table: Vec<&str> = ["-j", "list", "table"].into_iter().chain(TABLE.split(' ')).collect();
        let listed = run_nft(&table, "", "list the virtual addresses").await;
        let balanced = match listed {
            Ok(text) => balanced::read(&text),
            // No table is right where nothing is balanced.
            Err(KernelError::Nft { said, .. }) if said.contains("No such file or directory") => Ok(Services::new()),
            Err(error) => Err(explain(&error)),
        };
        Ok((balanced, questions.ask(deadline).await))
    })
    .await?
}
