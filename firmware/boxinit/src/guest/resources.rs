//! What the box can run out of: memory, space on its disk. The host is told when it has.

use std::fs;

use boxbuild_protocol::paths::TARGET;
use boxbuild_protocol::report::{Report, Resource};
use nix::sys::statvfs::statvfs;

use super::control::Control;

/// A file system with less free space than this is full, in bytes: ext4 keeps 4096 clusters for itself,
/// which it counts as free, and of which not even root gets any (fs/ext4/super.c,
/// `ext4_calculate_resv_clusters`).
const FULL: u64 = 20 << 20;

/// More than this part of a minute spent waiting for memory is too much, in per cent.
const THRASHING: f64 = 40.0;

/// Folders of the file systems that a build fills.
const FOLDERS: [&str; 3] = ["/", TARGET, "/var/tmp"];

/// What the box has run out of so far.
#[derive(Debug, Default)]
pub(super) struct Resources {
    told: Vec<Resource>,
}

impl Resources {
    /// Looks at everything, and tells the host what has run out and was not told yet.
    pub(super) fn look(&mut self, control: &mut Control) {
        for (resource, is_exhausted) in [
            (Resource::Memory, is_memory_exhausted as fn() -> bool),
            (Resource::Disk, is_disk_full),
            (Resource::WorkingMemory, is_thrashing),
        ] {
            if !self.told.contains(&resource) && is_exhausted() {
                self.told.push(resource);
                control.report(Report::Exhausted(resource));
            }
        }
    }
}

/// Whether the kernel has killed a process for its memory (Linux 4.13).
fn is_memory_exhausted() -> bool {
    fs::read_to_string("/proc/vmstat").is_ok_and(|text| oom_kills(&text) > 0)
}

fn oom_kills(vmstat: &str) -> u64 {
    vmstat
        .lines()
        .find_map(|line| line.strip_prefix("oom_kill ")?.parse().ok())
        .unwrap_or(0)
}

/// Whether programs have mostly waited for memory in the last minute (Documentation/accounting/psi.rst).
/// A kernel without that file is not asked.
fn is_thrashing() -> bool {
    fs::read_to_string("/proc/pressure/memory").is_ok_and(|text| stalled(&text) >= THRASHING)
}

/// The part of the last minute, in per cent, in which every program that had work waited for memory.
fn stalled(pressure: &str) -> f64 {
    pressure
        .lines()
        .find_map(|line| line.strip_prefix("full "))
        .and_then(|line| line.split(' ').find_map(|word| word.strip_prefix("avg60=")))
        .and_then(|text| text.parse().ok())
        .unwrap_or(0.0)
}

/// Whether a file system has no space, or no inodes, left for root.
fn is_disk_full() -> bool {
    FOLDERS.iter().any(|folder| {
        statvfs(*folder).is_ok_and(|stat| {
            let free = stat.blocks_free().saturating_mul(stat.fragment_size());
            let full = stat.blocks() > 0 && free < FULL;
            // btrfs counts no inodes.
            full || (stat.files() > 0 && stat.files_free() == 0)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_spent_waiting_for_memory_is_read() {
        let text = "some avg10=92.10 avg60=81.20 avg300=40.00 total=1\n\
                    full avg10=71.00 avg60=55.50 avg300=20.00 total=1\n";
        assert!(stalled(text) > 55.0 && stalled(text) < 56.0);
        assert!(stalled("some avg10=92.10 avg60=81.20 avg300=40.00 total=1\n") < 1.0);
        assert!(stalled("") < 1.0);
    }

    #[test]
    fn a_kernel_tells_of_killed_processes() {
        assert_eq!(oom_kills("nr_free_pages 7\noom_kill 2\ndrop_slab 0\n"), 2);
        assert_eq!(oom_kills("oom_killed 3\noom_kill 0\n"), 0);
        assert_eq!(oom_kills("nr_free_pages 7\n"), 0);
    }
}
