//! The one rule that the `nft` program has no words for: on the way out of an interface, four bytes of the frame's
//! destination are the packet's mark. (Its types differ, `@ll,16,32 set meta mark` is refused.) So the
//! table of family `netdev` is written as netlink messages.

use std::io;

use super::{
    super::netfilter::{NLM_F_CREATE, batch, nested},
    rules::{NETDEV, NFTA_CHAIN_NAME, NFTA_RULE_CHAIN, OF_TABLE, named},
    words::{NEW_CHAIN, NEW_RULE, NFTA_RULE_EXPRESSIONS, NLM_F_APPEND, comment, expression, number, value},
};
use crate::mesh::{
    BACKEND_TABLE, MARK_BIT,
    backend::{EGRESS, egress_digest},
};

/// `NFNL_SUBSYS_NFTABLES << 8` and what is done (linux/netfilter/nf_tables.h).
const NEW_TABLE: u16 = 10 << 8;
const DELETE_TABLE: u16 = 10 << 8 | 2;
const NFTA_CHAIN_HOOK: u16 = 4;
const NFTA_CHAIN_TYPE: u16 = 7;
const NFTA_HOOK_HOOKNUM: u16 = 1;
const NFTA_HOOK_PRIORITY: u16 = 2;
const NFTA_HOOK_DEV: u16 = 3;
/// `NF_NETDEV_EGRESS`
const EGRESS_HOOK: u32 = 1;
/// `NFT_REG_1`, `NFT_META_MARK`, `NFT_CMP_NEQ`, `NFT_PAYLOAD_LL_HEADER`
const REGISTER: u32 = 1;
const META_MARK: u32 = 3;
const NOT_EQUAL: u32 = 1;
const LINK_HEADER: u32 = 0;
/// What the mark replaces of the destination: the bytes after its fixed beginning.
const OFFSET: u32 = 2;
const LENGTH: u32 = 4;

/// Loads the table in place of what is there.
pub fn load(interface: &str) -> io::Result<()> {
    let table = message(&[named(OF_TABLE, BACKEND_TABLE)?]);
    let rule = message(&[
        named(OF_TABLE, BACKEND_TABLE)?,
        named(NFTA_RULE_CHAIN, EGRESS)?,
        nested(NFTA_RULE_EXPRESSIONS, &expressions()?)?,
        comment(&format!("{} 1/1", egress_digest(interface)))?,
    ]);
    batch(&[
        (NEW_TABLE, NLM_F_CREATE, table.clone()),
        (DELETE_TABLE, 0, table.clone()),
        (NEW_TABLE, NLM_F_CREATE, table),
        (NEW_CHAIN, NLM_F_CREATE, chain(interface)?),
        (NEW_RULE, NLM_F_CREATE | NLM_F_APPEND, rule),
    ])
}

/// Removes the table if it is there.
pub fn remove() -> io::Result<()> {
    let table = message(&[named(OF_TABLE, BACKEND_TABLE)?]);
    batch(&[(NEW_TABLE, NLM_F_CREATE, table.clone()), (DELETE_TABLE, 0, table)])
}

fn chain(interface: &str) -> io::Result<Vec<u8>> {
    let hook =
        [number(NFTA_HOOK_HOOKNUM, EGRESS_HOOK)?, number(NFTA_HOOK_PRIORITY, 0)?, named(NFTA_HOOK_DEV, interface)?];
    Ok(message(&[
        named(OF_TABLE, BACKEND_TABLE)?,
        named(NFTA_CHAIN_NAME, EGRESS)?,
        nested(NFTA_CHAIN_HOOK, &hook.concat())?,
        named(NFTA_CHAIN_TYPE, "filter")?,
    ]))
}

/// The mark's bit is set; then the mark, as it stands in memory, goes into the frame. It came from one the same way.
fn expressions() -> io::Result<Vec<u8>> {
    let zero = 0u32.to_ne_bytes();
    let mark = expression("meta", &[number(1, REGISTER)?, number(2, META_MARK)?])?;
    let masked = [
        number(1, REGISTER)?,
        number(2, REGISTER)?,
        number(3, LENGTH)?,
        value(4, &MARK_BIT.to_ne_bytes())?,
        value(5, &zero)?,
    ];
    let differs = [number(1, REGISTER)?, number(2, NOT_EQUAL)?, value(3, &zero)?];
    let written = [number(2, LINK_HEADER)?, number(3, OFFSET)?, number(4, LENGTH)?, number(5, REGISTER)?];
    let all = [
        mark.clone(),
        expression("bitwise", &masked)?,
        expression("cmp", &differs)?,
        mark,
        expression("payload", &written)?,
    ];
    Ok(all.concat())
}

fn message(attributes: &[Vec<u8>]) -> Vec<u8> {
    super::words::message(NETDEV, attributes)
}
