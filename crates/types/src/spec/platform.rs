//! Platforms (`linux/arm/v7`) and what runs where (P47).
//!
//! Read by the scheduler, and by what describes a host. What of an image's index a host takes is `image`'s.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Operating system, architecture and variant in Go's words (`linux`, `arm`, `v7`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Platform {
    pub os: String,
    pub architecture: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub variant: String,
}

/// What stands for all platforms where somebody knows better than the image.
const ANY: &str = "any";
/// In an index: an attestation about an image, no image.
const UNKNOWN: &str = "unknown";
/// No part of a platform's name is longer.
const MAX_PART: usize = 32;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no platform; write os/architecture or os/architecture/variant (linux/arm64, linux/arm/v7), or any")]
pub struct PlatformError(String);

impl Platform {
    pub fn new(os: &str, architecture: &str, variant: &str) -> Self {
        Self { os: os.to_owned(), architecture: architecture.to_owned(), variant: variant.to_owned() }
    }

    /// Runs everywhere, whatever the image says of itself.
    pub fn any() -> Self {
        Self::new(ANY, ANY, "")
    }

    pub fn is_any(&self) -> bool {
        self.os == ANY || self.architecture == ANY
    }

    /// Of what is no image at all.
    pub fn is_unknown(&self) -> bool {
        self.os == UNKNOWN || self.architecture == UNKNOWN
    }

    /// Go's words for an architecture that has several names, and its variant.
    pub fn normal(&self) -> Self {
        let (architecture, implied) = match self.architecture.to_ascii_lowercase().as_str() {
            "x86_64" | "x86-64" => ("amd64".to_owned(), ""),
            "aarch64" => ("arm64".to_owned(), ""),
            "armhf" | "armv7l" | "armv8l" => ("arm".to_owned(), "v7"),
            "armel" | "armv6l" => ("arm".to_owned(), "v6"),
            "i386" | "i486" | "i586" | "i686" | "x86" => ("386".to_owned(), ""),
            "powerpc64le" => ("ppc64le".to_owned(), ""),
            "loongarch64" => ("loong64".to_owned(), ""),
            other => (other.to_owned(), ""),
        };
        let variant = self.variant.to_ascii_lowercase();
        let variant = match variant.strip_prefix('v').unwrap_or(&variant) {
            "" => implied.to_owned(),
            number => format!("v{number}"),
        };
        Self { os: self.os.to_ascii_lowercase(), architecture, variant }
    }

    /// The architecture in the kernel's words (`uname -m`), as Docker's nodes tell it.
    pub fn machine(&self) -> String {
        let normal = self.normal();
        match (normal.architecture.as_str(), normal.variant.as_str()) {
            ("amd64", _) => "x86_64",
            ("arm64", _) => "aarch64",
            ("arm", "v5" | "v6") => "armv6l",
            ("arm", _) => "armv7l",
            ("386", _) => "i686",
            ("loong64", _) => "loongarch64",
            (other, _) => other,
        }
        .to_owned()
    }

    /// Whether programs for this platform run on a host of platform `host`, by the table of variants: a processor runs what
    /// was built for it and for older ones. Where a program does not say its variant, it is one for all.
    pub fn runs_on(&self, host: &Self) -> bool {
        let (image, host) = (self.normal(), host.normal());
        let os = image.os.is_empty() || image.os == host.os;
        let architecture = image.architecture.is_empty() || image.architecture == host.architecture;
        os && architecture
            && match (image.level(), host.level()) {
                (_, None) | (None, _) => image.variant.is_empty() || image.variant == host.variant,
                (Some(image), Some(host)) => image <= host,
            }
    }

    /// The variant as a number, where variants are ordered.
    fn level(&self) -> Option<u32> {
        let number = self.variant.strip_prefix('v').and_then(|rest| rest.split('.').next()?.parse().ok());
        match (self.architecture.as_str(), self.variant.is_empty()) {
            ("amd64", true) => Some(1),
            ("arm64", true) => Some(8),
            // of a host that does not tell, or an image that does not: all there ever were images for run where the newest do
            ("arm", true) => None,
            ("amd64" | "arm64" | "arm", false) => number,
            _ => None,
        }
    }

    /// The newest variant that a host of this platform runs, in words; empty where there are no variants.
    pub fn newest_variant(&self) -> String {
        self.normal().level().map_or_else(String::new, |level| format!("v{level}"))
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [&self.os, &self.architecture, &self.variant];
        let parts: Vec<&str> = parts.into_iter().map(String::as_str).filter(|part| !part.is_empty()).collect();
        f.pad(&parts.join("/"))
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, PlatformError> {
        if text == ANY {
            return Ok(Self::any());
        }
        let bad = || PlatformError(text.to_owned());
        let is_good = |part: &&str| {
            let mut bytes = part.bytes();
            !part.is_empty()
                && part.len() <= MAX_PART
                && bytes.all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        };
        let parts: Vec<&str> = text.split('/').collect();
        if !parts.iter().all(is_good) {
            return Err(bad());
        }
        match parts.as_slice() {
            [os, architecture] => Ok(Self::new(os, architecture, "").normal()),
            [os, architecture, variant] => Ok(Self::new(os, architecture, variant).normal()),
            _ => Err(bad()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p47_variants_run_on_what_is_as_new() {
        let runs = |image: &str, host: &str| {
            let parse = |text: &str| text.parse::<Platform>().expect(text);
            parse(image).runs_on(&parse(host))
        };
        let table = [
            ("linux/arm64", "linux/arm64", true),
            ("linux/arm64/v8", "linux/aarch64", true),
            ("linux/arm64/v9", "linux/arm64", false),
            ("linux/arm/v7", "linux/arm64", false),
            ("linux/arm/v6", "linux/arm/v7", true),
            ("linux/armhf", "linux/armv7l", true),
            ("linux/arm/7", "linux/arm/v6", false),
            ("linux/arm", "linux/arm/v6", true),
            ("linux/arm/v7", "linux/arm", false),
            ("linux/x86_64", "linux/amd64", true),
            ("linux/amd64/v2", "linux/amd64", false),
            ("linux/amd64/v2", "linux/amd64/v3", true),
            ("linux/386", "linux/amd64", false),
            ("windows/amd64", "linux/amd64", false),
            ("linux/riscv64", "linux/riscv64", true),
        ];
        for (image, host, wanted) in table {
            assert_eq!(runs(image, host), wanted, "{image} on {host}");
        }
    }

    /// C-26
    #[test]
    fn c_26_architectures_in_the_kernels_words() {
        let machine = |text: &str| text.parse::<Platform>().expect(text).machine();
        let all = ["linux/amd64", "linux/x86_64", "linux/arm64/v8", "linux/arm/v6", "linux/arm", "linux/s390x"];
        assert_eq!(all.map(machine), ["x86_64", "x86_64", "aarch64", "armv6l", "armv7l", "s390x"]);
        assert_eq!(Platform::new("linux", "mips", "").machine(), "mips");
    }

    #[test]
    fn p47_platforms_are_read_or_refused_with_an_example() {
        assert_eq!("any".parse(), Ok(Platform::any()));
        assert_eq!("linux/arm/v7".parse::<Platform>().expect("good").to_string(), "linux/arm/v7");
        for bad in ["", "linux", "linux/", "/arm", "a/b/c/d", "linux/am d64", "any/arm/", "linux/\u{e4}"] {
            let text = bad.parse::<Platform>().expect_err(bad).to_string();
            assert!(text.contains("is no platform; write os/architecture"), "{text}");
        }
    }
}
