//! What is seen, while a box runs, of what it lacks.

use std::path::Path;

use boxbuild_engine::CpuLevel;
use boxbuild_host::space::Space;
use boxbuild_protocol::report::Resource;

use super::lack::Lack;
use super::outcome::Reason;

/// A file system of the host on which a user has less free space than this is full, in bytes.
const FULL: u64 = 4 << 20;

/// The same where programs of the box have said so.
const NEARLY_FULL: u64 = 64 << 20;

/// What the system says where there is no space (ENOSPC).
const NO_SPACE: &str = "No space left on device";

/// The kernel's line on a process that it has killed for want of memory, up to the process
/// (mm/oom_kill.c, since Linux 5.0 and before).
const KILLED: [&str; 2] = [
    "Out of memory: Killed process ",
    "Out of memory: Kill process ",
];

/// How a kernel panics that has killed all it could (mm/oom_kill.c).
const PANICS: [&str; 2] = ["System is deadlocked on memory", "Out of memory"];

/// What glibc says before it runs anything on a processor that is too old, up to the level
/// (sysdeps/x86_64/dl-hwcap-check.h).
const PROCESSOR: &str = "Fatal glibc error: CPU does not support ";

/// What was seen of a lack while a box ran.
#[derive(Debug, Default)]
pub(super) struct Signs {
    /// The box itself said that it ran out of these.
    exhausted: Vec<Resource>,
    /// The process that its kernel has killed first.
    killed: Option<String>,
    /// A program of the box said that there was no space.
    no_space: bool,
    /// The level of the processor that programs of the box need.
    processor: Option<CpuLevel>,
}

/// What a plan gave to the box, and where its results go.
#[derive(Debug, Clone, Copy)]
pub(super) struct Means<'a> {
    pub(super) memory_mib: u64,
    pub(super) disk: u64,
    /// Where results are put first, on the file system of the target folder.
    pub(super) share: &'a Path,
    /// The target folder, as the user knows it.
    pub(super) target: &'a Path,
    pub(super) container: bool,
}

impl Signs {
    /// Takes what the guest reported.
    pub(super) fn report(&mut self, resource: Resource) {
        if !self.exhausted.contains(&resource) {
            self.exhausted.push(resource);
        }
    }

    /// Takes a line of the console or of kiwi's log.
    pub(super) fn line(&mut self, line: &str) {
        self.no_space |= line.contains(NO_SPACE);
        if let Some((_, level)) = line.split_once(PROCESSOR) {
            self.processor = self.processor.max(CpuLevel::from_name(level.trim()));
        }
        if self.killed.is_none() {
            self.killed = KILLED
                .iter()
                .find_map(|start| line.split_once(start))
                .map(|(_, process)| name(process));
        }
    }

    /// The lack behind `reason`, if there is one.
    pub(super) fn explain(&self, reason: &Reason, means: Means<'_>) -> Option<Lack> {
        let of_memory = match reason {
            Reason::Reset => false,
            Reason::Panic(text) => PANICS.iter().any(|start| text.contains(start)),
            Reason::Kiwi(_)
            | Reason::EarlyPowerOff
            | Reason::Hung(_)
            | Reason::UnreadableCode(_) => false,
            _ => return None,
        };
        if let Some(level) = self.processor {
            return Some(Lack::Processor(level));
        }
        if matches!(reason, Reason::Reset) {
            return None;
        }
        let thrashed =
            matches!(reason, Reason::Hung(_)) && self.exhausted.contains(&Resource::WorkingMemory);
        if of_memory
            || thrashed
            || self.killed.is_some()
            || self.exhausted.contains(&Resource::Memory)
        {
            return Some(if means.container {
                Lack::HostMemory
            } else {
                Lack::Memory(means.memory_mib, self.killed.clone())
            });
        }
        if let Some(space) = Space::at(means.share)
            && (space.free < FULL || self.no_space && space.free < NEARLY_FULL)
        {
            return Some(Lack::HostDisk(means.target.to_owned()));
        }
        let exhausted = self.exhausted.contains(&Resource::Disk);
        exhausted.then_some(if means.container {
            Lack::Storage
        } else {
            Lack::Disk(means.disk)
        })
    }
}

