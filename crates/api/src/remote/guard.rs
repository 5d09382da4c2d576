//! On the node that is asked: what a manager may ask, and a line in the log for each time.

use axum::{
    body::Body,
    http::{Request, StatusCode},
};
use types::NodeId;

use super::{
    resolve::is_of_task,
    target::{Noun, Target, Work},
};
use crate::{
    error::{ApiError, ApiResult},
    host::engine,
    router::Shared,
};

/// The header in which a manager says for whom it asks.
pub(super) const ON_BEHALF: &str = "x-rswarm-caller";

/// A request, for the log.
pub(super) struct Asked {
    what: String,
    caller: String,
}

impl Asked {
    pub(super) fn of(request: &Request<Body>) -> Self {
        let caller = request.headers().get(ON_BEHALF).and_then(|value| value.to_str().ok()).unwrap_or("unknown");
        let what = format!("{} {}", request.method(), request.uri().path());
        Self { what, caller: caller.to_owned() }
    }
}

/// Lets a manager's request pass, or not.
///
/// # Errors
/// It is about none of this node's containers of tasks, or about something that the service decides.
pub(super) async fn check(
    shared: &Shared,
    manager: NodeId,
    target: Option<&Target>,
    Asked { what, caller }: Asked,
) -> ApiResult<()> {
    let checked = judge(shared, target).await;
    match &checked {
        Ok(container) => {
            tracing::info!(manager.id = %manager, caller, what, container.id = container, "a manager asks");
        }
        Err(error) => {
            tracing::info!(manager.id = %manager, caller, what, reason = error.message, "a manager is refused");
        }
    }
    checked.map(drop)
}

/// A line for a request that every manager may make.
pub(super) fn note(manager: NodeId, Asked { what, caller }: Asked, why: &str) {
    tracing::info!(manager.id = %manager, caller, what, "{why}");
}

async fn judge(shared: &Shared, target: Option<&Target>) -> ApiResult<String> {
    let forbidden = |text: &str| ApiError::new(StatusCode::FORBIDDEN, text);
    let target = target.ok_or_else(|| forbidden("a manager may ask a node about containers of tasks alone"))?;
    if let Work::OfService(verb) = target.work {
        return Err(forbidden(&format!("a manager does not {verb} a task's container: its service decides")));
    }
    let engine = engine(shared)?;
    let id = match target.noun {
        Noun::Container => engine.find_container(&target.name).await?.id,
        Noun::Exec => engine.exec_view(&target.name)?.container,
    };
    match is_of_task(&id) {
        true => Ok(id),
        false => Err(forbidden("this container is no task's, but this host's own; ask on the host itself")),
    }
}
