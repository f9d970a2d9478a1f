//! Why an engine cannot be used.

use boxbuild_host::error::{Classify, ErrorClass};

/// An engine cannot be used on this host; the text says why and what would help.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct Unusable(pub String);

impl Classify for Unusable {
    fn class(&self) -> ErrorClass {
        ErrorClass::Host
    }
}
