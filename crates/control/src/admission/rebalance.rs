//! Requests to even services out (P19).

use std::collections::BTreeSet;

use types::{Rebalance, RebalanceState, RebalanceView, ServiceId, Timestamp};

use crate::{Change, ObjectRef, Proposal, Rejection, Tables, plan};

/// The planner works off what is written to each service that is uneven; one that is even is not touched.
pub(super) fn begin(
    tables: &Tables,
    names: &[String],
    budget: u32,
    dry_run: bool,
    now: Timestamp,
) -> Result<(Proposal, RebalanceView), Rejection> {
    tables.cluster().ok_or_else(|| Rejection::not_found("cluster", "default"))?;
    let view = plan::rebalance_preview(tables, names, now)?;
    let mut proposal = Proposal { at: now, ..Proposal::default() };
    if dry_run {
        return Ok((proposal, view));
    }
    let uneven: BTreeSet<ServiceId> = view.moves.iter().map(|one| one.service).collect();
    for service in uneven.into_iter().filter_map(|id| tables.service(id)) {
        let state = RebalanceState::Moving;
        let rebalance = Rebalance { state, started_at: now, ended_at: None, budget, moved: 0, message: String::new() };
        proposal.expects.push((ObjectRef::Service(service.id), service.meta.version));
        proposal.changes.push(Change::ServiceRebalance { service: service.id, rebalance });
    }
    Ok((proposal, view))
}
