//! Running a box: as a machine or a container, for a build or for a shell in a failed one.

mod build;
mod build_log;
mod clock;
mod console_log;
mod error;
mod initrd;
mod kernel_trouble;
mod lack;
mod last_lines;
mod machine;
mod monitor;
mod outcome;
mod packages;
mod raise;
mod runner;
mod shares;
pub mod shell;
mod shell_machine;
mod signs;
mod supervise;

pub use build::{Attempt, run};
pub use error::BuildError;
pub use lack::Lack;
pub use machine::guest_cmdline;
pub use outcome::{Failure, Kept, Outcome, Reason, Run};
pub use runner::Runner;
