//! [`Guard`]: a lab that is gone when its test is, also when the test fails or was killed.

use std::ops::Deref;
use std::path::Path;

use crate::{Error, Lab, LabSpec, Name, state, teardown};

/// Labs of tests begin with this; a sweep removes those whose test process is gone.
const PREFIX: &str = "t-";

/// Set to keep the labs of tests, to look at them.
const KEEP: &str = "RSWARM_LAB_KEEP";

/// Takes the lab down when dropped, also while panicking.
#[derive(Debug)]
pub struct Guard {
    lab: Lab,
}

impl Guard {
    /// Sweeps leftovers of dead tests, then makes a lab `t-<test>-<pid>` of `hosts` hosts `h1`, ….
    ///
    /// # Errors
    /// As [`Lab::up`].
    pub fn up(test: &str, hosts: usize, rswarm: &Path) -> Result<Self, Error> {
        Self::up_with(&LabSpec::new(Self::name(test)?, hosts, rswarm))
    }

    /// The name [`Guard::up`] gives to the lab of a test.
    ///
    /// # Errors
    /// [`Error::BadName`] if nothing usable is left of `test`.
    pub fn name(test: &str) -> Result<Name, Error> {
        let plain: String =
            test.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect();
        let short: String = plain.trim_matches('-').chars().take(20).collect();
        format!("{PREFIX}{}-{}", short.trim_matches('-'), std::process::id()).parse()
    }

    /// As [`Guard::up`] with a spec of one's own; its name should come from [`Guard::name`].
    ///
    /// # Errors
    /// As [`Lab::up`].
    #[expect(clippy::print_stderr, reason = "the test harness shows it when the test fails or hangs")]
    pub fn up_with(spec: &LabSpec) -> Result<Self, Error> {
        Self::sweep();
        let guard = Self { lab: Lab::up(spec)? };
        let first = spec.hosts.first().map(|h| h.name.to_string()).unwrap_or_default();
        eprintln!("lab {}: walk into host {first} with: {}", guard.lab.name, guard.lab.door(&first)?);
        Ok(guard)
    }

    /// Removes test labs whose creator is gone.
    pub fn sweep() {
        for name in state::names().iter().filter(|n| n.starts_with(PREFIX)) {
            // Without a state file it may be one that is just being made: left to `down --all`.
            let dead = state::read(name).is_some_and(|s| s.creator.is_none_or(|c| !c.alive()));
            if dead {
                let _ = teardown::remove(name);
            }
        }
    }

    /// Hands the lab out without its guard.
    #[must_use]
    pub fn keep(self) -> Lab {
        let lab = self.lab.clone();
        std::mem::forget(self);
        lab
    }
}

impl Deref for Guard {
    type Target = Lab;

    fn deref(&self) -> &Lab {
        &self.lab
    }
}

impl Drop for Guard {
    #[expect(clippy::print_stderr, reason = "the last words of a failed test; there is no caller to tell")]
    fn drop(&mut self) {
        // a test that fails by returning an error does not panic: whoever asks keeps every lab
        if std::env::var_os(KEEP).is_some() {
            for host in self.lab.hosts().unwrap_or_default() {
                if let Ok(door) = self.lab.door(&host) {
                    eprintln!("lab {} is kept, host {host}: {door}", self.lab.name);
                }
            }
            eprintln!("remove it with: rswarm lab down --name {}", self.lab.name);
            return;
        }
        if std::thread::panicking() {
            eprintln!("lab {} is taken down; set {KEEP}=1 to keep it", self.lab.name);
        }
        if let Err(e) = self.lab.down() {
            eprintln!("{}", e.sentence());
        }
    }
}
