//! The guest's RAM: one anonymous, private mapping, seen by the guest as one or two ranges.
//!
//! Where the ranges lie is the architecture's affair. The mapping is aligned so that guest and host addresses agree modulo 2 MiB: only then can KVM use huge
//! pages, which are worth 8 % of a small guest's whole boot.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use nix::sys::mman::{MmapAdvise, madvise};
use vm_memory::bitmap::{BS, BitmapSlice};
use vm_memory::guest_memory::Result as MemoryResult;
use vm_memory::{
    Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryError, GuestMemoryRegion,
    GuestMemoryRegionBytes, GuestRegionCollection, GuestUsize, MemoryRegionAddress, MmapRegion,
    ReadVolatile, VolatileMemory, VolatileMemoryError, VolatileSlice,
};

use crate::arch::host::layout;

/// Size of a huge page, on x86 and with 4 KiB pages on Arm.
const HUGE_PAGE: usize = 2 << 20;
/// The least memory in MiB with which a distribution's kernel unpacks itself.
pub const MIN_MIB: u64 = 64;
/// The most memory in MiB.
pub const MAX_MIB: u64 = layout::MAX_MIB;

/// Why guest memory cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// The size is out of range.
    #[error("{0} MiB of guest memory: must be {MIN_MIB} to {MAX_MIB}")]
    Size(u64),
    /// The host refuses the mapping.
    #[error("cannot map {mib} MiB for the guest")]
    Map {
        /// The size in MiB.
        mib: u64,
        /// Its error.
        #[source]
        source: vm_memory::mmap::MmapRegionError,
    },
}

/// A range of guest RAM: a part of this process's one mapping for it.
#[derive(Debug)]
pub struct Ram {
    mapping: Arc<MmapRegion>,
    /// Where the range starts in the mapping.
    offset: usize,
    start: GuestAddress,
    len: usize,
}

impl GuestMemoryRegion for Ram {
    type B = ();

    fn len(&self) -> GuestUsize {
        self.len as GuestUsize
    }

    fn start_addr(&self) -> GuestAddress {
        self.start
    }

    fn bitmap(&self) -> BS<'_, ()> {}

    fn get_host_address(&self, addr: MemoryRegionAddress) -> MemoryResult<*mut u8> {
        Ok(self.get_slice(addr, 1)?.ptr_guard_mut().as_ptr())
    }

    fn get_slice(
        &self,
        offset: MemoryRegionAddress,
        count: usize,
    ) -> MemoryResult<VolatileSlice<'_, ()>> {
        let end = offset.0.checked_add(count as u64);
        if end.is_none_or(|end| end > self.len()) {
            return Err(GuestMemoryError::InvalidBackendAddress);
        }
        Ok(VolatileMemory::get_slice(
            self.mapping.as_ref(),
            self.offset + offset.0 as usize,
            count,
        )?)
    }
}

impl GuestMemoryRegionBytes for Ram {}

/// All RAM of a guest. Clones share it.
pub type GuestRam = GuestRegionCollection<Ram>;

/// Maps `mib` MiB for a guest. Nothing is in use before the guest or we touch it.
///
/// # Errors
/// If the size is out of range or the host refuses.
pub fn allocate(mib: u64) -> Result<GuestRam, MemoryError> {
    map(mib, layout::ram_ranges)
}

/// As [`allocate`], in one range from 0 on, wherever the architecture has its RAM: for tests and
/// measurements of devices alone.
///
/// # Errors
/// If the size is out of range or the host refuses.
pub fn flat(mib: u64) -> Result<GuestRam, MemoryError> {
    map(mib, |bytes| vec![(0, bytes)])
}

fn map(mib: u64, ranges: impl Fn(u64) -> Vec<(u64, u64)>) -> Result<GuestRam, MemoryError> {
    if !(MIN_MIB..=MAX_MIB).contains(&mib) {
        return Err(MemoryError::Size(mib));
    }
    let bytes = (mib as usize) << 20;
    let mapping =
        MmapRegion::new(bytes + HUGE_PAGE).map_err(|source| MemoryError::Map { mib, source })?;
    let start = mapping.as_ptr() as usize;
    let mut offset = start.next_multiple_of(HUGE_PAGE) - start;
    advise(&mapping);
    let mapping = Arc::new(mapping);
    let regions = ranges(bytes as u64)
        .into_iter()
        .map(|(start, len)| {
            let ram = Ram {
                mapping: Arc::clone(&mapping),
                offset,
                start: GuestAddress(start),
                len: len as usize,
            };
            offset += len as usize;
            ram
        })
        .collect();
    // The ranges are in order and apart from each other, so this does not fail.
    Ok(GuestRam::from_regions(regions).unwrap_or_default())
}

/// Asks for huge pages, and that no core dump has the guest's memory. A host without huge pages
/// is slower, not wrong.
fn advise(mapping: &MmapRegion) {
    let Some(start) = std::ptr::NonNull::new(mapping.as_ptr().cast()) else {
        return;
    };
    for advice in [MmapAdvise::MADV_HUGEPAGE, MmapAdvise::MADV_DONTDUMP] {
        // SAFETY: the range is a mapping that we made; the advice changes nothing that can be seen.
        let advised = unsafe { madvise(start, mapping.size(), advice) };
        if let Err(error) = advised {
            log::debug!("{advice:?} is refused for the guest's memory: {error}");
        }
    }
}

