//! The networks that every host has: `bridge`, `host` and `none`. Pure.

use image::Digest;

const NAMES: [&str; 3] = ["bridge", "host", "none"];
/// Shorter beginnings of an id are taken for something else's.
const MIN_ID_PREFIX: usize = 12;

/// Its id, in the form of Docker's: 64 hexadecimal digits, the same on every host.
pub fn predefined_network_id(name: &str) -> String {
    Digest::of(format!("network {name}").as_bytes()).hex().to_owned()
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
}
