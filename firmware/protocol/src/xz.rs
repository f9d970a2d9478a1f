//! xz for guests whose processor is emulated: the host compresses for them.
//!
//! Frames go both ways on the port [`XZ`](crate::ports::XZ), each with a head of three little-endian
//! fields: its kind (4 bytes), the length of its payload (4), and the session's number (8), which
//! the guest draws at random. A guest sends each of its frames with one write, and the kernel takes up
//! to 32 KiB of one as a whole (drivers/char/virtio_console.c, port_fops_write): a guest's program
//! that is killed leaves no half frame behind. What the host still sends to it is skipped by the
//! next one.

use std::fmt;

/// Bytes of a frame's head.
pub const HEAD: usize = 16;
/// Largest frame in bytes, with its head.
pub const FRAME: usize = 32 << 10;

/// From the guest: a session begins. The payload is the preset, 1 if `--extreme`, and the number of
/// threads (1: one block, as `--threads=1` makes it; else blocks, as any other number does), as
/// decimal numbers with one space between them.
pub const BEGIN: u32 = 1;
/// Both ways: bytes to compress, and compressed ones.
pub const DATA: u32 = 2;
/// Both ways: the data are complete.
pub const END: u32 = 3;
/// From the host: it has understood [`BEGIN`].
pub const READY: u32 = 4;
/// From the host: it cannot compress; the payload says why. The session is over.
pub const ERROR: u32 = 5;

/// A frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// One of the kinds above, or any other number.
    pub kind: u32,
    /// The session.
    pub session: u64,
    /// At most [`FRAME`] - [`HEAD`] bytes.
    pub payload: Vec<u8>,
}

/// A payload does not fit into a frame. Holds its length in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PayloadTooLong(usize);

impl fmt::Display for PayloadTooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limit = FRAME - HEAD;
        write!(f, "a payload of {} bytes; a frame takes {limit}", self.0)
    }
}

impl std::error::Error for PayloadTooLong {}

impl Frame {
    /// Reads a head: kind, length of the payload, and session. `None` if a frame cannot have that
    /// length.
    pub fn head(bytes: &[u8; HEAD]) -> Option<(u32, usize, u64)> {
        let [k0, k1, k2, k3, l0, l1, l2, l3, session @ ..] = *bytes;
        let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        (length <= FRAME - HEAD).then(|| {
            (
                u32::from_le_bytes([k0, k1, k2, k3]),
                length,
                u64::from_le_bytes(session),
            )
        })
    }

    /// The frame's bytes.
    ///
    /// # Errors
    /// If the payload is too long.
    pub fn encode(&self) -> Result<Vec<u8>, PayloadTooLong> {
        let length = self.payload.len();
        if length > FRAME - HEAD {
            return Err(PayloadTooLong(length));
        }
        let mut bytes = Vec::with_capacity(HEAD + length);
        bytes.extend_from_slice(&self.kind.to_le_bytes());
        bytes.extend_from_slice(&(length as u32).to_le_bytes());
        bytes.extend_from_slice(&self.session.to_le_bytes());
        bytes.extend_from_slice(&self.payload);
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_says_what_follows() {
        let mut frame = Frame {
            kind: DATA,
            session: 0x0102_0304_0506_0708,
            payload: vec![7; FRAME - HEAD],
        };
        let bytes = frame.encode().unwrap();
        assert_eq!(bytes.len(), FRAME);
        let mut head = [0; HEAD];
        head.copy_from_slice(&bytes[..HEAD]);
        assert_eq!(
            Frame::head(&head),
            Some((DATA, FRAME - HEAD, 0x0102_0304_0506_0708))
        );
        head[4] = head[4].wrapping_add(1);
        assert_eq!(Frame::head(&head), None);

        frame.payload.push(7);
        assert_eq!(frame.encode(), Err(PayloadTooLong(FRAME - HEAD + 1)));
    }
}
