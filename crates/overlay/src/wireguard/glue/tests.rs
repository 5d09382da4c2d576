//! Properties of gluing, against the cutter as its opposite.

use proptest::prelude::*;

use super::{
    super::{
        packet::{UDP, testing},
        segment::Bench,
    },
    *,
};

/// Cuts a train as its sender would.
fn cut(family: Family, payload: &[u8], size: u16) -> Vec<Vec<u8>> {
    let mut frame = testing::frame(family, TCP, 3, payload);
    let layout = Layout::of_uncut(&frame).expect("layout");
    let header = VnetHeader {
        flags: NEEDS_CHECKSUM,
        gso_type: if family == Family::V4 { GSO_TCP4 } else { GSO_TCP6 },
        header_length: layout.payload as u16,
        gso_size: size,
        checksum_start: layout.transport as u16,
        checksum_offset: 16,
    };
    let mut packets = Vec::new();
    Bench::new(0, 70_000).cut(header, &mut frame, |packet, _| packets.push(packet.to_vec())).expect("cut");
    packets
}

/// What goes to the TAP: network, virtio header, frame.
fn glue(packets: &[(u32, Vec<u8>)]) -> Vec<(u32, VnetHeader, Vec<u8>)> {
    let (mut arena, mut ranges) = (Vec::new(), Vec::new());
    for (vni, packet) in packets {
        let start = arena.len();
        arena.extend_from_slice(packet);
        ranges.push((*vni, start..arena.len()));
    }
    let mut gluer = Gluer::default();
    for (vni, range) in ranges {
        gluer.push(&arena, range, vni);
    }
    let mut frames = Vec::new();
    gluer.drain(&arena, |vni, slices| {
        let mut bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
        let (header, frame) = VnetHeader::split(&mut bytes).expect("header");
        frames.push((vni, header, frame.to_vec()));
    });
    frames
}

fn in_network(vni: u32, packets: Vec<Vec<u8>>) -> Vec<(u32, Vec<u8>)> {
    packets.into_iter().map(|packet| (vni, packet)).collect()
}

/// A frame from the TAP's side is whole again once the kernel has put in the checksum.
fn completed(header: VnetHeader, frame: &[u8]) -> Vec<u8> {
    let (mut frame, mut whole) = (frame.to_vec(), Vec::new());
    let header = VnetHeader { gso_type: 0, ..header };
    Bench::new(0, 70_000).cut(header, &mut frame, |packet, _| whole = packet.to_vec()).expect("complete");
    whole
}

proptest! {
    #[test]
    fn cut_then_glued_is_the_same(
        is_v6: bool, payload in prop::collection::vec(any::<u8>(), 1..40_000), size in 700u16..1500
    ) {
        let family = if is_v6 { Family::V6 } else { Family::V4 };
        let frames = glue(&in_network(7, cut(family, &payload, size)));
        prop_assert_eq!(frames.len(), 1);
        let (vni, header, frame) = &frames[0];
        prop_assert_eq!(*vni, 7);
        let whole = completed(*header, frame);
        prop_assert_eq!(whole, testing::frame(family, TCP, 3, &payload));
        if payload.len() > usize::from(size) {
            prop_assert_eq!(header.gso_size, size);
        }
    }

    #[test]
    fn whatever_is_glued_no_payload_is_lost_or_moved(
        order in prop::collection::vec((0usize..3, 0usize..8, 1u32..3), 0..60)
    ) {
        let flows = [cut(Family::V4, &[1; 8000], 1000), cut(Family::V6, &[2; 8000], 1000), {
            (0..8).map(|n| testing::frame(Family::V4, UDP, 0, &[n; 500])).collect()
        }];
        let packets: Vec<_> = order.iter().map(|(flow, at, vni)| (*vni, flows[*flow][*at].clone())).collect();
        let frames = glue(&packets);
        let bytes = |packet: &[u8]| { let l = Layout::of(packet).expect("packet"); l.end - l.payload };
        let sent: usize = packets.iter().map(|(_, packet)| bytes(packet)).sum();
        let got: usize = frames.iter().map(|(_, header, frame)| bytes(&completed(*header, frame))).sum();
        prop_assert_eq!(sent, got);
        for (_, header, frame) in &frames {
            let whole = completed(*header, frame);
            prop_assert!(Layout::of(&whole).expect("packet").is_sound(&whole));
        }
    }

    #[test]
    fn any_bytes_are_allowed(packets in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..120), 0..10)) {
        let frames = glue(&in_network(1, packets.clone()));
        prop_assert_eq!(frames.len(), packets.len());
    }
}

#[test]
fn what_does_not_belong_together_stays_apart() {
    let segments = cut(Family::V4, &[3; 4000], 1000);
    let count = |packets: Vec<(u32, Vec<u8>)>| glue(&packets).len();
    assert_eq!(count(in_network(1, segments.clone())), 1);
    let gap = [0, 2, 3].map(|at| segments[at].clone()).to_vec();
    assert_eq!(count(in_network(1, gap)), 2);
    let networks = segments.iter().enumerate().map(|(at, packet)| (at as u32 % 2, packet.clone())).collect();
    assert_eq!(count(networks), 4);
    let mut damaged = segments.clone();
    damaged[1][80] ^= 1;
    let frames = glue(&in_network(1, damaged.clone()));
    assert!(frames.iter().any(|(_, _, frame)| *frame == damaged[1]), "a wrong checksum is the receiver's to see");
    let mut reset = segments.clone();
    reset[1][14 + 20 + 13] = 0x14;
    assert!(count(in_network(1, reset)) > 1);
    let mut other_ttl = segments;
    other_ttl[1][22] = 63;
    assert!(count(in_network(1, other_ttl)) > 1);
}
