//! What becomes of containers that run when secrets and configs that they have as files get new data (P12), written in a
//! label, which every client of Docker's API can set.
//!
//! Read by admission, by the planner, which then replaces no task, and by nodes, which change the files.

use std::str::FromStr;

use crate::{Labels, ServiceSpec, Signal};

/// Label of a service with the effect of [`Refresh`].
pub const REFRESH_LABEL: &str = "rswarm.refresh";

/// What a container that stays gets beside the new files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refresh {
    /// Nothing: it looks by itself.
    Silent,
    /// Its first process gets this when they are there.
    Signal(Signal),
}

/// Why the label says nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "label {REFRESH_LABEL}: {0:?} does not say what a container gets when its files change; use signal:NAME, such as \
     signal:HUP, or none"
)]
pub struct RefreshError(String);

impl FromStr for Refresh {
    type Err = RefreshError;

    fn from_str(text: &str) -> Result<Self, RefreshError> {
        let found = match text.split_once(':') {
            Some(("signal", name)) => name.parse().ok().map(Self::Signal),
            None if text == "none" => Some(Self::Silent),
            _ => None,
        };
        found.ok_or_else(|| RefreshError(text.to_owned()))
    }
}

impl Refresh {
    /// What the labels of a service say; nothing: its containers are replaced.
    ///
    /// # Errors
    /// The label says nothing that is known.
    pub fn of(labels: &Labels) -> Result<Option<Self>, RefreshError> {
        labels.get(REFRESH_LABEL).map(|text| text.parse()).transpose()
    }
}

impl ServiceSpec {
    /// What its containers get when their files change, if they stay.
    ///
    /// # Errors
    /// As [`Refresh::of`].
    pub fn refresh(&self) -> Result<Option<Refresh>, RefreshError> {
        Refresh::of(&self.labels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p12_the_label_names_a_signal_or_none() {
        let of = |text: &str| Refresh::of(&[(REFRESH_LABEL.to_owned(), text.to_owned())].into());
        assert_eq!(Refresh::of(&Labels::new()), Ok(None));
        assert_eq!(of("none"), Ok(Some(Refresh::Silent)));
        for text in ["signal:HUP", "signal:SIGHUP", "signal:hup", "signal:1"] {
            assert_eq!(of(text), Ok(Some(Refresh::Signal(Signal::SIGHUP))), "{text}");
        }
        for text in ["", "signal", "signal:", "signal:NOPE", "none:", "HUP", "restart"] {
            let why = of(text).expect_err(text).to_string();
            assert!(why.starts_with(&format!("label rswarm.refresh: {text:?} does not say")), "{why}");
            assert!(why.ends_with("use signal:NAME, such as signal:HUP, or none"), "{why}");
        }
    }
}
