//! Which containers a list or a prune means (parity E-23: `docker ps --filter`).

use node::{
    engine::containers::{ContainerStatusView, ContainerView, PointKind},
    image::{ImageReference, Store},
};
use types::{Filters, Timestamp};

use super::list::now;
use crate::{
    convert::time,
    error::{ApiError, ApiResult},
    routes::label_filter,
};

const OF_LIST: [&str; 16] = [
    "ancestor",
    "before",
    "exited",
    "expose",
    "health",
    "id",
    "is-task",
    "isolation",
    "label",
    "name",
    "network",
    "publish",
    "since",
    "status",
    "volume",
    "label!",
];
const OF_PRUNE: [&str; 3] = ["label", "label!", "until"];
const STATES: [&str; 7] = ["created", "restarting", "running", "removing", "paused", "exited", "dead"];
const HEALTHS: [&str; 4] = ["starting", "healthy", "unhealthy", "none"];

/// Values of one key are alternatives, except labels, which all must be there; all keys must fit.
pub(super) struct Filter {
    wanted: Filters,
    before: Option<Timestamp>,
    since: Option<Timestamp>,
    /// Layers of the images that were named as ancestors.
    ancestors: Vec<Vec<String>>,
    layers: std::collections::BTreeMap<String, Vec<String>>,
}

/// # Errors
/// Names the filter of a prune that is not known, or the value that is wrong.
pub(crate) fn check_prune(wanted: &Filters) -> ApiResult<()> {
    Filter::of_prune(wanted).map(drop)
}

impl Filter {
    pub(super) fn of_list(wanted: &Filters, views: &[ContainerView], images: &Store) -> ApiResult<Self> {
        check_keys(wanted, &OF_LIST)?;
        check_values(wanted, "status", &STATES)?;
        check_values(wanted, "health", &HEALTHS)?;
        check_values(wanted, "is-task", &["true", "false", "1", "0"])?;
        for code in wanted.get("exited").into_iter().flatten() {
            code.parse::<i32>().map_err(|_| invalid("exited", code, "give an exit code"))?;
        }
        let moment = |key: &str| -> ApiResult<Option<Timestamp>> {
            let Some(name) = wanted.get(key).and_then(|values| values.first()) else { return Ok(None) };
            // a name may be the beginning of another one's id
            let named = views.iter().find(|view| view.name == bare(name));
            let found = named.or_else(|| views.iter().find(|view| view.id.starts_with(name.as_str())));
            let found = found.ok_or_else(|| ApiError::not_found(format!("No such container: {name}")))?;
            Ok(Some(found.created_at))
        };
        let ancestors = wanted.get("ancestor").into_iter().flatten();
        let ancestors = ancestors.filter_map(|name| layers_of(images, name)).collect();
        let layers = match wanted.contains_key("ancestor") {
            false => std::collections::BTreeMap::new(),
            true => views.iter().filter_map(|v| Some((v.image.clone(), layers_of(images, &v.image)?))).collect(),
        };
        Ok(Self { before: moment("before")?, since: moment("since")?, wanted: wanted.clone(), ancestors, layers })
    }

    pub(super) fn of_prune(wanted: &Filters) -> ApiResult<Self> {
        check_keys(wanted, &OF_PRUNE)?;
        let before = match wanted.get("until").map(Vec::as_slice) {
            None | Some([]) => None,
            Some([text]) => Some(until(text)?),
            Some(_) => return Err(ApiError::bad_request("invalid filter 'until': give it once")),
        };
        let (ancestors, layers) = (Vec::new(), std::collections::BTreeMap::new());
        Ok(Self { wanted: wanted.clone(), before, since: None, ancestors, layers })
    }

    /// Docker shows what ended when it is asked for by what only such a container has.
    pub(super) fn asks_for_ended(&self) -> bool {
        ["status", "exited", "before", "since"].iter().any(|key| self.wanted.contains_key(*key))
    }

    pub(super) fn prunes(&self, view: &ContainerView) -> bool {
        self.has_labels(view) && self.before.is_none_or(|before| view.created_at < before)
    }

    pub(super) fn lists(&self, view: &ContainerView) -> bool {
        let any = |key: &str, fits: &dyn Fn(&str) -> bool| {
            self.wanted.get(key).is_none_or(|values| values.iter().any(|value| fits(value)))
        };
        let health = match (&view.health, view.status) {
            (Some(health), ContainerStatusView::Running | ContainerStatusView::Paused) => health.state.as_str(),
            _ => "none",
        };
        let has_ended = view.status == ContainerStatusView::Exited;
        any("id", &|prefix| view.id.starts_with(prefix))
            && any("name", &|part| names(&view.name, part))
            && any("status", &|state| view.status.as_str() == state)
            && any("health", &|wanted| wanted == health)
            && any("is-task", &|wanted| matches!(wanted, "true" | "1") == view.is_task)
            && any("exited", &|code| has_ended && code == view.state.exit_code.to_string())
            && any("network", &|wanted| {
                view.places.iter().any(|p| p.network == wanted || p.network_id.starts_with(wanted))
            })
            && any("volume", &|wanted| mounts(view, wanted))
            && any("publish", &|port| publishes(view, port))
            && any("expose", &|port| exposes(view, port))
            && any("ancestor", &|name| self.descends(view, name))
            && self.has_labels(view)
            && self.before.is_none_or(|before| view.created_at < before)
            && self.since.is_none_or(|since| view.created_at > since)
    }

