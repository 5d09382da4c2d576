//! A version of a secret or config.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{DependencyId, DependencySpec, Meta};

/// Its data never changes: new data is a new object of the same name, and the old one stays for those that still
/// name it (P12).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dependency {
    pub id: DependencyId,
    #[serde(default)]
    pub meta: Meta,
    pub spec: Arc<DependencySpec>,
    /// Another version has the name by now.
    #[serde(default)]
    pub superseded: bool,
}
