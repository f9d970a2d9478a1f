//! The indexes of modules as a folder `lib/modules/RELEASE` has them: as text, or only in the binary form
//! that modprobe searches. Arch's mkinitcpio leaves nothing else in a ramdisk.

use crate::modules::Index;

/// Longest text that a binary index stands for, in bytes.
const LONGEST_TEXT: usize = 16 << 20;
/// Longest key: aliases have some hundred bytes.
const LONGEST_KEY: usize = 1024;
/// Most nodes that are looked at: a distribution's `modules.alias.bin` has some 100,000.
const MOST_NODES: usize = 1 << 20;

/// Beginning of a binary index: `INDEX_MAGIC` and the major version (kmod, `shared/util.h` and
/// `libkmod/libkmod-index.c`, which describes the format).
const MAGIC: [u8; 6] = [0xb0, 0x07, 0xf4, 0x57, 0, 2];
/// What a node has, in the upper bits of references to it.
const HAS_PREFIX: u32 = 1 << 31;
const HAS_VALUES: u32 = 1 << 30;
const HAS_CHILDREN: u32 = 1 << 29;
const OFFSET: u32 = (1 << 28) - 1;

impl Index {
    /// Makes the index of what `read` returns for the names of its files. A file that is there in
    /// neither form is empty.
    pub fn from_files(read: impl Fn(&str) -> Option<Vec<u8>>) -> Index {
        let text = |name: &str, line: fn(&str, &str) -> String| {
            let text = read(name).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
            text.or_else(|| text_of(&read(&format!("{name}.bin"))?, line))
                .unwrap_or_default()
        };
        Index {
            // The value is the line of the text.
            dependencies: text("modules.dep", |_, value| format!("{value}\n")),
            aliases: text("modules.alias", |key, value| {
                format!("alias {key} {value}\n")
            }),
            soft: text("modules.softdep", |_, _| String::new()),
            ..Index::default()
        }
    }

    /// Makes the list of the modules that are built into the kernel, a line each.
    pub fn builtin_from_files(read: impl Fn(&str) -> Option<Vec<u8>>) -> String {
        let text =
            read("modules.builtin").map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        text.or_else(|| text_of(&read("modules.builtin.bin")?, |key, _| format!("{key}\n")))
            .unwrap_or_default()
    }
}

/// Names of the files of which a folder has at least one if modules can be looked up in it.
pub const DEPENDENCIES: [&str; 2] = ["modules.dep", "modules.dep.bin"];

/// The lines that `line` makes of all keys and values of a binary index, in order; `None` if it is not
/// one, or is damaged.
fn text_of(index: &[u8], line: impl Fn(&str, &str) -> String) -> Option<String> {
    if !index.starts_with(&MAGIC) {
        return None;
    }
    let mut text = String::new();
    let mut nodes = vec![(number(index, 8)?, Vec::new())];
    for _ in 0..MOST_NODES {
        let Some((node, mut key)) = nodes.pop() else {
            return Some(text);
        };
        let mut at = (node & OFFSET) as usize;
        if node & HAS_PREFIX != 0 {
            let prefix = string(index, at)?;
            key.extend_from_slice(prefix);
            at += prefix.len() + 1;
        }
        if key.len() > LONGEST_KEY {
            return None;
        }
        let mut children = Vec::new();
        if node & HAS_CHILDREN != 0 {
            let (first, last) = (*index.get(at)?, *index.get(at + 1)?);
            at += 2;
            for byte in first..=last {
                let child = number(index, at)?;
                at += 4;
                if child & OFFSET != 0 {
                    let mut key = key.clone();
                    key.push(byte);
                    children.push((child, key));
                }
            }
        }
        if node & HAS_VALUES != 0 {
            let count = number(index, at)?;
            at += 4;
            for _ in 0..count {
                // Its priority comes first.
                let value = string(index, at + 4)?;
                at += 4 + value.len() + 1;
                text += &line(
                    &String::from_utf8_lossy(&key),
                    &String::from_utf8_lossy(value),
                );
                if text.len() > LONGEST_TEXT {
                    return None;
                }
            }
        }
        // The first one is the next one.
        nodes.extend(children.into_iter().rev());
    }
    None
}

