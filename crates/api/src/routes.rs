//! The functions behind the paths, one module per noun.

pub(crate) mod archive;
pub(crate) mod attach;
pub(crate) mod backup;
pub(crate) mod containers;
pub(crate) mod dependencies;
pub(crate) mod distribution;
pub(crate) mod doctor;
pub(crate) mod events;
pub(crate) mod everywhere;
pub(crate) mod exec;
pub(crate) mod export;
pub(crate) mod forward;
pub(crate) mod images;
pub(crate) mod label_filter;
pub(crate) mod logs;
pub(crate) mod metrics;
pub(crate) mod networks;
pub(crate) mod nodes;
pub(crate) mod plugins;
pub(crate) mod rebalance;
pub(crate) mod registries;
pub(crate) mod services;
pub(crate) mod stacks;
pub(crate) mod swarm;
pub(crate) mod system;
pub(crate) mod tasks;
pub(crate) mod unsupported;
pub(crate) mod usage;
pub(crate) mod volumes;

use axum::{extract::RawQuery, http::HeaderMap};
use node::image::Credentials;

use crate::{
    convert::credentials,
    error::{ApiError, ApiResult},
    host::engine,
    query::Query,
};

fn query(raw: RawQuery) -> Query {
    Query::parse(&raw.0.unwrap_or_default())
}

/// What the client says about itself to a registry.
fn registry_credentials(headers: &HeaderMap) -> ApiResult<Option<Credentials>> {
    let value = headers.get("x-registry-auth").map(|value| value.to_str()).transpose();
    let value = value.map_err(|_| ApiError::bad_request("X-Registry-Auth: is not base64"))?;
    Ok(credentials::read(value.unwrap_or_default())?)
}

/// `?h=` and `?w=` of a terminal: rows and columns.
fn sized(query: &Query) -> ApiResult<(u16, u16)> {
    let number = |name: &str| {
        let text = query.get(name);
        let bad = || {
            let what = if name == "h" { "height" } else { "width" };
            let is_number = text.parse::<f64>().is_ok_and(|number| number.fract() == 0.0);
            let why = if is_number { "value out of range" } else { "invalid syntax" };
            ApiError::bad_request(format!("invalid resize {what} {text:?}: {why}: give a number up to 65535"))
        };
        text.parse::<u16>().map_err(|_| bad())
    };
    Ok((number("h")?, number("w")?))
}
