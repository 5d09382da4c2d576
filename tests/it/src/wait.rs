//! Waiting for a state, with a deadline and the reason it is not there yet.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

/// Patience of a test: the machine may be busy with a build besides.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Asks `state` until it is `Ok`, for at most `deadline`; gives what it gave and the time it took.
///
/// # Errors
/// The last reason, when the deadline has passed.
pub fn until<T>(what: &str, deadline: Duration, mut state: impl FnMut() -> Result<T>) -> Result<(T, Duration)> {
    let begin = Instant::now();
    loop {
        let reason = match state() {
            Ok(value) => return Ok((value, begin.elapsed())),
            Err(reason) => reason,
        };
        if begin.elapsed() > deadline {
            bail!("{what}: not after {deadline:?}: {reason:#}");
        }
        thread::sleep(Duration::from_millis(20));
    }
}
