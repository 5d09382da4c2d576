//! `/registries`, of this engine alone: credentials that all nodes of the cluster use towards a registry, or a part of one (P17).
//!
//! They are kept sealed with the rest of the value, sent to nodes with tasks of such images, and given back to nobody.

use std::time::Duration;

use axum::{
    Json, Router,
    extract::{RawQuery, State},
    http::StatusCode,
    routing::get,
};
use node::image::{self, Credentials, PushOptions, ask_helper, check_login};
use serde_json::{Value, json};
use types::{
    ImageReference, Payload, ReadReply, ReadRequest, RegistryLogin, RegistryRenewal, RegistryScope, Timestamp,
    WriteRequest,
};

use super::query;
use crate::{
    bodies::JsonBody,
    cluster,
    convert::{reader::Object, time::rfc3339},
    error::{ApiError, ApiResult},
    router::Shared,
};

pub(crate) fn routes() -> Router<Shared> {
    Router::new().route("/registries", get(list).post(put).delete(remove))
}

async fn list(State(shared): State<Shared>) -> ApiResult<Json<Vec<Value>>> {
    let cluster = cluster::cluster(&shared.membership).await?;
    Ok(Json(cluster.registries.iter().map(shown).collect()))
}

fn shown((scope, login): (&RegistryScope, &RegistryLogin)) -> Value {
    let mut shown = json!({ "Registry": scope, "Username": login.username });
    if let Some(RegistryRenewal { helper, every, renewed_at, trouble }) = &login.renewal {
        let every = u64::try_from(every.as_nanos()).unwrap_or(u64::MAX);
        shown["Renewal"] =
            json!({ "Helper": helper, "Every": every, "RenewedAt": rfc3339(*renewed_at), "Error": trouble });
    }
    shown
}

/// How often a helper is asked where nobody says: tokens of the large clouds last an hour at least.
const EVERY: Duration = Duration::from_secs(600);

/// The registry is asked first, unless with `check=false`: a wrong password is better known now than when a node pulls.
async fn put(State(shared): State<Shared>, raw: RawQuery, JsonBody(body): JsonBody) -> ApiResult<StatusCode> {
    let query = query(raw);
    let (scope, wanted) = read(&body)?;
    let (username, credentials, renewal) = match wanted {
        Wanted::Given { username, credentials } => (username, credentials, None),
        Wanted::Renewed(renewal) => {
            let (username, credentials) = ask_helper(&renewal.helper, &scope).await?;
            (username, credentials, Some(renewal))
        }
    };
    let login = RegistryLogin { username, auth: Payload::new(credentials.pack()), renewal };
    if query.get("check") != "false" {
        check_login(scope.host(), &login_with(&shared, credentials)).await.map_err(refused)?;
    }
    cluster::write(&shared.membership, &WriteRequest::PutRegistry { scope, login }).await?;
    Ok(StatusCode::NO_CONTENT)
}

enum Wanted {
    Given { username: String, credentials: Credentials },
    Renewed(RegistryRenewal),
}

/// Texts of errors name fields, never values: one of them is a password.
fn read(body: &Value) -> ApiResult<(RegistryScope, Wanted)> {
    let mut from = Object::root(body)?;
    let (registry, username) = (from.string("Registry")?, from.string("Username")?);
    let (password, identity) = (from.string("Password")?, from.string("IdentityToken")?);
    let (helper, every) = (from.string("Helper")?, from.duration("Every")?);
    from.finish_strictly()?;
    let given = [&username, &password, &identity].iter().any(|text| !text.is_empty());
    let wanted = match (helper.is_empty(), identity.is_empty()) {
        (false, _) if given => {
            return Err(ApiError::bad_request("give credentials or the Helper that has them, not both"));
        }
        (false, _) => {
            let helper =
                helper.parse().map_err(|why: types::CredentialHelperError| ApiError::bad_request(why.to_string()))?;
            let every = every.unwrap_or(EVERY);
            Wanted::Renewed(RegistryRenewal { helper, every, renewed_at: Timestamp::EPOCH, trouble: String::new() })
        }
        (true, _) if every.is_some() => {
            return Err(ApiError::bad_request("Every needs a Helper that is asked so often"));
        }
        (true, false) => Wanted::Given { username, credentials: Credentials::IdentityToken(identity) },
        (true, true) if username.is_empty() || password.is_empty() => {
            return Err(ApiError::bad_request("Username and Password are both required"));
        }
        (true, true) => {
            Wanted::Given { username: username.clone(), credentials: Credentials::Basic { username, password } }
        }
    };
    Ok((scope(&registry)?, wanted))
}

async fn remove(State(shared): State<Shared>, raw: RawQuery) -> ApiResult<StatusCode> {
    let scope = scope(query(raw).get("registry"))?;
    cluster::write(&shared.membership, &WriteRequest::RemoveRegistry(scope)).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn scope(text: &str) -> ApiResult<RegistryScope> {
    text.parse().map_err(|why: types::RegistryScopeError| ApiError::bad_request(why.to_string()))
}

/// How a registry is asked whether it takes credentials.
pub(super) fn login_with(shared: &Shared, credentials: Credentials) -> PushOptions {
    PushOptions {
        credentials: Some(credentials),
        insecure_registries: shared.host.info().settings.insecure_registries.clone(),
        ..PushOptions::default()
    }
}

fn refused(error: image::Error) -> ApiError {
    match &error {
        image::Error::Unauthorized { .. } => ApiError::new(StatusCode::UNAUTHORIZED, error.to_string()),
        _ => error.into(),
    }
}

/// The cluster's credentials for an image; none on a host that knows none.
pub(super) async fn of_cluster(shared: &Shared, image: &ImageReference) -> Option<Credentials> {
    let wanted = ReadRequest::RegistryLogin(Box::new(image.clone()));
    match cluster::read(&shared.membership, &wanted).await {
        Ok(ReadReply::RegistryLogin(login)) => Credentials::unpack(login?.auth.bytes()),
        _ => None,
    }
}
