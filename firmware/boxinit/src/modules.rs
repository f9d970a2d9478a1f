//! Which module files a device or a file system needs.
//!
//! Reads the text forms of the indexes that `depmod` writes (modules.dep(5)): `modules.dep`,
//! `modules.alias` and `modules.softdep`. They are searched line by line rather than parsed as a
//! whole: few modules are looked up, and a distribution's indexes are long.

/// The indexes of one `lib/modules/RELEASE`.
#[derive(Debug, Clone, Default)]
pub struct Index {
    /// Content of `modules.dep`: `FILE: FILE…`, dependencies in reverse order of loading.
    pub dependencies: String,
    /// Content of `modules.alias`: `alias PATTERN MODULE`.
    pub aliases: String,
    /// Content of `modules.softdep`: `softdep MODULE pre: MODULE… post: MODULE…`.
    pub soft: String,
}

/// Longest chain of soft dependencies that is followed.
const MAX_DEPTH: usize = 8;

impl Index {
    /// Names of the modules that `name` stands for: those with a matching alias, or else the module
    /// of that name. Empty if there is none, as for what is built into the kernel.
    pub fn modules(&self, name: &str) -> Vec<&str> {
        let mut found: Vec<&str> = Vec::new();
        for line in self.aliases.lines() {
            let Some(rest) = line.strip_prefix("alias ") else {
                continue;
            };
            let Some((pattern, module)) = rest.rsplit_once(' ') else {
                continue;
            };
            if matches(pattern, name) && !found.contains(&module) {
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
        self.add(name, &mut files, MAX_DEPTH);
        files
    }

    fn add<'a>(&'a self, name: &str, files: &mut Vec<&'a str>, depth: usize) {
        let Some((file, needed)) = self.line(name) else {
            return;
        };
        let hard = needed.split_ascii_whitespace().rev().chain([file]);
        for file in hard {
            if files.contains(&file) {
                continue;
            }
            if depth > 0 {
                for soft in self.soft_dependencies(module_name(file)) {
                    for module in self.modules(soft) {
                        self.add(module, files, depth - 1);
                    }
                }
            }
            if !files.contains(&file) {
                files.push(file);
            }
        }
    }

    /// The line of `modules.dep` for a module: its file and its dependencies.
    fn line(&self, name: &str) -> Option<(&str, &str)> {
        self.dependencies.lines().find_map(|line| {
            let (file, needed) = line.split_once(':')?;
            same_name(module_name(file), name).then_some((file, needed))
        })
    }

    /// Names of the modules to load before the module `name` if they exist.
    /// Names of the modules to load before the module `name`, if they exist.
    fn soft_dependencies<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.soft
            .lines()
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
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    // On a mismatch, the last star takes one byte more: at most pattern times text steps.
    let (mut p, mut t) = (0, 0);
    let mut retry = None;
    while t < text.len() {
        let step = match pattern.get(p) {
            Some(b'*') => {
                retry = Some((p + 1, t));
                p += 1;
                continue;
            }
            Some(b'?') => Some(1),
            Some(b'[') => in_brackets(&pattern[p..], text[t]),
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
