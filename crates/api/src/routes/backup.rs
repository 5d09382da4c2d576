//! Backups of the cluster, and what is done with one (parity C-08, C-42; ours). A backup leaves the daemon sealed.

use axum::{
    Json,
    body::Body,
    extract::State,
    http::{HeaderMap, header},
    response::{IntoResponse as _, Response},
};
use identity::{Backup, BackupError, seal_backup};
use serde_json::{Value, json};
use types::{Payload, ReadReply, ReadRequest};

use super::swarm::refuse_members;
use crate::{
    bodies::JsonBody,
    cluster,
    convert::backup::{read_passphrase, read_restore, read_turn, write_words},
    error::{ApiError, ApiResult},
    router::Shared,
};

/// What a manager gives in one answer has the same bound, and this is sealed: a little more.
const MAX_BACKUP_BYTES: usize = proto::MAX_MESSAGE_BYTES + (1 << 20);
/// Where a restored manager is to be, and what opens its backup: base64 of JSON, as the body is the backup.
const RESTORE_HEADER: &str = "X-Swarm-Restore";

impl From<BackupError> for ApiError {
    fn from(error: BackupError) -> Self {
        Self::bad_request(error.to_string())
    }
}

/// One moment of the value, sealed with the passphrase of the request. Without a leader it is what this manager has.
pub(crate) async fn create(State(shared): State<Shared>, JsonBody(body): JsonBody) -> ApiResult<Response> {
    let passphrase = read_passphrase(&body)?;
    let (words, content) = match cluster::read_current(&shared.membership, &ReadRequest::Backup).await? {
        ReadReply::Backup { words, content } => (words, content),
        other => return Err(cluster::unexpected(&other)),
    };
    let words = write_words(&words, &shared.host.info().engine_version).to_string().into_bytes();
    let sealed = away(move || seal_backup(&words, content.bytes().to_vec(), &passphrase)).await??;
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], sealed).into_response())
}

/// Answers with the node's id. The body is the backup.
pub(crate) async fn restore(State(shared): State<Shared>, headers: HeaderMap, body: Body) -> ApiResult<Json<Value>> {
    let (passphrase, mut request) = read_restore(headers.get(RESTORE_HEADER), RESTORE_HEADER)?;
    refuse_members(&shared)?;
    let file = axum::body::to_bytes(body, MAX_BACKUP_BYTES).await;
    let file = file.map_err(|error| {
        ApiError::bad_request(format!("read the backup in the body (at most {MAX_BACKUP_BYTES} bytes): {error}"))
    })?;
    let content = away(move || Backup::parse(&file)?.open(&passphrase)).await??;
    request.content = Payload::new(content);
    Ok(Json(json!(shared.membership.restore(request).await?)))
}

/// Where managers are now. Answers with those that were found.
pub(crate) async fn turn(State(shared): State<Shared>, JsonBody(body): JsonBody) -> ApiResult<Json<Value>> {
    let found = shared.membership.turn_to(read_turn(&body)?).await?;
    let peer = |peer: &types::ManagerPeer| json!({ "NodeID": peer.node, "Addr": peer.address });
    Ok(Json(found.iter().map(peer).collect()))
}

/// Making a key from a passphrase takes a while, by intent.
async fn away<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> ApiResult<T> {
    let result = tokio::task::spawn_blocking(work).await;
    result.map_err(|error| ApiError::internal(format!("the backup could not be sealed or opened: {error}")))
}
