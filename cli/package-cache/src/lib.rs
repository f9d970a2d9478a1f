//! The cache of packages between guests and their mirrors.
//!
//! The network of a machine connects to where its guest wants to go, by its own rules, and hands the
//! connections to HTTP ports over: the connected socket, and the end of a stream that is the guest's side
//! ([`boxbuild_vmm`'s `Handover`]). A process of this crate ([`ROLE`]) continues them: it answers what it
//! has from the user's cache, and passes on everything else. It opens no connection itself, and is jailed.
//!
//! | what | where |
//! |---|---|
//! | what is kept, for many processes at once | `store` |
//! | HTTP/1.1, strictly | `http`; RFC 9111 is the crate `http-cache-semantics` |
//! | one connection | `flow` |
//! | what the process may do | `role`, `rules` |
//! | the side of the program | [`PackageCache`] |
//!
//! [`boxbuild_vmm`'s `Handover`]: ../boxbuild_vmm/net/struct.Handover.html

mod flow;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
mod http;
mod kind;
mod message;
mod names;
mod process;
mod role;
mod rules;
mod store;

pub use boxbuild_jail::Program;
pub use message::Moved;
pub use process::{CacheConfig, CacheError, Lookup, PackageCache};
pub use role::ROLE;
pub use rules::tables;

/// Whether it is a SHA-256 in lower-case hex.
fn is_sha256(text: &str) -> bool {
    let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    text.len() == 64 && text.bytes().all(hex)
}
