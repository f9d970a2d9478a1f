//! Which module files a device or a file system needs.
//!
//! Reads the text forms of the indexes that `depmod` writes (modules.dep(5)): `modules.dep`,
//! `modules.alias` and `modules.softdep`. They are searched line by line rather than parsed as a
//! whole: few modules are looked up, and a distribution's indexes are long.

use std::cell::Cell;
use std::collections::HashSet;

/// The indexes of one `lib/modules/RELEASE`.
///
/// The work of all searches has a limit: indexes may come from anywhere. Beyond it nothing more is
/// found, and [`Index::is_exhausted`] says so.
#[derive(Debug, Clone, Default)]
pub struct Index {
    /// Content of `modules.dep`: `FILE: FILE…`, dependencies in reverse order of loading.
    pub dependencies: String,
    /// Content of `modules.alias`: `alias PATTERN MODULE`.
    pub aliases: String,
    /// Content of `modules.softdep`: `softdep MODULE pre: MODULE… post: MODULE…`.
    pub soft: String,
    /// What is left of the work.
    pub work: Work,
}

/// Steps that searches may still take: bytes that are looked at, more or less.
#[derive(Debug, Clone)]
pub struct Work(Cell<u64>);

impl Work {
    /// More than ten times what a distribution's indexes take, and some seconds at the most.
    const MOST: u64 = 512 << 20;

    /// Takes `steps`. Returns whether they were left.
    fn take(&self, steps: usize) -> bool {
        let left = self.0.get().checked_sub(steps as u64);
        self.0.set(left.unwrap_or(0));
        left.is_some()
    }
}

impl Default for Work {
    fn default() -> Work {
        Work(Cell::new(Work::MOST))
    }
}

/// Longest name of a module or a device that is looked up, in bytes (Linux, `MODULE_NAME_LEN` is 56,
/// and a PCI alias has 54).
const LONGEST_NAME: usize = 256;
/// Most modules that one name stands for.
const MOST_MODULES: usize = 256;
/// Longest chain of soft dependencies that is followed.
const MAX_DEPTH: usize = 8;

impl Index {
    /// Names of the modules that `name` stands for: those with a matching alias, or else the module
    /// of that name. Empty if there is none, as for what is built into the kernel.
    pub fn modules(&self, name: &str) -> Vec<&str> {
        let mut found: Vec<&str> = Vec::new();
        if name.len() > LONGEST_NAME {
            return found;
        }
        for line in self.aliases.lines() {
            if found.len() > MOST_MODULES || !self.work.take(line.len() + 1) {
                self.work.take(usize::MAX);
                return Vec::new();
            }
            let Some(rest) = line.strip_prefix("alias ") else {
                continue;
            };
            let Some((pattern, module)) = rest.rsplit_once(' ') else {
                continue;
            };
            if matches_within(pattern, name, &self.work) && !found.contains(&module) {
                found.push(module);
            }
        }
        if found.is_empty() {
            let named = self.line(name).map(|(file, _)| module_name(file));
            found.extend(named);
        }
        found
    }

    /// Files to load for the module `name`, in order. Empty if there is no such module.
    pub fn files(&self, name: &str) -> Vec<&str> {
        let mut files = Vec::new();
        self.add(name, &mut files, &mut HashSet::new(), MAX_DEPTH);
        files
    }

    /// Whether a search needed more work than there may be: what is found is not all.
    pub fn is_exhausted(&self) -> bool {
        self.work.0.get() == 0
    }

