//! `/registries`, of this engine alone: credentials that all nodes of the cluster use towards a registry, or a part of one (P17).
//!
//! They are kept sealed with the rest of the value, sent to nodes with tasks of such images, and given back to nobody.

use axum::{
    Json, Router,
    body::Body,
    extract::{RawQuery, State},
    http::StatusCode,
    routing::get,
};
use node::image::{self, Credentials, check_login};
use serde_json::{Value, json};
use types::{ImageReference, Payload, ReadReply, ReadRequest, RegistryLogin, RegistryScope, WriteRequest};

use super::query;
use crate::{
    bodies, cluster,
    convert::reader::Object,
    error::{ApiError, ApiResult},
    router::Shared,
};

pub(crate) fn routes() -> Router<Shared> {
    Router::new().route("/registries", get(list).post(put).delete(remove))
}

async fn list(State(shared): State<Shared>) -> ApiResult<Json<Vec<Value>>> {
    let cluster = cluster::cluster(&shared.membership).await?;
    let shown =
        |(scope, login): (&RegistryScope, &RegistryLogin)| json!({ "Registry": scope, "Username": login.username });
    Ok(Json(cluster.registries.iter().map(shown).collect()))
}

/// The registry is asked first, unless with `check=false`: a wrong password is better known now than when a node pulls.
async fn put(State(shared): State<Shared>, raw: RawQuery, body: Body) -> ApiResult<StatusCode> {
    let query = query(raw);
    let body = bodies::json(body).await?;
    // Texts of errors name fields, never values: one of them is a password.
    let mut from = Object::root(&body)?;
    let (registry, username) = (from.string("Registry")?, from.string("Username")?);
    let (password, identity) = (from.string("Password")?, from.string("IdentityToken")?);
    from.finish()?;
    let scope = scope(&registry)?;
    let credentials = match (identity.is_empty(), username.is_empty() || password.is_empty()) {
        (false, _) => Credentials::IdentityToken(identity),
        (true, false) => Credentials::Basic { username: username.clone(), password },
        (true, true) => return Err(ApiError::bad_request("Username and Password are both required")),
    };
    let login = RegistryLogin { username, auth: Payload::new(credentials.pack()) };
    if query.get("check") != "false" {
        let insecure = &shared.host.info().settings.insecure_registries.clone();
        check_login(scope.host(), credentials, insecure).await.map_err(refused)?;
    }
    cluster::write(&shared.membership, &WriteRequest::PutRegistry { scope, login }).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn remove(State(shared): State<Shared>, raw: RawQuery) -> ApiResult<StatusCode> {
    let scope = scope(query(raw).get("registry"))?;
    cluster::write(&shared.membership, &WriteRequest::RemoveRegistry(scope)).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn scope(text: &str) -> ApiResult<RegistryScope> {
    text.parse().map_err(|why: types::RegistryScopeError| ApiError::bad_request(why.to_string()))
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
