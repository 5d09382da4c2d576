//! `start`.

use clap::Args;
use serde_json::Value;

use super::session::{Failure, Session};
use crate::{
    Quit,
    client::{Client, escape},
    commands::container::life::each_of,
    wire::stdin_is_terminal,
};

#[derive(Debug, Args)]
pub(crate) struct StartArgs {
    /// Join its outputs and pass signals on
    #[arg(short, long)]
    attach: bool,
    /// Hand standard input over
    #[arg(short, long)]
    interactive: bool,
    /// Keys that leave the container running, such as ctrl-p,ctrl-q
    #[arg(long, default_value = "")]
    detach_keys: String,
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

pub(super) async fn start(client: &Client, arguments: StartArgs) -> anyhow::Result<()> {
    if !arguments.attach && !arguments.interactive {
        return each_of(&arguments.containers, async |name| {
            client.post(&format!("/containers/{}/start", escape(name)), None).await.map(|_| name.to_owned())
        })
        .await;
    }
    let [name] = &arguments.containers[..] else {
        anyhow::bail!("you cannot start and attach multiple containers at once: name one, or leave -a and -i out");
    };
    let shown = client.get(&format!("/containers/{}/json", escape(name))).await?;
    let is_on = |value: &Value| value == &Value::Bool(true);
    let tty = is_on(&shown["Config"]["Tty"]);
    let stdin = arguments.interactive && is_on(&shown["Config"]["OpenStdin"]);
    anyhow::ensure!(
        !(tty && stdin && !stdin_is_terminal()),
        "the input device is not a TTY; leave -i out, or hand over a terminal"
    );
    let session = Session {
        client,
        id: shown["Id"].as_str().unwrap_or(name),
        streams: format!("stdin={}&stdout=1&stderr=1", u8::from(stdin)),
        stdin,
        tty,
        detach_keys: &arguments.detach_keys,
        sig_proxy: true,
        until_removed: is_on(&shown["HostConfig"]["AutoRemove"]),
    };
    match session.run().await {
        Ok(None | Some(0)) => Ok(()),
        Ok(Some(code)) => Err(Quit(u8::try_from(code).unwrap_or(u8::MAX)).into()),
        Err(Failure::Start(error) | Failure::Other(error)) => Err(error),
    }
}
