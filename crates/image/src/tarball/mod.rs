//! Reads tar streams entry by entry: ustar, GNU (long names, sparse) and PAX (names, sizes, times,
//! xattrs, sparse 0.0 to 1.0).
//! Called by the layer unpacker and by `load`. It never believes a length: headers that are not file
//! data are bounded, so a stream cannot make us hold more than [`MAX_EXTENSION_BYTES`].

mod pax;
mod sparse;

use std::io::{self, Read};

use pax::Pax;
pub(crate) use sparse::Segment;
use tar::{EntryType, Header};

const BLOCK: usize = 512;
/// Largest long name, link name or PAX header; the largest honest one is an xattr of 64 KiB.
const MAX_EXTENSION_BYTES: u64 = 1 << 20;
/// `PATH_MAX` of Linux.
const MAX_PATH_BYTES: usize = 4096;

/// Why a tar stream cannot be read on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TarError {
    #[error("cannot read")]
    Read(#[from] io::Error),
    /// It begins as no tar does, plain or unpacked.
    #[error("it is no tar archive, neither plain nor compressed with gzip, bzip2, xz or zstd")]
    NoTar,
    #[error("entry {entry:?}: {reason}")]
    Bad { entry: String, reason: String },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    HardLink,
    Symlink,
    Directory,
    CharDevice,
    BlockDevice,
    Fifo,
}

/// One entry, extensions already applied.
#[derive(Debug, Clone)]
pub(crate) struct TarEntry {
    pub path: Vec<u8>,
    pub kind: Kind,
    pub link: Vec<u8>,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime_seconds: i64,
    pub mtime_nanos: u32,
    /// Size of the file once unpacked, bytes.
    pub size: u64,
    pub major: u32,
    pub minor: u32,
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Where the stored bytes go; `None`: from the beginning, in order.
    pub sparse: Option<Vec<Segment>>,
}

impl TarEntry {
    pub(crate) fn name(&self) -> String {
        show(&self.path)
    }
}

/// Bytes as text for messages, which people read on a terminal.
fn show(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(300)]).replace(char::REPLACEMENT_CHARACTER, "?")
}

fn bad(entry: &[u8], reason: impl Into<String>) -> TarError {
    TarError::Bad { entry: show(entry), reason: reason.into() }
}

/// A tar stream; `Read` gives the stored bytes of the entry `next_entry` returned last.
pub(crate) struct TarReader<R> {
    inner: R,
    /// Stored bytes of the current entry not yet read, and the padding behind them.
    left: u64,
    padding: u64,
    begun: bool,
    ended: bool,
}

/// Long names and PAX records waiting for the entry they belong to.
#[derive(Default)]
struct Pending {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    pax: Option<Pax>,
}

impl<R: Read> TarReader<R> {
    pub(crate) fn new(inner: R) -> Self {
        Self { inner, left: 0, padding: 0, begun: false, ended: false }
    }

    /// The reader behind, to read what follows the end of the archive.
    pub(crate) fn into_inner(self) -> R {
        self.inner
    }

    /// The next entry, or nothing at the end of the archive.
    pub(crate) fn next_entry(&mut self) -> Result<Option<TarEntry>, TarError> {
        let mut pending = Pending::default();
        loop {
            self.skip_data()?;
            let Some(block) = self.next_header()? else {
                self.ended = true;
                return Ok(None);
            };
            let header = Header::from_byte_slice(&block);
            let name = header.path_bytes().into_owned();
            verify_checksum(&block).map_err(|reason| bad(&name, reason))?;
            let size =
                number(header, 124..136, Header::entry_size).map_err(|e| bad(&name, format!("bad size: {e}")))?;
            let extension = |kind: &str| {
                if size > MAX_EXTENSION_BYTES {
                    return Err(bad(
                        &name,
                        format!("{kind} of {size} bytes, at most {MAX_EXTENSION_BYTES} are accepted"),
                    ));
                }
                Ok(())
            };
            match header.entry_type() {
                EntryType::GNULongName => {
                    extension("long name")?;
                    pending.path = Some(trim_nul(self.read_extension(size)?));
                }
                EntryType::GNULongLink => {
                    extension("long link name")?;
                    pending.link = Some(trim_nul(self.read_extension(size)?));
                }
                EntryType::XHeader => {
                    extension("PAX header")?;
                    let bytes = self.read_extension(size)?;
                    pending.pax = Some(Pax::parse(&bytes).map_err(|reason| bad(&name, reason))?);
                }
                EntryType::XGlobalHeader => {
                    extension("PAX global header")?;
                    self.start_data(size);
                }
                _ => return self.finish_entry(header, name, size, pending).map(Some),
            }
        }
    }

