//! Why no container runs.

use std::io;

use boxbuild_host::error::{Classify, ErrorClass};

use crate::unusable::Unusable;

/// A build cannot be run in a container.
#[derive(Debug, thiserror::Error)]
pub enum ContainerError {
    /// The host lacks something.
    #[error("no container can run on this host: {0}")]
    Host(Unusable),
    /// A registry cannot be reached, or must not be.
    #[error(
        "the box '{name}' is the image {image}, which is not on this host, and {reason}. Fetch it \
         with '{command}', or create a box with 'boxbuild box create NAME \
         --from debian:trixie'"
    )]
    NotHere {
        /// Name of the box.
        name: String,
        /// The image, with registry and tag.
        image: String,
        /// Why it cannot be had now.
        reason: String,
        /// What fetches it.
        command: String,
    },
    /// A name that podman would take for something else.
    #[error("the container image of the box '{name}' has an invalid name: '{image}'")]
    BadImage {
        /// Name of the box.
        name: String,
        /// As it stands in the box's description.
        image: String,
    },
    /// podman did not do its part.
    #[error("podman cannot {action}{}", with_output(.output))]
    Podman {
        /// What it was told to do.
        action: String,
        /// What it printed.
        output: String,
    },
    /// The user stopped it.
    #[error("interrupted")]
    Interrupted,
    /// A file operation failed.
    #[error("cannot {action}")]
    Io {
        /// What was tried, on which file.
        action: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

impl From<Unusable> for ContainerError {
    fn from(reason: Unusable) -> ContainerError {
        ContainerError::Host(reason)
    }
}

impl Classify for ContainerError {
    fn class(&self) -> ErrorClass {
        match self {
            ContainerError::Interrupted => ErrorClass::Interrupted,
            _ => ErrorClass::Host,
        }
    }
}

/// What podman wrote, behind what it was told to do.
fn with_output(output: &str) -> String {
    if output.is_empty() {
        String::new()
    } else {
        format!(": {output}")
    }
}

/// Makes an I/O error one of these. `action` completes "cannot …".
pub(super) fn io_error(action: &str) -> impl FnOnce(io::Error) -> ContainerError {
    let action = action.to_owned();
    move |source| ContainerError::Io { action, source }
}