/// The name in `NUMBER (NAME) total-vm:…`.
fn name(process: &str) -> String {
    let inner = process.split_once('(').and_then(|(_, rest)| {
        // A name may have parentheses itself.
        let rest = rest.split(" total-vm:").next().unwrap_or(rest);
        let rest = rest.split(" score ").next().unwrap_or(rest);
        rest.rsplit_once(')')
    });
    inner.map_or("a process", |(name, _)| name).to_owned()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn means(target: &Path, container: bool) -> Means<'_> {
        Means {
            memory_mib: 512,
            disk: 20 << 30,
            share: target,
            target,
            container,
        }
    }

    fn explain(lines: &[&str], exhausted: &[Resource], reason: &Reason) -> Option<String> {
        let dir = tempfile::tempdir().unwrap();
        let mut signs = Signs::default();
        lines.iter().for_each(|line| signs.line(line));
        exhausted
            .iter()
            .for_each(|resource| signs.report(*resource));
        signs
            .explain(reason, means(dir.path(), false))
            .map(|lack| lack.to_string())
    }

    #[test]
    fn a_kernel_that_killed_a_process_lacks_memory() {
        let line = "[   42.123456] Out of memory: Killed process 77 (python3) total-vm:812345kB, \
                    anon-rss:412345kB, file-rss:0kB, shmem-rss:0kB, UID:0 pgtables:900kB";
        let words = "the box ran out of memory (512 MiB), and its kernel ended python3: give it more \
                     with --box-memory";
        let failed = Reason::Kiwi(137);
        assert_eq!(explain(&[line], &[], &failed).as_deref(), Some(words));
        let hung = Reason::Hung(Duration::from_secs(9));
        assert_eq!(explain(&[line], &[], &hung).as_deref(), Some(words));
        let old = "Out of memory: Kill process 7 (a (b) c) score 900 or sacrifice child";
        assert!(explain(&[old], &[], &failed).unwrap().contains("a (b) c:"));
        let panic = Reason::Panic(String::from("System is deadlocked on memory"));
        assert!(
            explain(&[], &[], &panic)
                .unwrap()
                .contains("(512 MiB): give")
        );
        assert!(explain(&[], &[Resource::Memory], &failed).is_some());
        assert_eq!(explain(&[], &[], &failed), None);
        // A build that was slow fails for its own reasons.
        let slow = [Resource::WorkingMemory];
        assert_eq!(explain(&[], &slow, &failed), None);
        assert!(explain(&[], &slow, &hung).is_some());
        // A group of processes inside of the box has a limit of its own.
        let inner = "Memory cgroup out of memory: Killed process 7 (x) total-vm:1kB";
        assert_eq!(explain(&[inner], &[], &failed), None);
    }

    #[test]
    fn a_full_disk_is_told_with_its_owner() {
        let failed = Reason::Kiwi(1);
        let disk = [Resource::Disk];
        let own = explain(&["cp: x: No space left on device"], &disk, &failed).unwrap();
        assert!(own.contains("20.0 GiB") || own.contains("20 GiB"), "{own}");
        assert!(own.contains("--disk-size"), "{own}");
        // A file system within the image, which kiwi made too small.
        assert_eq!(explain(&["No space left on device"], &[], &failed), None);
        let mut signs = Signs::default();
        signs.report(Resource::Disk);
        let dir = tempfile::tempdir().unwrap();
        let lack = signs.explain(&failed, means(dir.path(), true)).unwrap();
        assert!(lack == Lack::Storage && lack.is_of_the_host());
    }

    #[test]
    fn glibc_names_the_processor_that_it_needs() {
        let line = "Fatal glibc error: CPU does not support x86-64-v3";
        let panic = Reason::Panic(String::from("Attempted to kill init! exitcode=0x00007f00"));
        for reason in [
            Reason::Kiwi(127),
            Reason::EarlyPowerOff,
            Reason::Reset,
            panic,
        ] {
            let words = explain(&[line], &[Resource::Memory], &reason).unwrap();
            assert!(words.contains("of the level x86-64-v3"), "{words}");
        }
        let other = "Fatal glibc error: CPU does not support feathers";
        assert_eq!(explain(&[other], &[], &Reason::Kiwi(127)), None);
    }

    #[test]
    fn a_stop_by_the_user_has_no_other_reason() {
        for reason in [
            Reason::Interrupted,
            Reason::Timeout(Duration::from_secs(1)),
            Reason::Engine(String::from("x")),
        ] {
            assert_eq!(explain(&[], &[Resource::Memory], &reason), None, "{reason}");
        }
    }
}
