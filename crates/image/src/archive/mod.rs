//! Archives of images: `load` (Docker's and OCI's layout), `import` (a root filesystem), `commit` (a container), `save`, and a small
//! image made from busybox. Called by the API; content goes to the store only after it was verified.

mod busybox;
mod changes;
mod commit;
mod docker;
mod import;
mod load;
mod oci;
mod save;

pub use busybox::busybox_archive;
pub use commit::CommitOptions;
pub use import::ImportOptions;
pub use load::LoadedImage;
pub(crate) use oci::choose_entry;
