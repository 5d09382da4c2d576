//! The Internet checksum (RFC 1071) and the pseudo headers of IPv4 and IPv6. Pure.
//!
//! Called for every packet that is cut or glued, so it goes eight bytes at a time.

/// A sum of 16-bit words that is not folded yet.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sum(u64);

impl Sum {
    /// Adds these bytes as big-endian words. Only the last piece of a sum may have an odd length.
    pub fn add(mut self, bytes: &[u8]) -> Self {
        let (blocks, rest) = bytes.as_chunks::<16>();
        let (mut even, mut odd) = (0u64, 0u64);
        for block in blocks {
            // The sum of words does not care in which byte order it is made, as long as it is turned at the end.
            let value = u128::from_ne_bytes(*block);
            let (low, high) = (value as u64, (value >> 64) as u64);
            even += (low & 0xffff_ffff) + (high & 0xffff_ffff);
            odd += (low >> 32) + (high >> 32);
        }
        let native = fold(even) as u64 + fold(odd) as u64;
        self.0 += u64::from((fold(native)).to_be());
        let (words, tail) = rest.as_chunks::<2>();
        for word in words {
            self.0 += u64::from(u16::from_be_bytes(*word));
        }
        if let [last] = tail {
            self.0 += u64::from(*last) << 8;
        }
        self
    }

    pub fn add_word(self, word: u16) -> Self {
        Self(self.0 + u64::from(word))
    }

    /// The sum itself, as it stands in a packet whose checksum the kernel completes.
    pub fn folded(self) -> u16 {
        fold(self.0)
    }

    /// The checksum: the complement of the sum. Zero when the bytes held a right checksum already.
    pub fn finish(self) -> u16 {
        !self.folded()
    }
}

fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// The pseudo header: source and destination address one after the other, of either family.
pub fn pseudo_header(addresses: &[u8], protocol: u8, length: usize) -> Sum {
    let length = length as u32;
    let sum = Sum::default().add(addresses).add_word(u16::from(protocol));
    sum.add_word((length >> 16) as u16).add_word(length as u16)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn slow(bytes: &[u8]) -> u16 {
        let mut sum = 0u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |b| u32::from(*b));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum as u16
    }

    proptest! {
        #[test]
        fn fast_is_as_the_definition(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
            // 0 and 0xffff are the same number in this arithmetic.
            let (fast, slow) = (Sum::default().add(&bytes).folded(), slow(&bytes));
            prop_assert!(fast == slow || fast % 0xffff == slow % 0xffff);
        }
    }

    #[test]
    fn the_example_of_rfc_1071() {
        assert_eq!(Sum::default().add(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]).folded(), 0xddf2);
    }
}
