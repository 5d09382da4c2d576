//! What is said of SELinux and AppArmor. No container here is confined by them: it is kept to be shown as it was given, for
//! clients that compare, and changes nothing, as in Docker on a host without them.

use serde::{Deserialize, Serialize};

/// Parts of a label; those that were not given are empty.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SelinuxLabel {
    pub user: String,
    pub role: String,
    pub kind: String,
    pub level: String,
}

impl SelinuxLabel {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum AppArmorMode {
    Default,
    Disabled,
}

impl AppArmorMode {
    /// The word of the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Disabled => "disabled",
        }
    }
}
