//! What can go wrong around the data plane process.

use std::{io, path::PathBuf};

use super::protocol::MAX_FRAME;

/// A failure to run, start or speak to the data plane process.
#[derive(Debug, thiserror::Error)]
pub enum NetdError {
    #[error("cannot {doing} {path}")]
    File {
        doing: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("another data plane process (pid {pid}) runs with {path}: stop it first, or use its socket")]
    Running { pid: i32, path: PathBuf },
    #[error("cannot start the runtime of the data plane process")]
    Runtime(#[source] io::Error),
    #[error("cannot start the encrypted data path")]
    Encryption(#[source] crate::wireguard::WireguardError),
    #[error("a part of the data plane process ended: {}", .0.as_deref().unwrap_or("without an error"))]
    TaskEnded(Option<String>),
    #[error("cannot start the data plane process {exe}")]
    Start {
        exe: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the data plane process did not come up within {seconds} s; its last words are in {log}")]
    NotUp { seconds: u64, log: PathBuf },
    #[error("the data plane process ended at once ({status}); its last words are in {log}")]
    EndedAtOnce { status: String, log: PathBuf },
    #[error("the data plane process (pid {pid}) does not end, not even killed")]
    DoesNotEnd { pid: i32 },
    #[error("no data plane process answers on {socket}: is the daemon running?")]
    Connect {
        socket: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the conversation with the data plane process broke off")]
    Conversation(#[source] io::Error),
    #[error("the data plane process did not answer {request} within {seconds} s")]
    NoAnswer { request: &'static str, seconds: u64 },
    #[error("a message of {0} bytes is longer than the allowed {MAX_FRAME}")]
    TooLong(usize),
    #[error("not a message of this protocol")]
    Form(#[source] serde_json::Error),
    #[error("the data plane process gave an answer of the wrong kind to {request}")]
    WrongAnswer { request: &'static str },
    #[error("the data plane process refuses: {0}")]
    Refused(String),
}
