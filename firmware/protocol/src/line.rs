//! The prefix of every line on the control port.

/// The protocol's name and version. Another version is another protocol: its lines are ignored.
pub(crate) const PREFIX: &str = "boxbuild 1 ";
