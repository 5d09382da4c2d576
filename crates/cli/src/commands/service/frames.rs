//! The daemon's answers that come bit by bit: frames of a log, and the times that logs are asked from. Used by all
//! commands that show logs or carry files.

use anyhow::Context as _;
use bytes::{Buf as _, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use crate::output::units::parse_duration;

/// Stream number, three zero bytes, length.
const HEADER_BYTES: usize = 8;
/// Longer than any frame the daemon sends: beyond it, the stream is something else.
const MAX_FRAME_BYTES: usize = 16 << 20;

/// A duration counts back from now; anything else goes as it is.
pub(crate) fn since(flag: &str, text: &str) -> anyhow::Result<String> {
    let Ok(duration) = parse_duration(text) else { return Ok(text.to_owned()) };
    let then = jiff::Timestamp::now().checked_sub(duration);
    Ok(then.with_context(|| format!("{flag} reaches back too far"))?.to_string())
}

pub(crate) async fn next(answer: &mut Incoming) -> anyhow::Result<Option<bytes::Bytes>> {
    while let Some(frame) = answer.frame().await {
        if let Ok(data) = frame.context("the daemon broke its answer off")?.into_data() {
            return Ok(Some(data));
        }
    }
    Ok(None)
}

/// The stream's number and the bytes of the first frame, if all of it is there.
pub(crate) fn take_frame(buffer: &mut BytesMut) -> anyhow::Result<Option<(u8, BytesMut)>> {
    if buffer.len() < HEADER_BYTES {
        return Ok(None);
    }
    let length = u32::from_be_bytes([buffer[4], buffer[5], buffer[6], buffer[7]]) as usize;
    anyhow::ensure!(buffer[0] <= 3 && length <= MAX_FRAME_BYTES, "the daemon's answer is not a log stream");
    if buffer.len() < HEADER_BYTES + length {
        return Ok(None);
    }
    let stream = buffer[0];
    buffer.advance(HEADER_BYTES);
    Ok(Some((stream, buffer.split_to(length))))
}
