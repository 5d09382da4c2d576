//! `GET /system/df/all` and `POST /system/prune/all`, of this engine alone: what takes the disks of all nodes, and the prunes of
//! `docker system prune` on each of them (P27). Nodes are asked when somebody asks this manager; nobody keeps what they said.

use std::{sync::Arc, time::Duration};

use axum::{
    Extension, Json, Router,
    extract::{RawQuery, State},
    http::Method,
    routing::{get, post},
};
use futures::{StreamExt as _, stream};
use serde_json::{Value, json};
use types::Filters;

use super::{containers, query};
use crate::{
    convert::disk_usage::{Pruned, write_pruned, write_usage},
    error::{ApiError, ApiResult},
    query::{Query, escape},
    remote::{Caller, Keeper},
    router::Shared,
};

/// Nodes that are asked at once. The work is theirs, and one that is gone is given up after seconds.
const ASKED_AT_ONCE: usize = 64;
/// For a node to measure all it has: volumes file by file.
const MEASURE_PATIENCE: Duration = Duration::from_secs(60);
/// For a node to remove all of one kind: layers of large images file by file.
const PRUNE_PATIENCE: Duration = Duration::from_secs(600);

pub(crate) fn routes() -> Router<Shared> {
    Router::new().route("/system/df/all", get(usage)).route("/system/prune/all", post(prune))
}

/// Each node by its name: its numbers, or why it did not say them.
async fn usage(State(shared): State<Shared>, Extension(caller): Extension<Caller>) -> ApiResult<Json<Value>> {
    let nodes = Keeper::of_all(&shared, &caller).await?;
    tracing::info!(%caller, nodes = nodes.len(), "all nodes are asked what takes their disks");
    let asked = nodes.into_iter().map(|(node, keeper)| async move {
        let said = match keeper {
            Ok(keeper) => keeper.ask(Method::GET, "/system/df?summary=true", MEASURE_PATIENCE).await,
            Err(error) => Err(error),
        };
        write_usage(&node, &said.map_err(|error| error.message))
    });
    let answers: Vec<Value> = stream::iter(asked).buffered(ASKED_AT_ONCE).collect().await;
    Ok(Json(answers.into()))
}

/// Each node by its name: what it removed, and why it did not do all of it.
async fn prune(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
    raw: RawQuery,
) -> ApiResult<Json<Value>> {
    let steps: Arc<[Step]> = steps(&query(raw))?.into();
    let nodes = Keeper::of_all(&shared, &caller).await?;
    tracing::info!(%caller, nodes = nodes.len(), "all nodes are asked to prune");
    let asked = nodes.into_iter().map(|(node, keeper)| {
        let steps = Arc::clone(&steps);
        async move {
            let pruned = match keeper {
                Ok(keeper) => prune_one(&keeper, &steps).await,
                Err(error) => Pruned { error: Some(error.message), ..Pruned::default() },
            };
            write_pruned(&node, &pruned)
        }
    });
    let answers: Vec<Value> = stream::iter(asked).buffered(ASKED_AT_ONCE).collect().await;
    Ok(Json(answers.into()))
}

/// One of a node's prunes.
struct Step {
    uri: String,
    /// The list in its answer.
    list: &'static str,
}

/// In the order of `docker system prune`: what containers have is spare when they are gone. What a node would refuse is refused before any does
/// anything.
fn steps(query: &Query) -> ApiResult<Vec<Step>> {
    let (all, volumes) = (query.strict_flag("all")?, query.strict_flag("volumes")?);
    let filters = query.filters()?;
    containers::check_prune(&filters)?;
    if volumes && filters.contains_key("until") {
        return Err(ApiError::bad_request(
            "the \"until\" filter is not supported with \"volumes\": leave out one of them",
        ));
    }
    let step = |what: &str, list: &'static str, filters: &Filters| Step {
        uri: format!("/{what}/prune?filters={}", escape(&json!(filters).to_string())),
        list,
    };
    let mut of_images = filters.clone();
    of_images.insert("dangling".to_owned(), vec![(!all).to_string()]);
    let mut steps = vec![
        step("containers", "ContainersDeleted", &filters),
        step("networks", "NetworksDeleted", &filters),
        step("images", "ImagesDeleted", &of_images),
    ];
    if volumes {
        steps.insert(2, step("volumes", "VolumesDeleted", &filters));
    }
    Ok(steps)
}

async fn prune_one(node: &Keeper, steps: &[Step]) -> Pruned {
    let mut pruned = Pruned::default();
    for Step { uri, list } in steps {
        match node.ask(Method::POST, uri, PRUNE_PATIENCE).await {
            Ok(mut answer) => {
                pruned.bytes = pruned.bytes.saturating_add(answer["SpaceReclaimed"].as_u64().unwrap_or(0));
                pruned.lists.push((*list, answer.get_mut(*list).map_or(Value::Null, Value::take)));
            }
            Err(error) => {
                pruned.error = Some(error.message);
                break;
            }
        }
    }
    pruned
}

#[cfg(test)]
mod tests {
    use super::*;

    /// P27: each node is asked for what `docker system prune` asks its host for, and nothing wrong gets as far as a node.
    #[test]
    fn p27_a_prune_is_judged_before_any_node_is_asked() {
        let asked = |text: &str| {
            let steps = steps(&Query::parse(text)).map_err(|error| error.message)?;
            Ok::<_, String>(steps.into_iter().map(|step| crate::query::unescape(&step.uri)).collect::<Vec<_>>())
        };
        assert_eq!(
            asked("").expect("nothing is wanted beside"),
            [
                "/containers/prune?filters={}",
                "/networks/prune?filters={}",
                r#"/images/prune?filters={"dangling":["true"]}"#
            ]
        );
        let filters = r#"{"label":["a b"]}"#;
        assert_eq!(
            asked(&format!("all=1&volumes=true&filters={}", escape(filters))).expect("right"),
            [
                format!("/containers/prune?filters={filters}"),
                format!("/networks/prune?filters={filters}"),
                format!("/volumes/prune?filters={filters}"),
                r#"/images/prune?filters={"dangling":["false"],"label":["a b"]}"#.to_owned(),
            ]
        );
        for (text, part) in [
            ("all=perhaps", "invalid value for all"),
            (r#"filters={"colour":["red"]}"#, "colour"),
            (r#"filters={"until":["soon"]}"#, "until"),
            (r#"volumes=1&filters={"until":["1h"]}"#, "not supported with"),
        ] {
            assert!(asked(text).expect_err(text).contains(part), "{text}");
        }
    }
}
