//! The words for how the routing mesh spreads connections, and where a user may write them: in the spec, and in
//! labels, which clients that know only Docker's API can set.
//!
//! Read by admission, by the tables and by the front ends.

use std::{fmt, str::FromStr};

use crate::{Labels, MeshAffinity, MeshPolicy, MeshSpec, ServiceSpec};

/// Label of a service with the effect of [`MeshSpec::policy`].
pub const MESH_POLICY_LABEL: &str = "rswarm.mesh.policy";
/// Label of a service with the effect of [`MeshSpec::affinity`].
pub const MESH_AFFINITY_LABEL: &str = "rswarm.mesh.affinity";
/// Label of a node: how many connections its tasks get beside those of other nodes.
pub const MESH_WEIGHT_LABEL: &str = "rswarm.mesh.weight";
/// The weight of a node without that label.
pub const DEFAULT_MESH_WEIGHT: u16 = 1;
/// Finer shares than hundredths are no use: connections are not all alike.
pub const MAX_MESH_WEIGHT: u16 = 100;

/// Why a text says nothing about the mesh.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MeshError {
    #[error("{0:?} is no mesh policy; use cluster, local-first or local-only")]
    Policy(String),
    #[error("{0:?} is no mesh affinity; use none or source")]
    Affinity(String),
    #[error("{0:?} is no mesh weight; use a whole number from 1 to {MAX_MESH_WEIGHT}")]
    Weight(String),
    #[error("label {0}={1} contradicts the spec, which says {2}: change one of them")]
    Contradiction(&'static str, String, &'static str),
    #[error("label {0}: {1}")]
    Label(&'static str, Box<MeshError>),
}

impl MeshPolicy {
    /// The word of API and command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cluster => "cluster",
            Self::LocalFirst => "local-first",
            Self::LocalOnly => "local-only",
        }
    }
}

impl FromStr for MeshPolicy {
    type Err = MeshError;

    fn from_str(text: &str) -> Result<Self, MeshError> {
        let all = [Self::Cluster, Self::LocalFirst, Self::LocalOnly];
        all.into_iter().find(|policy| policy.as_str() == text).ok_or_else(|| MeshError::Policy(text.to_owned()))
    }
}

impl fmt::Display for MeshPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl MeshAffinity {
    /// The word of API and command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Source => "source",
        }
    }
}

impl FromStr for MeshAffinity {
    type Err = MeshError;

    fn from_str(text: &str) -> Result<Self, MeshError> {
        let all = [Self::None, Self::Source];
        all.into_iter().find(|affinity| affinity.as_str() == text).ok_or_else(|| MeshError::Affinity(text.to_owned()))
    }
}

impl fmt::Display for MeshAffinity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl ServiceSpec {
    /// How the mesh treats the service: what the endpoint says, or what its labels do where that says nothing.
    ///
    /// # Errors
    /// A label says nothing that is known, or something else than the endpoint.
    pub fn mesh(&self) -> Result<MeshSpec, MeshError> {
        let said = self.endpoint.mesh;
        Ok(MeshSpec {
            policy: labelled(&self.labels, MESH_POLICY_LABEL, said.policy, MeshPolicy::as_str)?,
            affinity: labelled(&self.labels, MESH_AFFINITY_LABEL, said.affinity, MeshAffinity::as_str)?,
        })
    }
}

fn labelled<T>(labels: &Labels, label: &'static str, said: T, word: fn(T) -> &'static str) -> Result<T, MeshError>
where
    T: Copy + Default + PartialEq + FromStr<Err = MeshError>,
{
    let Some(text) = labels.get(label) else { return Ok(said) };
    let wanted: T = text.parse().map_err(|error| MeshError::Label(label, Box::new(error)))?;
    if said != T::default() && said != wanted {
        return Err(MeshError::Contradiction(label, text.clone(), word(said)));
    }
    Ok(wanted)
}

/// What a node's labels say of its weight in the mesh.
///
/// # Errors
/// The label is there and no number from 1 to [`MAX_MESH_WEIGHT`].
pub fn mesh_weight(labels: &Labels) -> Result<u16, MeshError> {
    let Some(text) = labels.get(MESH_WEIGHT_LABEL) else { return Ok(DEFAULT_MESH_WEIGHT) };
    let weight = text.parse().ok().filter(|weight| (1..=MAX_MESH_WEIGHT).contains(weight));
    weight.ok_or_else(|| MeshError::Label(MESH_WEIGHT_LABEL, Box::new(MeshError::Weight(text.clone()))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p43_words_round_trip_and_weights_are_bounded() {
        for policy in [MeshPolicy::Cluster, MeshPolicy::LocalFirst, MeshPolicy::LocalOnly] {
            assert_eq!(policy.to_string().parse(), Ok(policy));
        }
        for affinity in [MeshAffinity::None, MeshAffinity::Source] {
            assert_eq!(affinity.to_string().parse(), Ok(affinity));
        }
        let of = |text: &str| mesh_weight(&Labels::from([(MESH_WEIGHT_LABEL.to_owned(), text.to_owned())]));
        assert_eq!((mesh_weight(&Labels::new()), of("1"), of("100")), (Ok(1), Ok(1), Ok(100)));
        for bad in ["0", "101", "-1", "", "1.5", "many"] {
            assert!(of(bad).is_err(), "{bad}");
        }
    }
}
