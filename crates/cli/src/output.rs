//! How answers are shown: tables, templates, JSON, sizes and ages.

pub(crate) mod list;
pub(crate) mod natural;
pub(crate) mod ports;
pub(crate) mod progress;
mod row;
pub(crate) mod table;
pub(crate) mod template;
pub(crate) mod terminal;
pub(crate) mod units;
