//! `attach`: a person at the streams of a container that runs already. The exit code is the container's, or 0 for who left.

use anyhow::ensure;
use clap::Args;
use serde_json::Value;

use super::session::Session;
use crate::{
    Quit,
    client::{Client, escape},
    output::terminal::print_bytes,
    wire::stdin_is_terminal,
};

#[derive(Debug, Args)]
pub(crate) struct AttachArgs {
    /// Keys that leave the container running, such as ctrl-p,ctrl-q
    #[arg(long, default_value = "")]
    detach_keys: String,
    /// Do not hand standard input over
    #[arg(long)]
    no_stdin: bool,
    /// Pass signals on to the process, unless it has a terminal or is a task's
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "true")]
    sig_proxy: bool,
    container: String,
}

pub(super) async fn attach(client: &Client, arguments: &AttachArgs) -> anyhow::Result<()> {
    let shown = client.get(&format!("/containers/{}/json", escape(&arguments.container))).await?;
    let is_on = |value: &Value| value == &Value::Bool(true);
    check(&arguments.container, &shown["State"])?;
    let tty = is_on(&shown["Config"]["Tty"]);
    ensure!(
        arguments.no_stdin || !tty || stdin_is_terminal(),
        "the input device is not a TTY; give --no-stdin, or hand over a terminal"
    );
    let stdin = !arguments.no_stdin && is_on(&shown["Config"]["OpenStdin"]);
    // what becomes of a task's container its service decides
    let is_task = shown["Config"]["Labels"]["com.docker.swarm.task.id"].is_string();
    let session = Session {
        client,
        id: shown["Id"].as_str().unwrap_or(&arguments.container),
        streams: format!("stdin={}&stdout=1&stderr=1", u8::from(stdin)),
        stdin,
        tty,
        detach_keys: &arguments.detach_keys,
        sig_proxy: arguments.sig_proxy && !is_task,
        until_removed: false,
    };
    match session.join().await? {
        Some(0) => Ok(()),
        Some(code) => Err(Quit(u8::try_from(code).unwrap_or(u8::MAX)).into()),
        // the shell goes on in a line of its own
        None => print_bytes(b"\r\n"),
    }
}

fn check(name: &str, state: &Value) -> anyhow::Result<()> {
    let is = |what: &str| state[what] == Value::Bool(true);
    ensure!(is("Running"), "cannot attach to a stopped container: `rswarm start -a {name}` starts it and attaches");
    ensure!(!is("Paused"), "cannot attach to a paused container: `rswarm unpause {name}` first");
    ensure!(!is("Restarting"), "cannot attach to a restarting container: wait until it runs");
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn e_28_only_what_runs_can_be_joined() {
        let said = |state: Value| check("web", &state).map_err(|error| error.to_string());
        assert_eq!(said(json!({ "Running": true, "Paused": false })), Ok(()));
        for (state, part) in [
            (json!({ "Running": false }), "stopped container: `rswarm start -a web`"),
            (json!({ "Running": true, "Paused": true }), "paused container: `rswarm unpause web`"),
            (json!({ "Running": true, "Restarting": true }), "restarting container"),
        ] {
            assert!(said(state).expect_err(part).contains(part));
        }
    }
}
