//! `POST /volumes/{name}/migrate`, of this engine alone: the data of a local volume moves to another node, with the tasks that have
//! it (P41).
//!
//! The manager that was asked carries the data: out of one node and into the other, then it compares the digests of both. That
//! the tasks stand still meanwhile, and where they are at home, is the value's: if this manager goes, nobody says any more that it
//! goes on, and the tasks start where they were.

use std::time::Duration;

use axum::{
    Json,
    body::Body,
    extract::{Path, State},
    http::{Method, StatusCode},
};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use types::{Migration, MigrationStep, Slot, WriteReply, WriteRequest};

use crate::{
    bodies::JsonBody,
    cluster,
    convert::reader::Object,
    error::{ApiError, ApiResult},
    remote::Carrier,
    router::Shared,
};

/// Between two looks whether the tasks have let go of the volume.
const POLL: Duration = Duration::from_millis(200);
/// For tasks to stop: longer than any sane stop grace period.
const STOP_PATIENCE: Duration = Duration::from_secs(300);
/// How often the value hears that it goes on; three times within what it waits.
const RENEW: Duration = Duration::from_secs(8);

struct Wanted {
    from: String,
    to: String,
    overwrite: bool,
    remove_source: bool,
}

pub(super) async fn migrate(
    State(shared): State<Shared>,
    Path(name): Path<String>,
    JsonBody(body): JsonBody,
) -> ApiResult<Json<Value>> {
    let wanted = read(&body)?;
    if !types::is_volume_name(&name) {
        return Err(ApiError::bad_request(format!(
            "{name:?} is no name of a volume; `rswarm volume ls` on its node shows them"
        )));
    }
    let (from, to) = (Carrier::to(&shared, &wanted.from, &name).await?, Carrier::to(&shared, &wanted.to, &name).await?);
    // before anything stops
    for volume in begin(&shared, &name, (&from, &to), true).await?.volumes {
        check(&from.with(&shared, &volume).await?, &to.with(&shared, &volume).await?, &wanted, &volume).await?;
    }
    let migration = begin(&shared, &name, (&from, &to), false).await?;
    tracing::info!(volume = migration.volume, from = from.hostname(), to = to.hostname(), "a volume begins to move");
    let mut way = Way { shared, migration, from, to, wanted, made: Vec::new() };
    let carried = tokio::select! {
        carried = carry(&way.shared, &way.migration, (&way.from, &way.to), &way.wanted, &mut way.made) => carried,
        lost = renew(&way.shared, &way.migration) => Err(lost),
    };
    match carried {
        Ok(digests) => way.finish(&digests).await.map(Json),
        Err(error) => Err(way.give_up(error).await),
    }
}

async fn begin(shared: &Shared, name: &str, (from, to): (&Carrier, &Carrier), dry_run: bool) -> ApiResult<Migration> {
    let (from, to) = (from.node().to_string(), to.node().to_string());
    match step(shared, MigrationStep::Begin { volume: name.to_owned(), from, to, dry_run }).await? {
        WriteReply::Migrating(migration) => Ok(*migration),
        other => Err(cluster::unexpected(&other)),
    }
}

fn read(body: &Value) -> ApiResult<Wanted> {
    let mut from = Object::root(body)?;
    let wanted = Wanted {
        from: from.string("From")?,
        to: from.string("To")?,
        overwrite: from.boolean("Overwrite")?,
        remove_source: from.boolean("RemoveSource")?,
    };
    from.finish_strictly()?;
    if wanted.from.is_empty() || wanted.to.is_empty() {
        return Err(ApiError::bad_request("From and To are both required: name the nodes"));
    }
    Ok(wanted)
}

async fn step(shared: &Shared, step: MigrationStep) -> ApiResult<WriteReply> {
    cluster::write(&shared.membership, &WriteRequest::Migrate(Box::new(step))).await
}

/// Returns when it may not go on.
async fn renew(shared: &Shared, migration: &Migration) -> ApiError {
    loop {
        sleep(RENEW).await;
        match step(shared, MigrationStep::Renew(migration.key())).await {
            // without a leader nothing ends either, until there is one
            Err(error) if error.status == StatusCode::SERVICE_UNAVAILABLE => {}
            Err(error) => return error,
            Ok(_) => {}
        }
    }
}

async fn check(from: &Carrier, to: &Carrier, wanted: &Wanted, volume: &str) -> ApiResult<()> {
    let conflict = |text: String| Err(ApiError::new(StatusCode::CONFLICT, text));
    let source = from.ask(Method::GET, "", Body::empty()).await?;
    if source["Exists"] == false {
        return conflict(format!(
            "there is no volume {volume} on node {} any more: if its data is lost, let the tasks start without it with `rswarm \
             service update --on-missing create`",
            from.hostname()
        ));
    }
    if source["IsMounted"] == true {
        return conflict(format!(
            "volume {volume} on node {} shows what is mounted there by its options: make the same volume on node {}",
            from.hostname(),
            to.hostname()
        ));
    }
    let target = to.ask(Method::GET, "", Body::empty()).await?;
    let users = users(&target);
    if !users.is_empty() {
        return conflict(format!(
            "volume {volume} on node {} is in use by {}: stop or remove them, or choose another node",
            to.hostname(),
            users.join(", ")
        ));
    }
    if target["IsMounted"] == true || (target["IsEmpty"] == false && !wanted.overwrite) {
        return conflict(format!(
            "there is data in volume {volume} on node {} already: look at it, then repeat with --overwrite, or remove it there \
             with `rswarm volume rm {volume}`",
            to.hostname()
        ));
    }
    Ok(())
}

