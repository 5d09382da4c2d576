//! What the screen can do.

use std::io::{IsTerminal, Write as _};

/// Width assumed when the terminal does not say.
const DEFAULT_COLUMNS: usize = 80;

pub(crate) fn stdout_is_terminal() -> bool {
    std::io::stdout().is_terminal()
}

/// Columns of the terminal on standard output.
pub(crate) fn columns() -> usize {
    let size = rustix::termios::tcgetwinsize(std::io::stdout());
    size.map_or(DEFAULT_COLUMNS, |size| usize::from(size.ws_col)).max(20)
}

/// Colour only where somebody sees it and has not said no (https://no-color.org).
pub(crate) fn colours() -> bool {
    stdout_is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Writes text. A closed pipe (`… | head`) ends the program quietly, like other tools.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    write_all(text.as_bytes(), false)
}

pub(crate) fn print_bytes(bytes: &[u8]) -> anyhow::Result<()> {
    write_all(bytes, false)
}

pub(crate) fn print_error(text: &str) -> anyhow::Result<()> {
    write_all(text.as_bytes(), true)
}

pub(crate) fn print_error_bytes(bytes: &[u8]) -> anyhow::Result<()> {
    write_all(bytes, true)
}

fn write_all(bytes: &[u8], to_stderr: bool) -> anyhow::Result<()> {
    let result = match to_stderr {
        true => std::io::stderr().lock().write_all(bytes),
        false => {
            let mut out = std::io::stdout().lock();
            out.write_all(bytes).and_then(|()| out.flush())
        }
    };
    match result {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Err(crate::Quit(0).into()),
        other => Ok(other?),
    }
}
