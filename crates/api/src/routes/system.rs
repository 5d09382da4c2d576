//! `/_ping`, `/version`, `/info`, and the pruning of builds.

use axum::{
    Extension, Json,
    extract::{RawQuery, State},
    http::{
        Method,
        header::{CACHE_CONTROL, PRAGMA},
    },
    response::{IntoResponse as _, Response},
};
use serde_json::{Value, json};
use types::{Cluster, Counts, ReadReply, ReadRequest};

use crate::{
    cluster,
    convert::info::{DaemonFacts, Facts, add_expected_commits, write, write_version},
    error::ApiResult,
    router::{ApiVersion, Shared},
    routes::{label_filter, query},
};

pub(crate) async fn ping(State(shared): State<Shared>, method: Method) -> Response {
    let status = shared.membership.status();
    let swarm = match status.cluster {
        Some(_) => "active/manager".to_owned(),
        None if status.local_state == node::membership::LocalState::Active => "active/worker".to_owned(),
        None => status.local_state.to_string(),
    };
    let body = if method == Method::HEAD { "" } else { "OK" };
    let never_kept = [(CACHE_CONTROL, "no-cache, no-store, must-revalidate"), (PRAGMA, "no-cache")];
    (never_kept, [("swarm", swarm), ("builder-version", "1".to_owned())], body).into_response()
}

pub(crate) async fn version(State(shared): State<Shared>) -> Json<Value> {
    Json(write_version(&shared.host.info()))
}

/// `docker system prune` asks for it at its end. Nothing is built here, so there is nothing to remove.
pub(crate) async fn prune_builds(raw: RawQuery) -> ApiResult<Json<Value>> {
    let known = ["description", "id", "inuse", "label", "parent", "private", "shared", "type", "until", "unused-for"];
    label_filter::check_keys(&query(raw).filters()?, "builds", &known)?;
    Ok(Json(json!({ "CachesDeleted": null, "SpaceReclaimed": 0 })))
}

/// Commits that are expected mean nothing any more.
const EXPECTS_NOTHING: ApiVersion = ApiVersion(1, 49);

pub(crate) async fn info(State(shared): State<Shared>, Extension(version): Extension<ApiVersion>) -> Json<Value> {
    let membership = shared.membership.status();
    let known = match membership.cluster {
        Some(_) => cluster_facts(&shared).await.map(Some),
        None => Ok(None),
    };
    let (known, cluster_error) = match known {
        Ok(known) => (known, None),
        Err(error) => (None, Some(error.message)),
    };
    let host = shared.host.info();
    let facts = Facts {
        host: &host,
        membership: &membership,
        cluster: known.as_ref().map(|(cluster, _)| &**cluster),
        counts: known.as_ref().map(|(_, counts)| *counts),
        cluster_error,
        containers: shared.host.containers().await,
        devices: match shared.host.engine() {
            Some(engine) => engine.cdi_devices().await,
            None => Vec::new(),
        },
        images: shared.host.images().list().len(),
        daemon: daemon_facts(&shared),
        now: jiff::Timestamp::now().to_string(),
    };
    let mut info = write(&facts);
    if version < EXPECTS_NOTHING {
        add_expected_commits(&mut info);
    }
    Json(info)
}

fn daemon_facts(shared: &Shared) -> DaemonFacts {
    let engine = shared.host.engine();
    // but for the directory itself, which is open while it is read
    let open_files = std::fs::read_dir("/proc/self/fd").map_or(0, |all| all.count().saturating_sub(1));
    DaemonFacts {
        open_files,
        tasks: tokio::runtime::Handle::current().metrics().num_alive_tasks(),
        listeners: engine.map_or(0, |engine| engine.events().listeners()),
        limits_swap: engine.is_some_and(node::Engine::limits_swap),
    }
}

async fn cluster_facts(shared: &Shared) -> ApiResult<(Box<Cluster>, Counts)> {
    let cluster = match cluster::read(&shared.membership, &ReadRequest::Cluster).await? {
        ReadReply::Cluster(cluster) => cluster,
        other => return Err(cluster::unexpected(&other)),
    };
    match cluster::read(&shared.membership, &ReadRequest::Counts).await? {
        ReadReply::Counts(counts) => Ok((cluster, counts)),
        other => Err(cluster::unexpected(&other)),
    }
}
