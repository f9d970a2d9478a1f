//! Filters of system calls.
//!
//! A [`Filter`] is made of tables of [`Rule`]s: what a thread may call, and with which arguments.
//! Anything else ends the process with a message on its standard error,
//! "the thread NAME made a system call it never needs: NUMBER", and exit code [`TRAPPED`].
//!
//! A thread inherits the filters of the one that starts it, and its own can only be narrower.

mod error;
mod filter;
#[cfg(feature = "proofs")]
pub mod proof;
mod rule;
mod tables;
mod trap;

pub use error::FilterError;
pub use filter::{Filter, is_available};
pub use rule::{Check, Condition, Rule};
pub use tables::{COMMON, FILTER_SETUP, LANDLOCK_SETUP, SPAWN};
pub use trap::TRAPPED;

pub(crate) use filter::prepare;
pub(crate) use trap::handle as handle_traps;
