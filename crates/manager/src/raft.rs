//! The managers' Raft group: consensus library, its network, proposals, membership, compaction.
//!
//! The rest of the crate sees [`Consensus`] only: propose, read, who leads.

pub(crate) mod compaction;
pub(crate) mod consensus;
pub(crate) mod handover;
pub(crate) mod membership;
pub(crate) mod network;
pub(crate) mod peers;
mod proposer;
pub(crate) mod receipts;
pub(crate) mod types;

pub(crate) use consensus::{Consensus, Leader, ProposeError};
pub(crate) use peers::Peers;
