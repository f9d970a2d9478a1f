//! What goes between the two processes.

use serde::{Deserialize, Serialize};

use crate::wire_share::WireShare;

/// What is to be served. With it come two descriptors for each share: the listener with the
/// connection of QEMU, and the open root.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Config {
    pub(super) shares: Vec<WireShare>,
    /// Processors of the machine.
    pub(super) processors: usize,
}

/// What the child tells.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Message {
    /// All shares are served. What the host's kernel lacks to confine the process, if anything.
    Ready(Option<String>),
    /// Bytes to and from the guest so far, for each share.
    Moved(Vec<(u64, u64)>),
    /// The guest's driver has violated the protocol of a share.
    Fault(String),
    /// Something that the user should know.
    Note(String),
}
