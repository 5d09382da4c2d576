//! PAX extended headers: `length key=value\n` records. Pure; called by the tar reader only.

/// The records that matter to us.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Pax {
    pub path: Option<Vec<u8>>,
    pub link: Option<Vec<u8>>,
    pub size: Option<u64>,
    pub uid: Option<u64>,
    pub gid: Option<u64>,
    pub mtime: Option<(i64, u32)>,
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// GNU sparse, all three ways of writing it.
    pub sparse_major: Option<u64>,
    pub sparse_real_size: Option<u64>,
    pub sparse_map: Vec<u64>,
}

impl Pax {
    pub(super) fn parse(mut bytes: &[u8]) -> Result<Self, String> {
        let mut pax = Self::default();
        let mut sparse_name = None;
        while !bytes.is_empty() {
            let (key, value, rest) = record(bytes).ok_or("damaged PAX record")?;
            bytes = rest;
            // An empty value takes back what a global header said; we follow none.
            if value.is_empty() && !key.starts_with(b"SCHILY.xattr.") {
                continue;
            }
            match key {
                b"path" => pax.path = Some(value.to_vec()),
                b"linkpath" => pax.link = Some(value.to_vec()),
                b"size" => pax.size = Some(number(key, value)?),
                b"uid" => pax.uid = Some(number(key, value)?),
                b"gid" => pax.gid = Some(number(key, value)?),
                b"mtime" => pax.mtime = Some(time(value).ok_or("bad PAX mtime")?),
                b"GNU.sparse.name" => sparse_name = Some(value.to_vec()),
                b"GNU.sparse.major" => pax.sparse_major = Some(number(key, value)?),
                b"GNU.sparse.realsize" | b"GNU.sparse.size" => pax.sparse_real_size = Some(number(key, value)?),
                b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => pax.sparse_map.push(number(key, value)?),
                b"GNU.sparse.map" => {
                    let parts = value.split(|b| *b == b',').map(|part| number(key, part));
                    pax.sparse_map = parts.collect::<Result<_, _>>()?;
                }
                _ => {
                    if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                        pax.xattrs.push((name.to_vec(), value.to_vec()));
                    }
                }
            }
        }
        pax.path = sparse_name.or(pax.path);
        Ok(pax)
    }
}

/// Splits off the first record.
fn record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let blank = bytes.iter().position(|b| *b == b' ')?;
    let length: usize = std::str::from_utf8(&bytes[..blank]).ok()?.parse().ok()?;
    let body = bytes.get(blank + 1..length)?.strip_suffix(b"\n")?;
    let equals = body.iter().position(|b| *b == b'=')?;
    Some((&body[..equals], &body[equals + 1..], &bytes[length..]))
}

fn number(key: &[u8], value: &[u8]) -> Result<u64, String> {
    let parsed = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
    parsed.ok_or_else(|| format!("bad PAX {}", String::from_utf8_lossy(key)))
}

/// Seconds and nanoseconds; the fraction of a negative time counts downwards.
fn time(value: &[u8]) -> Option<(i64, u32)> {
    let text = std::str::from_utf8(value).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().ok()?;
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let nanos: u32 = format!("{fraction:0<9}")[..9].parse().ok()?;
    if whole.starts_with('-') && nanos > 0 {
        return Some((seconds.checked_sub(1)?, 1_000_000_000 - nanos));
    }
    Some((seconds, nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read() {
        let pax = Pax::parse(b"12 path=a/b\n27 mtime=1700000000.123456\n25 SCHILY.xattr.user.a=\n\n").expect("good");
        assert_eq!(pax.path.as_deref(), Some(b"a/b".as_slice()));
        assert_eq!(pax.mtime, Some((1_700_000_000, 123_456_000)));
        assert_eq!(pax.xattrs, [(b"user.a".to_vec(), b"\n".to_vec())]);
        assert_eq!(time(b"-1.5"), Some((-2, 500_000_000)));
    }

    #[test]
    fn damage_is_noticed() {
        for bad in
            [b"x".as_slice(), b"99 path=a\n", b"0 a=b\n", b"3 a=b\n", b"10 path=a/b\n", b"11 size=xyz\n", b"2 \n"]
        {
            assert!(Pax::parse(bad).is_err(), "{}", String::from_utf8_lossy(bad));
        }
    }
}
