//! The C library's memory allocator under a filter of system calls.

/// Keeps glibc's allocator from opening files, which a jailed thread cannot survive:
///
/// - before it gives the end of a thread's heap back to the kernel for the first time,
///   /proc/sys/vm/overcommit_memory (malloc/arena.c, `shrink_heap`). What is freed is used again instead;
///   blocks of 128 KiB and more are mappings of their own, which still go back;
/// - before 2.35, to count the processors when it has eight heaps, /sys/devices/system/cpu/online
///   (`arena_get2`).
pub(crate) fn open_no_files() {
    #[cfg(target_env = "gnu")]
    {
        /// Heaps of threads, at most: glibc's own number for eight processors.
        const HEAPS: libc::c_int = 64;
        for (parameter, value) in [
            (libc::M_TRIM_THRESHOLD, libc::c_int::MAX),
            (libc::M_ARENA_MAX, HEAPS),
        ] {
            // SAFETY: it sets a number in the allocator. One that it does not take changes nothing.
            let _ = unsafe { libc::mallopt(parameter, value) };
        }
    }
}
