//! Where boxes come from.

pub mod debian;
pub mod import;
pub mod published;
