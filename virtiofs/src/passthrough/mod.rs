//! The file system over one host directory, served by an ordinary user.
//!
//! What the host user cannot set is stored in extended attributes that only this file system
//! interprets: foreign owners, set-id and sticky bits, modes that would lock the host user out,
//! and devices in `user.containers.override_stat` (the private module `override_stat`);
//! attributes of the classes `security`, `trusted` and `system.posix_acl_*` with the prefix
//! `user.virtiofs.`. Symbolic links and natively created FIFOs and sockets cannot have such
//! attributes (xattr(7)): their foreign owners last as long as this file system object.
//!
//! On the host, every file keeps at least `0600` and every directory `0700`, and never has a
//! set-id or sticky bit. File locks are not forwarded; the guest's kernel keeps them by itself.
//! Closing a file does not ask the host (no FLUSH), so errors that a host's network file system
//! would report at close are only seen by fsync.

mod access;
mod acl;
mod attributes;
mod budget;
mod create;
mod dir;
mod dir_stream;
mod fs;
mod handles;
mod hidden;
mod inodes;
mod lookup;
mod names;
mod open;
mod override_stat;
mod overrides;
mod requests;
mod roots;
mod setattr;
mod sharded;
mod sync;
mod sync_pace;
mod sys;
mod transient;
mod xattr;

pub use fs::{PassthroughFs, ShareError};