    /// Nothing at the end of the archive: a block of zeros, or that of the stream.
    fn next_header(&mut self) -> Result<Option<[u8; BLOCK]>, TarError> {
        let mut block = [0u8; BLOCK];
        let filled = if self.ended { 0 } else { self.read_block(&mut block)? };
        if filled == 0 || (filled == BLOCK && block.iter().all(|b| *b == 0)) {
            return Ok(None);
        }
        if !std::mem::replace(&mut self.begun, true) && !begins_tar(&block) {
            return Err(TarError::NoTar);
        }
        if filled < BLOCK { Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()) } else { Ok(Some(block)) }
    }

    fn finish_entry(
        &mut self,
        header: &Header,
        name: Vec<u8>,
        size: u64,
        pending: Pending,
    ) -> Result<TarEntry, TarError> {
        let pax = pending.pax.unwrap_or_default();
        let path = pax.path.clone().or(pending.path).unwrap_or(name);
        let field = |what: &str, value: io::Result<u64>| value.map_err(|e| bad(&path, format!("bad {what}: {e}")));
        let small = |what: &str, value: io::Result<u64>| {
            let number = field(what, value)?;
            u32::try_from(number).map_err(|_| bad(&path, format!("{what} {number} is out of range")))
        };
        let device = |value: io::Result<Option<u32>>| value.ok().flatten().unwrap_or(0);
        let kind = kind_of(header, &path)?;
        let link = pax.link.clone().or(pending.link);
        let link = link.or_else(|| header.link_name_bytes().map(std::borrow::Cow::into_owned)).unwrap_or_default();
        for text in [&path, &link] {
            if text.len() > MAX_PATH_BYTES || text.contains(&0) {
                return Err(bad(&path, format!("a name of {} bytes, or with a NUL in it, cannot exist", text.len())));
            }
        }
        // Only files have data; others may carry a size by old habit.
        let stored = if kind == Kind::File { pax.size.unwrap_or(size) } else { 0 };
        let mtime = pax
            .mtime
            .unwrap_or((i64::try_from(field("mtime", number(header, 136..148, Header::mtime))?).unwrap_or(0), 0));
        let mut entry = TarEntry {
            kind,
            link,
            mode: small("mode", number(header, 100..108, |h| h.mode().map(u64::from)))? & 0o7777,
            uid: small("uid", pax.uid.map_or_else(|| number(header, 108..116, Header::uid), Ok))?,
            gid: small("gid", pax.gid.map_or_else(|| number(header, 116..124, Header::gid), Ok))?,
            mtime_seconds: mtime.0,
            mtime_nanos: mtime.1,
            size: stored,
            major: device(header.device_major()),
            minor: device(header.device_minor()),
            xattrs: Vec::new(),
            sparse: None,
            path,
        };
        // The GNU extension blocks stand before the data and are not part of its size.
        let map = if header.entry_type() == EntryType::GNUSparse {
            Some(sparse::read_gnu(header, &mut self.inner).map_err(|reason| bad(&entry.path, reason))?)
        } else {
            None
        };
        self.start_data(stored);
        let map = match map {
            None => sparse::from_pax(&pax, self, stored).map_err(|reason| bad(&entry.path, reason))?,
            map => map,
        };
        if let Some((segments, real_size)) = map {
            sparse::check(&segments, real_size, self.left).map_err(|reason| bad(&entry.path, reason))?;
            entry.size = real_size;
            entry.sparse = Some(segments);
        }
        entry.xattrs = pax.xattrs;
        Ok(entry)
    }

    fn start_data(&mut self, size: u64) {
        self.left = size;
        self.padding = size.wrapping_neg() % BLOCK as u64;
    }

    fn skip_data(&mut self) -> Result<(), TarError> {
        let rest = self.left.saturating_add(self.padding);
        let skipped = io::copy(&mut (&mut self.inner).take(rest), &mut io::sink())?;
        let padded = self.left;
        (self.left, self.padding) = (0, 0);
        // A missing padding at the very end is harmless, missing data is not.
        if skipped < padded { Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()) } else { Ok(()) }
    }

    fn read_extension(&mut self, size: u64) -> Result<Vec<u8>, TarError> {
        self.start_data(size);
        let mut bytes = Vec::new();
        self.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Gives how much of it there was before the stream ended.
    fn read_block(&mut self, block: &mut [u8; BLOCK]) -> Result<usize, TarError> {
        let mut filled = 0;
        while filled < BLOCK {
            match self.inner.read(&mut block[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(filled)
    }
}

impl<R: Read> Read for TarReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.inner.read(&mut buffer[..most])?;
        if count == 0 && most > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= count as u64;
        Ok(count)
    }
}

/// A number of the header; a field left blank is 0, as other readers take it.
fn number(
    header: &Header,
    field: std::ops::Range<usize>,
    read: impl Fn(&Header) -> io::Result<u64>,
) -> io::Result<u64> {
    let blank = header.as_bytes()[field].iter().all(|b| matches!(b, 0 | b' '));
    if blank { Ok(0) } else { read(header) }
}

fn kind_of(header: &Header, path: &[u8]) -> Result<Kind, TarError> {
    Ok(match header.entry_type() {
        EntryType::Regular | EntryType::Continuous if path.ends_with(b"/") => Kind::Directory,
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => Kind::File,
        EntryType::Link => Kind::HardLink,
        EntryType::Symlink => Kind::Symlink,
        EntryType::Directory => Kind::Directory,
        EntryType::Char => Kind::CharDevice,
        EntryType::Block => Kind::BlockDevice,
        EntryType::Fifo => Kind::Fifo,
        other => return Err(bad(path, format!("unknown entry type {:#04x}", other.as_byte()))),
    })
}

/// The sum of all header bytes with the checksum itself as blanks; some old writers sum signed bytes.
fn verify_checksum(block: &[u8; BLOCK]) -> Result<(), String> {
    let stored = Header::from_byte_slice(block).cksum();
    let stored = stored.map_err(|_| "not a tar header: its checksum is no number".to_owned())?;
    let blanked = block.iter().enumerate().map(|(i, b)| if (148..156).contains(&i) { b' ' } else { *b });
    let unsigned: u32 = blanked.clone().map(u32::from).sum();
    let signed: i32 = blanked.map(|b| i32::from(b.cast_signed())).sum();
    if stored == unsigned || i64::from(stored) == i64::from(signed) {
        return Ok(());
    }
    Err(format!("not a tar header: checksum {unsigned}, the header says {stored}"))
}

/// Whether a stream that begins so is a tar, be it a damaged one: what is none has neither the mark nor the checksum.
fn begins_tar(block: &[u8; BLOCK]) -> bool {
    block[257..262] == *b"ustar" || verify_checksum(block).is_ok()
}

fn trim_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    bytes.truncate(end);
    bytes
}

#[cfg(test)]
mod tests;
