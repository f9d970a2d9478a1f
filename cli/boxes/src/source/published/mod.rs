//! Published boxes: fetched when they are missing, updated when they are old, and left alone
//! otherwise.
//!
//! One process fetches a box at a time; others that want it wait and then use what it fetched.
//! Files grow in `ROOT/.fetch-NAME.ARCH/`, which outlives a killed process, and is removed when the
//! box is published.

mod assemble;
mod check;
mod entry;
mod error;
mod fetch_lock;
mod kiwi_cache;
mod puller;
mod request;
mod source;

pub use check::check;
pub use error::PullError;
pub(crate) use fetch_lock::{PREFIX, is_unused, remove_unused};
pub use puller::{ensure, preview};
pub use request::{Freshness, PullRequest};
