//! Options that a network's driver does not understand (parity E-31). Pure.
//!
//! They are kept, as in Docker: a file may be written for another driver or a later version too. Whoever gives them is
//! told, so that a slip of the pen is seen.

use types::{IPVLAN_MODE, Labels, NetworkDriver, NetworkSpec};

use super::{
    bridge_options,
    definition::{FLAG, MODE, PARENT},
};

/// Options of overlays, of which a configuration may be too.
const OF_OVERLAYS: [&str; 2] = ["encrypted", "com.docker.network.driver.overlay.vxlanid_list"];

/// A sentence about options that will have no effect. Of drivers that refuse what they do not understand there is none.
pub fn option_warning(spec: &NetworkSpec) -> Option<String> {
    match spec.driver {
        NetworkDriver::Bridge => of_bridge(&spec.options),
        _ if spec.config_only => {
            let of_links = [PARENT, MODE, IPVLAN_MODE, FLAG];
            let known = [&bridge_options::known()[..], &of_links, &OF_OVERLAYS].concat();
            warning(&spec.options, "networks of no driver", &known)
        }
        _ => None,
    }
}

/// The same of a bridge network's options.
pub(super) fn of_bridge(options: &Labels) -> Option<String> {
    warning(options, "bridge networks", &bridge_options::known())
}

fn warning(options: &Labels, who: &str, known: &[&str]) -> Option<String> {
    let unknown: Vec<&str> = options.keys().map(String::as_str).filter(|name| !known.contains(name)).collect();
    let of = if unknown.len() == 1 { "option" } else { "options" };
    (!unknown.is_empty())
        .then(|| format!("{of} {}: {who} know no such option; known are {}", unknown.join(", "), known.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// E-31
    #[test]
    fn e31_options_of_no_effect_are_named() {
        let said = |driver: NetworkDriver, config_only: bool, names: &[&str]| {
            let options = names.iter().map(|name| ((*name).to_owned(), "x".to_owned())).collect();
            let spec = NetworkSpec::overlay("net".parse().expect("name"));
            option_warning(&NetworkSpec { driver, config_only, options, ..spec }).unwrap_or_default()
        };
        let bridge = NetworkDriver::Bridge;
        assert_eq!(said(bridge, false, &[bridge_options::MASQUERADE, "com.docker.network.driver.mtu"]), "");
        let one = said(bridge, false, &["bogus"]);
        assert!(one.starts_with("option bogus: bridge networks know no such option; known are com.docker."), "{one}");
        assert!(one.contains(bridge_options::TALK), "{one}");
        assert!(said(bridge, false, &["encrypted", "fast"]).starts_with("options encrypted, fast: "));
        assert_eq!(said(NetworkDriver::Null, true, &[PARENT, "encrypted", bridge_options::TALK]), "");
        assert!(said(NetworkDriver::Null, true, &["bogus"]).starts_with("option bogus: networks of no driver know"));
        assert_eq!(said(NetworkDriver::Macvlan, false, &["bogus"]), "", "it refuses that");
    }
}
