//! What it takes that a guest reads what this program wrote, from memory that it takes for a device.

use std::arch::asm;

/// Makes `len` bytes at `start` visible to a guest that reads them past the caches, as it does where
/// it believes to have a device: what we wrote may be in a cache only. From Armv8.4 on (FEAT_S2FWB)
/// KVM has the guest use the caches all the same, and this costs little.
///
/// Linux gives programs `DC CVAC` (arch/arm64/include/asm/sysreg.h, `SCTLR_EL1_UCI`).
pub(crate) fn publish(start: *const u8, len: usize) {
    /// The smallest that a line of a cache can be, in bytes: a register has 16 words (CTR_EL0).
    const LINE: usize = 16;
    let end = start.addr().saturating_add(len);
    let mut at = start.addr() & !(LINE - 1);
    while at < end {
        // SAFETY: cleaning a line changes no memory; the caller's mapping has all of it but for the
        // bytes around, which share the line and so the page.
        unsafe {
            asm!("dc cvac, {at}", at = in(reg) at, options(nostack, preserves_flags));
        }
        at += LINE;
    }
    // SAFETY: a barrier.
    unsafe {
        asm!("dsb sy", options(nostack, preserves_flags));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_keeps_its_content() {
        let bytes = [7_u8; 100];
        publish(bytes[3..].as_ptr(), 90);
        publish(bytes.as_ptr(), 0);
        assert_eq!(bytes, [7; 100]);
    }
}
