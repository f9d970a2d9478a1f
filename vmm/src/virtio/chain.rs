//! The chains that a driver puts into a queue.

use virtio_queue::DescriptorChain;
use vm_memory::{GuestMemory, Permissions};

use super::fault::Fault;
use crate::guest_io::Buffers;
use crate::memory::GuestRam;

/// What a driver puts into a queue: buffers to read, then buffers to write.
pub type Chain<'m> = DescriptorChain<&'m GuestRam>;

/// Splits `chain` into its readable and its writable part.
///
/// # Errors
/// If a buffer is not in `ram`, or a readable one follows a writable one.
pub fn split_chain<'m>(
    ram: &'m GuestRam,
    chain: Chain<'_>,
) -> Result<(Buffers<'m>, Buffers<'m>), Fault> {
    let (mut readable, mut writable) = (Buffers::default(), Buffers::default());
    for descriptor in chain {
        let (part, access) = if descriptor.is_write_only() {
            (&mut writable, Permissions::Write)
        } else if writable.slices().is_empty() {
            (&mut readable, Permissions::Read)
        } else {
            return Err(Fault::Request(String::from(
                "a readable buffer follows a writable one",
            )));
        };
        let len = descriptor.len() as usize;
        for slice in GuestMemory::get_slices(ram, descriptor.addr(), len, access)? {
            part.push(slice?);
        }
    }
    Ok((readable, writable))
}