fn number(index: &[u8], at: usize) -> Option<u32> {
    let bytes = index.get(at..)?.first_chunk()?;
    Some(u32::from_be_bytes(*bytes))
}

/// The string at `at`, without its NUL.
fn string(index: &[u8], at: usize) -> Option<&[u8]> {
    let rest = index.get(at..)?;
    let len = rest.iter().position(|byte| *byte == 0)?;
    rest.get(..len)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `depmod` of kmod 30 wrote these of four modules of Debian 13.
    const DEP: &[u8] = include_bytes!("testdata/modules.dep.bin");
    const ALIAS: &[u8] = include_bytes!("testdata/modules.alias.bin");
    const BUILTIN: &[u8] = include_bytes!("testdata/modules.builtin.bin");

    fn arch(name: &str) -> Option<Vec<u8>> {
        match name {
            "modules.dep.bin" => Some(DEP.to_vec()),
            "modules.alias.bin" => Some(ALIAS.to_vec()),
            _ => None,
        }
    }

    /// A ramdisk of Arch was one without modules: no fast boot.
    #[test]
    fn a_folder_with_binary_indexes_only_is_understood() {
        let index = Index::from_files(arch);
        assert_eq!(
            index.files("virtio-net"),
            [
                "kernel/failover.ko.zst",
                "kernel/net_failover.ko.zst",
                "kernel/virtio_net.ko.zst"
            ]
        );
        assert_eq!(index.files("virtio_blk"), ["kernel/virtio_blk.ko.zst"]);
        assert_eq!(index.modules("virtio:d00000002v00001AF4"), ["virtio_blk"]);
        assert_eq!(index.modules("virtio:d00000009v00001AF4"), [""; 0]);
    }

    #[test]
    fn text_comes_first() {
        let index = Index::from_files(|name| match name {
            "modules.dep" => Some(b"a.ko:\n".to_vec()),
            other => arch(other),
        });
        assert_eq!(index.dependencies, "a.ko:\n");
        let builtin = |name: &str| (name == "modules.builtin.bin").then(|| BUILTIN.to_vec());
        assert_eq!(Index::builtin_from_files(builtin), "crc32c_x\nvirtio\n");
    }

    /// Nothing is found in a damaged index, and nothing else happens.
    #[test]
    fn damaged_indexes_are_none() {
        let line = |key: &str, value: &str| format!("{key} {value}");
        for good in [DEP, ALIAS] {
            assert!(text_of(good, line).is_some());
            for len in 0..good.len() - 1 {
                let _ = text_of(&good[..len], line);
            }
            for at in 0..good.len() {
                for mask in [1, 0x40, 0x80, 0xff] {
                    let mut bytes = good.to_vec();
                    bytes[at] ^= mask;
                    let _ = text_of(&bytes, line);
                }
            }
        }
        assert_eq!(text_of(b"", line), None);
        assert_eq!(text_of(b"\xb0\x07\xf4\x57\0\x02\0\x01", line), None);
        // A node that is its own child, for ever.
        let mut circle = [MAGIC.as_slice(), &[0, 1]].concat();
        let node: u32 = HAS_CHILDREN | 12;
        circle.extend(node.to_be_bytes());
        circle.extend(b"aa");
        circle.extend(node.to_be_bytes());
        assert_eq!(text_of(&circle, line), None);
        // So many values that the text would fill the memory.
        let mut values = [MAGIC.as_slice(), &[0, 1]].concat();
        values.extend((HAS_VALUES | 12).to_be_bytes());
        values.extend(u32::MAX.to_be_bytes());
        values.extend([0; 4]);
        assert_eq!(text_of(&values, line), None);
    }
}
