//! Undoes gzip, zstd, bzip2 and xz by looking at the first bytes, so a wrong media type does no harm.
//! Called for layers and for whole archives; never guesses: anything else is passed on as it is. None of them takes more
//! memory than a bound, whatever the stream says of itself.

use std::io::{self, BufReader, Chain, Cursor, Read};

use bzip2::bufread::MultiBzDecoder;
use flate2::read::MultiGzDecoder;
use liblzma::{
    bufread::XzDecoder,
    stream::{CONCATENATED, Error as XzError, Stream},
};

/// Window of the widest zstd frame accepted, as a power of two: 128 MiB, what `zstd --long` writes.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;
/// Memory that an xz stream may ask for: a dictionary of 128 MiB, twice that of `xz -9`, and what goes with it.
const XZ_MEMORY_MAX_BYTES: u64 = 136 << 20;
const READ_BUFFER_BYTES: usize = 64 << 10;
/// By so many first bytes all are known.
const MAGIC_BYTES: u64 = 10;
/// What stands behind `BZh` and a digit: the first block, or the end of a stream of nothing.
const BZIP2_BLOCK: [u8; 6] = [0x31, 0x41, 0x59, 0x26, 0x53, 0x59];
const BZIP2_END: [u8; 6] = [0x17, 0x72, 0x45, 0x38, 0x50, 0x90];

type Peeked<R> = Chain<Cursor<Vec<u8>>, R>;

/// A reader of the uncompressed bytes.
pub(crate) enum Decompressed<R: Read> {
    Plain(Peeked<R>),
    Gzip(Box<MultiGzDecoder<BufReader<Peeked<R>>>>),
    Zstd(Box<zstd::Decoder<'static, BufReader<Peeked<R>>>>),
    Bzip2(Box<MultiBzDecoder<BufReader<Peeked<R>>>>),
    Xz(Box<XzDecoder<BufReader<Peeked<R>>>>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    Gzip,
    Zstd,
    Bzip2,
    Xz,
}

impl Kind {
    fn of(magic: &[u8]) -> Self {
        match magic {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Xz,
            [b'B', b'Z', b'h', b'1'..=b'9', rest @ ..] if rest == BZIP2_BLOCK || rest == BZIP2_END => Self::Bzip2,
            _ => Self::Plain,
        }
    }
}

impl<R: Read> Decompressed<R> {
    pub(crate) fn new(reader: R) -> io::Result<Self> {
        Self::unless(reader, |_| false)
    }

    /// The same, but for what every engine takes as a layer, which stays as it is.
    pub(crate) fn as_layer(reader: R) -> io::Result<Self> {
        Self::unless(reader, |kind| matches!(kind, Kind::Gzip | Kind::Zstd))
    }

    fn unless(mut reader: R, stays: impl Fn(Kind) -> bool) -> io::Result<Self> {
        let mut magic = Vec::with_capacity(MAGIC_BYTES as usize);
        reader.by_ref().take(MAGIC_BYTES).read_to_end(&mut magic)?;
        let kind = Kind::of(&magic);
        let peeked = Cursor::new(magic).chain(reader);
        if stays(kind) {
            return Ok(Self::Plain(peeked));
        }
        let buffered = |peeked| BufReader::with_capacity(READ_BUFFER_BYTES, peeked);
        Ok(match kind {
            Kind::Plain => Self::Plain(peeked),
            Kind::Gzip => Self::Gzip(Box::new(MultiGzDecoder::new(buffered(peeked)))),
            Kind::Zstd => {
                let mut decoder = zstd::Decoder::with_buffer(buffered(peeked))?;
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
                Self::Zstd(Box::new(decoder))
            }
            Kind::Bzip2 => Self::Bzip2(Box::new(MultiBzDecoder::new(buffered(peeked)))),
            Kind::Xz => {
                let stream = Stream::new_stream_decoder(XZ_MEMORY_MAX_BYTES, CONCATENATED)?;
                Self::Xz(Box::new(XzDecoder::new_stream(buffered(peeked), stream)))
            }
        })
    }
}

impl<R: Read> Read for Decompressed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(reader) => reader.read(buffer),
            Self::Gzip(reader) => reader.read(buffer),
            Self::Zstd(reader) => reader.read(buffer),
            Self::Bzip2(reader) => reader.read(buffer),
            Self::Xz(reader) => reader.read(buffer).map_err(of_xz),
        }
    }
}

