//! Whether this host's `/dev/kvm` can run a kernel, in milliseconds.
//!
//! Some hosts have a /dev/kvm that answers all calls and then dies of the first instruction
//! that its emulator does not know. A guest of some dozens of instructions executes what every
//! distribution's kernel executes early, and notes how far it came.

mod error;

pub use error::Unusable;

use crate::arch::host;

/// Runs the guest.
///
/// # Errors
/// If it cannot be run, does not come to its end within seconds, or computes wrongly; the
/// error says which in words for a user.
pub fn run() -> Result<(), Unusable> {
    host::smoke::run()
}
