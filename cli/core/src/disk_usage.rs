//! What files take on the disk.

use std::collections::HashSet;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Files that are looked at, at most: what is beyond is not counted.
const MOST: usize = 500_000;

/// Folders within folders, at most.
const DEEPEST: usize = 64;

/// What files take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Their lengths.
    pub apparent: u64,
    /// What they take on the disk: less where they have holes.
    pub bytes: u64,
}

impl Usage {
    /// Adds another one.
    pub fn add(&mut self, other: Usage) {
        self.apparent = self.apparent.saturating_add(other.apparent);
        self.bytes = self.bytes.saturating_add(other.bytes);
    }
}

/// Counts files, each once, whatever names it has. No link is followed.
#[derive(Debug, Default)]
pub struct DiskUsage {
    /// Files with several names that were counted.
    seen: HashSet<(u64, u64)>,
    looked: usize,
}

impl DiskUsage {
    /// Returns what is at `path`, a file or a folder, and has not been counted yet. What cannot be read
    /// counts as nothing.
    pub fn of(&mut self, path: &Path) -> Usage {
        self.within(path, 0)
    }

    fn within(&mut self, path: &Path, depth: usize) -> Usage {
        let mut usage = Usage::default();
        let Ok(metadata) = fs::symlink_metadata(path) else {
            return usage;
        };
        self.looked += 1;
        usage.add(self.file(&metadata));
        if metadata.is_dir() && depth < DEEPEST {
            for entry in fs::read_dir(path).into_iter().flatten().flatten() {
                if self.looked >= MOST {
                    break;
                }
                usage.add(self.within(&entry.path(), depth + 1));
            }
        }
        usage
    }

    fn file(&mut self, metadata: &Metadata) -> Usage {
        let several = !metadata.is_dir() && metadata.nlink() > 1;
        if several && !self.seen.insert((metadata.dev(), metadata.ino())) {
            return Usage::default();
        }
        Usage {
            // What a folder itself has is no matter of its files.
            apparent: if metadata.is_dir() { 0 } else { metadata.len() },
            bytes: metadata.blocks().saturating_mul(512),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_counts_once_and_a_hole_takes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (one, other) = (dir.path().join("one"), dir.path().join("other"));
        fs::create_dir_all(one.join("below")).unwrap();
        fs::create_dir(&other).unwrap();
        fs::write(one.join("below/file"), vec![1; 64 << 10]).unwrap();
        fs::hard_link(one.join("below/file"), other.join("file")).unwrap();
        fs::File::create(other.join("hole"))
            .unwrap()
            .set_len(1 << 30)
            .unwrap();
        std::os::unix::fs::symlink("/", other.join("link")).unwrap();
        let mut usage = DiskUsage::default();
        let first = usage.of(&one);
        assert_eq!(first.apparent, 64 << 10);
        assert!((64 << 10..1 << 20).contains(&first.bytes), "{first:?}");
        let second = usage.of(&other);
        assert_eq!(second.apparent, (1 << 30) + 1);
        assert!(second.bytes < 1 << 20, "{second:?}");
        assert_eq!(usage.of(&dir.path().join("none")), Usage::default());
    }
}
