//! The container's output as a file, in the format of Docker's json-file driver: one JSON object per
//! line; files that were rotated may be compressed (`packer`). `writer` runs in the shim and is the only one to touch the files; `reader` and `follow` run in the
//! daemon and only read.

mod entry;
mod files;
mod forward;
#[allow(unsafe_code, reason = "forks a child that compresses; each block has its proof")]
mod packer;
mod reader;
mod splitter;
mod writer;

/// What a line of the shim begins with that is about lines left out.
pub(crate) const COMPLAINT: &str = "log driver: ";

pub use entry::{LogEntry, Stream};
pub(crate) use reader::open;
pub use reader::{LogQuery, LogStream};
pub(crate) use splitter::Splitter;
pub(crate) use writer::LogWriter;
