//! Boxes: the store on this host, the catalog of published ones, and the sources that new ones
//! come from.

pub mod box_lock;
pub mod catalog;
pub mod export;
pub mod fetch;
pub mod in_place;
pub mod leftovers;
pub mod lock_file;
pub mod source;
pub mod store;
