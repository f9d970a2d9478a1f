//! Which boxes are published, and where.
//!
//! The list is built in; a configuration file of kiwi's boxbuild (`kiwi_boxed_plugin.yml`) takes
//! its place. The first file found counts, nothing is merged:
//!
//! 1. `$KIWI_BOXED_PLUGIN_CFG`, which must exist if it is set;
//! 2. the working folder, with a note: its author chooses the boxes;
//! 3. `~/.config/kiwi/`;
//! 4. `/etc/`;
//! 5. the built-in list.

mod box_catalog;
mod builtin;
mod config;
mod error;
mod published_box;
mod repository;
mod runtime;
mod schema;

pub use box_catalog::{Catalog, Origin};
pub use config::FILE_NAME;
pub use error::{CatalogError, VARIABLE};
pub use published_box::{PublishedBox, Variant};
pub use repository::{Location, Repository, RepositoryError};
