//! Length-prefixed JSON on a stream. Both ends of the socket use it.

use serde::{Serialize, de::DeserializeOwned};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{NetdError, protocol::MAX_FRAME};

/// The next message.
///
/// # Errors
/// [`NetdError::Conversation`] at the end of the stream; [`NetdError::TooLong`] before anything is allocated.
pub(crate) async fn read_frame<T: DeserializeOwned>(stream: &mut (impl AsyncRead + Unpin)) -> Result<T, NetdError> {
    let length = stream.read_u32().await.map_err(NetdError::Conversation)? as usize;
    if length > MAX_FRAME {
        return Err(NetdError::TooLong(length));
    }
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).await.map_err(NetdError::Conversation)?;
    serde_json::from_slice(&bytes).map_err(NetdError::Form)
}

/// The first message in a buffer, taken out of it; None while it is not whole.
pub(crate) fn take_frame<T: DeserializeOwned>(buffer: &mut Vec<u8>) -> Result<Option<T>, NetdError> {
    let Some((prefix, rest)) = buffer.split_first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_be_bytes(*prefix) as usize;
    if length > MAX_FRAME {
        return Err(NetdError::TooLong(length));
    }
    let Some(bytes) = rest.get(..length) else { return Ok(None) };
    let value = serde_json::from_slice(bytes).map_err(NetdError::Form)?;
    buffer.drain(..4 + length);
    Ok(Some(value))
}

/// Sends one message.
pub(crate) async fn write_frame(
    stream: &mut (impl AsyncWrite + Unpin),
    value: &impl Serialize,
) -> Result<(), NetdError> {
    let mut bytes = vec![0; 4];
    serde_json::to_writer(&mut bytes, value).map_err(NetdError::Form)?;
    let length = bytes.len() - 4;
    let prefix = u32::try_from(length).ok().filter(|_| length <= MAX_FRAME).ok_or(NetdError::TooLong(length))?;
    bytes[..4].copy_from_slice(&prefix.to_be_bytes());
    stream.write_all(&bytes).await.map_err(NetdError::Conversation)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_out_whole_however_they_arrive() {
        let bytes = b"\0\0\0\x03[1]\0\0\0\x05[2,3]";
        let (mut buffer, mut found) = (Vec::new(), Vec::new());
        for byte in bytes {
            buffer.push(*byte);
            found.extend(take_frame::<Vec<u8>>(&mut buffer).expect("well formed"));
        }
        assert_eq!(found, [vec![1], vec![2, 3]]);
        assert!(buffer.is_empty());
        assert!(matches!(take_frame::<u8>(&mut vec![255; 4]), Err(NetdError::TooLong(_))));
        assert!(matches!(take_frame::<u8>(&mut b"\0\0\0\x01x".to_vec()), Err(NetdError::Form(_))));
    }
}
