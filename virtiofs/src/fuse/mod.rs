//! The FUSE protocol: its wire format ([`abi`]), checked names ([`name`]), and the trait that
//! answers requests ([`filesystem`]).

pub mod abi;
pub mod filesystem;
pub mod name;