    /// `begun` are the files that are in `files`, or will be when what they need is.
    fn add<'a>(
        &'a self,
        name: &str,
        files: &mut Vec<&'a str>,
        begun: &mut HashSet<&'a str>,
        depth: usize,
    ) {
        let Some((file, needed)) = self.line(name) else {
            return;
        };
        let hard = needed.split_ascii_whitespace().rev().chain([file]);
        for file in hard {
            if !begun.insert(file) {
                continue;
            }
            if depth > 0 {
                for soft in self.soft_dependencies(module_name(file)) {
                    for module in self.modules(soft) {
                        self.add(module, files, begun, depth - 1);
                    }
                }
            }
            files.push(file);
        }
    }

    /// The line of `modules.dep` for a module: its file and its dependencies.
    fn line(&self, name: &str) -> Option<(&str, &str)> {
        let mut lines = self.dependencies.lines();
        let mut lines = std::iter::from_fn(|| lines.next().filter(|line| self.look_at(line)));
        lines.find_map(|line| {
            let (file, needed) = line.split_once(':')?;
            same_name(module_name(file), name).then_some((file, needed))
        })
    }

    /// Whether there is work left for a line.
    fn look_at(&self, line: &str) -> bool {
        self.work.take(line.len() + 1)
    }

    /// Names of the modules to load before the module `name`, if they exist.
    fn soft_dependencies<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.soft
            .lines()
            .take_while(|line| self.look_at(line))
            .filter_map(move |line| {
                let (module, rest) = line.strip_prefix("softdep ")?.split_once(' ')?;
                same_name(module, name).then_some(rest)
            })
            .flat_map(|rest| {
                let mut before = false;
                rest.split_ascii_whitespace()
                    .filter(move |word| match *word {
                        "pre:" => {
                            before = true;
                            false
                        }
                        "post:" => {
                            before = false;
                            false
                        }
                        _ => before,
                    })
            })
    }
}

/// The name of the module in a file: `virtio_blk` of `kernel/drivers/block/virtio_blk.ko.xz`.
pub fn module_name(file: &str) -> &str {
    let name = file.rsplit('/').next().unwrap_or(file);
    name.split_once(".ko").map_or(name, |(name, _)| name)
}

/// Whether the module file is compressed.
pub fn is_compressed(file: &str) -> bool {
    !file.ends_with(".ko")
}

/// Whether two names mean the same module: hyphens and underscores are equivalent.
fn same_name(one: &str, other: &str) -> bool {
    one.len() == other.len() && one.bytes().zip(other.bytes()).all(|(a, b)| same(a, b))
}

fn same(one: u8, other: u8) -> bool {
    one == other || (matches!(one, b'-' | b'_') && matches!(other, b'-' | b'_'))
}

/// Matches shell patterns (glob(7)) as far as aliases use them: `*`, `?` and `[…]`. Hyphens and
/// underscores are equivalent outside of brackets.
pub fn matches(pattern: &str, text: &str) -> bool {
    matches_within(pattern, text, &Work::default())
}

