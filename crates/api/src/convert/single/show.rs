//! A container as `GET /containers/json` and `GET /containers/{id}/json` show it (parity E-23, E-28).

use std::{collections::BTreeSet, net::IpAddr, path::Path};

use node::engine::{
    StorageDriver,
    containers::{
        ContainerStatusView, ContainerView, HealthView, MountPoint, PlaceView, PointKind, host_names,
        spec::NetworkRequest,
    },
    endpoint_id,
};
use serde_json::{Map, Value, json};
use types::{PortBind, PortConfig, PortProtocol, Timestamp};

use super::{show_config, words};
use crate::convert::{time::rfc3339, writer::Fields};

/// Bytes of its own, and with the image's.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    pub(crate) own: u64,
    pub(crate) whole: u64,
}

/// One entry of the list; `image_now` is the id of the image that has now the name by which its own was asked for.
pub(crate) fn summary(view: &ContainerView, image_now: Option<&str>, sizes: Option<Sizes>, now: Timestamp) -> Value {
    let words = [&view.merged.entrypoint[..], &view.merged.command].concat();
    // as Docker has it: the program as it is, behind it what has blanks in quotes
    let quoted = |(at, word): (usize, &String)| match at > 0 && word.contains(' ') {
        true => format!("'{word}'"),
        false => word.clone(),
    };
    let command = words.iter().enumerate().map(quoted).collect::<Vec<_>>().join(" ");
    let is_published = |port: &(u16, &str)| {
        view.state.ports.iter().any(|published| (published.target, published.protocol.as_str()) == *port)
    };
    let closed = exposed(view).filter(|port| !is_published(port));
    let closed = closed.map(|(target, kind)| json!({ "PrivatePort": target, "Type": kind }));
    let ports: Vec<Value> = view.state.ports.iter().flat_map(|port| bound(view, port)).chain(closed).collect();
    let networks: Map<String, Value> = view.places.iter().map(|p| (p.network.clone(), place(view, p))).collect();
    let host_config = Fields::new()
        .set("NetworkMode", show_config::network_mode(&view.spec.network))
        .unless_empty("Annotations", &view.spec.annotations)
        .done();
    Fields::new()
        .set("Id", &view.id)
        .set("Names", [&view.name].into_iter().chain(&view.link_names).map(|n| format!("/{n}")).collect::<Vec<_>>())
        .set("Image", image_name(&view.spec.image, &view.image, image_now))
        .set("ImageID", &view.image)
        .set("Command", command)
        .set("Created", view.created_at.as_unix_ns() / 1_000_000_000)
        .set("Ports", ports)
        .some("SizeRw", sizes.map(|sizes| sizes.own))
        .some("SizeRootFs", sizes.map(|sizes| sizes.whole))
        .set("Labels", &view.merged.labels)
        .set("State", view.status.as_str())
        .set("Status", words::status(view, now))
        .set("HostConfig", host_config)
        .set("NetworkSettings", json!({ "Networks": networks }))
        .set("Mounts", mount_points(view))
        .done()
}

/// The name that an image was asked for by, as long as it means that image; then its id. With a digest it means nothing else.
fn image_name<'a>(asked: &'a str, id: &'a str, now: Option<&str>) -> &'a str {
    let means_it = now == Some(id) || id.is_empty() || asked.contains('@');
    if !asked.is_empty() && means_it { asked } else { id }
}

