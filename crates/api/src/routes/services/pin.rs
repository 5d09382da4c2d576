//! The image of a service, looked up once for all its tasks: name to `name@digest`, and the platforms it is for.
//!
//! Called by create and update when the request asks for it, as rswarm's command line does; Docker's own looks up by
//! itself since API 1.30, through `/distribution`. A registry that does not answer refuses no new service: it is
//! made with the name alone, and the answer warns. An update of what came from that registry is refused: to fall back to
//! a tag would replace tasks that run by whatever each node has under it (P48).

use std::time::Duration;

use axum::http::HeaderMap;
use node::image::{Credentials, Resolved};
use types::{ImageReference, Platform, PullPolicy, ServiceSpec};

use crate::{error::ApiError, query::Query, router::Shared, routes::distribution};

/// Docker gives its whole request as long (`swarmRequestTimeout`).
const PATIENCE: Duration = Duration::from_secs(20);
/// From this version on Docker's clients look up by themselves.
const LOOKS_UP_ITSELF: (u32, u32) = (1, 30);
/// Set to 1 for the daemon, it keeps names as they are (parity S-20).
const PREFER_OFFLINE: &str = "DOCKER_SERVICE_PREFER_OFFLINE_IMAGE";

/// Whether the client wants the registry asked.
pub(super) fn is_asked(query: &Query, headers: &HeaderMap) -> bool {
    let client = headers.get("version").and_then(|version| version.to_str().ok()).and_then(version);
    let asked = query.flag("queryRegistry") || client.is_some_and(|version| version < LOOKS_UP_ITSELF);
    asked && std::env::var_os(PREFER_OFFLINE).is_none_or(|value| value != "1")
}

