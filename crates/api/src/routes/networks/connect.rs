//! `/networks/{id}/connect` and `/disconnect`: the places of a single container (parity N-21).

use std::net::{IpAddr, Ipv4Addr};

use axum::{
    extract::{Path, State},
    http::StatusCode,
};
use node::engine::{ContainerPlace, PlaceIn};
use serde_json::Value;

use super::find::{Found, find};
use crate::{
    bodies::JsonBody,
    convert::reader::{FieldError, Object},
    error::{ApiError, ApiResult},
    router::Shared,
};

pub(crate) async fn connect(
    State(shared): State<Shared>,
    Path(network): Path<String>,
    JsonBody(body): JsonBody,
) -> ApiResult<StatusCode> {
    let wanted = read_connect(&body)?;
    let network = place_in(&shared, &network).await?;
    if network == PlaceIn::Bridge && !wanted.aliases.is_empty() {
        return Err(ApiError::bad_request(
            "network-scoped aliases are only supported for user-defined networks: the host's bridge has no names",
        ));
    }
    let place = ContainerPlace { network, aliases: wanted.aliases, address: wanted.address };
    shared.host.connect(&wanted.container, place).await?;
    Ok(StatusCode::OK)
}

pub(crate) async fn disconnect(
    State(shared): State<Shared>,
    Path(network): Path<String>,
    JsonBody(body): JsonBody,
) -> ApiResult<StatusCode> {
    let container = read_disconnect(&body)?;
    let network = place_in(&shared, &network).await?;
    shared.host.disconnect(&container, network).await?;
    Ok(StatusCode::OK)
}

/// What of this host's data plane the network is; one that single containers cannot join is refused.
async fn place_in(shared: &Shared, name: &str) -> ApiResult<PlaceIn> {
    let refused = |message: String| Err(ApiError::new(StatusCode::FORBIDDEN, message));
    match name {
        "bridge" | "default" => return Ok(PlaceIn::Bridge),
        // Docker's own words.
        "host" => {
            return refused(
                "container cannot be disconnected from host network or connected to host network".to_owned(),
            );
        }
        "none" => {
            return refused(
                "container cannot be connected to multiple networks with one of the networks in private (none) mode"
                    .to_owned(),
            );
        }
        _ => {}
    }
    let network = match find(shared, name).await? {
        Found::Local(view) => view.network.map(|network| (*network).clone()),
        Found::Cluster(view) if !view.network.spec.attachable => {
            // Docker's own words: clients know them.
            let name = &view.network.spec.name;
            return refused(format!(
                "Could not attach to network {name}: rpc error: code = PermissionDenied desc = network {name} not \
                 manually attachable"
            ));
        }
        Found::Cluster(view) => Some(view.network),
    };
    let network = network.filter(|network| !network.spec.config_only);
    let none =
        || ApiError::new(StatusCode::FORBIDDEN, format!("network {name} is a configuration: nothing can join it"));
    network.map(|network| PlaceIn::Network(network.id)).ok_or_else(none)
}

#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    container: String,
    aliases: Vec<String>,
    address: Option<Ipv4Addr>,
}

fn read_connect(body: &Value) -> Result<Wanted, FieldError> {
    let mut from = Object::root(body)?;
    let container = container(&mut from)?;
    let mut config = from.object("EndpointConfig")?;
    let mut ipam = config.object("IPAMConfig")?;
    let address = ipam.parsed("IPv4Address", |text| match text.parse() {
        Ok(IpAddr::V4(address)) => Ok(address),
        _ => Err(format!("{text:?} is no IPv4 address")),
    })?;
    ipam.finish()?;
    let aliases = config.strings("Aliases")?;
    if let Some(bad) = aliases.iter().find(|alias| !is_dns_name(alias)) {
        return Err(config.bad("Aliases", format!("{bad:?} is no DNS name")));
    }
    config.finish()?;
    from.finish()?;
    Ok(Wanted { container, aliases, address })
}

fn read_disconnect(body: &Value) -> Result<String, FieldError> {
    let mut from = Object::root(body)?;
    let container = container(&mut from)?;
    // A container that is there is disconnected in any case.
    let _ = from.boolean("Force")?;
    from.finish()?;
    Ok(container)
}

fn container(from: &mut Object<'_>) -> Result<String, FieldError> {
    let container = from.string("Container")?;
    if container.is_empty() {
        return Err(FieldError::Missing { path: from.path("Container"), hint: "give the container's id or name" });
    }
    Ok(container)
}

/// Of at most 253 letters, digits, '-', '_' and '.' (RFC 1035, section 2.3.4).
fn is_dns_name(text: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (1..=253).contains(&text.len()) && text.bytes().all(good) && !text.starts_with(['-', '.'])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// N-21: what docker sends, empty fields included.
    #[test]
    fn n21_dockers_requests_are_read() {
        let body = json!({ "Container": "c1", "EndpointConfig": {
            "IPAMConfig": { "IPv4Address": "10.1.0.9", "IPv6Address": "", "LinkLocalIPs": null }, "Links": null,
            "MacAddress": "", "Aliases": ["db"], "DriverOpts": null, "GwPriority": 0, "NetworkID": "", "DNSNames": null,
        } });
        let wanted = read_connect(&body).expect("understood");
        assert_eq!((wanted.container.as_str(), wanted.address), ("c1", Some([10, 1, 0, 9].into())));
        let bad = json!({ "Container": "c1", "EndpointConfig": { "Aliases": ["-x"] } });
        assert_eq!(
            read_connect(&bad).expect_err("refused").to_string(),
            "EndpointConfig.Aliases: \"-x\" is no DNS name"
        );
        let bad = json!({ "Container": "c1", "EndpointConfig": { "DriverOpts": { "a": "b" } } });
        let refused = read_connect(&bad).expect_err("refused").to_string();
        assert!(refused.contains("DriverOpts") && refused.contains("not supported yet"), "{refused}");
        assert!(read_disconnect(&json!({ "Force": true })).expect_err("refused").to_string().contains("Container"));
    }
}
