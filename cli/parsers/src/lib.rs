//! Reads what was downloaded or imported: archives, disk images, kernels and initial ramdisks.
//!
//! None of it is read in the process that the user started. [`Parser`] starts a jailed process for
//! each piece of work: it gets open files to read and pipes to write to, and has no other way to the
//! host. Its memory and processor time are limited. What it makes goes through the parent, which
//! counts, hashes and bounds it.
//!
//! | work | what the child reads | what comes out |
//! |---|---|---|
//! | [`Parser::boot_archive`] | `.tar.xz` of a published box | kernel, initial ramdisk |
//! | [`Parser::disk`], [`Parser::plain_disk`] | qcow2 or raw disk | facts; a plain qcow2 disk |
//! | [`Parser::root_kind`] | the same | the type of the root file system |
//! | [`Parser::kernel`] | bzImage | ELF file |
//! | [`Parser::ramdisk`] | cpio archives | a reduced one |
//! | [`Parser::box_archive`] | the archive of an exported box | its description and files |
//! | [`Parser::listing`] | an archive or a disk, compressed or not | what is in it, line by line |
//! | [`Parser::tree`] | root tree, OCI image | one archive, kernel, initial ramdisk |
//! | [`Parser::survey`] | an archive or a compressed file | what is in it |
//! | [`Parser::part`], [`Parser::unpack`] | the same | one of its files |
//!
//! The work itself is functions from streams to streams in [`boot`], [`boot_archive`], [`disk`], [`listing`] and
//! [`tree`].

mod boot;
mod boot_archive;
pub mod box_archive;
mod child;
mod compressed;
mod connection;
mod disk;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
mod job;
mod listing;
mod metered;
mod parent;
mod survey;
mod tree;

pub use child::{CALLS, ROLE, confine};
pub use disk::DiskFacts;
pub use job::{TreeFacts, TreeSource};
pub use listing::PIECE as LISTING_PIECE;
pub use parent::{BoxOutputs, Output, ParseError, Parser, TreeOutputs};
pub use survey::{Part, Survey};
