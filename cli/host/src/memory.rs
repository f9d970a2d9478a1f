//! Memory of this host, and the limits of control groups over this process.

use std::fs;
use std::path::{Path, PathBuf};

/// A limit at or above this is none: version 1 of control groups has the largest number of pages for it
/// (Documentation/admin-guide/cgroup-v1/memory.rst).
const NO_LIMIT: u64 = 1 << 60;

/// Memory of this host, in bytes; `None` is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HostMemory {
    /// What the host has.
    pub total: Option<u64>,
    /// The tightest limit of a control group over this process, if there is one.
    pub limit: Option<u64>,
    /// What is free, or can be made free, within all limits.
    pub available: Option<u64>,
}

impl HostMemory {
    /// Looks at this host, as it is now.
    pub fn now() -> HostMemory {
        HostMemory::at(Path::new("/proc"), Path::new("/sys/fs/cgroup"))
    }

    /// What this process and its children can have at most.
    pub fn most(&self) -> Option<u64> {
        self.total.into_iter().chain(self.limit).min()
    }

    /// The same of the folders that `/proc` and `/sys/fs/cgroup` are otherwise.
    fn at(proc: &Path, groups: &Path) -> HostMemory {
        let info = read(&proc.join("meminfo"));
        let field = |name: &str| {
            let line = info.lines().find_map(|line| line.strip_prefix(name))?;
            let number = line.trim().strip_suffix("kB")?.trim();
            number.parse::<u64>().ok()?.checked_mul(1 << 10)
        };
        let mut memory = HostMemory {
            total: field("MemTotal:"),
            limit: None,
            available: field("MemAvailable:"),
        };
        for group in groups_of(&read(&proc.join("self/cgroup")), groups) {
            memory.tighten(&group);
        }
        memory
    }

    /// Takes the limit of a control group into account, if it has one.
    fn tighten(&mut self, group: &Group) {
        let number = |name: &str| read(&group.folder.join(name)).trim().parse::<u64>().ok();
        // A group without a limit has `max`, which is not a number.
        let Some(limit) = number(group.version.limit()).filter(|limit| *limit < NO_LIMIT) else {
            return;
        };
        self.limit = self.limit.into_iter().chain([limit]).min();
        let Some(used) = number(group.version.used()) else {
            return;
        };
        // Its page cache can be dropped.
        let stat = read(&group.folder.join("memory.stat"));
        let files = stat
            .lines()
            .find_map(|line| {
                line.strip_prefix(group.version.files())?
                    .trim()
                    .parse()
                    .ok()
            })
            .unwrap_or(0);
        let left = limit.saturating_sub(used.saturating_sub(files));
        self.available = self.available.map(|available| available.min(left));
    }
}

/// Version of a hierarchy of control groups.
#[derive(Debug, Clone, Copy)]
enum Version {
    One,
    Two,
}

impl Version {
    fn limit(self) -> &'static str {
        match self {
            Version::One => "memory.limit_in_bytes",
            Version::Two => "memory.max",
        }
    }

    fn used(self) -> &'static str {
        match self {
            Version::One => "memory.usage_in_bytes",
            Version::Two => "memory.current",
        }
    }

    fn files(self) -> &'static str {
        match self {
            Version::One => "total_inactive_file ",
            Version::Two => "inactive_file ",
        }
    }
}

struct Group {
    folder: PathBuf,
    version: Version,
}

/// The control groups that this process is in, with those above them; `own` is `/proc/self/cgroup`
/// (cgroups(7)). In a container, the group at the top may be the process's own, and its path one of the
/// host: the top is looked at in any case.
fn groups_of(own: &str, mounted: &Path) -> Vec<Group> {
    let mut groups = Vec::new();
    for line in own.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else {
            continue;
        };
        let (top, version) = match controllers {
            "" => (mounted.to_owned(), Version::Two),
            _ if controllers.split(',').any(|name| name == "memory") => {
                (mounted.join("memory"), Version::One)
            }
            _ => continue,
        };
        let mut folder = top.join(path.trim_start_matches('/'));
        while folder.starts_with(&top) {
            groups.push(Group {
                folder: folder.clone(),
                version,
            });
            if !folder.pop() {
                break;
            }
        }
    }
    groups
}

/// A file of the kernel's, empty if it is not there.
fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    struct Host(tempfile::TempDir);

    impl Host {
        fn new(own: &str) -> Host {
            let host = Host(tempfile::tempdir().unwrap());
            host.write(
                "proc/meminfo",
                "MemTotal:       16777216 kB\nMemFree: 1 kB\nMemAvailable:    8388608 kB\n",
            );
            host.write("proc/self/cgroup", own);
            host
        }

        fn write(&self, name: &str, text: &str) {
            let path = self.0.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        fn memory(&self) -> HostMemory {
            HostMemory::at(&self.0.path().join("proc"), &self.0.path().join("cg"))
        }
    }

    #[test]
    fn control_groups_of_version_2_count() {
        let host = Host::new("0::/a/b\n");
        host.write("cg/a/b/memory.max", "max\n");
        host.write("cg/a/b/memory.current", "1\n");
        let free = HostMemory {
            total: Some(16 * GIB),
            limit: None,
            available: Some(8 * GIB),
        };
        assert_eq!(host.memory(), free);
        host.write("cg/a/memory.max", &format!("{}\n", 3 * GIB));
        host.write("cg/a/memory.current", &format!("{}\n", 2 * GIB));
        let stat = format!("file 1\ninactive_file {GIB}\n");
        host.write("cg/a/memory.stat", &stat);
        let limited = HostMemory {
            limit: Some(3 * GIB),
            available: Some(2 * GIB),
            ..free
        };
        assert_eq!(host.memory(), limited);
        assert_eq!(limited.most(), Some(3 * GIB));
        // In a container, with the host's path: the group is mounted at the top.
        host.write("proc/self/cgroup", "0::/../outside\n");
        host.write("cg/memory.max", &format!("{}\n", 2 * GIB));
        assert_eq!(host.memory().limit, Some(2 * GIB));
    }

    #[test]
    fn control_groups_of_version_1_count() {
        let host = Host::new("12:cpu,cpuacct:/x\n5:memory:/docker/77\n1:name=systemd:/\n");
        host.write("cg/memory/memory.limit_in_bytes", "9223372036854771712\n");
        assert_eq!(host.memory().limit, None);
        let limit = |bytes: u64| {
            host.write(
                "cg/memory/docker/77/memory.limit_in_bytes",
                &format!("{bytes}\n"),
            );
        };
        limit(2 * GIB);
        assert_eq!(host.memory().limit, Some(2 * GIB));
        assert_eq!(host.memory().available, Some(8 * GIB), "usage is not known");
        host.write(
            "cg/memory/docker/77/memory.usage_in_bytes",
            &GIB.to_string(),
        );
        assert_eq!(host.memory().available, Some(GIB));
    }

    #[test]
    fn a_host_that_tells_nothing_limits_nothing() {
        let memory = HostMemory::at(Path::new("/nowhere"), Path::new("/nowhere"));
        assert_eq!(memory, HostMemory::default());
        assert_eq!(memory.most(), None);
    }
}