fn users(facts: &Value) -> Vec<String> {
    let users = facts["Users"].as_array().into_iter().flatten();
    users.filter_map(Value::as_str).map(|id| id.chars().take(12).collect()).collect()
}

/// All volumes, one after the other; gives the digest of each. What was put in place where nothing was is in `made`.
async fn carry(
    shared: &Shared,
    migration: &Migration,
    (from, to): (&Carrier, &Carrier),
    wanted: &Wanted,
    made: &mut Vec<String>,
) -> ApiResult<Vec<(String, String)>> {
    let mut digests = Vec::new();
    for volume in &migration.volumes {
        let (from, to) = (from.with(shared, volume).await?, to.with(shared, volume).await?);
        check(&from, &to, wanted, volume).await?;
        until_unused(&from, volume).await?;
        digests.push((volume.clone(), copy(&from, &to, volume).await?));
    }
    for volume in &migration.volumes {
        let (from, to) = (from.with(shared, volume).await?, to.with(shared, volume).await?);
        let (source, facts) =
            (from.ask(Method::GET, "", Body::empty()).await?, to.ask(Method::GET, "", Body::empty()).await?);
        let labels = json!({ "Labels": source["Labels"] });
        to.ask(Method::POST, &format!("?overwrite={}", wanted.overwrite), Body::from(labels.to_string())).await?;
        if facts["Exists"] == false {
            made.push(volume.clone());
        }
    }
    Ok(digests)
}

async fn until_unused(from: &Carrier, volume: &str) -> ApiResult<()> {
    let begun = Instant::now();
    loop {
        let users = users(&from.ask(Method::GET, "", Body::empty()).await?);
        if users.is_empty() {
            return Ok(());
        }
        if begun.elapsed() >= STOP_PATIENCE {
            return Err(ApiError::new(
                StatusCode::CONFLICT,
                format!(
                    "volume {volume} on node {} is still in use by {} after {} s: stop or remove what is no task",
                    from.hostname(),
                    users.join(", "),
                    STOP_PATIENCE.as_secs()
                ),
            ));
        }
        sleep(POLL).await;
    }
}

async fn copy(from: &Carrier, to: &Carrier, volume: &str) -> ApiResult<String> {
    let data = from.stream(Method::GET, "/data", Body::empty()).await?;
    let there = to.ask(Method::PUT, "/data", data.into_body()).await?;
    // asked last: what was written meanwhile shows
    let here = from.ask(Method::GET, "/digest", Body::empty()).await?;
    match (here["Digest"].as_str(), there["Digest"].as_str()) {
        (Some(here), Some(there)) if here == there => Ok(here.to_owned()),
        (here, there) => Err(ApiError::new(
            StatusCode::CONFLICT,
            format!(
                "the data of volume {volume} is {} on node {} and {} on node {}: something wrote to it meanwhile; repeat when \
                 nothing does",
                here.unwrap_or("unknown"),
                from.hostname(),
                there.unwrap_or("unknown"),
                to.hostname()
            ),
        )),
    }
}

struct Way {
    shared: Shared,
    migration: Migration,
    from: Carrier,
    to: Carrier,
    wanted: Wanted,
    made: Vec<String>,
}

impl Way {
    /// The data is there: from this write on the tasks are at home there.
    async fn finish(self, digests: &[(String, String)]) -> ApiResult<Value> {
        if let Err(error) = step(&self.shared, MigrationStep::Finish(self.migration.key())).await {
            return Err(self.give_up(error).await);
        }
        let mut warnings = Vec::new();
        for volume in self.migration.volumes.iter().filter(|_| self.wanted.remove_source) {
            let removed = match self.from.with(&self.shared, volume).await {
                Ok(from) => from.ask(Method::DELETE, "/data", Body::empty()).await,
                Err(error) => Err(error),
            };
            if let Err(error) = removed {
                warnings.push(format!("volume {volume} stays on node {}: {}", self.from.hostname(), error.message));
            }
        }
        let slots = self.slots().await;
        let volume = |(name, digest): &(String, String)| json!({ "Name": name, "Digest": digest });
        Ok(json!({
            "Volumes": digests.iter().map(volume).collect::<Vec<_>>(),
            "Tasks": slots,
            "From": self.from.hostname(),
            "To": self.to.hostname(),
            "SourceRemoved": self.wanted.remove_source && warnings.is_empty(),
            "Warnings": warnings,
        }))
    }

    /// `db.1`
    async fn slots(&self) -> Vec<String> {
        let mut slots = Vec::new();
        for (service, slot) in &self.migration.slots {
            let view = cluster::service(&self.shared.membership, &service.to_string()).await;
            let name = view.map_or_else(|_| service.to_string(), |view| view.service.spec.name.to_string());
            if let Slot::Replica(number) = slot {
                slots.push(format!("{name}.{number}"));
            }
        }
        slots
    }

    /// The tasks go on where they were. What cannot be undone at once the value's patience ends.
    async fn give_up(self, mut error: ApiError) -> ApiError {
        for volume in &self.migration.volumes {
            let Ok(to) = self.to.with(&self.shared, volume).await else { continue };
            let rest = if self.made.contains(volume) { "/data" } else { "" };
            if let Err(left) = to.ask(Method::DELETE, rest, Body::empty()).await {
                tracing::warn!(volume, node = self.to.hostname(), reason = left.message, "the copy of a volume stays");
            }
        }
        let aborted = step(&self.shared, MigrationStep::Abort(self.migration.key())).await;
        let when = if aborted.is_ok() { "" } else { " in half a minute" };
        let (volume, from) = (&self.migration.volume, self.from.hostname());
        error.message = format!("volume {volume} stays on node {from}, where its tasks go on{when}: {}", error.message);
        error
    }
}
