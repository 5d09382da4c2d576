//! What can go wrong around the process that writes PROXY protocol headers.

use std::{io, path::PathBuf};

use crate::netd::NetdError;

/// A failure to run or start it.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    #[error("cannot start the runtime of the PROXY protocol's process")]
    Runtime(#[source] io::Error),
    #[error("cannot listen on any port of this host for connections that get a PROXY protocol header")]
    Listen(#[source] io::Error),
    #[error("cannot keep where the PROXY protocol's process listens")]
    State(#[source] NetdError),
    #[error("cannot write {path}")]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the PROXY protocol's process of before (pid {pid}) does not give up its place, not even killed")]
    Stays { pid: i32 },
    #[error("no command is known that starts the PROXY protocol's process")]
    NoCommand,
    #[error("cannot start the PROXY protocol's process {exe}")]
    Start {
        exe: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the PROXY protocol's process {what}; its last words are in netd's log, {log}")]
    NotUp { what: String, log: PathBuf },
}
