//! What the kernel may buffer for a socket.

use std::io;

use socket2::Socket;

use super::limits;

/// Who decides on the size of a socket's buffers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KernelBuffers {
    /// The kernel: they grow with the way (tcp(7), `tcp_moderate_rcvbuf`).
    Tuned,
    /// [`limits::KERNEL_BUFFER`].
    Small,
}

impl KernelBuffers {
    /// Of one more connection, where `tuned` others have buffers that grow.
    pub(super) fn beside(tuned: usize) -> KernelBuffers {
        if tuned < limits::TUNED {
            KernelBuffers::Tuned
        } else {
            KernelBuffers::Small
        }
    }

    /// Sets them; before it is connected, for the window that the peer is told to fit.
    pub(super) fn set(self, socket: &Socket) -> io::Result<()> {
        if self == KernelBuffers::Small {
            socket.set_recv_buffer_size(limits::KERNEL_BUFFER)?;
            socket.set_send_buffer_size(limits::KERNEL_BUFFER)?;
        }
        Ok(())
    }
}
