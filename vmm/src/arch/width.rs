//! Whether a machine's memory lies where its processor has addresses.

use vm_memory::{GuestMemoryBackend, GuestMemoryRegion};

use super::host::layout;
use crate::kvm::KvmError;
use crate::memory::GuestRam;

/// Checks that all of `ram`, and all devices, lie within `bits` bits of address.
pub(crate) fn check(ram: &GuestRam, bits: u32) -> Result<(), KvmError> {
    let bytes: u64 = ram.iter().map(GuestMemoryRegion::len).sum();
    let most = layout::most_ram(bits);
    if bytes > most {
        return Err(KvmError::Width {
            bits,
            mib: bytes >> 20,
            most_mib: most >> 20,
        });
    }
    Ok(())
}
