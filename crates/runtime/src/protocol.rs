//! The words between the library and a shim: one JSON value per message, its length before it as
//! four little-endian bytes, requests answered in order on one unix stream. A newer daemon must be
//! able to speak to an older shim, so words may be added here and never changed.

use serde::{Deserialize, Serialize};

use crate::{cgroup::CgroupLayout, oci::ResolvedUser, record::ExitStatus};

/// No message is larger; the largest is a command with its variables.
pub(crate) const MAX_MESSAGE: usize = 64 * 1024;

/// Name of the shim's socket in the container's directory.
pub(crate) const SOCKET: &str = "shim.sock";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Request {
    Start,
    /// `all` reaches every process of the container instead of its first.
    Signal {
        number: i32,
        all: bool,
    },
    /// Answered when the container has ended.
    Wait,
    Pause,
    Unpause,
    Resize {
        rows: u16,
        columns: u16,
    },
    /// Be told the output from now on. With it comes a descriptor to write to for `stdout`, then one for `stderr`,
    /// as far as they are wanted; with the answer comes the container's standard input, if wanted and open. Bytes
    /// then go through the kernel alone. `replay`: first what of a begun line is not in the log yet.
    Attach {
        stdin: bool,
        stdout: bool,
        stderr: bool,
        replay: bool,
    },
    CloseStdin,
    /// Kill every process of the container; the shim ends when the exit has been recorded.
    Shutdown,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Response {
    Done,
    /// What was written before this time, in nanoseconds since 1970, is in the log; what came later goes to the client.
    Attached {
        at_ns: u64,
    },
    Exited(ExitStatus),
    Failed(String),
}

/// What the shim prints on its standard output, once, when the container is created or is not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum CreateResult {
    Created { pid: i32 },
    Failed(String),
}

/// What the library asks of a helper that runs one more command in a container. With its first byte come three
/// descriptors: the command's standard input, output and error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ExecRequest {
    pub(crate) args: Vec<String>,
    /// Over the container's own variables.
    pub(crate) env: Vec<String>,
    /// Empty: the container's own.
    pub(crate) cwd: String,
    /// `None`: the user of the container's first process.
    pub(crate) user: Option<ResolvedUser>,
    /// The streams are a terminal, which becomes the command's controlling one.
    #[serde(default)]
    pub(crate) tty: bool,
    /// With every capability of the daemon.
    #[serde(default)]
    pub(crate) privileged: bool,
    /// Where the host's cgroups are: to find that out, a helper would read a table as long as the host has mounts.
    #[serde(default)]
    pub(crate) layout: Option<CgroupLayout>,
}

/// What such a helper says, in this order: `Started` or `Failed`, then `Ended`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ExecEvent {
    /// The command is executed, as this process of the daemon's pid namespace.
    Started { pid: i32 },
    /// It could not be executed; the code is a shell's for that.
    Failed { code: i32, reason: String },
    /// Its exit code, or 128 plus the number of the signal that ended it.
    Ended { code: i32 },
}

/// A message with its length before it.
pub(crate) fn frame<T: Serialize>(message: &T) -> Vec<u8> {
    let body = serde_json::to_vec(message).expect("the messages of this module are plain JSON values");
    let length = u32::try_from(body.len()).expect("messages are far below 4 GiB");
    [&length.to_le_bytes()[..], &body].concat()
}

/// The first whole message in `buffer` and how many bytes it took; `Ok(None)` if more must come.
pub(crate) fn unframe<T: for<'a> Deserialize<'a>>(buffer: &[u8]) -> Result<Option<(T, usize)>, String> {
    let Some((head, rest)) = buffer.split_first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_le_bytes(*head) as usize;
    if length > MAX_MESSAGE {
        return Err(format!("a message of {length} bytes is over the limit of {MAX_MESSAGE}"));
    }
    let Some(body) = rest.get(..length) else { return Ok(None) };
    let message = serde_json::from_slice(body).map_err(|err| format!("a message does not parse: {err}"))?;
    Ok(Some((message, 4 + length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_out_whole_however_they_arrive() {
        let sent = Request::Signal { number: 15, all: false };
        let bytes = [frame(&sent), frame(&Request::Wait)].concat();
        for cut in 0..frame(&sent).len() {
            assert_eq!(unframe::<Request>(&bytes[..cut]), Ok(None));
        }
        let (first, taken) = unframe::<Request>(&bytes).unwrap().unwrap();
        assert_eq!(first, sent);
        assert_eq!(unframe::<Request>(&bytes[taken..]).unwrap().unwrap().0, Request::Wait);
    }

    #[test]
    fn a_length_from_an_enemy_is_refused_before_anything_is_allocated() {
        assert!(unframe::<Request>(&[0xff; 8]).unwrap_err().contains("over the limit"));
        assert!(unframe::<Request>(&[2, 0, 0, 0, b'{', b'{']).unwrap_err().contains("does not parse"));
    }
}
