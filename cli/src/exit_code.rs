//! The exit code of a process, and the failures that lead to it. What the numbers mean is in
//! [`boxbuild_host::exit`].

use std::fmt;

use boxbuild_host::error::{Classify, ErrorClass};
use boxbuild_host::exit::Exit;
use boxbuild_host::secret;

/// An exit code: one of [`Exit`], or what else a process of a batch ended with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ExitCode(u8);

impl ExitCode {
    pub(crate) const SUCCESS: ExitCode = ExitCode(Exit::Success.number());
    pub(crate) const BUILD_FAILED: ExitCode = ExitCode(Exit::BuildFailed.number());
    pub(crate) const USAGE: ExitCode = ExitCode(Exit::Usage.number());
    pub(crate) const HOST: ExitCode = ExitCode(Exit::Host.number());
    pub(crate) const TIMEOUT: ExitCode = ExitCode(Exit::Timeout.number());
    pub(crate) const INTERRUPTED: ExitCode = ExitCode(Exit::Interrupted.number());

    /// The exit code that a process ended with.
    pub(crate) const fn of_process(code: u8) -> ExitCode {
        ExitCode(code)
    }

    /// Returns the number.
    pub(crate) const fn number(self) -> u8 {
        self.0
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode(exit.number())
    }
}

impl From<ErrorClass> for ExitCode {
    fn from(class: ErrorClass) -> ExitCode {
        Exit::from(class).into()
    }
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> std::process::ExitCode {
        std::process::ExitCode::from(code.0)
    }
}

/// A failure of a command: an error with its causes, and the exit code.
#[derive(Debug)]
pub(crate) struct Failure {
    code: ExitCode,
    error: anyhow::Error,
}

/// What a command returns.
pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;

impl Failure {
    /// A failure with this exit code.
    pub(crate) fn new(code: ExitCode, error: impl Into<anyhow::Error>) -> Failure {
        Failure {
            code,
            error: error.into(),
        }
    }

    /// Returns the exit code.
    pub(crate) fn code(&self) -> ExitCode {
        self.code
    }

    /// Returns the error itself, if it is an `E`.
    pub(crate) fn downcast_ref<E: fmt::Display + fmt::Debug + Send + Sync + 'static>(
        &self,
    ) -> Option<&E> {
        self.error.downcast_ref()
    }

    /// Returns what happened, and why: the error and its causes, the root cause last.
    pub(crate) fn messages(&self) -> Vec<String> {
        let messages = self.error.chain().map(ToString::to_string);
        messages
            .map(|message| secret::redact(&message).into_owned())
            .collect()
    }
}

/// The class of an error decides about the exit code. An error without a class cannot be the error of
/// a command: `?` does not compile.
impl<E: Classify + Send + Sync + 'static> From<E> for Failure {
    fn from(error: E) -> Failure {
        Failure::new(error.class().into(), error)
    }
}

/// Makes failures of the host from errors of other libraries.
pub(crate) trait HostContext<T> {
    /// Returns the value, or a failure with `text` and the error as its cause.
    fn host_context<C: fmt::Display + Send + Sync + 'static>(
        self,
        text: impl FnOnce() -> C,
    ) -> Result<T>;
}

impl<T, E: std::error::Error + Send + Sync + 'static> HostContext<T> for std::result::Result<T, E> {
    fn host_context<C: fmt::Display + Send + Sync + 'static>(
        self,
        text: impl FnOnce() -> C,
    ) -> Result<T> {
        self.map_err(|error| {
            Failure::new(ExitCode::HOST, anyhow::Error::new(error).context(text()))
        })
    }
}
