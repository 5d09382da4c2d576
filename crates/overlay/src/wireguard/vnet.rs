//! The header that the kernel puts before each frame of a TAP with `IFF_VNET_HDR` (virtio 1.2, 5.1.6). Pure.

pub const VNET: usize = 10;
/// The transport checksum field holds the pseudo header's sum; whoever sends the packet out completes it.
pub const NEEDS_CHECKSUM: u8 = 1;
pub const GSO_NONE: u8 = 0;
pub const GSO_TCP4: u8 = 1;
pub const GSO_TCP6: u8 = 4;
pub const GSO_UDP: u8 = 5;
/// Flag beside the type: the first segment says that the congestion window was reduced.
pub const GSO_ECN: u8 = 0x80;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VnetHeader {
    pub flags: u8,
    /// One of the `GSO_` constants, perhaps with [`GSO_ECN`].
    pub gso_type: u8,
    pub header_length: u16,
    /// Payload of each segment.
    pub gso_size: u16,
    pub checksum_start: u16,
    pub checksum_offset: u16,
}

impl VnetHeader {
    /// Header and frame of what was read from a TAP; None when it is too short.
    pub fn split(bytes: &mut [u8]) -> Option<(Self, &mut [u8])> {
        let (head, frame) = bytes.split_at_mut_checked(VNET)?;
        let field = |at: usize| u16::from_ne_bytes([head[at], head[at + 1]]);
        let header = Self {
            flags: head[0],
            gso_type: head[1],
            header_length: field(2),
            gso_size: field(4),
            checksum_start: field(6),
            checksum_offset: field(8),
        };
        Some((header, frame))
    }

    pub fn bytes(&self) -> [u8; VNET] {
        let mut bytes = [self.flags, self.gso_type, 0, 0, 0, 0, 0, 0, 0, 0];
        let fields = [self.header_length, self.gso_size, self.checksum_start, self.checksum_offset];
        for (place, field) in bytes[2..].chunks_exact_mut(2).zip(fields) {
            place.copy_from_slice(&field.to_ne_bytes());
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_round_trips() {
        let header = VnetHeader {
            flags: 1,
            gso_type: GSO_TCP4,
            header_length: 66,
            gso_size: 1338,
            checksum_start: 34,
            checksum_offset: 16,
        };
        let mut bytes = header.bytes().to_vec();
        bytes.extend([7, 8]);
        assert_eq!(VnetHeader::split(&mut bytes), Some((header, &mut [7, 8][..])));
        assert_eq!(VnetHeader::split(&mut [0; 9]), None);
    }
}
