//! The state of a running server.

use std::sync::Arc;

use super::fault::Fault;
use crate::confine::Confinement;
use crate::traffic::Traffic;

/// The state of a server. Clones show the same server, also after it has ended.
#[derive(Debug, Clone)]
pub struct ServerStatus {
    pub(super) confinement: Confinement,
    pub(super) traffic: Traffic,
    pub(super) fault: Arc<Fault>,
}

impl ServerStatus {
    /// Whether the kernel keeps the serving threads inside of the share.
    pub fn confinement(&self) -> Confinement {
        self.confinement
    }

    /// Returns how much of its files the guest has read and written.
    pub fn traffic(&self) -> Traffic {
        self.traffic.clone()
    }

    /// Returns why the share has stopped working, if it has: the guest's driver violated the
    /// device's protocol. The guest then waits for replies that will not come.
    pub fn fault(&self) -> Option<String> {
        self.fault.error()
    }
}
