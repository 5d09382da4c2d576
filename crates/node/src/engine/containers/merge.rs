//! What the user asks and what the image says, made one. Pure.

use image::RunConfig;
use types::{PortProtocol, with_causes};

use super::{
    error::ContainerError,
    spec::{NetworkRequest, SingleSpec},
    store::Merged,
};
use crate::engine::{container::merge_env, health};

/// The container's own command and surroundings.
///
/// # Errors
/// Without anything to run.
pub(super) fn merge(spec: &SingleSpec, image: &RunConfig, id: &str, host_name: &str) -> Result<Merged, ContainerError> {
    // One empty word is how clients take the image's entrypoint away.
    let own = spec.entrypoint.as_ref().map(|words| match &words[..] {
        [one] if one.is_empty() => Vec::new(),
        words => words.to_vec(),
    });
    let keeps_images = own.is_none() && spec.command.is_empty();
    let entrypoint = own.unwrap_or_else(|| image.entrypoint.clone());
    let command = if keeps_images { image.cmd.clone() } else { spec.command.clone() };
    if entrypoint.is_empty() && command.is_empty() {
        return Err(ContainerError::invalid(format!(
            "no command specified: neither the request nor the image {} says what to run",
            spec.image
        )));
    }
    let or = |own: &str, other: &str| if own.is_empty() { other.to_owned() } else { own.to_owned() };
    let hostname = match &spec.network {
        _ if spec.uts_of_host => host_name.to_owned(),
        NetworkRequest::Host => or(&spec.hostname, host_name),
        _ => or(&spec.hostname, &id[..12]),
    };
    let mut labels = image.labels.clone();
    labels.extend(spec.labels.clone());
    let mut exposed = spec.exposed.clone();
    exposed.extend(exposed_by(image));
    exposed.extend(spec.ports.iter().map(|port| (port.target, port.protocol)));
    Ok(Merged {
        entrypoint,
        command,
        env: merge_env(&image.env, &spec.env),
        dir: or(&spec.dir, &image.working_dir),
        user: or(&spec.user, &image.user),
        hostname,
        labels,
        stop_signal: or(&spec.stop_signal, &image.stop_signal),
        exposed,
        volumes: image.volumes.keys().cloned().collect(),
        health: health::merged(spec.health.as_ref(), image).map_err(|e| ContainerError::invalid(with_causes(&e)))?,
    })
}

/// The ports that an image says its containers listen on.
pub(in crate::engine) fn exposed_by(image: &RunConfig) -> impl Iterator<Item = (u16, PortProtocol)> {
    image.exposed_ports.keys().filter_map(|text| port(text))
}

/// `80` or `80/udp`.
fn port(text: &str) -> Option<(u16, PortProtocol)> {
    let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = match protocol {
        "tcp" => PortProtocol::Tcp,
        "udp" => PortProtocol::Udp,
        "sctp" => PortProtocol::Sctp,
        _ => return None,
    };
    Some((number.parse().ok()?, protocol))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    /// E-13: the rules of entrypoint and command.
    #[test]
    fn e13_entrypoint_and_command_are_dockers() {
        let image = RunConfig { entrypoint: words("/entry"), cmd: words("serve"), ..RunConfig::default() };
        let id = "0123456789abcdef";
        let run = |entrypoint: Option<&str>, command: &str| {
            let spec = SingleSpec {
                entrypoint: entrypoint.map(|text| if text.is_empty() { vec![String::new()] } else { words(text) }),
                command: words(command),
                ..SingleSpec::default()
            };
            merge(&spec, &image, id, "h").map(|m| [m.entrypoint, m.command].concat().join(" ")).map_err(|e| e.message)
        };
        assert_eq!(run(None, ""), Ok("/entry serve".into()));
        assert_eq!(run(None, "sh -c x"), Ok("/entry sh -c x".into()));
        assert_eq!(run(Some("/mine"), ""), Ok("/mine".into()));
        assert_eq!(run(Some(""), "ls"), Ok("ls".into()));
        assert!(run(Some(""), "").is_err_and(|e| e.starts_with("no command specified")));
    }

    #[test]
    fn hostnames_and_ports_come_together() {
        let mut image = RunConfig { cmd: words("x"), ..RunConfig::default() };
        image.exposed_ports.insert("80".into(), image::Empty {});
        image.exposed_ports.insert("53/udp".into(), image::Empty {});
        let merged = merge(&SingleSpec::default(), &image, "0123456789abcdef", "h").expect("good");
        assert_eq!(merged.hostname, "0123456789ab");
        assert_eq!(merged.exposed.into_iter().collect::<Vec<_>>(), [(53, PortProtocol::Udp), (80, PortProtocol::Tcp)]);
        let spec = SingleSpec { network: NetworkRequest::Host, ..SingleSpec::default() };
        assert_eq!(merge(&spec, &image, "0123456789abcdef", "h").expect("good").hostname, "h");
    }
}
