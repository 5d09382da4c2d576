//! Numbers of any length in base 36 with a fixed number of digits, as join tokens carry them.

const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";

/// `bytes`, read as one big-endian number, as exactly `width` digits.
///
/// # Panics
/// If the number needs more digits: the caller's constant is wrong.
pub fn encode(bytes: &[u8], width: usize) -> String {
    let mut number = bytes.to_vec();
    let mut digits = vec![b'0'; width];
    for digit in digits.iter_mut().rev() {
        let mut remainder = 0_u32;
        for byte in &mut number {
            let value = (remainder << 8) | u32::from(*byte);
            *byte = (value / 36) as u8;
            remainder = value % 36;
        }
        *digit = DIGITS[remainder as usize];
    }
    assert!(number.iter().all(|b| *b == 0), "{width} base-36 digits hold the number");
    String::from_utf8(digits).expect("base-36 digits are ASCII")
}

/// The number of `text` as exactly `N` bytes; `None` if a character is no digit or it does not fit.
pub fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut number = [0_u8; N];
    for character in text.bytes() {
        let digit = DIGITS.iter().position(|d| *d == character)?;
        let mut carry = digit as u32;
        for byte in number.iter_mut().rev() {
            let value = u32::from(*byte) * 36 + carry;
            *byte = (value & 0xff) as u8;
            carry = value >> 8;
        }
        if carry != 0 {
            return None;
        }
    }
    Some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_at_both_ends() {
        for bytes in [[0_u8; 32], [0xff; 32], [7; 32]] {
            let text = encode(&bytes, 50);
            assert_eq!((text.len(), decode::<32>(&text)), (50, Some(bytes)));
        }
        assert_eq!(encode(&[35], 3), "00z");
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert_eq!(decode::<1>("77"), None);
        assert_eq!(decode::<16>("Z"), None);
    }
}
