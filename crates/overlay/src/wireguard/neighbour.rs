//! Answers ARP and IPv6 neighbour questions for endpoints on other hosts, from the plan. Pure.
//!
//! So a broadcast never has to leave the host. Called by the worker of a TAP. Questions whether an
//! address is free (no sender address) are not answered: an endpoint that has just moved here must
//! not hear that its own address is taken.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{
    checksum::pseudo_header,
    packet::{is_arp, is_ipv6, mac_at, set_word, word},
};
use crate::MacAddress;

const ICMP6: u8 = 58;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
/// Where the parts of a neighbour solicitation lie in its frame (RFC 4861, 4.3).
const SOURCE6: usize = 14 + 8;
const ICMP_AT: usize = 14 + 40;
const TARGET6: usize = ICMP_AT + 8;
const ANSWER6: usize = TARGET6 + 16 + 8;

/// A frame that answers, for the asker's side of the bridge.
pub type Answer = Vec<u8>;

/// The answer to a question about an address that `known` knows; None for all else.
pub fn answer(frame: &[u8], known: impl Fn(IpAddr) -> Option<MacAddress>) -> Option<Answer> {
    if is_arp(frame) { answer_arp(frame, known) } else { answer_solicitation(frame, known) }
}

fn answer_arp(frame: &[u8], known: impl Fn(IpAddr) -> Option<MacAddress>) -> Option<Answer> {
    let is_question = frame.len() >= 42 && frame[14..22] == [0, 1, 8, 0, 6, 4, 0, 1];
    if !is_question || frame[28..32] == [0; 4] || frame[28..32] == frame[38..42] {
        return None;
    }
    let target = Ipv4Addr::new(frame[38], frame[39], frame[40], frame[41]);
    let mac = known(target.into())?.bytes();
    let mut answer = Vec::with_capacity(42);
    answer.extend_from_slice(&frame[22..28]);
    answer.extend_from_slice(&mac);
    answer.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 2]);
    answer.extend_from_slice(&mac);
    answer.extend_from_slice(&frame[38..42]);
    answer.extend_from_slice(&frame[22..32]);
    Some(answer)
}

fn answer_solicitation(frame: &[u8], known: impl Fn(IpAddr) -> Option<MacAddress>) -> Option<Answer> {
    let is_question = is_ipv6(frame)
        && frame.len() >= TARGET6 + 16
        && frame[20] == ICMP6
        && frame[21] == 255
        && word(frame, ICMP_AT) == u16::from(SOLICITATION) << 8;
    if !is_question || frame[SOURCE6..SOURCE6 + 16] == [0; 16] {
        return None;
    }
    let mut target = [0; 16];
    target.copy_from_slice(&frame[TARGET6..TARGET6 + 16]);
    let mac = known(Ipv6Addr::from(target).into())?.bytes();
    let mut answer = vec![0; ANSWER6];
    answer[..6].copy_from_slice(&mac_at(frame, 6).bytes());
    answer[6..12].copy_from_slice(&mac);
    answer[12..21].copy_from_slice(&[0x86, 0xdd, 0x60, 0, 0, 0, 0, 32, ICMP6]);
    answer[21] = 255;
    answer[22..38].copy_from_slice(&target);
    answer[38..54].copy_from_slice(&frame[SOURCE6..SOURCE6 + 16]);
    // Solicited, and overriding what the asker knew before.
    answer[ICMP_AT] = ADVERTISEMENT;
    answer[ICMP_AT + 4] = 0x60;
    answer[TARGET6..TARGET6 + 16].copy_from_slice(&target);
    answer[ANSWER6 - 8..].copy_from_slice(&[2, 1, mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]]);
    let sum = pseudo_header(&answer[22..54], ICMP6, 32).add(&answer[ICMP_AT..]).finish();
    set_word(&mut answer, ICMP_AT + 2, sum);
    Some(answer)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const REMOTE: MacAddress = MacAddress::from_bytes([2, 0x42, 10, 0, 0, 9]);

    fn known(address: IpAddr) -> Option<MacAddress> {
        let is_known =
            address == IpAddr::from([10, 0, 0, 9]) || address == "fd00::9".parse::<IpAddr>().expect("address");
        is_known.then_some(REMOTE)
    }

    fn arp(sender: [u8; 4], target: [u8; 4]) -> Vec<u8> {
        let mut frame = vec![0xff; 6];
        frame.extend([2, 0x42, 10, 0, 0, 2, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0x42, 10, 0, 0, 2]);
        frame.extend(sender);
        frame.extend([0; 6]);
        frame.extend(target);
        frame
    }

    fn solicitation(sender: &str, target: &str) -> Vec<u8> {
        let address = |text: &str| text.parse::<Ipv6Addr>().expect("address").octets();
        let mut frame = vec![0x33, 0x33, 0xff, 0, 0, 9, 2, 0x42, 10, 0, 0, 2, 0x86, 0xdd];
        frame.extend([0x60, 0, 0, 0, 0, 32, ICMP6, 255]);
        frame.extend(address(sender));
        frame.extend(address("ff02::1:ff00:9"));
        frame.extend([SOLICITATION, 0, 0, 0, 0, 0, 0, 0]);
        frame.extend(address(target));
        frame.extend([1, 1, 2, 0x42, 10, 0, 0, 2]);
        frame
    }

    #[test]
    fn arp_for_a_remote_is_answered() {
        let said = answer(&arp([10, 0, 0, 2], [10, 0, 0, 9]), known).expect("answer");
        let mut expected = vec![2, 0x42, 10, 0, 0, 2, 2, 0x42, 10, 0, 0, 9, 8, 6, 0, 1, 8, 0, 6, 4, 0, 2];
        expected.extend([2, 0x42, 10, 0, 0, 9, 10, 0, 0, 9, 2, 0x42, 10, 0, 0, 2, 10, 0, 0, 2]);
        assert_eq!(said, expected);
        assert_eq!(answer(&arp([10, 0, 0, 2], [10, 0, 0, 8]), known), None);
        assert_eq!(answer(&arp([0; 4], [10, 0, 0, 9]), known), None, "is it free?");
        assert_eq!(answer(&arp([10, 0, 0, 9], [10, 0, 0, 9]), known), None, "an announcement");
    }

    #[test]
    fn a_solicitation_for_a_remote_is_answered() {
        let said = answer(&solicitation("fd00::2", "fd00::9"), known).expect("answer");
        assert_eq!(mac_at(&said, 6), REMOTE);
        assert_eq!((said[ICMP_AT], said.len()), (ADVERTISEMENT, 86));
        assert_eq!(pseudo_header(&said[22..54], ICMP6, 32).add(&said[ICMP_AT..]).finish(), 0);
        assert_eq!(answer(&solicitation("fd00::2", "fd00::8"), known), None);
        assert_eq!(answer(&solicitation("::", "fd00::9"), known), None, "is it free?");
    }

    proptest! {
        #[test]
        fn any_bytes_are_allowed(mut bytes in prop::collection::vec(any::<u8>(), 0..120), is_arp: bool) {
            if let Some(kind) = bytes.get_mut(12..14) {
                kind.copy_from_slice(if is_arp { &[8, 6] } else { &[0x86, 0xdd] });
            }
            let _ = answer(&bytes, |_| Some(REMOTE));
        }
    }
}
