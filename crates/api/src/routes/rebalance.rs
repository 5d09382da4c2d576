//! `/rebalance`, of this engine alone: what would even services out, and has it done (P19).

use axum::{
    Json, Router,
    extract::{RawQuery, State},
    routing::get,
};
use serde_json::{Value, json};
use types::{ReadReply, ReadRequest, RebalanceView, Slot, WriteReply, WriteRequest};

use super::query;
use crate::{bodies::JsonBody, cluster, convert::reader::Object, error::ApiResult, router::Shared};

pub(crate) fn routes() -> Router<Shared> {
    Router::new().route("/rebalance", get(preview).post(begin))
}

/// What it would do, for `?service=` as often as wanted.
async fn preview(State(shared): State<Shared>, raw: RawQuery) -> ApiResult<Json<Value>> {
    ask(&shared, query(raw).all("service"), 0, true).await
}

/// Begins it; the planner goes on by itself. Answers as the preview does.
async fn begin(State(shared): State<Shared>, JsonBody(body): JsonBody) -> ApiResult<Json<Value>> {
    let mut from = Object::root(&body)?;
    let services = from.strings("Services")?;
    let budget = from.natural("Budget")?.unwrap_or(0);
    let budget =
        u32::try_from(budget).map_err(|_| from.bad("Budget", format!("{budget} tasks at once are too many")))?;
    from.finish_strictly()?;
    ask(&shared, services, budget, false).await
}

async fn ask(shared: &Shared, services: Vec<String>, budget: u32, dry_run: bool) -> ApiResult<Json<Value>> {
    let request = WriteRequest::Rebalance { services, budget, dry_run };
    match cluster::write(&shared.membership, &request).await? {
        WriteReply::Rebalancing(view) => Ok(Json(shown(shared, &view).await?)),
        other => Err(cluster::unexpected(&other)),
    }
}

async fn shown(shared: &Shared, view: &RebalanceView) -> ApiResult<Value> {
    let nodes = match cluster::read(&shared.membership, &ReadRequest::Nodes(types::Filters::new())).await? {
        ReadReply::Nodes(nodes) => nodes,
        other => return Err(cluster::unexpected(&other)),
    };
    let name = |id| {
        let node = nodes.iter().find(|view| view.node.id == id);
        node.map_or_else(|| id.to_string(), |view| view.node.shown_name().to_owned())
    };
    let moves = view.moves.iter().map(|one| {
        let slot = if let Slot::Replica(number) = one.slot { number } else { 0 };
        json!({
            "ServiceID": one.service,
            "Service": one.name,
            "Slot": slot,
            "From": { "ID": one.from, "Name": name(one.from) },
            "To": { "ID": one.to, "Name": name(one.to) },
            "Why": one.why,
        })
    });
    let stays = view.stays.iter().map(|(service, why)| json!({ "Service": service, "Why": why }));
    Ok(json!({ "Moves": moves.collect::<Vec<_>>(), "Stays": stays.collect::<Vec<_>>() }))
}
