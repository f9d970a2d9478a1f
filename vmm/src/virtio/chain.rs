//! The chains that a driver puts into a queue.

use virtio_queue::DescriptorChain;
use vm_memory::{GuestMemory, Permissions};

use super::fault::Fault;
use crate::guest_io::Buffers;
use crate::memory::GuestRam;

/// What a driver puts into a queue: buffers to read, then buffers to write.
pub type Chain<'m> = DescriptorChain<&'m GuestRam>;

/// Splits `chain` into its readable and its writable part: together at most 4 GiB
/// ([`DescriptorChain`] ends there). An indirect table could have 65535 buffers: `most` is the
/// number of entries of the queue, beyond which no driver goes (virtio 1.2, section 2.7.5.3.1).
///
/// # Errors
/// If a buffer is not in `ram`, a readable one follows a writable one, or there are more than
/// `most`.
pub fn split_chain<'m>(
    ram: &'m GuestRam,
    chain: Chain<'_>,
    most: u16,
) -> Result<(Buffers<'m>, Buffers<'m>), Fault> {
    let (mut readable, mut writable) = (Buffers::default(), Buffers::default());
    let mut answers = false;
    for (count, descriptor) in chain.enumerate() {
        if count >= usize::from(most) {
            return Err(Fault::Request(format!(
                "a chain of more than {most} buffers"
            )));
        }
        let (part, access) = if descriptor.is_write_only() {
            answers = true;
            (&mut writable, Permissions::Write)
        } else if !answers {
            (&mut readable, Permissions::Read)
        } else {
            return Err(Fault::Request(String::from(
                "a readable buffer follows a writable one",
            )));
        };
        let len = descriptor.len() as usize;
        if len == 0 {
            continue;
        }
        for slice in GuestMemory::get_slices(ram, descriptor.addr(), len, access)? {
            part.push(slice?);
        }
    }
    Ok((readable, writable))
}
