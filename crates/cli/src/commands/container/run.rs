//! `run`: make, attach, start, wait. Its exit code is the container's, or 125 (not started), 126 (the command cannot be
//! run) and 127 (there is no such command), as docker's.

use clap::Args;

use super::{
    create::make,
    flags::CreateFlags,
    session::{Failure, Session},
};
use crate::{
    Quit,
    client::{Client, escape},
    fail,
    output::terminal::print,
    spec::single,
    wire::stdin_is_terminal,
};

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// Do not wait: print the container's id
    #[arg(short, long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    detach: Option<bool>,
    /// Keys that leave the container running, such as ctrl-p,ctrl-q
    #[arg(long, default_value = "")]
    detach_keys: String,
    /// Pass signals on to the process
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "true")]
    sig_proxy: bool,
    #[command(flatten)]
    flags: CreateFlags,
}

/// What docker's exit code is for a container that did not start.
fn code_of(message: &str) -> u8 {
    let says = |words: &[&str]| words.iter().any(|word| message.contains(word));
    if says(&["executable file not found", "no such file or directory", "system cannot find the file specified"]) {
        return 127;
    }
    if says(&["permission denied", "is a directory", "exec format error"]) {
        return 126;
    }
    125
}

pub(super) async fn run(client: &Client, arguments: RunArgs) -> anyhow::Result<()> {
    let (id, foreground) = match prepare(client, &arguments).await {
        Ok(made) => made,
        Err(error) if error.is::<Quit>() => return Err(error),
        Err(error) => return fail(125, &error),
    };
    if !foreground {
        return match client.post(&format!("/containers/{}/start", escape(&id)), None).await {
            Ok(_) => print(&format!("{id}\n")),
            Err(error) => fail(code_of(&format!("{error:#}")), &error),
        };
    }
    let basics = &arguments.flags.basics;
    let wanted = |name: &str| basics.attach.iter().any(|stream| stream.eq_ignore_ascii_case(name));
    let all = basics.attach.is_empty();
    let stdin = if all { basics.interactive == Some(true) } else { wanted("stdin") };
    let mut streams = Vec::new();
    for (name, is_wanted) in
        [("stdin", stdin), ("stdout", all || wanted("stdout")), ("stderr", all || wanted("stderr"))]
    {
        if is_wanted {
            streams.push(format!("{name}=1"));
        }
    }
    let session = Session {
        client,
        id: &id,
        streams: streams.join("&"),
        stdin,
        tty: basics.tty == Some(true),
        detach_keys: &arguments.detach_keys,
        sig_proxy: arguments.sig_proxy,
        until_removed: basics.rm == Some(true),
    };
    match session.run().await {
        Ok(None | Some(0)) => Ok(()),
        Ok(Some(code)) => Err(Quit(u8::try_from(code).unwrap_or(u8::MAX)).into()),
        Err(Failure::Start(error)) => fail(code_of(&format!("{error:#}")), &error),
        Err(Failure::Other(error)) if error.is::<Quit>() => Err(error),
        Err(Failure::Other(error)) => fail(125, &error),
    }
}

/// The container's id, and whether one stays with it.
async fn prepare(client: &Client, arguments: &RunArgs) -> anyhow::Result<(String, bool)> {
    let foreground = arguments.detach != Some(true);
    let basics = &arguments.flags.basics;
    anyhow::ensure!(
        foreground || basics.attach.is_empty(),
        "conflicting options: cannot specify both --attach and --detach"
    );
    let body = single::body(&arguments.flags, foreground)?;
    if foreground && basics.tty == Some(true) && body["AttachStdin"] == true && !stdin_is_terminal() {
        anyhow::bail!("the input device is not a TTY; leave -t out to hand a pipe or file over");
    }
    Ok((make(client, &arguments.flags, &body).await?, foreground))
}

#[cfg(test)]
mod tests {
    #[test]
    fn exit_codes_of_what_did_not_start() {
        for (message, code) in [
            ("exec: \"x\": executable file not found in $PATH", 127),
            ("exec: \"/x\": stat /x: no such file or directory", 127),
            ("exec: \"/etc\": permission denied", 126),
            ("exec: \"/etc\": is a directory", 126),
            ("port is already allocated", 125),
        ] {
            assert_eq!(super::code_of(message), code, "{message}");
        }
    }
}
