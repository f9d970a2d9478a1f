//! The buffers of a chain.

use virtio_bindings::virtio_ring::VRING_DESC_F_WRITE;

/// What the device may do with a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// The device reads it.
    Readable,
    /// The device writes to it.
    Writable,
}

/// One buffer of a chain. Nothing is checked: an address outside of guest memory is a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Buffer {
    /// Guest physical address.
    pub address: u64,
    /// Length in bytes.
    pub len: u32,
    /// What the device may do with it.
    pub access: Access,
}

impl Buffer {
    /// `len` bytes that the device reads.
    pub const fn readable(address: u64, len: u32) -> Buffer {
        Buffer {
            address,
            len,
            access: Access::Readable,
        }
    }

    /// Room for `len` bytes of the device.
    pub const fn writable(address: u64, len: u32) -> Buffer {
        Buffer {
            address,
            len,
            access: Access::Writable,
        }
    }

    pub(crate) const fn flags(&self) -> u16 {
        match self.access {
            Access::Readable => 0,
            Access::Writable => VRING_DESC_F_WRITE as u16,
        }
    }
}