/// All there is to say.
pub(crate) fn detail(view: &ContainerView, sizes: Option<Sizes>, driver: StorageDriver) -> Value {
    let words = [&view.merged.entrypoint[..], &view.merged.command].concat();
    let (path, arguments) = words.split_first().map_or(("", &[][..]), |(path, rest)| (path.as_str(), rest));
    Fields::new()
        .set("Id", &view.id)
        .set("Created", rfc3339(view.created_at))
        .set("Path", path)
        .set("Args", arguments)
        .set("State", state(view))
        .set("Image", &view.image)
        .set("ResolvConfPath", etc(&view.etc_directory, "resolv.conf"))
        .set("HostnamePath", etc(&view.etc_directory, "hostname"))
        .set("HostsPath", etc(&view.etc_directory, "hosts"))
        .set("LogPath", log_path(view))
        .set("Name", format!("/{}", view.name))
        .set("RestartCount", view.state.restarts)
        .set("Driver", driver.to_string())
        .set("Platform", "linux")
        .set("MountLabel", "")
        .set("ProcessLabel", "")
        .set("AppArmorProfile", "")
        .set("ExecIDs", Value::Null)
        .set("HostConfig", show_config::host_config(view))
        .set("GraphDriver", graph_driver(&view.rootfs, driver))
        .some("SizeRw", sizes.map(|sizes| sizes.own))
        .some("SizeRootFs", sizes.map(|sizes| sizes.whole))
        .set("Mounts", mount_points(view))
        .set("Config", show_config::config(view))
        .set("NetworkSettings", network_settings(view))
        .done()
}

fn etc(directory: &Path, name: &str) -> String {
    directory.join(name).to_string_lossy().into_owned()
}

/// Only of a container that was started, and with the driver whose file others read.
fn log_path(view: &ContainerView) -> String {
    let has_begun = view.state.started_at != Timestamp::EPOCH;
    let is_json = view.spec.log.as_ref().is_none_or(|log| matches!(log.name.as_str(), "" | "json-file"));
    if has_begun && is_json { view.log_path.to_string_lossy().into_owned() } else { String::new() }
}

fn graph_driver(snapshot: &Path, driver: StorageDriver) -> Value {
    let at = |name: &str| snapshot.join(name).to_string_lossy().into_owned();
    let data = match driver {
        StorageDriver::Overlay2 => {
            json!({ "MergedDir": at("rootfs"), "UpperDir": at("diff"), "WorkDir": at("work") })
        }
        StorageDriver::Btrfs | StorageDriver::Vfs => Value::Null,
    };
    json!({ "Name": driver.to_string(), "Data": data })
}

fn state(view: &ContainerView) -> Value {
    use ContainerStatusView::{Paused, Restarting, Running};
    let state = &view.state;
    let is_up = matches!(view.status, Running | Paused | Restarting);
    Fields::new()
        .set("Status", view.status.as_str())
        .set("Running", is_up)
        .set("Paused", view.status == Paused)
        .set("Restarting", view.status == Restarting)
        .set("OOMKilled", state.oom_killed)
        .set("Dead", false)
        .set("Pid", if is_up { state.pid } else { 0 })
        .set("ExitCode", state.exit_code)
        .set("Error", &state.error)
        .set("StartedAt", rfc3339(state.started_at))
        .set("FinishedAt", rfc3339(state.finished_at))
        .some("Health", view.has_health_check.then(|| health(view.health.as_ref())))
        .done()
}

fn health(view: Option<&HealthView>) -> Value {
    let Some(view) = view else {
        return json!({ "Status": "starting", "FailingStreak": 0, "Log": [] });
    };
    let probe = |probe: &node::engine::containers::HealthProbe| {
        json!({ "Start": rfc3339(probe.began_at), "End": rfc3339(probe.ended_at), "ExitCode": probe.exit_code,
            "Output": probe.output })
    };
    let log: Vec<Value> = view.log.iter().map(probe).collect();
    json!({ "Status": view.state.as_str(), "FailingStreak": view.failures, "Log": log })
}

/// A tmpfs that `--tmpfs` asked for is in `HostConfig` alone.
fn mount_points(view: &ContainerView) -> Vec<Value> {
    let is_listed = |point: &&MountPoint| !matches!(point.kind, PointKind::Tmpfs { is_listed: false, .. });
    view.points.iter().filter(is_listed).map(mount_point).collect()
}

