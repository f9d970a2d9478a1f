//! Structures of the kernel's headers (virtio-bindings) as bytes in guest memory.

use virtio_bindings::virtio_blk::virtio_blk_config;
use virtio_bindings::virtio_net::{virtio_net_config, virtio_net_hdr_v1};
use vm_memory::ByteValued;

/// Configuration space of a disk (virtio 1.2, section 5.2.4).
#[repr(transparent)]
#[derive(Clone, Copy, Default)]
pub(super) struct BlockConfig(pub(super) virtio_blk_config);

// SAFETY: packed integers, so without padding; any bytes are values.
unsafe impl ByteValued for BlockConfig {}

/// Configuration space of a network card (virtio 1.2, section 5.1.4).
#[repr(transparent)]
#[derive(Clone, Copy, Default)]
pub(super) struct NetConfig(pub(super) virtio_net_config);

// SAFETY: packed integers, so without padding; any bytes are values.
unsafe impl ByteValued for NetConfig {}

/// What precedes each frame (virtio 1.2, section 5.1.6).
#[repr(transparent)]
#[derive(Clone, Copy, Default)]
pub(super) struct NetHeader(pub(super) virtio_net_hdr_v1);

// SAFETY: two bytes and five 16-bit integers, so without padding; the members of the union are as
// long as it. Any bytes are values.
unsafe impl ByteValued for NetHeader {}
