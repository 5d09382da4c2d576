//! A file by its address, for `import`. No registry is asked, so nobody's credentials are sent.

use std::{
    io,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::{Method, Response, body::Incoming, header};
use tokio::io::AsyncRead;
use tokio_stream::StreamExt as _;
use tokio_util::{io::StreamReader, sync::CancellationToken};

use super::{
    http::{Ask, Http, SILENCE_TIMEOUT, read_body},
    tls::public,
};
use crate::{
    error::{Error, Result},
    progress::{Progress, ProgressStatus},
};

const PROGRESS_EVERY: Duration = Duration::from_millis(100);
/// Of what a server says to a refusal so much is told on.
const MAX_REFUSAL_BYTES: u64 = 4 << 10;

/// Asks for what lies at `url`; what is read of it is told as the progress of an import. Once `gone` is cancelled reading
/// fails: an end would pass for that of the file.
///
/// # Errors
/// [`Error::Fetch`].
pub(crate) async fn open_url(
    url: &str,
    progress: Progress,
    gone: CancellationToken,
) -> Result<Box<dyn AsyncRead + Unpin + Send>> {
    let failed = |status, reason| Error::Fetch { url: url.to_owned(), status, reason };
    let ask = Ask { method: Method::GET, url: url.to_owned(), headers: &[], authorization: None, body: Bytes::new() };
    let answer = Http::new(public()?, false).send(ask).await;
    let response = answer.map_err(|error| failed(None, error.into_reason()))?;
    let status = response.status();
    if !status.is_success() {
        let said = read_body(response.into_body(), MAX_REFUSAL_BYTES).await.unwrap_or_default();
        let said: String = String::from_utf8_lossy(&said).chars().filter(|c| !c.is_control()).collect();
        let said = if said.trim().is_empty() { String::new() } else { format!(": {}", said.trim()) };
        return Err(failed(Some(status.as_u16()), format!("the server answers {status}{said}")));
    }
    progress.say("", ProgressStatus::DownloadingFrom(url.to_owned()));
    Ok(Box::new(counted(response, progress, gone)))
}

fn counted(
    response: Response<Incoming>,
    progress: Progress,
    gone: CancellationToken,
) -> impl AsyncRead + Unpin + Send + 'static {
    let length = response.headers().get(header::CONTENT_LENGTH);
    let total = length.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    let (mut bytes, mut last_word) = (0, Instant::now());
    let pieces = response.into_body().into_data_stream().timeout(SILENCE_TIMEOUT).map(move |piece| {
        let silent = |_| io::Error::other(format!("nothing came for {} s", SILENCE_TIMEOUT.as_secs()));
        let piece: Bytes = piece.map_err(silent)?.map_err(io::Error::other)?;
        if gone.is_cancelled() {
            return Err(io::Error::other("whoever asked for it has gone"));
        }
        bytes += piece.len() as u64;
        if total == Some(bytes) || last_word.elapsed() >= PROGRESS_EVERY {
            last_word = Instant::now();
            match total {
                Some(total) => progress.count("", ProgressStatus::Importing, bytes, total),
                // also because a client that has gone is seen by what is written to it alone
                None => progress.so_far("", ProgressStatus::Importing, bytes),
            }
        }
        Ok(piece)
    });
    StreamReader::new(Box::pin(pieces))
}
