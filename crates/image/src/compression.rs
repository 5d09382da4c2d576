//! Undoes gzip and zstd by looking at the first bytes, so a wrong media type does no harm.
//! Called for layers and for whole archives; never guesses: anything else is passed on as it is.

use std::io::{self, BufReader, Chain, Cursor, Read};

use flate2::read::MultiGzDecoder;

/// Window of the widest zstd frame accepted, as a power of two: 128 MiB, what `zstd --long` writes.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;
const READ_BUFFER_BYTES: usize = 64 << 10;

type Peeked<R> = Chain<Cursor<Vec<u8>>, R>;

/// A reader of the uncompressed bytes.
pub(crate) enum Decompressed<R: Read> {
    Plain(Peeked<R>),
    Gzip(Box<MultiGzDecoder<BufReader<Peeked<R>>>>),
    Zstd(Box<zstd::Decoder<'static, BufReader<Peeked<R>>>>),
}

impl<R: Read> Decompressed<R> {
    pub(crate) fn new(mut reader: R) -> io::Result<Self> {
        let mut magic = Vec::with_capacity(4);
        reader.by_ref().take(4).read_to_end(&mut magic)?;
        let gzip = magic.starts_with(&[0x1f, 0x8b]);
        let zstd = magic == [0x28, 0xb5, 0x2f, 0xfd];
        let peeked = Cursor::new(magic).chain(reader);
        if gzip {
            let buffered = BufReader::with_capacity(READ_BUFFER_BYTES, peeked);
            return Ok(Self::Gzip(Box::new(MultiGzDecoder::new(buffered))));
        }
        if zstd {
            let buffered = BufReader::with_capacity(READ_BUFFER_BYTES, peeked);
            let mut decoder = zstd::Decoder::with_buffer(buffered)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
            return Ok(Self::Zstd(Box::new(decoder)));
        }
        Ok(Self::Plain(peeked))
    }
}

impl<R: Read> Read for Decompressed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(reader) => reader.read(buffer),
            Self::Gzip(reader) => reader.read(buffer),
            Self::Zstd(reader) => reader.read(buffer),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn read(bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        Decompressed::new(bytes).expect("opens").read_to_end(&mut out).expect("reads");
        out
    }

    #[test]
    fn every_kind_is_recognised() {
        let text = b"hello hello hello".as_slice();
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(text).expect("in memory");
        let mut twice = gzip.finish().expect("in memory");
        twice.extend_from_within(..);
        assert_eq!(read(text), text);
        assert_eq!(read(&twice), [text, text].concat());
        assert_eq!(read(&zstd::encode_all(text, 1).expect("in memory")), text);
        assert_eq!(read(b""), b"");
        assert_eq!(read(b"ab"), b"ab");
    }
}
