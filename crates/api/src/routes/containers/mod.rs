//! `/containers`: what `docker run` makes, and the containers of this node's tasks beside it (parity E-13 to E-28).

mod create;
mod filter;
mod life;
mod list;
mod logs;
mod usage;
mod versions;
mod wait;

use axum::{
    Router,
    routing::{get, post},
};

pub(crate) use self::{
    filter::check_prune,
    list::{measure, summary},
    versions::CHECKS_MOUNTS,
};
use crate::router::Shared;

pub(crate) fn routes() -> Router<Shared> {
    Router::new()
        .route("/containers/json", get(list::list))
        .route("/containers/create", post(create::create))
        .route("/containers/prune", post(life::prune))
        .route("/containers/{id}", axum::routing::delete(life::remove))
        .route("/containers/{id}/{alias}", axum::routing::delete(life::remove_link))
        .route("/containers/{id}/json", get(list::inspect))
        .route("/containers/{id}/start", post(life::start))
        .route("/containers/{id}/stop", post(life::stop))
        .route("/containers/{id}/restart", post(life::restart))
        .route("/containers/{id}/kill", post(life::kill))
        .route("/containers/{id}/pause", post(life::pause))
        .route("/containers/{id}/unpause", post(life::unpause))
        .route("/containers/{id}/rename", post(life::rename))
        .route("/containers/{id}/update", post(create::update))
        .route("/containers/{id}/wait", post(wait::wait))
        .route("/containers/{id}/logs", get(logs::logs))
        .route("/containers/{id}/top", get(usage::top))
        .route("/containers/{id}/stats", get(usage::stats))
}
