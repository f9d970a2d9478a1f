//! What the cache's process and its parent say to each other.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// The configuration of the process. The folder and the network's channel follow as descriptors.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Config {
    pub(crate) boot: String,
    pub(crate) limit: u64,
    /// Connections without a server are answered from what is kept.
    pub(crate) offline: bool,
    pub(crate) proxies: Vec<String>,
}

/// Missing files that are told of, and characters of the address of one.
pub(crate) const ABSENCES: usize = 256;
pub(crate) const LONGEST_ADDRESS: usize = 512;

/// What the process says.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum FromCache {
    /// It is locked and serves. The text says what of the confinement is missing.
    Ready(Option<String>),
    /// Bytes so far.
    Moved(Moved),
    /// A file that a guest has asked for is not kept, and no server is asked.
    Absent(String),
    /// Does the host know this name, and does it have this address?
    Lookup(Question),
}

/// Whether a name has an address.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Question {
    pub(crate) name: String,
    pub(crate) ip: IpAddr,
}

/// What the parent says: the answer to a question.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Answer {
    pub(crate) question: Question,
    pub(crate) yes: bool,
}

/// Bytes of bodies that guests got.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    /// From the cache, or from what another build was fetching.
    pub from_cache: u64,
    /// From their servers.
    pub from_network: u64,
}
