//! The words that messages about rules of nftables are made of. What they mean is in linux/netfilter/nf_tables.h.

use std::io;

use super::{
    super::netfilter::{generic_header, nested, plain},
    rules::{NFTA_DATA_VALUE, NFTA_RULE_USERDATA, named},
};

/// `NFNL_SUBSYS_NFTABLES << 8` and what is done.
pub const NEW_CHAIN: u16 = 10 << 8 | 3;
pub const NEW_RULE: u16 = 10 << 8 | 6;
/// After the rules that are there.
pub const NLM_F_APPEND: u16 = 0x800;
pub const NFTA_RULE_EXPRESSIONS: u16 = 4;
pub const NFTA_LIST_ELEM: u16 = 1;
const NFTA_EXPR_NAME: u16 = 1;
const NFTA_EXPR_DATA: u16 = 2;

/// The body of a message.
pub fn message(family: i32, attributes: &[Vec<u8>]) -> Vec<u8> {
    [generic_header(family).to_vec(), attributes.concat()].concat()
}

pub fn expression(name: &str, data: &[Vec<u8>]) -> io::Result<Vec<u8>> {
    nested(NFTA_LIST_ELEM, &[named(NFTA_EXPR_NAME, name)?, nested(NFTA_EXPR_DATA, &data.concat())?].concat())
}

/// An attribute that is a number.
pub fn number(kind: u16, number: u32) -> io::Result<Vec<u8>> {
    plain(kind, &number.to_be_bytes())
}

/// Bytes of a register.
pub fn value(kind: u16, bytes: &[u8]) -> io::Result<Vec<u8>> {
    nested(kind, &plain(NFTA_DATA_VALUE, bytes)?)
}

/// A rule's comment, as nft writes and lists it.
pub fn comment(text: &str) -> io::Result<Vec<u8>> {
    let bytes = [text.as_bytes(), &[0]].concat();
    let length = u8::try_from(bytes.len()).map_err(io::Error::other)?;
    plain(NFTA_RULE_USERDATA, &[&[0, length], &bytes[..]].concat())
}
