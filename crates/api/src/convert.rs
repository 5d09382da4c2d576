//! Docker's JSON on one side, `types` on the other: the only place that knows both.
//!
//! Pure. Input goes through [`reader`], which refuses what it is not asked for, so that no field of
//! a request is ever ignored; output is built in the order Docker prints it. The tests hold both
//! against the published schema of the Engine API.

pub(crate) mod backup;
pub(crate) mod claim;
pub(crate) mod container;
pub(crate) mod credentials;
pub(crate) mod dependency;
pub(crate) mod disk_usage;
pub(crate) mod doctor;
pub(crate) mod endpoint;
pub(crate) mod event;
pub(crate) mod exec;
pub(crate) mod image;
pub(crate) mod info;
pub(crate) mod ipam;
pub(crate) mod job;
pub(crate) mod manifests;
pub(crate) mod mount;
pub(crate) mod network;
pub(crate) mod network_inspected;
pub(crate) mod network_view;
pub(crate) mod node;
pub(crate) mod path_stat;
pub(crate) mod platform;
pub(crate) mod policy;
pub(crate) mod reader;
pub(crate) mod service;
pub(crate) mod single;
pub(crate) mod stack;
pub(crate) mod stated;
pub(crate) mod swarm;
pub(crate) mod task;
pub(crate) mod task_usage;
pub(crate) mod time;
pub(crate) mod volume;
pub(crate) mod writer;

#[cfg(test)]
mod tests;