fn mount_point(point: &MountPoint) -> Value {
    let fields = Fields::new();
    let fields = match &point.kind {
        PointKind::Bind { source, propagation, .. } => fields
            .set("Type", "bind")
            .set("Source", source)
            .set("Destination", &point.target)
            .set("Propagation", if propagation.is_empty() { "rprivate" } else { propagation }),
        PointKind::Volume { name, source, .. } => fields
            .set("Type", "volume")
            .set("Name", name)
            .set("Source", source)
            .set("Destination", &point.target)
            .set("Driver", "local")
            .set("Propagation", ""),
        PointKind::Image { name, source, .. } => fields
            .set("Type", "image")
            .set("Name", name)
            .set("Source", source)
            .set("Destination", &point.target)
            .set("Propagation", "rprivate"),
        PointKind::Tmpfs { .. } => {
            fields.set("Type", "tmpfs").set("Source", "").set("Destination", &point.target).set("Propagation", "")
        }
    };
    fields.set("Mode", &point.mode).set("RW", !point.read_only).done()
}

/// Ports that nothing is published of.
fn exposed(view: &ContainerView) -> impl Iterator<Item = (u16, &'static str)> {
    let is_up = !matches!(view.status, ContainerStatusView::Created | ContainerStatusView::Exited);
    view.merged.exposed.iter().filter(move |_| is_up).map(|(target, protocol)| (*target, protocol.as_str()))
}

/// Where a port is published: at all addresses is once for each family.
fn addresses(view: &ContainerView, port: &PortConfig) -> Vec<String> {
    // What has no address of IPv6 is reached over it by a process that does not speak SCTP, if there is one.
    let is_relayed = view.host_relays && port.protocol != PortProtocol::Sctp;
    let is_served = is_relayed || view.places.iter().any(|place| place.address6.is_some());
    match &port.bind {
        PortBind::Address(address) => vec![address.to_string()],
        PortBind::All if view.host_has_ipv6 && is_served => vec!["0.0.0.0".to_owned(), "::".to_owned()],
        PortBind::All | PortBind::Interface(_) => vec!["0.0.0.0".to_owned()],
    }
}

fn bound(view: &ContainerView, port: &PortConfig) -> Vec<Value> {
    let at = |address: String| {
        let shown = Fields::new().set("IP", address).set("PrivatePort", port.target);
        // What is routed is on none.
        shown.some("PublicPort", port.published).set("Type", port.protocol.as_str()).done()
    };
    addresses(view, port).into_iter().map(at).collect()
}

/// `{"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}], "443/tcp": null}`; nothing of what does not run.
fn port_map(view: &ContainerView) -> Map<String, Value> {
    let mut map: Map<String, Value> =
        exposed(view).map(|(target, kind)| (format!("{target}/{kind}"), Value::Null)).collect();
    for port in &view.state.ports {
        let number = port.published.map(|number| number.to_string()).unwrap_or_default();
        let binding = |address| json!({ "HostIp": address, "HostPort": number });
        let entry = map.entry(format!("{}/{}", port.target, port.protocol)).or_insert(Value::Null);
        let more = addresses(view, port).into_iter().map(binding);
        match entry {
            Value::Array(bindings) => bindings.extend(more),
            other => *other = Value::Array(more.collect()),
        }
    }
    map
}

fn network_settings(view: &ContainerView) -> Value {
    let networks: Map<String, Value> = view.places.iter().map(|p| (p.network.clone(), place(view, p))).collect();
    let bridge = view.places.iter().find(|place| place.network == "bridge").map(|p| place(view, p));
    let of_bridge = |field: &str, none: Value| bridge.as_ref().map_or(none, |place| place[field].clone());
    // A namespace of its own is called as it is; by the key any is entered (`nsenter --net=KEY`).
    // The host's has a name for each container that is in it.
    let is_anothers = matches!(view.spec.network, NetworkRequest::Container(_));
    let pid = view.state.pid;
    let sandbox = if pid > 0 && !is_anothers { view.id.as_str() } else { "" };
    let key = if pid > 0 { format!("/proc/{pid}/ns/net") } else { String::new() };
    Fields::new()
        .set("Bridge", "")
        .set("SandboxID", sandbox)
        .set("SandboxKey", key)
        .set("Ports", port_map(view))
        .set("HairpinMode", false)
        .set("LinkLocalIPv6Address", "")
        .set("LinkLocalIPv6PrefixLen", 0)
        .set("SecondaryIPAddresses", Value::Null)
        .set("SecondaryIPv6Addresses", Value::Null)
        .set("EndpointID", of_bridge("EndpointID", json!("")))
        .set("Gateway", of_bridge("Gateway", json!("")))
        .set("GlobalIPv6Address", of_bridge("GlobalIPv6Address", json!("")))
        .set("GlobalIPv6PrefixLen", of_bridge("GlobalIPv6PrefixLen", json!(0)))
        .set("IPAddress", of_bridge("IPAddress", json!("")))
        .set("IPPrefixLen", of_bridge("IPPrefixLen", json!(0)))
        .set("IPv6Gateway", of_bridge("IPv6Gateway", json!("")))
        .set("MacAddress", of_bridge("MacAddress", json!("")))
        .set("Networks", networks)
        .done()
}

