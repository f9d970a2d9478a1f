//! The record beside a result: what it was made of and how (in-toto, SLSA), what is in it (SPDX), its
//! checksums, and a signature on them. docs/provenance.md describes the files.
//!
//! What is written here was partly reported by a guest, and what is read here may have been written by
//! anyone: files are reached by descriptor, everything has a limit.
#![cfg_attr(not(test), warn(clippy::disallowed_methods))]

pub mod check;
pub mod compare;
pub mod description;
pub mod keyring;
pub mod names;
pub mod observed;
pub mod packages;
pub mod sbom;
pub mod sign;
pub mod statement;
pub mod sums;
pub mod tree;
pub mod trust;

mod armor;
mod program;
mod purl;
