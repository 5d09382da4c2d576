//! Whether a container is well: how it is found out, and what the findings mean (parity S-58). Pure but for
//! [`Engine::check_health`], the asking itself.
//!
//! Called for each container that has a check (`containers::health`). The rules are Docker's
//! (moby `daemon/health.go`), defaults included. The settings travel with the container as a label, so that
//! a daemon that finds it goes on with the same check even if the image is gone.

use std::time::Duration;

use image::RunConfig;
use runtime::{Captured, ExecConfig, ExecEnd, Status};
use serde::{Deserialize, Serialize};
use types::{HealthCheck, HealthTest, Timestamp, with_causes};

use super::{
    Engine,
    container::SpecError,
    exec::{CODE_UNKNOWN, Probe},
};

const DEFAULT_INTERVAL: Duration = Duration::from_secs(30);
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
const DEFAULT_START_INTERVAL: Duration = Duration::from_secs(5);
const DEFAULT_RETRIES: u32 = 3;

/// Of what a check writes, as much is looked at (moby `maxOutputLen`).
const OUTPUT_MAX: usize = 4096;

/// Of that, as much goes into a task's status, in characters: it is replicated.
const SHOWN_MAX: usize = 300;

/// What a container's check is, with every default filled in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HealthSettings {
    pub args: Vec<String>,
    pub interval: Duration,
    pub timeout: Duration,
    /// Failures do not count this long after the start, until it was healthy once.
    pub start_period: Duration,
    /// Between checks in the start period.
    pub start_interval: Duration,
    /// Failures in a row that make it unhealthy.
    pub retries: u32,
}

/// The check of a container: the spec's over the image's, field by field; `None` if there is none.
///
/// # Errors
/// When the image's own is not one.
pub(super) fn settings(spec: Option<&HealthCheck>, image: &RunConfig) -> Result<Option<HealthSettings>, SpecError> {
    let Some(check) = merged(spec, image)? else { return Ok(None) };
    let args = match &check.test {
        HealthTest::None | HealthTest::Image => return Ok(None),
        HealthTest::Command(words) => words.clone(),
        HealthTest::Shell(script) => shell(script, image),
    };
    let time = |given: Duration, default: Duration| if given.is_zero() { default } else { given };
    Ok(Some(HealthSettings {
        args,
        interval: time(check.interval, DEFAULT_INTERVAL),
        timeout: time(check.timeout, DEFAULT_TIMEOUT),
        start_period: check.start_period,
        start_interval: time(check.start_interval, DEFAULT_START_INTERVAL),
        retries: if check.retries == 0 { DEFAULT_RETRIES } else { check.retries },
    }))
}

/// The check as clients read it, without defaults; what to ask is still [`HealthTest::Image`] where the image has none.
///
/// # Errors
/// When the image's own is not one.
pub(super) fn merged(spec: Option<&HealthCheck>, image: &RunConfig) -> Result<Option<HealthCheck>, SpecError> {
    let Some(own) = &image.healthcheck else { return Ok(spec.cloned()) };
    let test = match spec.map_or(&HealthTest::Image, |check| &check.test) {
        HealthTest::Image => match &own.test[..] {
            [] => HealthTest::Image,
            [kind] if kind == "NONE" => HealthTest::None,
            [kind, words @ ..] if kind == "CMD" && !words.is_empty() => HealthTest::Command(words.to_vec()),
            [kind, script] if kind == "CMD-SHELL" => HealthTest::Shell(script.clone()),
            other => return Err(SpecError::ImageHealthCheck(other.join(" "))),
        },
        test => test.clone(),
    };
    let time = |given: Option<Duration>, ns: i64| {
        let of_image = || Duration::from_nanos(u64::try_from(ns).unwrap_or(0));
        given.filter(|time| !time.is_zero()).unwrap_or_else(of_image)
    };
    let retries = spec.map(|check| check.retries).filter(|count| *count > 0);
    Ok(Some(HealthCheck {
        test,
        interval: time(spec.map(|check| check.interval), own.interval),
        timeout: time(spec.map(|check| check.timeout), own.timeout),
        start_period: time(spec.map(|check| check.start_period), own.start_period),
        start_interval: time(spec.map(|check| check.start_interval), own.start_interval),
        retries: retries.unwrap_or_else(|| u32::try_from(own.retries).unwrap_or(0)),
    }))
}

fn shell(script: &str, image: &RunConfig) -> Vec<String> {
    let shell = if image.shell.is_empty() { vec!["/bin/sh".to_owned(), "-c".to_owned()] } else { image.shell.clone() };
    [shell, vec![script.to_owned()]].concat()
}

/// How one check went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Finding {
    Well,
    /// Why not, in words.
    Sick(String),
}

/// What a check changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum HealthNews {
    Healthy,
    /// Not healthy yet; the last check's words.
    Waiting(String),
    /// Healthy still, but its checks fail; the last check's words. [`Self::Healthy`] takes it back.
    Failing(String),
    /// Not to be believed in any more; the last check's words.
    Unhealthy(String),
}