fn place(view: &ContainerView, place: &PlaceView) -> Value {
    let text = |address: Option<(IpAddr, u8)>| address.map(|(ip, length)| (ip.to_string(), length)).unwrap_or_default();
    let ((ip, length), (ip6, length6)) = (text(place.address), text(place.address6));
    let asked = &place.asked;
    let is_users = !matches!(place.network.as_str(), "bridge" | "host" | "none");
    let names = is_users.then(|| {
        let short = view.id.chars().take(12).collect::<String>();
        let hosts = host_names(&view.merged.hostname, &view.spec.domainname);
        let own = [&view.name].into_iter().chain(&asked.aliases).chain([&short]).chain(&hosts);
        let mut seen = BTreeSet::new();
        own.filter(|name| seen.insert(*name)).cloned().collect::<Vec<_>>()
    });
    let is_asked = asked.address.is_some() || asked.address6.is_some() || !asked.link_local.is_empty();
    let ipam = is_asked.then(|| {
        let fields = Fields::new().some("IPv4Address", asked.address).some("IPv6Address", asked.address6);
        fields.unless_empty("LinkLocalIPs", &asked.link_local).done()
    });
    let aliases = (!asked.aliases.is_empty()).then_some(&asked.aliases);
    let options = (!asked.options.is_empty()).then_some(&asked.options);
    let links = view.spec.links.iter().filter(|_| is_users).chain(&asked.links);
    let links: Vec<String> = links.map(|(other, alias)| format!("{other}:{alias}")).collect();
    let links = (!links.is_empty()).then_some(links);
    json!({
        "IPAMConfig": ipam, "Links": links, "Aliases": aliases, "MacAddress": place.mac, "DriverOpts": options,
        "GwPriority": asked.priority, "NetworkID": place.network_id, "EndpointID": endpoint_of(view, place),
        "Gateway": place.gateway.map(|gateway| gateway.to_string()).unwrap_or_default(), "IPAddress": ip,
        "IPPrefixLen": length, "IPv6Gateway": place.gateway6.map(|gateway| gateway.to_string()).unwrap_or_default(),
        "GlobalIPv6Address": ip6, "GlobalIPv6PrefixLen": length6, "DNSNames": names,
    })
}

/// While it is there.
fn endpoint_of(view: &ContainerView, place: &PlaceView) -> String {
    let is_there = place.address.is_some() || place.address6.is_some();
    match view.spec.network {
        NetworkRequest::Places(_) if is_there => endpoint_id(&place.network_id, &view.id),
        NetworkRequest::Host | NetworkRequest::None if view.state.pid > 0 => endpoint_id(&place.network_id, &view.id),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::image_name;

    /// E-23: whoever looks for images that were replaced sees it by the name.
    #[test]
    fn e_23_a_name_that_moved_is_not_shown() {
        for (asked, id, now, shown) in [
            ("app:1", "sha256:aa", Some("sha256:aa"), "app:1"),
            ("app:1", "sha256:aa", Some("sha256:bb"), "sha256:aa"),
            ("app:1", "sha256:aa", None, "sha256:aa"),
            ("aa", "sha256:aa", Some("sha256:aa"), "aa"),
            ("app:1@sha256:cc", "sha256:aa", None, "app:1@sha256:cc"),
            ("", "sha256:aa", None, "sha256:aa"),
            ("app:1", "", None, "app:1"),
        ] {
            assert_eq!(image_name(asked, id, now), shown, "{asked} {id} {now:?}");
        }
    }
}
