//! From the bytes of a stream to lines, however the bytes arrive. A line above 16 KiB comes in pieces, as
//! in Docker. Used by the shim for each output. Pure.

/// Docker's limit for one entry.
const ENTRY_MAX: usize = 16 * 1024;

/// What one stream has begun and not ended. Empty while a container is silent, so it costs nothing.
#[derive(Default)]
pub(crate) struct Splitter {
    partial: Vec<u8>,
}

impl Splitter {
    /// Calls `entry` with each piece and whether it ends its line; the newline is not in the piece.
    pub(crate) fn feed(&mut self, mut bytes: &[u8], mut entry: impl FnMut(&[u8], bool)) {
        while let Some(at) = memchr::memchr(b'\n', bytes) {
            let (line, rest) = (&bytes[..at], &bytes[at + 1..]);
            if self.partial.is_empty() && line.len() <= ENTRY_MAX {
                entry(line, true);
            } else {
                self.partial.extend_from_slice(line);
                self.cut(&mut entry);
                entry(&self.partial, true);
                self.partial.clear();
            }
            bytes = rest;
        }
        self.partial.extend_from_slice(bytes);
        self.cut(&mut entry);
        if self.partial.is_empty() {
            self.partial = Vec::new();
        }
    }

    /// What no entry has been made of yet.
    pub(crate) fn begun(&self) -> &[u8] {
        &self.partial
    }

    /// The stream has ended: what is left is the last entry.
    pub(crate) fn finish(&mut self, mut entry: impl FnMut(&[u8], bool)) {
        if !self.partial.is_empty() {
            entry(&self.partial, false);
            self.partial = Vec::new();
        }
    }

    /// Gives out whole entries until at most one is left.
    fn cut(&mut self, entry: &mut impl FnMut(&[u8], bool)) {
        while self.partial.len() > ENTRY_MAX {
            let at = char_boundary(&self.partial, ENTRY_MAX);
            entry(&self.partial[..at], false);
            self.partial.drain(..at);
        }
    }
}

/// `at`, or up to three bytes before it, so that no UTF-8 character is cut in two.
fn char_boundary(bytes: &[u8], at: usize) -> usize {
    let continues = |index: usize| bytes[index] & 0xc0 == 0x80;
    (at - 3..=at).rev().find(|index| !continues(*index)).unwrap_or(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The entries, with `$` where a line ends.
    fn entries(chunks: &[&[u8]]) -> Vec<String> {
        let (mut splitter, mut out) = (Splitter::default(), Vec::new());
        let mut push = |text: &[u8], end: bool| {
            out.push(format!("{}{}", String::from_utf8_lossy(text), if end { "$" } else { "" }));
        };
        for chunk in chunks {
            splitter.feed(chunk, &mut push);
        }
        splitter.finish(&mut push);
        out
    }

    #[test]
    fn lines_however_they_arrive() {
        let text = b"one\ntwo\n\nthree";
        for size in 1..text.len() {
            assert_eq!(entries(&text.chunks(size).collect::<Vec<_>>()), ["one$", "two$", "$", "three"]);
        }
        assert!(entries(&[b""]).is_empty());
    }

    #[test]
    fn long_lines_come_in_pieces_and_lose_nothing() {
        let line = "é".repeat(20_000);
        for size in [1000, 4096, 65_536] {
            let bytes = format!("{line}\nx\n").into_bytes();
            let got = entries(&bytes.chunks(size).collect::<Vec<_>>());
            assert_eq!(got.len(), 4, "pieces of {size}");
            assert!(got.iter().all(|entry| entry.len() <= ENTRY_MAX + 1 && !entry.contains('\u{fffd}')));
            assert_eq!(got.concat(), format!("{line}$x$"));
        }
    }
}
