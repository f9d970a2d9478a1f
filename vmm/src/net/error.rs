//! Why the network cannot be set up.

/// The network cannot be set up.
#[derive(Debug, thiserror::Error)]
#[error("cannot set up the network: {action}")]
pub struct NetworkError {
    action: &'static str,
    #[source]
    source: std::io::Error,
}

impl NetworkError {
    pub(crate) fn new(action: &'static str) -> impl FnOnce(std::io::Error) -> NetworkError {
        move |source| NetworkError { action, source }
    }
}
