//! Writes archives that the kernel unpacks into its initial root file system.
//!
//! Format "newc" (Linux, Documentation/driver-api/early-userspace/buffer-format.rst): a header of
//! `070701` and 13 fields of 8 hexadecimal digits, the name with its NUL, the data. Header with name,
//! and data, are padded to a multiple of four bytes. Several archives may follow each other; later
//! entries replace earlier ones.

/// File type bits of a mode (inode(7)).
const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const CHARACTER_DEVICE: u32 = 0o020_000;
const SYMBOLIC_LINK: u32 = 0o120_000;

/// An archive under construction. Paths of entries may have a leading slash, which is dropped.
#[derive(Debug, Default)]
pub struct Archive {
    bytes: Vec<u8>,
    inode: u32,
}

impl Archive {
    /// An empty archive.
    pub fn new() -> Archive {
        Archive::default()
    }

    /// Adds a directory that belongs to root.
    pub fn directory(&mut self, path: &str, permissions: u32) -> &mut Archive {
        self.entry(path, DIRECTORY | permissions, (0, 0), &[])
    }

    /// Adds a file that belongs to root.
    pub fn file(&mut self, path: &str, permissions: u32, data: &[u8]) -> &mut Archive {
        self.entry(path, REGULAR | permissions, (0, 0), data)
    }

    /// Adds a symbolic link to `target`.
    pub fn symlink(&mut self, path: &str, target: &str) -> &mut Archive {
        self.entry(path, SYMBOLIC_LINK | 0o777, (0, 0), target.as_bytes())
    }

    /// Adds a character device that belongs to root. `number` is major and minor.
    pub fn device(&mut self, path: &str, permissions: u32, number: (u32, u32)) -> &mut Archive {
        self.entry(path, CHARACTER_DEVICE | permissions, number, &[])
    }

    /// Ends the archive and returns its bytes, a multiple of four. Another one can be begun then.
    pub fn finish(&mut self) -> Vec<u8> {
        self.inode = 0;
        self.entry("TRAILER!!!", 0, (0, 0), &[]);
        std::mem::take(&mut self.bytes)
    }

    fn entry(
        &mut self,
        path: &str,
        mode: u32,
        (major, minor): (u32, u32),
        data: &[u8],
    ) -> &mut Archive {
        let path = path.strip_prefix('/').unwrap_or(path);
        let inode = self.inode;
        self.inode += 1;
        let name_size = path.len() + 1;
        let fields = [
            inode as usize,
            mode as usize,
            0, // uid
            0, // gid
            1, // nlink
            0, // mtime
            data.len(),
            0,              // devmajor
            0,              // devminor
            major as usize, // rdevmajor
            minor as usize, // rdevminor
            name_size,
            0, // check: not used by this format
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes
                .extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(data);
        self.pad();
        self
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn entries_are_aligned() {
        let bytes = Archive::new()
            .directory("/a", 0o755)
            .file("a/b", 0o644, b"12345")
            .finish();
        assert_eq!(bytes.len() % 4, 0);
        // Header 110 bytes, name "a\0": 112.
        assert_eq!(&bytes[..6], b"070701");
        assert_eq!(&bytes[112..118], b"070701");
        assert_eq!(&bytes[14..22], b"000041ed");
    }

    #[test]
    fn cpio_reads_it() {
        let bytes = Archive::new()
            .directory("a", 0o755)
            .file("a/b", 0o640, b"12345")
            .symlink("a/c", "b")
            .finish();
        let Ok(mut cpio) = Command::new("cpio")
            .args(["-itv", "--quiet"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
        else {
            let _ = writeln!(
                std::io::stderr(),
                "skipped: cpio_reads_it: the program cpio is not installed"
            );
            return;
        };
        cpio.stdin.take().unwrap().write_all(&bytes).unwrap();
        let output = cpio.wait_with_output().unwrap();
        let listing = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success());
        let mut lines = listing.lines();
        assert!(
            lines
                .next()
                .is_some_and(|line| line.starts_with("drwxr-xr-x")),
            "{listing}"
        );
        let file = lines.next().unwrap_or_default();
        assert!(
            file.starts_with("-rw-r-----") && file.ends_with("a/b"),
            "{listing}"
        );
        let link = lines.next().unwrap_or_default();
        assert!(
            link.starts_with("lrwxrwxrwx") && link.ends_with("a/c -> b"),
            "{listing}"
        );
        assert_eq!(lines.next(), None);
    }
}
