//! `/networks/{id}/connect` and `/disconnect`: the places of a single container (parity N-21).

use axum::{
    extract::{Path, State},
    http::StatusCode,
};
use node::engine::{ContainerPlace, PlaceIn, containers::spec::PlaceRequest, predefined_network};
use serde_json::Value;

use super::find::{Found, find};
use crate::{
    bodies::JsonBody,
    convert::{
        reader::{FieldError, Object},
        single::read_place,
    },
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
    if network == PlaceIn::Bridge && !wanted.place.aliases.is_empty() {
        return Err(ApiError::bad_request(
            "network-scoped aliases are only supported for user-defined networks: the host's bridge has no names",
        ));
    }
    shared.host.connect(&wanted.container, ContainerPlace::new(network, wanted.place)).await?;
    Ok(StatusCode::OK)
}

pub(crate) async fn disconnect(
    State(shared): State<Shared>,
    Path(network): Path<String>,
    JsonBody(body): JsonBody,
) -> ApiResult<StatusCode> {
    let container = read_disconnect(&body)?;
    if predefined_network(&network) == Some("none") {
        shared.host.leave_none(&container).await?;
        return Ok(StatusCode::OK);
    }
    let network = place_in(&shared, &network).await?;
    shared.host.disconnect(&container, network).await?;
    Ok(StatusCode::OK)
}

/// What of this host's data plane the network is; one that single containers cannot join is refused.
async fn place_in(shared: &Shared, name: &str) -> ApiResult<PlaceIn> {
    let refused = |message: String| Err(ApiError::new(StatusCode::FORBIDDEN, message));
    match predefined_network(name).unwrap_or(name) {
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
    place: PlaceRequest,
}

fn read_connect(body: &Value) -> Result<Wanted, FieldError> {
    let mut from = Object::root(body)?;
    let container = container(&mut from)?;
    let (mut place, links) = read_place(from.object("EndpointConfig")?, "")?;
    place.links = links;
    if let Some(bad) = place.aliases.iter().find(|alias| !is_dns_name(alias)) {
        return Err(from.bad("EndpointConfig.Aliases", format!("{bad:?} is no DNS name")));
    }
    from.finish()?;
    Ok(Wanted { container, place })
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
        assert_eq!((wanted.container.as_str(), wanted.place.address), ("c1", Some([10, 1, 0, 9].into())));
        let body = json!({ "Container": "c1", "EndpointConfig": {
            "IPAMConfig": { "IPv6Address": "fd00:1::9", "LinkLocalIPs": ["169.254.8.8", "fe80::8"] }, "Links": ["db:d"],
            "MacAddress": "02:42:ac:11:00:09", "DriverOpts": { "a": "b" }, "GwPriority": -7,
        } });
        let place = read_connect(&body).expect("understood").place;
        assert_eq!((place.address6, place.link_local.len(), place.priority), ("fd00:1::9".parse().ok(), 2, -7));
        assert_eq!(place.links, [("db".to_owned(), "d".to_owned())]);
        assert_eq!((place.mac.as_str(), place.options.len()), ("02:42:ac:11:00:09", 1));
        for (config, said) in [
            (json!({ "IPAMConfig": { "IPv6Address": "10.1.0.9" } }), "invalid IPv6 address: 10.1.0.9"),
            (
                json!({ "IPAMConfig": { "LinkLocalIPs": ["10.1.0.9"] } }),
                "10.1.0.9 is not of 169.254.0.0/16 or fe80::/10",
            ),
            (json!({ "MacAddress": "02:42" }), "invalid MAC address 02:42"),
            (json!({ "Links": ["a:b:c"] }), "bad format for links: a:b:c"),
        ] {
            let body = json!({ "Container": "c1", "EndpointConfig": config });
            let refused = read_connect(&body).expect_err("refused").to_string();
            assert!(refused.starts_with("EndpointConfig.") && refused.contains(said), "{refused}");
        }
        let bad = json!({ "Container": "c1", "EndpointConfig": { "Aliases": ["-x"] } });
        assert_eq!(
            read_connect(&bad).expect_err("refused").to_string(),
            "EndpointConfig.Aliases: \"-x\" is no DNS name"
        );
        // what other clients copy from a container that is there
        let seen = json!({ "Container": "c1", "EndpointConfig": { "Gateway": "10.1.0.1", "IPAddress": "10.1.0.9" } });
        assert_eq!(read_connect(&seen).expect("not looked at").place.address, None);
        assert!(read_disconnect(&json!({ "Force": true })).expect_err("refused").to_string().contains("Container"));
    }
}
