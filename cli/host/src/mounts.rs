//! Where else a folder is seen: through bind mounts.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::input;

/// Longest table of mounts that is read, in bytes: a host with thousands of containers has one of some
/// MiB.
const LONGEST: u64 = 64 << 20;

/// The mounts that this process sees, in the order in which they were made.
#[derive(Debug, Default)]
pub struct Mounts(Vec<Mount>);

/// A line of `/proc/self/mountinfo` (proc_pid_mountinfo(5)).
#[derive(Debug)]
struct Mount {
    /// `MAJOR:MINOR` of the file system.
    device: Vec<u8>,
    /// The folder of the file system that is mounted.
    root: PathBuf,
    /// Where it is mounted.
    point: PathBuf,
}

impl Mounts {
    /// Reads the table.
    ///
    /// # Errors
    /// Fails if it cannot be read.
    pub fn read() -> io::Result<Mounts> {
        let table = input::read(Path::new("/proc/self/mountinfo"), LONGEST)?;
        Ok(Mounts::parse(&table))
    }

    fn parse(table: &[u8]) -> Mounts {
        let mount = |line: &[u8]| {
            let mut fields = line.split(|byte| *byte == b' ').skip(2);
            Some(Mount {
                device: fields.next()?.to_vec(),
                root: unescape(fields.next()?),
                point: unescape(fields.next()?),
            })
        };
        Mounts(
            table
                .split(|byte| *byte == b'\n')
                .filter_map(mount)
                .collect(),
        )
    }

    /// Returns the paths at or below the folder `whole` that lead to the folder `part`, by mounts and not
    /// by symbolic links. Both are paths without links.
    pub fn places(&self, part: &Path, whole: &Path) -> Vec<PathBuf> {
        let mut places = Vec::new();
        let mut add = |place: PathBuf| {
            if !places.contains(&place) && is_same(&place, part) {
                places.push(place);
            }
        };
        if part.starts_with(whole) {
            add(part.to_owned());
        }
        if let Some((device, inside)) = self.locate(part) {
            if let Some((known, top)) = self.locate(whole)
                && known == device
                && let Ok(rest) = inside.strip_prefix(top)
            {
                add(below(whole, rest));
            }
            for mount in self.0.iter().filter(|mount| mount.point.starts_with(whole)) {
                if mount.device == device
                    && let Ok(rest) = inside.strip_prefix(&mount.root)
                {
                    add(below(&mount.point, rest));
                }
            }
        }
        places
    }

    /// Whether one of the folders is seen in the other. Both are paths without links.
    pub fn overlap(&self, one: &Path, other: &Path) -> bool {
        !self.places(one, other).is_empty() || !self.places(other, one).is_empty()
    }

    /// The file system of a path, and its path there.
    fn locate(&self, path: &Path) -> Option<(&[u8], PathBuf)> {
        // Of several mounts at one place, the last one is seen.
        let mounts = self.0.iter().filter(|mount| path.starts_with(&mount.point));
        let mount = mounts.max_by_key(|mount| mount.point.components().count())?;
        let rest = path.strip_prefix(&mount.point).ok()?;
        Some((&mount.device, below(&mount.root, rest)))
    }
}

/// `folder/rest`, without the slash at the end that joining an empty path makes.
fn below(folder: &Path, rest: &Path) -> PathBuf {
    if rest == Path::new("") {
        folder.to_owned()
    } else {
        folder.join(rest)
    }
}

/// Whether two paths lead to one folder or file.
pub fn is_same(one: &Path, other: &Path) -> bool {
    let id = |path: &Path| {
        let metadata = fs::metadata(path).ok()?;
        Some((metadata.dev(), metadata.ino()))
    };
    id(one).is_some_and(|known| id(other) == Some(known))
}

/// Space, tab, line feed and backslash are written as `\` and three octal digits.
fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        let code = tail.get(..3).filter(|_| first == b'\\').and_then(|digits| {
            let text = std::str::from_utf8(digits).ok()?;
            u8::from_str_radix(text, 8).ok()
        });
        if let Some(code) = code {
            bytes.push(code);
            rest = tail.get(3..).unwrap_or_default();
        } else {
            bytes.push(first);
            rest = tail;
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_found_wherever_it_is_mounted() {
        let dir = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(dir.path()).unwrap();
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        // Hard links stand for mounts here: a test makes none.
        for folder in ["description", "results/out", "other"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        let description = root.join("description");
        let table = format!(
            "1 0 8:1 / / rw - ext4 /dev/a rw\n\
             2 1 8:1 {} {} rw shared:1 - ext4 /dev/a rw\n",
            text(&root.join("results")),
            text(&description.join("a b")).replace(' ', "\\040"),
        );
        let mounts = Mounts::parse(table.as_bytes());
        let target = root.join("results/out");
        // What is there is another folder, as the mount is not real.
        assert_eq!(mounts.places(&target, &description), [] as [PathBuf; 0]);
        std::os::unix::fs::symlink(root.join("results"), description.join("a b")).unwrap();
        assert_eq!(
            mounts.places(&target, &description),
            [description.join("a b/out")]
        );
        assert!(mounts.overlap(&target, &description));
        assert!(!mounts.overlap(&target, &root.join("other")));
        assert_eq!(
            mounts.places(&target, &root.join("results")),
            std::slice::from_ref(&target)
        );
        assert_eq!(
            mounts.places(&target, &target),
            std::slice::from_ref(&target)
        );
    }

    #[test]
    fn the_table_of_this_host_is_read() {
        let mounts = Mounts::read().unwrap();
        assert!(mounts.0.iter().any(|mount| mount.point == Path::new("/")));
        assert_eq!(unescape(b"/a\\040b\\134"), PathBuf::from("/a b\\"));
        assert_eq!(unescape(b"/a\\04"), PathBuf::from("/a\\04"));
    }
}
