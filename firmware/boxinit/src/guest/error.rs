//! Why the guest goes no further.

use std::fmt;

/// An error that ends the guest's run.
#[derive(Debug)]
pub(super) enum GuestError {
    /// This box cannot be brought up this way; its own init may be able to.
    Unfit(String),
    /// The build cannot be carried out.
    Failed(String),
}

impl fmt::Display for GuestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (GuestError::Unfit(text) | GuestError::Failed(text)) = self;
        f.write_str(text)
    }
}

/// For `map_err`: [`GuestError::Failed`] with the action that failed.
pub(super) fn failed<E: fmt::Display>(action: impl fmt::Display) -> impl FnOnce(E) -> GuestError {
    move |error| GuestError::Failed(format!("cannot {action}: {error}"))
}

/// For `map_err`: [`GuestError::Unfit`] with the action that failed.
pub(super) fn unfit<E: fmt::Display>(action: impl fmt::Display) -> impl FnOnce(E) -> GuestError {
    move |error| GuestError::Unfit(format!("cannot {action}: {error}"))
}
