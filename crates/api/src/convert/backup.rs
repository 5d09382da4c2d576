//! Requests about backups, and the words of one (ours). Passphrases are never repeated in a refusal.

use axum::http::HeaderValue;
use node::membership::RestoreRequest;
use serde_json::{Value, json};
use types::{Availability, BackupWords, Payload};

use super::{
    credentials::decode,
    node::read_availability,
    reader::{FieldError, Object},
    time::rfc3339,
};

pub(crate) fn read_passphrase(body: &Value) -> Result<String, FieldError> {
    let mut from = Object::root(body)?;
    let passphrase = passphrase(&mut from)?;
    from.finish_strictly()?;
    Ok(passphrase)
}

fn passphrase(from: &mut Object<'_>) -> Result<String, FieldError> {
    let text = from.string("Passphrase").map_err(|_| from.bad("Passphrase", "must be a text"))?;
    match text.is_empty() {
        true => Err(FieldError::Missing { path: from.path("Passphrase"), hint: "the backup is sealed with it" }),
        false => Ok(text),
    }
}

/// The passphrase, and all of the request but the content of the backup.
pub(crate) fn read_restore(header: Option<&HeaderValue>, name: &str) -> Result<(String, RestoreRequest), FieldError> {
    let bad = |reason: &str| FieldError::Value { path: name.to_owned(), reason: reason.to_owned() };
    let header =
        header.ok_or_else(|| bad("is missing; it says what opens the backup and where the manager is to be"))?;
    let bytes = header.to_str().ok().and_then(decode).ok_or_else(|| bad("is not base64"))?;
    // the error is not shown: its text may hold a part of the passphrase
    let value: Value = serde_json::from_slice(&bytes).map_err(|_| bad("is not JSON in base64"))?;
    let mut from = Object::root(&value).map_err(|_| bad("is not a JSON object in base64"))?;
    let passphrase = passphrase(&mut from)?;
    let request = RestoreRequest {
        listen_addr: from.string("ListenAddr")?,
        advertise_addr: from.string("AdvertiseAddr")?,
        data_path_addr: from.string("DataPathAddr")?,
        availability: from.parsed("Availability", read_availability)?.unwrap_or(Availability::Active),
        content: Payload::default(),
    };
    from.finish_strictly()?;
    Ok((passphrase, request))
}

pub(crate) fn read_turn(body: &Value) -> Result<Vec<String>, FieldError> {
    let mut from = Object::root(body)?;
    let addresses = from.strings("RemoteAddrs")?;
    if addresses.iter().all(String::is_empty) {
        return Err(FieldError::Missing { path: from.path("RemoteAddrs"), hint: "give the host:port of a manager" });
    }
    from.finish_strictly()?;
    Ok(addresses)
}

/// What anybody may read in a backup.
pub(crate) fn write_words(words: &BackupWords, version: &str) -> Value {
    json!({
        "ClusterID": words.cluster,
        "ManagerID": words.manager,
        "TakenAt": rfc3339(words.taken_at),
        "Index": words.index,
        "Version": version,
        "Nodes": words.nodes,
        "Managers": words.managers,
        "Services": words.services,
        "Tasks": words.tasks,
        "Networks": words.networks,
        "Secrets": words.secrets,
        "Configs": words.configs,
    })
}
