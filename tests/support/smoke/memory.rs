//! The guest's memory.

use std::error::Error;

use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::VmFd;

const SIZE: usize = 2 << 20;

/// Memory of the guest, never unmapped.
pub(super) struct Memory(*mut u8);

impl Memory {
    pub(super) fn new() -> Result<Memory, Box<dyn Error>> {
        let layout = std::alloc::Layout::from_size_align(SIZE, SIZE)?;
        // SAFETY: the size is not zero.
        let memory = unsafe { std::alloc::alloc_zeroed(layout) };
        if memory.is_null() {
            return Err("no memory".into());
        }
        Ok(Memory(memory))
    }

    /// Makes it the machine's, from `address` on.
    pub(super) fn attach(&self, vm: &VmFd, address: u64) -> Result<(), kvm_ioctls::Error> {
        let region = kvm_userspace_memory_region {
            slot: 0,
            flags: 0,
            guest_phys_addr: address,
            memory_size: SIZE as u64,
            userspace_addr: self.0 as u64,
        };
        // SAFETY: the memory outlives the machine: it is unmapped when the process ends.
        unsafe { vm.set_user_memory_region(region) }
    }

    pub(super) fn word(&self, at: usize) -> u64 {
        assert!(at + 8 <= SIZE);
        // SAFETY: inside the memory, aligned; the guest is not running.
        unsafe { self.0.add(at).cast::<u64>().read_volatile() }
    }

    pub(super) fn put(&mut self, at: usize, words: &[u64]) {
        assert!(at + 8 * words.len() <= SIZE);
        for (index, word) in words.iter().enumerate() {
            // SAFETY: inside the memory, aligned; the guest is not running.
            let place = unsafe { self.0.add(at).cast::<u64>().add(index) };
            // SAFETY: the same.
            unsafe { place.write_volatile(*word) };
        }
    }

    pub(super) fn copy(&mut self, at: usize, bytes: &[u8]) {
        assert!(at + bytes.len() <= SIZE);
        // SAFETY: inside the memory, which is no other slice's; the guest is not running.
        unsafe {
            bytes
                .as_ptr()
                .copy_to_nonoverlapping(self.0.add(at), bytes.len());
        }
    }

    /// Compares pairs of words with what the guest was to leave there.
    pub(super) fn compare(&self, wanted: &[(&str, usize, [u64; 2])]) -> Result<(), Box<dyn Error>> {
        for (what, at, wanted) in wanted {
            let found = [self.word(*at), self.word(at + 8)];
            if found != *wanted {
                return Err(format!("{what}: {found:?} instead of {wanted:?}").into());
            }
        }
        Ok(())
    }
}
