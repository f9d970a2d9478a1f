//! The FUSE protocol: what travels ([`abi`], [`name`]) and what answers it ([`filesystem`]).

pub mod abi;
pub mod filesystem;
pub mod name;