fn version(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.trim().split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// Looks up the image and puts what was found into the spec; gives the warnings.
///
/// # Errors
/// An image of the same repository was found before, and now none is.
pub(super) async fn pin(
    shared: &Shared,
    spec: &mut ServiceSpec,
    previous: Option<&ServiceSpec>,
    credentials: Option<Credentials>,
) -> Result<Vec<String>, ApiError> {
    if spec.steering().is_ok_and(|steering| steering.pull == PullPolicy::Never) {
        return Ok(Vec::new());
    }
    let reference = spec.task.container.image.clone();
    let looking = distribution::look_up(shared, &reference, credentials);
    let failed = match tokio::time::timeout(PATIENCE, looking).await {
        Ok(Ok(found)) => {
            found_as(spec, previous, &found);
            return Ok(Vec::new());
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("the registry did not answer within {} s", PATIENCE.as_secs()),
    };
    if let Some(why) = falls_back(spec, previous, &failed) {
        return Err(ApiError::unavailable(why));
    }
    tracing::info!(image = reference.familiar(), reason = failed, "image not pinned to a digest");
    Ok(not_found(spec, previous))
}

/// Why the service is not given a bare tag in place of what it has.
fn falls_back(spec: &ServiceSpec, previous: Option<&ServiceSpec>, failed: &str) -> Option<String> {
    let wanted = &spec.task.container.image;
    let present = &previous?.task.container.image;
    let is_bare = wanted.digest.is_none() && present.digest.is_some() && wanted.name() == present.name();
    is_bare.then(|| {
        format!(
            "image {} was not found at its registry: {failed}; service {} stays as it is, with {}: try again when the \
             registry answers, or let each node look for the tag by itself with --no-resolve-image",
            wanted.familiar(),
            spec.name,
            present.familiar()
        )
    })
}

/// What the registry has is what all tasks get.
fn found_as(spec: &mut ServiceSpec, previous: Option<&ServiceSpec>, found: &Resolved) {
    let container = &mut spec.task.container;
    if container.image.digest.is_none() {
        container.image.digest = Some(found.digest.to_string());
    }
    if !has_own_platforms(spec, previous) {
        spec.task.placement.platforms = platforms(found);
    }
}

fn not_found(spec: &mut ServiceSpec, previous: Option<&ServiceSpec>) -> Vec<String> {
    let image = &spec.task.container.image;
    // of another image: they say nothing of this one
    let is_new = previous.is_some_and(|before| before.task.container.image != *image);
    let warnings = if image.digest.is_some() { Vec::new() } else { vec![warning(image)] };
    if is_new && !has_own_platforms(spec, previous) {
        spec.task.placement.platforms.clear();
    }
    warnings
}

/// Whether somebody chose the platforms, rather than an earlier look at the image.
fn has_own_platforms(spec: &ServiceSpec, previous: Option<&ServiceSpec>) -> bool {
    let given = &spec.task.placement.platforms;
    // no image says this of itself
    given.iter().any(Platform::is_any)
        || !given.is_empty() && previous.is_none_or(|before| before.task.placement.platforms != *given)
}

fn platforms(found: &Resolved) -> Vec<Platform> {
    let mut all: Vec<Platform> = Vec::new();
    for platform in &found.platforms {
        let variant = platform.variant.as_deref().unwrap_or_default();
        let platform = Platform::new(&platform.os, &platform.architecture, variant);
        if !all.contains(&platform) {
            all.push(platform);
        }
    }
    all
}

/// In Docker's words.
fn warning(image: &ImageReference) -> String {
    let name = image.familiar();
    format!(
        "image {name} could not be accessed on a registry to record\nits digest. Each node will access {name} \
         independently,\npossibly leading to different nodes running different\nversions of the image.\n"
    )
}

#[cfg(test)]
mod tests {
    use node::image::{Digest, Platform as Offered};

    use super::*;
    use crate::convert::service::{Given, read};

    fn spec(image: &str, platforms: &[&str]) -> ServiceSpec {
        let body = serde_json::json!({
            "Name": "web", "TaskTemplate": { "ContainerSpec": { "Image": image } },
        });
        let mut spec = read(&body, Given::default()).expect("a spec");
        let platform = |text: &&str| Platform::new("linux", text, "");
        spec.task.placement.platforms = platforms.iter().map(platform).collect();
        spec
    }

    fn found(platforms: &[(&str, Option<&str>)]) -> Resolved {
        let offered = |(name, variant): &(&str, Option<&str>)| Offered::new("linux", name, *variant);
        let platforms = platforms.iter().map(offered).collect();
        Resolved { digest: Digest::of(b"index"), media_type: String::new(), size: 5, platforms }
    }

    fn shown(spec: &ServiceSpec) -> String {
        let name = |platform: &Platform| platform.to_string().trim_start_matches("linux/").to_owned();
        let names: Vec<String> = spec.task.placement.platforms.iter().map(name).collect();
        format!("{} [{}]", spec.task.container.image.familiar(), names.join(" "))
    }

    #[test]
    fn s_20_a_name_gets_the_digest_and_keeps_one_it_has() {
        let digest = Digest::of(b"index");
        let mut web = spec("reg:5000/web:1", &[]);
        found_as(&mut web, None, &found(&[("amd64", None)]));
        assert_eq!(shown(&web), format!("reg:5000/web:1@{digest} [amd64]"));
        let own = format!("web:1@{}", Digest::of(b"other"));
        let mut web = spec(&own, &[]);
        found_as(&mut web, None, &found(&[]));
        assert_eq!(shown(&web), format!("{own} []"));
        assert_eq!(not_found(&mut web, None), Vec::<String>::new(), "it is pinned already");
    }

    #[test]
    fn p48_what_is_pinned_does_not_fall_back_to_a_tag() {
        let digest = Digest::of(b"index");
        let pinned = spec(&format!("reg:5000/web:1@{digest}"), &[]);
        let why = |image: &str, before: &ServiceSpec| falls_back(&spec(image, &[]), Some(before), "connection refused");
        for image in ["reg:5000/web:1", "reg:5000/web:2"] {
            let why = why(image, &pinned).expect(image);
            assert!(
                why.starts_with(&format!("image {image} was not found at its registry: connection refused")),
                "{why}"
            );
            assert!(why.contains(&format!("with reg:5000/web:1@{digest}: try again")), "{why}");
        }
        assert_eq!(why(&format!("reg:5000/web:1@{digest}"), &pinned), None, "it is pinned");
        assert_eq!(why("other:5000/web:1", &pinned), None, "another image");
        assert_eq!(why("reg:5000/web:1", &spec("reg:5000/web:1", &[])), None, "it was a tag before");
    }

    #[test]
    fn s_33_platforms_come_from_the_image_unless_somebody_chose_them() {
        let both = found(&[("amd64", None), ("arm", Some("v6")), ("arm", Some("v7"))]);
        let platforms = |mut spec: ServiceSpec, previous: Option<&ServiceSpec>| {
            found_as(&mut spec, previous, &both);
            shown(&spec).split_once(" [").map(|(_, list)| list.trim_end_matches(']').to_owned())
        };
        let is = |text: &str| Some(text.to_owned());
        assert_eq!(platforms(spec("web", &[]), None), is("amd64 arm/v6 arm/v7"));
        assert_eq!(platforms(spec("web", &["s390x"]), None), is("s390x"));
        let before = spec("web", &["s390x"]);
        assert_eq!(
            platforms(spec("web", &["s390x"]), Some(&before)),
            is("amd64 arm/v6 arm/v7"),
            "they were of the image before"
        );
        assert_eq!(platforms(spec("web", &["riscv64"]), Some(&before)), is("riscv64"));
        let mut any = spec("web", &[]);
        any.task.placement.platforms = vec![Platform::any()];
        let same = any.clone();
        assert_eq!(platforms(any, Some(&same)), is("any/any"), "P47: who knows better is believed");
        let mut other = spec("mine", &["s390x"]);
        assert_eq!(not_found(&mut other, Some(&before)).len(), 1);
        assert_eq!(shown(&other), "mine:latest []", "they were of the image before");
    }

    #[test]
    fn s_20_the_registry_is_asked_for_those_who_do_not_ask_themselves() {
        let asked = |query: &str, version: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            headers.extend(version.map(|version| {
                (axum::http::HeaderName::from_static("version"), axum::http::HeaderValue::from_static(version))
            }));
            is_asked(&Query::parse(query), &headers)
        };
        assert!(asked("queryRegistry=true", None) && asked("queryRegistry=1", Some("1.47")));
        assert!(asked("", Some("1.29")) && asked("", Some("1.5")));
        assert!(!asked("", None) && !asked("", Some("1.30")) && !asked("queryRegistry=0", Some("1.52")));
        assert!(!asked("", Some("new")));
    }
}
