//! Credentials from a helper program, as docker's clients have them: `docker-credential-NAME get`, the server on its standard
//! input, an object or the reason on its standard output.
//!
//! Called by managers for registries whose credentials expire. What a helper says on its standard error is the daemon's log's.

use std::{process::Stdio, time::Duration};

use serde::Deserialize;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::Command,
    time::timeout,
};
use types::{CredentialHelper, RegistryScope};

use super::auth::Credentials;
use crate::error::{Error, Result};

/// One that asks a cloud's API needs seconds.
const PATIENCE: Duration = Duration::from_secs(30);
/// Tokens have a few KiB.
const MAX_ANSWER: u64 = 64 << 10;
/// What stands for "the secret is a token" instead of a user name.
const TOKEN: &str = "<token>";
/// How clients name the registry of images without one.
const HUB: &str = "https://index.docker.io/v1/";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    #[serde(default)]
    username: String,
    #[serde(default)]
    secret: String,
}

/// The user name, empty of a token, and the credentials that the helper has for the registry now.
///
/// # Errors
/// It is not there, fails, says nothing usable, or takes too long.
pub async fn ask_helper(helper: &CredentialHelper, scope: &RegistryScope) -> Result<(String, Credentials)> {
    ask(&helper.program(), scope).await
}

async fn ask(program: &str, scope: &RegistryScope) -> Result<(String, Credentials)> {
    let failed = |reason: String| Error::CredentialHelper {
        program: program.to_owned(),
        registry: scope.host().to_owned(),
        reason,
    };
    let said = match timeout(PATIENCE, run(program, scope.host())).await {
        Ok(said) => said.map_err(failed)?,
        Err(_) => return Err(failed(format!("no answer within {} s", PATIENCE.as_secs()))),
    };
    // the answer itself is a secret, also in an error
    let bad = |_| failed("the answer is no object with Username and Secret".to_owned());
    let Answer { username, secret } = serde_json::from_slice(&said).map_err(bad)?;
    match (username.as_str(), secret.is_empty()) {
        (_, true) => Err(failed("the answer has no Secret".to_owned())),
        (TOKEN, false) => Ok((String::new(), Credentials::IdentityToken(secret))),
        ("", false) => Err(failed("the answer has no Username".to_owned())),
        (_, false) => Ok((username.clone(), Credentials::Basic { username, password: secret })),
    }
}

async fn run(program: &str, host: &str) -> std::result::Result<Vec<u8>, String> {
    let mut command = Command::new(program);
    command.arg("get").stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            "it is not installed on this manager: put it into a directory of the daemon's PATH, on each manager"
                .to_owned()
        }
        _ => format!("it cannot be started: {error}"),
    })?;
    let server = if host == types::DEFAULT_REGISTRY { HUB } else { host };
    if let Some(mut stdin) = child.stdin.take() {
        // one that ends without reading says why itself
        let _ = stdin.write_all(server.as_bytes()).await;
    }
    let mut said = Vec::new();
    let stdout = child.stdout.take().ok_or("it has no output")?;
    let io = |error: std::io::Error| format!("its answer cannot be read: {error}");
    stdout.take(MAX_ANSWER).read_to_end(&mut said).await.map_err(io)?;
    let status = child.wait().await.map_err(io)?;
    match status.success() {
        true => Ok(said),
        // helpers say why on their standard output
        false => Err(match String::from_utf8_lossy(&said).trim() {
            "" => format!("it failed ({status}) without a reason"),
            why => why.to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn p17_what_a_helper_says_is_taken_or_its_failure_told() {
        let directory = tempfile::tempdir().expect("a directory");
        let program = |name: &str, script: &str| {
            let path = directory.path().join(name);
            // by another process: a file that a fork of ours still has open for writing cannot be executed
            let write = "printf '#!/bin/sh\n%s\n' \"$1\" > \"$0\" && chmod 755 \"$0\"";
            let written = std::process::Command::new("sh").args(["-c", write]).arg(&path).arg(script).status();
            assert!(written.expect("a shell").success());
            path.display().to_string()
        };
        let scope = |text: &str| text.parse::<RegistryScope>().expect("good");
        let echo = program("echo", r#"read -r server; printf '{"Username":"%s","Secret":"s0 %s"}' "$1" "$server""#);
        let basic = |password: &str| Credentials::Basic { username: "get".into(), password: password.into() };
        let said = ask(&echo, &scope("registry.example:5000/team")).await.expect("says");
        assert_eq!(said, ("get".to_owned(), basic("s0 registry.example:5000")));
        let said = ask(&echo, &scope("docker.io")).await.expect("says");
        assert_eq!(said.1, basic("s0 https://index.docker.io/v1/"));
        let token = program("token", r#"echo '{"ServerURL":"x","Username":"<token>","Secret":"t0"}'"#);
        let said = ask(&token, &scope("r.example")).await.expect("says");
        assert_eq!(said, (String::new(), Credentials::IdentityToken("t0".into())));
        for (name, script, part) in [
            ("fails", "echo credentials not found; exit 1", "credentials not found"),
            ("dumb", "exit 3", "without a reason"),
            ("odd", r#"echo '["hunter2"'"#, "no object with Username and Secret"),
            ("empty", "echo '{}'", "has no Secret"),
            ("nobody", r#"echo '{"Secret":"hunter2"}'"#, "has no Username"),
        ] {
            let text = ask(&program(name, script), &scope("r.example")).await.expect_err(name).to_string();
            assert!(text.contains(part) && text.contains("r.example") && !text.contains("hunter2"), "{text}");
        }
        let text = ask("docker-credential-that-is-not-there", &scope("r.example")).await.expect_err("none").to_string();
        assert!(text.contains("each manager"), "{text}");
    }
}
