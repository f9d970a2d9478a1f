//! What the user should know of the file system that results go to, before they are made.

use std::path::Path;

use boxbuild_host::text::shown_path;

/// Returns what the file system of the target folder `path` lacks that images may need. The folder itself
/// need not exist.
pub(super) fn notes(path: &Path) -> Option<String> {
    let existing = path.ancestors().find(|path| path.exists())?;
    let kind = rustix::fs::statfs(existing).ok()?.f_type;
    note_on(kind, path)
}

fn note_on(kind: i64, path: &Path) -> Option<String> {
    /// `MSDOS_SUPER_MAGIC` (Linux `uapi/linux/magic.h`).
    const FAT: i64 = 0x4d44;
    (kind == FAT).then(|| {
        format!(
            "{} is on a FAT file system, which has no files of 4 GiB and more: an image of that size \
             needs another --target-dir",
            shown_path(path)
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_of_small_files_is_told_before_the_build() {
        let note = note_on(0x4d44, Path::new("/media/stick")).unwrap();
        for word in ["/media/stick", "4 GiB", "--target-dir"] {
            assert!(note.contains(word), "{word}: {note}");
        }
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(notes(&dir.path().join("x/y")), None);
    }
}