fn of_xz(error: io::Error) -> io::Error {
    let why = error.get_ref().and_then(|why| why.downcast_ref::<XzError>());
    if matches!(why, Some(XzError::MemLimit)) {
        let most = XZ_MEMORY_MAX_BYTES >> 20;
        return io::Error::other(format!(
            "unpacking it takes more than the {most} MiB of memory that are allowed; compress it again with a smaller \
             dictionary, as `xz -9` does"
        ));
    }
    error
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

    const TEXT: &[u8] = b"hello hello hello";
    /// The text by xz 5 and bzip2 1.
    const XZ: &str = "fd377a585a0000016922de360200210116000000742fe5a3e00010000b5d00341949ee8de94f7e15e000\
                      00008088f9e500012311b8e29ff49042990d010000000001595a";
    const BZIP2: &str = "425a68393141592653599e625bfe000002910040000244a000211460668291ef23470bb9229c28484f\
                         312dff00";
    /// The text by `xz --lzma2=dict=1GiB`.
    const LARGE_XZ: &str = "fd377a585a0000016922de3602002101240000005e1fc7f9e00010000c5d00341949db855c67722a61\
                            0000008088f9e5000124117f74debb9042990d010000000001595a";

    fn bytes(hexadecimal: &str) -> Vec<u8> {
        let pairs = hexadecimal.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).expect("digits"));
        pairs.map(|pair| u8::from_str_radix(pair, 16).expect("a byte")).collect()
    }

    #[test]
    fn every_kind_is_recognised() {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(TEXT).expect("in memory");
        for packed in [gzip.finish().expect("in memory"), bytes(XZ), bytes(BZIP2)] {
            let mut twice = packed;
            twice.extend_from_within(..);
            assert_eq!(read(&twice), [TEXT, TEXT].concat());
        }
        assert_eq!(read(&zstd::encode_all(TEXT, 1).expect("in memory")), TEXT);
        for plain in [b"".as_slice(), b"ab", b"BZh9 is a name", b"7zXZ"] {
            assert_eq!(read(plain), plain);
        }
    }

    /// E-08: an imported layer can be pushed to whom xz and bzip2 mean nothing.
    #[test]
    fn e_08_what_all_take_as_a_layer_stays() {
        let kept = |packed: &[u8]| {
            let mut out = Vec::new();
            Decompressed::as_layer(packed).expect("opens").read_to_end(&mut out).expect("reads");
            out
        };
        let zstd = zstd::encode_all(TEXT, 1).expect("in memory");
        assert_eq!(kept(&zstd), zstd);
        assert_eq!((kept(&bytes(XZ)).as_slice(), kept(&bytes(BZIP2)).as_slice()), (TEXT, TEXT));
    }

    /// E-07: what a stream says of itself does not fill the memory, and one that ends early is none.
    #[test]
    fn e_07_hostile_streams_are_refused() {
        let fails = |packed: &[u8]| {
            let mut decompressed = Decompressed::new(packed).expect("opens");
            decompressed.read_to_end(&mut Vec::new()).expect_err("refused").to_string()
        };
        assert!(fails(&bytes(LARGE_XZ)).contains("more than the 136 MiB of memory"));
        for packed in [bytes(XZ), bytes(BZIP2)] {
            fails(&packed[..packed.len() - 20]);
            let mut damaged = packed.clone();
            damaged[30] ^= 0xff;
            fails(&damaged);
        }
    }
}
