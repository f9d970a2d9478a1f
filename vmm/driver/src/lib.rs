//! The driver's side of a split virtqueue (virtio 1.2, section 2.7), without a guest.
//!
//! For tests, fuzzing and measurements of devices: [`DriverQueue`] builds chains in guest memory,
//! makes them available and collects what the device has used. It knows nothing of any device or
//! machine. It is no part of a product.
//!
//! ```
//! use boxbuild_vmm_driver::{Buffer, DriverQueue, QueueLayout};
//! use virtio_queue::QueueT;
//! use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let memory = GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), 1 << 20)])?;
//! let mut driver = DriverQueue::new(QueueLayout::new(GuestAddress(0), 16)?);
//! let mut device = driver.device_queue()?;
//!
//! // The driver: a request of 5 bytes, and room for the answer.
//! memory.write_slice(b"hello", GuestAddress(0x1_0000))?;
//! driver.add(&memory, &[Buffer::readable(0x1_0000, 5), Buffer::writable(0x2_0000, 64)])?;
//!
//! // The device: here by hand, otherwise the one under test.
//! let chain = device.pop_descriptor_chain(&memory).ok_or("no chain")?;
//! device.add_used(&memory, chain.head_index(), 2)?;
//!
//! let used = driver.next_used(&memory)?.ok_or("nothing used")?;
//! assert_eq!(used.len, 2);
//! # Ok(())
//! # }
//! ```

mod buffer;
mod error;
mod layout;
mod queue;
#[cfg(test)]
mod tests;

pub use buffer::{Access, Buffer};
pub use error::Error;
pub use layout::QueueLayout;
pub use queue::{DriverQueue, Used};
pub use virtio_queue::desc::split::Descriptor;
