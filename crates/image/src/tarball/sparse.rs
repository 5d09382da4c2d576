//! Maps of sparse files in tar: old GNU headers and the three PAX forms.
//! Called by the tar reader only; never accepts a map that overlaps or leaves the file.

use std::io::Read;

use tar::{GnuExtSparseHeader, Header};

use super::{TarReader, pax::Pax};

/// `length` stored bytes belong at `offset` of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment {
    pub offset: u64,
    pub length: u64,
}

/// More holes than any honest file has, few enough to hold: 1 MiB of map.
const MAX_SEGMENTS: usize = 65_536;

type Map = (Vec<Segment>, u64);

/// The map of an old GNU sparse entry; reads the extension blocks that follow its header.
pub(super) fn read_gnu(header: &Header, reader: &mut impl Read) -> Result<Map, String> {
    let gnu = header.as_gnu().ok_or("sparse entry without a GNU header")?;
    let real_size = gnu.real_size().map_err(|e| format!("bad sparse size: {e}"))?;
    let mut segments = Vec::new();
    let mut push = |list: &[tar::GnuSparseHeader]| {
        for item in list.iter().filter(|i| !i.is_empty()) {
            let offset = item.offset().map_err(|e| format!("bad sparse offset: {e}"))?;
            let length = item.length().map_err(|e| format!("bad sparse length: {e}"))?;
            segments.push(Segment { offset, length });
        }
        if segments.len() > MAX_SEGMENTS { Err(format!("more than {MAX_SEGMENTS} sparse segments")) } else { Ok(()) }
    };
    push(&gnu.sparse)?;
    let mut more = gnu.is_extended();
    while more {
        let mut extension = GnuExtSparseHeader::new();
        reader.read_exact(extension.as_mut_bytes()).map_err(|e| format!("cannot read the sparse map: {e}"))?;
        push(extension.sparse())?;
        more = extension.is_extended();
    }
    Ok((segments, real_size))
}

/// The map of a PAX entry, if it has one; form 1.0 stands at the beginning of the data.
pub(super) fn from_pax<R: Read>(pax: &Pax, data: &mut TarReader<R>, stored: u64) -> Result<Option<Map>, String> {
    let Some(real_size) = pax.sparse_real_size else { return Ok(None) };
    let numbers = if pax.sparse_major == Some(1) { read_map_1_0(data, stored)? } else { pax.sparse_map.clone() };
    if !numbers.len().is_multiple_of(2) || numbers.len() / 2 > MAX_SEGMENTS {
        return Err("damaged sparse map".to_owned());
    }
    let segments = numbers.chunks_exact(2).map(|pair| Segment { offset: pair[0], length: pair[1] }).collect();
    Ok(Some((segments, real_size)))
}

/// Decimal numbers, one per line: the count of segments, then offset and length of each; padded to 512.
fn read_map_1_0<R: Read>(data: &mut TarReader<R>, stored: u64) -> Result<Vec<u64>, String> {
    let (mut numbers, mut wanted) = (Vec::new(), 1);
    let mut current: Option<u64> = None;
    let mut consumed = 0;
    while numbers.len() < wanted {
        let mut block = [0u8; 512];
        consumed += block.len() as u64;
        if consumed > stored {
            return Err("the sparse map is longer than the entry".to_owned());
        }
        data.read_exact(&mut block).map_err(|e| format!("cannot read the sparse map: {e}"))?;
        for byte in block {
            match (byte, current) {
                _ if numbers.len() == wanted => break,
                (b'\n', Some(number)) => {
                    numbers.push(number);
                    current = None;
                    if numbers.len() == 1 {
                        let count = usize::try_from(number).ok().filter(|n| *n <= MAX_SEGMENTS);
                        wanted = 1 + 2 * count.ok_or_else(|| format!("{number} sparse segments are too many"))?;
                    }
                }
                (b'0'..=b'9', _) => {
                    let digit = u64::from(byte - b'0');
                    let next = current.unwrap_or(0).checked_mul(10).and_then(|n| n.checked_add(digit));
                    current = Some(next.ok_or("a number in the sparse map is too large")?);
                }
                _ => return Err("damaged sparse map".to_owned()),
            }
        }
    }
    numbers.remove(0);
    Ok(numbers)
}

/// Segments in order, apart, inside the file, and exactly as many bytes as are stored.
pub(super) fn check(segments: &[Segment], real_size: u64, stored: u64) -> Result<(), String> {
    let mut end = 0u64;
    let mut total = 0u64;
    for segment in segments {
        let next = segment.offset.checked_add(segment.length).filter(|n| *n <= real_size && segment.offset >= end);
        end = next.ok_or("sparse segments overlap or leave the file")?;
        total += segment.length;
    }
    if total == stored { Ok(()) } else { Err(format!("the sparse map names {total} bytes, the entry has {stored}")) }
}