    fn has_labels(&self, view: &ContainerView) -> bool {
        let labels = &view.merged.labels;
        let has = |wanted: &String| match wanted.split_once('=') {
            Some((name, value)) => labels.get(name).is_some_and(|own| own == value),
            None => labels.contains_key(wanted),
        };
        self.wanted.get("label").is_none_or(|wanted| wanted.iter().all(has))
            && !self.wanted.get("label!").is_some_and(|unwanted| unwanted.iter().any(has))
    }

    fn descends(&self, view: &ContainerView, name: &str) -> bool {
        let full = |text: &str| text.parse::<ImageReference>().map(ImageReference::with_default_tag).ok();
        let same = full(name).is_some_and(|name| full(&view.spec.image) == Some(name));
        let by_id =
            name.len() >= 4 && view.image.trim_start_matches("sha256:").starts_with(name.trim_start_matches("sha256:"));
        let own = self.layers.get(&view.image);
        let on_top =
            || own.is_some_and(|own| self.ancestors.iter().any(|base| !base.is_empty() && own.starts_with(base)));
        same || by_id || on_top()
    }
}

fn layers_of(images: &Store, name: &str) -> Option<Vec<String>> {
    let detail = images.inspect(name).ok()?;
    Some(detail.config.rootfs.diff_ids.iter().map(ToString::to_string).collect())
}

fn bare(name: &str) -> &str {
    name.strip_prefix('/').unwrap_or(name)
}

/// With Docker's `/` before it or not.
fn names(name: &str, pattern: &str) -> bool {
    label_filter::fits_name(name, pattern) || label_filter::fits_name(&format!("/{name}"), pattern)
}

fn mounts(view: &ContainerView, wanted: &str) -> bool {
    view.points.iter().any(|point| {
        let source = match &point.kind {
            PointKind::Volume { name, .. } | PointKind::Image { name, .. } => name.as_str(),
            PointKind::Bind { source, .. } => source.as_str(),
            PointKind::Tmpfs { .. } => "",
        };
        source == wanted || point.target == wanted
    })
}

/// `80`, `80/udp`, `8000-8010/tcp`.
fn range(text: &str) -> Option<(u16, u16, &str)> {
    let (numbers, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let (first, last) = numbers.split_once('-').unwrap_or((numbers, numbers));
    Some((first.parse().ok()?, last.parse().ok()?, protocol))
}

fn publishes(view: &ContainerView, port: &str) -> bool {
    let Some((first, last, protocol)) = range(port) else { return false };
    let fits = |number: u16| (first..=last).contains(&number);
    view.state.ports.iter().any(|port| port.protocol.as_str() == protocol && port.published.is_some_and(fits))
}

fn exposes(view: &ContainerView, port: &str) -> bool {
    let Some((first, last, protocol)) = range(port) else { return false };
    view.merged.exposed.iter().any(|(port, kind)| kind.as_str() == protocol && (first..=last).contains(port))
}

/// A time, or how long ago: `24h`, `10m30s`.
fn until(text: &str) -> ApiResult<Timestamp> {
    time::parse_or_ago(text, now()).map_err(|why| invalid("until", text, &why))
}

fn check_keys(wanted: &Filters, known: &[&str]) -> ApiResult<()> {
    match wanted.keys().find(|key| !known.contains(&key.as_str())) {
        Some(key) => Err(ApiError::bad_request(format!("invalid filter '{key}': known are {}", known.join(", ")))),
        None => Ok(()),
    }
}

fn check_values(wanted: &Filters, key: &str, known: &[&str]) -> ApiResult<()> {
    let bad = wanted.get(key).into_iter().flatten().find(|value| !known.contains(&value.as_str()));
    bad.map_or(Ok(()), |value| Err(invalid(key, value, &format!("use one of {}", known.join(", ")))))
}

fn invalid(key: &str, value: &str, why: &str) -> ApiError {
    ApiError::bad_request(format!("invalid filter '{key}={value}': {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e_23_names_and_ranges() {
        for (name, pattern, fits) in [
            ("web", "we", true),
            ("web", "^/web$", true),
            ("web2", "^web$", false),
            ("my-web", "^web", false),
            ("my-web", "web$", true),
        ] {
            assert_eq!(names(name, pattern), fits, "{name} {pattern}");
        }
        assert_eq!(range("8000-8010/udp"), Some((8000, 8010, "udp")));
        assert_eq!(range("80"), Some((80, 80, "tcp")));
        assert_eq!(range("web"), None);
    }

    #[test]
    fn e_23_unknown_filters_are_refused() {
        let filters = |key: &str, value: &str| Filters::from([(key.to_owned(), vec![value.to_owned()])]);
        let error = Filter::of_prune(&filters("name", "x")).err().expect("unknown").message;
        assert_eq!(error, "invalid filter 'name': known are label, label!, until");
        assert!(Filter::of_prune(&filters("until", "soon")).err().expect("no time").message.contains("until=soon"));
        let day = Filter::of_prune(&filters("until", "24h")).expect("a duration").before.expect("a moment");
        assert!(now().since(day).as_secs().abs_diff(86_400) < 60);
    }
}
