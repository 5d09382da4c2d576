//! Docker's frames: what stands before each piece of output, so that one connection carries several streams. Used here for
//! commands and attached clients, and by the API for logs. Output of a terminal has none.

/// Before the bytes of a piece: which stream, three zeros, and how many.
pub const FRAME_HEADER: usize = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameKind {
    Output = 1,
    Errors = 2,
    /// What the daemon itself has to say; Docker's clients show it as an error and end.
    System = 3,
}

impl FrameKind {
    pub fn of_output(is_stderr: bool) -> Self {
        if is_stderr { Self::Errors } else { Self::Output }
    }
}

pub fn frame_header(kind: FrameKind, length: usize) -> [u8; FRAME_HEADER] {
    let [a, b, c, d] = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    [kind as u8, 0, 0, 0, a, b, c, d]
}
