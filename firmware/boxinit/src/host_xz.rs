//! xz for boxes whose processor is emulated: what it compresses is compressed by the host. Here is
//! what both sides agree on (docs/guest-contract.md); the box's side is [`PROGRAM`].
//!
//! Frames go both ways, each with a head of three little-endian fields: its kind (4 bytes), the
//! length of what follows (4), and the conversation's number (8), which the box has drawn at random.
//! A box sends each of its frames with one write, and the kernel takes up to 32 KiB of one
//! as a whole (drivers/char/virtio_console.c, port_fops_write): a box's program that is killed
//! leaves no half frame behind. What the host had still to say to it, the next one passes over.

/// The box's program: `xz`, first in kiwi's search path. It says itself what it does.
pub const PROGRAM: &str = include_str!("host_xz.py");
/// Name of the virtio-console port. A machine that has it has a host that compresses.
pub const PORT: &str = "org.boxbuild.xz";
/// What runs [`PROGRAM`]; without it, a box compresses for itself.
pub const INTERPRETER: &str = "/usr/bin/python3";

/// Bytes of a frame's head.
pub const HEAD: usize = 16;
/// Most bytes of a frame, with its head.
pub const FRAME: usize = 32 << 10;

/// From the box: a conversation begins. Preset, 1 if `--extreme`, and the number of threads (1: one
/// block, as `--threads=1` makes it; else blocks, as any other number does), as decimal numbers
/// with one space between them.
pub const BEGIN: u32 = 1;
/// Both ways: bytes to compress, and compressed ones.
pub const DATA: u32 = 2;
/// Both ways: that was all.
pub const END: u32 = 3;
/// From the host: it has understood [`BEGIN`].
pub const READY: u32 = 4;
/// From the host: it cannot; the text says why. The conversation is over.
pub const ERROR: u32 = 5;

/// A frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// One of the kinds above, or any other number.
    pub kind: u32,
    /// The conversation.
    pub session: u64,
    /// At most [`FRAME`] - [`HEAD`] bytes.
    pub payload: Vec<u8>,
}

impl Frame {
    /// The frame's head, read: kind, length of the payload, and conversation. `None` if no frame is
    /// that long.
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

    /// The frame as it is sent.
    ///
    /// # Panics
    /// If the payload is too long.
    pub fn bytes(&self) -> Vec<u8> {
        assert!(self.payload.len() <= FRAME - HEAD, "a frame too long");
        let mut bytes = Vec::with_capacity(HEAD + self.payload.len());
        bytes.extend_from_slice(&self.kind.to_le_bytes());
        bytes.extend_from_slice(&(self.payload.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&self.session.to_le_bytes());
        bytes.extend_from_slice(&self.payload);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_says_what_follows() {
        let frame = Frame {
            kind: DATA,
            session: 0x0102_0304_0506_0708,
            payload: vec![7; FRAME - HEAD],
        };
        let bytes = frame.bytes();
        assert_eq!(bytes.len(), FRAME);
        let mut head = [0; HEAD];
        head.copy_from_slice(&bytes[..HEAD]);
        assert_eq!(
            Frame::head(&head),
            Some((DATA, FRAME - HEAD, 0x0102_0304_0506_0708))
        );
        head[4] = head[4].wrapping_add(1);
        assert_eq!(Frame::head(&head), None);
    }
}