/// The same; no match if `work` does not suffice.
fn matches_within(pattern: &str, text: &str, work: &Work) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    // On a mismatch, the last star takes one byte more: at most pattern times text steps.
    let (mut p, mut t) = (0, 0);
    let mut retry = None;
    while t < text.len() {
        if !work.take(1) {
            return false;
        }
        let step = match pattern.get(p) {
            Some(b'*') => {
                retry = Some((p + 1, t));
                p += 1;
                continue;
            }
            Some(b'?') => Some(1),
            Some(b'[') => {
                // Far longer than any expression.
                let rest = &pattern[p..pattern.len().min(p + LONGEST_NAME)];
                work.take(rest.len());
                in_brackets(rest, text[t])
            }
            Some(byte) if same(*byte, text[t]) => Some(1),
            _ => None,
        };
        match (step, retry) {
            (Some(step), _) => {
                p += step;
                t += 1;
            }
            (None, Some((after_star, at))) => {
                p = after_star;
                t = at + 1;
                retry = Some((after_star, at + 1));
            }
            (None, None) => return false,
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

/// Length of the bracket expression that `pattern` begins with, if `byte` is in it.
fn in_brackets(pattern: &[u8], byte: u8) -> Option<usize> {
    let end = pattern.iter().position(|byte| *byte == b']')?;
    let mut set = &pattern[1..end];
    let mut found = false;
    while let [first, rest @ ..] = set {
        if let [b'-', last, rest @ ..] = rest {
            found |= (*first..=*last).contains(&byte);
            set = rest;
        } else {
            found |= *first == byte;
            set = rest;
        }
    }
    found.then_some(end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index() -> Index {
        Index {
            dependencies: "\
kernel/drivers/virtio/virtio.ko.xz:
kernel/drivers/virtio/virtio_ring.ko.xz: kernel/drivers/virtio/virtio.ko.xz
kernel/drivers/virtio/virtio_pci.ko.xz: kernel/drivers/virtio/virtio_ring.ko.xz kernel/drivers/virtio/virtio.ko.xz
kernel/drivers/block/virtio_blk.ko.xz: kernel/drivers/virtio/virtio_ring.ko.xz kernel/drivers/virtio/virtio.ko.xz
kernel/fs/btrfs/btrfs.ko.xz: kernel/lib/raid6/raid6_pq.ko.xz
kernel/lib/raid6/raid6_pq.ko.xz:
kernel/crypto/xxhash-generic.ko.xz:
kernel/crypto/looped.ko.xz:
"
            .into(),
            aliases: "\
# Aliases extracted from modules themselves.
alias pci:v00001AF4d*sv*sd*bc*sc*i* virtio_pci
alias virtio:d00000002v* virtio_blk
alias fs-btrfs btrfs
alias crypto-xxhash64 xxhash_generic
alias cpu:type:x86,ven*fam*mod*:feature:*0099* some
"
            .into(),
            soft: "\
# Soft dependencies
softdep btrfs pre: xxhash64 crypto-xxhash64 post: looped
softdep looped pre: looped
"
            .into(),
            work: Work::default(),
        }
    }

    #[test]
    fn a_device_finds_its_module() {
        let index = index();
        let pci = "pci:v00001AF4d00001042sv00001AF4sd00001100bc01sc80i00";
        assert_eq!(index.modules(pci), ["virtio_pci"]);
        assert_eq!(index.modules("virtio:d00000002v00001AF4"), ["virtio_blk"]);
        assert_eq!(index.modules("virtio:d00000001v00001AF4"), [] as [&str; 0]);
        assert_eq!(index.modules("fs-btrfs"), ["btrfs"]);
        assert_eq!(index.modules("virtio-blk"), ["virtio_blk"]);
        assert_eq!(index.modules("fs-ext4"), [] as [&str; 0]);
    }

    #[test]
    fn dependencies_come_first_and_once() {
        assert_eq!(
            index().files("virtio-pci"),
            [
                "kernel/drivers/virtio/virtio.ko.xz",
                "kernel/drivers/virtio/virtio_ring.ko.xz",
                "kernel/drivers/virtio/virtio_pci.ko.xz"
            ]
        );
        assert_eq!(
            index().files("btrfs"),
            [
                "kernel/lib/raid6/raid6_pq.ko.xz",
                "kernel/crypto/xxhash-generic.ko.xz",
                "kernel/fs/btrfs/btrfs.ko.xz"
            ]
        );
        assert_eq!(index().files("looped"), ["kernel/crypto/looped.ko.xz"]);
        assert_eq!(index().files("ext4"), [] as [&str; 0]);
    }

    #[test]
    fn soft_dependencies_in_circles_are_followed_once() {
        let names: Vec<String> = (0..40).map(|number| format!("m{number}")).collect();
        let line = |name: &String| format!("{name}.ko:\n");
        let soft = |name: &String| format!("softdep {name} pre: {}\n", names.join(" "));
        let index = Index {
            dependencies: names.iter().map(line).collect(),
            soft: names.iter().map(soft).collect(),
            ..Index::default()
        };
        assert_eq!(index.files("m0").len(), 40);
        assert!(!index.is_exhausted());
    }

    #[test]
    fn searches_end_when_the_work_is_used_up() {
        let stars = format!("alias {} x\n", "*a".repeat(100));
        let index = Index {
            aliases: stars.repeat(10_000),
            ..Index::default()
        };
        for _ in 0..200 {
            assert!(index.modules(&"a".repeat(LONGEST_NAME)).len() < 2);
        }
        assert!(index.is_exhausted());
        let all = Index {
            aliases: (0..10_000)
                .map(|number| format!("alias * m{number}\n"))
                .collect(),
            ..Index::default()
        };
        assert!(all.modules("x").is_empty() && all.is_exhausted());
    }

    #[test]
    fn patterns() {
        for (pattern, text, good) in [
            ("", "", true),
            ("*", "", true),
            ("a*c", "abbbc", true),
            ("a*c", "abbbcd", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("[a-c]x", "bx", true),
            ("[a-c]x", "dx", false),
            ("[-x]", "-", true),
            ("*a*b*c", "xxaxxbxxc", true),
            ("a", "ab", false),
            ("[", "[", false),
        ] {
            assert_eq!(matches(pattern, text), good, "{pattern} {text}");
        }
        let stars = "*a".repeat(30);
        assert!(!matches(&stars, &"a".repeat(29)));
    }

    #[test]
    fn names() {
        assert_eq!(module_name("kernel/fs/ext4/ext4.ko.zst"), "ext4");
        assert_eq!(module_name("ext4.ko"), "ext4");
        assert!(is_compressed("x.ko.xz") && !is_compressed("x.ko"));
    }
}
