//! Requests about containers of tasks, wherever in the cluster these run.
//!
//! Every request comes by here before its route. On a manager one about a task's container on another node goes there,
//! as it is; on the node that was asked it meets the same routes as a client's own. So there is one `exec`, one `cp`
//! and so on, and what they do on one host they do on all (`docs/design/012-containers-of-other-nodes.md`). Nothing is
//! asked further than one hop.

mod caller;
mod carrier;
mod forward;
mod guard;
mod ids;
mod keeper;
mod question;
mod relay;
mod resolve;
mod serve;
mod target;

use axum::{
    body::Body,
    http::Request,
    response::{IntoResponse as _, Response},
};

pub(crate) use self::{caller::Caller, carrier::Carrier, keeper::Keeper, serve::serve, target::Target};
use self::{guard::Asked, resolve::Place, target::Work};
use crate::{
    error::{ApiError, ApiResult},
    router::Shared,
    routes::archive,
};

/// What becomes of a request.
pub(crate) enum Turn {
    /// The routes of this host have it, perhaps with the container's id in place of a task's name.
    Here(Request<Body>),
    Answered(Response),
}

/// Finds out whose a request is, and has it answered there.
pub(crate) async fn divert(shared: &Shared, request: Request<Body>) -> Turn {
    match turn(shared, request).await {
        Ok(turn) => turn,
        Err(error) => Turn::Answered(error.into_response()),
    }
}

async fn turn(shared: &Shared, mut request: Request<Body>) -> ApiResult<Turn> {
    let target = Target::parse(request.method(), request.uri().path());
    let caller = request.extensions().get::<Caller>().cloned().unwrap_or_default();
    if let Caller::Manager(manager) = &caller {
        if request.uri().path().starts_with(carrier::ROUTES) {
            // the routes themselves see to it that nobody uses the volume
            guard::note(*manager, Asked::of(&request), "a manager carries a volume");
            return Ok(Turn::Here(request));
        }
        if keeper::is_open(request.method(), request.uri().path()) {
            guard::note(*manager, Asked::of(&request), "a manager asks about the whole host");
            return Ok(Turn::Here(request));
        }
        guard::check(shared, *manager, target.as_ref(), Asked::of(&request)).await?;
        return Ok(Turn::Here(request));
    }
    let Some(target) = target else { return Ok(Turn::Here(request)) };
    let there = match resolve::place(shared, &target).await {
        Ok(Place::Here(None)) => return Ok(Turn::Here(request)),
        Ok(Place::Here(Some(id))) => {
            *request.uri_mut() = target.uri(&id, request.uri().query(), None)?;
            return Ok(Turn::Here(request));
        }
        Ok(Place::There(there)) => there,
        Err(error) => {
            archive::drain_refused(request.into_body()).await;
            return Err(error);
        }
    };
    if let Work::OfService(verb) = target.work {
        return Err(ApiError::new(
            axum::http::StatusCode::CONFLICT,
            format!(
                "cannot {verb} container {}: it belongs to a task on node {}, whose service decides; use `service \
                 update` or `service rm`",
                target.name, there.hostname
            ),
        ));
    }
    tracing::info!(
        %caller, method = %request.method(), path = request.uri().path(), node.id = %there.node,
        "a request goes to the node of the task"
    );
    forward::answer(*there, &target, &caller, request).await.map(Turn::Answered)
}
