//! Who asks a question.

use std::net::SocketAddr;

/// Who asks: the guest's port, the name server's address as the guest knows it, the guest's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::net) struct Asker {
    pub(in crate::net) guest: SocketAddr,
    pub(in crate::net) remote: SocketAddr,
    pub(super) id: u16,
}
