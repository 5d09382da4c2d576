//! Options that bridge networks get where they do not say otherwise: `default-network-opts` of `daemon.json` (parity E-50).
//! Pure.

use overlay::MTU_RANGE;
use types::Labels;

use super::{
    bridge_options::{BRIDGE_NAME, bridge},
    definition::{ENABLED, MTU},
    unknown_options,
};

/// Of networks that are made from then on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BridgeDefaults(pub Labels);

impl BridgeDefaults {
    /// Whether bridge networks can have them.
    ///
    /// # Errors
    /// A sentence that begins with the option.
    pub fn check(&self) -> Result<(), String> {
        let Self(options) = self;
        if let Some(name) = options.get(BRIDGE_NAME) {
            return Err(format!(
                "option {BRIDGE_NAME}={name}: two networks cannot have bridges of one name; leave it out"
            ));
        }
        for (at, name) in ENABLED.iter().enumerate() {
            match (options.get(*name).map(String::as_str), at) {
                (None | Some("true" | "1"), _) | (Some("false" | "0"), 1) => {}
                (Some("false" | "0"), _) => {
                    return Err(format!("option {name}: every network has IPv4 addresses; leave it out"));
                }
                (Some(value), _) => return Err(format!("option {name}: {value:?} is neither true nor false")),
            }
        }
        for (name, value) in MTU.iter().filter_map(|name| options.get_key_value(*name)) {
            if !value.parse().is_ok_and(|mtu: u32| MTU_RANGE.contains(&mtu)) {
                let (least, most) = (MTU_RANGE.start(), MTU_RANGE.end());
                return Err(format!("option {name}: {value:?} is no MTU; give {least} to {most}"));
            }
        }
        // Nobody would be told of a slip here.
        unknown_options::of_bridge(options).map_or(Ok(()), Err)?;
        bridge(options).map(drop)
    }

    /// Adds to the options of a network those that it does not have itself; the MTU has two names.
    pub fn fill(&self, options: &mut Labels) {
        let says_mtu = MTU.iter().any(|name| options.contains_key(*name));
        for (name, value) in &self.0 {
            if !(says_mtu && MTU.contains(&name.as_str())) {
                options.entry(name.clone()).or_insert_with(|| value.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    /// E-50
    #[test]
    fn e_50_bridge_networks_get_options_that_they_do_not_name() {
        let defaults = BridgeDefaults(options(&[(MTU[0], "1400"), ("com.docker.network.bridge.enable_icc", "false")]));
        assert_eq!(defaults.check(), Ok(()));
        let filled = |pairs: &[(&str, &str)]| {
            let mut own = options(pairs);
            defaults.fill(&mut own);
            own
        };
        assert_eq!(filled(&[]), defaults.0);
        let own = [("mtu", "9000"), ("com.docker.network.bridge.enable_icc", "true")];
        assert_eq!(filled(&own), options(&own));
        let refused = |pair: (&str, &str)| BridgeDefaults(options(&[pair])).check().expect_err("refused");
        assert!(refused(("speed", "high")).contains("bridge networks know no such option"));
        assert!(refused((BRIDGE_NAME, "br1")).contains("leave it out"));
        assert!(refused((MTU[1], "many")).contains("is no MTU"));
        assert!(refused((ENABLED[0], "false")).contains("every network has IPv4"));
        assert!(refused((ENABLED[1], "perhaps")).contains("neither true nor false"));
        assert_eq!(BridgeDefaults(options(&[(ENABLED[1], "false")])).check(), Ok(()));
    }
}
