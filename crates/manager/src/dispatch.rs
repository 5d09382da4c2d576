//! The dispatcher: one stream with each node that chose this manager.
//!
//! Down go assignments, first whole, then differences; up go heartbeats, statuses and probe reports,
//! which the uplink passes to the leader. It decides nothing: `control::assignments` says what a node
//! shall do.

pub(crate) mod assigner;
pub(crate) mod hub;
pub(crate) mod logs;
pub(crate) mod session;
pub(crate) mod uplink;
pub(crate) mod usage;

pub(crate) use hub::Hub;
pub(crate) use uplink::Said;
