//! The network of a container: what `boxinit` in it and the host say to each other.
//!
//! `boxinit` makes a tap in the container's network namespace, connects to the host's socket (of the type
//! SOCK_SEQPACKET), and sends [`HELLO`] with the tap as a descriptor. The host answers [`READY`] when it serves
//! the tap; without an answer there is no network.

/// The first argument of `boxinit` as a program of a container. Its others are the path of the socket, and
/// ports of the container's loopback that lead to the same ports of the host's.
pub const ROLE: &str = "container-network";

/// What `boxinit` says, with the tap.
pub const HELLO: &[u8] = b"tap";

/// What the host answers.
pub const READY: &[u8] = b"ready";

/// Bytes of the header before each frame (`struct virtio_net_hdr_v1`, virtio 1.2, section 5.1.6).
pub const HEADER: u32 = 12;

/// Hardware address of the interface.
pub const MAC: [u8; 6] = [0x02, 0x62, 0x6f, 0x78, 0x00, 0x0f];