/// Gives the pages of `start..start + len` (guest address, bytes) back to the host. They read
/// as zeros afterwards.
///
/// # Errors
/// If the range is not RAM, not whole pages, or the host refuses.
pub fn release(ram: &GuestRam, start: u64, len: usize) -> Result<(), GuestMemoryError> {
    let slice = ram.get_slice(GuestAddress(start), len)?;
    let pointer = slice.ptr_guard_mut().as_ptr();
    if let Some(pointer) = std::ptr::NonNull::new(pointer.cast()) {
        // SAFETY: the range lies in the guest's RAM, which we only ever read and write as
        // volatile bytes; its contents may change at any time.
        unsafe { madvise(pointer, len, MmapAdvise::MADV_DONTNEED) }
            .map_err(|error| GuestMemoryError::IOError(error.into()))?;
    }
    Ok(())
}

/// Reads `len` bytes from `offset` of `file` to `address`.
pub(crate) fn read_from_file(
    ram: &GuestRam,
    (address, len): (u64, u64),
    file: &File,
    offset: u64,
) -> io::Result<()> {
    let len = usize::try_from(len).map_err(io::Error::other)?;
    let mut source = ReadAt { file, offset };
    ram.read_exact_volatile_from(GuestAddress(address), &mut source, len)
        .map_err(|error| match error {
            GuestMemoryError::IOError(error) => error,
            other => io::Error::other(other),
        })
}

/// A file from some offset on; its position is not used.
struct ReadAt<'a> {
    file: &'a File,
    offset: u64,
}

impl ReadVolatile for ReadAt<'_> {
    fn read_volatile<B: BitmapSlice>(
        &mut self,
        slice: &mut VolatileSlice<'_, B>,
    ) -> Result<usize, VolatileMemoryError> {
        let guard = slice.ptr_guard_mut();
        let file = self.file.as_raw_fd();
        let offset = libc::off_t::try_from(self.offset)
            .map_err(|error| VolatileMemoryError::IOError(io::Error::other(error)))?;
        // SAFETY: the guard's range is writable memory as long as it lives; it belongs to the
        // guest, so nothing relies on what is in it.
        let read = unsafe { libc::pread(file, guard.as_ptr().cast(), slice.len(), offset) };
        // Negative: there is an error.
        let Ok(read) = usize::try_from(read) else {
            return Err(VolatileMemoryError::IOError(io::Error::last_os_error()));
        };
        slice.bitmap().mark_dirty(0, read);
        self.offset += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_out_of_range_are_refused() {
        assert!(matches!(allocate(0), Err(MemoryError::Size(0))));
        assert!(matches!(allocate(u64::MAX), Err(MemoryError::Size(_))));
    }

    #[test]
    fn the_host_can_use_huge_pages_and_ranges_do_not_overlap() {
        let ram = allocate(4096).unwrap();
        for region in ram.iter() {
            let host = region.get_host_address(MemoryRegionAddress(0)).unwrap() as u64;
            assert_eq!(
                host % HUGE_PAGE as u64,
                region.start_addr().0 % HUGE_PAGE as u64
            );
        }
        let ends: Vec<u64> = (ram.iter())
            .map(|region| region.start_addr().0 + region.len())
            .collect();
        for (number, end) in ends.iter().enumerate() {
            ram.write_obj(number as u64, GuestAddress(end - 8)).unwrap();
        }
        for (number, &end) in ends.iter().enumerate() {
            let found: u64 = ram.read_obj(GuestAddress(end - 8)).unwrap();
            assert_eq!(found, number as u64);
            assert!(ram.write_obj(0_u64, GuestAddress(end)).is_err());
            assert!(ram.write_obj(0_u64, GuestAddress(end - 4)).is_err());
        }
        assert!(ram.get_slice(GuestAddress(u64::MAX - 3), 8).is_err());
    }

    /// What `/proc/self/smaps` says of the mapping that `address` is in, as two-letter words
    /// (proc_pid_smaps(5)).
    fn vm_flags(address: usize) -> String {
        let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let mut inside = false;
        for line in smaps.lines() {
            let word = line.split(' ').next().unwrap();
            if let Some((start, end)) = word.split_once('-') {
                let number = |text| usize::from_str_radix(text, 16).unwrap();
                inside = (number(start)..number(end)).contains(&address);
            } else if let (true, Some(flags)) = (inside, line.strip_prefix("VmFlags:")) {
                return flags.to_owned();
            }
        }
        panic!("no mapping of {address:#x}")
    }

    #[test]
    fn no_core_dump_has_the_guests_memory() {
        let ram = allocate(4096).unwrap();
        for region in ram.iter() {
            for at in [0, region.len() - 1] {
                let host = region.get_host_address(MemoryRegionAddress(at)).unwrap();
                let flags = vm_flags(host as usize);
                assert!(flags.split(' ').any(|flag| flag == "dd"), "{flags}");
            }
        }
    }

    #[test]
    fn released_memory_reads_as_zeros() {
        let ram = allocate(64).unwrap();
        let start = ram.iter().next().unwrap().start_addr().0;
        let page = start + 0x10_0000;
        ram.write_obj(7_u64, GuestAddress(page)).unwrap();
        release(&ram, page, 4096).unwrap();
        assert_eq!(ram.read_obj::<u64>(GuestAddress(page)).unwrap(), 0);
        assert!(release(&ram, start + (64 << 20), 4096).is_err());
    }
}
