//! Why a thread has no filter.

use seccompiler::BackendError;

/// A filter cannot be made or installed.
#[derive(Debug, thiserror::Error)]
pub enum FilterError {
    /// The rules are wrong.
    #[error("cannot compile a filter of system calls")]
    Compile(#[from] BackendError),
    /// The kernel refuses.
    #[error("cannot install a filter of system calls")]
    Install(#[from] seccompiler::Error),
    /// The kernel refuses the handler of its signal.
    #[error("cannot handle the signal of a filter of system calls")]
    Handle(#[source] nix::Error),
}
