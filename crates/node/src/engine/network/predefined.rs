//! Ids in the form of Docker's: of networks that end at a host, those that every host has (`bridge`, `host` and `none`)
//! and users' own, and of endpoints. Pure.

use image::Digest;
use types::NetworkId;

const NAMES: [&str; 3] = ["bridge", "host", "none"];
/// Shorter beginnings of an id are taken for something else's.
const MIN_ID_PREFIX: usize = 12;

/// Its id, in the form of Docker's: 64 hexadecimal digits, the same on every host.
pub fn predefined_network_id(name: &str) -> String {
    hex(name)
}

/// The id by which clients know a network of one host alone. The other text of it, which clients of before knew, goes on
/// to mean it.
pub fn host_network_id(id: NetworkId) -> String {
    hex(&id.to_string())
}

/// The bridge of such a network, called as Docker calls it: people and their firewalls look for it by the id.
pub(super) fn host_bridge_name(id: NetworkId) -> String {
    format!("br-{}", &host_network_id(id)[..12])
}

/// The id of a container's endpoint in a network, both by the ids that clients know.
pub fn endpoint_id(network: &str, container: &str) -> String {
    Digest::of(format!("endpoint {network} {container}").as_bytes()).hex().to_owned()
}

fn hex(what: &str) -> String {
    Digest::of(format!("network {what}").as_bytes()).hex().to_owned()
}

/// The name of the one that is meant by its name, its id or the beginning of its id.
pub fn predefined_network(text: &str) -> Option<&'static str> {
    let is_meant =
        |name: &&str| text == *name || (text.len() >= MIN_ID_PREFIX && predefined_network_id(name).starts_with(text));
    NAMES.into_iter().find(is_meant)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// E-31
    #[test]
    fn e_31_networks_of_every_host_have_ids() {
        for name in NAMES {
            let id = predefined_network_id(name);
            assert_eq!(
                (id.len(), predefined_network(&id), predefined_network(&id[..12])),
                (64, Some(name), Some(name))
            );
            assert_eq!((predefined_network(name), predefined_network(&id[..11])), (Some(name), None));
        }
        assert_eq!((predefined_network(""), predefined_network("default")), (None, None));
    }

    /// E-31: what a bridge is called has room in the name of a link.
    #[test]
    fn e_31_networks_of_one_host_have_ids_like_dockers() {
        let [one, other] = [1, 2].map(|random| host_network_id(NetworkId::from_random(random)));
        assert!(one.len() == 64 && one.bytes().all(|byte| byte.is_ascii_hexdigit()) && one != other, "{one}");
        assert_eq!(host_bridge_name(NetworkId::from_random(1)), format!("br-{}", &one[..12]));
        assert_eq!(overlay::bridge_name_problem(&host_bridge_name(NetworkId::from_random(1))), None);
    }
}
