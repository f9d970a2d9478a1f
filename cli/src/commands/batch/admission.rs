//! Admission: how many builds this host has room for at once.

use boxbuild_host::memory::HostMemory;

/// Memory that stays free for everything else, in bytes.
const RESERVE: u64 = 1 << 30;

/// Memory that an engine needs besides the guest's, in bytes: QEMU's translated code (256 MiB by
/// default), page tables, buffers of the shares.
const OVERHEAD: u64 = 320 << 20;

/// Processors that one build keeps busy: an emulating engine and one guest processor, or, with KVM,
/// the parts of a build that use more than one.
const CPUS_PER_BUILD: usize = 2;

/// The resources of the host.
#[derive(Debug, Clone, Copy)]
pub(super) struct Capacity {
    /// Processors that this process may use.
    pub(super) cpus: usize,
    /// Memory in bytes that is free or can be freed, within the limits of the control groups; `None`
    /// if it is not known.
    pub(super) memory: Option<u64>,
}

/// How many builds run at once, and what they may use together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Limits {
    /// Most builds.
    pub(super) jobs: usize,
    /// Most memory of all builds together, in bytes; `None` is no limit.
    pub(super) memory: Option<u64>,
    /// Why, for the user.
    pub(super) reason: String,
}

impl Capacity {
    /// Returns the resources of this host.
    pub(super) fn of_host() -> Capacity {
        Capacity {
            cpus: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            memory: HostMemory::now().available,
        }
    }

    /// Returns the limits for builds whose guests have `memory` bytes each (0: a container). `asked`
    /// is the user's number of builds, which is taken as it is.
    pub(super) fn limits(&self, asked: Option<usize>, memory: &[u64]) -> Limits {
        if let Some(jobs) = asked {
            return Limits {
                jobs,
                memory: None,
                reason: String::from("as asked for"),
            };
        }
        let by_cpus = (self.cpus / CPUS_PER_BUILD).max(1);
        let budget = self.memory.map(|free| free.saturating_sub(RESERVE));
        let most = memory.iter().copied().map(needed).max().unwrap_or(0);
        let by_memory = match budget {
            Some(budget) if most > 0 => usize::try_from(budget / most).unwrap_or(usize::MAX),
            _ => usize::MAX,
        };
        let jobs = memory.len().min(by_cpus).max(1);
        let reason = if jobs == memory.len() && by_memory >= jobs {
            String::from("all of them: there is room")
        } else if by_memory < by_cpus {
            format!(
                "{} MiB of memory are free, and the largest build takes {} MiB",
                self.memory.unwrap_or(0) >> 20,
                most >> 20
            )
        } else {
            format!(
                "{} processors, and a build uses {CPUS_PER_BUILD}",
                self.cpus
            )
        };
        Limits {
            jobs,
            memory: budget,
            reason,
        }
    }
}

impl Limits {
    /// The limits of a runner: memory is a matter of its hosts.
    pub(super) fn of_runner(jobs: usize, reason: String) -> Limits {
        Limits {
            jobs,
            memory: None,
            reason,
        }
    }

    /// Returns whether a build with a guest of `memory` bytes can start beside `running` others that
    /// take `in_use` bytes together ([`needed`]). One build always can.
    pub(super) fn allow(&self, running: usize, in_use: u64, memory: u64) -> bool {
        running == 0
            || (running < self.jobs
                && self
                    .memory
                    .is_none_or(|budget| in_use.saturating_add(needed(memory)) <= budget))
    }

    /// Returns how many of the builds run at once if the largest ones come first.
    pub(super) fn at_once(&self, memory: &[u64]) -> usize {
        let mut memory = memory.to_vec();
        memory.sort_unstable_by(|a, b| b.cmp(a));
        let mut in_use = 0;
        let mut running = 0;
        for machine in memory {
            if !self.allow(running, in_use, machine) {
                break;
            }
            running += 1;
            in_use += needed(machine);
        }
        running.max(1)
    }
}

/// Returns the memory of the host that a build with a guest of `memory` bytes takes.
pub(super) fn needed(memory: u64) -> u64 {
    if memory == 0 { 0 } else { memory + OVERHEAD }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn capacity(cpus: usize, gib: u64) -> Capacity {
        Capacity {
            cpus,
            memory: Some(gib * GIB),
        }
    }

    #[test]
    fn processors_limit() {
        let limits = capacity(8, 64).limits(None, &[4 * GIB; 10]);
        assert_eq!(limits.jobs, 4);
        assert!(limits.reason.contains("8 processors"), "{}", limits.reason);
        assert_eq!(limits.at_once(&[4 * GIB; 10]), 4);
        assert_eq!(capacity(1, 64).limits(None, &[GIB; 3]).jobs, 1);
    }

    #[test]
    fn memory_limits() {
        let memory = [4 * GIB, GIB, GIB, GIB];
        let limits = capacity(16, 7).limits(None, &memory);
        assert_eq!(limits.at_once(&memory), 2);
        assert!(limits.reason.contains("7168 MiB"), "{}", limits.reason);
        // Small ones fit beside a large one, or among themselves.
        assert!(limits.allow(1, needed(4 * GIB), GIB));
        assert!(!limits.allow(1, needed(4 * GIB), 4 * GIB));
        // What is larger than all there is runs alone rather than never.
        assert!(limits.allow(0, 0, 100 * GIB));
    }

    #[test]
    fn the_users_number_stands() {
        let limits = capacity(1, 1).limits(Some(9), &[4 * GIB; 10]);
        assert_eq!(limits.at_once(&[4 * GIB; 10]), 9);
    }

    #[test]
    fn few_builds_and_no_more_than_there_are() {
        let limits = capacity(64, 64).limits(None, &[GIB; 2]);
        assert_eq!(limits.jobs, 2);
        assert!(limits.reason.contains("there is room"));
        let unknown = Capacity {
            cpus: 8,
            memory: None,
        };
        assert_eq!(unknown.limits(None, &[GIB; 9]).at_once(&[GIB; 9]), 4);
    }
}