/// One container's health so far.
#[derive(Debug, Clone)]
pub(crate) struct Health {
    settings: HealthSettings,
    started_at: Timestamp,
    /// It was healthy once.
    is_healthy: bool,
    /// Failures in a row that count.
    failures: u32,
}

impl Health {
    pub(crate) fn new(settings: HealthSettings, started_at: Timestamp, is_healthy: bool) -> Self {
        Self { settings, started_at, is_healthy, failures: 0 }
    }

    pub(crate) fn settings(&self) -> &HealthSettings {
        &self.settings
    }

    /// Those in a row that count.
    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }

    /// From the end of one check, or from the start, to the next check.
    pub(crate) fn pause(&self, now: Timestamp) -> Duration {
        let is_starting = !self.is_healthy && now.since(self.started_at) < self.settings.start_period;
        if is_starting { self.settings.start_interval } else { self.settings.interval }
    }

    /// Takes in a check that began at `began`.
    pub(crate) fn take(&mut self, began: Timestamp, finding: Finding) -> Option<HealthNews> {
        let HealthSettings { start_period, retries, .. } = self.settings;
        let why = match finding {
            Finding::Well => {
                let is_news = !self.is_healthy || self.failures > 0;
                (self.failures, self.is_healthy) = (0, true);
                return is_news.then_some(HealthNews::Healthy);
            }
            Finding::Sick(why) => why,
        };
        if !self.is_healthy && began.since(self.started_at) < start_period {
            return Some(HealthNews::Waiting(format!("health check failed in the start period: {why}")));
        }
        self.failures += 1;
        if self.failures >= retries {
            let times = if retries == 1 { "once".to_owned() } else { format!("{retries} times in a row") };
            return Some(HealthNews::Unhealthy(format!("health check failed {times}, last: {why}")));
        }
        let news = format!("health check failed ({} of {retries}): {why}", self.failures);
        Some(if self.is_healthy { HealthNews::Failing(news) } else { HealthNews::Waiting(news) })
    }
}

impl Engine {
    /// Asks a container once. A check that cannot be executed failed, as in Docker; what does not run is not asked.
    pub(super) async fn check_health(&self, id: &str, settings: &HealthSettings) -> Option<Look> {
        let command = ExecConfig { args: settings.args.clone(), ..ExecConfig::default() };
        let runtime = &self.inner.runtime;
        if !runtime.state(id).await.is_ok_and(|state| state.status == Status::Running) {
            return None;
        }
        let probe = Probe::begin(self, id, &settings.args);
        let captured = runtime.exec_captured(id, &command, settings.timeout, OUTPUT_MAX).await;
        probe.ends(captured.as_ref().ok().map(|captured| match captured.end {
            ExecEnd::Code(code) => code,
            ExecEnd::TimedOut => CODE_UNKNOWN,
        }));
        let look = match captured {
            Ok(captured) => Look::of(&captured, settings.timeout),
            Err(error) => {
                let text = with_causes(&error);
                Look { finding: Finding::Sick(shown(text.as_bytes())), exit_code: -1, output: text }
            }
        };
        self.inner.metrics.health_checks.inc();
        if look.finding != Finding::Well {
            self.inner.metrics.health_checks_failed.inc();
        }
        Some(look)
    }
}

/// What one check found, and what of it Docker's clients are shown.
#[derive(Debug)]
pub(super) struct Look {
    pub(super) finding: Finding,
    /// -1 of a check that did not end by itself.
    pub(super) exit_code: i32,
    pub(super) output: String,
}

impl Look {
    fn of(captured: &Captured, timeout: Duration) -> Self {
        let output = String::from_utf8_lossy(&captured.output);
        let (exit_code, output) = match captured.end {
            ExecEnd::Code(code) => (code, output.into_owned()),
            ExecEnd::TimedOut => (-1, format!("Health check exceeded timeout ({timeout:?}): {output}")),
        };
        Self { finding: finding(captured, timeout), exit_code, output }
    }
}

fn finding(captured: &Captured, timeout: Duration) -> Finding {
    let output = shown(&captured.output);
    let says = if output.is_empty() { String::new() } else { format!(": {output}") };
    match captured.end {
        ExecEnd::Code(0) => Finding::Well,
        ExecEnd::Code(code) => Finding::Sick(format!("exit code {code}{says}")),
        ExecEnd::TimedOut => Finding::Sick(format!("it took longer than {timeout:?} and was killed{says}")),
    }
}

/// The end of an output is where the reason stands; in one line, because a status is one.
fn shown(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    let words = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    let line: Vec<char> = words.collect::<Vec<_>>().join(" ").chars().collect();
    match line.len().checked_sub(SHOWN_MAX) {
        Some(cut @ 1..) => format!("…{}", line[cut..].iter().collect::<String>()),
        _ => line.into_iter().collect(),
    }
}

#[cfg(test)]
#[path = "health_tests.rs"]
mod tests;
