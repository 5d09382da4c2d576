//! The docker CLI against one host, a line at a time: what a person would type, and what must come of it.

use std::{path::Path, process::Command};

use anyhow::{Result, ensure};

use crate::{ClusterUnderTest, DEADLINE, until};

/// Docker against one host of a cluster.
pub struct Docker<'a> {
    t: &'a ClusterUnderTest,
    host: String,
    directory: std::path::PathBuf,
}

impl<'a> Docker<'a> {
    pub fn new(t: &'a ClusterUnderTest, host: &str) -> Self {
        Self { t, host: host.to_owned(), directory: "/".into() }
    }

    /// Where relative paths begin.
    #[must_use]
    pub fn in_directory(mut self, directory: &Path) -> Self {
        directory.clone_into(&mut self.directory);
        self
    }

    /// Exit code, standard output and standard error.
    ///
    /// # Errors
    /// When there is no such program or host.
    pub fn run(&self, arguments: &[&str]) -> Result<(i32, String, String)> {
        let socket = format!("unix://{}", self.t.lab().socket(&self.host)?.display());
        let mut command = Command::new("docker");
        command.args(["-H", &socket]).args(arguments).env("DOCKER_CONFIG", "/nonexistent");
        let output = command.current_dir(&self.directory).output()?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok((output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr)))
    }

    fn line(&self, line: &str) -> Result<(i32, String, String)> {
        self.run(&words(line).iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Must succeed. At the spaces; `~` stands for one within a word.
    ///
    /// # Errors
    /// When it does not.
    pub fn ok(&self, line: &str) -> Result<String> {
        let (code, out, err) = self.line(line)?;
        ensure!(code == 0, "docker {line}: exit code {code}: {err}");
        Ok(out)
    }

    /// Must print exactly this, but for spaces at the ends.
    ///
    /// # Errors
    /// When it does not.
    pub fn says(&self, line: &str, wanted: &str) -> Result<()> {
        let out = self.ok(line)?;
        ensure!(out.trim() == wanted, "docker {line}: {out:?}, not {wanted:?}");
        Ok(())
    }

    /// Must print this, among other things.
    ///
    /// # Errors
    /// When it does not.
    pub fn shows(&self, line: &str, part: &str) -> Result<()> {
        let out = self.ok(line)?;
        ensure!(out.contains(part), "docker {line}: {out:?} has no {part:?}");
        Ok(())
    }

    /// Must print exactly this before long.
    ///
    /// # Errors
    /// When it does not.
    pub fn comes_to_say(&self, line: &str, wanted: &str) -> Result<()> {
        until(&format!("docker {line} says {wanted:?}"), DEADLINE, || self.says(line, wanted)).map(drop)
    }

    /// Must fail with exit code 1 and complain of this.
    ///
    /// # Errors
    /// When it does not.
    pub fn fails(&self, line: &str, part: &str) -> Result<()> {
        let (code, out, err) = self.line(line)?;
        ensure!(code == 1, "docker {line}: exit code {code}, not 1: {out}{err}");
        ensure!(err.contains(part), "docker {line}: {err:?} has no {part:?}");
        Ok(())
    }
}

fn words(line: &str) -> Vec<String> {
    line.split(' ').filter(|word| !word.is_empty()).map(|word| word.replace('~', " ")).collect()
}
