//! The keys by which a person leaves a terminal without ending what runs in it. Pure; called by the streams.

/// Docker's own.
const DEFAULT: [u8; 2] = [16, 17]; // ctrl-p, ctrl-q

/// A sequence of keys, and how much of it was seen last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DetachKeys {
    keys: Vec<u8>,
    seen: usize,
}

impl DetachKeys {
    /// From Docker's `ctrl-p,ctrl-q`; empty is the default.
    ///
    /// # Errors
    /// When it is none, with the part at fault.
    pub fn parse(text: &str) -> Result<Self, String> {
        let keys = match text {
            "" => DEFAULT.to_vec(),
            _ => text.split(',').map(|part| key(part).ok_or(part)).collect::<Result<_, _>>().map_err(|part| {
                format!("invalid detach keys ({text}) provided: {part:?} is neither a character nor ctrl- and one of a-z@[\\]^_")
            })?,
        };
        Ok(Self { keys, seen: 0 })
    }

    /// Takes typed bytes: what of them (and of those held back before) goes on, and whether the sequence is complete.
    pub(super) fn filter(&mut self, typed: &[u8], out: &mut Vec<u8>) -> bool {
        for byte in typed {
            if self.keys[self.seen] == *byte {
                self.seen += 1;
                if self.seen == self.keys.len() {
                    self.seen = 0;
                    return true;
                }
                continue;
            }
            out.extend_from_slice(&self.keys[..std::mem::take(&mut self.seen)]);
            if self.keys[0] == *byte && self.keys.len() > 1 {
                self.seen = 1;
            } else {
                out.push(*byte);
            }
        }
        false
    }
}

fn key(part: &str) -> Option<u8> {
    if let [byte] = part.as_bytes() {
        return Some(*byte);
    }
    match part.strip_prefix("ctrl-")?.as_bytes() {
        [letter @ b'a'..=b'z'] => Some(letter - b'a' + 1),
        [sign @ (b'@' | b'['..=b'_')] => Some(sign - b'@'),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(keys: &str, pieces: &[&[u8]]) -> (Vec<u8>, bool) {
        let (mut keys, mut out) = (DetachKeys::parse(keys).expect("keys"), Vec::new());
        let detached = pieces.iter().any(|piece| keys.filter(piece, &mut out));
        (out, detached)
    }

    #[test]
    fn dockers_forms() {
        let keys = |text: &str| DetachKeys::parse(text).map(|keys| keys.keys);
        assert_eq!(keys(""), Ok(vec![16, 17]));
        assert_eq!(keys("ctrl-a,a,ctrl-[,ctrl-@"), Ok(vec![1, b'a', 27, 0]));
        for bad in ["ctrl-", "ctrl-A", "abc", "a,,b", "ctrl-é"] {
            assert!(DetachKeys::parse(bad).expect_err(bad).contains("invalid detach keys"), "{bad}");
        }
    }

    #[test]
    fn only_the_whole_sequence_detaches_and_nothing_is_lost() {
        assert_eq!(typed("", &[b"ab\x10", b"\x11rest"]), (b"ab".to_vec(), true));
        assert_eq!(typed("", &[b"\x10x\x10", b"\x10\x11"]), (b"\x10x\x10".to_vec(), true));
        assert_eq!(typed("", &[b"\x11\x10", b"y"]), (b"\x11\x10y".to_vec(), false));
        assert_eq!(typed("q", &[b"aaq"]), (b"aa".to_vec(), true));
    }
}
