//! `exec`: a further command in a container, at a person's terminal or a pipe.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use crate::{
    Quit,
    client::{Client, escape},
    spec::lists::variables,
    wire::{stdin_is_terminal, terminal_size},
};

#[derive(Debug, Args)]
pub(crate) struct ExecArgs {
    /// Do not wait for the command
    #[arg(short, long)]
    detach: bool,
    /// Keys that leave the command running, such as ctrl-p,ctrl-q
    #[arg(long, default_value = "")]
    detach_keys: String,
    /// Set a variable: NAME=VALUE, or NAME to take this shell's
    #[arg(short, long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// Read variables from a file
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// Hand standard input over
    #[arg(short, long)]
    interactive: bool,
    /// With all capabilities
    #[arg(long)]
    privileged: bool,
    /// On a terminal
    #[arg(short, long)]
    tty: bool,
    /// User, and group: NAME|UID[:GROUP|GID]
    #[arg(short, long, default_value = "")]
    user: String,
    /// Directory in the container
    #[arg(short, long, default_value = "")]
    workdir: String,
    container: String,
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

pub(crate) async fn exec(client: &Client, arguments: ExecArgs) -> anyhow::Result<()> {
    let ExecArgs { detach, interactive, tty, .. } = arguments;
    if tty && interactive && !detach && !stdin_is_terminal() {
        anyhow::bail!("the input device is not a TTY; leave -t out to hand a pipe or file over");
    }
    let size = terminal_size().filter(|_| tty).map(|(rows, columns)| json!([rows, columns]));
    let body = json!({
        "Cmd": arguments.command,
        "Env": variables(&arguments.env_file, &arguments.env)?,
        "User": arguments.user,
        "WorkingDir": arguments.workdir,
        "Privileged": arguments.privileged,
        "Tty": tty,
        "ConsoleSize": size,
        "AttachStdin": interactive && !detach,
        "AttachStdout": !detach,
        "AttachStderr": !detach,
        "DetachKeys": arguments.detach_keys,
    });
    let made = client.post(&format!("/containers/{}/exec", escape(&arguments.container)), Some(&body)).await?;
    let id = escape(made["Id"].as_str().unwrap_or_default());
    let start = format!("/exec/{id}/start");
    if detach {
        client.post(&start, Some(&json!({ "Detach": true, "Tty": tty }))).await?;
        return Ok(());
    }
    let wire = client.take_over(&start, Some(&json!({ "Detach": false, "Tty": tty, "ConsoleSize": size }))).await?;
    wire.converse(client, interactive, Some(&format!("/exec/{id}/resize"))).await?;
    let ended = client.get(&format!("/exec/{id}/json")).await?;
    // Still running: the person has left it.
    match ended["ExitCode"].as_i64().unwrap_or(0) {
        0 => Ok(()),
        code => Err(Quit(u8::try_from(code).unwrap_or(1)).into()),
    }
}
