//! No key of the file stands twice, whatever it is of: of two, one would count and nobody could say which. Pure.

use std::{collections::BTreeSet, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, SeqAccess, Visitor},
};

/// JSON of which nothing is kept. Where a key comes a second time reading ends, so that the error has that place.
pub(super) struct Once;

impl<'de> Deserialize<'de> for Once {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Once)
    }
}

impl<'de> Visitor<'de> for Once {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self, A::Error> {
        let mut seen = BTreeSet::new();
        while let Some(key) = map.next_key::<String>()? {
            if seen.contains(&key) {
                return Err(de::Error::custom(format!("duplicate field `{key}`")));
            }
            map.next_value::<Self>()?;
            seen.insert(key);
        }
        Ok(Self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self, A::Error> {
        while items.next_element::<Self>()?.is_some() {}
        Ok(Self)
    }

    fn visit_str<E: de::Error>(self, _: &str) -> Result<Self, E> {
        Ok(Self)
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<Self, E> {
        Ok(Self)
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<Self, E> {
        Ok(Self)
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<Self, E> {
        Ok(Self)
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Self, E> {
        Ok(Self)
    }

    fn visit_unit<E: de::Error>(self) -> Result<Self, E> {
        Ok(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::read;

    /// E-50: whether rswarm has a setting for the key or not, and below keys too.
    #[test]
    fn e_50_a_key_that_stands_twice_is_refused_with_its_place() {
        let refused = |text: &str| read(&[], text).map(drop).expect_err(text);
        assert_eq!(refused(r#"{"debug": true, "debug": true}"#), "duplicate field `debug` at line 1 column 23");
        assert_eq!(
            refused("{\"iptables\": true,\n\"iptables\": true}"),
            "duplicate field `iptables` at line 2 column 10"
        );
        assert_eq!(refused(r#"{"bip6": null, "bip6": ""}"#), "duplicate field `bip6` at line 1 column 21");
        assert!(refused(r#"{"log-opts": {"tag": "a", "tag": "b"}}"#).starts_with("duplicate field `tag` at line 1"));
        assert!(refused(r#"{"hosts": [{"a": 1, "a": 2}]}"#).starts_with("duplicate field `a` at line 1"));
        assert!(refused("{\"debug\": true").contains("EOF while parsing an object"));
        let text = r#"{"mtu": 1400, "icc": false, "cpu-rt-period": 0, "labels": ["a=1"],
            "proxies": {"http-proxy": "", "no-proxy": null}}"#;
        assert_eq!(read(&[], text).map(drop), Ok(()));
    }
}
