//! `?filters=` of networks. Values of one key are alternatives, except labels; an unknown key is
//! refused. Here rather than with the managers, since the networks of this host are filtered too.

use node::engine::{host_network_id, predefined_network_id};
use types::{Filters, Labels, Network, Timestamp};

use crate::{
    convert::{network::driver_name, time},
    error::{ApiError, ApiResult},
    routes::label_filter,
};

/// What filters look at.
#[derive(Debug)]
pub(crate) struct Subject<'a> {
    id: String,
    name: &'a str,
    driver: &'a str,
    scope: &'static str,
    labels: Option<&'a Labels>,
    created: Timestamp,
    is_builtin: bool,
    used: bool,
}

impl<'a> Subject<'a> {
    /// One of this host alone.
    pub(crate) fn local(network: &'a Network, used: bool) -> Self {
        Self { scope: "local", id: host_network_id(network.id), ..Self::of(network, used) }
    }

    pub(crate) fn of(network: &'a Network, used: bool) -> Self {
        Self {
            id: network.id.to_string(),
            name: network.spec.name.as_str(),
            driver: driver_name(network.spec.driver),
            scope: "swarm",
            labels: Some(&network.spec.labels),
            created: network.meta.created_at,
            is_builtin: false,
            used,
        }
    }

    /// Every node's own: always there, never dangling.
    pub(crate) fn predefined(name: &'a str, driver: &'a str) -> Self {
        let (id, created) = (predefined_network_id(name), Timestamp::EPOCH);
        Self { id, name, driver, scope: "local", labels: None, created, is_builtin: true, used: true }
    }
}

/// Filters, checked.
#[derive(Debug)]
pub(crate) struct Criteria<'a> {
    filters: &'a Filters,
    dangling: Option<bool>,
    until: Option<Timestamp>,
}

/// # Errors
/// Names the key that is not known, and those that are.
pub(crate) fn check_keys(filters: &Filters, known: &[&str]) -> ApiResult<()> {
    match filters.keys().find(|key| !known.contains(&key.as_str())) {
        Some(key) => {
            Err(ApiError::bad_request(format!("invalid filter '{key}' for networks: known are {}", known.join(", "))))
        }
        None => Ok(()),
    }
}

impl<'a> Criteria<'a> {
    pub(crate) fn read(filters: &'a Filters) -> ApiResult<Self> {
        let last = |key: &str| filters.get(key).and_then(|values| values.last());
        let dangling = match last("dangling").map(|value| value.to_ascii_lowercase()).as_deref() {
            None => None,
            Some("true" | "1") => Some(true),
            Some("false" | "0") => Some(false),
            Some(other) => {
                return Err(ApiError::bad_request(format!("invalid filter 'dangling={other}': use true or false")));
            }
        };
        for (key, known) in [("scope", ["local", "swarm", "global"].as_slice()), ("type", &["builtin", "custom"])] {
            let unknown = filters.get(key).into_iter().flatten().find(|value| !known.contains(&value.as_str()));
            if let Some(value) = unknown {
                let known = known.join(", ");
                return Err(ApiError::bad_request(format!("invalid filter '{key}={value}': known are {known}")));
            }
        }
        let until = last("until").map(|text| time::parse_or_ago(text, time::now())).transpose();
        let until = until.map_err(|why| ApiError::bad_request(format!("invalid filter 'until': {why}")))?;
        Ok(Self { filters, dangling, until })
    }

    /// Whether it matters which networks are in use.
    pub(crate) fn asks_for_use(&self) -> bool {
        self.dangling.is_some()
    }

    pub(crate) fn fits(&self, subject: &Subject<'_>) -> bool {
        let kind = if subject.is_builtin { "builtin" } else { "custom" };
        self.any("id", |value| subject.id.starts_with(value))
            && self.any("name", |value| label_filter::fits_name(subject.name, value))
            && self.any("driver", |value| subject.driver == value)
            && self.any("scope", |value| subject.scope == value)
            && self.any("type", |value| kind == value)
            && self.values("label").all(|wanted| has_label(subject, wanted))
            && !self.values("label!").any(|unwanted| has_label(subject, unwanted))
            && self.dangling.is_none_or(|dangling| dangling != subject.used)
            && self.until.is_none_or(|until| subject.created < until)
    }

    fn values(&self, key: &str) -> impl Iterator<Item = &str> {
        self.filters.get(key).into_iter().flatten().map(String::as_str)
    }

    fn any(&self, key: &str, fits: impl Fn(&str) -> bool) -> bool {
        self.filters.get(key).is_none_or(|values| values.is_empty() || values.iter().any(|value| fits(value)))
    }
}

fn has_label(subject: &Subject<'_>, wanted: &str) -> bool {
    let Some(labels) = subject.labels else { return false };
    match wanted.split_once('=') {
        Some((name, value)) => labels.get(name).is_some_and(|found| found == value),
        None => labels.contains_key(wanted),
    }
}
